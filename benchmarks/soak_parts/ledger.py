"""Compare what a soak sent and heard with the counters of the detector; no ROS."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
import statistics
from typing import NamedTuple

COUNTERS = ('received', 'processed', 'failed', 'dropped', 'skipped')
OUTCOMES = COUNTERS[1:]
Counters = Mapping[str, int]


class Tolerance(NamedTuple):
    """By how much the median of the last third may lie over that of the first, and from when."""

    by: float
    least_samples: int


TOLERANCES = {
    'rss_mib': Tolerance(8.0, 90),
    'device_mib': Tolerance(8.0, 90),
    'threads': Tolerance(1.0, 9),
    'file_descriptors': Tolerance(1.0, 9),
}
"""
Memory is judged from 90 samples (about as many seconds) on, for pools of images fill first. One
thread and one descriptor come and go with the lifecycle state; a leak adds one with every fault.
"""


class Ledger:
    """
    Stamps and counts of every image topic.

    A stream of the detector begins with `begin` (its counters are then 0) and ends with `remove`,
    or with `end_period` at cleanup. What is wrong is added to `violations`.

    """

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.heard: collections.Counter[str] = collections.Counter()
        self.totals: collections.Counter[str] = collections.Counter()
        self.unusable = 0
        self._sent: dict[str, dict[int, str]] = collections.defaultdict(dict)
        self._drawn: dict[str, set[int]] = collections.defaultdict(set)
        self._begun: dict[str, int] = {}
        self._unusable: collections.Counter[str] = collections.Counter()
        self._removed: collections.Counter[str] = collections.Counter()
        self._leaving: set[str] = set()

    # ---- stamps

    def note_sent(self, topic: str, stamp_ns: int, *, usable: bool = True) -> None:
        """Note an image that is about to be published."""
        self._sent[topic][stamp_ns] = 'usable' if usable else 'corrupt'

    def note_detections(self, topic: str, stamp_ns: int) -> None:
        """Note detections: of a usable image that was sent on the topic, and of none twice."""
        found = self._sent[topic].get(stamp_ns, 'stray')
        if found != 'usable':
            what = 'a second time' if found == 'answered' else f'for a {found} image'
            self.violations.append(f'{topic}: detections {what}, stamp {stamp_ns}')
        else:
            self._sent[topic][stamp_ns] = 'answered'
        self.heard[topic] += 1

    def note_overlay(self, topic: str, stamp_ns: int) -> None:
        """Note an overlay: of an image that was sent on the topic, and of none twice."""
        if stamp_ns not in self._sent[topic] or stamp_ns in self._drawn[topic]:
            self.violations.append(f'{topic}: overlay of no image or a second, stamp {stamp_ns}')
        self._drawn[topic].add(stamp_ns)

    @property
    def sent(self) -> int:
        """How many images were sent."""
        return sum(map(len, self._sent.values()))

    def count(self, since_ns: int, until_ns: int) -> tuple[int, int]:
        """Return how many images were sent in a time, and how many of them were not answered."""
        found = [
            state for stamps in self._sent.values() for stamp_ns, state in stamps.items()
            if since_ns <= stamp_ns < until_ns
        ]
        return len(found), len(found) - found.count('answered')

    # ---- counters

    @property
    def present(self) -> set[str]:
        """Return the topics set for the detector, before diagnostics list them."""
        return set(self._begun) - self._leaving

    def begin(self, topic: str) -> None:
        """Note that the detector has a new stream for a topic."""
        self._settle(topic)
        self._begun[topic] = self.heard[topic]
        self._unusable[topic] = 0

    def remove(self, topic: str) -> None:
        """Note that a topic was removed; a frame of it may still be in work."""
        self._leaving.add(topic)

    def note_unusable(self, topic: str, count: int) -> None:
        """Note corrupt images that have reached the detector and were not dropped."""
        self._unusable[topic] += count
        self.unusable += count

    def check_quiet(
        self, counters: Mapping[str, Counters], removed: Counters | None
    ) -> list[str]:
        """
        Return what does not add up while nothing is sent and everything is processed.

        Parameters
        ----------
        counters
            The detector's, by topic.
        removed
            Those of removed topics, None if not reported.

        """
        present, wrong = self.present, []
        if set(counters) != present:
            wrong.append(f'topics: expected {sorted(present)}, found {sorted(counters)}')
        for topic in present & set(counters):
            heard = self.heard[topic] - self._begun[topic]
            wrong += compare(topic, counters[topic], heard, self._unusable[topic])
        expected = self._expected_removed()
        found = removed or dict.fromkeys(COUNTERS, 0)
        wrong += compare('removed topics', found, expected['heard'], expected['unusable'])
        return wrong

    def end_period(
        self, counters: Mapping[str, Counters], removed: Counters | None
    ) -> None:
        """Add the counters up, before a cleanup or at the end; all streams end."""
        for each in (*counters.values(), removed or {}):
            self.totals.update({name: each.get(name, 0) for name in COUNTERS})
        self._begun.clear()
        self._unusable.clear()
        self._removed.clear()
        self._leaving.clear()

    def check_totals(self) -> list[str]:
        """Return what does not add up over all lifecycle periods."""
        heard = sum(self.heard.values())
        wrong = compare('all periods', self.totals, heard, self.unusable)
        if self.totals['received'] > self.sent:
            wrong.append(
                f'all periods: received {self.totals["received"]}, but {self.sent} were sent'
            )
        return wrong

    def _settle(self, topic: str) -> None:
        """Close the account of the former stream of a topic, if it was removed."""
        if topic in self._leaving:
            self._removed['heard'] += self.heard[topic] - self._begun[topic]
            self._removed['unusable'] += self._unusable[topic]
            self._leaving.remove(topic)
            del self._begun[topic]

    def _expected_removed(self) -> collections.Counter[str]:
        """Return the current sums of heard and corrupt images of removed topics."""
        expected = self._removed.copy()
        for topic in self._leaving:
            expected['heard'] += self.heard[topic] - self._begun[topic]
            expected['unusable'] += self._unusable[topic]
        return expected


def compare(name: str, counters: Counters, heard: int, unusable: int) -> list[str]:
    """Return messages about counters that do not add up or differ from what was heard."""
    wrong = []
    out = sum(counters[each] for each in OUTCOMES)
    if counters['received'] != out:
        text = ' + '.join(f'{each} {counters[each]}' for each in OUTCOMES)
        wrong.append(f'{name}: received {counters["received"]} is not {text}')
    if counters['processed'] != heard:
        wrong.append(f'{name}: processed {counters["processed"]}, but {heard} detections heard')
    if counters['failed'] != unusable:
        wrong.append(f'{name}: failed {counters["failed"]}, but {unusable} were corrupt')
    return wrong


def judge_growth(
    name: str, values: Sequence[float], tolerance: Tolerance
) -> tuple[dict[str, float | str], str]:
    """
    Compare the medians of the first and the last third of a series, warm-up left out before.

    Returns
    -------
    What was found, for the result, and the violation, '' for none.

    """
    if len(values) < tolerance.least_samples:
        return {'verdict': f'not judged: {len(values)} of {tolerance.least_samples} samples'}, ''
    third = len(values) // 3
    first, last = statistics.median(values[:third]), statistics.median(values[-third:])
    grown = last - first
    found = {
        'median_first_third': round(first, 2), 'median_last_third': round(last, 2),
        'tolerance': tolerance.by, 'verdict': 'grows' if grown > tolerance.by else 'steady',
    }
    text = f'{name} grows: median {first:.1f} in the first third, {last:.1f} in the last'
    return found, text if grown > tolerance.by else ''
