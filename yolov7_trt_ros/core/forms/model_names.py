"""The class names of a model: given, from its metadata, or assumed; and their checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses

from yolov7_trt_ros.core.class_names import COCO80, parse_class_names, repeated_note
from yolov7_trt_ros.errors import ModelLayoutError

_OTHER_FORMS = {
    84: 'YOLOv8 and later give 4 + 80 values',
    56: 'YOLOv8-pose gives 4 + 1 + 51 values',
    57: 'YOLOv7-pose gives 5 + 1 + 51 values',
    116: 'YOLOv8 segmentation gives 4 + 80 + 32 values',
    117: 'YOLOv5 and YOLOv7 segmentation give 5 + 80 + 32 values',
}
"""By values a row: other models with as many. Their numbers alone cannot distinguish them."""


@dataclasses.dataclass(frozen=True)
class ChosenNames:
    """Class names, their source ('' for none), and doubts about them."""

    names: tuple[str, ...]
    origin: str
    doubts: tuple[str, ...] = ()

    @property
    def count(self) -> int | None:
        """Return the number of named classes; None without names."""
        return len(self.names) or None


def choose_names(
    given: Sequence[str] | None,
    metadata: Mapping[str, str],
    num_classes: int | None,
    values: int | None,
    *,
    may_lack_objectness: bool = False,
) -> ChosenNames:
    """
    Return the class names of a model.

    Parameters
    ----------
    given
        Names given by the user, or None.
    metadata
        Its `names` are used if none are given.
    num_classes
        Number of classes by the shape of the outputs, or None.
    values
        Values a row if the number of classes follows from them, else None.
    may_lack_objectness
        The same number of values may also be a box and classes.

    Raises
    ------
    ModelLayoutError
        The number of names differs from that of classes, or they are unreadable; or nothing
        confirms a number of classes that fits another form better.

    """
    if given is None and 'names' not in metadata:
        return _assumed_names(num_classes, values, may_lack_objectness)
    if given is not None:
        names, origin = tuple(given), 'the given class names'
    else:
        names, origin = parse_class_names(metadata['names']), "the model's metadata"
    if num_classes is not None and len(names) != num_classes:
        message = f'the model has {num_classes} classes, but {origin} count {len(names)}'
        if may_lack_objectness and len(names) == num_classes + 1:
            message += (
                f': its {values} values may be 4 of a box and {len(names)} classes without '
                'objectness, as YOLOv8 and later have them, which this package does not read'
            )
        raise ModelLayoutError(message)
    note = repeated_note(names)
    return ChosenNames(
        names, f'{len(names)} classes, named by {origin}', (note,) if note else ()
    )


def _assumed_names(
    num_classes: int | None, values: int | None, may_lack_objectness: bool
) -> ChosenNames:
    if num_classes is None:
        return ChosenNames((), '', (
            'the model does not tell its class names, so classes are numbers; give them with '
            'class names (--class-names)',
        ))
    if num_classes == len(COCO80):
        return ChosenNames(COCO80, '80 classes, so those of COCO')
    if values in _OTHER_FORMS:
        raise ModelLayoutError(
            f'the model gives {values} values, which would be {num_classes} classes, and '
            f'{_OTHER_FORMS[values]}; if it does have {num_classes} classes, say so with their '
            'names (--class-names)'
        )
    names = tuple(f'class_{index}' for index in range(num_classes))
    if values is None:
        return ChosenNames(names, f'{num_classes} classes, not named')
    doubt = (
        f'nothing confirms the number of classes: {values} values are taken for 4 of a box, '
        f'objectness and {num_classes} class{"es" * (num_classes != 1)}'
    )
    if may_lack_objectness:
        doubt += f'. If they are {values - 4} classes without objectness, what is found is wrong'
    return ChosenNames(names, f'{num_classes} classes by the number of values', (
        f'{doubt}; class names (--class-names) settle it',
    ))
