"""What updates.py counts: gaps between detections, images without any, and growth."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import statistics
from typing import Any

from soak_parts.ledger import judge_growth, Ledger, Tolerance, TOLERANCES

MOST_GROWTH = 0.01  # of the memory
OF_ALL, OF_NODE = 'device_mib', 'node_device_mib'


@dataclasses.dataclass
class Stretches:
    """Times of one kind: their gaps between detections, and when they were (ns, by stamps)."""

    seconds: float = 0.0
    gaps_ms: list[float] = dataclasses.field(default_factory=list)
    spans_ns: list[tuple[int, int]] = dataclasses.field(default_factory=list)

    def to_record(self, ledger: Ledger) -> dict[str, Any]:
        """Return what there was in them."""
        counts = [ledger.count(*each) for each in self.spans_ns]
        sent, unanswered = (sum(each) for each in zip((0, 0), *counts, strict=True))
        return {
            'seconds': round(self.seconds, 1), 'sent': sent, 'without_detections': unanswered,
            'gaps_ms': percentiles(self.gaps_ms),
        }


def percentiles(gaps_ms: Sequence[float]) -> dict[str, float]:
    """Return number, median, 99th percentile and largest of gaps; of none the number alone."""
    gaps = sorted(gaps_ms)
    return {'count': len(gaps)} | ({
        'p50': round(statistics.median(gaps), 1),
        'p99': round(gaps[int(0.99 * (len(gaps) - 1))], 1), 'largest': round(gaps[-1], 1),
    } if gaps else {})


def p99_ratio(during: dict[str, Any], between: dict[str, Any]) -> float | None:
    """Return by what factor the 99th percentile of gaps is larger; None where there are none."""
    above, below = during['gaps_ms'], between['gaps_ms']
    return round(above['p99'] / below['p99'], 3) if above['count'] and below['count'] else None


def judge_run(
    series: Sequence[dict[str, float]], after_each: Sequence[dict[str, float]]
) -> tuple[dict[str, Any], list[str]]:
    """
    Return the growth of all that was metered, and what has grown too much.

    Parameters
    ----------
    series
        Readings of the whole run.
    after_each
        Those of quiet times, of which the memory of all programs on the GPU is judged: at other
        times a process that refits has some of it.

    """
    found, violations = {}, []
    for name, tolerance in (TOLERANCES | {OF_NODE: TOLERANCES[OF_ALL]}).items():
        readings = after_each if name == OF_ALL else series
        values = [each[name] for each in readings if name in each]
        if values and name.endswith('_mib'):
            tolerance = Tolerance(round(MOST_GROWTH * min(values), 2), tolerance.least_samples)
        if values:
            found[name], violation = judge_growth(name, values, tolerance)
            violations += [violation] if violation else []
        else:
            found[name] = {'verdict': 'not measured'}
    return found, violations
