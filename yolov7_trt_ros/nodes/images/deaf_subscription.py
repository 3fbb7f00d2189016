"""When to make a subscription anew that hears nothing of a publisher that is there."""

from __future__ import annotations

from yolov7_trt_ros.core.units import NS_PER_S

FIRST_PAUSE_NS = 5 * NS_PER_S
LONGEST_PAUSE_NS = 80 * NS_PER_S


class RenewalPauses:
    """
    Tells when, with pauses that double, for a camera may also be silent for long.

    Fast DDS 2.6 (Humble) leaves a best-effort subscription deaf for ever after some dozens of
    short-lived publishers of large images; one that is made anew hears at once.

    """

    def __init__(self) -> None:
        self._pause_ns = FIRST_PAUSE_NS
        self._due_ns = FIRST_PAUSE_NS

    def reset(self) -> None:
        """Begin with the first pause again: something was heard."""
        self._pause_ns = self._due_ns = FIRST_PAUSE_NS

    def is_due(self, silent_ns: int) -> bool:
        """Whether to make it anew after a silence so long; once for each pause."""
        if silent_ns < self._due_ns:
            return False
        self._pause_ns = min(2 * self._pause_ns, LONGEST_PAUSE_NS)
        self._due_ns = silent_ns + self._pause_ns
        return True
