"""
One row of a benchmark: a model measured in an engine on a machine; and all rows together.

What could not be measured is None, with an error text. A record has names of files without their
folders, so it can be published as it is.

"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import json
from typing import Any

from yolov7_trt_ros.core.latency import Percentiles
from yolov7_trt_ros.records import to_record, with_key

FORMAT = 1


def _keyed(key: str) -> str:
    """Return a text field, '' by default, that the file has under another key."""
    text: str = dataclasses.field(default='', metadata=with_key(key))
    return text


@dataclasses.dataclass(frozen=True)
class Speed:
    """
    Repeated runs of one batch.

    Attributes
    ----------
    runs
        How many were timed.
    latency_ms
        Of one run, whatever its batch.
    fps
        Images a second: all images over the sum of all runs; of several engines at once, over
        the time that passed.
    clock
        What timed them: `host clock` or `CUDA events`.

    """

    runs: int
    latency_ms: Percentiles
    fps: float
    clock: str = 'host clock'


@dataclasses.dataclass(frozen=True)
class Energy:
    """
    Power over a run from end to end, that of the whole source: idle power is in it.

    Attributes
    ----------
    source
        `nvml`, `sysfs`, `tegrastats`, `rapl`, or several with plus signs.
    rails
        What the total is made of, by the source's names.
    seconds
        How long was measured.
    watts, joules_per_frame
        Means over that time.
    clocks_mhz, hottest_c
        Mean clocks under this load, and the warmest sensor at its end.

    """

    source: str
    rails: tuple[str, ...]
    seconds: float
    watts: float
    joules_per_frame: float
    clocks_mhz: Mapping[str, float] = dataclasses.field(default_factory=dict)
    hottest_c: float | None = None


@dataclasses.dataclass(frozen=True)
class BatchResult:
    """Results of one batch size; an `_error` text says why one is missing."""

    batch: int
    network: Speed | None = None
    end_to_end: Speed | None = None
    energy: Energy | None = None
    network_error: str = _keyed('why_no_network')
    end_to_end_error: str = _keyed('why_no_end_to_end')
    energy_error: str = _keyed('why_no_energy')


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """Average precision as COCO computes it, and over how many images."""

    ap50: float
    ap: float
    images: int
    failed: int = 0


@dataclasses.dataclass(frozen=True)
class Where:
    """
    Where a row was measured.

    Attributes
    ----------
    machine
        Short, for tables: the board, the GPU, else the processor.
    facts
        Processor, cores, memory, GPU, driver, power mode, power limit, operating system, ...
    versions
        Of the packages a result depends on.
    clocks_mhz
        Before the first row.
    idle_watts
        Before the first row; None without a power source.
    busy
        Warning about other work on the machine before the first row; '' for none.

    """

    machine: str
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    clocks_mhz: Mapping[str, float] = dataclasses.field(default_factory=dict)
    idle_watts: float | None = None
    busy: str = ''


@dataclasses.dataclass(frozen=True)
class Data:
    """
    The pictures and labels; rows of different data cannot be in one table.

    Attributes
    ----------
    pictures
        How many different ones were timed, in turn.
    pictures_sha256
        Of their names and contents.
    labelled
        Images that average precision was computed over; 0 without labels.
    labels_sha256
        Of the labels and names of those; '' without.

    """

    pictures: int
    pictures_sha256: str
    labelled: int = 0
    labels_sha256: str = ''


@dataclasses.dataclass(frozen=True)
class BenchRow:
    """
    A model in an engine on a machine.

    Attributes
    ----------
    name
        For people; the first column.
    model
        Name of the file.
    engine
        `ONNX Runtime 1.23 (CPU)`; '' if it did not open.
    precision
        `fp32`, `fp16`, `int8`, `mixed`, ...; '' where it is not known.
    size_bytes
        Of the file.
    network_wh
        Network input; None if it did not open.
    batches
        Results by number of images at once.
    gpu_memory_mb
        Used while it ran, contexts and libraries included; None if unknown.
    accuracy
        None without labels.
    accuracy_error
        Why it was not measured.
    error
        Why the whole row did not run; '' if it ran.
    facts
        What the engine reports: memory strategy, graphs, ...
    measured
        ISO 8601, UTC.

    """

    name: str
    model: str
    where: Where
    data: Data
    engine: str = ''
    precision: str = ''
    size_bytes: int = 0
    network_wh: tuple[int, int] | None = None
    batches: tuple[BatchResult, ...] = ()
    gpu_memory_mb: float | None = None
    accuracy: Accuracy | None = None
    accuracy_error: str = _keyed('why_no_accuracy')
    error: str = _keyed('why_not')
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    measured: str = ''

    def batch(self, size: int) -> BatchResult:
        """Return the result of a batch size; an empty one if it was not measured."""
        found = [result for result in self.batches if result.batch == size]
        return found[0] if found else BatchResult(size)


@dataclasses.dataclass(frozen=True)
class Bench:
    """
    A whole benchmark.

    Attributes
    ----------
    title, notes
        Heading of the pages, and notes of the user.
    settings
        How it was measured: seconds, warm-up, thresholds, letterbox; JSON-ready.
    rows
        In the order of the tables; the others are compared with the first that ran.

    """

    title: str
    settings: Mapping[str, Any]
    rows: tuple[BenchRow, ...]
    notes: tuple[str, ...] = ()

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """All that any row was measured with, ascending."""
        return tuple(sorted({result.batch for row in self.rows for result in row.batches}))

    def to_json(self) -> bytes:
        """Return the benchmark as JSON."""
        text = json.dumps({'format': FORMAT, **to_record(self)}, indent=1, ensure_ascii=False)
        return f'{text}\n'.encode(errors='backslashreplace')  # half a surrogate, as JSON writes it
