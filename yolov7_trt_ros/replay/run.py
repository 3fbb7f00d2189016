"""Run a detector over frames and count the results; replay a bag."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator
import dataclasses
from typing import Any

from yolov7_trt_ros.core.detections import class_name, Detections
from yolov7_trt_ros.core.detector import Detector, DetectSettings, FrameTimings
from yolov7_trt_ros.core.latency import Percentiles, percentiles_ms
from yolov7_trt_ros.core.tracks.track_options import OFF, TrackOptions
from yolov7_trt_ros.core.tracks.tracking import Moment, TrackSet
from yolov7_trt_ros.errors import InferenceError
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
) -> Iterator[tuple[Frame, Detections] | BadFrame]:
    """
    Detect in each frame, and count.

    With `following` objects get track ids, unique over all runs that share it.

    Yields
    ------
    frame and detections
        Or a `BadFrame`, if the frame was one or the engine failed on it.

    """
    following = following or Following(TrackOptions())
    asked = following.options.asked(settings)
    for item in frames:
        if isinstance(item, Frame):
            try:
                image = item.image.of_stream(f'{item.path}: {item.source}')
                detections, timings = detector.detect(image, asked)
                detections = following.follow(item, detections, settings, detector)
            except InferenceError as exc:
                counter.fail(f'{item.source} frame {item.index}: {exc}')
                yield BadFrame(
                    exc, item.source, item.index, item.path, item.log_time_ns, item.message
                )
            else:
                counter.add(detections, timings)
                yield item, detections
        else:
            counter.fail(item.error)
            yield item


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
            frame, detections = item
            writer.write_image(frame)
            writer.write_detections(frame, detections)
        progress()
    return counter.summary()
