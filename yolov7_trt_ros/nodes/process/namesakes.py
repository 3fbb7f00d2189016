"""Whether another node of the graph has the name of this one."""

from __future__ import annotations

from collections.abc import Callable
import time

from rclpy.node import Node

LEASE_S = 25.0
"""A node that was killed stays in the graph for 20 s, and the one in its place must not say so."""


class Namesakes:
    """
    Looks, each time it is asked, whether another node has had this one's name for some time.

    ROS lets both run: each publishes on the same topics, and a request goes to either.

    Parameters
    ----------
    node
        Whose name it is.
    now_s
        Tells the time, in seconds.

    """

    def __init__(self, node: Node, now_s: Callable[[], float] = time.monotonic) -> None:
        self._node, self._now_s = node, now_s
        self._since_s: float | None = None
        self._told = False

    def problem(self) -> str:
        """Return what to say of another node of this name, '' without one; logged once."""
        own = self._node.get_name(), self._node.get_namespace()
        count = self._node.get_node_names_and_namespaces().count(own)
        if count < 2:
            self._since_s, self._told = None, False
            return ''
        if self._since_s is None:
            self._since_s = self._now_s()
        if self._now_s() - self._since_s < LEASE_S:
            return ''
        text = (
            f'{count} nodes are called {self._node.get_fully_qualified_name()}: each publishes '
            'on the same topics, and which of them a request reaches is chance; end all but one, '
            'or give each a name of its own (-r __node:=NAME)'
        )
        if not self._told:
            self._node.get_logger().warning(text)
        self._told = True
        return text
