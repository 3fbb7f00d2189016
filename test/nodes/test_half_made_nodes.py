"""A node whose constructor fails anywhere is destroyed with its context, and leaves no thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import sys
import threading
from types import FrameType
from typing import Any

import pytest
from rclpy.context import Context
from rclpy.parameter import Parameter

from yolov7_trt_ros.nodes.detector.detector_node import DetectorNode
from yolov7_trt_ros.nodes.power.power_node import PowerNode
from yolov7_trt_ros.nodes.tools.top_node import TopNode

NODES: dict[str, Callable[..., Any]] = {
    'detector': DetectorNode,
    'power': lambda **arguments: PowerNode(
        parameter_overrides=[Parameter('emulate', value='orin_nano')], **arguments),
    'top': TopNode,
}
CONSTRUCTORS = [each.__init__.__code__ for each in (DetectorNode, PowerNode, TopNode)]
MOST_LINES = 200


class Failure(Exception):
    """The constructor fails here."""


@contextmanager
def failing_at(line: int) -> Iterator[None]:
    """Make the constructors raise before the given one of the lines that they run."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if frame.f_code not in CONSTRUCTORS:
            return None
        if event == 'line':
            count += 1
            if count == line:
                raise Failure
        return trace

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(None)


@pytest.mark.skipif(
    not hasattr(Context, 'track_node'), reason='before Kilted a context does not destroy its nodes'
)
@pytest.mark.parametrize('name', NODES)
def test_a_node_that_was_made_in_part_is_destroyed(name: str) -> None:
    for line in range(1, MOST_LINES):
        context = Context()
        context.init(args=[])
        try:
            with failing_at(line):
                NODES[name](context=context)
        except Failure as failure:  # its traceback holds the node, as that of any error does
            context.shutdown()
            assert failure.__traceback__ is not None
            continue
        context.shutdown()
        break
    assert 5 < line < MOST_LINES - 1
    names = ('power_changes', 'power_watch', 'power_sampler', 'prometheus_file')
    assert not [each for each in threading.enumerate() if each.name in names]
