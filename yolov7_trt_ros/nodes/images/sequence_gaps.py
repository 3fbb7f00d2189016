"""Count messages lost between two received ones, by their sequence numbers."""

from __future__ import annotations

import collections

_MOST_PUBLISHERS = 256


class SequenceGaps:
    """
    Counts the messages of one subscription that were never taken.

    Each publisher numbers its messages. Messages between two taken ones were overwritten in the
    subscription's history, lost on the way, or taken but unreadable and so without number. The
    first message of a publisher says nothing about earlier ones.

    """

    def __init__(self) -> None:
        self._last: collections.OrderedDict[bytes, int] = collections.OrderedDict()
        self._unreadable = 0

    def note_unreadable(self) -> None:
        """Note a taken message whose publisher and number are unknown."""
        self._unreadable += 1

    def missing_before(self, publisher: bytes, sequence: int) -> int:
        """Return how many messages are missing before a taken one."""
        last = self._last.pop(publisher, None)
        self._last[publisher] = sequence
        if len(self._last) > _MOST_PUBLISHERS:
            self._last.popitem(last=False)
        if last is None or sequence <= last:
            self._unreadable = 0
            return 0
        missing = sequence - last - 1
        known = min(missing, self._unreadable)
        self._unreadable -= known
        return missing - known


class ReportedLosses:
    """Splits what is missing into what the middleware reports as lost, and the rest."""

    def __init__(self) -> None:
        self._unsettled = 0

    def split(self, missing: int, reported: int) -> tuple[int, int]:
        """
        Return (lost on the way, overwritten in our own history); the sum is `missing`.

        Parameters
        ----------
        missing
            Messages by their numbers.
        reported
            Losses that the middleware reported since the last call.

        """
        self._unsettled += reported
        lost = min(missing, self._unsettled)
        self._unsettled -= lost
        return lost, missing - lost
