"""Read an annotation file: bytes, encoding, JSON. `labels.py` checks its content."""

from __future__ import annotations

import json
from pathlib import Path
import reprlib
from typing import Any

from yolov7_trt_ros.core.class_names import visible
from yolov7_trt_ros.errors import InputError

MOST_BYTES = 2 << 30
"""Four times the largest annotation file of COCO."""

_BLOCK_BYTES = 1 << 20
_READ = frozenset((
    'images', 'annotations', 'categories', 'id', 'image_id', 'category_id', 'bbox', 'iscrowd',
    'file_name', 'width', 'height', 'name', 'ignore',
))
"""Keys whose second mention would change what is measured."""


def read_label_file(path: Path, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """
    Return the object of a JSON file in UTF-8, UTF-16 or UTF-32, with a byte order mark or without.

    Segmentations are dropped while reading: they are most of such a file, and nothing needs them.

    Raises
    ------
    InputError
        The file cannot be read or is too large, is no text, no JSON, or no JSON object.

    """
    try:
        content = json.loads(_decode(_read(path, most_bytes)), object_pairs_hook=_as_dict)
    except RecursionError as exc:
        raise InputError('it is nested too deeply') from exc
    except MemoryError as exc:
        raise InputError('it does not fit into memory') from exc
    except ValueError as exc:  # no JSON, or a number of thousands of digits
        raise InputError(f'it is no JSON: {exc}') from exc
    if isinstance(content, list) and content and _is_result(content[0]):
        raise InputError(
            'it is a list of detections (COCO results), not of labels; give the file that has '
            'images, annotations and categories'
        )
    if not isinstance(content, dict):
        raise InputError(
            'expected an object with images, annotations and categories, found '
            f'{shown(content)}'
        )
    return content


def shown(value: object) -> str:
    """Return a value of a file for a message: short, on one line, nothing invisible in it."""
    return visible(reprlib.repr(value))


def _read(path: Path, most_bytes: int) -> bytearray:
    """Return at most one block more than the limit: asked for all at once Python takes that."""
    data = bytearray()
    try:
        with path.open('rb') as stream:
            while len(data) <= most_bytes and (block := stream.read(_BLOCK_BYTES)):
                data += block
    except OSError as exc:
        raise InputError(f'it cannot be read: {exc.strerror}') from exc
    except ValueError as exc:  # a zero byte in the path
        raise InputError(f'it cannot be read: {exc}') from exc
    if len(data) > most_bytes:
        raise InputError(f'it is larger than the limit of {most_bytes} bytes')
    return data


def _decode(data: bytearray) -> str:
    try:
        return data.decode(json.detect_encoding(data))
    except UnicodeDecodeError as exc:
        raise InputError(
            f'it is no text in {exc.encoding} (byte {exc.start} is 0x{data[exc.start]:02x}); save '
            'it as UTF-8'
        ) from exc


def _as_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        _refuse_twice([key for key, _ in pairs])
    if 'segmentation' in found:
        found['segmentation'] = None
    return found


def _refuse_twice(keys: list[str]) -> None:
    for key in _READ.intersection(keys):
        if keys.count(key) > 1:
            raise ValueError(f'{key!r} is there twice in one object')


def _is_result(entry: object) -> bool:
    return isinstance(entry, dict) and 'score' in entry and 'image_id' in entry
