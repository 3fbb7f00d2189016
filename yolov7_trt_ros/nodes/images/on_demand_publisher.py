"""OnDemandPublisher: makes and publishes messages only while somebody subscribes."""

from __future__ import annotations

from collections.abc import Callable
import threading
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile


class OnDemandPublisher:
    """
    Publishes from any thread, until it is destroyed in that of the executor.

    Parameters
    ----------
    node, kind, name, profile
        As for `Node.create_publisher`.

    """

    def __init__(self, node: Node, kind: type, name: str, profile: QoSProfile) -> None:
        self._node = node
        self._lock = threading.Lock()  # nobody publishes on what is being destroyed
        self._publisher: Any = node.create_publisher(kind, name, profile)

    @property
    def has_subscribers(self) -> bool:
        """Whether somebody subscribes."""
        with self._lock:
            return self._publisher is not None and self._publisher.get_subscription_count() > 0

    def publish(self, make: Callable[[], Any]) -> None:
        """
        Publish what `make` returns, if anybody subscribes.

        It is made without the lock: whoever destroys the publisher does not wait for a drawing.

        """
        if not self.has_subscribers:
            return
        message = make()
        with self._lock:
            if self._publisher is not None:
                self._publisher.publish(message)

    def destroy(self) -> None:
        """Take it down; what is published later goes nowhere."""
        with self._lock:
            publisher, self._publisher = self._publisher, None
        if publisher is not None:
            self._node.destroy_publisher(publisher)
