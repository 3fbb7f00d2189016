"""Two nodes of one name in one graph: each says so, and neither does of one that was killed."""

from __future__ import annotations

from collections.abc import Iterator
import gc

from fake_engine import FakeEngine
from power_probe import PowerProbe
import pytest
from rcl_interfaces.msg import Log
from rclpy.node import Node
from ros_probe import fresh_probe, LATCHED, Probe

from yolov7_trt_ros.emulated_board.board import EmulatedBoard
from yolov7_trt_ros.nodes.process import namesakes
from yolov7_trt_ros.nodes.process.namesakes import LEASE_S, Namesakes
from yolov7_trt_ros.testing import FakeDetector


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


@pytest.mark.parametrize('state', ['unconfigured', 'active'])
def test_a_destroyed_detector_leaves_the_graph_while_python_still_holds_it(
    alone: Probe, state: str
) -> None:
    engine = FakeEngine(FakeDetector())
    gc.disable()
    try:
        with alone.host(engine.seam, autostart=state == 'active') as held:
            alone.wait_for_state(state)
        alone.wait_until(lambda: 'detector' not in alone.node.get_node_names(), 'its end')
        with alone.host(FakeEngine().seam):  # its lines on /rosout are its own
            logged = alone.listen(Log, '/rosout', LATCHED)
            alone.wait_until(lambda: any('lifecycle' in each.msg for each in logged), 'a line')
        assert held.handle is not None
    finally:
        gc.enable()


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
