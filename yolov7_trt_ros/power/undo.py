"""What was changed, and how each of it is put back."""

from __future__ import annotations

from collections.abc import Callable

from yolov7_trt_ros.errors import PowerError
from yolov7_trt_ros.power.root_access import Report


class UndoList:
    """
    The way back from each kind of change; for the caller's thread or lock.

    Parameters
    ----------
    report
        Is told what could not be put back, a line each.

    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._undo: dict[str, Callable[[], object]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Return what would be put back, in the order of the first change of each."""
        return tuple(self._undo)

    def remember(self, name: str, undo: Callable[[], object]) -> None:
        """Remember how to undo the first change of a kind; for later ones that stays."""
        self._undo.setdefault(name, undo)

    def forget(self, name: str) -> None:
        """Forget a change that is undone already; one that is not known is passed over."""
        self._undo.pop(name, None)

    def run(self) -> None:
        """
        Put everything back, latest first; what could not be stays for the next call.

        Raises
        ------
        PowerError
            Something could not be put back; everything else was.

        """
        failures = []
        for name, undo in reversed(list(self._undo.items())):
            try:
                undo()
            except PowerError as exc:
                failures.append(exc)
                self._report(f'could not put back {name}: {exc}')
            else:
                del self._undo[name]
        if len(failures) == 1:
            raise failures[0]
        if failures:
            raise PowerError('could not put back: ' + '\n'.join(map(str, failures)))
