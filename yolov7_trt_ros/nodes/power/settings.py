"""BoardSettings: carries out what the parameters of the power node ask of the board."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yolov7_trt_ros.nodes.power.governor_loop import GovernorLoop
from yolov7_trt_ros.power.board_control import BoardControl
from yolov7_trt_ros.power.gpu_clock import GpuClock


class BoardSettings:
    """
    One method per kind of parameter; each returns a line about what holds now.

    To be called in the thread of the changes: the tools may take long, or hang.

    Parameters
    ----------
    control
        Changes the board.
    gpu
        Changes the clock of its GPU.
    governor
        Started and stopped here; a change of what the GPU may do starts it anew.

    """

    def __init__(self, control: BoardControl, gpu: GpuClock, governor: GovernorLoop) -> None:
        self._control, self._gpu, self._governor = control, gpu, governor

    def apply(self, name: str, values: Mapping[str, Any]) -> str:
        """
        Apply one parameter.

        Parameters
        ----------
        name
            One of `power_parameters.BOARD_PARAMETERS`.
        values
            All parameters, this one with its new value.

        Raises
        ------
        Yolov7TrtError
            It was not read back; the message says why and what to do.

        """
        value = values[name]
        if name == 'power_mode':
            return self._set_mode(value, values)
        if name == 'fan_profile':
            return self._control.set_fan_profile(value) if value else 'left as it is'
        if name == 'jetson_clocks':
            return f'clocks locked: {self._control.set_jetson_clocks(value)}'
        if name == 'cpu_max_freq_mhz':
            return f'CPU at most {self._control.set_max_frequency("cpu", value or None):g} MHz'
        return self._set_gpu(values)

    def _set_mode(self, mode: str, values: Mapping[str, Any]) -> str:
        if not mode:
            return 'left as it is'
        now = self._control.set_mode(mode)
        if values['governor'] != 'off':
            self._set_gpu(values)
        return f'{now.name} ({now.mode_id})'

    def _set_gpu(self, values: Mapping[str, Any]) -> str:
        """Cap the clock, and leave what is below the cap to the governor, if it is on."""
        self._governor.stop()
        self._gpu.hold(None)
        highest = self._gpu.set_cap(values['gpu_max_freq_mhz'] or None)
        if values['governor'] == 'off':
            return f'GPU at most {highest:g} {self._gpu.unit}'
        steps = self._gpu.steps()
        allowed = [step for step in steps if step <= highest] or list(steps[:1])
        for step in allowed[-1:]:  # shows whether this user may
            self._gpu.hold(step)
        self._governor.start(allowed, self._gpu.unit)
        return f'{values["governor"]}, from {allowed[0]:g} to {allowed[-1]:g} {self._gpu.unit}'
