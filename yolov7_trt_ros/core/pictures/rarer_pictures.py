"""Read the headers of BMP, GIF, WebP, TIFF, PNM, AVIF, JPEG 2000 and Sun raster files."""

from __future__ import annotations

from collections.abc import Iterator
import re
import struct

from yolov7_trt_ros.core.pictures.compressed import exif_orientation
from yolov7_trt_ros.errors import ImageError

Size = tuple[int, int]
_PNM = re.compile(
    rb'P[1-6]\s(?:\s|#[^\n]{0,999}\n){0,64}(\d{1,9})\s(?:\s|#[^\n]{0,999}\n){0,64}(\d{1,9})\s'
)
_PAM = re.compile(rb'^(WIDTH|HEIGHT)[ \t]+(\d{1,9})', re.MULTILINE)
_TIFF_ENTRIES = 512
_JPEG_2000_SIZE = b'\xff\x4f\xff\x51'
_TYPE_BYTES = {1: 1, 3: 2, 4: 4, 16: 8}
_SUBFILE, _WIDTH, _HEIGHT, _BITS, _SAMPLES, _SAMPLE_FORMAT = 254, 256, 257, 258, 277, 339
_DNG_VERSION = 50706
_FLOAT_SAMPLES = 3
_MOST_BOXES = 4096
_MOST_BLOCKS = 1 << 18
_GIF_PICTURE, _GIF_EXTENSION = 0x2C, 0x21
# EXIF orientation of none to three quarter turns to the left, then a mirror: none, up, sideways.
_TURNED = {None: (1, 8, 3, 6), 0: (4, 5, 2, 7), 1: (2, 7, 4, 5)}


def bmp_size(data: memoryview) -> Size:
    """Return the size in a BMP header, which is negative for rows from top to bottom."""
    (header_bytes,) = struct.unpack_from('<I', data, 14)
    width, height = struct.unpack_from('<HH' if header_bytes == 12 else '<ii', data, 18)
    return abs(width), abs(height)


def gif_size(data: memoryview) -> Size:
    """Return the size of a GIF's screen."""
    width, height = struct.unpack_from('<HH', data, 6)
    return width, height


def gif_is_animated(data: memoryview) -> bool:
    """Whether a GIF has more than one picture."""
    pictures, at = 0, 13 + _gif_palette_bytes(data[10])
    for _ in range(_MOST_BLOCKS):
        kind = data[at]
        if kind == _GIF_PICTURE:
            pictures += 1
            if pictures > 1:
                return True
            at = _after_blocks(data, at + 11 + _gif_palette_bytes(data[at + 9]))
        elif kind == _GIF_EXTENSION:
            at = _after_blocks(data, at + 2)
        else:
            return False
    return False


def _gif_palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_blocks(data: memoryview, at: int) -> int:
    """Return the start of the next block, after one whose parts begin with their length."""
    for _ in range(_MOST_BLOCKS):
        if not data[at]:
            break
        at += 1 + data[at]
    return at + 1


def webp_size(data: memoryview) -> Size:
    """Return the size of a WebP picture, of any of the three forms."""
    kind = bytes(data[12:16])
    if kind == b'VP8X':
        parts = bytes(data[24:30])
        if len(parts) == 6:
            return (1 + int.from_bytes(parts[:3], 'little'),
                    1 + int.from_bytes(parts[3:], 'little'))
    elif kind == b'VP8L':
        (bits,) = struct.unpack_from('<I', data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif kind == b'VP8 ':
        width, height = struct.unpack_from('<HH', data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ImageError(f'damaged WebP: {len(data)} bytes, its first chunk is {kind!r}')


def webp_is_animated(data: memoryview) -> bool:
    """Tell whether a WebP picture is an animation."""
    return bytes(data[12:16]) == b'VP8X' and len(data) > 20 and bool(data[20] & 2)


def webp_orientation(data: memoryview) -> int:
    """Return the orientation in the EXIF data of a WebP picture, 1 for none."""
    at = 12
    for _ in range(_MOST_BOXES):
        kind = bytes(data[at:at + 4])
        length = int.from_bytes(data[at + 4:at + 8], 'little')
        if kind == b'EXIF':
            content = bytes(data[at + 8:at + 8 + length])
            return exif_orientation(content.removeprefix(b'Exif\0\0'))
        at += 8 + length + length % 2
        if at + 8 > len(data):
            break
    return 1


def pnm_size(data: memoryview) -> Size:
    """Return the size in the text header of a PBM, PGM, PPM or PAM file."""
    head = bytes(data[:65536])
    if head.startswith(b'P7'):
        found = {name: int(value) for name, value in _PAM.findall(head[:4096])}
        if len(found) == 2:
            return found[b'WIDTH'], found[b'HEIGHT']
    elif numbers := _PNM.match(head):
        return int(numbers[1]), int(numbers[2])
    raise ImageError(f'damaged PNM: {len(data)} bytes, no size in its header')


def sun_size(data: memoryview) -> Size:
    """Return the size of a Sun raster file."""
    width, height = struct.unpack_from('>II', data, 4)
    return width, height


def jpeg_2000_size(data: memoryview) -> Size:
    """Return the size of the code stream in a JPEG 2000 file."""
    at = bytes(data).find(_JPEG_2000_SIZE)
    if at < 0:
        raise ImageError(f'damaged JPEG 2000: no size marker within {len(data)} bytes')
    right, bottom, left, top = struct.unpack_from('>IIII', data, at + 8)
    return right - left, bottom - top


# ---- TIFF


def tiff_tags(data: memoryview) -> tuple[dict[int, int], bool]:
    """Return the numbers in the first directory of a TIFF file, and whether another follows."""
    order = '<' if data[0] == 0x49 else '>'
    big = struct.unpack_from(f'{order}H', data, 2)[0] == 43
    (at,) = struct.unpack_from(f'{order}{"Q" if big else "I"}', data, 8 if big else 4)
    (count,) = struct.unpack_from(f'{order}{"Q" if big else "H"}', data, at)
    at += 8 if big else 2
    entry_bytes, count_kind, value_at = (20, 'Q', 12) if big else (12, 'I', 8)
    tags: dict[int, int] = {}
    for start in range(at, at + min(count, _TIFF_ENTRIES) * entry_bytes, entry_bytes):
        tag, kind, number = struct.unpack_from(f'{order}HH{count_kind}', data, start)
        value_bytes = _TYPE_BYTES.get(kind, 0)
        if not value_bytes:
            continue
        place = start + value_at
        if value_bytes * number > entry_bytes - value_at:
            (place,) = struct.unpack_from(f'{order}{count_kind}', data, place)
        first = bytes(data[place:place + value_bytes])
        tags[tag] = int.from_bytes(first, 'little' if order == '<' else 'big')
    following = bytes(data[at + count * entry_bytes:][: 8 if big else 4])
    return tags, any(following)


def tiff_size(tags: dict[int, int]) -> Size:
    """
    Return the size in the tags of a TIFF file.

    Raises
    ------
    ImageError
        It is the small picture of a camera's raw file, or has float pixels.

    """
    if tags.get(_SUBFILE, 0) & 1 or _DNG_VERSION in tags:
        raise ImageError('a raw file of a camera, or a TIFF that begins with a small preview: '
                         'convert it to a picture')
    if tags.get(_SAMPLE_FORMAT) == _FLOAT_SAMPLES or tags.get(_BITS, 8) > 16:
        raise ImageError('a TIFF of floats or of more than 16 bits a sample is no picture')
    return tags.get(_WIDTH, 0), tags.get(_HEIGHT, 0)


def tiff_is_grey_16(tags: dict[int, int]) -> bool:
    """Tell whether a TIFF file has one channel of 16 bits."""
    return tags.get(_BITS) == 16 and tags.get(_SAMPLES, 1) == 1


# ---- AVIF


def avif_facts(data: memoryview) -> tuple[Size, int]:
    """Return the size of an AVIF picture and its orientation, as in EXIF."""
    sizes, turns, mirror = [(0, 0)], 0, None
    for kind, content in _properties(data):
        if kind == b'ispe' and len(content) >= 12:
            width, height = struct.unpack_from('>II', content, 4)
            sizes.append((width, height))
        elif kind == b'irot' and len(content):
            turns = content[0] & 3
        elif kind == b'imir' and len(content):
            mirror = content[0] & 1
    return max(sizes, key=lambda size: size[0] * size[1]), _TURNED[mirror][turns]


def _properties(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the properties of the pictures in a file of boxes."""
    for kind, content in _boxes(data):
        if kind == b'meta':
            for inner, rest in _boxes(content[4:]):
                if inner == b'iprp':
                    for name, properties in _boxes(rest):
                        if name == b'ipco':
                            yield from _boxes(properties)


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Walk boxes: length, type, content."""
    at = 0
    for _ in range(_MOST_BOXES):
        if at + 8 > len(data):
            return
        length, head = int.from_bytes(data[at:at + 4], 'big'), 8
        if length == 1:
            length, head = int.from_bytes(data[at + 8:at + 16], 'big'), 16
        end = at + length if length else len(data)
        if end < at + head:
            return
        yield bytes(data[at + 4:at + 8]), data[at + head:end]
        at = end
