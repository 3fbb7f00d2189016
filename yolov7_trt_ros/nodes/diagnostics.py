"""What the node says on /diagnostics, once a second, in every lifecycle state."""

from __future__ import annotations

from collections.abc import Mapping
import itertools
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from yolov7_trt_ros.core.detector import Detector
from yolov7_trt_ros.nodes.callback_net import failures_of
from yolov7_trt_ros.nodes.echo import echo
from yolov7_trt_ros.nodes.images.frame_statistics import Counts
from yolov7_trt_ros.nodes.steady_clock import steady_clock

_MOST_CHARACTERS = 2000
_MOST_PASSED_OVER = 20
TELL_PERIOD_S = 1.0


def node_status(
    node_name: str, state: str, facts: Mapping[str, str], *, error: str = '', busy: str = ''
) -> DiagnosticStatus:
    """
    Return the status of the node as a whole.

    Parameters
    ----------
    node_name, state
        Fully qualified name, and the lifecycle state's label.
    facts
        Model, backend, what the engine tells, the last error.
    error
        What is wrong at present (ERROR), '' for nothing.
    busy
        What it does instead of detecting (WARN where there is no error), '' for nothing.

    """
    level = DiagnosticStatus.OK
    if error or busy:
        level = DiagnosticStatus.ERROR if error else DiagnosticStatus.WARN
    values = {'state': state, **facts}
    return make_status(f'{node_name}: detector', level, error or busy or state, values)


def detector_facts(model: str, detector: Detector) -> dict[str, str]:
    """Return what there is to say about a model that is loaded."""
    return {
        'model': model,
        'backend': detector.backend,
        'output layout': detector.spec.layout.value,
        **({'in doubt': '; '.join(detector.spec.doubts)} if detector.spec.doubts else {}),
        **detector.facts(),
    }


def removed_facts(counts: Counts) -> dict[str, str]:
    """Return the counters of topics that were removed; nothing where none had received."""
    if not counts.received:
        return {}
    return {f'removed topics: {name}': str(value) for name, value in vars(counts).items()}


def passed_over_statuses(
    node_name: str, passed_over: Mapping[str, str]
) -> list[DiagnosticStatus]:
    """Return a status for each topic that a pattern found and that cannot be taken."""
    return [
        make_status(f'{node_name}: {topic}', DiagnosticStatus.WARN, f'passed over: {reason}', {})
        for topic, reason in itertools.islice(passed_over.items(), _MOST_PASSED_OVER)
    ]


def tell_failures(node: Node) -> None:
    """Have a node without diagnostics of its own tell of failed callbacks, from the first on."""
    failures = failures_of(node)
    publishers: list[Any] = []

    def tell() -> None:
        if not failures.count:
            return
        if not publishers:
            publishers.append(node.create_publisher(DiagnosticArray, '/diagnostics', 10))
        warning = failures.warning()
        message = DiagnosticArray(status=[make_status(
            f'{node.get_fully_qualified_name()}: callbacks',
            DiagnosticStatus.WARN if warning else DiagnosticStatus.OK,
            warning or f'the last failure was: {failures.last}',
            failures.facts(),
        )])
        message.header.stamp = node.get_clock().now().to_msg()
        publishers[0].publish(message)

    node.create_timer(TELL_PERIOD_S, tell, clock=steady_clock())


def make_status(
    name: str, level: bytes, message: str, values: Mapping[str, str]
) -> DiagnosticStatus:
    """Return a status of this package; texts that others chose are bounded."""
    return DiagnosticStatus(
        level=level,
        name=name,
        message=echo(message, _MOST_CHARACTERS),
        hardware_id='yolov7_trt_ros',
        values=[
            KeyValue(key=key, value=echo(value, _MOST_CHARACTERS))
            for key, value in values.items()
        ],
    )
