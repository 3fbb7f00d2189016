"""Parameters of the power node: one table for descriptors, checks, config and docs/power.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node

from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.nodes.parameter_spec import ParameterSpec
from yolov7_trt_ros.nodes.power.deadlines import LEAST_MS, MOST_MS, read_deadlines
from yolov7_trt_ros.nodes.power.power_settings import ParameterValue, PowerSettings
from yolov7_trt_ros.nodes.prometheus_file import PROMETHEUS_FILE
from yolov7_trt_ros.power.defaults import (
    COMMAND_TIMEOUT_S,
    LONGEST_TIMEOUT_S,
    SHORTEST_TIMEOUT_S,
)
from yolov7_trt_ros.power.governor.inputs import GOVERNORS

_FIXED = 'fixed at start'

PARAMETERS = (
    ParameterSpec(
        'power_mode', '', 'Power mode, by name or id. Empty: no change.', runtime=True
    ),
    ParameterSpec(
        'jetson_clocks', False,
        'Lock every clock at the highest that the mode allows. false restores the previous '
        'state; at start it changes nothing.', runtime=True,
    ),
    ParameterSpec(
        'gpu_max_freq_mhz', 0.0,
        'Highest GPU clock in MHz, rounded down to an available one. 0: the highest of the mode.',
        0.0, 10000.0, runtime=True,
    ),
    ParameterSpec(
        'cpu_max_freq_mhz', 0.0, 'The same for the CPU.', 0.0, 10000.0, runtime=True,
    ),
    ParameterSpec(
        'fan_profile', '', 'Fan profile. Empty: no change.', runtime=True
    ),
    ParameterSpec(
        'governor', 'off',
        'Set the GPU clock automatically: to the one of least power that meets deadline_ms, or '
        'to the highest that stays under power_budget_w.', choices=GOVERNORS, runtime=True,
    ),
    ParameterSpec(
        'deadline_ms', 33.0,
        'For the governor: longest time from the stamp of an image to its detections, in ms.',
        LEAST_MS, MOST_MS, runtime=True,
    ),
    ParameterSpec(
        'topic_deadlines_ms', '',
        'Own deadlines of single topics: a list of `topic:ms`, or one string with commas. A '
        'topic is one of detections_topics, or the image topic of its detections.',
        reads=read_deadlines, runtime=True,
    ),
    ParameterSpec(
        'power_budget_w', 15.0, 'For the governor: highest power of the whole board, in W.',
        0.1, 1000.0, runtime=True,
    ),
    ParameterSpec(
        'temperature_limit_c', 85.0,
        'For the governor: temperature of the hottest sensor, in degrees Celsius, from which on '
        'the clock is lowered. 0: no limit.', 0.0, 150.0, runtime=True,
    ),
    ParameterSpec(
        'sample_rate_hz', 2.0,
        'Samples per second. The power of a Jetson is an average over 0.4 s.', 0.1, 50.0,
        runtime=True,
    ),
    ParameterSpec(
        'restore_on_exit', True, 'Restore at exit what this node has changed.', runtime=True
    ),
    ParameterSpec(
        'dry_run', False, 'Change nothing; log what would be done.', otherwise=_FIXED
    ),
    ParameterSpec(
        'detections_topics', 'detections',
        'Topics of vision_msgs/Detection2DArray for frame counts and latencies: a list, or one '
        'string with commas. Empty: none.', otherwise=_FIXED,
    ),
    ParameterSpec(
        'tool_timeout_s', COMMAND_TIMEOUT_S,
        'Longest time for one tool of the board, in s. Then it is ended.',
        SHORTEST_TIMEOUT_S, LONGEST_TIMEOUT_S, otherwise=_FIXED,
    ),
    ParameterSpec(
        'emulate', '',
        'Board to emulate instead of this machine: name, or path of an nvpmodel.conf.',
        otherwise=_FIXED,
    ),
    PROMETHEUS_FILE,
)
"""The parameters of the power node that can be set."""

READ_ONLY = {
    'board': 'Which board this is.',
    'l4t_release': 'Its release of Linux for Tegra; empty if unknown.',
    'available_power_modes': 'Its power modes, each as `id name`.',
}
"""Read-only parameters, and their descriptions."""

BOARD_PARAMETERS = (
    'power_mode', 'fan_profile', 'jetson_clocks', 'cpu_max_freq_mhz', 'gpu_max_freq_mhz',
    'governor',
)
"""Parameters that change the board, in the order in which start values are applied."""

BY_NAME = {spec.name: spec for spec in PARAMETERS}


def declare_facts(node: Node, facts: Mapping[str, str | Sequence[str]]) -> None:
    """Declare the read-only parameters with their values."""
    for name, value in facts.items():
        found = value if isinstance(value, str) else list(value)
        descriptor = ParameterDescriptor(description=READ_ONLY[name], read_only=True)
        node.declare_parameter(name, found, descriptor, ignore_override=True)


def check_changes(
    changes: Mapping[str, Any], settings: PowerSettings | None = None
) -> dict[str, ParameterValue]:
    """
    Check parameters to be set; names that are not ours (use_sim_time) are ignored.

    Parameters
    ----------
    changes
        The parameters to be set.
    settings
        The current parameters: one that is fixed at start may be set to its current value.

    Raises
    ------
    SettingError
        A value is invalid, is fixed at start, or would have to be undone if another one failed.

    """
    checked: dict[str, ParameterValue] = {}
    for name, value in changes.items():
        spec = BY_NAME.get(name)
        if spec is None:
            continue
        if not spec.runtime and (
            settings is None or spec.check(value) != getattr(settings, name)
        ):
            raise SettingError(f'{name} is fixed at start: start the node with -p {name}:=VALUE')
        checked[name] = spec.check(value)
    board = [name for name in checked if name in BOARD_PARAMETERS]
    if len(board) > 1:
        raise SettingError(
            f'{" and ".join(board)} cannot be set as one atomic change, since one may fail after '
            'the other was made: set them one after the other'
        )
    return checked
