"""What the launch files of this package have in common: arguments, and a node made from them."""

from __future__ import annotations

from collections.abc import Mapping
import os
from typing import Any

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.parameter_descriptions import ParameterValue

from yolov7_trt_ros.parent_process import ends_with_this_process

PACKAGE = 'yolov7_trt_ros'
COMMON = {
    'namespace': ('', 'namespace of the node'),
    'use_sim_time': ('false', 'take time from /clock'),
    'respawn': ('false', 'start a process again when it ends'),
    'log_level': ('info', 'debug, info, warn, error or fatal'),
}
"""Arguments of every launch file: default and meaning."""

RESPAWN_DELAY_S = 2.0


def share_file(*parts: str) -> str:
    """Return the path of a file that is installed with the package."""
    return os.path.join(get_package_share_directory(PACKAGE), *parts)


def declare(arguments: Mapping[str, tuple[str, str]]) -> list[Any]:
    """Declare launch arguments, each with its default and its meaning."""
    return [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in arguments.items()
    ]


def declare_parameters(table: Mapping[str, tuple[type, str]]) -> list[Any]:
    """Declare an argument for each parameter of a table; one left empty leaves it alone."""
    return declare({
        name: ('', f'{text}; empty: params_file') for name, (_, text) in table.items()
    })


def declare_node(name: str, params_file: str) -> list[Any]:
    """Declare the arguments that every node has, with its name and file by default."""
    return declare({
        'params_file': (share_file('config', params_file), 'parameters of the node'),
        'name': (name, 'node name'),
        **COMMON,
    })


def value(context: Any, name: str) -> str:
    """Return the value of an argument."""
    return str(LaunchConfiguration(name).perform(context))


def is_true(context: Any, name: str) -> bool:
    """Whether an argument is `true`, in whatever case."""
    return value(context, name).lower() == 'true'


def node_settings(
    context: Any, executable: str, table: Mapping[str, tuple[type, str]], **parameters: Any
) -> dict[str, Any]:
    """
    Return what a Node or LifecycleNode is made with; it ends with the launch, however that ends.

    Parameters
    ----------
    context
        Of the launch; it holds the values of the arguments.
    executable
        Name of the node's program.
    table
        Parameters that are arguments, with their types.
    **parameters
        Further ones. What is not empty on the command line, and these, win over the file.

    """
    given = {
        name: ParameterValue(LaunchConfiguration(name), value_type=value_type)
        for name, (value_type, _) in table.items() if value(context, name)
    }
    given['use_sim_time'] = is_true(context, 'use_sim_time')
    return {
        'package': PACKAGE,
        'executable': executable,
        'name': value(context, 'name'),
        'namespace': value(context, 'namespace'),
        'parameters': [value(context, 'params_file'), {**given, **parameters}],
        'arguments': ['--ros-args', '--log-level', value(context, 'log_level')],
        'respawn': is_true(context, 'respawn'),
        'respawn_delay': RESPAWN_DELAY_S,
        'output': 'screen',
        'additional_env': ends_with_this_process(),
    }
