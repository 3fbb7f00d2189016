"""PulledImages: the worker itself waits for the newest image messages, below rclpy."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable
import threading
import time
from typing import Any

from rclpy.exceptions import InvalidHandle
from rclpy.guard_condition import GuardCondition
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile

from yolov7_trt_ros.nodes import qos
from yolov7_trt_ros.nodes.below_rclpy.direct_take import DirectTake, leave_alone, TakenElsewhere
from yolov7_trt_ros.nodes.images.image_stream import ImageStream, NO_EVENTS, ReceivedFrame
from yolov7_trt_ros.nodes.images.pulled_topic import PulledTopic

_DEPTH = 1
"""Only the newest message is needed; replaced ones are counted by sequence number."""


class PulledImages:
    """
    Image subscriptions that one worker waits for and takes from, in its own thread.

    A message is only taken, and copied, when the worker is ready for it. The topic that was served
    longest ago comes first, so that a fast camera cannot starve a slow one.

    Parameters
    ----------
    node
        The lifecycle node; its executor never takes these messages.
    direct
        How to take below rclpy.

    """

    def __init__(self, node: LifecycleNode, direct: DirectTake) -> None:
        self._node, self._direct = node, direct
        self._context: Any = node.context
        self._left_alone = TakenElsewhere()
        self._lock = threading.Lock()
        self._topics: dict[str, PulledTopic] = {}
        self._given: collections.deque[ReceivedFrame] = collections.deque()
        self._closed = False
        self._wake = GuardCondition(None, None, context=node.context)
        self._waiting = _WaitSet(node.context, self._wake.handle)
        self._looked_ns = time.monotonic_ns()
        self._calls = 0

    # The executor's thread -----------------------------------------------------------------------

    def subscribe(self, stream: ImageStream, choice: qos.StreamChoice) -> PulledTopic:
        """Subscribe; return the argument for `unsubscribe`."""
        profile: QoSProfile = choice.profile(_DEPTH)
        subscription = self._node.create_subscription(
            self._direct.types[choice.transport], stream.names.image.asked, leave_alone, profile,
            callback_group=self._left_alone, event_callbacks=NO_EVENTS,
        )
        topic = PulledTopic(
            self._direct.rcl, self._direct.kinds[choice.transport], stream, subscription
        )
        with self._lock:
            self._topics[stream.topic] = topic
        self._wake.trigger()
        return topic

    def unsubscribe(self, topic: PulledTopic) -> None:
        """End a subscription; a waiting message counts as dropped."""
        with self._lock:
            self._topics.pop(topic.topic, None)
        topic.close()
        self._wake.trigger()
        self._node.destroy_subscription(topic.subscription)

    def has_mismatched(self, topic: str) -> bool:
        """Whether a publisher with incompatible QoS appeared since the last call."""
        with self._lock:
            pulled = self._topics.get(topic)
        return pulled is not None and pulled.has_mismatched()

    def forget(self, topic: str) -> list[ReceivedFrame]:
        """Return no frames: `unsubscribe` has counted what waited."""
        return []

    def waits(self, topic: str) -> bool:
        """Whether a message of a topic waits that is not counted yet."""
        with self._lock:
            pulled = self._topics.get(topic)
        return pulled is not None and bool(self._waiting.look_beside([pulled]))

    def known_until_ns(self) -> int:
        """Return until when arrivals are known; monotonic nanoseconds."""
        return time.monotonic_ns() if self._waiting.is_waiting else self._looked_ns

    def close(self) -> list[ReceivedFrame]:
        """Wake the worker for good; call it after all topics are unsubscribed."""
        self._closed = True
        self._wake.trigger()
        return list(self._given)

    def give(self, frame: ReceivedFrame) -> None:
        """Pass a held frame to the worker, before others."""
        self._given.append(frame)
        self._wake.trigger()

    def wake(self) -> None:
        """Make a waiting `take` check again; from any thread."""
        self._wake.trigger()

    # The worker's thread -------------------------------------------------------------------------

    def take(
        self, most: int = 1, wait_ns: int = 0, until: Callable[[], bool] = lambda: False
    ) -> list[tuple[str, ReceivedFrame]]:
        """
        Wait for frames and return the newest of some topics; see `FrameSlots.take`.

        Parameters
        ----------
        most
            Maximum number of frames, each of another topic.
        wait_ns
            How long the first of them may wait for others that are due within that time.
        until
            Stops waiting when this returns True; it is called first, and after each `wake`.

        Returns
        -------
        list of tuple
            Topic and frame; empty once closed, or if `until` returned True.

        """
        self._calls += 1
        ready: dict[PulledTopic, int] = {}  # since when, at the earliest
        while not self._closed and self._context.ok() and not until():
            if self._given:
                frame = self._given.popleft()
                return [(frame.stream.topic, frame)]
            pause_ns = self._pause_ns(ready, most, wait_ns)
            if ready and pause_ns == 0:
                taken = self._take_from(ready, most)
                if taken:
                    return taken
                ready = {}
                continue
            self._look(ready, pause_ns)
        return []

    def take_waiting(self, most: int = 1) -> list[tuple[str, ReceivedFrame]]:
        """Return the newest waiting frames without blocking, as `take` does."""
        if self._closed:
            return []
        self._calls += 1
        found = self._waiting.look(self._due())
        self._looked_ns = time.monotonic_ns()
        return self._take_from(found, most)

    def has_waiting(self) -> bool:
        """Whether a frame waits of a topic whose next frame is due."""
        return bool(self._waiting.look(self._due()))

    def _take_from(
        self, ready: Iterable[PulledTopic], most: int
    ) -> list[tuple[str, ReceivedFrame]]:
        taken = []
        for topic in sorted(ready, key=lambda each: each.served):
            frame = topic.take()
            if frame is not None:
                topic.served = self._calls
                taken.append((topic.topic, frame))
            if len(taken) == most:
                break
        return taken

    def _pause_ns(self, ready: dict[PulledTopic, int], most: int, wait_ns: int) -> int | None:
        """Return how long to wait before taking: 0 for not at all, None until a message comes."""
        if not ready:
            return None
        if len(ready) >= most or wait_ns <= 0:
            return 0
        now_ns = time.monotonic_ns()
        until_ns = min(ready.values()) + wait_ns
        arrivals = [each.arrivals for each in self._present() if each not in ready]
        if any(each is not None and each.is_due(now_ns, until_ns) for each in arrivals):
            return max(0, until_ns - now_ns)
        return 0

    def _look(self, ready: dict[PulledTopic, int], pause_ns: int | None) -> None:
        """Add topics that are ready, or become ready within a pause; end early at any change."""
        now_ns, looked_ns = time.monotonic_ns(), self._looked_ns
        look_ns = {each: each.look_ns() for each in self._present() if each not in ready}
        others = [each for each, at_ns in look_ns.items() if at_ns <= now_ns]
        found = self._waiting.look(others)
        if not found:
            pauses_ns = [at_ns - now_ns for at_ns in look_ns.values() if at_ns > now_ns]
            if pause_ns is not None:
                pauses_ns.append(pause_ns)
            found = self._waiting.wait(others, min(pauses_ns, default=-1))
            looked_ns = time.monotonic_ns()
        if not found:  # it may be an event that has ended the wait, as of a lost message
            for each in others:
                each.take_events()
        self._looked_ns = time.monotonic_ns()
        for each in found:
            ready[each] = looked_ns

    def _due(self) -> list[PulledTopic]:
        now_ns = time.monotonic_ns()
        return [each for each in self._present() if each.look_ns() <= now_ns]

    def _present(self) -> list[PulledTopic]:
        with self._lock:
            return list(self._topics.values())


class _WaitSet:
    """
    A wait set of rcl over subscriptions and a guard condition, for one thread at a time.

    Handles are held during the wait: those destroyed meanwhile are freed after it.

    """

    def __init__(self, context: Any, wake: Any) -> None:
        self._context, self._wake = context, wake
        self._lock = threading.Lock()
        self._room = 0
        self._wait_set: Any = None

    @property
    def is_waiting(self) -> bool:
        """Whether a thread waits, so that no arrival can be missed."""
        return self._lock.locked()

    def wait(self, topics: Iterable[PulledTopic], timeout_ns: int) -> list[PulledTopic]:
        """Wait for a time (-1: for ever) or until woken; return the topics that have a message."""
        with self._lock:
            return self._wait(topics, timeout_ns, [self._wake])

    def look(self, topics: Iterable[PulledTopic]) -> list[PulledTopic]:
        """Return the topics that have a message now."""
        with self._lock:
            return self._wait(topics, 0, [])

    def look_beside(self, topics: Iterable[PulledTopic]) -> list[PulledTopic]:
        """Return the topics that have a message now; none if another thread waits for them."""
        if not self._lock.acquire(blocking=False):
            return []
        try:
            return self._wait(topics, 0, [])
        finally:
            self._lock.release()

    def _wait(
        self, topics: Iterable[PulledTopic], timeout_ns: int, guards: list[Any]
    ) -> list[PulledTopic]:
        """Wait; a guard condition that has ended it is as before, so none is given to a look."""
        with _Held() as held:
            for handle in (self._context.handle, *guards):
                held.add(handle)
            alive = [each for each in topics if held.try_add(each.subscription.handle)]
            if not alive and not guards:
                return []
            wait_set = self._sized(len(alive))
            held.add(wait_set)
            wait_set.clear_entities()
            for each in alive:
                wait_set.add_subscription(each.subscription.handle)
            for guard in guards:
                wait_set.add_guard_condition(guard)
            wait_set.wait(timeout_ns)
            return [
                each for index, each in enumerate(alive)
                if wait_set.is_ready('subscription', index)
            ]

    def _sized(self, topics: int) -> Any:
        if self._wait_set is None or topics > self._room:
            self._room = topics
            self._wait_set = rclpy_implementation.WaitSet(
                topics, 1, 0, 0, 0, 0, self._context.handle
            )
        return self._wait_set


class _Held:
    """Handles of rcl that are held until the end; faster than an ExitStack."""

    def __init__(self) -> None:
        self._handles: list[Any] = []

    def __enter__(self) -> _Held:
        return self

    def add(self, handle: Any) -> None:
        """Hold a handle; InvalidHandle if it was destroyed."""
        handle.__enter__()
        self._handles.append(handle)

    def try_add(self, handle: Any) -> bool:
        """Hold a handle; return False if it was destroyed and its topic is about to go."""
        try:
            self.add(handle)
        except InvalidHandle:
            return False
        return True

    def __exit__(self, *_: Any) -> None:
        while self._handles:
            self._handles.pop().__exit__(None, None, None)
