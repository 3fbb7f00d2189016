"""
Parameters of one topic: `topics.<image topic>.<name>`, in place of the node's `<name>`.

They exist only where somebody has set them, so that topics may come and go. The values lie in the
node's own parameters and nowhere else.

"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
import difflib
from typing import Any

from rclpy.node import Node
from rclpy.parameter import Parameter

from yolov7_trt_ros.core.topics import matching_topics
from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.nodes.detector_parameters.parameters import PARAMETERS, TopicValues
from yolov7_trt_ros.nodes.one_line import one_line
from yolov7_trt_ros.nodes.parameter_spec import ParameterSpec
from yolov7_trt_ros.nodes.topic_names import MOST_TOPICS, resolve_names, topic_name, TopicName

PREFIX = 'topics'
PER_TOPIC = {spec.name: spec for spec in PARAMETERS if spec.per_topic}
"""What a topic may have a value of its own of."""

_START = f'{PREFIX}.'


def is_of_topic(name: str) -> bool:
    """Whether a parameter is called like one of a topic."""
    return name.startswith(_START)


def declare_given(node: Node) -> None:
    """
    Declare the parameters of topics that were given at start.

    Raises
    ------
    SettingError
        One of them names no topic, or nothing that a topic has, or is there by two names.
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
    """Return what is set for topics, by full topic and name; values that are refused left out."""
    values: dict[str, dict[str, Any]] = {}
    for name, value in _held(node).items():
        topic, spec = _split(node, name)
        try:
            values.setdefault(topic.full, {})[spec.name] = spec.check(value)
        except SettingError:
            continue  # told where it was given
    return values


def changed_values(
    node: Node, changes: Mapping[str, Any], image_topics: str
) -> TopicValues:
    """
    Return what is set for topics once some parameters have changed.

    Parameters
    ----------
    node
        Whose parameters they are.
    changes
        All that is to be set, of topics or not; None for what is to be unset.
    image_topics
        That parameter, as it will be.

    Raises
    ------
    SettingError
        A name is nothing that a topic has, a topic is not one of the image topics, a value is
        refused or has another name already, or there are too many topics; with the nearest name
        that there is.

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
    """Give the parameters of topics that were just set for the first time their descriptors."""
    for each in parameters:
        is_ours = is_of_topic(each.name) and node.has_parameter(each.name)
        if is_ours and not node.describe_parameter(each.name).description:
            node.set_descriptor(each.name, _split(node, each.name)[1].descriptor())


def warn_of_idle_topics(node: Node, values: TopicValues, image_topics: str) -> None:
    """Warn of topics that have values and neither are nor can become an image topic."""
    names = resolve_names(node, 'image_topics', image_topics)
    for topic in values:
        if not _is_among(topic, names):
            node.get_logger().warning(
                f'{PREFIX}.{one_line(topic, 100)}: is none of the image topics at present, which '
                f'are {one_line(", ".join(each.full for each in names), 300)}'
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
    """Refuse a second name of a parameter, as `topics.cam.idle` of `topics./cam.idle`."""
    known: dict[tuple[str, str], str] = {}
    for name in names:
        topic, spec = _split(node, name)
        former = known.setdefault((topic.full, spec.name), name)
        if former != name:
            raise SettingError(
                f'{one_line(name, 300)}: this parameter is called {one_line(former, 300)} '
                'already; set that one, or delete it before'
            )


def _check_topic(name: str, topic: str, names: Sequence[TopicName]) -> None:
    """Refuse a topic that no image topic is called, nor a pattern finds."""
    if _is_among(topic, names):
        return
    full = [each.full for each in names]
    near = difflib.get_close_matches(topic, full, 1)
    raise SettingError(
        f'{one_line(name, 300)}: {one_line(topic, 100)} is none of the image topics; '
        + (f'did you mean {near[0]}?' if near else f'they are {one_line(", ".join(full), 300)}')
    )


def _is_among(topic: str, names: Iterable[TopicName]) -> bool:
    return any(
        bool(matching_topics(each.full, [topic])) if each.is_pattern else topic == each.full
        for each in names
    )
