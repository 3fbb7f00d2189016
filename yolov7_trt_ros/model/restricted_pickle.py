"""
Unpickle a checkpoint without running anything that is in it.

A pickle names functions and classes to call. Here a name is never looked up: tensors are rebuilt
by this file's own code, classes of YOLOv7 and torch.nn become stand-ins that hold their state and
can do nothing, and every other name is refused.

"""

from __future__ import annotations

import collections
from collections.abc import Callable
import io
import math
import pickle
import pickletools
import struct
from typing import Any, BinaryIO, NoReturn

import torch
from torch import Tensor

from yolov7_trt_ros.errors import CheckpointError

_STAND_IN_PACKAGES = ('models.', 'utils.', 'torch.nn.modules.')
_STAND_INS = {'argparse.Namespace'}
_VALUES_OF_NO_INTEREST = {
    '_codecs.encode', 'numpy.dtype', 'numpy.ndarray', 'torch.device',
    'torch.serialization._get_layout',
    *(f'numpy.{core}.multiarray.{name}'
      for core in ('core', '_core') for name in ('scalar', '_reconstruct')),
    *(f'pathlib.{name}' for name in ('Path', 'PosixPath', 'PurePosixPath', 'WindowsPath')),
}
_DTYPES = {
    'DoubleStorage': torch.float64, 'FloatStorage': torch.float32, 'HalfStorage': torch.float16,
    'BFloat16Storage': torch.bfloat16, 'LongStorage': torch.int64, 'IntStorage': torch.int32,
    'ShortStorage': torch.int16, 'CharStorage': torch.int8, 'ByteStorage': torch.uint8,
    'BoolStorage': torch.bool,
}
_PICKLE_ERRORS = (
    pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, KeyError,
    TypeError, ValueError, OverflowError, MemoryError, RecursionError, RuntimeError, struct.error,
)

_MOST_DIMENSIONS = 8

FindStorage = Callable[[str, torch.dtype, int], Tensor]
"""From a storage's key, element type and count of elements to a flat tensor."""


class _StandInClass(type):
    """A class that cannot be called: a pickle may only make bare instances of it."""

    def __call__(cls, *args: object, **kwargs: object) -> NoReturn:
        """Refuse."""
        raise CheckpointError(
            f'the checkpoint wants to call {cls.__name__}; it holds code, and is not read'
        )


class StandIn(metaclass=_StandInClass):
    """
    An object of a class that is not imported.

    Attributes
    ----------
    path
        Module and name of the class that the pickle names.
    state
        What the object held, by attribute name.

    """

    path = ''

    @property
    def state(self) -> dict[str, Any]:
        """Return what the object held."""
        held: dict[str, Any] = self.__dict__.get('held', {})
        return held

    def __setstate__(self, state: object) -> None:
        """Keep the state."""
        if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
            raise CheckpointError(
                f'the checkpoint holds a {self.path} whose state is no table of attributes'
            )
        self.__dict__['held'] = state


class Opaque:
    """A value that nobody needs, such as the best fitness or a path."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        """Forget the state."""

    def __call__(self, *args: object) -> Opaque:
        """Return another such value."""
        return Opaque()


class BoundMethod:
    """A method of a stand-in that the checkpoint names, such as `fuseforward`."""

    __slots__ = ('name',)

    def __init__(self, name: str) -> None:
        self.name = name


class _Admitted:
    """A function that a pickle may call; a pickle cannot change it."""

    __slots__ = ('_function',)

    _function: Callable[..., object]

    def __init__(self, function: Callable[..., object]) -> None:
        object.__setattr__(self, '_function', function)

    def __call__(self, *args: object) -> object:
        return self._function(*args)

    def __setattr__(self, name: str, value: object) -> None:
        raise CheckpointError('the checkpoint wants to change a function, and is not read')


class _StorageType:
    """The element type of a storage."""

    __slots__ = ('dtype',)

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


class _Unpickler(pickle.Unpickler):

    def __init__(self, file: BinaryIO, find_storage: FindStorage | None) -> None:
        super().__init__(file, encoding='utf-8')
        self._find_storage = find_storage
        self._stand_ins: dict[str, type[StandIn]] = {}

    def find_class(self, module: str, name: str) -> object:
        """Return what stands for a name; never the thing itself."""
        path = f'{module}.{name}'
        if path in _FUNCTIONS:
            return _Admitted(_FUNCTIONS[path])
        if module in ('torch', 'torch.storage') and name in _DTYPES:
            return _StorageType(_DTYPES[name])
        if path in _VALUES_OF_NO_INTEREST or (
            module == 'torch' and isinstance(vars(torch).get(name), torch.dtype)
        ):
            return Opaque()
        if '.' not in name and (path.startswith(_STAND_IN_PACKAGES) or path in _STAND_INS):
            return self._stand_in(path)
        raise CheckpointError(
            f'the checkpoint names {path}, which is no part of a YOLOv7 model: it may hold code, '
            'and is not read. Save its state_dict with the program that it is from'
        )

    def _stand_in(self, path: str) -> type[StandIn]:
        if path not in self._stand_ins:
            name = path.rpartition('.')[2]
            made: Any = _StandInClass(name, (StandIn,), {'path': path})
            self._stand_ins[path] = made
        return self._stand_ins[path]

    def persistent_load(self, pid: Any) -> object:
        """Return a storage as a flat tensor; or the class of a layer, as older files name it."""
        if pid[0] == 'module' and isinstance(pid[1], _StandInClass):
            return pid[1]
        kind, storage_type, key, _, count = pid[:5]
        if self._find_storage is None or kind != 'storage':
            raise CheckpointError('the checkpoint names storages where there are none')
        if not isinstance(storage_type, _StorageType) or not isinstance(count, int):
            raise CheckpointError('the checkpoint has a storage of no known type')
        if not isinstance(key, (str, int)):  # nested lists that share parts print without end
            raise CheckpointError(f'the checkpoint calls a storage by a {type(key).__name__}')
        whole = self._find_storage(str(key), storage_type.dtype, count)
        view = pid[5] if len(pid) > 5 else None
        return whole if view is None else whole[view[1]:view[1] + view[2]]


def load_pickle(file: BinaryIO, find_storage: FindStorage | None = None) -> Any:
    """
    Return what one pickle holds: plain Python values, tensors and stand-ins.

    Raises
    ------
    CheckpointError
        The pickle is damaged, or names anything but tensors and the classes of a YOLOv7 model.

    """
    try:
        _check_memo(file)
        return _Unpickler(file, find_storage).load()
    except _PICKLE_ERRORS as exc:
        reason = str(exc).strip().split('\n')[0][:200] or type(exc).__name__
        raise CheckpointError(f'the checkpoint is damaged or cut off: {reason}') from exc


def _check_memo(file: BinaryIO) -> None:
    """Refuse a number in the memo that no pickler gives: memory is taken up to the largest."""
    start = file.tell()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if opcode.name in ('PUT', 'LONG_BINPUT') and argument is not None and argument > count:
            raise CheckpointError(f'the checkpoint keeps its value {count} under {argument}')
    file.seek(start)


def load_pickle_bytes(data: bytes, find_storage: FindStorage | None = None) -> Any:
    """Return what the bytes of one pickle hold; errors as `load_pickle`."""
    return load_pickle(io.BytesIO(data), find_storage)


# ---- what a pickle may call


def _rebuild_tensor(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> Tensor:
    """Return a view of a storage that lies within it."""
    if not isinstance(storage, Tensor) or storage.ndim != 1:
        raise CheckpointError('the checkpoint has a tensor without a storage')
    if not isinstance(size, tuple) or len(size) > _MOST_DIMENSIONS:
        raise CheckpointError('the checkpoint has a tensor whose size is not a few numbers')
    if math.prod(size) > storage.numel():
        raise CheckpointError(
            f'the checkpoint has a tensor of the size {tuple(size)} on a storage of '
            f'{storage.numel()} elements'
        )
    return torch.as_strided(storage, size, stride, offset)


def _rebuild_parameter(data: object, *_: object) -> object:
    return data


def _ordered_dict(pairs: Any = ()) -> collections.OrderedDict[Any, Any]:
    return collections.OrderedDict(pairs)


def _plain_set(items: Any = ()) -> set[Any]:
    return set(items)


def _plain_tuple(items: Any = ()) -> tuple[Any, ...]:
    return tuple(items)


def _method(owner: object, name: object) -> BoundMethod:
    """Stand for `getattr`, of a stand-in only: how a fused layer's `fuseforward` is pickled."""
    if not isinstance(owner, StandIn) or name not in ('fuseforward', 'forward'):
        raise CheckpointError(
            f'the checkpoint wants the attribute {name!r} of an object; it may hold code, and is '
            'not read'
        )
    return BoundMethod(str(name))


_FUNCTIONS: dict[str, Callable[..., object]] = {
    'torch._utils._rebuild_tensor': _rebuild_tensor,
    'torch._utils._rebuild_tensor_v2': _rebuild_tensor,
    'torch._utils._rebuild_parameter': _rebuild_parameter,
    'torch.Size': _plain_tuple,
    'collections.OrderedDict': _ordered_dict,
    **{f'{module}.set': _plain_set for module in ('builtins', '__builtin__')},
    **{f'{module}.getattr': _method for module in ('builtins', '__builtin__')},
}
