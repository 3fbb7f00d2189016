"""Convert class names or indices, as users write them, to class ids and scores per class."""

from __future__ import annotations

from collections.abc import Sequence
import difflib

from yolov7_trt_ros.core.plain_text import quoted
from yolov7_trt_ros.core.topics import split_names
from yolov7_trt_ros.errors import SettingError

_MOST_DIGITS = 10


def find_class_ids(wanted: Sequence[str], class_names: Sequence[str]) -> frozenset[int] | None:
    """
    Return the ids of classes given by name or index; None (all classes) if none is given.

    A name shared by several classes selects all of them.

    Raises
    ------
    SettingError
        The model has no such class; the message names the nearest one.

    """
    if not wanted:
        return None
    ids = _ids_by_name(class_names)
    return frozenset(number for text in wanted for number in _ids_of(text, ids, class_names))


def _ids_by_name(class_names: Sequence[str]) -> dict[str, list[int]]:
    ids: dict[str, list[int]] = {}
    for index, name in enumerate(class_names):
        ids.setdefault(name, []).append(index)
    return ids


def _ids_of(text: str, ids: dict[str, list[int]], class_names: Sequence[str]) -> list[int]:
    if text in ids:
        return ids[text]
    if _is_index(text) and (not class_names or int(text) < len(class_names)):
        return [int(text)]
    raise SettingError(f'the model has no class {quoted(text)}; {_hint(text, class_names)}')


def split_class_thresholds(text: str) -> dict[str, float]:
    """
    Split `person:0.4, car:0.3`; the score is what follows the last colon.

    Raises
    ------
    SettingError
        A part is not of this form, its score is not within 0..1, or a class is there twice.

    """
    scores: dict[str, float] = {}
    for part in split_names(text):
        name, colon, number = part.rpartition(':')
        name = name.strip()
        try:
            score = float(number)
        except ValueError:
            score = -1.0
        if not colon or not name or not 0 <= score <= 1:
            raise SettingError(
                'class_thresholds are class:score with a score within 0..1, as in '
                f'"person:0.4, car:0.3", got {quoted(part)}'
            )
        if name in scores:
            raise SettingError(f'class_thresholds name a class once, got {quoted(name)} twice')
        scores[name] = score
    return scores


def find_class_thresholds(
    text: str, class_names: Sequence[str]
) -> tuple[tuple[int, float], ...]:
    """
    Return class id and least score of each class that has one of its own, by id.

    Raises
    ------
    SettingError
        As `split_class_thresholds` and `find_class_ids`, or a class is named in two ways.

    """
    found: dict[int, float] = {}
    ids = _ids_by_name(class_names)
    for name, score in split_class_thresholds(text).items():
        for class_id in _ids_of(name, ids, class_names):
            if class_id in found:
                raise SettingError(
                    f'class_thresholds name a class once, got {quoted(name)} in two ways'
                )
            found[class_id] = score
    return tuple(sorted(found.items()))


def _is_index(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS


def _hint(text: str, class_names: Sequence[str]) -> str:
    if not class_names:
        return (
            'it does not tell the names of its classes: give numbers, or the names with class '
            'names (--class-names)'
        )
    near = difflib.get_close_matches(text, class_names, n=1)
    return f'did you mean {near[0]!r}?' if near else f'it has {len(class_names)} classes'
