"""Find another node of the same name in the graph."""

from __future__ import annotations

from collections.abc import Callable
import time

from rclpy.node import Node

LEASE_S = 25.0
"""A killed node stays in the graph for 20 s; its successor must not report it."""


class Namesakes:
    """
    Checks on each call whether another node has had the name of this one for some time.

    ROS lets both run: both publish on the same topics, and a request goes to either.

    Parameters
    ----------
    node
        The node to check.
    now_s
        Returns the time in seconds.

    """

    def __init__(self, node: Node, now_s: Callable[[], float] = time.monotonic) -> None:
        self._node, self._now_s = node, now_s
        self._since_s: float | None = None
        self._is_logged = False

    def problem(self) -> str:
        """Return a warning of another node of this name, '' if there is none; log it once."""
        own = self._node.get_name(), self._node.get_namespace()
        count = self._node.get_node_names_and_namespaces().count(own)
        if count < 2:
            self._since_s, self._is_logged = None, False
            return ''
        if self._since_s is None:
            self._since_s = self._now_s()
        if self._now_s() - self._since_s < LEASE_S:
            return ''
        text = (
            f'{count} nodes are called {self._node.get_fully_qualified_name()}: all publish '
            'on the same topics, and a request reaches any one of them; stop all but one, or give '
            'each its own name (-r __node:=NAME)'
        )
        if not self._is_logged:
            self._node.get_logger().warning(text)
        self._is_logged = True
        return text
