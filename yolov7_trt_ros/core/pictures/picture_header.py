"""Read kind and header of a picture before decoding it."""

from __future__ import annotations

import dataclasses
import struct

from yolov7_trt_ros.core.defaults import DEFAULT_MAX_DECODED_PIXELS
from yolov7_trt_ros.core.image import check_size
from yolov7_trt_ros.core.pictures import rarer_pictures as rarer
from yolov7_trt_ros.core.pictures.compressed import (
    check_jpeg,
    JPEG_MAGIC,
    jpeg_size,
    PNG_MAGIC,
    png_size,
    read_png,
)
from yolov7_trt_ros.errors import ImageError

SNIFFED_BYTES = 64

_MAGICS = (
    (JPEG_MAGIC, 'JPEG'), (PNG_MAGIC, 'PNG'), (b'GIF8', 'GIF'), (b'BM', 'BMP'),
    (b'II*\0', 'TIFF'), (b'MM\0*', 'TIFF'), (b'II+\0', 'TIFF'), (b'MM\0+', 'TIFF'),
    (b'\x59\xa6\x6a\x95', 'Sun raster'), (b'\xff\x4f\xff\x51', 'JPEG 2000'),
    (b'\0\0\0\x0cjP  ', 'JPEG 2000'), (b'\xff\x0a', 'JPEG XL'), (b'\0\0\0\x0cJXL ', 'JPEG XL'),
    (b'#?RADIANCE', 'Radiance HDR'), (b'#?RGBE', 'Radiance HDR'), (b'v/1\x01', 'OpenEXR'),
    (b'PF\n', 'PFM'), (b'Pf\n', 'PFM'), (b'8BPS', 'Photoshop'),
    *((b'P%d%c' % (digit, space), 'PNM') for digit in range(1, 8) for space in b'\n\r \t'),
)
_HEIF_BRANDS = (b'heic', b'heix', b'hevc', b'heim', b'heis', b'mif1', b'msf1')
UNREADABLE = {
    'JPEG XL': 'convert it to JPEG or PNG', 'HEIC': 'convert it, as with heif-convert',
    'Radiance HDR': 'its values are floats: convert it', 'OpenEXR': 'its values are floats: '
    'convert it', 'PFM': 'its values are floats: convert it', 'Photoshop': 'export a picture',
}
"""Kinds that are recognised and not read, and what to do about it."""


@dataclasses.dataclass(frozen=True)
class PictureHeader:
    """
    Facts from the header of a picture.

    Attributes
    ----------
    kind
        Such as `JPEG`.
    size_wh
        Width and height in pixels, as they are stored.
    is_animated
        It holds more than one picture: frames, or pages.
    is_grey_16
        One channel of 16 bits.
    orientation
        How to rotate it upright, as in EXIF: 1 if there is nothing to do, or if the decoder does
        it (JPEG, TIFF).

    """

    kind: str
    size_wh: tuple[int, int]
    is_animated: bool = False
    is_grey_16: bool = False
    orientation: int = 1


def picture_kind(head: bytes) -> str:
    """Return the kind of picture that some first bytes belong to, '' for none."""
    if head[:4] == b'RIFF' and head[8:12] == b'WEBP':
        return 'WebP'
    if head[4:8] == b'ftyp':
        brands = {head[at:at + 4] for at in (8, *range(16, SNIFFED_BYTES, 4))}
        if brands & {b'avif', b'avis'}:
            return 'AVIF'
        return 'HEIC' if head[8:12] in _HEIF_BRANDS else ''
    return next((kind for magic, kind in _MAGICS if head.startswith(magic)), '')


def read_header(
    data: memoryview, *, max_pixels: int = DEFAULT_MAX_DECODED_PIXELS
) -> PictureHeader:
    """
    Read the header of a picture, and check that it may be decoded.

    Parameters
    ----------
    data
        The whole file.
    max_pixels
        Most width x height.

    Raises
    ------
    ImageError
        Not a readable picture, cut off, or too large.

    """
    kind = picture_kind(bytes(data[:SNIFFED_BYTES]))
    if kind in UNREADABLE:
        raise ImageError(f'{kind}, which is not read here: {UNREADABLE[kind]}')
    if not kind:
        start = bytes(data[:8]).hex(' ') or 'nothing'
        raise ImageError(f'no picture of a known kind: {len(data)} bytes, starts with {start}')
    try:
        check_size(*_read_size(kind, data), max_pixels)
        return _read_whole_header(kind, data)
    except (struct.error, IndexError) as exc:
        raise ImageError(f'truncated {kind}: {len(data)} bytes') from exc


def _read_size(kind: str, data: memoryview) -> tuple[int, int]:
    if kind == 'TIFF':
        return rarer.tiff_size(rarer.tiff_tags(data)[0])
    if kind == 'AVIF':
        return rarer.avif_facts(data)[0]
    return _SIZES[kind](data)


_SIZES = {
    'JPEG': jpeg_size, 'PNG': png_size, 'GIF': rarer.gif_size, 'BMP': rarer.bmp_size,
    'WebP': rarer.webp_size, 'PNM': rarer.pnm_size, 'Sun raster': rarer.sun_size,
    'JPEG 2000': rarer.jpeg_2000_size,
}


def _read_whole_header(kind: str, data: memoryview) -> PictureHeader:
    size_wh = _read_size(kind, data)
    if kind == 'JPEG':
        check_jpeg(data)
    elif kind == 'PNG':
        facts = read_png(data)
        return PictureHeader(
            kind, size_wh, facts.is_animated, facts.is_grey_16, facts.orientation
        )
    elif kind == 'TIFF':
        tags, more = rarer.tiff_tags(data)
        return PictureHeader(kind, size_wh, more, rarer.tiff_is_grey_16(tags))
    elif kind == 'AVIF':
        orientation = rarer.avif_facts(data)[1]
        return PictureHeader(
            kind, size_wh, bytes(data[8:12]) == b'avis', orientation=orientation
        )
    elif kind == 'WebP':
        return PictureHeader(
            kind, size_wh, rarer.webp_is_animated(data), orientation=rarer.webp_orientation(data)
        )
    return PictureHeader(kind, size_wh, kind == 'GIF' and rarer.gif_is_animated(data))
