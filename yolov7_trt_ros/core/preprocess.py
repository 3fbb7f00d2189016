"""From an ImageView to the network's input tensor, with OpenCV."""

from __future__ import annotations

import collections
import platform
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.defaults import DEFAULT_MAX_DECODED_PIXELS
from yolov7_trt_ros.core.image import Encoding, ImageView, PixelLayout, view_bytes
from yolov7_trt_ros.core.letterbox import Letterbox
from yolov7_trt_ros.core.pictures.compressed_format import Content, parse_format
from yolov7_trt_ros.core.pictures.picture_header import PictureHeader, read_header
from yolov7_trt_ros.core.plain_text import quoted
from yolov7_trt_ros.errors import ImageError

BORDER_GREY = 114
"""Letterbox border, the value YOLOv7 was trained with."""

# sensor_msgs names a Bayer mosaic by its first row, OpenCV's older names (which every release has)
# by the second row and column.
_TO_BGR = {
    'rggb': cv2.COLOR_BayerBG2BGR,
    'bggr': cv2.COLOR_BayerRG2BGR,
    'gbrg': cv2.COLOR_BayerGR2BGR,
    'grbg': cv2.COLOR_BayerGB2BGR,
    'uyvy': cv2.COLOR_YUV2BGR_UYVY,
    'yuyv': cv2.COLOR_YUV2BGR_YUY2,
    'nv12': cv2.COLOR_YUV2BGR_NV12,
    'nv21': cv2.COLOR_YUV2BGR_NV21,
}
# For red, green and blue: which channel of the source holds it.
_RGB_CHANNELS = {
    'bgr': (2, 1, 0), 'bgra': (2, 1, 0), 'rgb': (0, 1, 2), 'rgba': (0, 1, 2), 'mono': (0, 0, 0),
}
IS_X86 = platform.machine() in ('x86_64', 'AMD64', 'i686')
RESIZE_LEVELS = 1.05 if IS_X86 else 2.0
"""
Most that OpenCV's scaling may differ from exact bilinear, of 255 levels, with images of 8 bits in
three channels. Found: 0.8 on x86-64; 1.6 on aarch64, whose wheels have another implementation.
That one was found to differ by 4 with four channels, and by 252 near the first column with one.
"""

_TO_THREE = {1: cv2.COLOR_GRAY2BGR, 4: cv2.COLOR_BGRA2BGR}  # the order of the channels stays
_KEPT_GEOMETRIES = 8
_TURNED_HERE = ('PNG', 'WebP', 'AVIF')  # OpenCV's versions differ in what they turn
_OPENCV_MAJOR = int(cv2.__version__.partition('.')[0])
_FIRST_SAFE_JPEG_2000 = 5  # damaged ones have ended the process with 4.10 and 4.11


def to_bgr(image: ImageView) -> NDArray[np.uint8]:
    """
    Convert an image of any encoding to a BGR array (H, W, 3) of uint8.

    bgr8 comes back as a view of the same memory, every other encoding as a new array.

    """
    order = image.encoding.order
    if order == 'bgr':
        return image.pixels
    if order in _TO_BGR:
        return _converted(image, None)
    pixels = _eight_bit(_native(image.pixels))
    conversion = {
        'rgb': cv2.COLOR_RGB2BGR,
        'rgba': cv2.COLOR_RGBA2BGR,
        'bgra': cv2.COLOR_BGRA2BGR,
        'mono': cv2.COLOR_GRAY2BGR,
    }[order]
    if pixels.shape[:2] == (1, 1):  # OpenCV 4.5.4 takes no single pixel
        return np.asarray(cv2.cvtColor(pixels.repeat(2, axis=0), conversion)[:1], np.uint8)
    return np.asarray(cv2.cvtColor(pixels, conversion), np.uint8)


def _converted(image: ImageView, out: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Demosaic or convert YUV to BGR at full size."""
    pixels = image.pixels
    if image.encoding.layout is not PixelLayout.YUV422:
        pixels = pixels[:, :, 0]
    bgr = cv2.cvtColor(pixels, _TO_BGR[image.encoding.order], dst=out)
    return np.asarray(bgr, np.uint8)


def _native(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return the pixels in the machine's byte order; only foreign 16-bit images are copied."""
    return pixels.astype(pixels.dtype.newbyteorder('='), copy=False)


def _eight_bit(pixels: NDArray[Any], out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """Scale 16-bit samples to 8 bits, 65535 to 255, as cv_bridge does."""
    if pixels.dtype == np.uint8:
        return pixels
    return np.asarray(cv2.convertScaleAbs(pixels, dst=out, alpha=255 / 65535), np.uint8)


class _Buffers:
    """What one (letterbox, encoding) pair needs; the border is written once, at creation."""

    def __init__(
        self, letterbox: Letterbox, encoding: Encoding, dtype: np.dtype[Any], *,
        in_three_channels: bool,
    ) -> None:
        width, height = letterbox.resized_wh
        converted = encoding.order in _TO_BGR
        scales = letterbox.resized_wh != letterbox.source_wh
        to_three = None if encoding.sample_bytes == 2 else _TO_THREE.get(encoding.channels)
        self.to_three = to_three if in_three_channels and scales and not converted else None
        channels = 3 if converted or self.to_three is not None else encoding.channels
        sample = np.uint16 if encoding.sample_bytes == 2 else np.uint8
        shape = (height, width) if channels == 1 else (height, width, channels)
        self.resized: NDArray[Any] = np.empty(shape, sample)
        self.converted: NDArray[np.uint8] | None = None
        if converted or self.to_three is not None:
            source_w, source_h = letterbox.source_wh
            self.converted = np.empty((source_h, source_w, 3), np.uint8)
        self.is_grey = encoding.order == 'mono'
        self.plane = np.empty((height, width), np.uint8)
        network_w, network_h = letterbox.network_wh
        self.blob: NDArray[Any] = np.full(
            (1, 3, network_h, network_w), BORDER_GREY / 255, dtype
        )
        left, top = letterbox.offset_xy
        self.inner = self.blob[0, :, top:top + height, left:left + width]
        order = 'bgr' if converted else encoding.order
        self.rgb_channels = _RGB_CHANNELS[order]


class Preprocessor:
    """
    Writes letterboxed, normalised images into reused network input tensors.

    Nothing is allocated per frame while sizes and encodings repeat. Packed encodings are scaled
    first and reordered after, on the small image; nothing of the source is copied before the
    scaling reads it (mono16 of foreign byte order is the exception).

    Parameters
    ----------
    dtype
        Of the tensor: float32 or float16.
    in_three_channels
        Scale images of 8 bits in one or four channels as three, at the cost of one conversion
        before: where OpenCV scales the others wrongly (`RESIZE_LEVELS`).

    """

    def __init__(
        self, dtype: str = 'float32', *, in_three_channels: bool = not IS_X86
    ) -> None:
        self._dtype = np.dtype(dtype)
        self._in_three_channels = in_three_channels
        self._scale = np.float32(1 / 255)
        # numpy's float16 arithmetic is ten times slower than looking its 256 results up.
        self._half_bits = (np.arange(256) / 255).astype(np.float16).view(np.uint16)
        self._buffers: collections.OrderedDict[tuple[Letterbox, str], _Buffers] = (
            collections.OrderedDict()
        )

    def prepare(self, image: ImageView, letterbox: Letterbox) -> NDArray[Any]:
        """
        Fill and return the network input (1, 3, H, W), RGB, 0..1.

        The tensor belongs to the preprocessor and is overwritten by the next call with the same
        geometry.

        """
        buffers = self._buffers_for(letterbox, image.encoding)
        if buffers.to_three is not None:
            pixels: NDArray[Any] = cv2.cvtColor(
                image.pixels, buffers.to_three, dst=buffers.converted
            )
        elif buffers.converted is not None:
            pixels = _converted(image, buffers.converted)
        else:
            pixels = _native(image.pixels)
            if image.encoding.channels == 1:
                pixels = pixels[:, :, 0]
        if letterbox.resized_wh != letterbox.source_wh:
            if pixels.shape == (1, 1, 3):  # OpenCV 4.5.4 takes no single pixel
                pixels = pixels.repeat(2, axis=0)
            pixels = cv2.resize(
                pixels, letterbox.resized_wh, dst=buffers.resized, interpolation=cv2.INTER_LINEAR
            )
        if buffers.to_three is not None and buffers.is_grey:
            pixels = cv2.extractChannel(pixels, 0, dst=buffers.plane)
        self._fill(buffers, _eight_bit(pixels, buffers.plane))
        return buffers.blob

    def _fill(self, buffers: _Buffers, pixels: NDArray[np.uint8]) -> None:
        if pixels.ndim == 2:
            self._normalise(pixels, buffers.inner[0])
            buffers.inner[1:] = buffers.inner[0]
            return
        for target, channel in zip(buffers.inner, buffers.rgb_channels, strict=True):
            cv2.extractChannel(pixels, channel, dst=buffers.plane)
            self._normalise(buffers.plane, target)

    def _normalise(self, plane: NDArray[np.uint8], target: NDArray[Any]) -> None:
        """Write a plane (h, w), scaled to 0..1, into the same shape of the network input."""
        if self._dtype == np.float16:
            cv2.LUT(plane, self._half_bits, dst=target.view(np.uint16))
        else:
            np.multiply(plane, self._scale, out=target)

    def _buffers_for(self, letterbox: Letterbox, encoding: Encoding) -> _Buffers:
        key = (letterbox, encoding.name)
        buffers = self._buffers.get(key)
        if buffers is None:
            buffers = self._buffers[key] = _Buffers(
                letterbox, encoding, self._dtype, in_three_channels=self._in_three_channels
            )
            if len(self._buffers) > _KEPT_GEOMETRIES:
                self._buffers.popitem(last=False)
        else:
            self._buffers.move_to_end(key)
        return buffers


def decode_compressed(
    data: Any, format_text: str = '', *, max_pixels: int = DEFAULT_MAX_DECODED_PIXELS
) -> ImageView:
    """
    Decode the data of a sensor_msgs/CompressedImage to the encoding of its format, mostly bgr8.

    EXIF orientation is not applied: boxes must stay in the pixels that other nodes see.

    Parameters
    ----------
    data
        Compressed bytes, anything with the buffer protocol.
    format_text
        `format` of the message; '' for none.
    max_pixels
        Most width x height, checked before decoding.

    Raises
    ------
    ImageError
        No picture of a known kind, damaged, larger than `max_pixels`, depth, or of a single
        channel of unknown meaning.

    """
    parsed = parse_format(format_text)
    content = parsed.content()
    buffer = view_bytes(data)
    try:
        header = read_header(buffer, max_pixels=max_pixels)
    except ImageError as exc:
        raise ImageError(f'compressed image of format {quoted(format_text)}: {exc}') from exc
    if header.kind == 'JPEG 2000' and _OPENCV_MAJOR < _FIRST_SAFE_JPEG_2000:
        raise ImageError(
            f'compressed image of JPEG 2000, expected JPEG or PNG: with OpenCV {cv2.__version__} '
            'a damaged one ends the process'
        )
    if header.is_grey_16 and not parsed.is_grey_16:
        raise ImageError(
            f'compressed image of format {quoted(format_text)} has one channel of 16 bits, as '
            'depth images have; a grey picture says mono16'
        )
    colour = content in (Content.GREY_OR_COLOUR, Content.RGB_AS_BGR)
    flags = cv2.IMREAD_COLOR if colour else cv2.IMREAD_ANYCOLOR
    pixels = _decode(buffer, flags | cv2.IMREAD_IGNORE_ORIENTATION)
    if content is Content.RGB_AS_BGR:
        return ImageView.from_array(pixels, 'rgb8')
    if content is Content.MOSAIC and (mosaic := _single_plane(pixels)) is not None:
        return ImageView.from_array(mosaic, f'bayer_{parsed.bayer_order}8')
    if pixels.ndim == 2:
        raise parsed.unknown_channel()
    return ImageView.from_array(pixels)


def decode_picture(
    data: bytes, *, upright: bool = True, max_pixels: int = DEFAULT_MAX_DECODED_PIXELS
) -> tuple[ImageView, PictureHeader]:
    """
    Decode a picture file to bgr8; return it with its header.

    Parameters
    ----------
    data
        The whole file.
    upright
        Rotate it by its EXIF data; OpenCV always does for TIFF.
    max_pixels
        Most width x height, checked before decoding.

    Raises
    ------
    ImageError
        No picture of a known kind, damaged, or larger than `max_pixels`.

    """
    header = read_header(memoryview(data), max_pixels=max_pixels)
    flags = cv2.IMREAD_COLOR
    if header.kind in _TURNED_HERE or not upright:
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
    pixels = _decode(memoryview(data), flags)
    return ImageView.from_array(_turned(pixels, header.orientation if upright else 1)), header


def _decode(buffer: memoryview, flags: int) -> NDArray[np.uint8]:
    try:
        pixels = cv2.imdecode(np.frombuffer(buffer, np.uint8), flags)
    except cv2.error as exc:
        raise ImageError(f'the picture cannot be decoded: {exc.err}') from exc
    if pixels is None:
        raise ImageError(
            f'the picture of {buffer.nbytes} bytes is damaged or cut off, or of a form that '
            'this OpenCV does not read'
        )
    return np.asarray(pixels, np.uint8)


def _single_plane(pixels: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Return the single plane of grey pixels (H, W) or (H, W, 3), None if there is colour."""
    if pixels.ndim == 2:
        return pixels
    blue, green, red = cv2.split(pixels)
    grey = np.array_equal(blue, green) and np.array_equal(green, red)
    return np.asarray(blue, np.uint8) if grey else None


def _turned(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn and mirror pixels as an EXIF orientation (1 to 8) asks for."""
    turned = cv2.transpose(pixels) if orientation >= 5 else pixels
    mirror = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return np.asarray(turned if mirror is None else cv2.flip(turned, mirror), np.uint8)
