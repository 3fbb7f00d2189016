"""
Measure an open model: latency and frame rate of network and whole frames, and energy.

The detector, what times its network and what meters power come in as arguments. Pictures are
shown in turn, from memory; the first runs of each batch size are not counted.

"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import time
from typing import Protocol, TypeVar

from yolov7_trt_ros.core.detector import (
    AheadDetector,
    Answer,
    detect_ahead,
    Detector,
    DetectSettings,
)
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.latency import percentiles_ms
from yolov7_trt_ros.core.units import NS_PER_S
from yolov7_trt_ros.errors import InferenceError, Yolov7TrtError
from yolov7_trt_ros.report.bench.row import BatchResult, Energy, Speed

T = TypeVar('T')

HOST_CLOCK = 'host clock'
LEAST_RUNS = 10
WARM_UP_RUNS = 5
LATENCY_SETTINGS = DetectSettings()
"""What a robot runs with by default, not the low threshold of average precision."""


class NetworkClock(Protocol):
    """Times the network alone, as engine/network_timer.py does."""

    @property
    def clock(self) -> str:
        """`host clock` or `CUDA events`."""

    @property
    def sample(self) -> Callable[[Sequence[ImageView]], list[int]]:
        """Return what takes images and returns nanoseconds of one or more runs."""

    @property
    def by_detector(self) -> bool:
        """Whether it only takes the detector's own time of each frame (`infer_ns`)."""


class PowerMeter(Protocol):
    """Meters power while something runs."""

    def measure(self, work: Callable[[], int]) -> Energy:
        """
        Run `work`, which returns its number of frames, and return its energy.

        Raises
        ------
        PowerError
            There is no power source, or it could not be read.

        """


@dataclasses.dataclass(frozen=True)
class BenchPlan:
    """
    How long to measure.

    Attributes
    ----------
    seconds
        For each of: network, end to end, energy; at each batch size.
    least_runs
        Even if they take longer.
    warm_up_runs
        At least this many before the first that counts; also for a fifth of `seconds`, and every
        picture twice if that takes no longer than `seconds`.

    """

    seconds: float
    least_runs: int = LEAST_RUNS
    warm_up_runs: int = WARM_UP_RUNS


def measure_batch(
    detector: Detector,
    pictures: Sequence[ImageView],
    batch: int,
    plan: BenchPlan,
    *,
    open_clock: Callable[[int], NetworkClock],
    meter: PowerMeter,
) -> BatchResult:
    """
    Measure one batch size; what cannot be measured is None, with an error text.

    Parameters
    ----------
    detector, pictures
        What runs end to end, and the pictures it runs on repeatedly.
    batch
        Images at once.
    plan
        How long to measure.
    open_clock
        Returns what times the network at a batch size; raises one of our errors if the model does
        not support it.
    meter
        Power over the frames, end to end.

    """
    if isinstance(detector, AheadDetector):
        return _measure_ahead(detector, pictures, batch, plan, meter)
    clock, network_error = _tried(lambda: open_clock(batch))
    network: Speed | None = None
    end_to_end: Speed | None = None
    if clock is not None and clock.by_detector:
        both, end_to_end_error = _tried(lambda: time_both(detector, pictures, batch, plan))
        network_error = end_to_end_error
        network, end_to_end = both or (None, None)
    else:
        if clock is not None:
            network, network_error = _tried(
                lambda: _speed(clock.sample, pictures, batch, plan, clock.clock)
            )
        end_to_end, end_to_end_error = _tried(
            lambda: time_both(detector, pictures, batch, plan)[1]
        )
    energy, energy_error = None, end_to_end_error
    if end_to_end is not None:
        energy, energy_error = _tried(
            lambda: meter.measure(lambda: run_frames(detector, pictures, batch, plan.seconds))
        )
    return BatchResult(
        batch, network, end_to_end, energy, network_error, end_to_end_error, energy_error
    )


def _tried(measure: Callable[[], T]) -> tuple[T | None, str]:
    try:
        return measure(), ''
    except Yolov7TrtError as exc:
        return None, ' '.join(str(exc).split())


def time_both(
    detector: Detector, pictures: Sequence[ImageView], batch: int, plan: BenchPlan
) -> tuple[Speed, Speed]:
    """
    Time frames from image bytes in host memory to Detections, and the network within.

    Returns
    -------
    network
        As the detector reports; on a GPU that is the wait for all its work.
    end to end
        By the clock here.

    """
    infer_ns: list[int] = []

    def sample(images: Sequence[ImageView]) -> list[int]:
        start = time.perf_counter_ns()
        _, timings = detector.detect_batch(images, LATENCY_SETTINGS)
        total_ns = time.perf_counter_ns() - start
        infer_ns.append(timings.infer_ns)
        return [total_ns]

    end_to_end = _speed(sample, pictures, batch, plan, HOST_CLOCK)
    return _as_speed(infer_ns[-end_to_end.runs:], batch, HOST_CLOCK), end_to_end


def run_frames(
    detector: Detector, pictures: Sequence[ImageView], batch: int, seconds: float
) -> int:
    """Detect without a pause for a time; return the number of images."""
    done = 0
    end_ns = time.perf_counter_ns() + round(seconds * NS_PER_S)
    for images in rotation(pictures, batch):
        detector.detect_batch(images, LATENCY_SETTINGS)
        done += batch
        if time.perf_counter_ns() >= end_ns:
            break
    return done


def _measure_ahead(
    detector: AheadDetector, pictures: Sequence[ImageView], batch: int, plan: BenchPlan,
    meter: PowerMeter,
) -> BatchResult:
    """Measure several engines that share frames; each of them takes one image at once."""
    if batch != 1:
        error = 'engines that share frames were given one image at once'
        return BatchResult(batch, None, None, None, error, error, error)
    end_to_end, error = _tried(lambda: time_ahead(detector, pictures, plan))
    energy, energy_error = None, error
    if end_to_end is not None:
        energy, energy_error = _tried(lambda: meter.measure(
            lambda: len(_run_ahead(detector, pictures, plan.seconds, plan.least_runs))
        ))
    return BatchResult(
        batch, None, end_to_end, energy, 'several engines at once have no common network time',
        error, energy_error,
    )


def time_ahead(
    detector: AheadDetector, pictures: Sequence[ImageView], plan: BenchPlan
) -> Speed:
    """
    Time frames of engines that share them, begun without a pause.

    The latency is that of a frame in its engine, without the time that it waits for one; the rate
    is that of all engines together.

    """
    rounds = max(plan.warm_up_runs, 2 * len(pictures))
    _run_ahead(detector, pictures, plan.seconds / 5, rounds)
    start_ns = time.perf_counter_ns()
    samples_ns = _run_ahead(detector, pictures, plan.seconds, plan.least_runs)
    took_ns = time.perf_counter_ns() - start_ns
    fps = len(samples_ns) * NS_PER_S / max(1, took_ns)
    return Speed(len(samples_ns), percentiles_ms(samples_ns), round(fps, 2), HOST_CLOCK)


def _run_ahead(
    detector: AheadDetector, pictures: Sequence[ImageView], seconds: float, least: int
) -> list[int]:
    """Detect without a pause for a time; return the nanoseconds of each frame in its engine."""
    end_ns = time.perf_counter_ns() + round(seconds * NS_PER_S)

    def images() -> Iterator[ImageView]:
        for number, (image,) in enumerate(rotation(pictures, 1)):
            if number >= least and time.perf_counter_ns() >= end_ns:
                return
            yield image

    samples_ns = []
    for _, answer in detect_ahead(detector, images(), lambda image: image, LATENCY_SETTINGS):
        if not isinstance(answer, Answer):
            raise answer or InferenceError('no answer')
        samples_ns.append(answer.timings.total_ns)
    return samples_ns


def rotation(pictures: Sequence[ImageView], batch: int) -> Iterator[list[ImageView]]:
    """
    Yield batches of pictures in turn, endlessly.

    The batches repeat after as many as there are pictures, so an engine that prepares itself for
    each combination of picture sizes sees no new ones after that.

    """
    count = len(pictures)
    starts = [start * batch % count for start in range(count)]
    batches = [[pictures[(start + i) % count] for i in range(batch)] for start in starts]
    while True:
        yield from batches


def _speed(
    sample: Callable[[Sequence[ImageView]], list[int]],
    pictures: Sequence[ImageView],
    batch: int,
    plan: BenchPlan,
    clock: str,
) -> Speed:
    batches = rotation(pictures, batch)
    _warm_up(sample, batches, plan, rounds=2 * len(pictures))
    samples_ns = _samples(sample, batches, plan.seconds, plan.least_runs)
    return _as_speed(samples_ns, batch, clock)


def _as_speed(samples_ns: Sequence[int], batch: int, clock: str) -> Speed:
    fps = batch * len(samples_ns) * NS_PER_S / max(1, sum(samples_ns))
    return Speed(len(samples_ns), percentiles_ms(samples_ns), round(fps, 2), clock)


def _warm_up(
    sample: Callable[[Sequence[ImageView]], list[int]],
    batches: Iterator[list[ImageView]],
    plan: BenchPlan,
    rounds: int,
) -> None:
    """
    Show every picture twice, as long as that takes no longer than the measurement.

    An engine prepares itself when it first sees a picture size, and captures a graph.

    """
    done = len(_samples(sample, batches, plan.seconds / 5, plan.warm_up_runs))
    end_ns = time.perf_counter_ns() + round(plan.seconds * NS_PER_S)
    while done < rounds and time.perf_counter_ns() < end_ns:
        sample(next(batches))
        done += 1


def _samples(
    sample: Callable[[Sequence[ImageView]], list[int]],
    batches: Iterator[list[ImageView]],
    seconds: float,
    least: int,
) -> list[int]:
    samples_ns: list[int] = []
    end_ns = time.perf_counter_ns() + round(seconds * NS_PER_S)
    while len(samples_ns) < least or time.perf_counter_ns() < end_ns:
        samples_ns += sample(next(batches))
    return samples_ns
