"""Read the containers of torch.save, zip archive and older stream, without torch."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import io
from pathlib import Path
import struct
from typing import Any, BinaryIO
import zipfile
import zlib

import torch
from torch import Tensor

from yolov7_trt_ros.errors import CheckpointError, ModelFormatError, ModelNotFoundError
from yolov7_trt_ros.model.checkpoint.foreign_checkpoint import describe_archive, describe_file
from yolov7_trt_ros.model.checkpoint.restricted_pickle import load_pickle, load_pickle_bytes
from yolov7_trt_ros.model.checkpoint.stored_tensor import load_everything, Storage
from yolov7_trt_ros.plain_file import open_plain_file

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_STREAM_VERSION = 1001
_HEAD_BYTES = 1024
_CHUNK_BYTES = 1 << 20
# RuntimeError: encrypted, or of a kind that is not implemented; the last two: names and extra
# fields that are no text or too short
_ZIP_ERRORS = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, RuntimeError, EOFError,
    ValueError, OSError, LookupError, OverflowError, MemoryError,
)


_MISFITS = (
    TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RuntimeError, OSError,
    MemoryError, struct.error,
)  # what Python and torch raise at values of another type or shape; recursion without end as well


@contextlib.contextmanager
def open_torch_file(path: Path) -> Iterator[Any]:
    """
    Give what a file of torch.save holds: plain values, StoredTensors and StandIns.

    While it is open, tensors can be read; nothing but reading should be done, for whatever is
    raised meanwhile by Python and torch is reported as a fault of the file.

    Raises
    ------
    ModelNotFoundError
        There is no such file.
    CheckpointError
        The file is damaged, cut off, of another kind, or holds code.

    """
    try:
        file = _BoundedFile(open_plain_file(path).detach())
    except (OSError, ValueError, ModelFormatError) as exc:
        raise ModelNotFoundError(f'the checkpoint {path} cannot be read: {exc}') from exc
    with file:
        try:
            yield _read(file)
        except CheckpointError as exc:
            raise CheckpointError(f'{path}: {exc}') from exc.__cause__
        except _MISFITS as exc:
            raise CheckpointError(
                f'{path}: is damaged, or no YOLOv7 detector: its parts do not fit together '
                f'({_reason(exc)})'
            ) from exc


def read_torch_file(path: Path) -> Any:
    """Return what a file of torch.save holds with its tensors read; errors as above."""
    with open_torch_file(path) as value:
        return load_everything(value)


class _BoundedFile(io.BufferedReader):
    """A file that takes no memory for more than it has, however much is asked for."""

    def __init__(self, raw: io.RawIOBase) -> None:
        super().__init__(raw)
        self._size_bytes = self.seek(0, 2)
        self.seek(0)

    def read(self, size: int | None = -1, /) -> bytes:
        """Return at most what is left."""
        left = self._size_bytes - self.tell()
        return super().read(max(0, left) if size is None or size < 0 else min(size, left))


def _read(file: BinaryIO) -> Any:
    head = file.read(_HEAD_BYTES)
    size_bytes = file.seek(0, 2)
    file.seek(0)
    what = describe_file(head)
    if what is not None:
        raise CheckpointError(f'is {what}')
    return (_read_archive if head[:2] == b'PK' else _read_stream)(file, size_bytes)


def _reason(exc: BaseException) -> str:
    return ' '.join(str(exc).split('\n')[0].split())[:200] or type(exc).__name__


class _Kept:
    """Storages that were read, each once, and together no larger than their file."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes, self._promised_bytes = size_bytes, 0
        self._promised: dict[str, Storage] = {}
        self._read: dict[str, Tensor] = {}

    def promise(self, key: str, storage: Storage) -> Storage:
        """Return the storage that the pickle names; the same for the same key."""
        known = self._promised.setdefault(key, storage)
        if (known.dtype, known.count) != (storage.dtype, storage.count):
            raise CheckpointError(f'the checkpoint has two storages called {key[:40]}')
        if known is storage:
            self._promised_bytes += storage.size_bytes
        if self._promised_bytes > self._size_bytes:
            raise CheckpointError(
                f'its storages are together larger than the file of {self._size_bytes} bytes'
            )
        return known

    @property
    def promised(self) -> dict[str, Storage]:
        """Return all storages so far."""
        return self._promised

    def once(self, key: str, values: bytearray, dtype: torch.dtype) -> Tensor:
        """Keep what was read."""
        self._read[key] = torch.frombuffer(values, dtype=dtype) if values else _nothing(dtype)
        return self._read[key]

    def find(self, key: str) -> Tensor | None:
        """Return what was read before."""
        return self._read.get(key)


def _nothing(dtype: torch.dtype) -> Tensor:
    return torch.empty(0, dtype=dtype)


# ---- the archive


def _read_archive(file: BinaryIO, size_bytes: int) -> Any:
    try:
        archive = zipfile.ZipFile(file)
    except _ZIP_ERRORS as exc:
        raise _damaged(exc) from exc
    listed = archive.namelist()
    names = [name for name in listed if name.rpartition('/')[2] == 'data.pkl']
    if len(names) != 1:
        raise CheckpointError(f'is {describe_archive(listed)}')
    if len(set(listed)) != len(listed):
        raise CheckpointError('the checkpoint is damaged: it has two members of one name')
    folder = names[0].removesuffix('data.pkl')
    if f'{folder}constants.pkl' in listed:
        raise CheckpointError(
            'is a TorchScript archive, whose layers are compiled code; give the checkpoint (.pt) '
            'that it was traced from'
        )
    if f'{folder}byteorder' in listed:
        order = _member(archive, f'{folder}byteorder', size_bytes, exactly=False)
        if order != b'little':
            raise CheckpointError(
                f'the numbers in it are {bytes(order[:20])!r}-endian, expected little'
            )
    kept = _Kept(size_bytes)

    def find_storage(key: str, dtype: torch.dtype, count: int) -> Storage:
        def read() -> Tensor:
            found = kept.find(key)
            if found is not None:
                return found
            name = f'{folder}data/{key}'
            return kept.once(key, _member(archive, name, count * dtype.itemsize), dtype)

        return kept.promise(key, Storage(dtype, _checked(count, dtype, size_bytes), read))

    pickled = _member(archive, names[0], size_bytes, exactly=False)
    return load_pickle_bytes(bytes(pickled), find_storage)


def _member(
    archive: zipfile.ZipFile, name: str, size_bytes: int, *, exactly: bool = True
) -> bytearray:
    """Return a member; with `exactly` it must have `size_bytes`, else at most those."""
    try:
        info = archive.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED:
            raise CheckpointError(f'{name} in it is compressed, which torch.save never does')
        if info.file_size > size_bytes or (exactly and info.file_size != size_bytes):
            raise CheckpointError(
                f'{name} in it has {info.file_size} bytes, expected {size_bytes}'
            )
        values = bytearray(info.file_size)
        with archive.open(info) as member:
            _fill(values, member)
    except _ZIP_ERRORS as exc:
        raise _damaged(exc) from exc
    return values


def _fill(values: bytearray, file: Any) -> None:
    """Read until a buffer is full and the file's check sum was compared."""
    view, done = memoryview(values), 0
    while done < len(values):
        part = file.read(min(_CHUNK_BYTES, len(values) - done))
        if not part:
            raise EOFError('a storage is cut off')
        view[done:done + len(part)] = part
        done += len(part)


def _damaged(exc: BaseException) -> CheckpointError:
    return CheckpointError(f'the checkpoint is damaged or cut off: {_reason(exc)}')


def _checked(count: int, dtype: torch.dtype, size_bytes: int) -> int:
    if not 0 <= count * dtype.itemsize <= size_bytes:
        raise CheckpointError('the checkpoint has a storage that is larger than the file')
    return count


# ---- the stream


def _read_stream(file: BinaryIO, size_bytes: int) -> Any:
    """Read the form of torch before 1.6: five pickles, then the storages one after another."""
    try:
        magic = load_pickle(file)
    except CheckpointError as exc:
        raise CheckpointError(f'is not a file that torch.save wrote ({exc})') from exc.__cause__
    if magic != _MAGIC_NUMBER:
        raise CheckpointError(
            f'is not a file that torch.save wrote: a pickle that holds a {type(magic).__name__}'
        )
    version, system = load_pickle(file), load_pickle(file)
    if version != _STREAM_VERSION or not isinstance(system, dict):
        raise CheckpointError(f'is a torch file of a version other than {_STREAM_VERSION}')
    if not system.get('little_endian', True):
        raise CheckpointError('the numbers in it are big-endian, expected little')
    kept, places = _Kept(size_bytes), dict[str, int]()

    def find_storage(key: str, dtype: torch.dtype, count: int) -> Storage:
        def read() -> Tensor:
            found = kept.find(key)
            if found is not None:
                return found
            values = bytearray(count * dtype.itemsize)
            try:
                file.seek(places[key])
                _fill(values, file)
            except _ZIP_ERRORS as exc:
                raise _damaged(exc) from exc
            return kept.once(key, values, dtype)

        return kept.promise(key, Storage(dtype, _checked(count, dtype, size_bytes), read))

    value, keys = load_pickle(file, find_storage), load_pickle(file)
    places.update(_find_places(file, keys, kept.promised, size_bytes))
    return value


def _find_places(
    file: BinaryIO, keys: object, storages: dict[str, Storage], size_bytes: int
) -> dict[str, int]:
    """Return where the numbers of each storage begin."""
    if (
        not isinstance(keys, list) or not all(isinstance(key, (str, int)) for key in keys)
        or sorted(map(str, keys)) != sorted(storages)
    ):
        raise CheckpointError('the checkpoint is damaged: the list of its storages does not fit')
    places = {}
    for key in map(str, keys):
        header = file.read(8)
        count = struct.unpack('<q', header)[0] if len(header) == 8 else -1
        places[key] = file.tell()
        end = places[key] + storages[key].size_bytes
        if count != storages[key].count or end > size_bytes:
            raise CheckpointError('the checkpoint is damaged or cut off within its storages')
        file.seek(end)
    return places
