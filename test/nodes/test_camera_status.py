"""What the diagnostics say of a camera that is frozen, dark, over-exposed, late or silent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import itertools
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
import pytest
from rclpy.duration import Duration
from rclpy.time import Time
from ros_probe import DetectorProcess, image_msg, Probe

TOPIC = '/watched/image_raw'
RATE_HZ = 20.0


class Camera:
    """Publishes at a steady rate what the test says."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self.pixels: Callable[[int], np.ndarray] = noise
        self.stamp: Callable[[int, Time], Time] = lambda _, now: now
        self._count = itertools.count()
        self._publisher = probe.publisher(TOPIC)
        self.timer = probe.node.create_timer(1 / RATE_HZ, self._publish)

    def _publish(self) -> None:
        number = next(self._count)
        message = image_msg(self.pixels(number))
        now = self._probe.node.get_clock().now()
        message.header.stamp = self.stamp(number, now).to_msg()
        self._publisher.publish(message)

    def close(self) -> None:
        """Publish no more."""
        self._probe.node.destroy_timer(self.timer)
        self._probe.node.destroy_publisher(self._publisher)


@pytest.fixture
def camera(probe: Probe, log: Any, receive: str) -> Iterator[Camera]:
    """Return a camera that an active detector listens to."""
    with DetectorProcess(
        log, autostart=True, image_topics=TOPIC, network_size=96, camera_frozen_frames=5,
        receive=receive,
    ):
        probe.wait_for_state('active')
        probe.forget_diagnostics()
        camera = Camera(probe)
        yield camera
        camera.close()


def noise(number: int) -> np.ndarray:
    """Return a picture that no other number gives."""
    return np.random.default_rng(number).integers(30, 220, (48, 64, 3), np.uint8)


def test_the_status_says_what_is_amiss(probe: Probe, camera: Camera) -> None:
    def expect(state: str, text: str) -> dict[str, str]:
        def holds() -> Any:
            message, level = probe.summary(TOPIC)
            wanted = DiagnosticStatus.OK if state == 'ok' else DiagnosticStatus.WARN
            values = probe.values(TOPIC)
            return values.get('camera') == state and text in message and level == wanted and values

        return dict(probe.wait_until(holds, f'{state} {text}, at last {probe.summary(TOPIC)}'))

    values = expect('ok', ' Hz in, ')
    assert float(values['behind the clock (ms)']) < 1000
    assert values['black'] == values['white'] == '0%'
    camera.pixels = lambda _: noise(0)
    expect('frozen', 'frozen: the same picture came ')
    camera.pixels = lambda number: noise(number) // 20
    expect('dark', 'dark: 100% of the picture is black')
    assert probe.set_parameter('idle', True) == ''  # no picture is looked at: nothing is known
    values = expect('ok', 'paused: idle')
    assert 'black' not in values
    assert probe.set_parameter('idle', False) == ''
    expect('dark', 'dark: 100% of the picture is black')
    camera.pixels = lambda number: 255 - noise(number) // 50
    expect('bright', 'bright: 100% of the picture is white')
    camera.pixels = noise
    camera.stamp = lambda _, now: now - Duration(seconds=5)
    expect('late', 'late: stamps went back')
    expect('late', 'late: stamps are 5.')
    assert probe.set_parameter('camera_late_ms', 60_000.0) == ''
    expect('late', 'late: stamps have fallen behind by ')
    assert probe.set_parameter('camera_drift_ms', 0) == ''
    expect('ok', ' Hz in, ')
    stood = probe.node.get_clock().now()
    camera.stamp = lambda *_: stood
    expect('frozen', 'frozen: the same stamp came ')
    assert probe.set_parameter('camera_frozen_frames', 0) == ''
    camera.stamp = lambda _, now: now
    expect('ok', ' Hz in, ')
    camera.timer.cancel()
    expect('silent', 'images have stopped')
    assert 'must be 0 (never) or at least 2' in probe.set_parameter('camera_frozen_frames', 1)
