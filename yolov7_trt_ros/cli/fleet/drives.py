"""Recordings by name: what the verbs that take many of them call each."""

from __future__ import annotations

from collections.abc import Sequence
import hashlib
from pathlib import Path

from yolov7_trt_ros.errors import InputError
from yolov7_trt_ros.replay.file_kinds import BAG_SUFFIXES, is_bag_folder, natural_key

_MOST_BYTES = 100
"""Of a part of a file name: two of them, a number and a suffix have 255."""


def name_drives(paths: Sequence[Path]) -> dict[str, Path]:
    """Return the recordings by a name that a file can have: `drive`, `drive-2` where taken."""
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
    """Return the name of a file or folder without what tells its kind."""
    name = path.resolve().name
    suffix = next((each for each in BAG_SUFFIXES if name.lower().endswith(each)), '')
    if not suffix and path.is_file():
        suffix = path.suffix
    stem = name.removesuffix(name[len(name) - len(suffix):]) if suffix else name
    return plain_part(stem) or 'drive'


def plain_part(text: str) -> str:
    """Return text as a part of a file name: letters, digits and `-_.`; a long one has a hash."""
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
        There is no such folder, or no bag in it.

    """
    if not folder.is_dir():
        raise InputError(f'{folder} is no folder of bags')
    found = [
        each for each in sorted(folder.iterdir(), key=natural_key)
        if not each.name.startswith('.') and _is_bag(each)
    ]
    if not found:
        raise InputError(f'{folder} holds no bags: files {" ".join(BAG_SUFFIXES)} or bag folders')
    return name_drives(found)


def _is_bag(path: Path) -> bool:
    return is_bag_folder(path) if path.is_dir() else path.name.lower().endswith(BAG_SUFFIXES)
