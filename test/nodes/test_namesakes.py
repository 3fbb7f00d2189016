"""Two nodes of one name in one graph: each says so, and neither does of one that was killed."""

from __future__ import annotations

from collections.abc import Iterator

from fake_engine import FakeEngine
from power_probe import PowerProbe
import pytest
from rclpy.node import Node
from ros_probe import fresh_probe, Probe

from yolov7_trt_ros.emulated_board.board import EmulatedBoard
from yolov7_trt_ros.nodes.process import namesakes
from yolov7_trt_ros.nodes.process.namesakes import LEASE_S, Namesakes


@pytest.fixture
def alone() -> Iterator[Probe]:
    """Return a probe in a graph of its own."""
    with fresh_probe() as probe:
        yield probe


def test_it_is_told_once_a_killed_node_would_be_gone(alone: Probe) -> None:
    now_s = 100.0
    nodes = [Node('twin', context=alone.node.context) for _ in range(2)]
    looking = Namesakes(nodes[0], lambda: now_s)

    def names() -> int:
        return [name for name, _ in nodes[0].get_node_names_and_namespaces()].count('twin')

    alone.wait_until(lambda: names() == 2, 'both')
    assert looking.problem() == ''
    now_s += LEASE_S
    assert looking.problem().startswith('2 nodes are called /twin: ')
    nodes.pop().destroy_node()
    alone.wait_until(lambda: names() == 1, 'one')
    assert looking.problem() == ''
    nodes.pop().destroy_node()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no time allowed for."""
    monkeypatch.setattr(namesakes, 'LEASE_S', 0.0)


@pytest.mark.usefixtures('at_once')
def test_the_diagnostics_of_detector_and_power_node_warn(
    alone: Probe, board: EmulatedBoard
) -> None:
    power = PowerProbe(alone)
    with alone.host(FakeEngine().seam), power.node(board):
        twins = [Node(name, context=alone.node.context) for name in ('detector', 'power_manager')]
        alone.wait_until(
            lambda: 'nodes are called /detector: ' in alone.summary()[0], 'the one'
        )
        power.wait_for_status(
            lambda said, *_: 'nodes are called /power_manager: ' in said, 'the other'
        )
        for twin in twins:  # the test above sees that nothing is told any more
            twin.destroy_node()
