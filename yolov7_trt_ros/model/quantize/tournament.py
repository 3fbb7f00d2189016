"""Compare all quantisation methods of a model by an external score."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.model.quantize.calibration import Calibration
from yolov7_trt_ros.model.quantize.qdq import quantise
from yolov7_trt_ros.model.quantize.sensitivity import rank_convs
from yolov7_trt_ros.onnx_tools.graph import FloatModel

FLOAT_COUNTS = (1, 2, 4, 8)
"""How many of the most sensitive convolutions are tried as float."""

_HOW = {
    'kl': 'ranges that lose the least information',
    'mse': 'ranges with the least squared error',
    'percentile': 'ranges that hold all but the largest values',
    'minmax': 'ranges that hold every value',
}

Progress = Callable[[str, int], contextlib.AbstractContextManager[Callable[[], None]]]
Score = Callable[[Any], float]
"""From a ModelProto to a score, 0..1, higher is better."""


@dataclasses.dataclass(frozen=True, eq=False)
class Entry:
    """
    One way to quantise, and what it scored.

    Attributes
    ----------
    method
        How ranges were found.
    kept
        Convolutions that stay float, the heads among them.
    extra
        Those of them that the fall-back added, most sensitive first.
    score
        0..1; None if nothing was scored.

    """

    method: str
    kept: tuple[str, ...]
    extra: tuple[str, ...]
    score: float | None = None

    @property
    def name(self) -> str:
        """`mse`, or `mse, 4 float` with four convolutions left out."""
        return f'{self.method}, {len(self.extra)} float' if self.extra else self.method


@dataclasses.dataclass(frozen=True, eq=False)
class Tournament:
    """
    The outcome.

    Attributes
    ----------
    reference
        Score of the float model.
    entries
        All that was tried, in that order.
    winner
        The one to keep.
    model
        Its ModelProto.
    sensitivity
        Convolutions and their errors when quantised alone, worst first; empty if no fall-back
        was tried.

    """

    reference: float
    entries: tuple[Entry, ...]
    winner: Entry
    model: Any
    sensitivity: tuple[tuple[str, float], ...]


@contextlib.contextmanager
def _show_nothing(_label: str, _count: int) -> Iterator[Callable[[], None]]:
    yield lambda: None


def run_tournament(
    model: FloatModel,
    calibration: Calibration,
    score: Score,
    *,
    methods: Sequence[str],
    kept: Sequence[str],
    sensitivity_blobs: Sequence[NDArray[np.float32]] = (),
    tolerance: float = 0.001,
    weight_range: str = 'max',
    threads: int = 0,
    report: Callable[[str], Any] = lambda text: None,
    progress: Progress = _show_nothing,
) -> Tournament:
    """
    Quantise by each method, then with the most sensitive convolutions of the best left float.

    Parameters
    ----------
    model, calibration, weight_range
        As `quantise` takes them.
    score, methods
        Says how good a ModelProto is; one entry for each method.
    kept
        Convolutions that stay float in every entry.
    sensitivity_blobs
        A few network inputs for the sensitivity; none leaves the fall-back out. It is not tried
        either where the best method comes as near to the float model as `tolerance`.
    tolerance
        Scores this near to each other count as equal; the fewest float convolutions win then.
    threads
        Of the sensitivity: CPU threads; 0 takes one per core that this process may use.
    report
        Gets a line for each thing that begins, what it is and why, and for each result.
    progress
        Shows how far the sensitivity is: from a label and a count to what moves it one on.

    """
    def changed(entry: Entry) -> Any:
        return quantise(
            model, calibration, method=entry.method, kept=entry.kept, weight_range=weight_range
        )

    def enter(method: str, extra: tuple[str, ...]) -> Entry:
        entry = Entry(method, (*kept, *extra), extra)
        why = f'the {len(extra)} most sensitive stay float' if extra else _HOW[method]
        report(f'{entry.name}: {why}')
        return scored(dataclasses.replace(entry, score=score(changed(entry))))

    def scored(entry: Entry) -> Entry:
        report(f'{entry.name}: {entry.score:.4f} ({_score(entry) - reference:+.4f})')
        return entry

    report('float: the model as it is, which the others are compared with')
    reference = score(model.model)
    report(f'float: {reference:.4f}; {len(methods)} to try')
    entries = [enter(method, ()) for method in methods]
    ranked: list[tuple[str, float]] = []
    best = max(entries, key=_score)
    if len(sensitivity_blobs) and _score(best) < reference - tolerance:
        count = len(model.convs) - len(kept)
        report(f'{best.name} is the best, but not as good as float: each of the {count} '
               'convolutions is quantised alone, to find those that lose most')
        with progress('convolutions', count) as advance:
            ranked = rank_convs(
                model, calibration, sensitivity_blobs, method=best.method, kept=kept,
                weight_range=weight_range, threads=threads, advance=advance,
            )
        worst = [name for name, _ in ranked]
        entries += [
            enter(best.method, tuple(worst[:count]))
            for count in FLOAT_COUNTS if count < len(worst)
        ]
    winner = choose_winner(entries, reference, tolerance)
    return Tournament(reference, tuple(entries), winner, changed(winner), tuple(ranked))


def choose_winner(entries: Sequence[Entry], reference: float, tolerance: float) -> Entry:
    """
    Return the entry with the fewest float convolutions among those that score best.

    To score better than the float model, the reference, is luck, and worth no float convolution.

    """
    best = min(max(_score(entry) for entry in entries), reference)
    good = [entry for entry in entries if _score(entry) >= best - tolerance]
    return min(good, key=lambda entry: (len(entry.kept), -_score(entry)))


def _score(entry: Entry) -> float:
    return 0.0 if entry.score is None else entry.score
