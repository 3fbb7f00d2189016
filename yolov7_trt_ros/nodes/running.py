"""Start and stop of a node process, the same for every node."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
import os
import signal
import threading
from typing import Any

import rclpy
from rclpy._rclpy_pybind11 import RCLError
from rclpy.context import Context
from rclpy.exceptions import (
    InvalidHandle,
    InvalidParameterValueException,
    NotInitializedException,
)
from rclpy.executors import (
    Executor,
    ExternalShutdownException,
    ShutdownException,
    TimeoutException,
)
from rclpy.node import Node

from yolov7_trt_ros.errors import Yolov7TrtError
from yolov7_trt_ros.nodes.hangup import end_on_hangup
from yolov7_trt_ros.nodes.process import large_image_environment, tune_malloc
from yolov7_trt_ros.parent_process import end_with_starter

_EXIT_CODE = 'run_node_exit_code'


class PoolExecutor(Executor):
    """
    Runs callbacks in several threads, each of them once.

    In place of rclpy's MultiThreadedExecutor: that one hands a callback that no thread has begun
    yet to its threads again and again (rclpy 9.1.2), and keeps the process busy with them. This
    one goes on when the callback has begun.

    """

    def __init__(self, threads: int, *, context: Context | None = None) -> None:
        super().__init__(context=context)
        self._pool = ThreadPoolExecutor(threads)
        self._begun: list[Any] = []
        self._ended = False

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Wait for a callback and begin it; raises what an earlier one raised."""
        try:
            self._begin_next(timeout_sec)
            self._tell_errors()
        except (ExternalShutdownException, ShutdownException, TimeoutException):
            pass
        except InvalidHandle:
            if not self._ended:  # by another thread, which takes away what rclpy waits with
                raise

    def _begin_next(self, timeout_sec: float | None) -> None:
        task, _, _ = self.wait_for_ready_callbacks(timeout_sec=timeout_sec)
        begun = threading.Event()
        try:
            self._pool.submit(_begin, task, begun)
        except RuntimeError:
            if self._ended:  # meanwhile
                raise ShutdownException from None
            raise
        self._begun.append(task)
        begun.wait()

    def _tell_errors(self) -> None:
        ended = {task for task in self._begun if task.done()}  # asked once: more may end now
        self._begun = [task for task in self._begun if task not in ended]
        for task in ended:
            task.result()

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """Wait for the callbacks that have begun; return whether they came to their end."""
        self._ended = True
        ended = bool(super().shutdown(timeout_sec))
        self._pool.shutdown(wait=ended)
        return ended


def _begin(task: Any, begun: threading.Event) -> None:
    begun.set()
    task()


def run_node(
    name: str, make_node: Callable[[], Node], args: list[str] | None, *, threads: int = 1
) -> int:
    """
    Make a node and spin it until a signal or shutdown ends it.

    Signals are SIGINT, SIGTERM and that of a closed terminal; one that was started to end with
    another process (`parent_process`) ends with that. Further ones do not disturb the ending.

    Parameters
    ----------
    name
        For the log line when the node cannot be made.
    make_node
        Called after rclpy.init.
    args
        Command line; None takes the process's.
    threads
        How many run callbacks. With several, what is in work at the end is waited for.

    Returns
    -------
    Exit code: 0 ended as told, 1 the node could not be made (one line in the log says why), or
    what the node has given to `end_process`.

    """
    tune_malloc()
    os.environ.update(large_image_environment(os.environ))
    # rclpy ends the spinning on SIGINT by itself. Python's own KeyboardInterrupt on top of it
    # could surface anywhere, also in message conversions, which turn it into another error.
    signal.signal(signal.SIGINT, lambda *_: None)
    end_on_hangup()
    rclpy.init(args=args)
    try:
        end_with_starter(os.environ, rclpy.logging.get_logger(name).warning)
        node = make_node()
    except (Yolov7TrtError, InvalidParameterValueException) as exc:
        rclpy.logging.get_logger(name).fatal(f'cannot start: {exc}')
        rclpy.try_shutdown()
        return 1
    except (RCLError, NotInitializedException):
        # A signal while the node is being made takes the context away from under it.
        if rclpy.ok():
            raise
        return 0
    context = node.context
    executor = PoolExecutor(threads) if threads > 1 else None
    try:
        rclpy.spin(node, executor)
    except ExternalShutdownException:
        pass
    except RCLError:
        # A signal that arrives between two waits invalidates the context under the executor.
        if context.ok():
            raise
    finally:
        if executor is not None:
            executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    return int(getattr(node, _EXIT_CODE, 0))


def end_process(node: Node, exit_code: int) -> None:
    """
    Have `run_node` clean up and return `exit_code`; called in the executor's thread.

    Everybody in the node's context stops spinning.

    """
    setattr(node, _EXIT_CODE, exit_code)
    node.context.try_shutdown()
