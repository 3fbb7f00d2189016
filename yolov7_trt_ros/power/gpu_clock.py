"""
GpuClock: the clock of the GPU as the governor uses it, on whatever machine.

On a board through PowerControl; where the minimum cannot be written, the clock is only capped, and
`note` says so.

"""

from __future__ import annotations

from typing import Protocol

from yolov7_trt_ros.errors import PowerError
from yolov7_trt_ros.power.control import PowerControl


class GpuClock(Protocol):
    """
    Caps the clock of a GPU, and holds it below the cap.

    To be called away from a ROS executor: the tools behind it may take long.

    """

    @property
    def note(self) -> str:
        """Say what is not as it was asked for; '' for nothing."""

    @property
    def changed(self) -> tuple[str, ...]:
        """What `restore` would put back."""

    def frequencies_mhz(self) -> tuple[float, ...]:
        """Return the clocks there are, rising."""

    def set_cap(self, mhz: float | None) -> float:
        """Limit the clock; None takes the limit away. Returns the highest allowed now, MHz."""

    def hold(self, mhz: float | None) -> float:
        """Keep the clock at one frequency below the cap; None lets go of it."""

    def restore(self) -> None:
        """Put back what was before."""

    def close(self) -> None:
        """Let go of what is open; nothing is put back."""


class BoardGpuClock:
    """
    The GPU of a Jetson.

    Parameters
    ----------
    control
        Makes the changes; it restores and closes itself.

    """

    def __init__(self, control: PowerControl) -> None:
        self._control = control
        self._note = ''

    @property
    def note(self) -> str:
        """Why the clock is capped and not held; '' where it is held."""
        return self._note

    @property
    def changed(self) -> tuple[str, ...]:
        """Nothing: the control knows."""
        return ()

    def frequencies_mhz(self) -> tuple[float, ...]:
        """Return the clocks of this power mode, rising."""
        return self._control.gpu_frequencies_mhz()

    def set_cap(self, mhz: float | None) -> float:
        """Limit the clock; errors as of `PowerControl.set_max_frequency`."""
        return self._control.set_max_frequency('gpu', mhz)

    def hold(self, mhz: float | None) -> float:
        """
        Hold the clock, or cap it until the next release where its minimum cannot be written.

        Raises
        ------
        PowerError
            It cannot be capped either.

        """
        if mhz is None:
            self._note = ''
        if mhz is None or not self._note:
            try:
                return self._control.hold_frequency('gpu', mhz)
            except PowerError as exc:
                if mhz is None:
                    raise
                note = f'the clock is only capped, it may go below: {exc}'
        else:
            note = self._note
        now_mhz = self._control.hold_frequency('gpu', mhz, cap_only=True)
        self._note = note
        return now_mhz

    def restore(self) -> None:
        """Nothing: the control does."""

    def close(self) -> None:
        """Nothing: the control does."""
