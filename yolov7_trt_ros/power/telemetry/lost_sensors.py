"""LostSensors: which sensors of temperature answered before and do not any more."""

from __future__ import annotations

from collections.abc import Collection
import re

_GATED = re.compile('(?:gpu|cv)', re.IGNORECASE)  # parts without power while idle


class LostSensors:
    """Remembers the sensors of one board; one that is lost may be the hottest."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def find(self, answering: Collection[str], gated: Collection[str] = ()) -> tuple[str, ...]:
        """
        Return the names of the lost sensors.

        Parameters
        ----------
        answering
            Names of the sensors with a temperature.
        gated
            Names of those whose part is said to be without power: they are not lost.

        """
        self._known |= set(answering)
        gone = self._known - set(answering) - set(gated)
        return tuple(sorted(name for name in gone if not _GATED.match(name)))


def lost_text(names: tuple[str, ...]) -> str:
    """Return a text about lost sensors, '' for none."""
    return f'no temperature any more from {", ".join(names)}' if names else ''
