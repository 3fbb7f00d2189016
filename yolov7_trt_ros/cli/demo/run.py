"""Run the processes of the demo: cameras, detector and recorder, on a separate ROS domain."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from yolov7_trt_ros.cli.demo.start import START_S, wait_until_ready
from yolov7_trt_ros.cli.demo.summary import (
    are_images_there,
    Camera,
    CAMERAS,
    is_settled,
    summarise,
    table,
)
from yolov7_trt_ros.errors import Yolov7TrtError
from yolov7_trt_ros.parent_process import ends_with_this_process

_NODES = 'yolov7_trt_ros.nodes'
_STOP_S = 15.0
_SETTLE_S = 10.0
_POLL_S = 0.05
_SHOW_PERIOD_S = 0.25
_JPEG_QUALITY = 80
"""JPEG quality of the rear camera: 20 s of both cameras take less than 60 MB."""


@dataclasses.dataclass(frozen=True)
class Play:
    """
    Source and settings of a demo.

    Attributes
    ----------
    source
        Source of the cameras.
    output
        Folder for the bag, videos, pictures and logs.
    seconds
        Duration from the first image.
    rate_hz
        Rate of each camera.
    detector
        Parameters of the detector node.
    domain_id
        ROS domain.

    """

    source: Path
    output: Path
    seconds: float
    rate_hz: float
    detector: Mapping[str, object]
    domain_id: int

    @property
    def log(self) -> Path:
        """Return the folder of the nodes' logs."""
        return self.output / 'log'


@dataclasses.dataclass(frozen=True)
class Played:
    """
    Result of a demo.

    Attributes
    ----------
    record
        The recorder's last line.
    rates_in_hz
        Image rate of each camera while playing, by image topic.
    seconds
        Duration of playing.
    interrupted
        Whether it was ended early.

    """

    record: dict[str, Any]
    rates_in_hz: dict[str, float]
    seconds: float
    interrupted: bool


def play(wanted: Play) -> Played:
    """
    Play, then stop all processes; Ctrl-C while playing only shortens it.

    Raises
    ------
    Yolov7TrtError
        A process ended unexpectedly, or no image arrived; the message states the cause.

    """
    wanted.log.mkdir()
    with contextlib.ExitStack() as stack:
        nodes = Processes(stack, wanted.log, wanted.domain_id)
        parameters = _recorder_parameters(wanted)
        recording = nodes.start_node('recorder', 'tools.recorder_node', parameters)
        recorder = _Recorder(recording)
        nodes.start_node('detector', 'detector.detector_node', wanted.detector)
        wait_until_ready(lambda: recorder.latest, nodes.ended, wanted.log)
        for camera in CAMERAS:
            nodes.start_node(
                camera.name, 'tools.image_player_node', _player_parameters(wanted, camera),
                namespace=camera.name,
            )
        watched = _Watched()
        with contextlib.suppress(KeyboardInterrupt):
            _wait_for_images(recorder, nodes)
            watched.watch(recorder, nodes, wanted.seconds)
        nodes.stop([camera.name for camera in CAMERAS])
        at_s = time.time()
        _wait(lambda: recorder.latest['diagnostics_at_s'] > at_s and is_settled(recorder.latest),
              _SETTLE_S)
        nodes.stop(['recorder', 'detector'])
        return Played(recorder.finish(), watched.rates_in_hz, watched.seconds,
                      watched.seconds < wanted.seconds)


def _recorder_parameters(wanted: Play) -> dict[str, object]:
    return {
        'bag': wanted.output / 'bag', 'compress': True, 'drawn': wanted.output,
        'rate_hz': wanted.rate_hz,
        'images': [camera.topic for camera in CAMERAS],
        'detections': [camera.detections_topic for camera in CAMERAS],
    }


def _player_parameters(wanted: Play, camera: Camera) -> dict[str, object]:
    return {
        'source': wanted.source.absolute(), 'rate_hz': wanted.rate_hz,
        'encoding': camera.encoding, 'width': camera.width, 'height': camera.height,
        'jpeg_quality': _JPEG_QUALITY, 'frame_id': f'{camera.name}_camera',
    }


class Processes:
    """Processes by name; all are stopped at the end, or killed if they do not stop."""

    def __init__(self, stack: contextlib.ExitStack, log: Path, domain_id: int) -> None:
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._stack, self._log = stack, log
        self._environment = os.environ | {
            'ROS_DOMAIN_ID': str(domain_id),
            'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
            'ROS_LOG_DIR': str(log.absolute()),
            'AMENT_PREFIX_PATH': os.environ.get('AMENT_PREFIX_PATH') or sys.prefix,
        } | ends_with_this_process()
        stack.callback(lambda: self.stop(list(self._processes)))

    def start_node(
        self, name: str, module: str, parameters: Mapping[str, object], *, namespace: str = ''
    ) -> subprocess.Popen[str]:
        """Start a node of this package."""
        remapped = ['-r', f'__ns:=/{namespace}'] if namespace else []
        return self.start(name, [
            sys.executable, '-m', f'{_NODES}.{module}', '--ros-args', *remapped,
            *_parameters(parameters),
        ])

    def start(self, name: str, command: Sequence[str]) -> subprocess.Popen[str]:
        """Start a process; its output goes to a log, except the recorder's reports."""
        file = self._stack.enter_context((self._log / f'{name}.txt').open('w', encoding='utf-8'))
        self._processes[name] = subprocess.Popen(
            command, env=self._environment, stderr=file, text=True, start_new_session=True,
            stdout=subprocess.PIPE if name == 'recorder' else file,
        )
        return self._processes[name]

    def ended(self) -> list[str]:
        """Return the names of ended processes."""
        return [name for name, each in self._processes.items() if each.poll() is not None]

    def check(self) -> None:
        """Raise Yolov7TrtError with the last line of the log if a process has ended."""
        for name in self.ended():
            log = self._log / f'{name}.txt'
            lines = log.read_text(encoding='utf-8', errors='replace').strip().splitlines()
            raise Yolov7TrtError(
                f'the {name} ended unexpectedly: {lines[-1] if lines else "no output"} ({log})'
            )

    def stop(self, names: Iterable[str]) -> None:
        """Interrupt them all, then wait until they have ended."""
        processes = [self._processes[name] for name in names]
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process in processes:
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _parameters(values: Mapping[str, object]) -> Iterator[str]:
    """Yield the arguments that set parameters of a node; YAML reads what JSON writes."""
    for name, value in values.items():
        yield '-p'
        yield f'{name}:={json.dumps(str(value) if isinstance(value, Path) else value)}'


class _Recorder:
    """The recorder's latest JSON line, read by a thread."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.latest: dict[str, Any] = {
            'topics': {}, 'classes': {}, 'diagnostics': {}, 'diagnostics_at_s': 0.0,
        }
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


def _wait_for_images(recorder: _Recorder, nodes: Processes) -> None:
    def arrived() -> bool:
        nodes.check()
        return are_images_there(recorder.latest)

    if not _wait(arrived, START_S):
        raise Yolov7TrtError(f'no image of the cameras arrived within {START_S:.0f} s')


class _Watched:
    """
    Progress and rates while images are played.

    Attributes
    ----------
    seconds
        Duration so far.
    rates_in_hz
        Latest rate of each image topic, as the detector reported it.

    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.rates_in_hz: dict[str, float] = {}

    def watch(self, recorder: _Recorder, nodes: Processes, seconds: float) -> None:
        """Show progress until the time is over, or Ctrl-C."""
        from rich.console import Group
        from rich.live import Live
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        progress = Progress(
            TextColumn('{task.description}'), BarColumn(), TimeRemainingColumn(),
            auto_refresh=False,
        )
        task = progress.add_task('playing', total=seconds)
        start_s = time.monotonic()
        with Live(refresh_per_second=4, transient=True) as live:
            while self.seconds < seconds:
                nodes.check()
                time.sleep(_SHOW_PERIOD_S)
                self.seconds = min(seconds, time.monotonic() - start_s)
                progress.update(task, completed=self.seconds)
                summary = summarise(recorder.latest)
                self._note(summary)
                live.update(Group(table(summary), progress))

    def _note(self, summary: dict[str, Any]) -> None:
        self.rates_in_hz.update({
            camera['topic']: camera['rate_in_hz']
            for camera in summary['cameras'].values() if camera['rate_in_hz']
        })


def _wait(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(_POLL_S)
    return True
