"""Stand-ins for the names in a checkpoint's pickle; the named objects are never imported."""

from __future__ import annotations

from collections.abc import Callable, Hashable
import re
from typing import Any

import torch

from yolov7_trt_ros.errors import CheckpointError
from yolov7_trt_ros.model.checkpoint.foreign_checkpoint import describe_foreign_name
from yolov7_trt_ros.model.checkpoint.stored_tensor import Storage, StoredTensor

_STAND_INS = re.compile(
    r'(yolov7\.)?(models|utils)\.'
    r'|torch\.nn\.(modules|parallel)\.'
    r'|argparse\.Namespace$'
)
"""The last of the yolov7 packages on PyPI names its modules like this."""
_OF_NO_INTEREST = re.compile(
    r'numpy\.((_?core|dtypes|random)\.)?[\w.]+$'
    r'|(datetime|pathlib(\._local)?)\.\w+$'
    r'|_codecs\.encode$'
    r'|torch\.(device|Tensor|serialization\._get_layout|nn\.parameter\.Parameter)$'
    r'|torch\.(optim|amp|cuda\.amp|distributed)\.[\w.]+$'
    r'|(builtins|__builtin__)\.(list|dict|tuple|int|float|bool|str|bytes|bytearray|object|slice'
    r'|range|complex)$'
)
_DTYPES = {
    'DoubleStorage': torch.float64, 'FloatStorage': torch.float32, 'HalfStorage': torch.float16,
    'BFloat16Storage': torch.bfloat16, 'LongStorage': torch.int64, 'IntStorage': torch.int32,
    'ShortStorage': torch.int16, 'CharStorage': torch.int8, 'ByteStorage': torch.uint8,
    'BoolStorage': torch.bool,
}
_PLAIN = (str, int, float, bool, type(None), bytes)


class StandIn:
    """
    An object of a class that is not imported.

    Attributes
    ----------
    path
        Module and name of the class that the pickle names.
    state
        What the object held, by attribute name.

    """

    __slots__ = ('path', 'state')

    def __init__(self, path: str) -> None:
        self.path = path
        self.state: dict[str, Any] = {}

    def set_state(self, state: object) -> None:
        """Keep the state; raises CheckpointError if it is no table of attributes."""
        if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
            raise CheckpointError(
                f'the checkpoint holds a {self.path} whose state is no table of attributes'
            )
        self.state = state


class StandInClass:
    """A class that is not imported: a pickle may make bare instances of it, and no more."""

    __slots__ = ('path',)

    def __init__(self, path: str) -> None:
        self.path = path


class Opaque:
    """A value that is not needed, such as the best fitness or a path."""

    __slots__ = ()


class BoundMethod:
    """A method of a stand-in that the checkpoint names, such as `fuseforward`."""

    __slots__ = ('name',)

    def __init__(self, name: str) -> None:
        self.name = name


class Admitted:
    """A function of this file that a pickle may call."""

    __slots__ = ('call',)

    def __init__(self, call: Callable[..., object]) -> None:
        self.call = call


class StorageType:
    """The element type of a storage."""

    __slots__ = ('dtype',)

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


_COMPARED_BY_IDENTITY = (Opaque, StandIn, StandInClass, StorageType, StoredTensor, Storage)


def find_name(module: str, name: str) -> object:
    """
    Return what stands for a name.

    Raises
    ------
    CheckpointError
        It is no part of a YOLOv7 model.

    """
    path = f'{module}.{name}'
    if path in _FUNCTIONS:
        return Admitted(_FUNCTIONS[path])
    if module in ('torch', 'torch.storage') and name in _DTYPES:
        return StorageType(_DTYPES[name])
    if _OF_NO_INTEREST.match(path) or (
        module == 'torch' and isinstance(vars(torch).get(name), torch.dtype)
    ):
        return Opaque()
    if '.' not in name and _STAND_INS.match(path):
        return StandInClass(path)
    raise CheckpointError(describe_foreign_name(path))


# ---- what a pickle may call


def _rebuild_tensor(
    storage: object, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> StoredTensor:
    if not isinstance(storage, Storage):
        raise CheckpointError('the checkpoint has a tensor without a storage')
    if not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise CheckpointError('the checkpoint has a tensor whose size is not a few numbers')
    return StoredTensor(storage, offset, size, stride)


def _rebuild_parameter(data: object, *_: object) -> object:
    return data


def _rebuild_from_type(function: object, _type: object, arguments: object, *_: object) -> object:
    """Rebuild a tensor that has Python attributes; they are left out."""
    if not isinstance(function, Admitted) or not isinstance(arguments, tuple):
        raise CheckpointError('the checkpoint has a tensor of no known kind')
    return function.call(*arguments)


def checked_key(key: Any) -> Hashable:
    """Return a key that is hashed at once: tuples within tuples that share parts are not."""
    if isinstance(key, (*_PLAIN, *_COMPARED_BY_IDENTITY)):
        return key
    if isinstance(key, tuple) and all(isinstance(each, _PLAIN) for each in key):
        return key
    raise CheckpointError(f'the checkpoint has a table with a {type(key).__name__} for a key')


def _plain_dict(pairs: Any = ()) -> dict[Any, Any]:
    listed = pairs.items() if isinstance(pairs, dict) else pairs
    return {checked_key(key): value for key, value in listed}


def _empty_dict(*_: object) -> dict[Any, Any]:
    """Stand for defaultdict(factory): the items follow one by one."""
    return {}


def _plain_set(items: Any = ()) -> set[Any]:
    return set(map(checked_key, items))


def _plain_frozenset(items: Any = ()) -> frozenset[Any]:
    return frozenset(map(checked_key, items))


def _plain_tuple(items: Any = ()) -> tuple[Any, ...]:
    return tuple(items)


def _method(owner: object, name: object) -> BoundMethod:
    """Stand for `getattr`, of a stand-in only: how a fused layer's `fuseforward` is pickled."""
    if not isinstance(owner, StandIn) or name not in ('fuseforward', 'forward'):
        shown = repr(name[:60]) if isinstance(name, str) else f'a {type(name).__name__}'
        raise CheckpointError(
            f'the checkpoint wants the attribute {shown} of an object; it may hold code, and is '
            'not read'
        )
    return BoundMethod(str(name))


_FUNCTIONS: dict[str, Callable[..., object]] = {
    'torch._utils._rebuild_tensor': _rebuild_tensor,
    'torch._utils._rebuild_tensor_v2': _rebuild_tensor,
    'torch._utils._rebuild_parameter': _rebuild_parameter,
    'torch._utils._rebuild_parameter_with_state': _rebuild_parameter,
    'torch._tensor._rebuild_from_type_v2': _rebuild_from_type,
    'torch.Size': _plain_tuple,
    'collections.OrderedDict': _plain_dict,
    'collections.Counter': _plain_dict,
    'collections.defaultdict': _empty_dict,
    **{f'{module}.set': _plain_set for module in ('builtins', '__builtin__')},
    **{f'{module}.frozenset': _plain_frozenset for module in ('builtins', '__builtin__')},
    **{f'{module}.getattr': _method for module in ('builtins', '__builtin__')},
}
