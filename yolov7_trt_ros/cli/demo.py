"""
Watch the detector at work, without any hardware.

Starts the real detector node and two cameras made of photographs (a moving view, one camera in
rgb8, the other in JPEG) on a ROS 2 domain of its own, records everything into a bag, and leaves
videos and pictures with the boxes drawn in, the bag and a summary in the output folder.
Where TensorRT runs the model, the first time builds a plan for this GPU, which takes minutes.

The results of an earlier demo in the output folder are replaced, and nothing else: it is refused
where other files have their names.

Examples
--------
  yolov7_trt demo
  yolov7_trt demo --source street.mp4 --seconds 30
  yolov7_trt demo --source drive.mcap --model my_yolov7.onnx -o out_drive

"""

from __future__ import annotations

import argparse
import collections
from collections.abc import Iterator
import contextlib
import dataclasses
import importlib.util
import json
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from yolov7_trt_ros.cli import interruption, targets
from yolov7_trt_ros.cli.demo_start import detector_status, wait_until_ready
from yolov7_trt_ros.cli.own_files import OwnFiles
from yolov7_trt_ros.errors import InputError, MissingDependencyError, SettingError, Yolov7TrtError
from yolov7_trt_ros.parent_process import ends_with_this_process

_NODES = 'yolov7_trt_ros.nodes'
_STOP_S = 15.0
_OUTPUTS = ('bag', 'log', 'pictures', 'photographs', 'front.mp4', 'rear.mp4', 'summary.json')
_PICTURE_EVERY = 12
_NEEDED = (
    ('rclpy', 'source your ROS 2 setup, or run `make demo` in the source tree'),
    ('vision_msgs', 'sudo apt install ros-$ROS_DISTRO-vision-msgs, or run `make demo`'),
    ('rosbags', 'pip install rosbags'),
    ('rich', 'pip install rich'),
)


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
    def detections_topic(self) -> str:
        """Where the detector publishes."""
        return f'/{self.name}/detections'


CAMERAS = (Camera('front', 'rgb8', 640, 480), Camera('rear', 'jpeg', 960, 720))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument(
        '--source', metavar='PATH',
        help='picture, folder of pictures, video or bag to play (default: photographs that come '
        'with scikit-image and matplotlib)',
    )
    parser.add_argument(
        '--seconds', type=float, default=20.0, help='how long to play (default: %(default)g)'
    )
    parser.add_argument(
        '--rate', type=float, default=12.0, metavar='HZ',
        help='images per second of each camera (default: %(default)g)',
    )
    parser.add_argument('--model', default='yolov7-nano', help='model (default: %(default)s)')
    parser.add_argument(
        '--score-threshold', type=float, default=0.25, help='least score (default: %(default)g)'
    )
    parser.add_argument(
        '-o', '--output', type=Path, default=Path('out'), metavar='DIR',
        help='folder to leave the results in (default: %(default)s)',
    )
    parser.add_argument(
        '--domain-id', type=int, default=86,
        help='ROS domain to stay apart from other robots (default: %(default)d)',
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo; returns the exit code."""
    _check(args)
    source = find_source(args.source, args.output)
    told = interruption.told(lambda: _left(args.output))
    with told, interruption.by_sigterm_too(), own_outputs(args.output):
        summary = _play_and_draw(args, source)
    _print_summary(summary, args.output)
    return 0 if all(camera['processed'] for camera in summary['cameras'].values()) else 1


def _left(output: Path) -> str:
    """Return what an interrupted demo leaves."""
    if not (output / 'bag').exists():
        return interruption.NOTHING
    return f'{output} has bag/ and log/ of the time until then'


def _play_and_draw(args: argparse.Namespace, source: Path | None) -> dict[str, Any]:
    """Play, and leave the results; returns the summary."""
    record = _play(args, source or _save_photographs(args.output / 'photographs'))
    summary = summarise(record)
    summary['settings'] = {
        'seconds': args.seconds, 'rate_hz': args.rate, 'model': args.model,
        'score_threshold': args.score_threshold,
    }
    text = json.dumps(summary, indent=2)
    (args.output / 'summary.json').write_text(text + '\n', encoding='utf-8')
    for camera in CAMERAS:
        _draw(args.output, camera, args.rate)
    return summary


def _check(args: argparse.Namespace) -> None:
    if not 1 <= args.seconds <= 3600:
        raise SettingError(f'--seconds must be within 1..3600, got {args.seconds:g}')
    if not 0 < args.rate <= 100:
        raise SettingError(f'--rate must be within 0..100 Hz, got {args.rate:g}')
    if not 0 <= args.domain_id <= 232:
        raise SettingError(f'--domain-id must be within 0..232, got {args.domain_id}')
    for module, fix in _NEEDED:
        if importlib.util.find_spec(module) is None:
            raise MissingDependencyError(f'the demo needs {module}, which is not here; {fix}')
    from yolov7_trt_ros.engine.model_files import find_model

    find_model(args.model)
    targets.check_folder('--output', args.output)


def find_source(source: str | None, output: Path) -> Path | None:
    """
    Return what to play, None for the photographs.

    Raises
    ------
    MissingDependencyError
        The packages that have the photographs are not installed.
    InputError
        It is not there or of no known kind, or the demo would write over it.

    """
    if source is None:
        _check_photographs()
        return None
    from yolov7_trt_ros.replay.file_kinds import kind_of

    path = Path(source).expanduser()
    if not path.exists():
        raise InputError(f'--source {source}: no such file or folder')
    kind_of(path)
    for name in _OUTPUTS:
        if path.resolve().is_relative_to((output / name).resolve()):
            raise InputError(
                f'--source {source} is where the demo writes to; give another folder with -o'
            )
    return path


@contextlib.contextmanager
def own_outputs(output: Path) -> Iterator[None]:
    """
    Make room in the output folder, and note in the end what was written there.

    Only what an earlier demo wrote is removed.

    Raises
    ------
    InputError
        There are other files where the demo writes; nothing was removed.

    """
    own = OwnFiles(output)
    paths = [output / name for name in _OUTPUTS]
    foreign = [str(path.relative_to(output)) for path in own.foreign(paths)]
    if foreign:
        more = f' and {len(foreign) - 1} more' if foreign[1:] else ''
        raise InputError(
            f'{output} holds {foreign[0]}{more}, which no demo wrote and which is in the way: '
            'nothing was touched; move it, or give another folder with -o'
        )
    own.remove(paths)
    output.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        own.note(paths)


def _check_photographs() -> None:
    for module in ('skimage', 'matplotlib'):
        if importlib.util.find_spec(module) is None:
            raise MissingDependencyError(
                f'the demo shows photographs of scikit-image and matplotlib, and {module} is not '
                'here; install them with pip install scikit-image matplotlib, or give your own '
                'with --source'
            )


def _save_photographs(folder: Path) -> Path:
    """Save the photographs that come inside scikit-image and matplotlib."""
    import cv2
    import matplotlib.cbook
    import skimage.data

    folder.mkdir()
    for number, name in enumerate(('astronaut', 'camera', 'coffee', 'chelsea'), start=1):
        picture = getattr(skimage.data, name)()
        code = cv2.COLOR_GRAY2BGR if picture.ndim == 2 else cv2.COLOR_RGB2BGR
        cv2.imwrite(str(folder / f'{number}_{name}.png'), cv2.cvtColor(picture, code))
    sample = matplotlib.cbook.get_sample_data('grace_hopper.jpg', asfileobj=False)
    shutil.copy(str(sample), folder / '5_grace_hopper.jpg')
    return folder


# ---- playing


class _Recorder:
    """The recorder's latest JSON line, read by a thread of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.latest: dict[str, Any] = {'topics': {}, 'classes': {}, 'diagnostics': {}}
        self._process = process
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(ValueError):
                self.latest = json.loads(line)

    def finish(self) -> dict[str, Any]:
        """Return the last line, after the process has ended."""
        self._thread.join(_STOP_S)
        return self.latest


def _play(args: argparse.Namespace, source: Path) -> dict[str, Any]:
    """Run all processes for the given time; returns the recorder's last line."""
    log = args.output / 'log'
    log.mkdir()
    environment = os.environ | {
        'ROS_DOMAIN_ID': str(args.domain_id),
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        'ROS_LOG_DIR': str(log.absolute()),
        'AMENT_PREFIX_PATH': os.environ.get('AMENT_PREFIX_PATH') or sys.prefix,
    } | ends_with_this_process()
    with contextlib.ExitStack() as stack:
        def start(name: str, module: str, *ros_arguments: str) -> subprocess.Popen[str]:
            return stack.enter_context(
                _node_process(module, ros_arguments, environment, log / f'{name}.txt')
            )

        recording = start(
            'recorder', 'recorder_node', *_parameters(
                bag=args.output / 'bag',
                images=[camera.topic for camera in CAMERAS],
                detections=[camera.detections_topic for camera in CAMERAS],
            ),
        )
        recorder = _Recorder(recording)
        detector = start(
            'detector', 'detector_node', *_parameters(
                autostart=True, model=args.model, score_threshold=args.score_threshold,
                image_topics=[camera.topic for camera in CAMERAS],
            ),
        )
        processes = {'recorder': recording, 'detector': detector}
        wait_until_ready(
            lambda: recorder.latest,
            lambda: [name for name, each in processes.items() if each.poll() is not None],
            log,
        )
        with contextlib.ExitStack() as players:
            for camera in CAMERAS:
                players.enter_context(_node_process(
                    'image_player_node',
                    ('-r', f'__ns:=/{camera.name}', *_parameters(
                        source=source.absolute(), rate_hz=args.rate, encoding=camera.encoding,
                        width=camera.width, height=camera.height,
                        frame_id=f'{camera.name}_camera',
                    )),
                    environment, log / f'{camera.name}.txt',
                ))
            _watch(recorder, detector, args.seconds, log)
        _wait(lambda: _settled(recorder.latest), 5.0)
        _stop(recording)
        return recorder.finish()


def _parameters(**values: object) -> list[str]:
    """Return the arguments that set parameters of a node; YAML reads what JSON writes."""
    return [
        word for name, value in values.items() for word in
        ('-p', f'{name}:={json.dumps(str(value) if isinstance(value, Path) else value)}')
    ]


@contextlib.contextmanager
def _node_process(
    module: str, ros_arguments: tuple[str, ...], environment: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[str]]:
    """Run a node; it is stopped, and killed if it does not stop, at the end."""
    with log.open('w', encoding='utf-8') as file:
        process = subprocess.Popen(
            [sys.executable, '-m', f'{_NODES}.{module}', '--ros-args', *ros_arguments],
            env=environment, stdout=subprocess.PIPE if module == 'recorder_node' else file,
            stderr=file, text=True, start_new_session=True,
        )
        try:
            yield process
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(condition: Any, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _watch(
    recorder: _Recorder, detector: subprocess.Popen[str], seconds: float, log: Path
) -> None:
    """Show progress until the time is over."""
    from rich.console import Group
    from rich.live import Live
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    progress = Progress(
        TextColumn('{task.description}'), BarColumn(), TimeRemainingColumn(), auto_refresh=False
    )
    task = progress.add_task('playing', total=seconds)
    start = time.monotonic()
    with Live(refresh_per_second=4) as live:
        while (elapsed := time.monotonic() - start) < seconds:
            if detector.poll() is not None:
                raise Yolov7TrtError(f'the detector ended; the reason is in {log}/detector.txt')
            progress.update(task, completed=elapsed)
            live.update(Group(_table(summarise(recorder.latest)), progress))
            time.sleep(0.2)
        progress.update(task, completed=seconds)


def _settled(record: dict[str, Any]) -> bool:
    """Whether the detector has accounted for every frame, and the cameras are quiet."""
    for camera in summarise(record)['cameras'].values():
        done = camera['processed'] + camera['dropped'] + camera['failed']
        if camera['rate_in_hz'] or camera['received'] != done:
            return False
    return True


# ---- results


def summarise(record: dict[str, Any]) -> dict[str, Any]:
    """Return the summary of the recorder's line: per camera counts, latencies and classes."""
    cameras = {}
    for camera in CAMERAS:
        values = record['diagnostics'].get(f'/detector: {camera.topic}', {})
        cameras[camera.name] = {
            'topic': camera.topic,
            'images_recorded': record['topics'].get(camera.topic, 0),
            'detections_recorded': record['topics'].get(camera.detections_topic, 0),
            **{
                name: int(values.get(name, 0))
                for name in ('received', 'processed', 'dropped', 'failed', 'lost')
            },
            'rate_in_hz': float(values.get('rate in (Hz)', 0)),
            'stamp_to_publish_p50_ms': float(values.get('stamp_to_publish p50 (ms)', 'nan')),
            'stamp_to_publish_p99_ms': float(values.get('stamp_to_publish p99 (ms)', 'nan')),
            'classes': _by_count(record['classes'].get(camera.detections_topic, {})),
        }
    return {'backend': detector_status(record).get('backend', ''), 'cameras': cameras}


def _by_count(classes: dict[str, int]) -> dict[str, int]:
    return dict(collections.Counter(classes).most_common())


def _table(summary: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(title=f'YOLOv7 on {summary["backend"]}')
    for column in ('camera', 'frames in', 'processed', 'dropped', 'failed'):
        table.add_column(column, justify='left' if column == 'camera' else 'right')
    table.add_column('latency p50 / p99', justify='right')
    table.add_column('detections')
    for camera in summary['cameras'].values():
        most = list(camera['classes'].items())[:5]
        p50, p99 = camera['stamp_to_publish_p50_ms'], camera['stamp_to_publish_p99_ms']
        table.add_row(
            camera['topic'],
            *(str(camera[name]) for name in ('received', 'processed', 'dropped', 'failed')),
            f'{p50:.0f} / {p99:.0f} ms',
            ', '.join(f'{name} {count}' for name, count in most) or '-',
        )
    return table


def _print_summary(summary: dict[str, Any], output: Path) -> None:
    from rich.console import Console

    console = Console()
    console.print(_table(summary))
    console.print(
        f'In {output}/: front.mp4, rear.mp4 and pictures/ with the boxes drawn in, bag/ '
        '(ros2 bag play), summary.json, log/', highlight=False,
    )


def _draw(output: Path, camera: Camera, rate_hz: float) -> None:
    """Draw the recorded detections into the recorded images: a video, and some pictures."""
    import cv2

    from yolov7_trt_ros.replay.bag_detections import read_detections
    from yolov7_trt_ros.replay.frames import Frame
    from yolov7_trt_ros.replay.sources import open_frames
    from yolov7_trt_ros.report.overlay import annotated_copy

    track = read_detections(output / 'bag', camera.detections_topic)
    pictures = output / 'pictures'
    pictures.mkdir(exist_ok=True)
    video: Any = None
    drawn = 0
    for frame in open_frames(output / 'bag', topics=[camera.topic]):
        if not isinstance(frame, Frame) or frame.stamp_ns not in track.by_stamp_ns:
            continue
        found = track.by_stamp_ns[frame.stamp_ns]
        canvas = annotated_copy(frame.image, found, track.class_names)
        if video is None:
            codec = cv2.VideoWriter.fourcc(*'mp4v')
            video = cv2.VideoWriter(
                str(output / f'{camera.name}.mp4'), codec, rate_hz, frame.image.size_wh
            )
        video.write(canvas)
        if drawn % _PICTURE_EVERY == 0:
            cv2.imwrite(str(pictures / f'{camera.name}_{drawn:04d}.jpg'), canvas)
        drawn += 1
    if video is not None:
        video.release()
