"""Detections: the objects in one image, as validated parallel arrays in source pixels."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FLOAT32, _INT32 = np.dtype(np.float32), np.dtype(np.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class Detections:
    """
    The objects found in one image, best score first.

    Attributes
    ----------
    boxes_xyxy
        (n, 4) float32, left, top, right, bottom in source pixels, within the image.
    scores
        (n,) float32, 0..1.
    class_ids
        (n,) int32.
    source_wh
        Size of the image in pixels.
    track_ids
        (n,) int64, above 0, or 0 for no track; None if tracking is off.

    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int32]
    source_wh: tuple[int, int]
    track_ids: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        """Check that shapes and dtypes agree; raises ValueError (a bug of the caller)."""
        count = len(self.scores)
        for name, array, shape, dtype in (
            ('boxes_xyxy', self.boxes_xyxy, (count, 4), _FLOAT32),
            ('scores', self.scores, (count,), _FLOAT32),
            ('class_ids', self.class_ids, (count,), _INT32),
        ):
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(
                    f'{name} must be {shape} {dtype}, got {array.shape} {array.dtype}'
                )
        if self.track_ids is not None and self.track_ids.shape != (count,):
            raise ValueError(f'track_ids must be ({count},), got {self.track_ids.shape}')

    def __len__(self) -> int:
        """Return the number of detections."""
        return len(self.scores)

    @classmethod
    def empty(cls, source_wh: tuple[int, int]) -> Detections:
        """Return no detections in an image of the given size."""
        return cls(
            np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32), source_wh
        )

    def chosen(self, which: NDArray[np.bool_]) -> Detections:
        """Return some of them, by a mask (n,)."""
        track_ids = None if self.track_ids is None else self.track_ids[which]
        return Detections(
            self.boxes_xyxy[which], self.scores[which], self.class_ids[which], self.source_wh,
            track_ids,
        )

    def as_records(self, class_names: tuple[str, ...]) -> list[dict[str, Any]]:
        """
        Return a JSON-ready dict a detection.

        That is box_xyxy (pixels), score, class_id, class_name; and track_id, if there are any.

        """
        records: list[dict[str, Any]] = [
            {
                'box_xyxy': [round(float(value), 2) for value in box],
                'score': round(float(score), 5),
                'class_id': int(class_id),
                'class_name': class_name(class_names, int(class_id)),
            }
            for box, score, class_id in zip(
                self.boxes_xyxy, self.scores, self.class_ids, strict=True
            )
        ]
        if self.track_ids is not None:
            for record, track_id in zip(records, self.track_ids.tolist(), strict=True):
                record['track_id'] = track_id
        return records


def class_name(class_names: tuple[str, ...], class_id: int) -> str:
    """Return the name of a class, `class_<id>` if the model has none."""
    return class_names[class_id] if 0 <= class_id < len(class_names) else f'class_{class_id}'


def class_text(class_names: tuple[str, ...], class_id: int, class_id_format: str) -> str:
    """Return the text for a class in a message; `class_id_format` is `name` or `index`."""
    return str(class_id) if class_id_format == 'index' else class_name(class_names, class_id)


def track_text(track_id: int) -> str:
    """Return the text for a track in a message: '' for 0."""
    return str(track_id) if track_id else ''
