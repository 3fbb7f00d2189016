"""
Parameters of one topic: `topics.<image topic>.<name>` overrides `<name>` of the node.

They exist only once they are set, so that topics can be added and removed. Their values are stored
as parameters of the node, nowhere else.

"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
import difflib
from typing import Any

from rclpy.node import Node
from rclpy.parameter import Parameter

from yolov7_trt_ros.core.plain_text import one_line
from yolov7_trt_ros.core.topics import matching_topics
from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.nodes.detector_parameters.parameters import PARAMETERS
from yolov7_trt_ros.nodes.detector_parameters.settings import TopicValues
from yolov7_trt_ros.nodes.parameter_spec import ParameterSpec
from yolov7_trt_ros.nodes.topic_names import MOST_TOPICS, resolve_names, topic_name, TopicName

PREFIX = 'topics'
PER_TOPIC = {spec.name: spec for spec in PARAMETERS if spec.per_topic}
"""Parameters that a topic may override."""

_START = f'{PREFIX}.'


def is_of_topic(name: str) -> bool:
    """Whether this is the name of a parameter of a topic."""
    return name.startswith(_START)


def declare_given(node: Node) -> None:
    """
    Declare the parameters of topics that were given at start.

    Raises
    ------
    SettingError
        One of them has no valid topic or parameter name, or is given by two names.
    ParameterException
        A number is out of its range.

    """
    names = sorted(filter(is_of_topic, getattr(node, '_parameter_overrides', {})))
    for name in names:
        _, spec = _split(node, name)
        node.declare_parameter(name, None, spec.descriptor())
        spec.check(node.get_parameter(name).value)
    _check_names(node, names)


def held_values(node: Node) -> TopicValues:
    """Return the values of topics, by full topic and name, without refused ones."""
    values: dict[str, dict[str, Any]] = {}
    for name, value in _held(node).items():
        topic, spec = _split(node, name)
        try:
            values.setdefault(topic.full, {})[spec.name] = spec.check(value)
        except SettingError:
            continue  # was reported when given
    return values


def changed_values(
    node: Node, changes: Mapping[str, Any], image_topics: str
) -> TopicValues:
    """
    Return the values of topics after a change of parameters.

    Parameters
    ----------
    node
        The detector node.
    changes
        All new values, of topics or not; None to unset one.
    image_topics
        The future value of that parameter.

    Raises
    ------
    SettingError
        A name is unknown, a topic is not an image topic, a value is refused or set by another
        name already, or there are too many topics; the message has the nearest known name.

    """
    values = {topic: dict(own) for topic, own in held_values(node).items()}
    ours = {name: value for name, value in changes.items() if is_of_topic(name)}
    if not ours:
        return values
    names = resolve_names(node, 'image_topics', image_topics)
    for name, value in ours.items():
        topic, spec = _split(node, name)
        if value is None:
            values.get(topic.full, {}).pop(spec.name, None)
            continue
        _check_topic(name, topic.full, names)
        try:
            values.setdefault(topic.full, {})[spec.name] = spec.check(value)
        except SettingError as exc:
            raise SettingError(f'{one_line(name, 300)}: {exc}') from exc
    after = _held(node) | ours
    _check_names(node, [name for name, value in after.items() if value is not None])
    if len(values) > MOST_TOPICS:
        raise SettingError(f'{MOST_TOPICS} topics may have parameters, got {len(values)}')
    return values


def describe_new(node: Node, parameters: Iterable[Parameter[Any]]) -> None:
    """Set the descriptors of parameters of topics that were just set for the first time."""
    for each in parameters:
        is_ours = is_of_topic(each.name) and node.has_parameter(each.name)
        if is_ours and not node.describe_parameter(each.name).description:
            node.set_descriptor(each.name, _split(node, each.name)[1].descriptor())


def warn_of_idle_topics(node: Node, values: TopicValues, image_topics: str) -> None:
    """Warn of topics that have values and cannot be or become image topics."""
    names = resolve_names(node, 'image_topics', image_topics)
    for topic in values:
        if not _is_among(topic, names):
            node.get_logger().warning(
                f'{PREFIX}.{one_line(topic, 100)}: is not an image topic at present; the '
                f'image topics are {one_line(", ".join(each.full for each in names), 300)}'
            )


def _split(node: Node, name: str) -> tuple[TopicName, ParameterSpec]:
    """Return topic and parameter of `topics.<topic>.<parameter>`."""
    topic, _, parameter = name.removeprefix(_START).rpartition('.')
    spec = PER_TOPIC.get(parameter)
    if not topic or spec is None:
        near = difflib.get_close_matches(parameter[:100], PER_TOPIC, 1)
        hint = f'did you mean {near[0]}?' if near else f'there are {", ".join(PER_TOPIC)}'
        raise SettingError(
            f'{one_line(name, 300)}: parameters of a topic are called '
            f'{PREFIX}.<image topic>.<name>; {hint}'
        )
    try:
        return topic_name(node, topic), spec
    except SettingError as exc:
        raise SettingError(f'{one_line(name, 300)}: {exc}') from exc


def _held(node: Node) -> dict[str, Any]:
    """Return the parameters of topics as they were set, by name."""
    held = node.get_parameters_by_prefix(PREFIX)
    return {f'{_START}{name}': held[name].value for name in sorted(held)}


def _check_names(node: Node, names: Iterable[str]) -> None:
    """Refuse a second name of one parameter: `topics.cam.idle` and `topics./cam.idle`."""
    known: dict[tuple[str, str], str] = {}
    for name in names:
        topic, spec = _split(node, name)
        former = known.setdefault((topic.full, spec.name), name)
        if former != name:
            raise SettingError(
                f'{one_line(name, 300)}: this parameter is called {one_line(former, 300)} '
                'already; set that one, or delete it first'
            )


def _check_topic(name: str, topic: str, names: Sequence[TopicName]) -> None:
    """Refuse a topic that neither is an image topic nor matches a pattern."""
    if _is_among(topic, names):
        return
    full = [each.full for each in names]
    near = difflib.get_close_matches(topic, full, 1)
    hint = f'did you mean {near[0]}?' if near else f'there are {one_line(", ".join(full), 300)}'
    raise SettingError(
        f'{one_line(name, 300)}: {one_line(topic, 100)} is not an image topic; {hint}'
    )


def _is_among(topic: str, names: Iterable[TopicName]) -> bool:
    return any(
        bool(matching_topics(each.full, [topic])) if each.is_pattern else topic == each.full
        for each in names
    )
