"""PulledTopic: take the newest message of one subscription when the worker is ready."""

from __future__ import annotations

import threading
import time
from typing import Any

from rclpy.exceptions import InvalidHandle
from rclpy.impl.implementation_singleton import rclpy_implementation

from yolov7_trt_ros.core.units import NS_PER_S
from yolov7_trt_ros.errors import ReceiveError
from yolov7_trt_ros.nodes.below_rclpy.cpp_messages import (
    ImageMessage,
    ImageMessageKind,
    MessagePool,
)
from yolov7_trt_ros.nodes.below_rclpy.rcl_library import (
    MessageInfo,
    OK,
    RclLibrary,
    TAKE_FAILED,
    TakeInfo,
)
from yolov7_trt_ros.nodes.images.frame_slots import Arrivals
from yolov7_trt_ros.nodes.images.image_stream import ImageStream, known_loss, ReceivedFrame
from yolov7_trt_ros.nodes.images.sequence_gaps import ReportedLosses, SequenceGaps
from yolov7_trt_ros.nodes.one_line import describe_error

try:
    from rclpy.event_handler import QoSSubscriptionEventType, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import QoSSubscriptionEventType, UnsupportedEventTypeError

_LONGEST_WAIT_NS = 60 * NS_PER_S
_LOOK_NS = NS_PER_S // 2
"""How often to check a topic whose next frame is not due, or that has failed."""
_MOST_AT_CLOSE = 8
"""The history holds one message; a fast publisher must not keep the removal of a topic going."""


class PulledTopic:
    """
    One subscription with a history of one message; a lock protects it from its two threads.

    The middleware overwrites messages that are not taken; they are counted by their sequence
    numbers when the next one is taken.

    Parameters
    ----------
    rcl, kind
        librcl, and the kind of message.
    stream
        The stream, with its limits and counters.
    subscription
        Subscription of rclpy that nobody else takes from.

    Attributes
    ----------
    served
        When it last gave a frame, in calls of the worker; for a fair order.
    arrivals
        Arrivals of the frames that the rate limit admits; None before the first.

    """

    def __init__(
        self, rcl: RclLibrary, kind: ImageMessageKind, stream: ImageStream, subscription: Any,
    ) -> None:
        self._rcl, self._stream, self.subscription = rcl, stream, subscription
        self.topic = stream.topic
        self.served = 0
        self.arrivals: Arrivals | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._pool, self._info = MessagePool(kind), TakeInfo()
        self._gaps, self._losses = SequenceGaps(), ReportedLosses()
        self._lost = _PolledEvent(
            subscription.handle, QoSSubscriptionEventType.RCL_SUBSCRIPTION_MESSAGE_LOST
        )
        self._mismatched = _PolledEvent(
            subscription.handle,
            QoSSubscriptionEventType.RCL_SUBSCRIPTION_REQUESTED_INCOMPATIBLE_QOS,
        )
        self._rest_until_ns = 0
        self._taken_ns = 0

    def look_ns(self) -> int:
        """Return from when on to check for a message; monotonic nanoseconds."""
        if self._stream.gate.is_closed:
            return max(self._rest_until_ns, self._taken_ns + _LOOK_NS)
        if self._stream.limits.max_rate_hz <= 0 or self._stream.gate.decides:
            return self._rest_until_ns
        due_ns = min(self._stream.rate_limit.due_ns, self._taken_ns + _LOOK_NS)
        return max(self._rest_until_ns, due_ns)

    def take(self) -> ReceivedFrame | None:
        """Take the waiting message; None if it cannot be used, which is counted."""
        with self._lock:
            if self._closed:
                return None
            try:
                return self._take()
            except InvalidHandle:
                return None  # destroyed meanwhile
            except Exception as exc:  # MemoryError, of rclpy, or a defect: later messages go on
                self._rest(exc)
                return None

    def _rest(self, error: Exception) -> None:
        self._rest_until_ns = time.monotonic_ns() + _LOOK_NS
        self._stream.report_error(describe_error(error))

    def close(self) -> None:
        """Stop taking; waiting messages count as dropped."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                for _ in range(_MOST_AT_CLOSE):
                    taken = self._take_message()
                    if taken is None:
                        break
                    self._count_passed_over(taken[1], time.monotonic_ns())
                    self._stream.statistics.count_all(received=1, dropped=1)
            except (InvalidHandle, MemoryError, ReceiveError):
                pass  # there is no more to count
            finally:
                self._lost.destroy()
                self._mismatched.destroy()

    def take_events(self) -> None:
        """Take the waiting events: as long as one waits, it wakes the wait for messages."""
        with self._lock:
            if self._closed:
                return
            try:
                self._lost.take()
                self._mismatched.take()
            except InvalidHandle:
                pass  # destroyed meanwhile
            except Exception as exc:  # of rclpy: the worker goes on, and looks here later
                self._rest(exc)

    def has_mismatched(self) -> bool:
        """Whether a publisher with incompatible QoS appeared since the last call."""
        with self._lock:
            return self._mismatched.since_before() > 0

    def _take(self) -> ReceivedFrame | None:
        self._taken_ns = time.monotonic_ns()
        try:
            taken = self._take_message()
        except ReceiveError as exc:
            self._gaps.note_unreadable()
            self._stream.statistics.count_all(received=1, failed=1)
            self._stream.report_error(f'truncated or damaged image message: {exc}')
            return None
        return None if taken is None else self._hand_on(*taken)

    def _take_message(self) -> tuple[ImageMessage, MessageInfo] | None:
        """
        Take the next message; None if there is none.

        A message that waited may be gone: Fast DDS drops those of a publisher that leaves. It also
        drops one of a reliable publisher for a later one, which can be taken only when lost ones
        in between have arrived. The sequence numbers then show what is missing.

        Raises
        ------
        ReceiveError
            It cannot be read; the message says why.

        """
        message, handle = self._pool.free_message(), self.subscription.handle
        with handle:
            code = self._rcl.take(handle.pointer, message.address, self._info)
        if code == OK:
            return message, self._info.read()
        message.find_block()
        reason = self._rcl.error()
        if code == TAKE_FAILED and not reason:
            return None
        raise ReceiveError(reason or f'rcl_take gives {code}')

    def _hand_on(self, message: ImageMessage, info: MessageInfo) -> ReceivedFrame | None:
        waited_ns = time.time_ns() - info.received_ns
        if not 0 <= waited_ns <= _LONGEST_WAIT_NS:  # the clock was set
            waited_ns = 0
        arrived_ns = time.monotonic_ns() - waited_ns
        dropped = self._count_passed_over(info, arrived_ns)
        self._stream.statistics.count('received')
        taken = message.lease()
        frame = self._stream.accept(taken, arrived_ns, waited_ns)
        too_large = taken.size_bytes > self._stream.limits.max_message_bytes
        if too_large or taken.has_too_much_room:
            self._pool.discard(message)
        if frame is not None:
            self._note_arrival(arrived_ns, dropped)
        return frame

    def _note_arrival(self, arrived_ns: int, dropped: int) -> None:
        if self.arrivals is None:
            self.arrivals = Arrivals(arrived_ns)
        else:
            self.arrivals.note(arrived_ns, dropped)

    def _count_passed_over(self, info: MessageInfo, arrived_ns: int) -> int:
        """Count the messages missed before this one; return how many would have been used."""
        missing = self._gaps.missing_before(info.publisher, info.sequence)
        if not missing:
            return 0
        lost, passed_over = self._losses.split(
            missing, known_loss(self._lost.since_before())
        )
        self._stream.note_lost(lost)
        dropped = 0 if self._stream.gate.reason else self._stream.rate_limit.admitted_until(
            arrived_ns, self._stream.limits.max_rate_hz, passed_over
        )
        self._stream.statistics.count_all(
            received=passed_over, dropped=dropped, skipped=passed_over - dropped
        )
        return dropped


class _PolledEvent:
    """
    A QoS event of a subscription that is polled instead of waited for.

    In the executor's wait set it would wake the executor at each message: Fast DDS has one
    condition for all events of a reader, and one turn of rclpy's executor costs as much as taking
    a large image.

    """

    def __init__(self, handle: Any, kind: QoSSubscriptionEventType) -> None:
        names = ('EventHandle', 'QoSEvent')  # the latter until Humble
        make = next(filter(None, (getattr(rclpy_implementation, each, None) for each in names)))
        self._count = 0
        try:
            with handle:
                self._event = make(handle, kind)
        except UnsupportedEventTypeError:
            self._event = None

    def take(self) -> None:
        """Take the waiting event, and count it."""
        if self._event is None:
            return
        with self._event:
            event = self._event.take_event()
        self._count += int(event.total_count_change) if event is not None else 0

    def since_before(self) -> int:
        """Return the number of events since the last call, as the middleware reports."""
        self.take()
        count, self._count = self._count, 0
        return count

    def destroy(self) -> None:
        """Release the subscription."""
        if self._event is not None:
            self._event.destroy_when_not_in_use()
            self._event = None
