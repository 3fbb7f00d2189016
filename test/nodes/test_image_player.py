"""The image player, where its source cannot be read, or not any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
import shutil
from typing import Any

import cv2
import numpy as np
import pytest
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException
from rclpy.parameter import Parameter

from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.errors import ImageError, InputError
from yolov7_trt_ros.nodes.callback_net import failures_of, OneThreadExecutor
from yolov7_trt_ros.nodes.tools import image_player_node
from yolov7_trt_ros.nodes.tools.image_player_node import _encode_jpeg, ImagePlayerNode, read_frames
from yolov7_trt_ros.replay.frames import BadFrame, Frame

PICTURE = np.zeros((48, 64, 3), np.uint8)


@pytest.fixture
def context(ros_domain: None) -> Iterator[Context]:
    context = Context()
    context.init(args=[])
    yield context
    context.try_shutdown()


def make(context: Context, **parameters: Any) -> ImagePlayerNode:
    overrides = [Parameter(name, value=value) for name, value in parameters.items()]
    return ImagePlayerNode(context=context, parameter_overrides=overrides)


def play(node: ImagePlayerNode) -> int:
    """Spin until the node ends its process; return the exit code."""
    executor = OneThreadExecutor(context=node.context)
    executor.add_node(node)
    try:
        while node.context.ok():
            executor.spin_once(timeout_sec=0.1)
    except ExternalShutdownException:
        pass
    finally:
        executor.shutdown()
        node.destroy_node()
    return int(getattr(node, 'run_node_exit_code', 0))


def test_a_source_that_goes_away_ends_it_with_one_line_and_a_failure(context, tmp_path, capfd):
    folder = tmp_path / 'pictures'
    folder.mkdir()
    cv2.imwrite(str(folder / 'a.png'), PICTURE)
    node = make(context, source=str(folder), rate_hz=100.0, width=64, height=48)
    shutil.rmtree(folder)
    assert play(node) == 1
    assert failures_of(node).count == 0
    told = capfd.readouterr().err
    assert f'cannot continue after 400 frames: no such file or folder: {folder}' in told
    assert 'Traceback' not in told and 'source ended' not in told


def test_no_source_is_no_folder_of_pictures(context, tmp_path, monkeypatch):
    """`Path('')` is the folder that the node was started in."""
    cv2.imwrite(str(tmp_path / 'a.png'), PICTURE)
    monkeypatch.chdir(tmp_path)
    for source, words in (('', 'the path is empty'), ('rtsp://camera/x', 'is an address')):
        with pytest.raises(InputError, match=words):
            make(context, source=source)


class Source:
    """Two frames, the second of which cannot be read, and a warning that comes at the end."""

    kind = 'bag'

    def __init__(self, image: ImageView) -> None:
        self.warnings: list[str] = ['was not closed']
        self._image = image

    def __iter__(self) -> Iterator[Frame | BadFrame]:
        yield Frame(self._image, 1, '', 'front', 0, Path('bag'), 1)
        yield BadFrame(ImageError('message 1 is damaged'), 'front', 1, Path('bag'))
        self.warnings.append('one stamp is not proper')


def noted(monkeypatch: pytest.MonkeyPatch, note: Callable[[str], None]) -> int:
    monkeypatch.setattr(
        image_player_node, 'open_frames', lambda _: Source(ImageView.from_array(PICTURE)))
    return len(list(read_frames(Path('bag'), (64, 48), 10.0, loop=False, note=note)))


def test_frames_that_are_passed_over_are_reported(monkeypatch):
    notes: list[str] = []
    assert noted(monkeypatch, notes.append) == 1
    assert notes == [
        'was not closed', 'passed over: message 1 is damaged', 'one stamp is not proper']


def test_a_frame_that_cannot_be_shown_does_not_end_the_source(monkeypatch):
    def fail(_: ImageView) -> Any:
        raise ImageError('no colours')

    monkeypatch.setattr(image_player_node, 'to_bgr', fail)
    notes: list[str] = []
    assert noted(monkeypatch, notes.append) == 0
    assert 'passed over: front: no colours' in notes


def test_what_no_jpeg_can_hold_is_an_error():
    with pytest.raises(ImageError, match='as JPEG'):
        _encode_jpeg(np.zeros((1, 65536, 3), np.uint8), [])
