"""Tensors as described in a checkpoint; their values are read on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from yolov7_trt_ros.errors import CheckpointError

_MOST_DIMENSIONS = 8
_MOST_SIDE = 2**31 - 1
_MOST_DEPTH = 100
_SPARE_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, eq=False)
class Storage:
    """
    A run of numbers of one type in a file.

    Attributes
    ----------
    dtype, count
        Type and number of the elements.
    read
        Gives them as a flat tensor; raises CheckpointError if they are damaged.

    """

    dtype: torch.dtype
    count: int
    read: Callable[[], Tensor]

    @property
    def size_bytes(self) -> int:
        """Return how long it is."""
        return self.count * self.dtype.itemsize

    def part(self, offset: int, count: int) -> Storage:
        """Return a part of it as a storage; raises CheckpointError where it reaches beyond."""
        if not 0 <= offset <= offset + count <= self.count:
            raise CheckpointError(f'a part of a storage of {self.count} elements lies beyond it')
        return Storage(self.dtype, count, lambda: self.read()[offset:offset + count])


@dataclasses.dataclass(frozen=True, eq=False)
class StoredTensor:
    """A view of a storage, checked to lie within it."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check the sizes; raises CheckpointError."""
        if len(self.shape) > _MOST_DIMENSIONS or len(self.stride) != len(self.shape):
            raise CheckpointError('the checkpoint has a tensor whose size is not a few numbers')
        if not all(_is_size(number) for number in (self.offset, *self.shape, *self.stride)):
            raise CheckpointError(
                'the checkpoint has a tensor whose size, strides or offset are no sizes: expected '
                f'whole numbers of 0 to {_MOST_SIDE}'
            )
        if 0 not in self.shape and self._end > self.storage.count or (
            math.prod(self.shape) > self.storage.count
        ):
            raise CheckpointError(
                f'the checkpoint has a tensor of the size {self.shape} at {self.offset} on a '
                f'storage of {self.storage.count} elements'
            )

    @property
    def _end(self) -> int:
        steps = zip(self.shape, self.stride, strict=True)
        return self.offset + sum((side - 1) * step for side, step in steps) + 1

    @property
    def size_bytes(self) -> int:
        """Return how much memory a copy of it takes."""
        return math.prod(self.shape) * self.storage.dtype.itemsize

    def load(self) -> Tensor:
        """Read it; raises CheckpointError where the file is damaged."""
        return torch.as_strided(self.storage.read(), self.shape, self.stride, self.offset)


def load_tensors(stored: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    """
    Read tensors.

    Raises
    ------
    CheckpointError
        The file is damaged, or the tensors are together much larger than what is stored.

    """
    _check_together(stored.values())
    return {name: each.load() for name, each in stored.items()}


def load_everything(value: Any, depth: int = 0) -> Any:
    """Return dicts, lists and tuples with their tensors read; errors as `load_tensors`."""
    if depth > _MOST_DEPTH:
        raise CheckpointError(f'what the file holds is nested more than {_MOST_DEPTH} deep')
    if isinstance(value, StoredTensor):
        return value.load()
    if isinstance(value, dict):
        return {key: load_everything(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(load_everything(item, depth + 1) for item in value)
    return value


def _check_together(stored: Iterable[StoredTensor]) -> None:
    """Refuse tensors that share storages so often that copies of them would fill the memory."""
    tensors = list(stored)
    there = sum({id(each.storage): each.storage.size_bytes for each in tensors}.values())
    if sum(each.size_bytes for each in tensors) > 2 * there + _SPARE_BYTES:
        raise CheckpointError('its tensors are together much larger than its storages')


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_SIDE
