"""ParameterSpec: one node parameter, the source of its descriptor, check and docs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
import contextlib
import dataclasses
import difflib
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.nodes.one_line import one_line

MOST_CHARACTERS = 65536
"""Maximum length of a string parameter."""


@dataclasses.dataclass(frozen=True)
class ParameterSpec:
    """
    One parameter; its type is that of its default.

    Attributes
    ----------
    name, default, description
        As `ros2 param describe` shows them; the description names the unit.
    minimum, maximum
        Inclusive range of numbers.
    choices
        Accepted texts; empty accepts any.
    reads
        Function that must accept a value, if range and choices are not enough: raises
        SettingError otherwise.
    runtime
        May change while the node is configured or active.
    start_only
        May only be set at start: command line, launch or parameter file.
    per_topic
        A topic may override the value: `topics.<image topic>.<name>`.
    separator
        Joins the items of a list of strings.
    otherwise
        Constraint in the descriptor of one that may not change.

    """

    name: str
    default: float | int | bool | str
    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    reads: Callable[[Any], object] | None = None
    runtime: bool = False
    start_only: bool = False
    per_topic: bool = False
    separator: str = ','
    otherwise: str = 'changes take effect at the configure transition'

    def check(self, value: Any) -> float | int | bool | str:
        """
        Return `value` in this parameter's type.

        Integers are accepted for doubles; integers and lists of strings or integers (joined by
        the separator) for strings; false and true for `off` and `on`, as YAML reads them.

        Raises
        ------
        SettingError
            Wrong type or out of range; says what was expected and found.

        """
        if isinstance(self.default, str):
            return self._check_text(value)
        if isinstance(self.default, bool) or isinstance(value, bool):
            if type(value) is not type(self.default):
                raise self._wrong_type(value)
            self._try_to_read(value)
            return bool(value)
        if isinstance(self.default, float) and isinstance(value, int):
            value = float(value)
        if type(value) is not type(self.default):
            raise self._wrong_type(value)
        return self._check_range(value)

    def _check_text(self, value: Any) -> str:
        if isinstance(value, bool) and _OFF_ON[value] in self.choices:
            return _OFF_ON[value]
        items = value if isinstance(value, (list, tuple)) else [value]
        if any(isinstance(item, bool) or not isinstance(item, (str, int)) for item in items):
            raise self._wrong_type(value)
        text = self.separator.join(map(str, items))
        if len(text) > MOST_CHARACTERS:
            raise SettingError(
                f'{self.name} may have {MOST_CHARACTERS} characters, got {len(text)}'
            )
        if self.choices and text not in self.choices:
            raise SettingError(
                f'{self.name} must be one of {", ".join(self.choices)}, '
                f'got {one_line(repr(text), 100)}'
            )
        self._try_to_read(text)
        return text

    def _try_to_read(self, value: float | int | str) -> None:
        if self.reads is None:
            return
        try:
            self.reads(value)
        except SettingError as exc:
            if self.name in str(exc):
                raise
            raise SettingError(f'{self.name}: {exc}') from exc

    def _check_range(self, value: float | int) -> float | int:
        low, high = self.minimum, self.maximum
        # written so that NaN fails
        if not ((low is None or value >= low) and (high is None or value <= high)):
            raise SettingError(f'{self.name} must be within {self.range_text()}, got {value}')
        self._try_to_read(value)
        return value

    def range_text(self) -> str:
        """Return `0.0..1.0`, open if there is no limit."""
        ends = ('' if end is None else _shortest(end) for end in (self.minimum, self.maximum))
        return '..'.join(ends)

    def type_text(self) -> str:
        """Return the ROS type: double, integer, bool or string."""
        return {float: 'double', int: 'integer', bool: 'bool', str: 'string'}[type(self.default)]

    def descriptor(self) -> ParameterDescriptor:
        """Return the descriptor; `check` checks the type, so that integers pass for doubles."""
        descriptor = ParameterDescriptor(
            description=self.description, dynamic_typing=True, read_only=self.start_only
        )
        constraints = [f'one of: {", ".join(self.choices)}'] if self.choices else []
        if not self.runtime:
            constraints.append(self.otherwise)
        descriptor.additional_constraints = '; '.join(constraints)
        if self.minimum is not None and self.maximum is not None:
            if isinstance(self.default, float):
                low, high = float(self.minimum), float(self.maximum)
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=low, to_value=high)
                ]
            else:
                descriptor.integer_range = [
                    IntegerRange(from_value=int(self.minimum), to_value=int(self.maximum), step=1)
                ]
        return descriptor

    def _wrong_type(self, value: Any) -> SettingError:
        article = 'an' if self.type_text() == 'integer' else 'a'
        found = f'{type(value).__name__} {one_line(repr(value), 100)}'
        if value is None:  # what ROS 2 makes of []
            found = "no value, as of an empty list; an empty text is ''"
        return SettingError(f'{self.name} must be {article} {self.type_text()}, got {found}')


_OFF_ON = ('off', 'on')


def _shortest(number: float | int) -> str:
    return str(number) if isinstance(number, int) else f'{number:g}'


class SteadyParameters(Node):
    """
    A node whose read-only parameters may be set to their present value.

    The answer for an unknown parameter names the nearest known one.

    """

    def set_parameters_atomically(
        self, parameter_list: list[Parameter[Any]]
    ) -> SetParametersResult:
        """Set what changes; see `rclpy.node.Node`."""
        for name in (each.name for each in parameter_list):
            if not self.may_have(name):
                reason = unknown_parameter(name, self._parameters)
                return SetParametersResult(successful=False, reason=reason)
        changes = [each for each in parameter_list if not self._is_fixed_so(each)]
        if parameter_list and not changes:
            return SetParametersResult(successful=True)
        return super().set_parameters_atomically(changes)

    def may_have(self, name: str) -> bool:
        """Whether a parameter may be set: it exists."""
        return bool(self.has_parameter(name))

    def _is_fixed_so(self, parameter: Parameter[Any]) -> bool:
        name = parameter.name
        return (
            self.has_parameter(name) and self.describe_parameter(name).read_only
            and self.get_parameter(name).get_parameter_value() == parameter.get_parameter_value()
        )


def unknown_parameter(name: str, known: Iterable[str]) -> str:
    """Return a message for an unknown parameter, with the nearest known name."""
    near = difflib.get_close_matches(name[:100], sorted(known), 1)
    hint = f', did you mean {near[0]!r}?' if near else ''
    return f'no parameter is called {one_line(name, 100)!r}{hint}'


def declare_parameters(node: Node, table: Sequence[ParameterSpec]) -> None:
    """Declare every parameter of a table with its descriptor."""
    for spec in table:
        node.declare_parameter(spec.name, spec.default, spec.descriptor())


def read_parameters(node: Node, table: Sequence[ParameterSpec]) -> dict[str, Any]:
    """
    Return the checked values of all parameters of a table.

    Raises
    ------
    SettingError
        A start-up value (command line or file) has a wrong type or is out of range.

    """
    return {spec.name: spec.check(node.get_parameter(spec.name).value) for spec in table}


def held_parameters(node: Node, table: Sequence[ParameterSpec]) -> dict[str, Any]:
    """Return what `read_parameters` does, but refused values as they were given."""
    held = {}
    for spec in table:
        held[spec.name] = node.get_parameter(spec.name).value
        with contextlib.suppress(SettingError):  # reported at configure
            held[spec.name] = spec.check(held[spec.name])
    return held
