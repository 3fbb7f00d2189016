"""Call librcl through ctypes to take a message into C memory."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Any, NamedTuple

from yolov7_trt_ros.errors import ReceiveError

OK, TAKE_FAILED = 0, 401
"""
RCL_RET_OK; RCL_RET_SUBSCRIPTION_TAKE_FAILED, if there is no message or, with an error text, if it
cannot be read.
"""

_UNSUPPORTED = 2**64 - 1
_INFO = struct.Struct('@qqQQN16s')  # rmw_message_info_t up to the first 16 bytes of the gid
_INFO_ROOM_BYTES = 256
_ERROR_CHARACTERS = 1024
_NO_ERROR = 'error not set'


class MessageInfo(NamedTuple):
    """Information of the middleware about a message; times in nanoseconds since 1970."""

    source_ns: int
    received_ns: int
    sequence: int
    publisher: bytes

    @property
    def is_numbered(self) -> bool:
        """Whether the middleware numbers the messages of a publisher."""
        return self.sequence != _UNSUPPORTED


class _ErrorText(ctypes.Structure):
    """`rcutils_error_string_t`."""

    _fields_ = (('text', ctypes.c_char * _ERROR_CHARACTERS),)


class RclLibrary:
    """
    `rcl_take` of the librcl that rclpy has loaded; it runs without Python's GIL.

    Raises
    ------
    ReceiveError
        It is missing, or lacks a function.

    """

    def __init__(self) -> None:
        library = open_library('librcl.so', loaded=True)
        self._take: Any = _function(library, 'rcl_take', ctypes.c_int, [ctypes.c_void_p] * 4)
        self._error_text = _function(library, 'rcutils_get_error_string', _ErrorText, [])
        self._reset_error = _function(library, 'rcutils_reset_error', None, [])

    def take(self, subscription: int, message: int, info: TakeInfo) -> int:
        """
        Take the oldest message of a subscription.

        Parameters
        ----------
        subscription
            Address of a rcl_subscription_t, whose rclpy handle the caller holds.
        message
            Address of a message of the subscription's typesupport; its content is replaced.
        info
            Filled.

        Returns
        -------
        A return code of rcl; see `error`.

        """
        return int(self._take(subscription, message, info.buffer, None))

    def error(self) -> str:
        """Return and clear the error text of this thread's last call, '' if there is none."""
        text: str = self._error_text().text.decode('utf-8', 'replace')
        self._reset_error()
        return '' if text == _NO_ERROR else text


class TakeInfo:
    """A buffer for a rmw_message_info_t, large enough for every release."""

    def __init__(self) -> None:
        self.buffer = ctypes.create_string_buffer(_INFO_ROOM_BYTES)

    def read(self) -> MessageInfo:
        """Return the information of the last take."""
        source_ns, received_ns, sequence, _, _, publisher = _INFO.unpack_from(self.buffer)
        return MessageInfo(source_ns, received_ns, sequence, publisher)


def open_library(name: str, *, loaded: bool = False) -> ctypes.CDLL:
    """
    Open a shared library; with `loaded` only if this process has loaded it already.

    Raises
    ------
    ReceiveError
        It is missing.

    """
    try:
        return ctypes.CDLL(name, mode=os.RTLD_NOW | (os.RTLD_NOLOAD if loaded else 0))
    except OSError as exc:
        raise ReceiveError(f'{name} is not {"loaded" if loaded else "found"}: {exc}') from exc


def _function(library: ctypes.CDLL, name: str, result: Any, arguments: list[Any]) -> Any:
    function = find_function(library, name)
    function.restype, function.argtypes = result, arguments
    return function


def find_function(library: ctypes.CDLL, name: str) -> Any:
    """Return a function of a library, each time another object; ReceiveError if it lacks it."""
    try:
        return library[name]
    except AttributeError as exc:
        raise ReceiveError(f'{library._name} has no {name}') from exc
