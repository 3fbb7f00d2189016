"""What pauses save, in the diagnostics of a node on a machine whose power the test makes up."""

from __future__ import annotations

from collections.abc import Callable
import queue
import threading
import time

from fake_engine import FakeEngine
import pytest
from ros_probe import Probe
from seam_camera import Camera, TOPIC

from yolov7_trt_ros.errors import PowerError
from yolov7_trt_ros.nodes.power.sampler import Sampler
from yolov7_trt_ros.power.rails import RailPower
from yolov7_trt_ros.power.telemetry.sample import BoardSample
from yolov7_trt_ros.power.telemetry.source import NullSource
from yolov7_trt_ros.testing import FakeDetector

SAVED = 'energy saved by pauses (J)'


class Meter:
    """A machine of 8 W, whose meter can be taken away."""

    name = 'meter'

    def __init__(self) -> None:
        self.is_there, self.closed = True, 0

    def read(self) -> BoardSample:
        if not self.is_there:
            raise PowerError('the meter was taken away')
        return BoardSample(
            time.monotonic_ns(), rails={'VDD_IN': RailPower(8000.0)}, total_mw=8000.0,
            problems=('the fan cannot be read',),
        )

    def close(self) -> None:
        self.closed += 1


class SlowMeter(Meter):
    """A meter that tells of each reading and waits until it may go on."""

    def __init__(self, begun: queue.SimpleQueue[None], may_read: threading.Semaphore) -> None:
        super().__init__()
        self._begun, self._may_read = begun, may_read

    def read(self) -> BoardSample:
        self._begun.put(None)
        self._may_read.acquire()
        return super().read()


def wait_until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 600.0
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.001)


@pytest.fixture
def camera(probe: Probe):
    """Return a camera that the test has send."""
    camera = Camera(probe)
    yield camera
    camera.close()


def test_power_is_read_from_when_a_topic_may_be_paused_on(probe: Probe, camera: Camera) -> None:
    meter = Meter()
    engine = FakeEngine(FakeDetector())
    with probe.host(engine.seam, power=lambda: meter, image_topics=TOPIC, autostart=True):
        probe.wait_for_state('active')
        camera.ask()
        assert SAVED not in probe.values()
        assert probe.set_parameter('idle', True) == ''

        def paused() -> bool:
            camera.send()
            return '1 of 5' in probe.values().get('power while paused (W)', '')

        probe.wait_until(paused, 'an interval in which images were passed over')
        assert probe.values()['power measured by'] == 'meter: VDD_IN; the fan cannot be read'
        assert probe.values()[SAVED] == 'unknown'
        meter.is_there = False
        probe.wait_until(
            lambda: probe.values()[SAVED] == 'unknown: the meter was taken away', 'the reason')
        assert probe.change_state('deactivate') and probe.change_state('cleanup')
        probe.wait_until(lambda: SAVED not in probe.values(), 'a node that forgot')
        assert meter.closed == 1


def test_no_power_is_read_after_cleanup_while_a_topic_is_idle(probe: Probe) -> None:
    opened: list[Meter] = []

    def open_meter() -> Meter:
        opened.append(Meter())
        return opened[-1]

    engine = FakeEngine(FakeDetector())
    settings = {'image_topics': TOPIC, 'autostart': True, 'idle': True}
    with probe.host(engine.seam, power=open_meter, **settings):
        probe.wait_until(lambda: SAVED in probe.values(), 'a reading')
        assert probe.change_state('deactivate') and probe.change_state('cleanup')
        for _ in range(2):
            probe.forget_diagnostics()
            probe.wait_until(lambda: probe.values(), 'diagnostics')
        probe.wait_until(lambda: [each.closed for each in opened] == [1], 'one meter, closed')


def test_a_sample_counts_no_longer_once_reading_fails_or_hangs() -> None:
    now_s, begun, may_read = [0.0], queue.SimpleQueue[None](), threading.Semaphore(1)

    meter, samples = SlowMeter(begun, may_read), []
    sampler = Sampler(lambda: meter, lambda: 0.01, samples.append, lambda: now_s[0])
    sampler.start()
    begun.get(), begun.get()
    assert sampler.newest is samples[0] and not sampler.problem
    now_s[0] = 11.0
    assert sampler.newest is None
    assert sampler.problem == 'power has not been read for 11 s: meter does not answer'
    meter.is_there = False
    may_read.release()
    begun.get()
    assert sampler.newest is None and sampler.problem == 'the meter was taken away'
    meter.is_there = True
    may_read.release()
    begun.get()
    assert sampler.newest is samples[1] and not sampler.problem
    may_read.release(1000)
    sampler.stop(600.0)


def test_a_source_that_fails_by_a_defect_is_opened_and_read_again() -> None:
    samples = queue.SimpleQueue[BoardSample]()
    fails = iter([KeyError('opened'), None])

    def open_source() -> Meter:
        if (error := next(fails)) is not None:
            raise error
        return Meter()

    def take(sample: BoardSample) -> None:
        samples.put(sample)
        if first is None:
            raise OverflowError('taken')

    first = None
    sampler = Sampler(open_source, lambda: 0.01, take)
    sampler.start()
    samples.get(timeout=600.0), samples.get(timeout=600.0)
    # each sample is told before it is taken, so that what is told of it comes a moment later
    wait_until(
        lambda: 'a defect' in sampler.problem and 'OverflowError: taken' in sampler.problem
        and sampler.newest is None
    )
    first = samples.get(timeout=600.0)
    wait_until(lambda: sampler.newest is not None and not sampler.problem)
    sampler.stop(600.0)


def test_a_machine_that_tells_no_power_says_what_was_looked_for(probe: Probe) -> None:
    engine = FakeEngine(FakeDetector())
    settings = {'image_topics': TOPIC, 'autostart': True, 'only_when_subscribed': True}
    with probe.host(engine.seam, power=lambda: NullSource(['RAPL: none']), **settings):
        probe.wait_until(lambda: 'looked for: RAPL: none' in probe.values().get(SAVED, ''),
                         'what was looked for')
        assert 'power measured by' not in probe.values()
