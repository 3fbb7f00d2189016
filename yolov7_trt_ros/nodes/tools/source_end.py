"""How a node that plays a source ends, with it or without it."""

from __future__ import annotations

from typing import NoReturn

from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.timer import Timer

from yolov7_trt_ros.errors import InputError
from yolov7_trt_ros.nodes.process.node_main import end_process


def end_with_source(node: Node, published: int) -> NoReturn:
    """End the process with exit status 0: the source has ended after so many frames."""
    node.get_logger().info(f'source ended after {published} frames')
    raise ExternalShutdownException


def end_without_source(node: Node, timer: Timer, published: int, error: InputError) -> None:
    """End the process with exit status 1: the file is gone, as of a disk that was taken away."""
    node.get_logger().fatal(f'cannot continue after {published} frames: {error}')
    timer.cancel()
    end_process(node, 1)
