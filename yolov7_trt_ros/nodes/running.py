"""Start and stop of a node process, the same for every node."""

from __future__ import annotations

from collections.abc import Callable
import os
import signal

import rclpy
from rclpy._rclpy_pybind11 import RCLError
from rclpy.exceptions import InvalidParameterValueException, NotInitializedException
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.node import Node

from yolov7_trt_ros.errors import Yolov7TrtError
from yolov7_trt_ros.nodes.process import large_image_environment, tune_malloc

_EXIT_CODE = 'run_node_exit_code'


def run_node(
    name: str, make_node: Callable[[], Node], args: list[str] | None, *, threads: int = 1
) -> int:
    """
    Make a node and spin it until a signal or shutdown ends it.

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
    rclpy.init(args=args)
    try:
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
    executor = MultiThreadedExecutor(threads) if threads > 1 else None
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
