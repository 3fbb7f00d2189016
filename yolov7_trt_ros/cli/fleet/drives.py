"""Names of recordings, for the verbs that take many of them."""

from __future__ import annotations

from collections.abc import Sequence
import hashlib
from pathlib import Path

from yolov7_trt_ros.errors import InputError
from yolov7_trt_ros.replay.file_kinds import BAG_SUFFIXES, is_bag_folder, natural_key

_MOST_BYTES = 100
"""Limit of a part of a file name: two parts, a number and a suffix fit in 255."""


def name_drives(paths: Sequence[Path]) -> dict[str, Path]:
    """Return the recordings by unique file names: `drive`, or `drive-2` if taken."""
    named: dict[str, Path] = {}
    for path in paths:
        stem = _stem(path)
        name, number = stem, 1
        while name in named:
            number += 1
            name = f'{stem}-{number}'
        named[name] = path
    return named


def _stem(path: Path) -> str:
    """Return the name of a file or folder without the suffix of its kind."""
    name = path.resolve().name
    suffix = next((each for each in BAG_SUFFIXES if name.lower().endswith(each)), '')
    if not suffix and path.is_file():
        suffix = path.suffix
    stem = name.removesuffix(name[len(name) - len(suffix):]) if suffix else name
    return plain_part(stem) or 'drive'


def plain_part(text: str) -> str:
    """Return text as part of a file name: letters, digits, `-_.`; a hash if too long."""
    plain = ''.join(each if each.isalnum() or each in '-_.' else '_' for each in text).lstrip('.')
    data = plain.encode()
    if len(data) <= _MOST_BYTES:
        return plain
    digest = hashlib.sha256(text.encode(errors='surrogateescape')).hexdigest()[:12]
    return f'{data[:_MOST_BYTES].decode(errors="ignore")}~{digest}'


def find_bags(folder: Path) -> dict[str, Path]:
    """
    Return the bags in a folder by name: files, and folders that are bags.

    Raises
    ------
    InputError
        The folder does not exist, or has no bag in it.

    """
    if not folder.is_dir():
        raise InputError(f'{folder} is not a folder of bags')
    found = [
        each for each in sorted(folder.iterdir(), key=natural_key)
        if not each.name.startswith('.') and _is_bag(each)
    ]
    if not found:
        raise InputError(f'{folder} has no bags: files {" ".join(BAG_SUFFIXES)} or bag folders')
    return name_drives(found)


def _is_bag(path: Path) -> bool:
    return is_bag_folder(path) if path.is_dir() else path.name.lower().endswith(BAG_SUFFIXES)
