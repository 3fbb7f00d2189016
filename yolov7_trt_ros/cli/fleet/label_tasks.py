"""The two steps of `label` for one recording: detect in its frames, write the chosen ones."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
import dataclasses
from functools import partial
import os
from pathlib import Path
from typing import Any, TYPE_CHECKING

from yolov7_trt_ros.cli import (
    arguments,
    build_display,
    look_arguments,
    open_detectors,
    output,
)
from yolov7_trt_ros.cli.effects import model_effects
from yolov7_trt_ros.cli.fleet.drives import plain_part
from yolov7_trt_ros.cli.work.frame_journal import FrameJournal
from yolov7_trt_ros.errors import InferenceError, InputError, SettingError
from yolov7_trt_ros.home_folder import expand_home
from yolov7_trt_ros.records import to_record

if TYPE_CHECKING:
    from yolov7_trt_ros.core.detections import Detections
    from yolov7_trt_ros.core.detector import Answer, Detector, DetectSettings
    from yolov7_trt_ros.core.forms.model_spec import ModelSpec
    from yolov7_trt_ros.core.image import ImageView
    from yolov7_trt_ros.replay.frames import BadFrame, Frame
    from yolov7_trt_ros.replay.sources import FrameSource
    from yolov7_trt_ros.report.accuracy.label_set import Doubt, LabelledFrame

IMAGES = {'coco': 'images', 'yolo': 'images/train'}
YOLO_LABELS = 'labels/train'
_LEAST_SCORE = 0.1
"""Minimum score of two models that are compared, so that a small drift is no missed object."""

_QUALITY = 95


def look_at(
    args: argparse.Namespace, name: str, path: Path, journal: Path | None = None,
    show: output.Show = output.no_progress,
) -> dict[str, Any]:
    """
    Detect in all frames of a recording; return the detections, JSON-ready.

    Parameters
    ----------
    args
        Arguments of `label`.
    name, path
        Name of the recording in the data set, and its path.
    journal
        Keeps each frame; frames of an interrupted run are not repeated.
    show
        Makes a progress bar from a label and a total.

    Returns
    -------
    frames (of `LabelledFrame`), classes, backend, failed and warnings.

    Raises
    ------
    InputError
        The recording cannot be used.

    """
    looker = _Looker(args)
    frames: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    source = open_source(args, path)
    with FrameJournal(journal) as kept, show(path.name, source.count) as advance:
        for record in looker.look(source, name, kept):
            (failed if 'error' in record else frames).append(record)
            advance()
    reasons = [record['error'] for record in failed]
    if not frames:
        reason = f': {reasons[0]}' if reasons else ''
        raise InputError(f'no frame of {path} could be used{reason}')
    return {
        'frames': frames, 'classes': list(looker.renames.names), 'failed': reasons,
        'backend': looker.backend, 'warnings': [*source.warnings, *looker.warnings],
    }


def write_frames(
    args: argparse.Namespace, path: Path, folder: Path, wanted: dict[str, tuple[str, str]],
    show: output.Show = output.no_progress,
) -> dict[str, Any]:
    """
    Write the missing pictures of a recording, with their labels for YOLO tools.

    Parameters
    ----------
    args
        Arguments of `label`.
    path, folder
        The recording, and the folder of the data set.
    wanted
        Stem of the picture and text of the label file, by source and index (`frame_key`).
    show
        Makes a progress bar from a label and a total.

    Raises
    ------
    InputError
        The recording has changed, or a file cannot be written; earlier pictures exist.

    """
    from yolov7_trt_ros.replay.frames import Frame

    missing = {
        key: named for key, named in wanted.items()
        if find_picture(folder, args.format, named[0]) is None
    }
    count = len(missing)
    with show(f'pictures of {path.name}', count) as advance:
        for item in open_source(args, path) if missing else ():
            named = missing.get(frame_key(item.source, item.index))
            if named is not None and isinstance(item, Frame):
                _write_frame(args, item, folder, *named)
                del missing[frame_key(item.source, item.index)]
                advance()
            if not missing:
                break
    if missing:
        raise InputError(
            f'{path} has changed since its frames were read: {len(missing)} are gone'
        )
    return {'frames': count}


def _plain_name(frame: Frame) -> str:
    """Return the topic of a bag, or the name of a file, as a part of a name."""
    name = frame.source if frame.message else os.path.splitext(frame.source)[0]
    return plain_part(name.strip('/').replace('/', '.')) or 'frame'


def frame_key(source: str, index: int) -> str:
    """Return the key of a frame within its recording."""
    return f'{index} {source}'


def stem_in(form: str, frame: LabelledFrame) -> str:
    """Return the name of a frame's picture in a format, without suffix."""
    return frame.flat_stem if form == 'yolo' else frame.stem


def find_picture(folder: Path, form: str, stem: str) -> Path | None:
    """Return the picture of a stem (`stem_in`) in a data set, None if it does not exist."""
    for suffix in ('.jpg', '.png'):
        path = folder / IMAGES[form] / f'{stem}{suffix}'
        if path.is_file():
            return path
    return None


def open_source(args: argparse.Namespace, path: Path) -> FrameSource:
    """Open a recording with the arguments of `label`."""
    from yolov7_trt_ros.replay.sources import open_frames

    return open_frames(
        path, topics=args.topics, every=args.every, recursive=args.recursive,
        outside=expand_home(args.output).resolve(), max_pixels=args.max_pixels,
    )


def _write_frame(
    args: argparse.Namespace, frame: Frame, folder: Path, stem: str, labels: str
) -> None:
    """Write the labels, then the picture, so that an existing picture has its labels."""
    from yolov7_trt_ros.atomic_file import atomic_write
    from yolov7_trt_ros.cli.work.frame_writers import picture_suffix, write_picture, writing
    from yolov7_trt_ros.core.preprocess import to_bgr

    pixels = to_bgr(frame.image)
    text = folder / YOLO_LABELS / f'{stem}.txt'
    is_new = args.format == 'yolo' and not text.exists()
    if is_new:
        with writing(text):
            atomic_write(text, labels.encode())
    try:
        write_picture(
            folder / IMAGES[args.format] / f'{stem}{picture_suffix(pixels)}', pixels,
            quality=_QUALITY,
        )
    except InputError:
        if is_new:
            text.unlink()
        raise


class _Looker:
    """The models of a run; returns their detections as labels of the data set."""

    def __init__(self, args: argparse.Namespace) -> None:
        from yolov7_trt_ros.bank.class_map import class_names_of
        from yolov7_trt_ros.report.accuracy.class_renames import ClassRenames

        options = arguments.detector_options(args, rectangular=not args.square)
        self._detector = look_arguments.kept_looking(args, options)
        self.backend = self._detector.backend
        self._floor = arguments.detect_settings(args, self._detector.spec.class_names)
        self._names = class_names_of(self._detector.spec)
        self.renames = ClassRenames.of(self._names, args.class_map)
        self._second: _Second | None = None
        self.warnings: tuple[str, ...] = ()
        self._settings = self._floor
        if args.second_model:
            options = dataclasses.replace(
                options, model=args.second_model, class_names='auto', anchors='auto'
            )
            second = open_detectors.opened(
                f'second {options!r}', [options.model], partial(build_display.open_model, options)
            )
            model_effects.warn_of_size(
                second.spec, args.second_model, model_effects.asked_size(args)
            )
            self._settings = dataclasses.replace(
                self._floor, score_threshold=min(_LEAST_SCORE, self._floor.score_threshold),
                class_thresholds=(),
            )
            self._second = _Second(second, self._names, self._settings, self._floor)
            self.warnings = self._second.warnings

    def look(
        self, source: Iterable[Frame | BadFrame], name: str, kept: FrameJournal
    ) -> Iterator[dict[str, Any]]:
        """Yield each frame with its labels as a record, or its error."""
        from yolov7_trt_ros.core.detector import detect_ahead
        from yolov7_trt_ros.replay.frames import BadFrame
        from yolov7_trt_ros.replay.run import image_in_stream

        def key_of(item: Frame | BadFrame) -> str:
            return frame_key(item.source, item.index)

        def image_of(item: Frame | BadFrame) -> ImageView | None:
            return None if kept.get(key_of(item)) is not None else image_in_stream(item)

        for item, answer in detect_ahead(self._detector, source, image_of, self._settings):
            if isinstance(item, BadFrame):
                yield {'error': str(item.error)}
                continue
            record = kept.get(key_of(item))
            if record is None and answer is not None:
                record = self._record(item, answer, name)
                kept.add(key_of(item), record)
            assert record is not None  # kept, or there was an answer
            yield record

    def _record(
        self, frame: Frame, answer: Answer | InferenceError, name: str
    ) -> dict[str, Any]:
        try:
            if isinstance(answer, InferenceError):
                raise answer
            record: dict[str, Any] = to_record(self._label(frame, answer, name))
        except InferenceError as exc:
            return {'error': f'{frame.source} frame {frame.index}: {exc}'}
        return record

    def _label(self, frame: Frame, answer: Answer, name: str) -> LabelledFrame:
        from yolov7_trt_ros.report.accuracy.label_set import label_boxes, LabelledFrame

        found = answer.found
        doubt = self._second.doubt(frame.image, found) if self._second else None
        labels = self.renames.apply(_from_floor(found, self._floor), self._floor.iou_threshold)
        stem = f'{name}/{_plain_name(frame)}_{frame.index:06d}'
        return LabelledFrame(
            stem, frame.source, frame.index, frame.stamp_ns, labels.source_wh,
            label_boxes(labels), doubt, answer.engine,
        )


def _classes_of_second(
    spec: ModelSpec, names: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the class names of the second model, and warnings; they need names in common."""
    from yolov7_trt_ros.bank.class_map import class_names_of
    from yolov7_trt_ros.core.plain_text import listed

    own = class_names_of(spec)
    if not spec.class_names and spec.num_classes in (None, len(names)):
        return names, (
            'the second model does not tell its class names: they are taken for those of the '
            'model',
        )
    lost = [name for name in dict.fromkeys(names) if name not in own]
    if len(lost) == len(set(names)):
        raise SettingError(
            f'the second model has none of the classes of the model ({listed(list(names), 5)}), '
            f'but {listed(list(own), 5)}, so all frames would be hard'
        )
    if not lost:
        return own, ()
    return own, (
        f'the second model lacks {len(lost)} classes of the model, so all frames with them count '
        f'as hard: {listed(lost, 5)}',
    )


class _Second:
    """The second model, whose disagreement shows hard frames."""

    def __init__(
        self, detector: Detector, names: tuple[str, ...], settings: DetectSettings,
        floor: DetectSettings,
    ) -> None:
        from yolov7_trt_ros.bank.class_map import ClassMap, moved_ids
        from yolov7_trt_ros.report.compare.detection_compare import RunComparison
        from yolov7_trt_ros.report.compare.settings import CompareSettings

        own, self.warnings = _classes_of_second(detector.spec, names)
        self._detector, self._map = detector, ClassMap(names, own)
        self._settings = dataclasses.replace(
            settings, class_ids=moved_ids(settings.class_ids, names, own)
        )
        self._comparison = RunComparison(CompareSettings(score_threshold=floor.score_threshold))

    def doubt(self, image: ImageView, found: Detections) -> Doubt:
        """Return how far this model disagrees with the detections."""
        from yolov7_trt_ros.report.accuracy.label_set import Doubt

        other, _ = self._detector.detect(image, self._settings)
        difference = self._comparison.add(
            '', 0, self._map.of_former(found), self._map.of_new(other)
        )
        return Doubt(
            difference.difference.missed, difference.difference.new,
            round(difference.largest_drift, 5), round(difference.least_iou, 5),
        )


def _from_floor(found: Detections, floor: DetectSettings) -> Detections:
    """Return the detections that reach the threshold of their class."""
    from yolov7_trt_ros.core.decode import thresholds_of

    return found.chosen(found.scores >= thresholds_of(found.class_ids, floor))
