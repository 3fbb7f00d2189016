"""Which category of an annotation file each class of a model is: by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses

from yolov7_trt_ros.core.class_names import COCO80, COCO80_CATEGORY_IDS, first_names
from yolov7_trt_ros.errors import ModelLayoutError

_SHOWN = 5
_ALIKE = 64
"""So many of COCO's 80 names make classes COCO's, whatever the others are called: darknet says
`sofa`."""


@dataclasses.dataclass(frozen=True)
class Categories:
    """
    What the classes of a model are in an annotation file.

    Attributes
    ----------
    ids
        Category of each class; None where the file has none of that name.
    left_out
        Names of the categories that no class is: nothing is measured on them.

    """

    ids: tuple[int | None, ...]
    left_out: tuple[str, ...] = ()

    @property
    def measured(self) -> list[int]:
        """Return the categories that some class is."""
        return sorted({category for category in self.ids if category is not None})

    def of(self, class_id: int) -> int | None:
        """Return the category of a class, None where it has none."""
        return self.ids[class_id] if 0 <= class_id < len(self.ids) else None

    def describe_left_out(self) -> str:
        """Return a sentence for people, '' where nothing is left out."""
        if not self.left_out:
            return ''
        return (
            f'{len(self.left_out)} of the labelled categories are not measured, for no class of '
            f'the model is called so: {first_names(self.left_out, _SHOWN)}'
        )


def match_categories(class_names: Sequence[str], categories: Mapping[int, str]) -> Categories:
    """
    Return which category each class is.

    Names are compared without case, and `_` and `-` count as blanks. COCO's 80 classes are matched
    by COCO's numbers where the file gives no names.

    Parameters
    ----------
    class_names
        Of the model; one without any counts as COCO's.
    categories
        Name ('' for none) of each category of the file.

    Raises
    ------
    ModelLayoutError
        None of the names is a category.

    """
    names = tuple(class_names) or COCO80
    numbers: dict[str, int] = {}
    for number, name in categories.items():
        numbers.setdefault(_folded(name), number)
    numbers.pop('', None)
    ids = tuple(numbers.get(_folded(name)) for name in names)
    if _is_coco(ids, categories):
        ids = tuple(each if each in categories else None for each in COCO80_CATEGORY_IDS)
    found = set(ids) - {None}
    if not found:
        raise ModelLayoutError(
            f'none of the classes of the model ({first_names(names, _SHOWN)}) is a labelled '
            f'category ({first_names(categories.values(), _SHOWN)}); name the classes as the '
            'labels do, with --class-names FILE'
        )
    left_out = [name or str(number) for number, name in categories.items() if number not in found]
    return Categories(ids, tuple(left_out))


def _is_coco(ids: Sequence[int | None], categories: Mapping[int, str]) -> bool:
    """Return whether the classes and the categories are those of COCO, in its order."""
    if len(ids) != len(COCO80) or not set(categories) <= set(COCO80_CATEGORY_IDS):
        return False
    if not any(categories.values()):
        return True
    same = sum(one == other for one, other in zip(ids, COCO80_CATEGORY_IDS, strict=True))
    return same >= _ALIKE


def _folded(name: str) -> str:
    return ' '.join(name.replace('_', ' ').replace('-', ' ').casefold().split())
