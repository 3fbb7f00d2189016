"""
Read a checkpoint's pickle without running anything in it.

A pickle is a program that names functions and classes to call. This reads its instructions one by
one (`pickletools` splits them) and carries out those that make plain values. A name is never
looked up: `pickle_names` has what stands for it, and everything else is refused. Work is bounded:
there are at most as many instructions as a large checkpoint has, and none may do much by itself.

"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sized
import contextlib
import gc
import io
import pickletools
from typing import Any, BinaryIO, NoReturn

import torch

from yolov7_trt_ros.errors import CheckpointError
from yolov7_trt_ros.model.checkpoint.pickle_names import (
    Admitted,
    checked_key,
    find_name,
    Opaque,
    StandIn,
    StandInClass,
    StorageType,
)
from yolov7_trt_ros.model.checkpoint.stored_tensor import Storage

FindStorage = Callable[[str, torch.dtype, int], Storage]
"""From a storage's key, element type and count of elements to the storage."""

_MOST_STEPS = 1_000_000  # yolov7-e6e takes 200,000, twice as many with averaged weights
# what pickletools raises at bytes that are no instructions, and Python at values of other types
_MISTAKES = (
    ValueError, TypeError, AttributeError, LookupError, ArithmeticError, EOFError, MemoryError,
    RecursionError,
)


def load_pickle(file: BinaryIO, find_storage: FindStorage | None = None) -> Any:
    """
    Return what one pickle holds: plain Python values, StoredTensors and StandIns.

    Raises
    ------
    CheckpointError
        The pickle is damaged, or names anything but tensors and the classes of a YOLOv7 model.

    """
    try:
        with _no_collection():
            return _Reader(find_storage).read(file)
    except _MISTAKES as exc:
        reason = str(exc).strip().split('\n')[0][:200] or type(exc).__name__
        raise CheckpointError(f'the checkpoint is damaged or cut off: {reason}') from exc


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python from looking through a million new objects again and again: no cycle is made."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def load_pickle_bytes(data: bytes, find_storage: FindStorage | None = None) -> Any:
    """Return what the bytes of one pickle hold; errors as `load_pickle`."""
    return load_pickle(io.BytesIO(data), find_storage)


class _Reader:
    """Carries out the instructions of one pickle."""

    def __init__(self, find_storage: FindStorage | None) -> None:
        self._find_storage = find_storage
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._steps = 0

    def read(self, file: BinaryIO) -> Any:
        """Read to the end of the pickle and return its value."""
        for opcode, argument, _ in pickletools.genops(file):
            self._count(1)
            name = opcode.name
            if name in _PUT:
                self._memo[int(argument or 0)] = self._stack[-1]
            elif name in _GET:
                self._stack.append(self._memo[int(argument or 0)])
            elif name in _ARGUMENTS:
                self._stack.append(argument)
            elif name == 'STOP':
                return self._stack.pop()
            else:
                _INSTRUCTIONS[name](self, argument)
        raise EOFError('no end')

    def _count(self, steps: int) -> None:
        self._steps += steps
        if self._steps > _MOST_STEPS:
            raise CheckpointError(
                f'the checkpoint takes more than {_MOST_STEPS} steps to read, more than twice '
                'what the largest of YOLOv7 take'
            )

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    # ---- plain values

    def mark(self, _: object) -> None:
        self._marks.append(len(self._stack))

    def skip(self, _: object) -> None:
        """Do nothing: PROTO and FRAME are not needed."""

    def pop(self, _: object) -> None:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self._stack.pop()

    def pop_mark(self, _: object) -> None:
        self._since_mark()

    def dup(self, _: object) -> None:
        self._stack.append(self._stack[-1])

    def memoize(self, _: object) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def text(self, argument: str) -> None:
        """Push a text of Python 2, whose bytes pickletools takes for Latin-1."""
        self._stack.append(argument.encode('latin-1').decode('utf-8', 'replace'))

    def tuple_of(self, count: int) -> None:
        items = self._stack[-count:]
        if len(items) < count:
            raise IndexError('a tuple of what is not there')
        del self._stack[-count:]
        self._stack.append(tuple(items))

    def tuple_since_mark(self, _: object) -> None:
        self._stack.append(tuple(self._since_mark()))

    def list_since_mark(self, _: object) -> None:
        self._stack.append(self._since_mark())

    def dict_since_mark(self, _: object) -> None:
        items = self._since_mark()
        self._stack.append({})
        self._set_items(items)

    def frozenset_since_mark(self, _: object) -> None:
        self._stack.append(frozenset(map(checked_key, self._since_mark())))

    def append(self, _: object) -> None:
        item = self._stack.pop()
        self._append([item])

    def append_since_mark(self, _: object) -> None:
        self._append(self._since_mark())

    def _append(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, Opaque):
            return
        if not isinstance(target, list):
            _refuse_change(target)
        target.extend(items)

    def set_item(self, _: object) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set_items([key, value])

    def set_items_since_mark(self, _: object) -> None:
        self._set_items(self._since_mark())

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, Opaque):
            return
        if not isinstance(target, dict):
            _refuse_change(target)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[checked_key(key)] = value

    def add_since_mark(self, _: object) -> None:
        items = self._since_mark()
        target = self._stack[-1]
        if not isinstance(target, set):
            _refuse_change(target)
        target.update(map(checked_key, items))

    # ---- names, objects and calls

    def name(self, argument: str) -> None:
        module, _, name = argument.partition(' ')
        self._stack.append(find_name(module, name))

    def name_on_stack(self, _: object) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise TypeError('a name that is no text')
        self._stack.append(find_name(module, name))

    def reduce(self, _: object) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        self._stack.append(self._call(function, arguments))

    def _call(self, function: object, arguments: object) -> object:
        if isinstance(function, (StandIn, StandInClass)):
            raise CheckpointError(
                f'the checkpoint wants to call {function.path}; it holds code, and is not read'
            )
        if not isinstance(arguments, tuple):
            raise TypeError('a call whose arguments are no tuple')
        if isinstance(function, Opaque):
            return Opaque()
        if not isinstance(function, Admitted):
            raise CheckpointError(
                f'the checkpoint wants to call a {type(function).__name__}, and is not read'
            )
        self._count(sum(len(each) for each in arguments if isinstance(each, Sized)))
        return function.call(*arguments)

    def new_object(self, _: object) -> None:
        arguments, made = self._stack.pop(), self._stack.pop()
        if isinstance(made, Opaque):
            self._stack.append(Opaque())
        elif isinstance(made, StandInClass) and arguments == ():
            self._stack.append(StandIn(made.path))
        else:
            self._call(made, arguments)
            raise CheckpointError('the checkpoint makes an object of no class')

    def new_object_with_names(self, _: object) -> None:
        if self._stack.pop():
            raise CheckpointError('the checkpoint makes an object with named arguments')
        self.new_object(None)

    def build(self, _: object) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        if isinstance(state, Sized):
            self._count(len(state))
        if isinstance(target, StandIn):
            target.set_state(state)
        elif not isinstance(target, (Opaque, dict)):  # a state_dict has a table of versions
            _refuse_change(target)

    def persistent(self, _: object) -> None:
        """Push a storage; or the class of a layer, as older files name it."""
        pid = self._stack.pop()
        if not isinstance(pid, tuple) or len(pid) < 2:
            raise TypeError('a storage that is no tuple')
        if pid[0] == 'module' and isinstance(pid[1], StandInClass):
            self._stack.append(pid[1])
        else:
            self._stack.append(self._storage(*pid[:6]))

    def _storage(
        self, kind: object, storage_type: object, key: object, _: object = None,
        count: object = None, view: object = None,
    ) -> Storage:
        if self._find_storage is None or kind != 'storage':
            raise CheckpointError('the checkpoint names storages that do not exist')
        if not isinstance(storage_type, StorageType) or not isinstance(count, int):
            raise CheckpointError('the checkpoint has a storage of no known type')
        if not isinstance(key, (str, int)):  # nested lists that share parts print without end
            raise CheckpointError(f'the checkpoint calls a storage by a {type(key).__name__}')
        whole = self._find_storage(str(key), storage_type.dtype, count)
        if view is None:
            return whole
        if not isinstance(view, tuple) or [type(each) for each in view[1:]] != [int, int]:
            raise CheckpointError('the checkpoint has a part of a storage without its place')
        return whole.part(view[1], view[2])

    def refuse(self, _: object) -> NoReturn:
        raise CheckpointError(
            'the checkpoint uses registered extensions or buffers outside it, and is not read'
        )


def _refuse_change(target: object) -> NoReturn:
    raise CheckpointError(
        f'the checkpoint wants to change a {type(target).__name__}; it may hold code, and is not '
        'read'
    )


_PUT = {'PUT', 'BINPUT', 'LONG_BINPUT'}
_GET = {'GET', 'BINGET', 'LONG_BINGET'}
_ARGUMENTS = {
    'INT', 'BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'LONG4', 'FLOAT', 'BINFLOAT',
    'UNICODE', 'BINUNICODE', 'SHORT_BINUNICODE', 'BINUNICODE8', 'BINBYTES', 'SHORT_BINBYTES',
    'BINBYTES8', 'BYTEARRAY8',
}


def _push(make: Callable[[], Any]) -> Callable[[_Reader, Any], None]:
    return lambda reader, _: reader._stack.append(make())


def _take(count: int) -> Callable[[_Reader, Any], None]:
    return lambda reader, _: reader.tuple_of(count)


_INSTRUCTIONS: dict[str, Callable[[_Reader, Any], None]] = {
    'PROTO': _Reader.skip, 'FRAME': _Reader.skip,
    'MARK': _Reader.mark, 'POP': _Reader.pop, 'POP_MARK': _Reader.pop_mark, 'DUP': _Reader.dup,
    'MEMOIZE': _Reader.memoize,
    'NONE': _push(lambda: None), 'NEWTRUE': _push(lambda: True), 'NEWFALSE': _push(lambda: False),
    'EMPTY_LIST': _push(list), 'EMPTY_TUPLE': _push(tuple), 'EMPTY_DICT': _push(dict),
    'EMPTY_SET': _push(set),
    'STRING': _Reader.text, 'BINSTRING': _Reader.text, 'SHORT_BINSTRING': _Reader.text,
    'TUPLE': _Reader.tuple_since_mark, 'LIST': _Reader.list_since_mark,
    'DICT': _Reader.dict_since_mark, 'FROZENSET': _Reader.frozenset_since_mark,
    'TUPLE1': _take(1), 'TUPLE2': _take(2), 'TUPLE3': _take(3),
    'APPEND': _Reader.append, 'APPENDS': _Reader.append_since_mark,
    'SETITEM': _Reader.set_item, 'SETITEMS': _Reader.set_items_since_mark,
    'ADDITEMS': _Reader.add_since_mark,
    'GLOBAL': _Reader.name, 'STACK_GLOBAL': _Reader.name_on_stack,
    'REDUCE': _Reader.reduce, 'NEWOBJ': _Reader.new_object,
    'NEWOBJ_EX': _Reader.new_object_with_names, 'BUILD': _Reader.build,
    'BINPERSID': _Reader.persistent,
    **dict.fromkeys(('PERSID', 'INST', 'OBJ', 'EXT1', 'EXT2', 'EXT4', 'NEXT_BUFFER',
                     'READONLY_BUFFER'), _Reader.refuse),
}
