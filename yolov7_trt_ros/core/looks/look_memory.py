"""LookMemory: the targets for crops that a stream of frames has shown so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.boxes import box_iou
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.looks.crops import Crop, CropShape, holding, tile
from yolov7_trt_ros.core.looks.look_options import LookOptions

FOLLOWED_IOU = 0.3
"""From this overlap on, boxes of one class in two frames that follow are one object."""
WIDER = 0.1
"""So much further up the band of scores reaches for what was looked at before; half down."""
FORGOTTEN_AFTER = 3
"""So many looks in turn that do not find an object again end the hint that it is there."""
MOST_HINTS = 300
"""Older ones are forgotten: without a crop there they would never be missed."""
FRAMES_A_TILE = 2
"""Least number of frames between two tiles: the frames between are for targets."""


class Targets(NamedTuple):
    """Boxes (n, 4) to look at again in source pixels, and what each look is worth (n,)."""

    boxes: NDArray[np.float32]
    weights: NDArray[np.float32]


class Hints(NamedTuple):
    """Objects of the frame before: boxes (n, 4), scores, class ids, looks in vain, all (n,)."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int32]
    in_vain: NDArray[np.int32]

    def chosen(self, which: NDArray[np.bool_]) -> Hints:
        """Return some of them."""
        return Hints(
            self.boxes[which], self.scores[which], self.class_ids[which], self.in_vain[which]
        )


def _no_hints() -> Hints:
    return Hints(
        np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32),
        np.empty(0, np.int32),
    )


class LookMemory:
    """
    What is remembered of one stream from frame to frame.

    Parameters
    ----------
    options
        Which objects are looked at again.
    class_ids
        Of those classes; None for all.
    is_stream
        Whether frames follow; without that there is no full look.

    """

    def __init__(
        self, options: LookOptions, class_ids: frozenset[int] | None, *, is_stream: bool = True
    ) -> None:
        self._options = options
        self._every = options.full_frames if is_stream else 0
        self._class_ids = None if class_ids is None else np.array(sorted(class_ids), np.int32)
        self._hints = _no_hints()
        self._source_wh = (0, 0)
        self._tiles: list[Crop] = []
        self._next_tile, self._due = 0, 0

    def targets(self, first: Detections) -> Targets:
        """
        Return what to look at again.

        Those are objects of the classes and sizes that the options name which the first look is
        in doubt of; and objects of the frame before that it does not show now. What was looked at
        in the frame before stays a target within a wider band of scores. A look is worth the more
        the greater the doubt is; that at an object which would be lost, its score.

        """
        if first.source_wh != self._source_wh:
            self._begin(first.source_wh)
        options, hints = self._options, self._hints
        known = _same(first.boxes_xyxy, first.class_ids, hints.boxes, hints.class_ids)
        followed, scores = known.any(axis=1), first.scores
        least = np.where(followed, options.least_score, options.min_score)
        doubted = (scores >= least) & (scores < options.max_score + WIDER * followed)
        doubted &= self._is_meant(first.boxes_xyxy, first.class_ids)
        # what the first look shows as a target, or surely, needs no hint
        shown = (doubted | (scores >= options.max_score))[:, None] & known
        hidden = hints.chosen(np.asarray(~shown.any(axis=0)))
        weights = np.concatenate([_doubt(scores[doubted]), hidden.scores])
        return Targets(np.concatenate([first.boxes_xyxy[doubted], hidden.boxes]), weights)

    def due_tile(self, shape: CropShape) -> Crop | None:
        """
        Return the next crop of the search over the whole image, None if none is due.

        The whole image is covered once in `full_frames` frames, or as fast as one crop every
        `FRAMES_A_TILE` frames allows.

        """
        if not self._every:
            return None
        self._tiles = self._tiles or tile(self._source_wh, shape)
        gain = min(FRAMES_A_TILE * len(self._tiles), self._every)
        self._due = min(self._due + gain, self._whole_tile + gain - 1)
        return self._tile if self._due >= self._whole_tile else None

    def looked_at(self, crops: Sequence[Crop]) -> None:
        """Go on to the next tile if the one that was due is among the crops."""
        if self._tiles and self._due >= self._whole_tile and self._tile in crops:
            self._due -= self._whole_tile
            self._next_tile += 1

    @property
    def _whole_tile(self) -> int:
        """Return what is due when a tile is."""
        return FRAMES_A_TILE * self._every

    @property
    def _tile(self) -> Crop:
        return self._tiles[self._next_tile % len(self._tiles)]

    def remember(self, merged: Detections, crops: Sequence[Crop]) -> None:
        """
        Remember what was found for the next frame.

        Parameters
        ----------
        merged
            Of this frame, both looks.
        crops
            That were looked at: a hint in none of them was not looked for in vain.

        """
        small = self._is_meant(merged.boxes_xyxy, merged.class_ids)
        small &= merged.scores >= self._options.min_score
        found = Hints(
            merged.boxes_xyxy[small], merged.scores[small], merged.class_ids[small],
            np.zeros(int(small.sum()), np.int32),
        )
        hints = self._hints
        again = _same(hints.boxes, hints.class_ids, found.boxes, found.class_ids).any(axis=1)
        missed = hints.chosen(np.asarray(~again))
        if crops and len(missed.scores):
            looked = holding(crops, missed.boxes, self._source_wh, 0).any(axis=0)
            missed = missed._replace(in_vain=missed.in_vain + looked.astype(np.int32))
        missed = missed.chosen(np.asarray(missed.in_vain < FORGOTTEN_AFTER))
        self._hints = Hints(*(
            np.concatenate(each)[:MOST_HINTS] for each in zip(found, missed, strict=True)
        ))

    def _begin(self, source_wh: tuple[int, int]) -> None:
        """Forget a stream whose images have another size now."""
        self._source_wh, self._hints, self._tiles = source_wh, _no_hints(), []
        self._next_tile, self._due = 0, 0

    def _is_meant(
        self, boxes: NDArray[np.float32], class_ids: NDArray[np.int32]
    ) -> NDArray[np.bool_]:
        """Tell which objects have the size and a class that the options name."""
        widths, heights = (boxes[:, 2:] - boxes[:, :2]).T
        meant = (widths <= self._options.object_px) & (heights <= self._options.object_px)
        if self._class_ids is not None:
            meant &= (class_ids[:, None] == self._class_ids).any(axis=1)
        return np.asarray(meant)


def _doubt(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the value of a look: highest if an object is as likely as not."""
    return np.asarray(scores * (1 - scores), np.float32)


def _same(
    boxes: NDArray[np.float32], class_ids: NDArray[np.int32],
    others: NDArray[np.float32], other_ids: NDArray[np.int32],
) -> NDArray[np.bool_]:
    """Return which boxes (n, 4) match which (m, 4) of an adjacent frame: (n, m)."""
    same = box_iou(boxes, others) >= FOLLOWED_IOU
    return np.asarray(same & (class_ids[:, None] == other_ids[None, :]))
