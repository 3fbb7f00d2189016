"""DirectTake: take image messages below rclpy, after a test with messages to itself."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import time
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

from yolov7_trt_ros.core.messages.serialized_image import PackedImage, RawImage
from yolov7_trt_ros.core.units import NS_PER_S
from yolov7_trt_ros.errors import ReceiveError
from yolov7_trt_ros.nodes import qos
from yolov7_trt_ros.nodes.below_rclpy.cpp_messages import (
    ImageMessage,
    ImageMessageKind,
    typed_for_cpp,
)
from yolov7_trt_ros.nodes.below_rclpy.rcl_library import (
    MessageInfo,
    OK,
    RclLibrary,
    TAKE_FAILED,
    TakeInfo,
)
from yolov7_trt_ros.nodes.one_line import describe_error

AUTO, DIRECT, RCLPY = 'auto', 'direct', 'rclpy'
"""Values of the parameter `receive`."""

CHECK_NAME = '/_receive_check/'
"""Part of the names of the topics for test messages."""

_PATIENCE_S = 2.0
_PAUSE_S = 0.001
_CLOCK_TOLERANCE_NS = 10 * NS_PER_S
_OCTETS = bytes(range(200, 221))
TYPES = {qos.RAW: Image, qos.COMPRESSED: CompressedImage}
"""Message types by transport."""


@dataclasses.dataclass(frozen=True)
class DirectTake:
    """
    librcl, and what belongs to each transport.

    `types` are rclpy's message types for such subscriptions, `kinds` what is taken into.

    """

    rcl: RclLibrary
    types: dict[str, Any] = dataclasses.field(default_factory=dict)
    kinds: dict[str, ImageMessageKind] = dataclasses.field(default_factory=dict)


class TakenElsewhere(CallbackGroup):
    """The executor handles events of these subscriptions, but does not take their messages."""

    def can_execute(self, entity: Any) -> bool:
        """Whether the executor may wait for it."""
        return not isinstance(entity, Subscription)

    def beginning_execution(self, entity: Any) -> bool:
        """Whether the executor may begin."""
        return self.can_execute(entity)

    def ending_execution(self, entity: Any) -> None:
        """Nothing to do."""


def choose_receive(node: Node, wanted: str) -> tuple[DirectTake | None, str]:
    """
    Return how to receive images, None for through rclpy, and a text for diagnostics.

    Parameters
    ----------
    node
        Node for the test messages.
    wanted
        Value of the parameter `receive`.

    Raises
    ------
    ReceiveError
        `direct` is requested and not possible.

    """
    if wanted == RCLPY:
        return None, RCLPY
    try:
        return open_direct(node), DIRECT
    except ReceiveError as exc:
        if wanted == DIRECT:
            raise ReceiveError(
                f'receive: direct is not possible here: {exc}. Set it to auto or rclpy'
            ) from exc
        return None, f'{RCLPY}: {exc}'


def open_direct(node: Node, patience_s: float = _PATIENCE_S) -> DirectTake:
    """
    Open librcl, read the memory layout of image messages, and test with messages to itself.

    Raises
    ------
    ReceiveError
        A library is missing, or a message was not taken as it was sent.

    """
    rcl = RclLibrary()
    direct = DirectTake(rcl)
    for transport, kind in TYPES.items():
        try:
            direct.types[transport] = typed_for_cpp(kind)
            direct.kinds[transport] = ImageMessageKind(kind.__name__)
            with _Loop(node, kind, direct.types[transport]) as loop:
                _try(rcl, direct.kinds[transport], loop, patience_s)
        except ReceiveError:
            raise
        except Exception as exc:  # of ROS, for example if security forbids the topic
            raise ReceiveError(f'a message to itself failed: {describe_error(exc)}') from exc
    return direct


class _Loop:
    """A publisher and a subscription of a private topic; destroyed at the end of the context."""

    def __init__(self, node: Node, kind: Any, taken_as: Any) -> None:
        self._node, self._kind, self._taken_as = node, kind, taken_as

    def __enter__(self) -> _Loop:
        topic = f'~{CHECK_NAME}{self._kind.__name__.lower()}'
        self.publisher = self._node.create_publisher(self._kind, topic, QoSProfile(depth=2))
        try:
            self.subscription = self._node.create_subscription(
                self._taken_as, topic, leave_alone, QoSProfile(depth=2),
                callback_group=TakenElsewhere(),
            )
        except BaseException:
            self._node.destroy_publisher(self.publisher)
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        self._node.destroy_subscription(self.subscription)
        self._node.destroy_publisher(self.publisher)


def leave_alone(message: Any) -> None:
    """Do nothing: a subscription needs a callback, and this one is never called."""


def _try(rcl: RclLibrary, kind: ImageMessageKind, loop: _Loop, patience_s: float) -> None:
    """Send two messages and compare the taken ones field by field."""
    due_s = time.monotonic() + patience_s
    reach = loop.publisher.get_subscription_count
    _wait(reach, due_s, 'a message to itself finds no subscription')
    infos = []
    for number in (1, 2):
        sent = _message(kind.name, number)
        loop.publisher.publish(sent)
        message, info = ImageMessage(kind), TakeInfo()
        _wait(
            lambda: _take(rcl, loop.subscription, message, info), due_s,  # noqa: B023  at once
            'a message to itself did not arrive',
        )
        infos.append(info.read())
        _compare(sent, message.lease().read())
    _check_infos(*infos)


def _wait(condition: Callable[[], Any], due_s: float, what: str) -> None:
    while not condition():
        if time.monotonic() > due_s:
            raise ReceiveError(what)
        time.sleep(_PAUSE_S)


def _take(rcl: RclLibrary, subscription: Any, message: ImageMessage, info: TakeInfo) -> bool:
    handle = subscription.handle
    with handle:
        code = rcl.take(handle.pointer, message.address, info)
    if code not in (OK, TAKE_FAILED):
        raise ReceiveError(f'rcl_take gives {code}: {rcl.error() or "no reason"}')
    return code == OK


def _message(name: str, number: int) -> Any:
    """Return a message with another value in each field."""
    message = CompressedImage(format=f'format {number}')
    if name == 'Image':
        message = Image(
            height=3, width=2 + number, encoding=f'encoding {number}', is_bigendian=1, step=7
        )
    message.header.stamp.sec, message.header.stamp.nanosec = 1_234_567 + number, 987_654_321
    message.header.frame_id = f'frame {number} \u00e4'
    message.data.frombytes(_OCTETS[number:])
    return message


def _compare(sent: Any, taken: RawImage | PackedImage) -> None:
    header = sent.header
    expected = {
        'sec': header.stamp.sec, 'nanosec': header.stamp.nanosec, 'frame_id': header.frame_id,
    }
    found = dict(vars(taken.header))
    for name in vars(taken):
        if name not in ('header', 'memory'):
            expected[name], found[name] = getattr(sent, name), getattr(taken, name)
    expected['data'], found['data'] = bytes(expected['data']), bytes(found['data'])
    if expected != found:
        raise ReceiveError(f'a message to itself was read as {found}, expected {expected}')


def _check_infos(first: MessageInfo, second: MessageInfo) -> None:
    """Check the infos of two messages of one publisher, which frames are counted by."""
    if not first.is_numbered or first.publisher != second.publisher:
        raise ReceiveError(
            f'{rclpy_implementation.rclpy_get_rmw_implementation_identifier()} numbers no '
            'messages, so what was passed over could not be counted'
        )
    if second.sequence != first.sequence + 1:
        raise ReceiveError(f'messages are numbered {first.sequence}, {second.sequence}')
    now_ns = time.time_ns()
    for stamp_ns in (first.source_ns, first.received_ns, second.source_ns, second.received_ns):
        if abs(now_ns - stamp_ns) > _CLOCK_TOLERANCE_NS:
            raise ReceiveError(f'messages are stamped {stamp_ns} at {now_ns}')
