"""DrawnCamera: what cannot be drawn is told, and never holds up the end."""

from __future__ import annotations

import array
from pathlib import Path
from typing import Any

import pytest
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from yolov7_trt_ros.errors import InputError
from yolov7_trt_ros.nodes.tools import drawn_camera
from yolov7_trt_ros.nodes.tools.drawn_camera import DrawnCamera

IMAGES = 60  # more than may wait


def run(folder: Path) -> DrawnCamera:
    """Give a camera images with their detections, and close it."""
    camera = DrawnCamera(folder, 'front', 10.0, compressed=False, class_ids={})
    image = Image(height=48, width=64, encoding='mono8', step=64)
    image.data = array.array('B', bytes(48 * 64))
    found = Detection2DArray()
    for number in range(1, IMAGES + 1):
        image.header.stamp.sec = found.header.stamp.sec = number
        camera.add_image(number * 10**9, serialize_message(image))
        camera.add_detections(found)
    camera.close()
    return camera


@pytest.mark.parametrize(('error', 'told'), [
    (InputError('spoilt'), 'spoilt'), (MemoryError(), 'MemoryError'), (OSError('full'), 'full'),
])
def test_an_error_is_told_and_the_end_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(drawn_camera, 'annotated_copy', fail)
    camera = run(tmp_path)
    assert camera.error == told and camera.frames == 0


def test_a_video_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / 'front.mp4').mkdir()  # in its place
    camera = run(tmp_path)
    assert camera.error == f'{tmp_path}/front.mp4 cannot be written' and camera.frames == 0


def test_frames_are_drawn_or_passed_over(tmp_path: Path) -> None:
    camera = run(tmp_path)
    assert camera.error == '' and camera.frames + camera.passed_over == IMAGES
    assert camera.frames > 0 and (tmp_path / 'front.mp4').stat().st_size > 0
