"""
GpuClock: the clock of a GPU, or its power limit, as the governor sets it on any machine.

On a board through a BoardControl: if the minimum cannot be written, the clock is only capped, and
`note` says so. `power.nvml.gpu` has the GPU of a PC.

"""

from __future__ import annotations

from typing import Protocol

from yolov7_trt_ros.errors import PowerError
from yolov7_trt_ros.power.board_control import BoardControl


class GpuClock(Protocol):
    """
    Caps the clock of a GPU, and holds it below the cap.

    If the clock cannot be held, the steps are those of the power limit. Not to be called in a ROS
    executor: the tools behind it may be slow.

    """

    @property
    def unit(self) -> str:
        """Return the unit of the steps: MHz or W; known after the first call."""

    @property
    def note(self) -> str:
        """Return how the result differs from the request; '' for not at all."""

    @property
    def changed(self) -> tuple[str, ...]:
        """Return the names of the changes to restore."""

    @property
    def journal_problem(self) -> str:
        """Return the defect of its own journal that was found, '' for none."""

    def adopt(self) -> tuple[str, ...]:
        """Take over what a process that has ended has left, and return what that is."""

    def steps(self) -> tuple[float, ...]:
        """Return the available steps, ascending."""

    def set_cap(self, mhz: float | None) -> float:
        """Limit the clock; None removes the limit. Returns the highest step allowed now."""

    def hold(self, step: float | None) -> float:
        """Hold one step, at most the cap; None releases it. Returns as `set_cap`."""

    def restore(self) -> None:
        """Put back what was before."""

    def keep(self) -> None:
        """Keep our change: it is not to be restored."""

    def close(self) -> None:
        """Release what is open; this restores nothing."""


class BoardGpuClock:
    """
    The GPU of a Jetson.

    Parameters
    ----------
    control
        Makes the changes; it restores and closes itself.

    """

    def __init__(self, control: BoardControl) -> None:
        self._control = control
        self._note = ''

    @property
    def unit(self) -> str:
        """MHz."""
        return 'MHz'

    @property
    def note(self) -> str:
        """Why the clock is capped and not held; '' if it is held."""
        return self._note

    @property
    def changed(self) -> tuple[str, ...]:
        """Return nothing: the control takes over the changes."""
        return ()

    @property
    def journal_problem(self) -> str:
        """Return '': the control has the journal."""
        return ''

    def adopt(self) -> tuple[str, ...]:
        """Nothing: the control does."""
        return ()

    def steps(self) -> tuple[float, ...]:
        """Return the clocks of this power mode, rising."""
        return self._control.gpu_frequencies_mhz()

    def set_cap(self, mhz: float | None) -> float:
        """Limit the clock; errors as `PowerControl.set_max_frequency`."""
        return self._control.set_max_frequency('gpu', mhz)

    def hold(self, step: float | None) -> float:
        """
        Hold the clock, or cap it until the next release where its minimum cannot be written.

        Raises
        ------
        PowerError
            It cannot be capped either.

        """
        if step is None:
            self._note = ''
            return self._control.hold_frequency('gpu', None)
        note = self._note
        if not note:
            try:
                return self._control.hold_frequency('gpu', step)
            except PowerError as exc:
                note = f'the clock is only capped, it may go below: {exc}'
        now_mhz = self._control.hold_frequency('gpu', step, cap_only=True)
        self._note = note
        return now_mhz

    def restore(self) -> None:
        """Nothing: the control does."""

    def keep(self) -> None:
        """Nothing: the control does."""

    def close(self) -> None:
        """Nothing: the control does."""
