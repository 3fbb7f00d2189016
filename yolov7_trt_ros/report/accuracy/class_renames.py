"""Rename, join or drop the classes of a model for a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from yolov7_trt_ros.core.boxes import nms
from yolov7_trt_ros.core.class_names import visible
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.plain_text import listed, quoted
from yolov7_trt_ros.errors import SettingError

OTHERS = '*'
_LEFT_OUT = -1
_SHOWN = 5


def parse_renames(text: str) -> dict[str, str]:
    """
    Return the new name of each renamed class; '' for a class that is left out.

    Parameters
    ----------
    text
        `car=vehicle,truck=vehicle,dog=`, with commas or line breaks between the parts. `*=`
        leaves out all that are not named.

    Raises
    ------
    SettingError
        A part has another form, a class occurs twice, a name has invisible characters, or `*` has
        a name.

    """
    renames: dict[str, str] = {}
    for part in text.replace('\n', ',').split(','):
        name, equals, new = (each.strip() for each in part.partition('='))
        if not name and not equals:
            continue
        if not name or not equals:
            raise SettingError(f'a class map is CLASS=NAME,CLASS=NAME, got {quoted(part.strip())}')
        if name in renames:
            raise SettingError(f'a class map has each class once, got {quoted(name)} twice')
        if visible(new) != new:
            raise SettingError(f'a class map has an invisible character in {quoted(new)}')
        renames[name] = new
    if renames.get(OTHERS):
        raise SettingError('in a class map * can only be left out: *=')
    return renames


@dataclasses.dataclass(frozen=True)
class ClassRenames:
    """
    The classes of a data set, and the one that each class of a model becomes.

    Attributes
    ----------
    names
        Of the data set, by id.
    ids
        Id in the data set by id of the model, -1 for what is left out.
    joins
        Whether several classes of the model are one.

    """

    names: tuple[str, ...]
    ids: tuple[int, ...]
    joins: bool

    @classmethod
    def of(cls, class_names: Sequence[str], renames: Mapping[str, str]) -> ClassRenames:
        """
        Apply renames to the classes of a model.

        Raises
        ------
        SettingError
            The classes are unknown, the model lacks one that is named, or all are left out.

        """
        if not class_names:
            raise SettingError(
                'the model tells neither names nor number of its classes, so they cannot be the '
                'classes of a data set: give their names with --class-names'
            )
        if unknown := [name for name in renames if name != OTHERS and name not in class_names]:
            raise SettingError(
                f'the class map names {listed(list(map(quoted, unknown)), _SHOWN)}, and the model '
                f'has {listed(list(class_names), _SHOWN)}'
            )
        new = [renames.get(name, '' if OTHERS in renames else name) for name in class_names]
        names = tuple(dict.fromkeys(name for name in new if name))
        if not names:
            raise SettingError('the class map leaves out every class of the model')
        ids = tuple(names.index(name) if name else _LEFT_OUT for name in new)
        kept = [number for number in ids if number != _LEFT_OUT]
        return cls(names, ids, len(set(kept)) < len(kept))

    def apply(self, found: Detections, iou_threshold: float) -> Detections:
        """Return detections in the classes of the data set; NMS is applied to joined ones."""
        ids = np.array([self._id_of(each) for each in found.class_ids.tolist()], np.int32)
        kept = np.flatnonzero(ids != _LEFT_OUT)
        if self.joins:
            boxes, scores = found.boxes_xyxy[kept], found.scores[kept]
            kept = kept[nms(boxes, scores, ids[kept], iou_threshold, len(kept))]
        return Detections(
            found.boxes_xyxy[kept], found.scores[kept], ids[kept], found.source_wh
        )

    def _id_of(self, class_id: int) -> int:
        return self.ids[class_id] if class_id < len(self.ids) else _LEFT_OUT
