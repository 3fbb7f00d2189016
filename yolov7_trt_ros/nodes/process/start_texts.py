"""The help text of a node, and the reason when it cannot start."""

from __future__ import annotations

from collections.abc import Sequence
import re
import textwrap

from rclpy.exceptions import ParameterException
from rclpy.node import Node

from yolov7_trt_ros.core.plain_text import one_line
from yolov7_trt_ros.errors import Yolov7TrtError
from yolov7_trt_ros.nodes.one_line import describe_error
from yolov7_trt_ros.nodes.parameter_spec import ParameterSpec, unknown_parameter

_HELP = ('-h', '--help')
_WIDTH = 99
_OVERRIDE = re.compile(r"override rule: '(-p|--param) ([^:]+):=(.*)'\. Error: (.*)", re.DOTALL)
_PARAMETER_FILE = re.compile(r"--params-file ([^']*)'?\. Error: (.*)")
_LINE = re.compile(r',? ?(?:do not belong )?at line(?:_num)? (\d+)')
# no HOME, a folder that cannot be made, a file that cannot be opened in it
_LOGS = ('initialize logging', 'Failed opening file')
_ONE_TYPE = 'Sequence should be of same type'
_VALUE_TYPE = re.compile(r"Value type '(\w+)'")


def wants_help(args: Sequence[str]) -> bool:
    """Whether the command line asks for help."""
    return any(each in _HELP for each in args)


def help_text(name: str, about: str, table: Sequence[ParameterSpec]) -> str:
    """
    Return what `--help` prints.

    Parameters
    ----------
    name
        Of the program.
    about
        The docstring of its module.
    table
        Its parameters.

    """
    given = f'{name} --ros-args -p NAME:=VALUE ... [-r FROM:=TO] [--params-file FILE]'
    parts = [about.strip(), f'usage: {given}', 'parameters:']
    for spec in table:
        parts.append(f'  {spec.name}  ({"; ".join(_facts(spec))})')
        parts.append(textwrap.fill(
            spec.description, _WIDTH, initial_indent=' ' * 6, subsequent_indent=' ' * 6
        ))
    return '\n\n'.join(parts[:3]) + '\n' + '\n'.join(parts[3:])


def _facts(spec: ParameterSpec) -> list[str]:
    facts = [spec.type_text(), f'default {spec.default!r}']
    if spec.choices:
        facts.append(f'one of {", ".join(spec.choices)}')
    if spec.minimum is not None:
        facts.append(f'within {spec.range_text()}')
    return facts


def explain_start(error: BaseException) -> str:
    """Return in one line why a node cannot start."""
    if isinstance(error, (Yolov7TrtError, ParameterException)):
        return one_line(error)
    text = describe_error(error, 2000)
    if any(each in text for each in _LOGS):
        return one_line(
            f'{text}; set ROS_LOG_DIR to a folder that this user may write in, or disable log '
            'files: --ros-args --disable-external-lib-logs'
        )
    if given := _OVERRIDE.search(text):
        option, name, value, reason = given.groups()
        return one_line(
            f'{option} {name}:={value}: the value is not valid YAML ({reason.strip()}); with '
            f"""quotes it is: {option} "{name}:='{value}'" """.rstrip()
        )
    file = _PARAMETER_FILE.search(text)
    return one_line(text if file is None else _explain_file(*file.groups()))


def _explain_file(file: str, text: str) -> str:
    line = _LINE.search(text)
    place = f'{file}, line {line[1]}' if line else file
    reason = _LINE.sub('', text).rstrip(' ,')
    if _ONE_TYPE in text:
        kind = _VALUE_TYPE.search(text)
        reason = (
            f'the values of a list must have one type, found {kind[1] if kind else "another"} '
            'after others; quote them all (yes, no, on and off are booleans, 2 is an integer)'
        )
    elif text.startswith('No value'):
        reason = "a parameter without a value; write '' for an empty text"
    return f'parameter file {place}: {reason}'


def check_given_parameters(node: Node) -> None:
    """Warn of unknown parameters given at start."""
    given = sorted(getattr(node, '_parameter_overrides', {}))
    known = getattr(node, '_parameters', {})
    for name in given:
        if name not in known:
            node.get_logger().warning(unknown_parameter(name, known))
