"""Power and GPU memory of a benchmark, sampled while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import contextlib
import threading
import time

from yolov7_trt_ros.errors import MissingDependencyError, PowerError
from yolov7_trt_ros.power.nvml.library import load_nvml, NvmlDevice
from yolov7_trt_ros.power.telemetry.energy import EnergyCounter
from yolov7_trt_ros.power.telemetry.sample import BoardSample, TelemetrySource
from yolov7_trt_ros.report.bench.row import Energy

INTERVAL_S = 0.1
IDLE_S = 2.0
_BYTES_PER_MB = 1e6


class SourceMeter:
    """
    Meters power with a telemetry source, which a thread reads while the work runs.

    Parameters
    ----------
    source
        Source of the samples; the caller closes it. None: nothing is metered.
    error
        Reason to report then.
    interval_s
        Time between two samples.

    """

    def __init__(
        self, source: TelemetrySource | None, *, error: str = 'no power source',
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._source = source
        self._error = error
        self._interval_s = interval_s

    def measure(self, work: Callable[[], int]) -> Energy:
        """
        Run `work`, which returns its number of frames, and return its energy.

        Raises
        ------
        PowerError
            There is no power source, or it could not be read while the work ran.

        """
        if self._source is None:
            raise PowerError(self._error)
        try:
            first = self._source.read()
        except PowerError as exc:
            raise PowerError(f'no power source: {exc}') from exc
        samples = [first]
        start = time.perf_counter()
        with self._sampling(samples):
            frames = work()
        seconds = time.perf_counter() - start
        with contextlib.suppress(PowerError):
            samples.append(self._source.read())
        return _energy(self._source.name, samples, frames, seconds)

    def idle(self, seconds: float = IDLE_S) -> Energy:
        """Return the energy while this process is idle; raises PowerError."""

        def rest() -> int:
            time.sleep(seconds)
            return 1

        return self.measure(rest)

    @contextlib.contextmanager
    def _sampling(self, samples: list[BoardSample]) -> Iterator[None]:
        ended = threading.Event()

        def sample() -> None:
            while not ended.wait(self._interval_s):
                with contextlib.suppress(PowerError):  # a gap, which the counter handles
                    assert self._source is not None
                    samples.append(self._source.read())

        thread = threading.Thread(target=sample, name='bench power', daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _energy(
    name: str, samples: Sequence[BoardSample], frames: int, seconds: float
) -> Energy:
    counter = EnergyCounter()
    for sample in samples:
        counter.add(sample)
    joules = counter.joules_per_frame(frames)
    if not joules or not counter.mean_w:
        problems = dict.fromkeys(text for sample in samples for text in sample.problems)
        raise PowerError(
            f'no power source: {name} has no total power'
            + (f' ({"; ".join(problems)})' if problems else '')
            if all(sample.total_mw is None and sample.total_energy_j is None for sample in samples)
            else f'{name} counted no energy in {seconds:.1f} s: measure longer (--seconds)'
        )
    hottest = samples[-1].hottest_c
    return Energy(
        source=name,
        rails=tuple(samples[-1].rails),
        seconds=round(seconds, 2),
        watts=round(counter.mean_w, 2),
        joules_per_frame=round(joules, 6),
        clocks_mhz=_mean_clocks(samples),
        hottest_c=None if hottest is None else round(hottest[1], 1),
    )


def _mean_clocks(samples: Sequence[BoardSample]) -> dict[str, float]:
    """Return the mean clocks of GPU, memory and the first core, where known."""
    means = {}
    for name in ('gpu', 'gpu_memory', 'emc', 'cpu0'):
        values = [sample.clocks_mhz[name] for sample in samples if name in sample.clocks_mhz]
        if values:
            means[name] = round(sum(values) / len(values), 1)
    return means


class GpuMemory:
    """
    Memory of the first GPU that any process has allocated since this was opened.

    Open it before anything uses the GPU, so that contexts and libraries count.

    """

    def __init__(self) -> None:
        self._device: NvmlDevice | None = None
        self._before_bytes = 0.0
        with contextlib.suppress(PowerError, MissingDependencyError):
            self._device = NvmlDevice(load_nvml())
            self._before_bytes = self._used_bytes() or 0.0

    def taken_mb(self) -> float | None:
        """Return the megabytes allocated since; None if unknown."""
        used = self._used_bytes()
        return None if used is None else round((used - self._before_bytes) / _BYTES_PER_MB, 1)

    def close(self) -> None:
        """Close the library; calling it twice is harmless."""
        if self._device is not None:
            self._device.close()

    def _used_bytes(self) -> float | None:
        device = self._device
        if device is None:
            return None
        try:
            info = device.guarded('memory', lambda: device.ask('nvmlDeviceGetMemoryInfo'))
        except PowerError:
            return None
        return None if info is None else float(info.used)
