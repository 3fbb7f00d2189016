"""When to recreate a subscription that receives nothing although there is a publisher."""

from __future__ import annotations

from yolov7_trt_ros.core.units import NS_PER_S

FIRST_PAUSE_NS = 5 * NS_PER_S
LONGEST_PAUSE_NS = 80 * NS_PER_S


class RenewalPauses:
    """
    Decides with pauses that double, because a camera may also be silent for long.

    In Fast DDS 2.6 (Humble), after some dozens of short-lived publishers of large images a
    best-effort subscription never receives again; a new subscription receives at once.

    """

    def __init__(self) -> None:
        self._pause_ns = FIRST_PAUSE_NS
        self._due_ns = FIRST_PAUSE_NS

    def reset(self) -> None:
        """Begin with the first pause again: something was received."""
        self._pause_ns = self._due_ns = FIRST_PAUSE_NS

    def is_due(self, silent_ns: int) -> bool:
        """Whether to recreate it after this time of silence; once for each pause."""
        if silent_ns < self._due_ns:
            return False
        self._pause_ns = min(2 * self._pause_ns, LONGEST_PAUSE_NS)
        self._due_ns = silent_ns + self._pause_ns
        return True
