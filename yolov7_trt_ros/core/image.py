"""ImageView: a zero-copy view of a raw image buffer, from its encoding and step."""

from __future__ import annotations

import dataclasses
import difflib
import enum
import functools
import re
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.defaults import MAX_PIXELS
from yolov7_trt_ros.core.plain_text import quoted
from yolov7_trt_ros.core.stable_memory import StableMemory
from yolov7_trt_ros.errors import ImageError


class PixelLayout(enum.Enum):
    """How the samples of an encoding lie in memory."""

    PACKED = 'packed'
    """(H, W, C) interleaved channels; C is 1 for mono."""

    BAYER = 'bayer'
    """(H, W, 1), one colour per pixel in a 2 x 2 mosaic."""

    YUV422 = 'yuv422'
    """(H, W, 2), two pixels share a chroma pair; W is even."""

    YUV420_SEMI_PLANAR = 'yuv420sp'
    """(3H/2, W, 1), the luma plane and below it interleaved chroma; W and H are even."""


@dataclasses.dataclass(frozen=True)
class Encoding:
    """
    One raw image encoding of sensor_msgs/Image.

    `order` is the channel order (`bgr`, `rgb`, `uyvy`, `rggb`, ...).

    """

    name: str
    layout: PixelLayout
    order: str
    channels: int
    sample_bytes: int = 1

    @property
    def pixel_bytes(self) -> int:
        """Bytes from one pixel of a row to the next."""
        return self.channels * self.sample_bytes

    def rows(self, height: int) -> int:
        """Memory rows of an image of `height` pixels."""
        return height * 3 // 2 if self.layout is PixelLayout.YUV420_SEMI_PLANAR else height


def _encodings() -> dict[str, Encoding]:
    packed, bayer = PixelLayout.PACKED, PixelLayout.BAYER
    yuv422, yuv420 = PixelLayout.YUV422, PixelLayout.YUV420_SEMI_PLANAR
    known = [
        Encoding('bgr8', packed, 'bgr', 3),
        Encoding('rgb8', packed, 'rgb', 3),
        Encoding('bgra8', packed, 'bgra', 4),
        Encoding('rgba8', packed, 'rgba', 4),
        Encoding('mono8', packed, 'mono', 1),
        Encoding('mono16', packed, 'mono', 1, sample_bytes=2),
        Encoding('bayer_rggb8', bayer, 'rggb', 1),
        Encoding('bayer_bggr8', bayer, 'bggr', 1),
        Encoding('bayer_gbrg8', bayer, 'gbrg', 1),
        Encoding('bayer_grbg8', bayer, 'grbg', 1),
        Encoding('uyvy', yuv422, 'uyvy', 2),
        Encoding('yuyv', yuv422, 'yuyv', 2),
        Encoding('nv12', yuv420, 'nv12', 1),
        Encoding('nv21', yuv420, 'nv21', 1),
    ]
    table = {encoding.name: encoding for encoding in known}
    # Names that mean one of the above: sensor_msgs' older spellings and OpenCV type names.
    aliases = {
        'yuv422': 'uyvy', 'yuv422_yuy2': 'yuyv',
        '8UC1': 'mono8', '8UC3': 'bgr8', '8UC4': 'bgra8',
    }
    return table | {alias: table[name] for alias, name in aliases.items()}


_MATRIX = re.compile(r'(8|16|32|64)[usf]c(\d{1,3}|\(\d{1,3}\))?', re.IGNORECASE)

ENCODINGS = _encodings()
"""Accepted encoding names, sensor_msgs' aliases included."""


def is_measurement(name: str) -> bool:
    """
    Tell whether an encoding is that of numbers, not of a picture: `16UC1`, `32FC1` and the like.

    They are OpenCV's types, which depth cameras use; those of 8 bits with one, three or four
    channels are pictures.

    """
    return bool(_MATRIX.fullmatch(name)) and name.upper() not in ENCODINGS


def find_encoding(name: str) -> Encoding:
    """
    Return the encoding called `name`.

    Raises
    ------
    ImageError
        The name is unknown, in which case the message lists what is supported and the nearest
        name, or it is that of depth.

    """
    encoding = ENCODINGS.get(name) or ENCODINGS.get(name.lower()) or ENCODINGS.get(name.upper())
    if encoding is None and is_measurement(name):
        raise ImageError(
            f'encoding {name} is that of a depth image or another measurement, no picture; '
            'choose a colour or grey topic (a grey camera of 16 bits sends mono16)'
        )
    if encoding is None:
        near = difflib.get_close_matches(name[:40], ENCODINGS, n=1)
        hint = f' (did you mean {near[0]}?)' if near else ''
        raise ImageError(
            f'unsupported encoding {quoted(name)}{hint}; supported: {", ".join(ENCODINGS)}'
        )
    return encoding


@dataclasses.dataclass(frozen=True)
class ImageView:
    """
    A view of an image in foreign memory.

    Attributes
    ----------
    pixels
        View of shape (rows, W, C), uint8 or (mono16) uint16 of either byte order. Row stride is
        the message's `step`. Nothing was copied; the view keeps the buffer alive.
    encoding
        How to read `pixels`.
    width, height
        Image size in pixels (for nv12/nv21 `pixels` has 3/2 times as many rows).
    memory
        The block that `pixels` lies in, where it is known to stay for later images.
    stream
        Name of the camera or video that it is a frame of; '' for an image on its own.

    """

    pixels: NDArray[Any]
    encoding: Encoding
    width: int
    height: int
    memory: StableMemory | None = dataclasses.field(default=None, compare=False, repr=False)
    stream: str = ''

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height

    def of_stream(self, stream: str) -> ImageView:
        """Return the same view as a frame of a stream."""
        return dataclasses.replace(self, stream=stream)

    @classmethod
    def from_buffer(
        cls,
        data: Any,
        *,
        width: int,
        height: int,
        encoding: str,
        step: int | None = None,
        big_endian: bool = False,
        memory: StableMemory | None = None,
    ) -> ImageView:
        """
        View the fields of a sensor_msgs/Image without copying.

        Parameters
        ----------
        data
            Anything with the buffer protocol (bytes, array.array, mmap, ndarray).
        width, height
            Image size in pixels.
        encoding
            One of `ENCODINGS`.
        step
            Bytes from one row to the next; None means rows lie without gaps.
        big_endian
            Byte order of 16-bit samples; ignored for 8-bit encodings.
        memory
            The block that `data` lies in, where there is one that stays.

        Raises
        ------
        ImageError
            Size, step, encoding and buffer length do not fit together.

        """
        layout = _lay_out(width, height, encoding, step, big_endian)
        buffer = view_bytes(data)
        if buffer.nbytes < layout.needed_bytes:
            raise ImageError(
                f'truncated image: {width}x{height} {layout.kind.name} with step '
                f'{layout.strides[0]} needs {layout.needed_bytes} bytes, got {buffer.nbytes}'
            )
        # frombuffer holds the buffer's lock: it is neither resized nor unmapped under the view.
        octets = np.frombuffer(buffer, np.uint8)
        pixels: NDArray[Any] = np.ndarray(layout.shape, layout.dtype, octets, 0, layout.strides)
        return cls(pixels, layout.kind, width, height, memory)

    @classmethod
    def from_array(cls, pixels: NDArray[np.uint8], encoding: str = 'bgr8') -> ImageView:
        """
        View an (H, W) or (H, W, C) uint8 array whose channels lie together.

        Raises
        ------
        ImageError
            The array does not have the shape or dtype that `encoding` asks for.

        """
        kind = find_encoding(encoding)
        array = pixels[:, :, np.newaxis] if pixels.ndim == 2 else pixels
        if array.ndim != 3 or array.shape[2] != kind.channels or (
            array.dtype.itemsize != kind.sample_bytes or array.dtype.kind != 'u'
        ):
            raise ImageError(
                f'{kind.name} needs an array (H, W, {kind.channels}) of {kind.sample_bytes}-byte '
                f'unsigned integers, got shape {pixels.shape} of {pixels.dtype}'
            )
        rows, width = array.shape[:2]
        height = rows
        if kind.layout is PixelLayout.YUV420_SEMI_PLANAR:
            if rows % 3:
                raise ImageError(f'{kind.name} needs rows in a multiple of 3, got {rows}')
            height = rows // 3 * 2
        check_size(width, height)
        _check_even(kind, width, height)
        return cls(array, kind, width, height)


class _Layout(NamedTuple):
    """Layout of an image in a buffer of at least this many bytes."""

    kind: Encoding
    shape: tuple[int, int, int]
    strides: tuple[int, int, int]
    dtype: np.dtype[Any]
    needed_bytes: int


@functools.lru_cache(maxsize=64)
def _lay_out(
    width: int, height: int, encoding: str, step: int | None, big_endian: bool
) -> _Layout:
    """Return how an image lies in memory; cameras send the same kind again and again."""
    kind = find_encoding(encoding)
    check_size(width, height)
    _check_even(kind, width, height)
    rows, row_bytes = kind.rows(height), width * kind.pixel_bytes
    step = row_bytes if step is None else step
    if step < row_bytes:
        raise ImageError(
            f'step is {step} bytes, but a row of {width} {kind.name} pixels needs {row_bytes}'
        )
    if step % kind.sample_bytes:
        raise ImageError(
            f'step is {step} bytes, but {kind.name} needs a multiple of {kind.sample_bytes}'
        )
    byte_order = '>' if big_endian else '<'
    dtype = np.dtype(np.uint8 if kind.sample_bytes == 1 else f'{byte_order}u2')
    return _Layout(
        kind, (rows, width, kind.channels), (step, kind.pixel_bytes, kind.sample_bytes), dtype,
        (rows - 1) * step + row_bytes,
    )


def view_bytes(data: Any) -> memoryview:
    """
    View any C-contiguous buffer as bytes, without copying.

    Raises
    ------
    ImageError
        `data` has no buffer, or one with gaps.

    """
    try:
        return memoryview(data).cast('B')
    except (TypeError, ValueError, BufferError) as exc:
        raise ImageError(
            f'image data must be a contiguous buffer of bytes, got {type(data).__name__}: {exc}'
        ) from exc


def _check_even(kind: Encoding, width: int, height: int) -> None:
    """Refuse sizes that cut a chroma pair."""
    if kind.layout is PixelLayout.YUV422 and width % 2:
        raise ImageError(f'{kind.name} needs an even width, got {width}')
    if kind.layout is PixelLayout.YUV420_SEMI_PLANAR and (width % 2 or height % 2):
        raise ImageError(f'{kind.name} needs even width and height, got {width}x{height}')


def check_size(width: int, height: int, most_pixels: int = MAX_PIXELS) -> None:
    """Raise ImageError unless the size is positive and within a number of pixels."""
    if width <= 0 or height <= 0:
        raise ImageError(f'image is empty: {width}x{height} pixels')
    if width * height > most_pixels:
        raise ImageError(
            f'image of {width}x{height} pixels is larger than the limit of {most_pixels} pixels'
        )
