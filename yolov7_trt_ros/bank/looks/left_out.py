"""LeftOut: what a second look or tiles are not used for, with the reasons, for people."""

from __future__ import annotations

from collections.abc import Callable

_MOST_SIZES = 8


class LeftOut:
    """
    Collects reasons, each once; for the detection thread, but `status` for any.

    Parameters
    ----------
    warn
        Called once with each.

    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._reasons: tuple[str, ...] = ()
        self._sizes: set[tuple[int, int]] = set()

    def note(self, reason: str) -> None:
        """Add a reason; the number of different ones must be bounded."""
        if reason not in self._reasons:
            self._reasons = (*self._reasons, reason)
            self._warn(reason)

    def note_size(self, what: str, source_wh: tuple[int, int], reason: str) -> None:
        """Add that images of a size get no such thing; of many sizes the first ones are named."""
        if source_wh in self._sizes:
            return
        if len(self._sizes) < _MOST_SIZES:
            self._sizes.add(source_wh)
            self.note('images of {}x{} get no {}: {}'.format(*source_wh, what, reason))
        else:
            self.note(f'images of other sizes get no {what}: {reason}')

    def status(self) -> dict[str, str]:
        """Return the reasons for the status of a detector, nothing without any."""
        return {'left out': '; '.join(self._reasons)} if self._reasons else {}
