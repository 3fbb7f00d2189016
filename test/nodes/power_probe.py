"""What the tests of the power node talk to it with: the node, its board, and a probe's calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import threading
from typing import Any

from power_host import TOOL_LIMIT_S
from rcl_interfaces.srv import GetParameters, SetParameters, SetParametersAtomically
from rclpy.parameter import Parameter, parameter_value_to_python
from ros_probe import Probe

from yolov7_trt_ros.emulated_board.board import EmulatedBoard
from yolov7_trt_ros.emulated_board.machine import board_host
from yolov7_trt_ros.nodes.power.power_node import NAME, PowerNode, THREADS
from yolov7_trt_ros.nodes.process.node_main import PoolExecutor
from yolov7_trt_ros.power.control import PowerControl
from yolov7_trt_ros.power.machine import PowerHost

STATUS = f'/{NAME}: power'
SERVICE = f'/{NAME}/set_parameters'
STATUS_PERIOD_S = 0.1
# The node on a board whose folder is given, so that it can be looked at afterwards.
HOSTED = """
import sys
from pathlib import Path
from yolov7_trt_ros.emulated_board.board import EmulatedBoard
from yolov7_trt_ros.emulated_board.boards.catalogue import find_board
from yolov7_trt_ros.emulated_board.machine import board_host
from yolov7_trt_ros.nodes.power.power_node import main
board = EmulatedBoard(find_board('orin_nano_super'), Path(sys.argv[1]))
patient = ['--ros-args', '-p', 'tool_timeout_s:=600.0', '--']
is_given = any(argument.startswith('tool_timeout_s') for argument in sys.argv)
sys.exit(main(([] if is_given else patient) + sys.argv[2:], board_host(board)))
"""


def mode_of(board: EmulatedBoard) -> str:
    """Return the name of the power mode that a board is in."""
    control = PowerControl(board.root, board_host(board).runner, timeout_s=TOOL_LIMIT_S)
    try:
        return control.current_mode().name
    finally:
        control.close()


class PowerProbe:
    """A probe that calls the power node by ROS alone."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self._setter: Any = None

    @contextmanager
    def node(
        self, board: EmulatedBoard | None, host: PowerHost | None = None, **parameters: Any
    ) -> Iterator[PowerNode]:
        """
        Run the node in this process, as `main` does with two threads of its own.

        In the probe's context, where both know each other at once; between contexts that may take
        seconds. It tells its status more often than it does by itself, so that tests wait less.

        """
        if host is None:
            assert board is not None
            host = board_host(board)
        context = self.probe.node.context
        node = PowerNode(
            host=host, status_period_s=STATUS_PERIOD_S, context=context,
            parameter_overrides=[
                Parameter(name, value=value)
                for name, value in {'tool_timeout_s': TOOL_LIMIT_S, **parameters}.items()
            ],
        )
        executor = PoolExecutor(THREADS, context=context)
        executor.add_node(node)
        thread = threading.Thread(target=executor.spin)
        thread.start()
        try:
            with self.probe.hosting(NAME):
                yield node
        finally:
            executor.shutdown()
            thread.join()
            node.destroy_node()

    def send(self, name: str, value: Any) -> Any:
        """Send a parameter; returns the future of its answer."""
        if self._setter is None:
            self._setter = self.probe.node.create_client(SetParameters, SERVICE)
        self.probe.wait_until(self._setter.service_is_ready, 'the parameter service')
        message = Parameter(name, value=value).to_parameter_msg()
        return self._setter.call_async(SetParameters.Request(parameters=[message]))

    def close(self) -> None:
        """Wait until the node is out of the graph: the next must not be taken for it."""
        if self._setter is not None:
            self.probe.node.destroy_client(self._setter)
        self.probe.wait_until(
            lambda: not self.probe.node.get_subscriptions_info_by_topic(
                f'rq{SERVICE}Request', no_mangle=True  # Humble cannot count services
            ),
            'the end of the power node',
        )

    def set_parameter(self, name: str, value: Any) -> tuple[bool, str]:
        """Set a parameter; returns whether it succeeded, and the reason."""
        future = self.send(name, value)
        self.probe.wait_until(future.done, f'an answer about {name}')
        result = future.result().results[0]
        return bool(result.successful), str(result.reason)

    def change(self, name: str, value: Any) -> str:
        """Set a parameter; returns what the diagnostics say holds now."""
        assert self.set_parameter(name, value) == (True, '')
        self.status()  # this one may have been made before the change
        before, _, what = self.status()[1]['last change'].partition(': ')
        assert before.startswith(f'{name} = ')
        return what

    def set_atomically(self, **values: Any) -> tuple[bool, str]:
        """Set several as one."""
        request = SetParametersAtomically.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()
                        for name, value in values.items()]
        )
        name = f'/{NAME}/set_parameters_atomically'
        result = self.probe.call(SetParametersAtomically, name, request).result
        return bool(result.successful), str(result.reason)

    def get(self, name: str) -> Any:
        """Return the value of a parameter."""
        request = GetParameters.Request(names=[name])
        answer = self.probe.call(GetParameters, f'/{NAME}/get_parameters', request)
        return parameter_value_to_python(answer.values[0])

    def status(self) -> tuple[str, dict[str, str], bytes]:
        """Return message, values and level of the next diagnostics."""
        self.probe.forget_diagnostics()
        statuses = self.probe._statuses
        self.probe.wait_until(lambda: STATUS in statuses, 'diagnostics of the power node')
        return statuses[STATUS]

    def wait_for_status(self, holds: Any, what: str) -> tuple[str, dict[str, str], bytes]:
        """Wait until the diagnostics are as `holds` wants them."""
        statuses = self.probe._statuses
        self.probe.wait_until(
            lambda: STATUS in statuses and holds(*statuses[STATUS]), f'{what}: {statuses}'
        )
        return statuses[STATUS]
