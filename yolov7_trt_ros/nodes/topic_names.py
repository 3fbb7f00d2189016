"""Expand, remap and check topic names as rcl does, before a topic is created."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import re

from rclpy.exceptions import NameValidationException
from rclpy.node import Node
from rclpy.validate_full_topic_name import validate_full_topic_name
from rclpy.validate_topic_name import validate_topic_name

from yolov7_trt_ros.core.plain_text import one_line
from yolov7_trt_ros.core.topics import is_pattern, split_names
from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.nodes.one_line import error_text

MOST_TOPICS = 256
"""Maximum number of topics of a parameter, and of topics that patterns find."""


@dataclasses.dataclass(frozen=True)
class TopicName:
    """
    A topic's name before and after remapping.

    Attributes
    ----------
    asked
        The name for rclpy, which remaps it; `full` would be remapped twice.
    full
        The name in the graph; or a pattern.

    """

    asked: str
    full: str

    @property
    def is_pattern(self) -> bool:
        """Whether it is a pattern for all topics that it matches."""
        return is_pattern(self.full)


def topic_name(node: Node, asked: str) -> TopicName:
    """
    Expand and remap a name.

    Raises
    ------
    SettingError
        It is not a valid topic name.

    """
    try:
        validate_topic_name(asked)
        full = str(node.resolve_topic_name(asked))
        validate_full_topic_name(full)
    except (NameValidationException, RuntimeError, ValueError) as exc:  # as rclpy and rcl raise
        reason = error_text(exc).splitlines()[0].rstrip(':')
        for words in ('Invalid topic name: ', 'failed to resolve name: '):
            reason = reason.removeprefix(words)
        raise SettingError(
            f'{one_line(asked, 100)!r} is not a topic name: {one_line(reason, 200)}'
        ) from exc
    return TopicName(asked, full)


def topic_pattern(node: Node, asked: str) -> TopicName:
    """
    Expand a name with stars, which is not remapped.

    Raises
    ------
    SettingError
        It is not a valid topic name, even if the stars match one.

    """
    topic_name(node, re.sub(r'\*+', 'x', asked))  # raises
    if asked.startswith('~'):
        full = f'{node.get_fully_qualified_name()}{asked[1:]}'
    elif asked.startswith('/'):
        full = asked
    else:
        full = f'{node.get_namespace().rstrip("/")}/{asked}'
    return TopicName(full, full)


def is_remapped(node: Node, asked: str) -> bool:
    """Whether a remapping rule names this topic."""
    try:
        expanded = node.resolve_topic_name(asked, only_expand=True)
        return bool(node.resolve_topic_name(asked) != expanded)
    except RuntimeError:  # of rcl: not a valid name
        return False


def resolve_names(node: Node, parameter: str, text: str) -> list[TopicName]:
    """
    Return the topics and patterns that a parameter lists.

    Raises
    ------
    SettingError
        One of them is not a topic name, or there are too many.

    """
    asked = split_names(text)
    if len(asked) > MOST_TOPICS:
        raise SettingError(f'{parameter} may name {MOST_TOPICS} topics, got {len(asked)}')
    try:
        return [
            topic_pattern(node, each) if is_pattern(each) else topic_name(node, each)
            for each in asked
        ]
    except SettingError as exc:
        raise SettingError(f'{parameter}: {exc}') from exc


def resolve_topics(
    node: Node, parameter: str, text: str, *, patterns: bool = False
) -> list[TopicName]:
    """
    Return what `resolve_names` does, each once.

    Raises
    ------
    SettingError
        As `resolve_names`; or a name appears twice, or a pattern is not allowed here.

    """
    names = resolve_names(node, parameter, text)
    if not patterns and any(name.is_pattern for name in names):
        raise SettingError(
            f'{parameter} must name topics, without stars, got {one_line(text, 100)}'
        )
    twice = first_repeated([name.full for name in names])
    if twice is not None:
        raise SettingError(
            f'{parameter} must name at least one topic and none twice, got {one_line(twice, 100)} '
            'twice'
        )
    return names


def first_repeated(names: Sequence[str]) -> str | None:
    """Return the first name that is there more than once."""
    return next((each for each in names if names.count(each) > 1), None)
