"""Run a detector over frames and count the results; replay a bag."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator
import dataclasses
from typing import Any

from yolov7_trt_ros.core.detections import class_name, Detections
from yolov7_trt_ros.core.detector import (
    Answer,
    detect_ahead,
    Detector,
    DetectSettings,
    FrameTimings,
)
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.latency import Percentiles, percentiles_ms
from yolov7_trt_ros.core.tracks.track_options import OFF, TrackOptions
from yolov7_trt_ros.core.tracks.tracking import Moment, TrackSet
from yolov7_trt_ros.records import to_record
from yolov7_trt_ros.replay.frames import BadFrame, Frame

_KEPT_REASONS = 20
_STAGES = ('preprocess', 'infer', 'postprocess', 'total')


@dataclasses.dataclass(frozen=True)
class RunSummary:
    """
    Result of a run over one or more sources.

    Attributes
    ----------
    frames
        Frames whose detections were delivered.
    failed
        Frames and parts of files that could not be used.
    reasons
        The first twenty reasons.
    detections_per_class
        By class name, most frequent first.
    latency_ms
        Percentiles per stage: preprocess, infer, postprocess, total.

    """

    frames: int
    failed: int
    reasons: tuple[str, ...]
    detections_per_class: dict[str, int]
    latency_ms: dict[str, Percentiles]

    def as_record(self) -> dict[str, Any]:
        """Return the summary as a JSON-ready dict."""
        record: dict[str, Any] = to_record(self)
        return record


class RunCounter:
    """Collects the values of a `RunSummary`."""

    def __init__(self, class_names: tuple[str, ...]) -> None:
        self._class_names = class_names
        self._classes: collections.Counter[str] = collections.Counter()
        self._stages_ns: dict[str, list[int]] = {stage: [] for stage in _STAGES}
        self._reasons: list[str] = []
        self.frames = 0
        self.failed = 0

    def add(self, detections: Detections, timings: FrameTimings) -> None:
        """Count a frame and its detections."""
        self.frames += 1
        self._classes.update(
            class_name(self._class_names, class_id) for class_id in detections.class_ids.tolist()
        )
        for stage, samples in self._stages_ns.items():
            samples.append(getattr(timings, f'{stage}_ns'))

    def fail(self, reason: object) -> None:
        """Count something that could not be used."""
        self.failed += 1
        if len(self._reasons) < _KEPT_REASONS:
            self._reasons.append(str(reason))

    def summary(self) -> RunSummary:
        """Return the summary so far."""
        return RunSummary(
            self.frames,
            self.failed,
            tuple(self._reasons),
            dict(self._classes.most_common()),
            {stage: percentiles_ms(samples) for stage, samples in self._stages_ns.items()},
        )


class Following:
    """
    Gives objects track ids, in frames of any number of sources.

    Parameters
    ----------
    options
        Tracking options.

    """

    def __init__(self, options: TrackOptions) -> None:
        self.options = options
        self._tracks = TrackSet()

    def follow(
        self, frame: Frame, found: Detections, settings: DetectSettings, detector: Detector
    ) -> Detections:
        """Return tracked detections within `settings`, from those of `options.asked(settings)`."""
        if self.options.mode == OFF:
            return found
        return self._tracks.of(f'{frame.path}: {frame.source}').follow(
            found, Moment(frame.stamp_ns, frame.log_time_ns), self.options, settings,
            detector.spec.class_names,
        )


def detect_frames(
    frames: Iterable[Frame | BadFrame],
    detector: Detector,
    settings: DetectSettings,
    counter: RunCounter,
    following: Following | None = None,
) -> Iterator[tuple[Frame, Detections, str] | BadFrame]:
    """
    Detect in each frame, and count.

    With `following` objects get track ids, unique over all runs that share it.

    Yields
    ------
    frame, detections, and the name of the engine if there are several
        Or a `BadFrame`, if the frame was one or the engine failed on it.

    """
    following = following or Following(TrackOptions())
    asked = following.options.asked(settings)
    for item, answer in detect_ahead(detector, frames, image_in_stream, asked):
        if isinstance(item, BadFrame):
            counter.fail(item.error)
            yield item
        elif isinstance(answer, Answer):
            detections = following.follow(item, answer.found, settings, detector)
            counter.add(detections, answer.timings)
            yield item, detections, answer.engine
        elif answer is not None:
            counter.fail(f'{item.source} frame {item.index}: {answer}')
            yield BadFrame(
                answer, item.source, item.index, item.path, item.log_time_ns, item.message
            )


def image_in_stream(item: Frame | BadFrame) -> ImageView | None:
    """Return the image of a frame, marked as one of its video or topic; None of a bad one."""
    if isinstance(item, BadFrame):
        return None
    return item.image.of_stream(f'{item.path}: {item.source}')


def replay_bag(
    reader: Iterable[Frame | BadFrame],
    detector: Detector,
    settings: DetectSettings,
    writer: Any,
    *,
    following: Following | None = None,
    progress: Callable[[], None] = lambda: None,
) -> RunSummary:
    """
    Detect in every image of a bag and write the detections.

    Parameters
    ----------
    reader
        `BagReader`.
    detector, settings
        The detector, which stays open, and its settings.
    writer
        `DetectionBagWriter`, closed by the caller.
    following
        Gives objects track ids.
    progress
        Called after each image.

    Raises
    ------
    BagError
        The output cannot be written.

    """
    counter = RunCounter(detector.spec.class_names)
    for item in detect_frames(reader, detector, settings, counter, following):
        if isinstance(item, BadFrame):
            writer.write_image(item)
        else:
            frame, detections, engine = item
            writer.write_image(frame)
            writer.write_detections(frame, detections, engine)
        progress()
    return counter.summary()
