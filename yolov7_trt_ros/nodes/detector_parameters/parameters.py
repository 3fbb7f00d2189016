"""Parameters of the detector node: one table for descriptors, checks and docs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yolov7_trt_ros.bank.update.update_machine import MODES, UpdateLimits
from yolov7_trt_ros.core.cameras.state import WatchLimits
from yolov7_trt_ros.core.class_filter import split_class_thresholds
from yolov7_trt_ros.core.defaults import (
    DEFAULT_MAX_DECODED_PIXELS,
    MAX_DETECTIONS_LIMIT,
    MAX_PIXELS,
)
from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.units import NS_PER_MS, NS_PER_S
from yolov7_trt_ros.core.zones import read_zones
from yolov7_trt_ros.engine.engine_list import ENGINE_OPTIONS
from yolov7_trt_ros.engine.options import DEFAULT_MODEL, DetectorOptions, MAX_BATCH_LIMIT
from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.nodes.below_rclpy.direct_take import AUTO, DIRECT, RCLPY
from yolov7_trt_ros.nodes.detector_parameters.look import LOOK_PARAMETERS
from yolov7_trt_ros.nodes.detector_parameters.tile import TILE_PARAMETERS
from yolov7_trt_ros.nodes.detector_parameters.track import TRACK_PARAMETERS
from yolov7_trt_ros.nodes.images.annotations import check_wanted
from yolov7_trt_ros.nodes.parameter_spec import ParameterSpec
from yolov7_trt_ros.nodes.prometheus_file import PROMETHEUS_FILE

REBUILD = 'rebuild'
"""Value of `on_plan_mismatch`."""

EXIT = 'exit'
"""Value of `on_device_lost`."""

_OPTIONS = DetectorOptions()
_LIMITS = UpdateLimits()
_SETTINGS = DetectSettings()
_WATCH = WatchLimits()


def _engine_option(name: str) -> ParameterSpec:
    """Return the parameter of an option that every engine has, as in a file of `engines`."""
    return ParameterSpec(**vars(ENGINE_OPTIONS[name]))


PARAMETERS = (
    ParameterSpec('autostart', False, 'Configure and activate at start, without a manager.'),
    ParameterSpec(
        'image_topics', 'image_raw',
        'Image topics: a list, or one string with commas. `*` stands for one part of a name, `**` '
        'for several. sensor_msgs/Image or CompressedImage.', runtime=True,
    ),
    ParameterSpec(
        'detections_topics', '',
        'One output topic per image topic, in the same order. Empty: `detections` in the '
        'namespace of each image topic.', runtime=True,
    ),
    ParameterSpec(
        'image_transport', 'auto', 'Message type to subscribe to. auto: that of the publisher.',
        choices=('auto', 'raw', 'compressed'),
    ),
    ParameterSpec(
        'image_qos', 'auto', 'Reliability to request. auto: that of the publishers.',
        choices=('auto', 'best_effort', 'reliable'),
    ),
    ParameterSpec(
        'receive', AUTO,
        'How images are received: from rcl, with the pixels read in place (direct), or through '
        'rclpy. auto: direct if a test with messages to itself succeeds.',
        choices=(AUTO, DIRECT, RCLPY),
    ),
    ParameterSpec(
        'model', DEFAULT_MODEL,
        'Path of a model file, or name of an embedded model. On an active node another value '
        'starts an update, see `update`.',
        otherwise='on an active node a change starts an update, else it takes effect at the '
        'configure transition',
    ),
    ParameterSpec(
        'engines', '',
        'More engines in addition to that of `model`: paths or names of models as a list or one '
        'string with commas, or one YAML file. They take frames while the first is busy, if this '
        'makes no image late.',
    ),
    ParameterSpec(
        'model_folders', '',
        'Allowed folders for the files of `model`, `engines`, `class_names` and `plan_cache` when '
        'they are set while the node runs: a list, or one string with commas. Empty: the folders '
        'of `model` and `class_names` at start. Only at start.', start_only=True,
    ),
    _engine_option('backend'),
    _engine_option('class_names'),
    _engine_option('anchors'),
    _engine_option('network_size'),
    _engine_option('rectangular'),
    _engine_option('threads'),
    _engine_option('precision'),
    ParameterSpec(
        'on_plan_mismatch', REBUILD,
        'If the TensorRT plan does not fit this machine, or is not built yet: build it in the '
        'background, or fail to configure.', choices=(REBUILD, 'fail'),
    ),
    ParameterSpec(
        'plan_cache', _OPTIONS.plan_cache,
        'Folder of plans built from ONNX models. Empty: `yolov7_trt_ros/plans` in XDG_CACHE_HOME '
        'or in ~/.cache.',
    ),
    ParameterSpec(
        'max_batch', _OPTIONS.max_batch,
        'Maximum number of images, each of another topic, in one batch. It is limited by the '
        'plan, and is one on the CPU. A TensorRT plan that is built here has this batch size.', 1,
        MAX_BATCH_LIMIT,
    ),
    _engine_option('memory'),
    _engine_option('cuda_graph'),
    ParameterSpec(
        'on_device_lost', 'stay',
        'After an error that makes CUDA unusable to this process: stay, in an error state, or '
        'exit with status 3 for a restart.', choices=('stay', EXIT), runtime=True,
    ),
    ParameterSpec(
        'score_threshold', _SETTINGS.score_threshold, 'Minimum score of a detection.', 0.0, 1.0,
        runtime=True, per_topic=True,
    ),
    ParameterSpec(
        'iou_threshold', _SETTINGS.iou_threshold,
        'Overlap (intersection over union) above which the weaker box is dropped.', 0.0, 1.0,
        runtime=True, per_topic=True,
    ),
    ParameterSpec(
        'max_detections', _SETTINGS.max_detections, 'Maximum number of detections per image.', 1,
        MAX_DETECTIONS_LIMIT, runtime=True, per_topic=True,
    ),
    ParameterSpec(
        'classes', '', 'Classes to keep, by name or index: a list, or one string with commas. '
        'Empty: all.', runtime=True, per_topic=True,
    ),
    ParameterSpec(
        'class_thresholds', '',
        'Minimum score of single classes instead of score_threshold: class:score by name or '
        'index, as in `person:0.4, car:0.3`. A list, or one string with commas.',
        reads=split_class_thresholds, runtime=True, per_topic=True,
    ),
    ParameterSpec(
        'class_agnostic', _SETTINGS.class_agnostic,
        'Boxes of different classes suppress each other.', runtime=True, per_topic=True,
    ),
    ParameterSpec(
        'ignore_zones', '',
        'Polygons in which detections are dropped: a list of `x,y x,y x,y`, or one string with '
        '`;` between them. In pixels of the image, or within 0..1.', reads=read_zones,
        runtime=True, per_topic=True, separator=';',
    ),
    ParameterSpec(
        'keep_zones', '', 'Polygons outside of which detections are dropped. Empty: none.',
        reads=read_zones, runtime=True, per_topic=True, separator=';',
    ),
    ParameterSpec(
        'zone_cover', 0.0,
        'Share of a box that a zone must cover for the box to be in it. 0: its centre decides.',
        0.0, 1.0, runtime=True, per_topic=True,
    ),
    *TRACK_PARAMETERS,
    ParameterSpec(
        'max_image_pixels', DEFAULT_MAX_DECODED_PIXELS,
        'Maximum width x height of a compressed image when decoded. Larger ones fail.', 1,
        MAX_PIXELS, runtime=True,
    ),
    ParameterSpec(
        'max_rate_hz', 0.0, 'Maximum images per second to process per topic. 0: no limit.', 0.0,
        1000.0, runtime=True, per_topic=True,
    ),
    ParameterSpec(
        'max_message_bytes', 64 * 2**20,
        'Largest image message to accept, in bytes. A larger one counts as failed. The default '
        'fits 20 megapixels in colour. Five per topic may wait in the middleware, one with '
        'receive direct.', 1024,
        2**31 - 1, runtime=True,
    ),
    ParameterSpec(
        'batch_max_wait_ms', 0.0,
        'Maximum time that a frame waits for frames of other topics to run in one batch, in '
        'milliseconds. It waits only for a frame that is due within that time.', 0.0, 1000.0,
        runtime=True,
    ),
    ParameterSpec(
        'publish_overlay', True, 'Publish images with drawn boxes while there are subscribers.',
        runtime=True,
    ),
    ParameterSpec(
        'publish_annotations', False,
        "Publish boxes and labels as Foxglove's ImageAnnotations while there are subscribers. "
        'This needs foxglove_msgs.', reads=check_wanted,
    ),
    ParameterSpec(
        'idle', False,
        'Detect only on request by `~/detect_once`. Images are still received.',
        runtime=True, per_topic=True,
    ),
    ParameterSpec(
        'only_when_subscribed', False,
        'Detect nothing while the detections and the overlay of a topic have no subscriber.',
        runtime=True, per_topic=True,
    ),
    ParameterSpec(
        'camera_frozen_frames', _WATCH.frozen_frames,
        'Number of repeats in a row of one picture, or of one stamp, from which on a camera '
        'counts as frozen, at least 2. 0: never.', 0, 100_000, runtime=True, per_topic=True,
        reads=lambda frames: WatchLimits(frozen_frames=frames),
    ),
    ParameterSpec(
        'camera_blank_share', _WATCH.blank_share,
        'Share of an image that is black, or white, from which on a camera counts as dark, or '
        'bright. 0: never.', 0.0, 1.0, runtime=True, per_topic=True,
    ),
    ParameterSpec(
        'camera_late_ms', _WATCH.late_ns / NS_PER_MS,
        'Maximum distance of stamps from the clock when images arrive, in milliseconds, before a '
        'camera counts as late. 0: any distance.', 0.0, 1e9, runtime=True, per_topic=True,
    ),
    ParameterSpec(
        'camera_drift_ms', _WATCH.drift_ns / NS_PER_MS,
        'Maximum change of that distance since the first images, in milliseconds. 0: any change.',
        0.0, 1e9, runtime=True, per_topic=True,
    ),
    ParameterSpec(
        'camera_silent_s', _WATCH.silent_ns / NS_PER_S,
        'Time without an image, in seconds, after which a camera counts as silent.', 1.0,
        86_400.0, runtime=True, per_topic=True,
    ),
    ParameterSpec(
        'update', _LIMITS.mode,
        'Effect of setting `model` on an active node: the new model is compared on live frames '
        'before it serves, serves at once, or is refused.', choices=MODES, runtime=True,
    ),
    ParameterSpec(
        'update_shadow_frames', _LIMITS.shadow_frames,
        'Frames to compare before a new model serves.', 1, 100_000, runtime=True,
    ),
    ParameterSpec(
        'update_shadow_share', _LIMITS.shadow_share,
        'Share of the processed frames that is compared, if no other frame waits.', 0.001, 1.0,
        runtime=True,
    ),
    ParameterSpec(
        'update_min_agreement', _LIMITS.min_agreement,
        'Minimum share of the detections in which both models agree: matched / (matched + missed '
        '+ new), as `yolov7_trt compare` counts them.', 0.0, 1.0, runtime=True,
    ),
    ParameterSpec(
        'update_min_detections', _LIMITS.min_detections,
        'Minimum number of detections to compare: fewer do not prove agreement.', 0, 1_000_000,
        runtime=True,
    ),
    ParameterSpec(
        'update_max_latency_ratio', _LIMITS.max_latency_ratio,
        'Maximum time of a new model relative to that of the former one.', 0.01, 1000.0,
        runtime=True,
    ),
    ParameterSpec(
        'update_keep_s', _LIMITS.keep_ns / NS_PER_S,
        'Time for which the former model is kept for a roll-back, in seconds.', 0.0, 86_400.0,
        runtime=True,
    ),
    *LOOK_PARAMETERS,
    *TILE_PARAMETERS,
    ParameterSpec(
        'class_id_format', 'name', 'Content of class_id: the class name, or its index.',
        choices=('name', 'index'), runtime=True,
    ),
    PROMETHEUS_FILE,
)
"""Every parameter of the detector node."""

FILE_PARAMETERS = tuple(
    spec for spec in PARAMETERS
    if spec.name in (
        'model', 'engines', 'second_look_model', 'class_names', 'plan_cache', 'model_folders'
    )
)
"""Those that name files and folders."""

TOPIC_PARAMETERS = tuple(
    spec for spec in PARAMETERS if spec.name in ('image_topics', 'detections_topics')
)
"""Those that name topics."""

BY_NAME = {spec.name: spec for spec in PARAMETERS}


def check_changes(
    changes: Mapping[str, Any], values: Mapping[str, Any], *, configured: bool,
    updatable: bool = False,
) -> dict[str, Any]:
    """
    Check parameters about to be set; other names (use_sim_time) are ignored.

    Parameters
    ----------
    changes
        What is to be set.
    values
        Present values: setting them again is accepted in every state.
    configured
        Whether the node is inactive or active.
    updatable
        Whether the model may change in this state too.

    Raises
    ------
    SettingError
        A value is refused, or it cannot change in this state.

    """
    checked = {}
    for name, value in changes.items():
        spec = BY_NAME.get(name)
        if spec is None:
            continue
        fixed = configured and not spec.runtime and not (updatable and name == 'model')
        if fixed and spec.check(value) != values[name]:
            raise SettingError(
                f'{name} takes effect at configure and the node is already configured: first '
                '`ros2 lifecycle set <node> deactivate` and `cleanup`, then set it, then '
                '`configure` and `activate`'
            )
        checked[name] = spec.check(value)
    return checked
