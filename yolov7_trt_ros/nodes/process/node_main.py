"""Start and stop a node process, the same for every node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
import os
import signal
import sys
import threading
import traceback
from typing import Any

import rclpy
from rclpy._rclpy_pybind11 import RCLError
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException
from rclpy.impl.logging_severity import LoggingSeverity
import rclpy.logging
from rclpy.node import Node

from yolov7_trt_ros.nodes.callback_net import NetExecutor, OneThreadExecutor
from yolov7_trt_ros.nodes.parameter_spec import ParameterSpec
from yolov7_trt_ros.nodes.process.hangup import end_on_hangup
from yolov7_trt_ros.nodes.process.network_at_start import has_network, network_problem
from yolov7_trt_ros.nodes.process.process_setup import (
    has_discovery_range,
    large_image_environment,
    tune_malloc,
)
from yolov7_trt_ros.nodes.process.shared_memory import memory_problem
from yolov7_trt_ros.nodes.process.start_texts import (
    check_given_parameters,
    explain_start,
    help_text,
    wants_help,
)
from yolov7_trt_ros.parent_process import end_with_starter

_EXIT_CODE = 'run_node_exit_code'


class PoolExecutor(NetExecutor):
    """
    Runs callbacks in several threads, each callback once.

    It replaces rclpy's MultiThreadedExecutor, which passes a callback that has not begun to its
    threads again and again (rclpy 9.1.2) and keeps the process busy. This one continues when the
    callback has begun.

    """

    def __init__(self, threads: int, *, context: Context | None = None) -> None:
        super().__init__(context=context)
        self._pool = ThreadPoolExecutor(threads)
        self._begun: list[tuple[Any, Any, Any]] = []
        self._ended = False
        self._end: BaseException | None = None  # what was raised to end the process

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Wait for a callback and start it; raise what an earlier one raised to end spinning."""
        try:
            found = self.wait_for_task(timeout_sec)
        except ExternalShutdownException:
            found = None  # the spinning thread checks the context
        if found is not None:
            self._begin(found)
        if self._end is not None:
            raise self._end
        self._settle_ended()

    def _begin(self, found: tuple[Any, Any, Any]) -> None:
        begun = threading.Event()
        try:
            self._pool.submit(self._run, found[0], begun)
        except RuntimeError:
            if self._ended:  # meanwhile
                return
            raise
        self._begun.append(found)
        begun.wait()

    def _run(self, task: Any, begun: threading.Event) -> None:
        begun.set()
        try:
            task()
        except BaseException as exc:  # SystemExit and the like: a task keeps what else is raised
            self._end = exc
            self.wake()

    def _settle_ended(self) -> None:
        ended = [each for each in self._begun if each[0].done()]  # asked once: more may end now
        self._begun = [each for each in self._begun if each not in ended]
        for task, entity, node in ended:
            self.settle(task, entity, node)

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """Wait for the running callbacks; return whether they finished."""
        self._ended = True
        ended = bool(super().shutdown(timeout_sec))
        self._pool.shutdown(wait=ended)
        return ended


def run_node(
    name: str, make_node: Callable[[], Node], args: list[str] | None, *, threads: int = 1,
    about: str | None = '', table: Sequence[ParameterSpec] = (),
) -> int:
    """
    Make a node and spin it until a signal or shutdown ends it.

    Signals are SIGINT, SIGTERM and that of a closed terminal. A node that was started to end with
    another process (`parent_process`) ends with it. Further signals do not disturb the shutdown.

    Parameters
    ----------
    name
        Name for the message if the node cannot be made.
    make_node
        Called after rclpy.init.
    args
        Command line; None for that of the process. With `--help`, only print the help.
    threads
        Number of threads for callbacks. With more than one, running callbacks are awaited at
        shutdown.
    about, table
        For the help: the docstring of the node's module, and the parameters.

    Returns
    -------
    Exit code: 0 after a normal end, 1 if the node could not be made (one line says why), or the
    code that the node passed to `end_process`.

    """
    if wants_help(sys.argv[1:] if args is None else args):
        print(help_text(name, about or '', table))
        return 0
    tune_malloc()
    os.environ.update(large_image_environment(os.environ))
    # rclpy ends the spinning on SIGINT by itself. Python's own KeyboardInterrupt on top of it
    # could surface anywhere, also in message conversions, which turn it into another error.
    interrupts: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
    end_on_hangup()
    problems = (
        memory_problem(os.environ),
        network_problem(os.environ, has_network(), has_discovery_range()),
    )
    try:
        _init(args)
        if interrupts:  # before rclpy listened
            rclpy.try_shutdown()
            return 0
    except Exception as exc:  # of rcl: the command line, a parameter file, the environment
        print(f'{name}: cannot start: {explain_start(exc)}', file=sys.stderr)
        return 1
    try:
        # Before the node: after a signal no executor can be made, and the node would remain.
        executor = PoolExecutor(threads) if threads > 1 else OneThreadExecutor()
        warn = rclpy.logging.get_logger(name).warning
        end_with_starter(os.environ, warn)
        for problem in filter(None, problems):
            warn(problem)
        node = make_node()
        check_given_parameters(node)
    except Exception as exc:  # any error becomes one line for the user
        return _end_start(name, exc)
    _spin(node, executor)
    return int(getattr(node, _EXIT_CODE, 0))


def _init(args: list[str] | None) -> None:
    """Initialise rclpy without a log line of rcl on failure: the reason is reported once."""
    rclpy.logging.set_logger_level('rcl', LoggingSeverity.FATAL)
    rclpy.init(args=args)
    if rclpy.logging.get_logger_effective_level('rcl') == LoggingSeverity.FATAL:
        rclpy.logging.set_logger_level('rcl', LoggingSeverity.UNSET)  # the user set no other


def _end_start(name: str, error: Exception) -> int:
    """Report why a node could not be made, and return the exit code."""
    if not rclpy.ok():
        return 0  # a signal has shut the context down meanwhile
    log = rclpy.logging.get_logger(name)
    log.fatal(f'cannot start: {explain_start(error)}')
    log.debug(''.join(traceback.format_exception(type(error), error, error.__traceback__)))
    rclpy.try_shutdown()
    return 1


def _spin(node: Node, executor: NetExecutor) -> None:
    """Spin until the end, and destroy the node."""
    context = node.context
    try:
        rclpy.spin(node, executor)
    except ExternalShutdownException:
        pass
    except RCLError:
        # A signal that arrives between two waits invalidates the context under the executor.
        if context.ok():
            raise
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()


def end_process(node: Node, exit_code: int) -> None:
    """
    Make `run_node` clean up and return `exit_code`; called in the executor's thread.

    All nodes in the node's context stop spinning.

    """
    setattr(node, _EXIT_CODE, exit_code)
    node.context.try_shutdown()
