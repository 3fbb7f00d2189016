"""Image messages in memory of C: made, reused, and read with their pixels in place."""

from __future__ import annotations

from collections.abc import Callable
import ctypes
import struct
from typing import Any
import weakref

from yolov7_trt_ros.core.serialized_image import MessageHeader, PackedImage, RawImage
from yolov7_trt_ros.errors import ReceiveError
from yolov7_trt_ros.nodes.message_layout import read_layout
from yolov7_trt_ros.nodes.rcl_door import find_function, open_library

_HEADER = {'header.stamp.sec': 'i', 'header.stamp.nanosec': 'I', 'header.frame_id': 'text'}
_FIELDS = {
    'Image': {
        **_HEADER, 'height': 'I', 'width': 'I', 'encoding': 'text', 'is_bigendian': 'B',
        'step': 'I', 'data': 'octets',
    },
    'CompressedImage': {**_HEADER, 'format': 'text', 'data': 'octets'},
}
_SEQUENCE = struct.Struct('@PNN')  # data, size, capacity: of texts and of octets alike


class _Octets(ctypes.c_ubyte * 2**40):  # type: ignore[misc]  # ctypes' arrays are made at run time
    """
    Memory of a message from some address on, whatever its size: views of it have their end.

    Every view and every array made of one holds it, and it holds the message.

    """


class ImageMessage:
    """
    A sensor_msgs/Image or CompressedImage in C, for `rcl_take`.

    It is destroyed with this object, and not while anybody holds pixels of it.

    """

    def __init__(self, kind: ImageMessageKind) -> None:
        self._kind = kind
        self.address: int = kind.create()
        self._lease: Callable[[], _Octets | None] = lambda: None
        self._memory = memoryview((ctypes.c_ubyte * kind.size).from_address(self.address))
        weakref.finalize(self, kind.destroy, self.address).atexit = False

    @property
    def is_free(self) -> bool:
        """Whether nobody has what was taken into it before."""
        return self._lease() is None

    def lease(self) -> TakenMessage:
        """Return what was taken into it; while that or a view of it lives, this is not free."""
        octets = _Octets.from_address(self._sequence('data')[0] or self.address)
        octets.message = self
        self._lease = weakref.ref(octets)
        return TakenMessage(self, octets)

    @property
    def size_bytes(self) -> int:
        """Return how many bytes its pixels and texts have."""
        kinds = self._kind.fields.items()
        return sum(self._sequence(name)[1] for name, kind in kinds if kind in ('text', 'octets'))

    def number(self, name: str) -> int:
        """Return a field that is a number."""
        kind = self._kind
        (value,) = struct.unpack_from(kind.fields[name], self._memory, kind.offsets[name])
        return int(value)

    def text(self, name: str) -> str:
        """Return a field that is a string."""
        address, size = self._sequence(name)
        return ctypes.string_at(address, size).decode('utf-8', 'replace') if address else ''

    def octets_size(self) -> int:
        """Return the number of pixels' bytes."""
        address, size = self._sequence('data')
        return size if address else 0

    def _sequence(self, name: str) -> tuple[int, int]:
        address, size, _ = _SEQUENCE.unpack_from(self._memory, self._kind.offsets[name])
        return address, size


class TakenMessage:
    """What one take has brought; its message is not taken into again while it lives."""

    def __init__(self, message: ImageMessage, octets: _Octets) -> None:
        self._message, self._octets = message, octets

    @property
    def stamp_ns(self) -> int:
        """Return the header's stamp in nanoseconds."""
        return self._header().stamp_ns

    @property
    def size_bytes(self) -> int:
        """Return how many bytes its pixels and texts have."""
        return self._message.size_bytes

    def read(self) -> RawImage | PackedImage:
        """Return its fields, the pixels in place."""
        message = self._message
        data = memoryview(self._octets).cast('B')[:message.octets_size()].toreadonly()
        if message._kind.name == 'CompressedImage':
            return PackedImage(self._header(), message.text('format'), data)
        return RawImage(
            self._header(), message.number('height'), message.number('width'),
            message.text('encoding'), message.number('is_bigendian'), message.number('step'),
            data,
        )

    def _header(self) -> MessageHeader:
        message = self._message
        return MessageHeader(
            message.number('header.stamp.sec'), message.number('header.stamp.nanosec'),
            message.text('header.frame_id'),
        )


class ImageMessageKind:
    """
    How messages of a type are made in C, and where their fields lie.

    Parameters
    ----------
    name
        `Image` or `CompressedImage`.

    Raises
    ------
    ReceiveError
        A library, a function or a field is not there.

    """

    def __init__(self, name: str) -> None:
        self.name, self.fields = name, _FIELDS[name]
        self.size, self.offsets = read_layout('sensor_msgs', name)
        missing = [each for each in self.fields if each not in self.offsets]
        if missing:
            raise ReceiveError(f'sensor_msgs/{name} has no {", ".join(missing)} here')
        library = open_library('libsensor_msgs__rosidl_generator_c.so')
        self._create: Any = find_function(library, f'sensor_msgs__msg__{name}__create')
        self._create.restype, self._create.argtypes = ctypes.c_void_p, []
        self.destroy: Any = find_function(library, f'sensor_msgs__msg__{name}__destroy')
        self.destroy.restype, self.destroy.argtypes = None, [ctypes.c_void_p]

    def create(self) -> int:
        """Return the address of a new message; MemoryError where there is no room for one."""
        address = self._create()
        if not address:
            raise MemoryError(f'no memory for a sensor_msgs/{self.name}')
        return int(address)


class MessagePool:
    """The messages of one subscription: as many as are in work at once, and one to take into."""

    def __init__(self, kind: ImageMessageKind) -> None:
        self._kind = kind
        self._messages: list[ImageMessage] = []

    def free_message(self) -> ImageMessage:
        """Return a message that nobody has pixels of."""
        for message in self._messages:
            if message.is_free:
                return message
        self._messages.append(ImageMessage(self._kind))
        return self._messages[-1]

    def discard(self, message: ImageMessage) -> None:
        """Give up a message, with the memory that it holds."""
        self._messages.remove(message)
