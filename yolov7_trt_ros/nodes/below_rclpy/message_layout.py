"""
Find the offsets of message fields in C++, from the introspection typesupport.

Every pointer is checked to be inside a loaded library before it is followed: if another release of
rosidl has other structs, the result is an error instead of a segmentation fault.

"""

from __future__ import annotations

from collections.abc import Iterator
import ctypes
from typing import Any, NamedTuple

from yolov7_trt_ros.errors import ReceiveError
from yolov7_trt_ros.nodes.below_rclpy.rcl_library import find_function, open_library

_MOST_MEMBERS = 32
_MOST_BYTES = 1 << 16
_MEMBER_STRIDES = (112, 96)
"""Of rosidl_typesupport_introspection_cpp::MessageMember, with and without fetch and assign."""
_MEMBERS_PLACES = (32, 40)
"""
Of `members_` in MessageMembers, without and with `has_any_key_member_` before it: that is no
pointer, so the first that is one. `init_function` and `fini_function` follow.
"""
_COUNT, _SIZE = 16, 24  # member_count_ and size_of_ there
_NESTED, _OFFSET = 24, 52  # members_ and offset_ in a member
_NAME_CHARACTERS = 64


class _Symbol(ctypes.Structure):
    """`Dl_info` of dladdr."""

    _fields_ = (
        ('file', ctypes.c_char_p), ('base', ctypes.c_void_p), ('name', ctypes.c_char_p),
        ('address', ctypes.c_void_p),
    )


class MessageLayout(NamedTuple):
    """
    A message in C++.

    Attributes
    ----------
    size
        In bytes.
    offsets
        By the name of a field; those of nested messages as `header.stamp.sec`.
    init, fini
        Addresses of the functions that construct it in given memory, and destroy it there.

    """

    size: int
    offsets: dict[str, int]
    init: int
    fini: int


def read_layout(package: str, message: str) -> MessageLayout:
    """
    Return the layout of a message in C++, such as `Image` of `sensor_msgs`.

    Raises
    ------
    ReceiveError
        The typesupport is missing, or has another format.

    """
    name = 'rosidl_typesupport_introspection_cpp'
    library = open_library(f'lib{package}__{name}.so')
    get = find_function(
        library, f'{name}__get_message_type_support_handle__{package}__msg__{message}'
    )
    get.restype, get.argtypes = ctypes.c_void_p, []
    members = _members_of(get())
    offsets, place = dict(_fields(members, '', 0)), _members_place(members)
    return MessageLayout(
        _size_of(members), offsets,
        init=_library_pointer(place + 8), fini=_library_pointer(place + 16),
    )


def _members_of(handle: int | None) -> int:
    """Return the address of the MessageMembers that a rosidl_message_type_support_t leads to."""
    return _library_pointer(_check(handle) + 8)


def _size_of(members: int) -> int:
    size = ctypes.c_size_t.from_address(members + _SIZE).value
    if not 0 < size <= _MOST_BYTES:
        raise ReceiveError(f'introspection says that a message has {size} bytes')
    return size


def _fields(members: int, before: str, start: int) -> Iterator[tuple[str, int]]:
    """Yield (name, offset) of each field of the message, including nested ones."""
    size = _size_of(members)
    for member in _each_member(members):
        name = before + _name(member)
        offset = ctypes.c_uint32.from_address(member + _OFFSET).value
        if offset >= size:
            raise ReceiveError(f'introspection says that {name} lies at {offset} of {size} bytes')
        nested = ctypes.c_void_p.from_address(member + _NESTED).value
        yield name, start + offset
        if nested:
            yield from _fields(_members_of(nested), f'{name}.', start + offset)


def _each_member(members: int) -> list[int]:
    """Return the addresses of the MessageMember structs; name pointers reveal their size."""
    count = ctypes.c_uint32.from_address(members + _COUNT).value
    if not 0 < count <= _MOST_MEMBERS:
        raise ReceiveError(f'introspection says that a message has {count} members')
    first = _library_pointer(_members_place(members))
    for stride in _MEMBER_STRIDES:
        found = [first + stride * index for index in range(count)]
        if all(_has_name(each) for each in found):
            return found
    raise ReceiveError('introspection describes the members of messages in an unknown format')


def _members_place(members: int) -> int:
    """Return the address of the pointer to the MessageMember structs."""
    for place in _MEMBERS_PLACES:
        if _is_in_library(ctypes.c_void_p.from_address(members + place).value):
            return members + place
    raise ReceiveError('introspection describes the members of messages in an unknown format')


def _has_name(member: int) -> bool:
    if not _is_in_library(member):
        return False
    name = ctypes.c_void_p.from_address(member).value
    return _is_in_library(name) and _name(member).isidentifier()


def _name(member: int) -> str:
    address = _library_pointer(member)
    text = bytearray()
    for at in range(address, address + _NAME_CHARACTERS):
        (octet,) = ctypes.string_at(at, 1)
        if not octet:
            break
        text.append(octet)
    return text.decode('ascii', 'replace')


def _library_pointer(at: int) -> int:
    return _check(ctypes.c_void_p.from_address(at).value)


def _check(address: int | None) -> int:
    if address is None or not _is_in_library(address):
        raise ReceiveError('introspection describes messages in an unknown format')
    return address


def _is_in_library(address: Any) -> bool:
    """Whether an address is inside a loaded shared library, so that it may be read."""
    if not address:
        return False
    find = find_function(ctypes.CDLL(None), 'dladdr')
    return bool(find(ctypes.c_void_p(address), ctypes.byref(_Symbol())))
