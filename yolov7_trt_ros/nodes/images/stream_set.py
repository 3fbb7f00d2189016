"""StreamSet: all image streams of the node; topics can be added and removed at run time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
import time
from typing import Any

from rclpy.exceptions import NameValidationException
from rclpy.lifecycle import LifecycleNode

from yolov7_trt_ros.core.topics import matching_topics
from yolov7_trt_ros.core.units import NS_PER_S
from yolov7_trt_ros.core.zones import Zones
from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.nodes import qos
from yolov7_trt_ros.nodes.below_rclpy.direct_take import CHECK_NAME
from yolov7_trt_ros.nodes.images.frame_statistics import Counts, RemovedTopics
from yolov7_trt_ros.nodes.images.image_stream import ImageReceiver, ImageStream, StreamLimits
from yolov7_trt_ros.nodes.images.topic_plan import (
    check_types,
    Plan,
    plan_streams,
    StreamNames,
    wanted_topics,
    WantedTopics,
)
from yolov7_trt_ros.nodes.one_line import describe_error

_GONE_NS = 10 * NS_PER_S
"""How long a topic found by a pattern may be without publisher before it is removed."""

_LAST_READ_NS = 2 * NS_PER_S
"""How long the last detections of a removed topic can still be read."""


class StreamSet(Mapping[str, ImageStream]):
    """
    Streams by resolved image topic, for the executor's thread.

    A stream that stays keeps its subscription, publishers and counters; counters of removed
    streams are kept in `removed_counts`.

    Parameters
    ----------
    node
        The lifecycle node.
    image_topics, detections_topics
        The parameters: lists with commas. Names with `*` (within one part of a name) or `**`
        (over several) are patterns, which `sync_with_graph` looks up in the graph.
    image_transport, image_qos, publish_annotations, engines
        The parameters of that name.
    on_error
        Called with one line for each message that cannot become a frame.

    Attributes
    ----------
    passed_over
        Topics that a pattern found and that cannot be used, and why.

    Raises
    ------
    SettingError
        The topics cannot be used: see `wanted_topics`.

    """

    def __init__(
        self, node: LifecycleNode, *, image_topics: str, detections_topics: str,
        image_transport: str, image_qos: str, publish_annotations: bool,
        engines: str, on_error: Callable[[str], None],
    ) -> None:
        self._node = node
        self._arguments: dict[str, Any] = {
            'image_transport': image_transport, 'image_qos': image_qos, 'on_error': on_error,
            'annotates': publish_annotations, 'names_engines': bool(engines),
        }
        self._streams: dict[str, ImageStream] = {}
        self._removed = RemovedTopics()
        self._receiver: ImageReceiver | None = None
        self._without_publisher: dict[str, int] = {}
        self._released: list[tuple[int, Any]] = []  # publishers to take down, and since when
        self._limits: Callable[[str], StreamLimits] = lambda topic: StreamLimits()
        self._pause_reason: Callable[[ImageStream], str] = lambda stream: ''
        self.passed_over: dict[str, str] = {}
        self._wanted = wanted_topics(node, image_topics, detections_topics)
        self._apply(self._plan(self._wanted))

    def __getitem__(self, topic: str) -> ImageStream:
        """Return the stream of a resolved topic."""
        return self._streams[topic]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the present topics."""
        return iter(list(self._streams))

    def __len__(self) -> int:
        """Return the number of streams."""
        return len(self._streams)

    def check(self, image_topics: str, outputs: str) -> WantedTopics:
        """
        Return the topics that new parameters name, checked.

        Raises
        ------
        SettingError
            The topics cannot be used, or carry other messages at present.

        """
        wanted = wanted_topics(self._node, image_topics, outputs)
        check_types(self._node, plan_streams(self._node, wanted), self._names())
        return wanted

    def set_topics(self, wanted: WantedTopics) -> None:
        """
        Switch to what `check` returned, completely or not at all.

        Raises
        ------
        SettingError
            The middleware refuses one of them; nothing has changed.

        """
        self._apply(self._plan(wanted))
        self._wanted = wanted

    def subscribe(self, receiver: ImageReceiver) -> None:
        """Subscribe; `receiver` gets the frames."""
        self._receiver = receiver
        for stream in self._streams.values():
            stream.subscribe(receiver)

    def close(self) -> None:
        """Unsubscribe; publishers stay."""
        self._receiver = None
        for stream in self._streams.values():
            stream.close()

    def destroy(self) -> None:
        """Unsubscribe and destroy the publishers."""
        for topic in self:
            self._remove(topic)
        self._take_down(time.monotonic_ns())

    def limit(
        self, limits: Callable[[str], StreamLimits], pause_reason: Callable[[ImageStream], str]
    ) -> None:
        """
        Set limits and pauses, also for future topics.

        Parameters
        ----------
        limits
            Of a topic.
        pause_reason
            Why frames of a stream are held back, '' if they are not.

        """
        self._limits, self._pause_reason = limits, pause_reason
        for stream in self._streams.values():
            self._limit(stream)

    def _limit(self, stream: ImageStream) -> None:
        stream.limits = self._limits(stream.topic)
        stream.gate.close(self._pause_reason(stream))

    def check_zones(self, zones: Callable[[str], Zones]) -> None:
        """
        Check zones against the images that topics have had.

        Raises
        ------
        SettingError
            A zone exceeds the latest image of its topic.

        """
        for topic, stream in self._streams.items():
            problem = zones(topic).problem(stream.size_wh) if stream.size_wh else ''
            if problem:
                raise SettingError(f'{topic}: {problem}')

    def sync_with_graph(self) -> None:
        """
        Adapt to the present publishers, and look up patterns; about once a second.

        Without a receiver only publishers of removed topics are destroyed.

        """
        self._take_down(time.monotonic_ns() - _LAST_READ_NS)
        if self._receiver is None:
            return
        if any(image.is_pattern for image in self._wanted.images):
            self._apply(self._plan(self._wanted))
        for stream in self._streams.values():
            try:
                stream.sync_with_publishers()
            except Exception as exc:  # of the middleware: tried again later
                stream.problem = f'cannot subscribe: {describe_error(exc)}'

    def removed_counts(self) -> Counts:
        """Return the counters of removed topics since configure."""
        return self._removed.counts()

    def _plan(self, wanted: WantedTopics) -> Plan:
        patterns = [image.full for image in wanted.images if image.is_pattern]
        found = dict.fromkeys(each for pattern in patterns for each in self._find(pattern))
        # Existing streams win over new ones that conflict with them.
        return plan_streams(
            self._node, wanted, sorted(found, key=lambda topic: topic not in self._streams),
            self._names(),
        )

    def _names(self) -> list[StreamNames]:
        return [stream.names for stream in self._streams.values()]

    def _apply(self, plan: Plan) -> None:
        """Apply a plan: add and remove streams."""
        names = {each.image.full: each for each in plan.streams}
        leaving = [
            stream for topic, stream in self._streams.items() if names.get(topic) != stream.names
        ]
        staying = self._streams.keys() - {stream.topic for stream in leaving}
        coming = [self._make(each) for topic, each in names.items() if topic not in staying]
        for stream in leaving:
            detections = stream.release()
            if detections is not None:
                self._released.append((time.monotonic_ns(), detections))
        refused = self._open_all(coming)
        for stream in coming:
            if stream.names.image in plan.named and stream.topic in refused:
                self._put_back(coming, leaving)
                raise SettingError(refused[stream.topic])
        for stream in leaving:
            self._forget(stream)
        self._streams |= {each.topic: each for each in coming if each.topic not in refused}
        self.passed_over = plan.passed_over | refused

    def _open_all(self, coming: Sequence[ImageStream]) -> dict[str, str]:
        """Open streams; return the topics of those that failed, and why."""
        refused = {}
        for stream in coming:
            try:
                self._open(stream)
            except Exception as exc:  # whatever the middleware raises at a name or a type
                stream.destroy()
                refused[stream.topic] = (
                    f'{stream.topic}: the middleware refuses it: {describe_error(exc)}'
                )
        return refused

    def _put_back(self, coming: Sequence[ImageStream], leaving: Sequence[ImageStream]) -> None:
        """Undo a change: destroy the new streams, open the old ones again."""
        for stream in coming:
            stream.destroy()
        for topic, reason in self._open_all(leaving).items():
            self._streams[topic].problem = reason

    def _make(self, names: StreamNames) -> ImageStream:
        return ImageStream(self._node, names, **self._arguments)

    def _open(self, stream: ImageStream) -> None:
        stream.open_publishers()
        self._limit(stream)
        if self._receiver is not None:
            stream.subscribe(self._receiver)

    def _find(self, pattern: str) -> list[str]:
        """Return the topics that a pattern finds now or found recently."""
        ours = {stream.names.overlay.full for stream in self._streams.values()}
        seen = [
            name for name, types in self._node.get_topic_names_and_types()
            if name not in ours and qos.carries_images(types) and CHECK_NAME not in name
        ]
        return [name for name in matching_topics(pattern, seen) if self._is_published(name)]

    def _is_published(self, topic: str) -> bool:
        """Whether the topic has a publisher, or had one recently."""
        now_ns = time.monotonic_ns()
        try:
            is_published = self._node.count_publishers(topic) > 0
        except (NameValidationException, ValueError):
            return True  # `plan_streams` reports what is wrong with it
        if is_published:
            self._without_publisher.pop(topic, None)
            return True
        if topic not in self._streams:
            return False
        return now_ns - self._without_publisher.setdefault(topic, now_ns) < _GONE_NS

    def _remove(self, topic: str) -> None:
        stream = self._streams[topic]
        stream.destroy()
        self._forget(stream)

    def _take_down(self, until_ns: int) -> None:
        """Destroy the publishers that were released until then."""
        while self._released and self._released[0][0] <= until_ns:
            self._node.destroy_publisher(self._released.pop(0)[1])

    def _forget(self, stream: ImageStream) -> None:
        """Update the books for a destroyed stream."""
        self._streams.pop(stream.topic)
        if self._receiver is not None:
            for frame in self._receiver.forget(stream.topic):
                frame.stream.statistics.count('dropped')
        self._removed.add(stream.statistics)
        self._without_publisher.pop(stream.topic, None)


def stream_set(
    node: LifecycleNode, values: Mapping[str, Any], on_error: Callable[[str], None]
) -> StreamSet:
    """Make the streams that the parameters of the node name."""
    names = (
        'image_topics', 'detections_topics', 'image_transport', 'image_qos', 'publish_annotations',
        'engines',
    )
    return StreamSet(node, **{name: values[name] for name in names}, on_error=on_error)
