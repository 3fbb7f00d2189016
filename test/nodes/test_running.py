"""Start and stop of a node process: a signal at the most awkward moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import gc
import os
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
import rclpy
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.context import Context
from rclpy.node import Node

from yolov7_trt_ros.nodes.callback_net import failures_of
from yolov7_trt_ros.nodes.process.node_main import PoolExecutor

SIGNALLED_WHILE_MADE = """
import os, signal, sys, time
import rclpy
from rclpy.node import Node
from std_msgs.msg import String
from yolov7_trt_ros.nodes.process.node_main import run_node

def make_node():
    node = Node('half_made') if {made} else None
    os.kill(os.getpid(), signal.{name})
    end = time.monotonic() + 600
    while rclpy.ok() and time.monotonic() < end:
        time.sleep(0.001)  # rclpy's thread for signals shuts the context down
    node = node or Node('half_made')
    node.create_subscription(String, 'topic', print, 1)
    return node

sys.exit(run_node('half_made', make_node, []))
"""


@pytest.mark.parametrize('name', ['SIGINT', 'SIGTERM'])
@pytest.mark.parametrize('made', [False, True])
def test_a_signal_while_the_node_is_being_made_ends_it_without_a_traceback(name, made):
    ended = subprocess.run(
        [sys.executable, '-c', SIGNALLED_WHILE_MADE.format(name=name, made=made)],
        capture_output=True, text=True, timeout=600, env=os.environ.copy(),
    )
    assert ended.returncode == 0, ended.stderr
    assert 'Traceback' not in ended.stderr, ended.stderr


@pytest.mark.parametrize(('level', 'tracebacks'), [('info', 0), ('debug', 1)])
def test_whatever_the_node_cannot_be_made_for_is_said_in_one_line(level, tracebacks):
    code = (
        'import sys\nfrom rclpy.node import Node\n'
        'from yolov7_trt_ros.nodes.process.node_main import run_node\n'
        "make = lambda: Node('made').create_client(int, 'service')\n"
        f"sys.exit(run_node('wrong', make, ['--ros-args', '--log-level', 'wrong:={level}']))\n"
    )
    ended = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.count('[wrong]: cannot start: ') == 1
    assert ended.stderr.count('Traceback') == tracebacks


class Spun(PoolExecutor):
    """Counts how often it spins, in a thread of its own."""

    def __init__(self, context: Context) -> None:
        super().__init__(2, context=context)
        self.spins = 0
        self.raised: list[Any] = []
        self.thread = threading.Thread(target=self._spin)

    def spin_once(self, timeout_sec: float | None = None) -> None:
        self.spins += 1
        super().spin_once(timeout_sec)

    def _spin(self) -> None:
        try:
            self.spin()
        except BaseException as exc:  # to look at
            self.raised.append(exc)


@pytest.fixture
def hosted() -> Iterator[tuple[Node, Spun]]:
    """Return a node and its executor, which spins once its thread is started."""
    context = Context()
    rclpy.init(context=context)
    node = Node('hosted', context=context)
    executor = Spun(context)
    executor.add_node(node)
    yield node, executor
    if executor.thread.is_alive():
        assert executor.shutdown()
        executor.thread.join()
    node.destroy_node()
    rclpy.shutdown(context=context)


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_callback_that_blocks_stops_its_group_alone(hosted: tuple[Node, Spun]) -> None:
    node, executor = hosted
    go, blocked, ticks, waiting = threading.Event(), [], [], []

    def block() -> None:
        blocked.append(1)
        go.wait(600)

    groups = MutuallyExclusiveCallbackGroup(), MutuallyExclusiveCallbackGroup()
    node.create_timer(0.01, block, callback_group=groups[0])
    executor.thread.start()
    wait_until(lambda: bool(blocked))
    node.create_timer(0.002, lambda: waiting.append(1), callback_group=groups[0])
    node.create_timer(0.002, lambda: ticks.append(1), callback_group=groups[1])
    executor.wake()
    wait_until(lambda: len(ticks) > 100)
    assert (len(blocked), waiting) == (1, [])
    go.set()
    wait_until(lambda: bool(waiting))


def test_each_callback_is_begun_once(hosted: tuple[Node, Spun]) -> None:
    """Beside a thread that leaves Python's lock seldom, as any busy node has."""
    node, executor = hosted
    begun: list[int] = []
    submit = executor._pool.submit
    executor._pool.submit = lambda *given: (begun.append(1), submit(*given))[1]
    ran: list[int] = []
    for _ in range(3):
        node.create_timer(0.003, lambda: ran.append(1),
                          callback_group=MutuallyExclusiveCallbackGroup())
    executor.thread.start()
    end = time.monotonic() + 600
    while len(ran) <= 100:
        assert time.monotonic() < end
        sum(range(2000))
    assert len(begun) <= 1.2 * len(ran) + 5
    assert executor.spins <= 3 * len(ran) + 20


def test_what_a_callback_raises_is_noted_and_the_others_go_on(hosted: tuple[Node, Spun]) -> None:
    node, executor = hosted
    ticks: list[int] = []

    def fail() -> None:
        raise ValueError('from a callback')

    node.create_timer(0.01, fail)
    node.create_timer(0.01, lambda: ticks.append(1),
                      callback_group=MutuallyExclusiveCallbackGroup())
    executor.thread.start()
    failures = failures_of(node)
    wait_until(lambda: failures.count > 3)
    before = len(ticks)
    wait_until(lambda: len(ticks) > before + 3)
    assert executor.raised == []
    assert failures.warning().endswith('the last: timer: ValueError: from a callback')


def test_what_is_to_end_the_process_does(hosted: tuple[Node, Spun]) -> None:
    node, executor = hosted

    def leave() -> None:
        raise SystemExit(7)

    node.create_timer(0.01, leave)
    executor.thread.start()
    executor.thread.join(600)
    assert [exc.code for exc in executor.raised] == [7]


def test_shutdown_waits_for_what_has_begun(hosted: tuple[Node, Spun]) -> None:
    node, executor = hosted
    steps: list[str] = []

    def work() -> None:
        steps.append('begun')
        time.sleep(0.3)
        steps.append('ended')

    node.create_timer(0.01, work)
    executor.thread.start()
    wait_until(lambda: bool(steps))
    assert executor.shutdown()
    assert steps[-1] == 'ended'
    executor.thread.join()


@pytest.mark.filterwarnings('ignore:coroutine .* was never awaited')
def test_a_callback_that_is_ready_as_the_executor_ends_is_left(
    hosted: tuple[Node, Spun], monkeypatch: pytest.MonkeyPatch
) -> None:
    node, executor = hosted
    ran: list[int] = []
    node.create_timer(0.001, lambda: ran.append(1))
    ready = executor.wait_for_ready_callbacks

    def late(timeout_sec: float | None = None) -> object:
        found = ready(timeout_sec=timeout_sec)
        assert executor.shutdown()
        return found

    monkeypatch.setattr(executor, 'wait_for_ready_callbacks', late)
    executor.spin_once(timeout_sec=5)
    assert ran == []
    executor._tasks.clear()
    gc.collect()  # here, where Python's warning of what was not run is expected


def test_a_spin_with_a_limit_ends(hosted: tuple[Node, Spun]) -> None:
    _, executor = hosted
    start = time.monotonic()
    executor.spin_once(timeout_sec=0.05)
    assert 0.03 < time.monotonic() - start < 600
