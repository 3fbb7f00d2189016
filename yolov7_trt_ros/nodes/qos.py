"""Choose QoS and message type of a subscription from what the publishers offer."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
from typing import Any

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

RAW, COMPRESSED = 'raw', 'compressed'
_TYPES = {'sensor_msgs/msg/Image': RAW, 'sensor_msgs/msg/CompressedImage': COMPRESSED}

LATCHED = QoSProfile(
    depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL, reliability=ReliabilityPolicy.RELIABLE
)
DETECTIONS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
OVERLAY = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)


@dataclasses.dataclass(frozen=True)
class StreamChoice:
    """How to subscribe to one image topic."""

    transport: str
    reliable: bool

    def profile(self, depth: int) -> QoSProfile:
        """Return the QoS profile; volatile durability fits every publisher."""
        reliability = ReliabilityPolicy.RELIABLE
        if not self.reliable:
            reliability = ReliabilityPolicy.BEST_EFFORT
        return QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=depth,
            reliability=reliability,
            durability=DurabilityPolicy.VOLATILE,
        )


def carries_images(types: Sequence[str]) -> bool:
    """Whether one of these message types is an image type."""
    return any(each in _TYPES for each in types)


def choose_stream(
    topic: str, publishers: Sequence[Any], *, image_transport: str, image_qos: str
) -> StreamChoice:
    """
    Choose message type and reliability for a topic.

    Parameters
    ----------
    topic
        Its name; without publisher, one that ends in `/compressed` is taken as compressed.
    publishers
        Endpoint infos as `Node.get_publishers_info_by_topic` gives them.
    image_transport, image_qos
        The parameters; `auto` follows the publishers. Reliable is chosen only when every
        publisher offers it, since a reliable subscription never matches a best-effort publisher.

    """
    transports = {
        _TYPES[info.topic_type] for info in publishers if info.topic_type in _TYPES
    }
    transport = image_transport
    if transport == 'auto':
        named = COMPRESSED if topic.endswith('/compressed') else RAW
        transport = transports.pop() if len(transports) == 1 else named
    reliable = image_qos == 'reliable'
    if image_qos == 'auto':
        reliable = bool(publishers) and all(
            info.qos_profile.reliability == ReliabilityPolicy.RELIABLE for info in publishers
        )
    return StreamChoice(transport, reliable)


def describe_mismatch(topic: str, publishers: Sequence[Any]) -> str:
    """Return one line with the publisher that cannot match, and the fix."""
    best_effort = [
        info.node_name
        for info in publishers
        if info.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
    ]
    who = f' ({", ".join(best_effort)})' if best_effort else ''
    return (
        f'QoS mismatch on {topic}: we ask for reliable, a publisher{who} offers best effort, and '
        'no image arrives from it. Fix: set image_qos to auto or best_effort here, or make the '
        'camera publish reliable'
    )


def describe_wrong_type(topic: str, publishers: Sequence[Any]) -> str | None:
    """Return one line if the topic carries other messages than images, else None."""
    others = sorted({info.topic_type for info in publishers} - set(_TYPES))
    if not publishers or len(others) < len({info.topic_type for info in publishers}):
        return None
    return (
        f'{topic} carries {", ".join(others)}, expected sensor_msgs/msg/Image or '
        'sensor_msgs/msg/CompressedImage; check image_topics'
    )
