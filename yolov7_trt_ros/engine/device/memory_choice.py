"""
Choose the memory strategy for `auto` from measurements, with a margin; kept per machine.

Uploads of 0.3 ms vary by more than the strategies differ, above all on a busy machine. So
strategies are measured in turns, each round is compared with itself, and another strategy than the
usual one has to win clearly. What counts is the time until an image is in the network's input, and
once more the GPU's part of it: frames in flight overlap all but that.

"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import json
from pathlib import Path
import statistics
from typing import NamedTuple

from yolov7_trt_ros.atomic_file import atomic_write
from yolov7_trt_ros.core.units import MS_PER_S
from yolov7_trt_ros.engine.plan.owner import MEMORY_CHOICE, read_own_file
from yolov7_trt_ros.errors import ModelFormatError, UntrustedPlanError
from yolov7_trt_ros.records import from_record

MARGIN = 0.15
"""What another strategy has to save, as a share of the usual one's cost."""
ROUNDS_WON = 0.8
"""In how many rounds, as a share."""
_FORMAT = 2
_MOST_BYTES = 1 << 14
_KEPT = ', as measured at an earlier start'


class UploadSample(NamedTuple):
    """One upload: seconds until the network input is ready, and the part spent on the GPU."""

    whole_s: float
    gpu_s: float

    @property
    def cost_s(self) -> float:
        """Return what is compared."""
        return self.whole_s + self.gpu_s


@dataclasses.dataclass(frozen=True)
class MemoryChoice:
    """
    What was chosen and from what.

    Attributes
    ----------
    strategy
        Its name.
    medians_ms
        Milliseconds until the network input is ready, by strategy; empty if none were asked
        for.
    why
        For people.
    clear
        Whether another measurement would agree; only such a choice is kept.

    """

    strategy: str
    medians_ms: Mapping[str, float]
    why: str
    clear: bool = True


def decide(usual: str, samples: Mapping[str, Sequence[UploadSample]]) -> MemoryChoice:
    """
    Return the usual strategy, or another that wins clearly.

    Parameters
    ----------
    usual
        A key of `samples`.
    samples
        By strategy, each as many; those of one index were taken one right after the other.

    """
    medians_ms = {
        name: round(statistics.median(each.whole_s for each in taken) * MS_PER_S, 4)
        for name, taken in samples.items()
    }
    ratios = {
        name: [
            one.cost_s / base.cost_s for one, base in zip(taken, samples[usual], strict=True)
        ]
        for name, taken in samples.items() if name != usual
    }
    if not ratios:
        return MemoryChoice(usual, medians_ms, 'the only one that is possible here')
    best = min(ratios, key=lambda name: statistics.median(ratios[name]))
    saved = 1 - statistics.median(ratios[best])
    won = sum(ratio < 1 for ratio in ratios[best]) / len(ratios[best])
    difference = f'{best} costs {abs(saved):.0%} {"less" if saved > 0 else "more"} than {usual}'
    if saved < MARGIN:
        return MemoryChoice(usual, medians_ms, f'{difference}; it would have to save {MARGIN:.0%}')
    if won < ROUNDS_WON:
        return MemoryChoice(
            usual, medians_ms, f'{difference}, but in {won:.0%} of the rounds only', clear=False
        )
    return MemoryChoice(best, medians_ms, f'{difference}, in {won:.0%} of the rounds')


class KeptChoice:
    """
    The choice for one machine, in a separate file.

    Parameters
    ----------
    folder
        Of such files.
    machine
        What the choice depends on: GPU, driver, processor.

    """

    def __init__(self, folder: Path, machine: Mapping[str, str]) -> None:
        self._machine = dict(machine)
        text = json.dumps(self._machine, sort_keys=True)
        self.path = folder / f'memory_{hashlib.sha256(text.encode()).hexdigest()[:16]}.json'

    def load(self, possible: Sequence[str]) -> MemoryChoice | None:
        """Return what was kept; None if there is nothing that can be trusted and used."""
        try:
            octets = read_own_file(self.path, what=MEMORY_CHOICE, most_bytes=_MOST_BYTES)
            record = json.loads(octets)
            choice = from_record(MemoryChoice, record, 'the choice')
        except (OSError, UntrustedPlanError, ModelFormatError, ValueError, RecursionError):
            return None
        if record.get('format') != _FORMAT or record.get('machine') != self._machine:
            return None
        if choice.strategy not in possible:
            return None
        return dataclasses.replace(choice, why=f'{choice.why.removesuffix(_KEPT)}{_KEPT}')

    def save(self, choice: MemoryChoice) -> None:
        """Keep a clear choice; a folder that cannot be written costs the time to measure anew."""
        if not choice.clear:
            return
        record = {'format': _FORMAT, 'machine': self._machine, **dataclasses.asdict(choice)}
        try:
            atomic_write(self.path, (json.dumps(record, indent=1) + '\n').encode())
        except OSError:
            return
