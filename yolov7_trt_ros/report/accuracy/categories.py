"""Match the classes of a model with the categories of an annotation file, by name."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
import dataclasses
import unicodedata

from yolov7_trt_ros.core.class_names import COCO80, COCO80_CATEGORY_IDS, first_names
from yolov7_trt_ros.errors import ModelLayoutError

_SHOWN = 5
_ALIKE = 64
"""Classes count as COCO's if this many of its 80 names match: darknet calls some otherwise."""


@dataclasses.dataclass(frozen=True)
class Categories:
    """
    The categories of an annotation file that the classes of a model belong to.

    Attributes
    ----------
    ids
        Category of each class; None if the file has none of that name.
    left_out
        Names of the labelled categories without a class: they are not measured.
    same_as
        Categories that count as another one, of the same name.
    assumed
        What was assumed, as sentences.

    """

    ids: tuple[int | None, ...]
    left_out: tuple[str, ...] = ()
    same_as: Mapping[int, int] = dataclasses.field(default_factory=dict)
    assumed: tuple[str, ...] = ()

    @property
    def measured(self) -> list[int]:
        """Return the categories that have a class."""
        return sorted({category for category in self.ids if category is not None})

    def of(self, class_id: int) -> int | None:
        """Return the category of a class, None if it has none."""
        return self.ids[class_id] if 0 <= class_id < len(self.ids) else None

    def category_of(self, labelled: int) -> int | None:
        """Return the category that a label counts for, None if that has no class."""
        category = self.same_as.get(labelled, labelled)
        return category if category in self.ids else None

    def warnings(self) -> list[str]:
        """Return what was assumed and what is left out, as sentences."""
        if not self.left_out:
            return list(self.assumed)
        return [
            *self.assumed,
            f'{len(self.left_out)} of the labelled categories are not measured, because no '
            f'class of the model has their name: {first_names(self.left_out, _SHOWN)}',
        ]


def match_categories(
    class_names: Sequence[str], categories: Mapping[int, str],
    labels: Mapping[int, int] | None = None,
) -> Categories:
    """
    Return the category of each class.

    Names are compared without case, and `_` and `-` count as blanks. Among categories whose names
    are equal then, those that have labels count, all of them as one; but those that are written
    as another class of the model is belong to that. COCO's 80 classes are matched by COCO's
    numbers where the file gives no names.

    Parameters
    ----------
    class_names
        Of the model; one without any counts as COCO's.
    categories
        Name ('' for none) of each category of the file.
    labels
        How many labels each category has; None counts as one for each.

    Raises
    ------
    ModelLayoutError
        None of the names is a category.

    """
    names = tuple(class_names) or COCO80
    counts = dict.fromkeys(categories, 1) if labels is None else labels
    chosen, notes = _choose(names, categories, counts)
    ids = tuple(numbers[0] if numbers else None for numbers in chosen)
    if _is_coco(ids, categories):
        ids = tuple(each if each in categories else None for each in COCO80_CATEGORY_IDS)
        if not any(categories.values()):
            notes = ["the categories have no names: their numbers are taken for COCO's"]
    if not class_names:
        notes.insert(0, "the model has no class names: its classes are taken for COCO's 80")
    found = set(ids) - {None}
    if not found:
        raise ModelLayoutError(
            f'none of the classes of the model ({first_names(names, _SHOWN)}) is a labelled '
            f'category ({first_names(categories.values(), _SHOWN)}); name the classes as the '
            'labels do, with --class-names FILE'
        )
    same_as = {number: numbers[0] for numbers in chosen for number in numbers[1:]}
    left_out = [
        name or str(number) for number, name in categories.items()
        if number not in found and number not in same_as and counts.get(number)
    ]
    return Categories(ids, tuple(left_out), same_as, tuple(notes))


def _choose(
    names: Sequence[str], categories: Mapping[int, str], counts: Mapping[int, int]
) -> tuple[list[list[int]], list[str]]:
    """Return the categories of each class, and notes about them."""
    alike: dict[str, list[int]] = defaultdict(list)
    for number, name in categories.items():
        alike[_folded(name)].append(number)
    alike.pop('', None)
    chosen, notes = [], []
    for name in names:
        fitting = [
            number for number in alike.get(_folded(name), ())
            if categories[number] == name or categories[number] not in names
        ]
        labelled = [number for number in fitting if counts.get(number)]
        chosen.append(labelled or fitting[:1])
        if len(fitting) > 1 and labelled:
            notes.append(_note(name, fitting, labelled, categories))
    notes += [
        f'{count} classes of the model are called {name!r} and are measured as one'
        for name, count in Counter(names).items() if count > 1 and _folded(name) in alike
    ]
    return chosen, list(dict.fromkeys(notes))


def _note(
    name: str, fitting: Sequence[int], labelled: Sequence[int], categories: Mapping[int, str]
) -> str:
    def listed(numbers: Sequence[int]) -> str:
        return first_names((f'{number} {categories[number]!r}' for number in numbers), _SHOWN)

    what = f'the class {name!r} could be any of the categories {listed(fitting)}'
    if len(labelled) == len(fitting):
        return f'{what}: they count as one'
    return f'{what}: {listed(labelled)} has the labels and is taken'


def _is_coco(ids: Sequence[int | None], categories: Mapping[int, str]) -> bool:
    """Return whether the classes and the categories are those of COCO, in its order."""
    if len(ids) != len(COCO80) or not set(categories) <= set(COCO80_CATEGORY_IDS):
        return False
    if not any(categories.values()):
        return True
    same = sum(one == other for one, other in zip(ids, COCO80_CATEGORY_IDS, strict=True))
    return same >= _ALIKE


def _folded(name: str) -> str:
    """Return the form for comparison; a name of only `-` and `_` stays."""
    plain = unicodedata.normalize('NFC', name).replace('_', ' ').replace('-', ' ')
    return ' '.join(plain.casefold().split()) or name
