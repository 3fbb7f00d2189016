"""Images, categories and labels of a COCO annotation file: checked and numbered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
import dataclasses
import itertools
import posixpath
import re
from typing import Any, TypeAlias

from yolov7_trt_ros.core.class_names import visible
from yolov7_trt_ros.errors import InputError
from yolov7_trt_ros.report.accuracy.label_boxes import Box, check_form, parse_box
from yolov7_trt_ros.report.accuracy.label_file import shown

Key: TypeAlias = 'int | str'

_WHOLE = re.compile(r'([+-]?[0-9]{1,15})(?:\.0*)?')
_MOST_KEPT = 2**31
_FLAGS: dict[object, bool] = {
    None: False, False: False, True: True, '0': False, '1': True, 'false': False, 'true': True,
}


@dataclasses.dataclass(frozen=True)
class CocoImage:
    """
    An image of an annotation file.

    Attributes
    ----------
    size_wh
        As the file states it, None where it does not.

    """

    image_id: int
    file_name: str
    size_wh: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Label:
    """
    A labelled object, or a crowd of them.

    Attributes
    ----------
    box_xywh
        In pixels of the picture; width and height are above 0.

    """

    image_id: int
    category_id: int
    box_xywh: Box
    is_crowd: bool = False


@dataclasses.dataclass(frozen=True)
class LabelSet:
    """
    The content of an annotation file.

    Attributes
    ----------
    images
        Each file once.
    names
        Of each category; '' where the file gives none.
    labels
        Each belongs to one of the images and categories.
    warnings
        What was interpreted differently than written, and what was left out.

    """

    images: tuple[CocoImage, ...]
    names: Mapping[int, str]
    labels: tuple[Label, ...]
    warnings: tuple[str, ...]


def parse_labels(content: Mapping[str, Any]) -> LabelSet:
    """
    Check and number the content of an annotation file.

    Ids may be numbers or texts. Ids of annotations are not read because they are often wrong;
    `area` is not read because average precision over all sizes does not depend on it.

    Raises
    ------
    InputError
        Something is missing or cannot be understood; the message says what and where.

    """
    notes: list[str] = []
    images, number_of_image = _parse_images(_entries(content, 'images'), notes)
    names, number_of_category = _parse_categories(_entries(content, 'categories'))
    entries = _entries(content, 'annotations')
    labels = _parse_all(entries, number_of_image, number_of_category, notes)
    if not labels:
        raise InputError(
            f'none of its {len(entries)} annotations labels an object of its {len(images)} images '
            f'and {len(names)} categories'
            + ''.join(f'; {note}' for note in notes[:1])
        )
    sizes = {image.image_id: image.size_wh for image in images}
    notes += check_form([(label.box_xywh, sizes[label.image_id]) for label in labels])
    unlabelled = len(images) - len({label.image_id for label in labels})
    if 2 * unlabelled > len(images):
        notes.append(f'{unlabelled} of {len(images)} images have no labels: all detections in '
                     'them count as wrong')
    return LabelSet(images, names, labels, tuple(notes))


def _entries(content: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return one of the lists of a file, a list of objects that is not empty."""
    found = content.get(name)
    if not isinstance(found, list):
        raise InputError(
            f'expected a list {name!r}, found '
            + (shown(found) if name in content else f'the keys {shown(sorted(content))}')
        )
    if not found:
        raise InputError(f'it lists no {name}')
    for number, entry in enumerate(found, 1):
        if not isinstance(entry, dict):
            raise InputError(f'{name}, entry {number}: expected an object, got {shown(entry)}')
    return found


def _key(entry: Mapping[str, Any], name: str) -> Key:
    """Return an id: whole numbers, however they are written, as int, other texts as they are."""
    value = entry.get(name)
    if isinstance(value, str) and value.strip():
        whole = _WHOLE.fullmatch(value.strip())
        return int(whole.group(1)) if whole else value.strip()
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise InputError(
        f'{name} must be a number or a text, got {shown(value)}' if name in entry
        else f'it has no {name}'
    )


def _numbered(keys: Iterable[Key]) -> dict[Key, int]:
    """Return a number for each id: usual numbers are kept, others follow the largest."""
    unique = list(dict.fromkeys(keys))
    usual = [key for key in unique if isinstance(key, int) and 0 <= key < _MOST_KEPT]
    after = itertools.count(max(usual, default=0) + 1)
    kept = dict.fromkeys(usual)
    return {
        key: key if isinstance(key, int) and key in kept else next(after) for key in unique
    }


def _located(kind: str, entries: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each entry with its position for messages."""
    for number, entry in enumerate(entries, 1):
        yield f'{kind} {number} of {len(entries)}', entry


# ---- images


def _parse_images(
    entries: list[dict[str, Any]], notes: list[str]
) -> tuple[tuple[CocoImage, ...], dict[Key, int]]:
    """Return images and the number of each id; entries of one file are one image."""
    read = [_parse_image(where, entry) for where, entry in _located('image', entries)]
    first_of = {file: key for key, file, _ in reversed(read)}
    _check_files(read)
    numbers = _numbered(first_of[file] for _, file, _ in read)
    images: dict[Key, CocoImage] = {}
    for _, file, image in read:
        key = first_of[file]
        images.setdefault(key, dataclasses.replace(image, image_id=numbers[key]))
    if repeated := len(read) - len(images):
        notes.append(f'{repeated} of {len(read)} images are listed more than once; the labels of '
                     'one file are joined')
    unsized = sum(image.size_wh is None for image in images.values())
    if unsized:
        notes.append(f'{unsized} of {len(images)} images have no width and height: it is not '
                     'checked whether the labels belong to these pictures')
    return tuple(images.values()), {key: numbers[first_of[file]] for key, file, _ in read}


def _parse_image(where: str, entry: dict[str, Any]) -> tuple[Key, str, CocoImage]:
    try:
        key = _key(entry, 'id')
        name = entry.get('file_name')
        if not isinstance(name, str) or not name.strip():
            raise InputError(f'file_name must be a text, got {shown(name)}')
        return key, posixpath.normpath(name), CocoImage(0, name, _size_wh(entry))
    except InputError as exc:
        raise InputError(f'{where}: {exc}') from exc


def _check_files(read: list[tuple[Key, str, CocoImage]]) -> None:
    """Raise InputError if two files have the same id."""
    files: dict[Key, str] = {}
    for key, file, _ in read:
        other = files.setdefault(key, file)
        if other != file:
            raise InputError(
                f'the image id {shown(key)} is that of {shown(other)} and of {shown(file)}, so '
                'its labels cannot be assigned'
            )


def _size_wh(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return width and height; None where they are missing or not above 0."""
    sides = []
    for name in ('width', 'height'):
        value = entry.get(name)
        if value is None:
            return None
        side = _key(entry, name)
        if isinstance(side, str) or side >= _MOST_KEPT:
            raise InputError(f'{name} must be a number of pixels, got {shown(value)}')
        sides.append(side)
    return (sides[0], sides[1]) if min(sides) > 0 else None


# ---- categories


def _parse_categories(entries: list[dict[str, Any]]) -> tuple[dict[int, str], dict[Key, int]]:
    """Return the name of each number, and the number of each id."""
    names: dict[Key, str] = {}
    for where, entry in _located('category', entries):
        try:
            key, name = _key(entry, 'id'), _name(entry.get('name'))
        except InputError as exc:
            raise InputError(f'{where}: {exc}') from exc
        if names.setdefault(key, name) != name:
            raise InputError(f'the category id {shown(key)} is that of {shown(names[key])} and of '
                             f'{shown(name)}')
    numbers = _numbered(names)
    return {numbers[key]: name for key, name in names.items()}, numbers


def _name(value: object) -> str:
    if value is None or isinstance(value, (str, int)):
        return '' if value is None else visible(str(value).strip())
    raise InputError(f'name must be a text, got {shown(value)}')


# ---- annotations


def _parse_all(
    entries: list[dict[str, Any]], images: Mapping[Key, int], categories: Mapping[Key, int],
    notes: list[str],
) -> tuple[Label, ...]:
    """Return the labels, each once; notes list what was left out."""
    counts: Counter[str] = Counter()
    found: dict[Label, None] = {}
    for where, entry in _located('annotation', entries):
        try:
            label = _parse_label(entry, images, categories, counts)
        except InputError as exc:
            raise InputError(f'{where}: {exc}') from exc
        if label in found:
            counts['occur twice in the same place and count once'] += 1
        elif label is not None:
            found[label] = None
    notes += [f'{count} of {len(entries)} annotations {what}' for what, count in counts.items()]
    return tuple(found)


def _parse_label(
    entry: dict[str, Any], images: Mapping[Key, int], categories: Mapping[Key, int],
    counts: Counter[str],
) -> Label | None:
    """Return a label, or None if it cannot be used; `counts` gets the reason."""
    image = images.get(_key(entry, 'image_id'))
    category = categories.get(_key(entry, 'category_id'))
    if image is None:
        counts['belong to images that the file does not list, and are left out'] += 1
        return None
    if category is None:
        counts['belong to categories that the file does not list, and are left out'] += 1
        return None
    box, crowd = parse_box(entry), _flag(entry, 'iscrowd')
    if min(box[2:]) == 0:
        counts['have a box without width or height, and are left out'] += 1
        return None
    if not crowd and _flag(entry, 'ignore'):
        counts["are marked 'ignore', which COCO's format does not have, and count as objects"] += 1
    return Label(image, category, box, crowd)


def _flag(entry: Mapping[str, Any], name: str) -> bool:
    value = entry.get(name)
    plain = value.strip().lower() if isinstance(value, str) else value
    if not isinstance(plain, (str, int, float, type(None))) or plain not in _FLAGS:
        raise InputError(f'{name} must be 0 or 1, got {shown(value)}')
    return _FLAGS[plain]
