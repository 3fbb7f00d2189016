"""Summary of a demo run, as a table and as JSON."""

from __future__ import annotations

import collections
import dataclasses
import math
from pathlib import Path
from typing import Any

from yolov7_trt_ros.cli.demo.start import detector_status
from yolov7_trt_ros.report.video_file import MPEG4, MPEG4_NOTE

MODEL_NOTE = (
    'The embedded model is small and misses much. The official weights are right\n'
    'more often: yolov7_trt detect -m yolov7-tiny shows how to get them.'
)
_COUNTS = ('received', 'processed', 'dropped', 'failed', 'lost')
_MOST_CLASSES = 4


@dataclasses.dataclass(frozen=True)
class Camera:
    """One camera of the demo: its name is its namespace."""

    name: str
    encoding: str
    width: int
    height: int

    @property
    def topic(self) -> str:
        """Return the image topic."""
        suffix = '/compressed' if self.encoding == 'jpeg' else ''
        return f'/{self.name}/image_raw{suffix}'

    @property
    def recorded_topic(self) -> str:
        """Topic of its images in the bag."""
        return f'/{self.name}/image_raw/compressed'

    @property
    def detections_topic(self) -> str:
        """Topic of its detections."""
        return f'/{self.name}/detections'


CAMERAS = (Camera('front', 'rgb8', 640, 480), Camera('rear', 'jpeg', 960, 720))


def summarise(record: dict[str, Any]) -> dict[str, Any]:
    """Return the summary of the recorder's line: counts, latencies and classes per camera."""
    cameras = {camera.name: _summarise_camera(camera, record) for camera in CAMERAS}
    return {'backend': detector_status(record).get('backend', ''), 'cameras': cameras}


def _summarise_camera(camera: Camera, record: dict[str, Any]) -> dict[str, Any]:
    values = record['diagnostics'].get(f'/detector: {camera.topic}', {})
    drawn = record.get('drawn', {}).get(camera.topic, {})
    return {
        'topic': camera.topic,
        'topic_in_bag': camera.recorded_topic,
        'images_recorded': record['topics'].get(camera.topic, 0),
        'detections_recorded': record['topics'].get(camera.detections_topic, 0),
        'frames_drawn': drawn.get('frames', 0),
        'video_codec': drawn.get('codec', ''),
        'drawing_error': drawn.get('error', ''),
        **{name: int(values.get(name, 0)) for name in _COUNTS},
        'rate_in_hz': _number(values, 'rate in (Hz)'),
        'stamp_to_publish_p50_ms': _number(values, 'stamp_to_publish p50 (ms)'),
        'stamp_to_publish_p99_ms': _number(values, 'stamp_to_publish p99 (ms)'),
        'classes': dict(collections.Counter(
            record['classes'].get(camera.detections_topic, {})
        ).most_common()),
    }


def _number(values: dict[str, str], name: str) -> float | None:
    """Return a value of the diagnostics, None if there is none (JSON has no NaN)."""
    number = float(values.get(name, 'nan'))
    return number if math.isfinite(number) else None


def are_images_there(record: dict[str, Any]) -> bool:
    """Whether every camera has sent an image."""
    return all(record['topics'].get(camera.topic, 0) for camera in CAMERAS)


def is_settled(record: dict[str, Any]) -> bool:
    """Whether the detector has accounted for every image that it received."""
    return all(
        camera['received'] == camera['processed'] + camera['dropped'] + camera['failed']
        for camera in summarise(record)['cameras'].values()
    )


def table(summary: dict[str, Any]) -> Any:
    """Return the summary as a table for a terminal of 80 columns."""
    from rich.table import Table

    shown = Table(title=f'YOLOv7 on {summary["backend"]}', width=78)
    for column in ('camera', 'images', 'dropped', 'failed', 'p50 / p99'):
        shown.add_column(column, justify='left' if column == 'camera' else 'right', no_wrap=True)
    shown.add_column('detections', ratio=1)
    for name, camera in summary['cameras'].items():
        p50, p99 = camera['stamp_to_publish_p50_ms'], camera['stamp_to_publish_p99_ms']
        most = list(camera['classes'].items())[:_MOST_CLASSES]
        shown.add_row(
            name, *(str(camera[count]) for count in ('received', 'dropped', 'failed')),
            '-' if p50 is None or p99 is None else f'{p50:.0f} / {p99:.0f} ms',
            ', '.join(f'{name} {count}' for name, count in most) or '-',
        )
    return shown


def what_was_made(summary: dict[str, Any], output: Path) -> list[str]:
    """Return the lines that say what lies in the output folder."""
    size_bytes = sum(file.stat().st_size for file in output.rglob('*') if file.is_file())
    made = [
        (f'{name}.mp4', f'what camera {name} saw, with boxes ({camera["video_codec"]})')
        for name, camera in summary['cameras'].items() if camera['frames_drawn']
    ]
    made += [
        ('pictures/', 'some of these frames'),
        ('bag/', 'images (JPEG) and detections, for ros2 bag play and yolov7_trt'),
        ('summary.json', 'counts and latencies'), ('log/', 'what each node printed'),
    ]
    lines = [f'In {output}/, {size_bytes / 1e6:.0f} MB:']
    lines += [f'  {name:<12}  {what}' for name, what in made if (output / name).exists()]
    cameras = summary['cameras'].values()
    if any(camera['video_codec'] == MPEG4 for camera in cameras):
        lines.append(f'The videos are {MPEG4_NOTE}')
    return lines + [
        f'Not all of {camera["topic"]} was drawn: {camera["drawing_error"]}'
        for camera in cameras if camera['drawing_error']
    ]
