"""
Image messages in C++ memory: created, reused, and read without copying the pixels.

A message in C++ keeps its pixels in one vector while that is large enough, so the pixels of
successive messages have the same address. (The typesupport of C frees and allocates them for each
message.)

"""

from __future__ import annotations

from collections.abc import Callable
import ctypes
import struct
from typing import Any
import weakref

from yolov7_trt_ros.core.messages.serialized_image import MessageHeader, PackedImage, RawImage
from yolov7_trt_ros.core.stable_memory import StableMemory
from yolov7_trt_ros.core.units import NS_PER_S
from yolov7_trt_ros.errors import ReceiveError
from yolov7_trt_ros.nodes.below_rclpy.message_layout import MessageLayout, read_layout
from yolov7_trt_ros.nodes.below_rclpy.rcl_library import find_function, open_library

_HEADER = {'header.stamp.sec': 'i', 'header.stamp.nanosec': 'I', 'header.frame_id': 'text'}
_FIELDS = {
    'Image': {
        **_HEADER, 'height': 'I', 'width': 'I', 'encoding': 'text', 'is_bigendian': 'B',
        'step': 'I', 'data': 'octets',
    },
    'CompressedImage': {**_HEADER, 'format': 'text', 'data': 'octets'},
}
_FORMATS = {'text': 'QQ', 'octets': 'QQQ'}
"""
libstdc++'s std::string begins with address and size; its std::vector<uint8_t> has the addresses of
the first octet, of what follows the last one, and of what follows the memory.
"""
_SIZES = {'text': 32, 'octets': 24}
"""Of both there; other libraries of C++ have strings of another size."""
_SPARE_BYTES, _SPARE_TIMES = 1 << 24, 4
"""A message with more room than both, in bytes and times what it holds, has too much of it."""


class _Octets(ctypes.c_ubyte * 2**40):  # type: ignore[misc]  # ctypes' arrays are made at run time
    """
    Memory of a message from an address on, of unlimited size; views of it are limited.

    Every view of it, and every array made of a view, keeps it alive, and it keeps the message.

    """


class ImageMessage:
    """
    A sensor_msgs/Image or CompressedImage in C++, for `rcl_take`.

    It is destroyed with this object, but not while somebody holds pixels of it.

    """

    def __init__(self, kind: ImageMessageKind) -> None:
        self._kind = kind
        self._memory = kind.create()
        self.address: int = ctypes.addressof(self._memory)
        self._lease: Callable[[], _Octets | None] = lambda: None
        self._block = _Block()
        weakref.finalize(self, _destroy, kind, self._memory, self._block).atexit = False

    @property
    def is_free(self) -> bool:
        """Whether nobody uses what was taken into it before."""
        return self._lease() is None

    def lease(self) -> TakenMessage:
        """Return what was taken into it; while that or a view of it exists, this is not free."""
        values = self._kind.read(self._memory)
        start, _, end_of_memory = values['data']
        octets = _Octets.from_address(start or self.address)
        octets.message = self
        self._lease = weakref.ref(octets)
        return TakenMessage(self._kind, values, octets, self._block.at(start, end_of_memory))

    def find_block(self) -> None:
        """Check whether its memory has moved, as it may in a failed take."""
        start, _, end_of_memory = self._kind.read(self._memory)['data']
        self._block.at(start, end_of_memory)


class TakenMessage:
    """What one take has brought; its message is not taken into again while it lives."""

    def __init__(
        self, kind: ImageMessageKind, values: dict[str, Any], octets: _Octets,
        block: StableMemory | None,
    ) -> None:
        self._kind, self._values, self._octets, self._block = kind, values, octets, block
        start, end, end_of_memory = values['data']
        self._octets_size: int = end - start
        self._room_bytes: int = end_of_memory - start

    @property
    def stamp_ns(self) -> int:
        """Return the header's stamp in nanoseconds."""
        values = self._values
        return int(values['header.stamp.sec'] * NS_PER_S + values['header.stamp.nanosec'])

    @property
    def size_bytes(self) -> int:
        """Return how many bytes its pixels and texts have."""
        return self._octets_size + sum(int(self._values[name][1]) for name in self._kind.texts)

    @property
    def has_too_much_room(self) -> bool:
        """Whether its memory is that of a much larger earlier message."""
        most = max(_SPARE_BYTES, _SPARE_TIMES * self._octets_size)
        return self._room_bytes > most

    def read(self) -> RawImage | PackedImage:
        """Return its fields, the pixels not copied."""
        values = self._values
        data = memoryview(self._octets).cast('B')[:self._octets_size].toreadonly()
        if self._kind.name == 'CompressedImage':
            return PackedImage(self._header(), self._text('format'), data)
        return RawImage(
            self._header(), values['height'], values['width'], self._text('encoding'),
            values['is_bigendian'], values['step'], data, self._block,
        )

    def _header(self) -> MessageHeader:
        values = self._values
        return MessageHeader(
            values['header.stamp.sec'], values['header.stamp.nanosec'],
            self._text('header.frame_id'),
        )

    def _text(self, name: str) -> str:
        address, size = self._values[name]
        return ctypes.string_at(address, size).decode('utf-8', 'replace')


class _Block:
    """
    The memory of a message's vector, while it stays the same.

    A vector moves only to grow, so memory at the same address with the same size was not freed in
    between. If it moved, the old memory was freed within the take, while nobody had an image in
    it; it is released here before the next image is handed out.

    """

    def __init__(self) -> None:
        self._now: StableMemory | None = None

    def at(self, start: int, end: int) -> StableMemory | None:
        """Return the block between two addresses; release one at other addresses."""
        now = self._now
        if now is None or (now.address, now.size_bytes) != (start, end - start):
            self.release()
            self._now = StableMemory(start, end - start) if start else None
        return self._now

    def release(self) -> None:
        """Release the block."""
        now, self._now = self._now, None
        if now is not None:
            now.release()


def _destroy(kind: ImageMessageKind, memory: Any, block: _Block) -> None:
    block.release()
    kind.destroy(ctypes.addressof(memory))


class ImageMessageKind:
    """
    How messages of a type are made in C++, and where their fields lie.

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
        self.name, fields = name, _FIELDS[name]
        layout = read_layout('sensor_msgs', name)
        missing = [each for each in fields if each not in layout.offsets]
        if missing:
            raise ReceiveError(f'sensor_msgs/{name} has no {", ".join(missing)} here')
        self.texts = [each for each, form in fields.items() if form == 'text']
        self._size = layout.size
        self._names, self._struct, self._shares = _one_struct(fields, layout)
        kind = ctypes.CFUNCTYPE
        self._create = kind(None, ctypes.c_void_p, ctypes.c_int)(layout.init)
        self.destroy: Any = kind(None, ctypes.c_void_p)(layout.fini)

    def create(self) -> Any:
        """Return memory with a new message in it, to be given to `destroy`."""
        memory = (ctypes.c_uint64 * -(-self._size // 8))()
        self._create(ctypes.addressof(memory), 0)
        return memory

    def read(self, memory: Any) -> dict[str, Any]:
        """Return the values of all fields; of texts and octets the addresses and sizes."""
        values = self._struct.unpack_from(memory)
        return {
            name: values[share] for name, share in zip(self._names, self._shares, strict=True)
        }


def _one_struct(
    fields: dict[str, str], layout: MessageLayout
) -> tuple[list[str], struct.Struct, list[int | slice]]:
    """Return the names in the order of memory, how to unpack all, and which values are whose."""
    names = sorted(fields, key=lambda name: layout.offsets[name])
    ends = [*(layout.offsets[name] for name in names[1:]), layout.size]
    form, count = '=', 0
    shares: list[int | slice] = []
    for name, end in zip(names, ends, strict=True):
        kind, start = _FORMATS.get(fields[name], fields[name]), layout.offsets[name]
        room = end - start
        if room != _SIZES.get(fields[name], room) or room < struct.calcsize(f'={kind}'):
            raise ReceiveError(f'{name} of a message in C++ has {room} bytes, which is unknown')
        form += f'{start - struct.calcsize(form)}x{kind}'
        shares.append(count if len(kind) == 1 else slice(count, count + len(kind)))
        count += len(kind)
    return names, struct.Struct(form), shares


def typed_for_cpp(kind: Any) -> Any:
    """
    Return a type of rclpy's for subscriptions whose messages are taken in C++.

    Raises
    ------
    ReceiveError
        The typesupport is not there.

    """
    name = 'rosidl_typesupport_cpp'
    get = find_function(
        open_library(f'libsensor_msgs__{name}.so'),
        f'{name}__get_message_type_support_handle__sensor_msgs__msg__{kind.__name__}',
    )
    get.restype, get.argtypes = ctypes.c_void_p, []
    kind.__class__.__import_type_support__()
    handle = _capsule(get(), None, None)
    changed = type(f'Metaclass_{kind.__name__}', (type(kind),), {'_TYPE_SUPPORT': handle})
    return changed(kind.__name__, (kind,), {'__slots__': ()})


_capsule = ctypes.pythonapi.PyCapsule_New
_capsule.restype = ctypes.py_object
_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


class MessagePool:
    """The messages of one subscription: those in work, and one to take into."""

    def __init__(self, kind: ImageMessageKind) -> None:
        self._kind = kind
        self._messages: list[ImageMessage] = []

    def free_message(self) -> ImageMessage:
        """Return a message whose pixels nobody uses."""
        for message in self._messages:
            if message.is_free:
                return message
        self._messages.append(ImageMessage(self._kind))
        return self._messages[-1]

    def discard(self, message: ImageMessage) -> None:
        """Release a message with its memory."""
        self._messages.remove(message)
