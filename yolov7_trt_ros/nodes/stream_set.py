"""StreamSet: the image streams of the node, which may come and go while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import time
from typing import Any

from rclpy.lifecycle import LifecycleNode

from yolov7_trt_ros.core.stamps import NS_PER_S
from yolov7_trt_ros.core.topics import detections_topics, is_pattern, matching_topics, split_names
from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.nodes import qos
from yolov7_trt_ros.nodes.frame_slots import FrameSlots
from yolov7_trt_ros.nodes.frame_statistics import Counts, RemovedTopics
from yolov7_trt_ros.nodes.image_stream import ImageStream, ReceivedFrame

_GONE_NS = 10 * NS_PER_S
"""How long a topic that a pattern found may be without publisher before it is given up."""


class StreamSet(Mapping[str, ImageStream]):
    """
    Streams by resolved image topic, for the executor's thread.

    A stream that stays keeps its subscription, its publishers and its counters; what one had
    counted that was removed stays in `removed_counts`.

    Parameters
    ----------
    node
        The lifecycle node.
    image_topics, detections_topics
        The parameters: lists with commas. Names with `*` (within one part of a name) or `**`
        (over several) are patterns, looked for in the graph by `follow`.
    image_transport, image_qos
        The parameters of that name.

    Raises
    ------
    SettingError
        No topic is named, or one twice, or outputs do not fit them.

    """

    def __init__(
        self, node: LifecycleNode, *, image_topics: str, detections_topics: str,
        image_transport: str, image_qos: str,
    ) -> None:
        self._node = node
        self._transport, self._qos = image_transport, image_qos
        self._streams: dict[str, ImageStream] = {}
        self._removed = RemovedTopics()
        self._slots: FrameSlots[ReceivedFrame] | None = None
        self._without_publisher: dict[str, int] = {}
        self._max_rate_hz = 0.0
        self._wanted = self.check(image_topics, detections_topics)
        self._update()

    def __getitem__(self, topic: str) -> ImageStream:
        """Return the stream of a resolved topic."""
        return self._streams[topic]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the topics there are at present."""
        return iter(list(self._streams))

    def __len__(self) -> int:
        """Return the number of streams."""
        return len(self._streams)

    def check(self, image_topics: str, outputs: str) -> tuple[list[str], list[str]]:
        """
        Return resolved topics or patterns, and outputs, of parameters that are about to be set.

        Raises
        ------
        SettingError
            No topic is named, or one twice, or outputs do not fit them.

        """
        topics = [self._resolve(name) for name in split_names(image_topics)]
        if not topics or len(set(topics)) != len(topics):
            raise SettingError(
                f'image_topics must name at least one topic and none twice, got {topics}'
            )
        names = [self._resolve(name) for name in split_names(outputs)]
        if names and any(map(is_pattern, topics)):
            raise SettingError(
                'detections_topics must be empty where image_topics has a pattern, got '
                f'{", ".join(names)}'
            )
        if names and len(names) != len(topics):
            raise SettingError(
                'detections_topics must be empty or name one topic for each of the '
                f'{len(topics)} image topics, got {len(names)}'
            )
        return topics, names

    def set_topics(self, checked: tuple[list[str], list[str]]) -> None:
        """Take what `check` has returned."""
        self._wanted = checked
        self._update()

    def subscribe(self, slots: FrameSlots[ReceivedFrame]) -> None:
        """Subscribe; frames go to `slots`."""
        self._slots = slots
        for stream in self._streams.values():
            self._subscribe(stream)

    def close(self) -> None:
        """Unsubscribe; publishers stay."""
        self._slots = None
        for stream in self._streams.values():
            stream.close()

    def destroy(self) -> None:
        """Unsubscribe and take the publishers down."""
        for topic in self:
            self._remove(topic)

    def limit_rate(self, max_rate_hz: float) -> None:
        """Let so many images a second through per topic, also of topics to come; 0: all."""
        self._max_rate_hz = max_rate_hz
        for stream in self._streams.values():
            stream.max_rate_hz = max_rate_hz

    def follow(self) -> None:
        """Match the publishers there are, and look for topics of patterns; about once a second."""
        if any(map(is_pattern, self._wanted[0])):
            self._update()
        for stream in self._streams.values():
            stream.follow_publishers()

    def removed_counts(self) -> Counts:
        """Return what became of the frames of topics that were removed, since configure."""
        return self._removed.counts()

    def _update(self) -> None:
        """Make the streams those that are wanted now."""
        topics, names = self._wanted
        found = list(dict.fromkeys(each for topic in topics for each in self._find(topic)))
        wanted = dict(zip(found, names or detections_topics(found), strict=True))
        for topic in self:
            output = wanted.get(topic)
            if output is None or self._streams[topic].detections_topic != output:
                self._remove(topic)
        for topic, output in wanted.items():
            if topic not in self._streams:
                self._add(topic, output)

    def _find(self, topic: str) -> list[str]:
        """Return the topic, or those that a pattern finds now or found not long ago."""
        if not is_pattern(topic):
            return [topic]
        ours = {stream.overlay_topic for stream in self._streams.values()}
        seen = [
            name for name, types in self._node.get_topic_names_and_types()
            if name not in ours and qos.carries_images(types)
        ]
        return [name for name in matching_topics(topic, seen) if self._is_published(name)]

    def _is_published(self, topic: str) -> bool:
        """Whether somebody publishes the topic, or did until a short while ago."""
        now_ns = time.monotonic_ns()
        if self._node.count_publishers(topic):
            self._without_publisher.pop(topic, None)
            return True
        if topic not in self._streams:
            return False
        return now_ns - self._without_publisher.setdefault(topic, now_ns) < _GONE_NS

    def _resolve(self, name: str) -> str:
        """Return the full name of a topic; a pattern cannot be remapped."""
        if not is_pattern(name):
            try:
                return str(self._node.resolve_topic_name(name))
            except RuntimeError as exc:  # the base of rclpy's own
                raise SettingError(f'{name!r} is no topic name: {exc}') from exc
        if name.startswith('/'):
            return name
        return f'{self._node.get_namespace().rstrip("/")}/{name}'

    def _add(self, topic: str, output: str) -> None:
        stream = ImageStream(
            self._node, topic, output, image_transport=self._transport, image_qos=self._qos
        )
        self._streams[topic] = stream
        if self._slots is not None:
            self._subscribe(stream)

    def _subscribe(self, stream: ImageStream) -> None:
        assert self._slots is not None
        stream.max_rate_hz = self._max_rate_hz
        stream.subscribe(self._slots)

    def _remove(self, topic: str) -> None:
        stream = self._streams.pop(topic)
        stream.destroy()
        if self._slots is not None:
            for frame in self._slots.forget(topic):
                frame.stream.statistics.count('dropped')
        self._removed.add(stream.statistics)
        self._without_publisher.pop(topic, None)


def stream_set(node: LifecycleNode, values: Mapping[str, Any]) -> StreamSet:
    """Return the streams that the parameters of the node ask for."""
    names = ('image_topics', 'detections_topics', 'image_transport', 'image_qos')
    return StreamSet(node, **{name: values[name] for name in names})
