"""The containers torch.save writes, the zip archive and the older stream, read without torch."""

from __future__ import annotations

import io
from pathlib import Path
import struct
from typing import Any
import zipfile

import torch
from torch import Tensor

from yolov7_trt_ros.errors import CheckpointError, ModelNotFoundError
from yolov7_trt_ros.model.restricted_pickle import load_pickle, load_pickle_bytes

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_STREAM_VERSION = 1001
_ZIP_ERRORS = (
    zipfile.BadZipFile, struct.error, KeyError, RuntimeError, EOFError, ValueError, OSError,
)  # RuntimeError: encrypted, or of a kind that is not implemented


def read_torch_file(path: Path) -> Any:
    """
    Return what a file of torch.save holds: plain values, tensors on the CPU and stand-ins.

    Raises
    ------
    ModelNotFoundError
        There is no such file.
    CheckpointError
        The file is damaged, cut off, of another kind, or holds code.

    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise ModelNotFoundError(f'the checkpoint {path} cannot be read: {exc}') from exc
    try:
        if data[:2] == b'PK':
            return _read_archive(data)
        return _read_stream(data)
    except CheckpointError as exc:
        raise CheckpointError(f'{path}: {exc}') from exc.__cause__


def _read_archive(data: bytes) -> Any:
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except _ZIP_ERRORS as exc:
        raise CheckpointError(f'the checkpoint is damaged or cut off: {exc}') from exc
    names = [name for name in archive.namelist() if name.rpartition('/')[2] == 'data.pkl']
    if len(names) != 1:
        raise CheckpointError('a zip archive, but not one that torch.save wrote: no data.pkl')
    folder = names[0].removesuffix('data.pkl')
    if f'{folder}constants.pkl' in archive.namelist():
        raise CheckpointError(
            'a TorchScript archive, whose layers are compiled code; give the checkpoint (.pt) '
            'that it was traced from'
        )
    if f'{folder}byteorder' in archive.namelist():
        order = _member(archive, f'{folder}byteorder')
        if order != b'little':
            raise CheckpointError(f'the numbers in it are {order[:20]!r}-endian, expected little')
    kept: dict[str, Tensor] = {}

    def find_storage(key: str, dtype: torch.dtype, count: int) -> Tensor:
        if key not in kept:
            kept[key] = _flat(_member(archive, f'{folder}data/{key}'), dtype, count)
            _check_total(kept, len(data))  # members of a crafted archive can overlap
        return kept[key]

    return load_pickle_bytes(_member(archive, names[0]), find_storage)


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
            raise CheckpointError(f'{name} in it is compressed, which torch.save never does')
        return archive.read(name)
    except _ZIP_ERRORS as exc:
        raise CheckpointError(f'the checkpoint is damaged or cut off: {name}: {exc}') from exc


def _check_total(storages: dict[str, Tensor], size_bytes: int) -> None:
    """Refuse storages that are together larger than the file, before memory is full of them."""
    if sum(each.numel() * each.dtype.itemsize for each in storages.values()) > size_bytes:
        raise CheckpointError(
            f'its storages are together larger than the file of {size_bytes} bytes'
        )


def _flat(data: bytes, dtype: torch.dtype, count: int) -> Tensor:
    wanted = count * dtype.itemsize
    if len(data) != wanted:
        raise CheckpointError(
            f'a storage of {count} elements has {len(data)} bytes, expected {wanted}'
        )
    return torch.frombuffer(bytearray(data), dtype=dtype) if count else _blank(0, dtype)


def _blank(count: int, dtype: torch.dtype) -> Tensor:
    """Return zeros on memory that no pickled state of a tensor can make larger."""
    return torch.frombuffer(bytearray(max(1, count) * dtype.itemsize), dtype=dtype)[:count]


def _read_stream(data: bytes) -> Any:
    """Read the form of torch before 1.6: five pickles, then the storages one after another."""
    file = io.BytesIO(data)
    try:
        magic = load_pickle(file)
    except CheckpointError as exc:
        raise CheckpointError(f'not a file that torch.save wrote ({exc})') from exc.__cause__
    if magic != _MAGIC_NUMBER:
        raise CheckpointError('not a file that torch.save wrote: its first number is another')
    version, system = load_pickle(file), load_pickle(file)
    if version != _STREAM_VERSION or not isinstance(system, dict):
        raise CheckpointError(f'a torch file of a version other than {_STREAM_VERSION}')
    if not system.get('little_endian', True):
        raise CheckpointError('the numbers in it are big-endian, expected little')
    promised: dict[str, Tensor] = {}

    def find_storage(key: str, dtype: torch.dtype, count: int) -> Tensor:
        if not 0 <= count * dtype.itemsize <= len(data):
            raise CheckpointError(f'a storage of {count} elements is larger than the file')
        if key not in promised:
            promised[key] = _blank(count, dtype)
            _check_total(promised, len(data))
        return promised[key]

    value = load_pickle(file, find_storage)
    keys = load_pickle(file)
    if (
        not isinstance(keys, list) or not all(isinstance(key, (str, int)) for key in keys)
        or set(map(str, keys)) != set(promised)
    ):
        raise CheckpointError('the checkpoint is damaged: the list of its storages does not fit')
    for key in map(str, keys):
        _fill(promised[key], file)
    return value


def _fill(storage: Tensor, file: io.BytesIO) -> None:
    header = file.read(8)
    count = struct.unpack('<q', header)[0] if len(header) == 8 else -1
    body = file.read(storage.numel() * storage.dtype.itemsize)
    if count != storage.numel() or len(body) != storage.numel() * storage.dtype.itemsize:
        raise CheckpointError('the checkpoint is damaged or cut off within its storages')
    if count:
        storage.copy_(torch.frombuffer(bytearray(body), dtype=storage.dtype))
