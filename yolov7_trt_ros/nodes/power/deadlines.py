"""Deadlines of single topics, as a parameter lists them: `/front/detections:50`."""

from __future__ import annotations

from collections.abc import Sequence

from rclpy.node import Node

from yolov7_trt_ros.core.plain_text import one_line
from yolov7_trt_ros.core.topics import detections_topic, split_names
from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.nodes.topic_names import topic_name, TopicName

LEAST_MS, MOST_MS = 0.1, 60000.0
"""Range of a deadline, milliseconds."""

_PARAMETER = 'topic_deadlines_ms'


def read_deadlines(text: str) -> dict[str, float]:
    """
    Return the deadlines in a text, by topics as written.

    Raises
    ------
    SettingError
        An entry is not `topic:ms`, or a topic is named twice.

    """
    found: dict[str, float] = {}
    for entry in split_names(text):
        topic, _, number = entry.rpartition(':')
        try:
            deadline_ms = float(number)
        except ValueError:
            deadline_ms = 0.0
        if not topic.strip() or not LEAST_MS <= deadline_ms <= MOST_MS:
            raise SettingError(
                f'{_PARAMETER} must have entries like /front/detections:50, a topic and '
                f'{LEAST_MS:g} to {MOST_MS:g} ms, got {one_line(repr(entry), 100)}'
            )
        if topic.strip() in found:
            raise SettingError(f'{_PARAMETER} has {one_line(topic.strip(), 100)} twice')
        found[topic.strip()] = deadline_ms
    return found


def find_deadlines(node: Node, text: str, topics: Sequence[TopicName]) -> dict[str, float]:
    """
    Return the deadlines by the full names of the subscribed topics.

    Raises
    ------
    SettingError
        As above; or a topic is neither subscribed to nor the image topic of such a one.

    """
    full_names = [topic.full for topic in topics]
    found = {}
    for asked, deadline_ms in read_deadlines(text).items():
        names = (topic_name(node, each).full for each in (asked, detections_topic(asked)))
        full = next((name for name in names if name in full_names), None)
        if full is None:
            raise SettingError(
                f'{_PARAMETER}: {one_line(asked, 100)} is none of detections_topics '
                f'({one_line(", ".join(full_names) or "none", 200)}), nor the image topic of one'
            )
        if full in found:
            raise SettingError(f'{_PARAMETER} has {one_line(full, 100)} twice')
        found[full] = deadline_ms
    return found
