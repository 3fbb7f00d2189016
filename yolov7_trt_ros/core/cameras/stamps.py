"""CameraStamps: compares the stamps of one camera with a clock."""

from __future__ import annotations

from yolov7_trt_ros.core.cameras.state import WatchLimits
from yolov7_trt_ros.core.units import NS_PER_MS, NS_PER_S

_BACK_SHOWN_NS = 5 * NS_PER_S
_FIRST_WINDOWS = 5
"""Verdicts until it is known how far stamps are from the clock when nothing has drifted yet."""


class CameraStamps:
    """Checks the stamps of the images of one camera; for one thread at a time."""

    def __init__(self) -> None:
        self.back = 0
        self._back_ns: int | None = None
        self.forget()

    def forget(self) -> None:
        """Begin anew, but for how often stamps went back."""
        self._repeats = self._stamp_ns = self._clock_ns = self._windows = 0
        self._offset_ns: int | None = None  # least distance from the clock, of the last window
        self._least_ns: int | None = None  # ... of this one
        self._first_ns = self._since_ns = 0  # ... of the first windows, and when they began
        self._unset = False

    def note(self, stamp_ns: int, clock_ns: int, now_ns: int) -> None:
        """Look at a stamp; see `CameraWatch.note_stamp`."""
        self._unset = not stamp_ns
        if self._unset:
            return
        if clock_ns < self._clock_ns:  # time has jumped, or a simulation began anew
            self.forget()
        elif stamp_ns < self._stamp_ns:
            self.back += 1
            self._back_ns = now_ns
        self._repeats = self._repeats + 1 if stamp_ns == self._stamp_ns else 0
        self._stamp_ns, self._clock_ns = stamp_ns, clock_ns
        if clock_ns > 0:  # a simulation's has not begun
            distance_ns = clock_ns - stamp_ns
            least_ns = self._least_ns
            self._least_ns = distance_ns if least_ns is None else min(least_ns, distance_ns)

    def still(self, limits: WatchLimits) -> str:
        """Return a description of stamps that do not change, '' if they do."""
        if not limits.frozen_frames or self._repeats < limits.frozen_frames:
            return ''
        return f'the same stamp came {self._repeats + 1} times'

    def late(self, limits: WatchLimits, now_ns: int) -> str:
        """Return how far stamps are off the clock, '' if they are not; ends a window."""
        self._end_window(now_ns)
        if self._back_ns is not None and now_ns - self._back_ns < _BACK_SHOWN_NS:
            return f'stamps went back, {self.back} times so far'
        offset_ns = self._offset_ns
        if offset_ns is None:
            return ''
        if limits.late_ns and abs(offset_ns) > limits.late_ns:
            side = 'behind' if offset_ns > 0 else 'ahead of'
            return f'stamps are {_seconds(offset_ns)} {side} the clock'
        drift_ns = offset_ns - self._first_ns
        if not limits.drift_ns or abs(drift_ns) <= limits.drift_ns:
            return ''
        side = 'fallen behind' if drift_ns > 0 else 'run ahead'
        return (
            f'stamps have {side} by {_seconds(drift_ns)} against the clock within '
            f'{(now_ns - self._since_ns) / NS_PER_S:.0f} s'
        )

    def _end_window(self, now_ns: int) -> None:
        """Take the least distance since the last verdict, which queues and load disturb least."""
        if self._least_ns is None:
            return
        self._offset_ns, self._least_ns = self._least_ns, None
        if not self._windows:
            self._first_ns, self._since_ns = self._offset_ns, now_ns
        if self._windows < _FIRST_WINDOWS:
            self._first_ns = min(self._first_ns, self._offset_ns)
            self._windows += 1

    def facts(self) -> dict[str, str]:
        """Return what is known, by name with the unit."""
        facts = {'stamps that went back': str(self.back)}
        if self._unset:
            facts['behind the clock (ms)'] = 'unknown: stamps are 0'
        elif self._offset_ns is not None:
            facts['behind the clock (ms)'] = f'{self._offset_ns / NS_PER_MS:.1f}'
        return facts


def _seconds(time_ns: int) -> str:
    return f'{abs(time_ns) / NS_PER_S:.2f} s'
