"""SingleShot: the service ~/detect_once, one frame of each topic in any configured state."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping
from functools import partial
import threading

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger

from yolov7_trt_ros.core.detections import class_name, Detections
from yolov7_trt_ros.core.plain_text import one_line
from yolov7_trt_ros.nodes.images.image_stream import ImageStream
from yolov7_trt_ros.nodes.steady_clock import steady_clock

WAIT_S = 5.0
_MOST_CHARACTERS = 10_000


class SingleShot:
    """
    Answers `~/detect_once` when the detections of the newest frame of each topic are published.

    The service waits in its own callback group, without blocking the executor. A topic without a
    frame within `WAIT_S` is reported as such.

    Parameters
    ----------
    node
        The detector node.
    begin
        Prepares to detect and returns the streams; or why that is not possible.
    end
        Called when the service has its answer.

    """

    def __init__(
        self, node: Node, begin: Callable[[], Mapping[str, ImageStream] | str],
        end: Callable[[], None],
    ) -> None:
        self._node, self._begin, self._end = node, begin, end
        self._lock = threading.Lock()
        self._results: dict[str, str] = {}
        self._wanted: frozenset[str] = frozenset()
        self._future: Future[None] | None = None
        self._group = MutuallyExclusiveCallbackGroup()
        self._timers = MutuallyExclusiveCallbackGroup()
        self._answered = node.create_guard_condition(self._finish_if_all)
        node.create_service(
            Trigger, '~/detect_once', self._serve, callback_group=self._group
        )

    async def _serve(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        streams = self._begin()
        if isinstance(streams, str):
            response.message = streams
            return response
        try:
            await self._detect(streams)
        finally:
            for stream in streams.values():
                stream.gate.ask_no_more()
            self._end()
        missing = self._wanted - self._results.keys()
        parts = [
            f'{topic}: {self._results.get(topic, f"no image within {WAIT_S:g} s")}'
            for topic in sorted(self._wanted)
        ]
        response.success = not missing and not any(
            each.startswith('failed') for each in self._results.values()
        )
        response.message = one_line('; '.join(parts), _MOST_CHARACTERS)
        return response

    async def _detect(self, streams: Mapping[str, ImageStream]) -> None:
        """Request one frame of each topic, and wait for their results."""
        self._future = Future()
        with self._lock:
            self._results, self._wanted = {}, frozenset(streams)
        for topic, stream in streams.items():
            stream.ask(partial(self._note, topic))
        timer = self._node.create_timer(
            WAIT_S, self._finish, callback_group=self._timers, clock=steady_clock()
        )
        try:
            await self._future
        finally:
            self._node.destroy_timer(timer)

    def _note(self, topic: str, result: str) -> None:
        with self._lock:
            self._results[topic] = result
        self._answered.trigger()

    def _finish_if_all(self) -> None:
        with self._lock:
            is_all = self._wanted <= self._results.keys()
        if is_all:  # not for a late trigger of the last call
            self._finish()

    def _finish(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)


def result_text(
    detections: Detections, class_names: tuple[str, ...], milliseconds: float
) -> str:
    """Return what was found by class name: `3 detections (2 person, 1 dog) in 12.3 ms`."""
    count = len(detections)
    names = collections.Counter(
        class_name(class_names, number) for number in detections.class_ids.tolist()
    )
    parts = ', '.join(f'{number} {name}' for name, number in names.most_common())
    return (
        f'{count} detection{"" if count == 1 else "s"}{f" ({parts})" if parts else ""} '
        f'in {milliseconds:.1f} ms'
    )
