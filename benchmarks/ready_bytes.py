"""
A camera message serialised once and published repeatedly, with a new stamp.

`rcl_publish_serialized_message` through ctypes, so what it costs is what the middleware does: the
copies that a driver in C++ pays. (rclpy's publish copies bytes into a string of C++ before.)

"""

from __future__ import annotations

import ctypes
from typing import Any

from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image

from yolov7_trt_ros.core.units import NS_PER_S
from yolov7_trt_ros.nodes.below_rclpy.rcl_library import open_library

STAMP_AT = 4  # of a serialised message that begins with a header


class _SerializedMessage(ctypes.Structure):
    """`rcl_serialized_message_t`; nobody allocates with it."""

    _fields_ = (
        ('buffer', ctypes.c_void_p), ('length', ctypes.c_size_t), ('capacity', ctypes.c_size_t),
        ('allocator', ctypes.c_void_p * 5),
    )


class ReadyImage:
    """An image message as bytes that stay where they are; only the stamp in them changes."""

    def __init__(self, message: Image) -> None:
        octets = bytes(serialize_message(message))
        self._octets = (ctypes.c_ubyte * len(octets)).from_buffer_copy(octets)
        address = ctypes.addressof(self._octets)
        self._stamp = (ctypes.c_uint32 * 2).from_address(address + STAMP_AT)
        self._message = _SerializedMessage(address, len(octets), len(octets))
        self._publish: Any = open_library('librcl.so', loaded=True).rcl_publish_serialized_message
        self._publish.argtypes = [ctypes.c_void_p] * 3

    def publish(self, publisher: Any, stamp_ns: int) -> None:
        """Put the stamp in and publish."""
        self._stamp[:] = divmod(stamp_ns, NS_PER_S)
        handle = publisher.handle
        with handle:
            code = self._publish(handle.pointer, ctypes.byref(self._message), None)
        if code:
            raise SystemExit(f'rcl_publish_serialized_message gives {code}')
