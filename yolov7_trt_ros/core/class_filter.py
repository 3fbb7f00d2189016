"""From class names or indices, as people write them, to class ids."""

from __future__ import annotations

from collections.abc import Sequence
import difflib

from yolov7_trt_ros.errors import SettingError


def find_class_ids(wanted: Sequence[str], class_names: Sequence[str]) -> frozenset[int] | None:
    """
    Return the ids of classes given by name or index; None (all classes) where none is given.

    A name that several classes have stands for all of them.

    Raises
    ------
    SettingError
        The model has no such class; the message names the nearest one.

    """
    if not wanted:
        return None
    ids: dict[str, set[int]] = {}
    for index, name in enumerate(class_names):
        ids.setdefault(name, set()).add(index)
    found: set[int] = set()
    for text in wanted:
        if text in ids:
            found |= ids[text]
        elif text.isdecimal() and (not class_names or int(text) < len(class_names)):
            found.add(int(text))
        else:
            raise SettingError(f'the model has no class {text!r}; {_hint(text, class_names)}')
    return frozenset(found)


def _hint(text: str, class_names: Sequence[str]) -> str:
    if not class_names:
        return (
            'it does not tell the names of its classes: give numbers, or the names with class '
            'names (--class-names)'
        )
    near = difflib.get_close_matches(text, class_names, n=1)
    return f'did you mean {near[0]!r}?' if near else f'it has {len(class_names)} classes'
