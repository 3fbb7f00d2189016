"""Settings of the detector node, made from the values of its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
from types import MappingProxyType
from typing import Any

from yolov7_trt_ros.bank.bank_settings import BankSettings
from yolov7_trt_ros.bank.update.update_machine import UpdateLimits
from yolov7_trt_ros.core.cameras.state import WatchLimits
from yolov7_trt_ros.core.class_filter import find_class_ids, find_class_thresholds
from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.topics import split_names
from yolov7_trt_ros.core.tracks.track_options import TrackOptions
from yolov7_trt_ros.core.units import NS_PER_MS, NS_PER_S
from yolov7_trt_ros.core.zones import read_zones, Zones
from yolov7_trt_ros.engine.options import DetectorOptions
from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.nodes.detector_parameters.track import track_options
from yolov7_trt_ros.nodes.images.image_stream import ImageStream, StreamLimits

TopicValues = Mapping[str, Mapping[str, Any]]
"""Values of the parameters of topics, by full topic and name."""


@dataclasses.dataclass(frozen=True)
class TopicSettings:
    """
    Settings for the frames of one topic.

    Attributes
    ----------
    detect, asked
        Settings for publishing, and for the detector, which may find more for tracking.

    """

    detect: BankSettings
    asked: DetectSettings
    track: TrackOptions
    limits: StreamLimits
    zones: Zones
    idle: bool
    only_when_subscribed: bool


@dataclasses.dataclass(frozen=True)
class NodeSettings:
    """
    All settings that may change at run time; a frame never sees half a change.

    Attributes
    ----------
    default, topics
        Settings for all topics, and for topics with their own.

    """

    default: TopicSettings
    topics: Mapping[str, TopicSettings]
    max_image_pixels: int
    max_batch: int
    batch_max_wait_ns: int
    publish_overlay: bool
    publish_annotations: bool
    class_id_format: str

    def of(self, topic: str) -> TopicSettings:
        """Return the settings of a topic, by its full name."""
        return self.topics.get(topic, self.default)

    @property
    def may_pause(self) -> bool:
        """Whether a topic may be paused."""
        return any(
            each.idle or each.only_when_subscribed
            for each in (self.default, *self.topics.values())
        )

    def pause_reason(self, stream: ImageStream) -> str:
        """Return why a topic is paused at present, '' if it is not."""
        own = self.of(stream.topic)
        if own.idle:
            return 'idle'
        if own.only_when_subscribed and not stream.has_listeners(overlay=self.publish_overlay):
            return 'nobody subscribes'
        return ''


def detector_options(values: Mapping[str, Any]) -> DetectorOptions:
    """Return the options to open the detector with; others keep their defaults."""
    names = [field.name for field in dataclasses.fields(DetectorOptions)]
    return DetectorOptions(**{name: values[name] for name in names if name in values})


def update_limits(values: Mapping[str, Any]) -> UpdateLimits:
    """Return the limits for updates of the model."""
    return UpdateLimits(
        mode=values['update'],
        shadow_frames=values['update_shadow_frames'],
        shadow_share=values['update_shadow_share'],
        min_agreement=values['update_min_agreement'],
        min_detections=values['update_min_detections'],
        max_latency_ratio=values['update_max_latency_ratio'],
        keep_ns=int(values['update_keep_s'] * NS_PER_S),
    )


def node_settings(
    values: Mapping[str, Any], class_names: Sequence[str],
    topics: TopicValues = MappingProxyType({}),
) -> NodeSettings:
    """
    Return the run-time settings.

    Parameters
    ----------
    values
        Values of the node's parameters.
    class_names
        Class names of the model.
    topics
        Values of topics that override them.

    Raises
    ------
    SettingError
        The model lacks a named class, or values do not fit together.

    """
    own = {}
    for topic, each in topics.items():
        try:
            own[topic] = _topic_settings({**values, **each}, class_names)
        except SettingError as exc:
            raise SettingError(f'{topic}: {exc}') from exc
    return NodeSettings(
        default=_topic_settings(values, class_names),
        topics=own,
        max_image_pixels=values['max_image_pixels'],
        max_batch=values['max_batch'],
        batch_max_wait_ns=int(values['batch_max_wait_ms'] * NS_PER_MS),
        publish_overlay=values['publish_overlay'],
        publish_annotations=values['publish_annotations'],
        class_id_format=values['class_id_format'],
    )


def _topic_settings(values: Mapping[str, Any], class_names: Sequence[str]) -> TopicSettings:
    detect = BankSettings(
        score_threshold=values['score_threshold'],
        iou_threshold=values['iou_threshold'],
        max_detections=values['max_detections'],
        class_ids=find_class_ids(split_names(values['classes']), class_names),
        class_agnostic=values['class_agnostic'],
        class_thresholds=find_class_thresholds(values['class_thresholds'], class_names),
        class_names=tuple(class_names),
        judged_score=values['score_threshold'],
    )
    track = track_options(values)
    return TopicSettings(
        detect=detect,
        asked=track.asked(detect),
        track=track,
        limits=StreamLimits(
            values['max_rate_hz'], values['max_message_bytes'], _watch_limits(values)
        ),
        zones=Zones(
            read_zones(values['ignore_zones']), read_zones(values['keep_zones']),
            values['zone_cover'],
        ),
        idle=values['idle'],
        only_when_subscribed=values['only_when_subscribed'],
    )


def _watch_limits(values: Mapping[str, Any]) -> WatchLimits:
    return WatchLimits(
        frozen_frames=values['camera_frozen_frames'],
        blank_share=values['camera_blank_share'],
        late_ns=int(values['camera_late_ms'] * NS_PER_MS),
        drift_ns=int(values['camera_drift_ms'] * NS_PER_MS),
        silent_ns=int(values['camera_silent_s'] * NS_PER_S),
    )
