"""PowerSettings: the parameters of the power node as one frozen value, replaced as a whole."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses

from yolov7_trt_ros.power.governor.inputs import Limits

ParameterValue = float | int | bool | str


@dataclasses.dataclass(frozen=True)
class PowerSettings:
    """
    The parameters by their names, which docs/power.md describes.

    Attributes
    ----------
    deadlines_ms
        The deadlines in `topic_deadlines_ms`, by the full names of the topics; not a parameter.

    """

    power_mode: str
    jetson_clocks: bool
    gpu_max_freq_mhz: float
    cpu_max_freq_mhz: float
    fan_profile: str
    governor: str
    deadline_ms: float
    topic_deadlines_ms: str
    power_budget_w: float
    temperature_limit_c: float
    sample_rate_hz: float
    restore_on_exit: bool
    dry_run: bool
    detections_topics: str
    tool_timeout_s: float
    emulate: str
    prometheus_file: str
    deadlines_ms: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def has_governor(self) -> bool:
        """Whether a governor sets the clock of the GPU."""
        return self.governor != 'off'

    def limits(self) -> Limits:
        """
        Return the limits for the governor.

        Raises
        ------
        SettingError
            A limit is not positive.

        """
        return Limits(
            governor=self.governor,
            deadline_ms=self.deadline_ms,
            power_budget_w=self.power_budget_w,
            temperature_limit_c=self.temperature_limit_c or None,
            deadlines_ms=self.deadlines_ms,
        )
