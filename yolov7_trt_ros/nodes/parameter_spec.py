"""ParameterSpec: one node parameter, the source of its descriptor, check and docs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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

from yolov7_trt_ros.core.plain_text import one_line
from yolov7_trt_ros.engine.value_spec import ValueSpec
from yolov7_trt_ros.errors import SettingError


@dataclasses.dataclass(frozen=True)
class ParameterSpec(ValueSpec):
    """
    One parameter: a ValueSpec, and when it may change.

    Attributes
    ----------
    runtime
        May change while the node is configured or active.
    start_only
        May only be set at start: command line, launch or parameter file.
    per_topic
        A topic may override the value: `topics.<image topic>.<name>`.
    otherwise
        Constraint in the descriptor of one that may not change.

    """

    runtime: bool = False
    start_only: bool = False
    per_topic: bool = False
    otherwise: str = 'changes take effect at the configure transition'

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
