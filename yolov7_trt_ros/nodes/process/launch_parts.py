"""Shared parts of the launch files: arguments, and the node made from them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
import difflib
import logging
import os
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.parameter_descriptions import ParameterValue
import yaml

from yolov7_trt_ros.core.topics import matching_topics
from yolov7_trt_ros.errors import ModelFormatError, SettingError
from yolov7_trt_ros.parent_process import ends_with_this_process
from yolov7_trt_ros.plain_file import open_plain_file

PACKAGE = 'yolov7_trt_ros'
COMMON = {
    'namespace': ('', 'namespace of the node'),
    'use_sim_time': ('false', 'take time from /clock'),
    'respawn': ('false', 'restart a process when it ends'),
    'log_level': ('info', 'log level: debug, info, warn, error or fatal'),
}
"""Arguments of every launch file: default and meaning."""

NODE = ('params_file', 'name', *COMMON)
"""Arguments of a launch file that starts a node."""

RESPAWN_DELAY_S = 2.0
LOG_LEVELS = ('debug', 'info', 'warn', 'error', 'fatal')
_UNREADABLE = (
    OSError, ModelFormatError, yaml.YAMLError, ValueError, AttributeError, TypeError,
    RecursionError,
)
"""Errors of YAML files: PyYAML passes on those of dates, of large numbers and of deep nesting."""
_NEARLY = 0.8
"""Similarity to a declared name, of 1, from which on a name counts as misspelt."""


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
    """Declare an argument for each parameter of a table; an empty one changes nothing."""
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
    """
    Whether an argument is `true`, in upper or lower case.

    Raises
    ------
    SettingError
        It is not `false` either.

    """
    return bool(read_argument(name, value(context, name), bool))


def read_argument(name: str, text: str, value_type: type) -> Any:
    """
    Return an argument in its type.

    Raises
    ------
    SettingError
        The text has another type.

    """
    if value_type is bool:
        known: dict[str, Any] = {'true': True, 'false': False}
        if text.lower() in known:
            return known[text.lower()]
        raise SettingError(f'launch argument {name} must be true or false, got {text!r}')
    try:
        return value_type(text)
    except ValueError:
        words = {int: 'an integer', float: 'a number'}[value_type]
        raise SettingError(f'launch argument {name} must be {words}, got {text!r}') from None


def warn_of_misspelt(context: Any, declared: Collection[str]) -> None:
    """
    Warn of each given argument that is similar to a declared one.

    Launch accepts any argument, and a launch file that includes this one may have others.

    """
    for name in getattr(context, 'launch_configurations', {}):
        near = difflib.get_close_matches(name, declared, 1, cutoff=_NEARLY)
        if near and name not in declared:
            logging.getLogger('launch').warning(  # launch formats no arguments
                f'no launch argument is called {name!r}, did you mean {near[0]!r}?'
            )


def node_settings(
    context: Any, executable: str, table: Mapping[str, tuple[type, str]], **parameters: Any
) -> dict[str, Any]:
    """
    Return the arguments of a Node or LifecycleNode, which ends whenever the launch ends.

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

    Raises
    ------
    SettingError
        An argument is not of its type; the message names it.

    """
    given: dict[str, Any] = {}
    for name, (value_type, _) in table.items():
        text = value(context, name)
        if text:
            read_argument(name, text, value_type)
            given[name] = ParameterValue(LaunchConfiguration(name), value_type=value_type)
    given['use_sim_time'] = is_true(context, 'use_sim_time')
    log_level = value(context, 'log_level')
    if log_level.lower() not in LOG_LEVELS:
        raise SettingError(
            f'launch argument log_level must be one of {", ".join(LOG_LEVELS)}, got {log_level!r}'
        )
    file = value(context, 'params_file')
    if not os.path.isfile(file):
        raise SettingError(f'launch argument params_file: no such file: {file}')
    return {
        'package': PACKAGE,
        'executable': executable,
        'name': value(context, 'name'),
        'namespace': value(context, 'namespace'),
        'parameters': [file, {**given, **parameters}],
        'arguments': ['--ros-args', '--log-level', log_level],
        'respawn': is_true(context, 'respawn'),
        'respawn_delay': RESPAWN_DELAY_S,
        'output': 'screen',
        'additional_env': ends_with_this_process(),
    }


def file_parameters(file: str, node: str, namespace: str) -> dict[str, Any]:
    """
    Return the parameters of a parameter file for a node, as rcl reads them.

    Raises
    ------
    SettingError
        The file is missing, or is not a parameter file.

    """
    try:
        with open_plain_file(Path(file)) as stream:
            entries = yaml.safe_load(stream) or {}
        full = f'/{namespace.strip("/")}/{node}'.replace('//', '/')
        found: dict[str, Any] = {}
        for name, entry in entries.items():
            if matching_topics(f'/{name.lstrip("/")}', [full]):
                found |= (entry or {}).get('ros__parameters') or {}
    except _UNREADABLE as exc:
        reason = ' '.join(str(exc).split())
        raise SettingError(f'parameter file {file} cannot be read: {reason}') from exc
    return found
