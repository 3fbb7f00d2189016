"""Make statuses for /diagnostics, and publish those of nodes that have no others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from yolov7_trt_ros.core.plain_text import one_line
from yolov7_trt_ros.nodes.callback_net import failures_of
from yolov7_trt_ros.nodes.steady_clock import steady_clock

_MOST_CHARACTERS = 2000
STATUS_PERIOD_S = 1.0


def publish_failures(node: Node) -> None:
    """Publish failed callbacks of a node without other diagnostics, once there are any."""
    failures = failures_of(node)
    publishers: list[Any] = []

    def publish() -> None:
        if not failures.count:
            return
        if not publishers:
            publishers.append(node.create_publisher(DiagnosticArray, '/diagnostics', 10))
        warning = failures.warning()
        message = DiagnosticArray(status=[make_status(
            f'{node.get_fully_qualified_name()}: callbacks',
            DiagnosticStatus.WARN if warning else DiagnosticStatus.OK,
            warning or f'the last failure was: {failures.last}',
            failures.status(),
        )])
        message.header.stamp = node.get_clock().now().to_msg()
        publishers[0].publish(message)

    node.create_timer(STATUS_PERIOD_S, publish, clock=steady_clock())


def make_status(
    name: str, level: bytes, message: str, values: Mapping[str, str]
) -> DiagnosticStatus:
    """Return a status of this package; all texts are limited in length."""
    return DiagnosticStatus(
        level=level,
        name=name,
        message=one_line(message, _MOST_CHARACTERS),
        hardware_id='yolov7_trt_ros',
        values=[
            KeyValue(key=key, value=one_line(value, _MOST_CHARACTERS))
            for key, value in values.items()
        ],
    )
