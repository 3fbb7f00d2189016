"""Track ids: match the detections of consecutive images to objects."""

from __future__ import annotations

import collections
from collections.abc import Iterator
import dataclasses
import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.boxes import box_iou
from yolov7_trt_ros.core.decode import thresholds_of
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.forms.assignment import assign, Indices
from yolov7_trt_ros.core.tracks.track_motion import TrackMotion
from yolov7_trt_ros.core.tracks.track_options import (
    BYTETRACK,
    LONGEST_LOST_S,
    TrackOptions,
)
from yolov7_trt_ros.core.units import NS_PER_S

MOST_STREAMS, MOST_TRACKS = 256, 1000
"""Limits of streams, and of tracks in each; the one unseen for longest is dropped first."""

SAME_IOU, WEAK_IOU = 0.2, 0.5
"""
A detection is of a track where it overlaps with the place of that by more.

The latter holds for detections below the score threshold. Both are ByteTrack's.

"""


class Moment(NamedTuple):
    """Stamp and arrival of an image, in nanoseconds of different clocks."""

    stamp_ns: int
    """0 if unknown."""
    arrival_ns: int


class _Marks(NamedTuple):
    """What is known of n tracks beside their motion, each (n,)."""

    ids: NDArray[np.int64]
    class_ids: NDArray[np.int32]
    seen_ns: NDArray[np.int64]
    """When they were seen last, by the clock of the tracker."""


class Tracker:
    """
    The tracks of one stream of images.

    With `bytetrack` in two rounds, as https://arxiv.org/abs/2110.06864 has them: what has at
    least the score threshold goes to the tracks first; then what has less to those tracks that
    are left and were seen in the image before. Otherwise than there, time is that of the stamps,
    and a track that was seen once is kept like any other: on the scenes of benchmarks/tracking.py
    that gives fewer changes of ids. With `iou` there is the first round alone, and boxes stand
    still.

    Parameters
    ----------
    ids
        Where ids come from; shared by all streams, so that none is given twice.

    """

    def __init__(self, ids: Iterator[int]) -> None:
        self._ids = ids
        self._context: object = None  # what must stay for the tracks to be of any use
        self._arrival_ns: int | None = None
        self._now_ns = self._before_ns = 0  # of this image and the one before; a clock of its own
        self._usual_ns = 0  # between the two images before
        self._stamp_ns = self._stamped_ns = 0  # the last stamp that told a time, and when it was
        self._forget()

    @property
    def count(self) -> int:
        """How many tracks are kept, `MOST_TRACKS` and those of one image at most."""
        return len(self._marks.ids)

    def follow(
        self, found: Detections, moment: Moment, options: TrackOptions, settings: DetectSettings,
        class_names: tuple[str, ...],
    ) -> Detections:
        """
        Return the detections that `settings` ask for, with the ids of their tracks.

        All tracks end, and new ids are given, where stamps go back, where no image came for
        `LONGEST_LOST_S`, and where the size of images, the class names or the mode are others
        than before.

        Parameters
        ----------
        found
            In this image, by `options.asked(settings)`.
        moment
            Of the image.
        options, settings
            How to follow, and what the result keeps to.
        class_names
            Of the model.

        """
        if (found.source_wh, class_names, options.mode) != self._context:
            self._context = (found.source_wh, class_names, options.mode)
            self._forget()
        seconds = self._pass_time(moment)
        self._end_lost(int(options.lost_s * NS_PER_S))
        is_wanted = found.scores > thresholds_of(found.class_ids, settings)
        moves = options.mode == BYTETRACK
        if moves:
            self._motion.go_on(seconds, self._marks.seen_ns < self._before_ns)
        track_ids = self._associate(found, is_wanted, moves=moves)
        self._begin_tracks(found, np.flatnonzero(is_wanted & (track_ids == 0)), track_ids)
        return dataclasses.replace(found, track_ids=track_ids).chosen(is_wanted)

    def _forget(self) -> None:
        self._motion = TrackMotion.standing(np.empty((0, 4), np.float32))
        self._marks = _Marks(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int64))
        self._stamped_ns -= self._now_ns  # the clock begins anew: it stays small for any stamps
        self._now_ns = self._before_ns = 0

    def _pass_time(self, moment: Moment) -> float:
        """
        Advance to an image; return the seconds since the previous one.

        Without useful stamps the time of arrival counts, until a stamp is useful again.

        """
        stamp_ns, arrival_ns = moment
        waited_ns = 0 if self._arrival_ns is None else max(0, arrival_ns - self._arrival_ns)
        self._arrival_ns = arrival_ns
        step_ns, goes_back = waited_ns, False
        is_new = stamp_ns not in (0, self._stamp_ns)
        if is_new and self._stamp_ns:
            goes_back = stamp_ns < self._stamp_ns
            counted_ns = self._now_ns - self._stamped_ns
            step_ns = max(0, stamp_ns - self._stamp_ns - counted_ns)
        self._usual_ns, self._before_ns = self._now_ns - self._before_ns, self._now_ns
        self._now_ns += step_ns
        if goes_back or step_ns > LONGEST_LOST_S * NS_PER_S:
            self._forget()
        if is_new:
            self._stamp_ns, self._stamped_ns = stamp_ns, self._now_ns
        return (self._now_ns - self._before_ns) / NS_PER_S

    def _associate(
        self, found: Detections, is_wanted: NDArray[np.bool_], *, moves: bool
    ) -> NDArray[np.int64]:
        """Return the track id of each detection, 0 for none; the tracks go where they are."""
        marks = self._marks
        overlap = box_iou(self._motion.boxes(), found.boxes_xyxy).astype(np.float64)
        overlap[marks.class_ids[:, None] != found.class_ids] = 0.0
        tracks, detections = assign(np.where(is_wanted, overlap - SAME_IOU, 0.0))
        if moves and not is_wanted.all():
            gains = np.where(is_wanted, 0.0, overlap - WEAK_IOU)
            gains[marks.seen_ns < self._before_ns] = 0.0
            gains[tracks] = 0.0
            weak = assign(gains)
            tracks = np.concatenate([tracks, weak[0]])
            detections = np.concatenate([detections, weak[1]])
        correct = self._motion.see if moves else self._motion.put
        correct(tracks, found.boxes_xyxy[detections])
        marks.seen_ns[tracks] = self._now_ns
        track_ids = np.zeros(len(found), np.int64)
        track_ids[detections] = marks.ids[tracks]
        return track_ids

    def _begin_tracks(
        self, found: Detections, which: Indices, track_ids: NDArray[np.int64]
    ) -> None:
        """Begin tracks at some detections, and put down their ids."""
        if not len(which):
            return
        track_ids[which] = list(itertools.islice(self._ids, len(which)))
        self._motion = self._motion.joined(TrackMotion.standing(found.boxes_xyxy[which]))
        marks = self._marks
        self._marks = _Marks(
            np.concatenate([marks.ids, track_ids[which]]),
            np.concatenate([marks.class_ids, found.class_ids[which]]),
            np.concatenate([marks.seen_ns, np.full(len(which), self._now_ns)]),
        )

    def _end_lost(self, lost_ns: int) -> None:
        """End what was not seen for long; of a camera with rare images, not in two of them."""
        self._keep(self._marks.seen_ns >= self._now_ns - max(lost_ns, 2 * self._usual_ns))
        if len(self._marks.ids) > MOST_TRACKS:
            latest = np.zeros(len(self._marks.ids), bool)
            latest[np.argsort(-self._marks.seen_ns, kind='stable')[:MOST_TRACKS]] = True
            self._keep(latest)

    def _keep(self, which: NDArray[np.bool_]) -> None:
        if not which.all():
            marks = self._marks
            self._motion = self._motion.chosen(which)
            self._marks = _Marks(marks.ids[which], marks.class_ids[which], marks.seen_ns[which])


class TrackSet:
    """The tracks of several streams; no id is given twice. Used by one thread at a time."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._trackers: collections.OrderedDict[str, Tracker] = collections.OrderedDict()

    def end(self, stream: str) -> None:
        """End the tracks of a stream, if there are any."""
        self._trackers.pop(stream, None)

    def of(self, stream: str) -> Tracker:
        """Return the tracks of a stream."""
        tracker = self._trackers.pop(stream, None) or Tracker(self._ids)
        self._trackers[stream] = tracker
        if len(self._trackers) > MOST_STREAMS:
            self._trackers.popitem(last=False)
        return tracker
