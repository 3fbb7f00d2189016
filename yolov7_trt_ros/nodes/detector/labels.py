"""Publish the class names and the method of the model, latched."""

from __future__ import annotations

from typing import Any

from rclpy.node import Node
import vision_msgs.msg

from yolov7_trt_ros.bank.update.engine_bank import OpenModel
from yolov7_trt_ros.nodes import qos

_HASH_CHARACTERS = 16


class LatchedLabels:
    """
    `~/label_info` and `~/vision_info` of a node, published again for each model that serves.

    Parameters
    ----------
    node
        The detector node.

    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publishers: dict[str, Any] = {}

    def publish(self, model: OpenModel, threshold: float) -> None:
        """Publish class names and method; `threshold` is the present score threshold."""
        stamp = self._node.get_clock().now().to_msg()
        detector = model.detector
        info = vision_msgs.msg.VisionInfo()
        info.header.stamp = stamp
        info.method = f'YOLOv7 ({model.model.name}), {detector.backend}'
        if model.sha256:
            info.method += f', sha256 {model.sha256[:_HASH_CHARACTERS]}'
        info.database_location = f'{self._node.get_fully_qualified_name()}/label_info'
        info.database_version = model.model.number
        labels = label_info_msg(detector.spec.class_names, stamp, threshold)
        for topic, message in (('~/vision_info', info), ('~/label_info', labels)):
            if message is not None:
                self._publisher(topic, type(message)).publish(message)

    def destroy(self) -> None:
        """Destroy the publishers."""
        publishers, self._publishers = self._publishers, {}
        for publisher in publishers.values():
            self._node.destroy_publisher(publisher)

    def _publisher(self, topic: str, kind: Any) -> Any:
        if topic not in self._publishers:
            self._publishers[topic] = self._node.create_publisher(kind, topic, qos.LATCHED)
        return self._publishers[topic]


def label_info_msg(class_names: tuple[str, ...], stamp: Any, threshold: float) -> Any | None:
    """
    Return a LabelInfo message, None if vision_msgs is too old to have it.

    Parameters
    ----------
    class_names
        Of the model.
    stamp
        builtin_interfaces/Time.
    threshold
        The score threshold at configure.

    """
    if not hasattr(vision_msgs.msg, 'LabelInfo'):
        return None
    message = vision_msgs.msg.LabelInfo(threshold=threshold)
    message.header.stamp = stamp
    message.class_map = [
        vision_msgs.msg.VisionClass(class_id=index, class_name=name)
        for index, name in enumerate(class_names)
    ]
    return message
