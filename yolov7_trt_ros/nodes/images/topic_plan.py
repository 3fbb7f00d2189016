"""Plan all topics of the detector and check them together before one is created."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
import dataclasses

from rclpy.node import Node

from yolov7_trt_ros.core.plain_text import one_line
from yolov7_trt_ros.core.topics import detections_topics
from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.nodes import qos
from yolov7_trt_ros.nodes.topic_names import (
    is_remapped,
    MOST_TOPICS,
    resolve_topics,
    topic_name,
    TopicName,
)

_OWN = (
    '/diagnostics', '/parameter_events', '/rosout', '/clock', '~/transition_event',
    '~/label_info', '~/vision_info', '~/update',
)
_DETECTIONS_TYPE = 'vision_msgs/msg/Detection2DArray'
_IMAGE_TYPE = 'sensor_msgs/msg/Image'


@dataclasses.dataclass(frozen=True)
class StreamNames:
    """The topics of one stream."""

    image: TopicName
    detections: TopicName
    overlay: TopicName


@dataclasses.dataclass(frozen=True)
class WantedTopics:
    """The topics of the parameters: names and patterns of images, and outputs, if named."""

    images: tuple[TopicName, ...]
    detections: tuple[TopicName, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """
    The streams that there may be.

    Attributes
    ----------
    streams
        No topic appears twice, in any role.
    named
        Image topics that are named, not found by a pattern.
    passed_over
        Topics that patterns found and that cannot be used, and why.

    """

    streams: tuple[StreamNames, ...]
    named: tuple[TopicName, ...]
    passed_over: dict[str, str]


def wanted_topics(node: Node, image_topics: str, outputs: str) -> WantedTopics:
    """
    Return the topics of two parameters, each checked alone and against the other.

    Raises
    ------
    SettingError
        No topic is named, or one twice or by no valid name, or outputs do not fit them, or a
        topic would have two roles.

    """
    images = resolve_topics(node, 'image_topics', image_topics, patterns=True)
    names = resolve_topics(node, 'detections_topics', outputs)
    if not images:
        raise SettingError('image_topics must name at least one topic and none twice, got none')
    if names and any(image.is_pattern for image in images):
        raise SettingError(
            'detections_topics must be empty where image_topics has a pattern, got '
            f'{one_line(outputs, 100)}'
        )
    if names and len(names) != len(images):
        raise SettingError(
            'detections_topics must be empty or name one topic for each of the '
            f'{len(images)} image topics, got {len(names)}'
        )
    wanted = WantedTopics(tuple(images), tuple(names))
    plan_streams(node, wanted)
    return wanted


def plan_streams(
    node: Node, wanted: WantedTopics, found: Iterable[str] = (), known: Iterable[StreamNames] = ()
) -> Plan:
    """
    Return the streams for the topics that are named, and for those that patterns found.

    Parameters
    ----------
    node
        The detector node.
    wanted
        The topics of the parameters.
    found
        Topics of patterns; the first one wins if two conflict.
    known
        The present streams: their outputs are not used as image topics.

    Raises
    ------
    SettingError
        A named topic cannot be used.

    """
    named = [image for image in wanted.images if not image.is_pattern]
    roles = {topic_name(node, own).full: "the node's own" for own in _OWN}
    passed_over: dict[str, str] = {}
    images = list(named)
    taken = roles | _outputs(known)
    for topic in found:
        if topic in {image.full for image in named}:
            continue
        reason = _refusal_reason(node, topic, taken, len(images))
        if reason:
            passed_over[topic] = reason
        else:
            images.append(TopicName(topic, topic))
    streams = []
    for image, outputs in zip(images, _name_outputs(images, wanted.detections), strict=True):
        try:
            streams.append(_take_roles(_stream_names(node, image, *outputs), roles))
        except SettingError as exc:
            if image in named:
                raise
            passed_over[image.full] = str(exc)
    return Plan(tuple(streams), tuple(named), passed_over)


def check_types(node: Node, plan: Plan, known: Iterable[StreamNames]) -> None:
    """
    Check new topics against what other nodes publish there now.

    Raises
    ------
    SettingError
        A topic carries other messages.

    """
    carried = dict(node.get_topic_names_and_types())
    for names in set(plan.streams) - set(known):
        publishers = node.get_publishers_info_by_topic(names.image.asked)
        wrong = qos.describe_wrong_type(names.image.full, publishers)
        if wrong is not None:
            raise SettingError(wrong)
        for name, kind in ((names.detections, _DETECTIONS_TYPE), (names.overlay, _IMAGE_TYPE)):
            others = carried.get(name.full, [kind])
            if kind not in others:
                raise SettingError(
                    f'{name.full} carries {one_line(", ".join(others), 100)} already, so {kind} '
                    'cannot be published there; choose another name in detections_topics'
                )


def _outputs(streams: Iterable[StreamNames]) -> dict[str, str]:
    """Return the roles of what streams publish."""
    return dict(pair for each in streams for pair in _roles_of_outputs(each))


def _roles_of_outputs(names: StreamNames) -> tuple[tuple[str, str], tuple[str, str]]:
    return (
        (names.detections.full, f'the detections topic of {names.image.full}'),
        (names.overlay.full, f'the overlay of {names.detections.full}'),
    )


def _refusal_reason(node: Node, topic: str, taken: dict[str, str], count: int) -> str:
    """Return why a topic found by a pattern cannot be used, '' if it can."""
    if topic in taken:
        return f'{topic} is {taken[topic]}'
    if count >= MOST_TOPICS:
        return f'{MOST_TOPICS} image topics are the maximum; use a narrower pattern'
    try:
        topic_name(node, topic)
    except SettingError as exc:  # from a DDS application without ROS
        return str(exc)
    if is_remapped(node, topic):
        return f'{topic} is remapped, which patterns do not support: name it in image_topics'
    return ''


def _name_outputs(
    images: Sequence[TopicName], outputs: Sequence[TopicName]
) -> list[tuple[str, str]]:
    """Return the detections topics: from names in the parameter, and from names in the graph."""
    if outputs:
        return [(each.asked, each.asked) for each in outputs]
    return list(zip(
        detections_topics([image.asked for image in images]),
        detections_topics([image.full for image in images]),
        strict=True,
    ))


def _stream_names(node: Node, image: TopicName, ours: str, theirs: str) -> StreamNames:
    """
    Return the names of a stream.

    Parameters
    ----------
    node
        Node with the remapping rules.
    image
        The image topic.
    ours, theirs
        Detections topic from the image's name in the parameter, which remapping rules of the user
        refer to, and from its name in the graph.

    """
    detections = topic_name(node, ours if is_remapped(node, ours) else theirs)
    overlay = f'{ours}/overlay'
    if not is_remapped(node, overlay):
        overlay = f'{detections.full}/overlay'
    return StreamNames(image, detections, topic_name(node, overlay))


def _take_roles(names: StreamNames, roles: dict[str, str]) -> StreamNames:
    """
    Give each topic of a stream its role, and return the stream.

    Raises
    ------
    SettingError
        A topic has a role already; in this case no role was given.

    """
    given: dict[str, str] = {}
    for topic, role in ((names.image.full, 'an image topic'), *_roles_of_outputs(names)):
        former = roles.get(topic) or given.get(topic)
        if former:
            raise SettingError(f'{topic} cannot be {role}: it is {former}')
        given[topic] = role
    roles.update(given)
    return names
