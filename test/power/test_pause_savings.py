"""What a pause of a detector saves, told from samples of power where it can be told."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from yolov7_trt_ros.power.telemetry.pause_savings import LEAST_INTERVALS, PauseSavings, WorkTally
from yolov7_trt_ros.power.telemetry.sample import BoardSample

S = 1_000_000_000
SAVED = 'energy saved by pauses (J)'


class Robot:
    """A machine with a detector, whose seconds are told one by one."""

    def __init__(self) -> None:
        self.savings = PauseSavings()
        self._second, self._processed, self._skipped = 0, 0, 0

    def seconds(self, powers_w: Iterable[float | None], *, frames=0, skipped=0, paused=False,
                some=False) -> None:
        """Let seconds go by, each of a power; `some`: paused in part."""
        for power_w in powers_w:
            self._second += 1
            self._processed += frames
            self._skipped += skipped
            sample = BoardSample(
                self._second * S, total_mw=None if power_w is None else power_w * 1000)
            self.savings.add(sample, WorkTally(
                self._processed, self._skipped, paused and not some, not paused and not some))

    def facts(self) -> dict[str, str]:
        return self.savings.facts()


def test_what_is_saved_is_the_power_of_work_less_that_of_the_pause() -> None:
    robot = Robot()
    robot.seconds([20.0] * 12, frames=10)  # nothing is known before the first
    robot.seconds([8.0] * 22, skipped=10, paused=True)  # the first two are of the change
    assert robot.facts() == {
        'power while detecting (W)': '20.00',
        'power while paused (W)': '8.00',
        'energy per frame (J)': '2.000',
        'energy per frame by detecting (J)': '1.200',
        SAVED: '240.0',  # 12 W for 20 s
    }


@pytest.mark.parametrize(('work', 'pause', 'told'), [
    ({}, {'frames': 0}, 'no frames at all'),
    ({'frames': 10}, {'paused': True}, 'a camera that stands still'),
    ({'frames': 10}, {'paused': True, 'skipped': 10, 'frames': 1}, 'a pause with single shots'),
    ({'frames': 10}, {'some': True, 'skipped': 10}, 'a pause of some topics alone'),
])
def test_nothing_is_said_to_be_saved_without_both_kinds(work, pause, told: str) -> None:
    robot = Robot()
    robot.seconds([20.0] * 20, **work)
    robot.seconds([8.0] * 20, **pause)
    assert robot.facts()[SAVED] == 'unknown', told


def test_too_few_intervals_are_told_with_their_number() -> None:
    robot = Robot()
    robot.seconds([20.0] * (LEAST_INTERVALS + 1), frames=10)
    assert robot.facts()['power while detecting (W)'] == (
        f'unknown: {LEAST_INTERVALS - 1} of {LEAST_INTERVALS} intervals in which frames were '
        'detected in'
    )
    assert robot.facts()['energy per frame (J)'] == robot.facts()[SAVED] == 'unknown'


def test_a_difference_within_the_noise_is_not_told_as_saved() -> None:
    robot = Robot()
    robot.seconds([20.0, 20.0, 10.0, 10.0] * 5, frames=10)
    robot.seconds([19.0, 19.0, 10.0, 10.0] * 5, skipped=10, paused=True)
    assert robot.facts()[SAVED].startswith('unknown: 0.')
    assert 'give or take' in robot.facts()[SAVED]


def test_time_without_a_reading_of_power_counts_for_neither() -> None:
    robot = Robot()
    robot.seconds([20.0] * 8, frames=10)
    robot.seconds([None] * 100, frames=10)
    robot.seconds([20.0] * 2, frames=10)
    robot.seconds([8.0] * 8, skipped=10, paused=True)
    facts = robot.facts()
    assert facts['energy per frame (J)'] == '2.000' and facts[SAVED] == '72.0'  # 12 W for 6 s
