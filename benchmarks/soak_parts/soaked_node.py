"""The detector node under test with its cameras: actions on it, and waiting for it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import os
from pathlib import Path
import socket
import time
from typing import Any

from soak_parts.cameras import Camera, ENCODINGS, Mode, SIZES_WH
from soak_parts.detector import Detector, Meter, PATIENCE_S, Stuck
from soak_parts.ledger import Counters, Ledger, OUTCOMES

from yolov7_trt_ros.core.topics import detections_topics
from yolov7_trt_ros.nodes.process import process_setup

MODEL_S = 900.0  # a TensorRT plan may have to be built
IN_TRANSIT_S = 0.3
METER_S = 1.0
_FIRST_PORT = 7620  # of the system's range of fixed ports, where DDS has none for domain 0
_kept: list[socket.socket] = []
MODES = tuple(Mode(each, reliable=False) for each in ENCODINGS)


class Soak:
    """The detector, its cameras, and the actions of faults on them."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.folder, self.ledger = folder, Ledger()
        self.cameras: list[Camera] = []
        self.guest_topic = '/soak/guest/image_raw'
        self._guests: list[Camera] = []
        self.recordings, self.quiet_checks, self.slowest_recovery_s = 0, 0, 0.0
        self._rate_hz, self.model = args.rate, args.model
        self.events: list[dict[str, Any]] = []
        self.series: list[dict[str, float]] = []
        self._metered = self.started = time.monotonic()
        topics = [f'/soak/cam{index}/image_raw' for index in range(args.cameras)]
        topics[-1] += '/compressed'
        self.pattern = f'/soak/*/image_raw,{topics[-1]}'
        self.outputs = dict(zip(topics, detections_topics(topics), strict=True))
        self.detector = Detector(
            folder,
            {'autostart': True, 'image_topics': ','.join(topics), 'network_size': 160,
             'threads': 1, 'model_folders': folder / 'models', 'backend': args.backend,
             'model': args.model},
            self.ledger, self._idle,
        )
        self.meter = Meter(self.detector.process.pid)

    # ---- the cameras

    def start_cameras(self) -> None:
        """Listen to all detections, then bring up the cameras."""
        for index, (topic, output) in enumerate(self.outputs.items()):
            self.detector.listen(topic, output, overlay=index == 0)
            self.ledger.begin(topic)
        self.detector.listen(
            self.guest_topic, detections_topics([self.guest_topic])[0], overlay=False
        )
        self.detector.wait_until_up(MODEL_S)
        self._on_cpu = self.detector.values()['backend'].startswith('ONNX')
        for index, topic in enumerate(self.outputs):
            last = index == len(self.outputs) - 1
            mode = MODES[-1] if last else MODES[index % (len(MODES) - 1)]
            size_wh = SIZES_WH[index % len(SIZES_WH)]
            self.cameras.append(self._camera(f'camera{index}', topic, size_wh, mode))
        self.await_detections()
        self.series.clear()  # of a process that was starting

    def add_guest(self, size_wh: tuple[int, int], mode: Mode) -> Camera:
        """Bring up one more camera."""
        self._guests.append(self._camera('guest', self.guest_topic, size_wh, mode))
        return self._guests[0]

    def remove_guest(self) -> None:
        """Take it down again."""
        for guest in self._guests:
            guest.stop()
        self._guests.clear()

    def stop_cameras(self) -> None:
        """Take all cameras down."""
        self.remove_guest()
        for camera in self.cameras:
            camera.stop()

    def _camera(self, name: str, topic: str, size_wh: tuple[int, int], mode: Mode) -> Camera:
        return Camera(name, topic, size_wh, mode, rate_hz=self._rate_hz, ledger=self.ledger)

    def _idle(self) -> None:
        """Do what is due while waiting: publish, and read the meter."""
        for camera in (*self.cameras, *self._guests):
            camera.publish_if_due()
        now = time.monotonic()
        if now - self._metered >= METER_S and self.detector.process.poll() is None:
            self._metered = now
            self.series.append({'at_s': round(now - self.started, 1), **self.meter.read()})

    # ---- what faults do and wait for

    def set_parameter(self, name: str, value: Any) -> None:
        """Set a parameter that must be accepted."""
        reason = self.detector.set_parameter(name, value)
        if reason or self.detector.get(name) != value:
            self.ledger.violations.append(f'{name} {value!r} was refused or not taken: {reason}')

    def set_topics(self, topics: Sequence[str], leaving: Sequence[str] = ()) -> None:
        """Set image_topics; report ending and beginning streams to the ledger."""
        present = self.ledger.present
        for topic in (present | set(leaving)) - set(topics):
            self.ledger.remove(topic)
        for topic in set(topics) - present:
            self.ledger.begin(topic)
        self.set_parameter('image_topics', ','.join(topics))

    def change_state(self, transition: str) -> None:
        """Make a transition that must succeed."""
        if not self.detector.change_state(transition):
            raise Stuck(f'{transition} failed')

    def take_down(self) -> None:
        """Account for this period, then deactivate and clean up; the cameras go on."""
        self.check_quiet('before cleanup')
        self.pause(True)
        self.ledger.end_period(self.detector.counters(), self.detector.removed())
        self.change_state('deactivate')
        self.pause(False)
        self.change_state('cleanup')

    def bring_up(self) -> None:
        """Configure and activate."""
        for topic in self.outputs:
            self.ledger.begin(topic)
        self.change_state('configure')
        self.change_state('activate')
        if not self._on_cpu:
            self.detector.wait_for_model(MODEL_S)

    def await_detections(self, cameras: Sequence[Camera] = ()) -> None:
        """Wait until each camera has had detections for an image sent from now on."""
        since_ns, started = time.time_ns(), time.monotonic()
        for camera in cameras or self.cameras:
            self.detector.spin_until(
                lambda topic=camera.topic: self.detector.last_stamp_ns.get(topic, 0) > since_ns,
                PATIENCE_S, f'detections of {camera.topic}',
            )
        self.slowest_recovery_s = max(self.slowest_recovery_s, time.monotonic() - started)

    def quiet_counters(self, topics: Sequence[str]) -> list[dict[str, int]]:
        """Return the counters of silent topics, once everything is processed."""
        def all_processed() -> bool:
            counters = self.detector.counters()
            return all(in_work(counters.get(topic)) == 0 for topic in topics)

        self._await_statuses(all_processed)
        return [self.detector.counters()[topic] for topic in topics]

    def check_quiet(self, where: str) -> None:
        """Pause the cameras and check that everything adds up, in a moment at least."""
        self.pause(True)
        wrong = ['nothing was heard']

        def adds_up() -> bool:
            wrong[:] = self.ledger.check_quiet(self.detector.counters(), self.detector.removed())
            return not wrong

        try:
            self._await_statuses(adds_up)
        except Stuck:
            self.ledger.violations += [f'{where}: {each}' for each in wrong]
        self.quiet_checks += 1
        self.pause(False)

    def _await_statuses(self, condition: Any) -> None:
        """Wait for diagnostics, made when nothing was in transit any more, that fulfil it."""
        self.detector.spin(IN_TRANSIT_S)
        since_ns = time.monotonic_ns()
        self.detector.spin_until(
            lambda: self.detector.statuses_ns > since_ns and condition(),
            PATIENCE_S, 'counters',
        )

    def pause(self, paused: bool) -> None:
        """Stop sending, or go on."""
        for camera in (*self.cameras, *self._guests):
            camera.paused = paused


def in_work(counters: Counters | None) -> int:
    """Return how many frames wait or are in work, by the counters."""
    if counters is None:
        return -1
    return counters['received'] - sum(counters[name] for name in OUTCOMES)


def own_domain() -> int:
    """Return a ROS domain that, until this process ends, no other one on this machine is given."""
    for number in range(19):
        domain = 1 + (os.getpid() + number) % 19  # the tests of the nodes have those from 20 on
        kept = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            kept.bind(('127.0.0.1', _FIRST_PORT + domain))
        except OSError:
            kept.close()
        else:
            _kept.append(kept)
            return domain
    raise Stuck('no ROS domain of 1 to 19 is free')


def isolate(folder: Path) -> None:
    """Keep to a ROS domain of our own on this machine."""
    for name in process_setup.PROFILE_VARIABLES:
        os.environ.pop(name, None)
    os.environ |= process_setup.large_image_environment(os.environ) | {
        'ROS_DOMAIN_ID': str(own_domain()), 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        'ROS_LOG_DIR': str(folder / 'ros_log'),
    }
