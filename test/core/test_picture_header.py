"""Kinds of pictures by their first bytes, their sizes before decoding, orientation, animation."""

from __future__ import annotations

import io
import re
import struct
from typing import Any

import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
from PIL import Image, ImageOps
import pytest

from yolov7_trt_ros.core.pictures.picture_header import picture_kind, read_header
from yolov7_trt_ros.core.preprocess import decode_picture
from yolov7_trt_ros.errors import ImageError
from yolov7_trt_ros.testing import smooth_picture

RGB = smooth_picture(72, 40)
KINDS = {
    'JPEG': 'JPEG', 'PNG': 'PNG', 'GIF': 'GIF', 'BMP': 'BMP', 'TIFF': 'TIFF', 'WEBP': 'WebP',
    'PPM': 'PNM', 'JPEG2000': 'JPEG 2000',
}
EXIF_ORIENTATION = 0x0112


def saved(kind: str, picture: Any = None, **options: Any) -> bytes:
    file = io.BytesIO()
    (picture or Image.fromarray(RGB)).save(file, kind, **options)
    return file.getvalue()


def is_read(kind: str) -> bool:
    """Whether this OpenCV was built with a kind that not every one reads."""
    found = re.search(rf' {kind}: +(.*)', cv2.getBuildInformation())
    return kind not in ('GIF', 'AVIF') or found is not None and found[1] != 'NO'


def refuse(data: bytes) -> None:
    with pytest.raises(ImageError, match='of a form that this OpenCV does not read'):
        decode_picture(data)


@pytest.mark.parametrize('kind', KINDS)
def test_every_kind(kind: str) -> None:
    if not is_read(kind):
        refuse(saved(kind))
        return
    image, header = decode_picture(saved(kind))
    assert (header.kind, header.size_wh, header.is_animated) == (KINDS[kind], (72, 40), False)
    assert image.size_wh == (72, 40)
    assert np.abs(image.pixels[..., ::-1].astype(int) - RGB).mean() < 8


@pytest.mark.parametrize('suffix', ['.pgm', '.pbm', '.pam', '.ras', '.jp2', '.dib', '.tif'])
def test_what_opencv_writes(suffix: str) -> None:
    grey = np.where(RGB[..., 0] > 100, 255, 0).astype(np.uint8)
    image, header = decode_picture(bytes(cv2.imencode(suffix, grey)[1]))
    assert header.size_wh == image.size_wh == (72, 40)
    assert np.abs(image.pixels[..., 0].astype(int) - grey).mean() < 3


def test_the_other_forms_of_webp_and_tiff() -> None:
    for data in (saved('WEBP', lossless=True), saved('WEBP', exif=Image.Exif()),
                 saved('WEBP', Image.fromarray(RGB).convert('RGBA')),
                 saved('TIFF', big_tiff=True)):
        image, header = decode_picture(data)
        assert header.size_wh == image.size_wh == (72, 40)


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
def test_pictures_are_turned_upright(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    data = saved(kind, exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))).astype(int)
    image, _ = decode_picture(data)
    assert image.pixels.shape == upright.shape
    assert np.abs(image.pixels[..., ::-1] - upright).mean() < 8


def test_orientation_that_stands_after_the_pixels_of_a_png() -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    data = saved('PNG', exif=exif)
    at = data.index(b'eXIf') - 4
    (length,) = struct.unpack_from('>I', data, at)
    chunk = data[at:at + 12 + length]
    moved = data.replace(chunk, b'')
    moved = moved[:-12] + chunk + moved[-12:]
    assert decode_picture(moved)[0].size_wh == (40, 72)


def test_an_avif_is_turned_as_its_boxes_say() -> None:
    from PIL import features

    if not features.check('avif'):
        pytest.skip('no AVIF in this Pillow')
    if not is_read('AVIF'):
        refuse(saved('AVIF'))
        return
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = orientation
        data = saved('AVIF', exif=exif)
        upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))).astype(int)
        image, header = decode_picture(data)
        assert (header.kind, header.size_wh) == ('AVIF', (72, 40))
        assert image.pixels.shape == upright.shape
        assert np.abs(image.pixels[..., ::-1] - upright).mean() < 8


@pytest.mark.parametrize('kind', ['GIF', 'WEBP', 'PNG', 'TIFF'])
def test_an_animation_is_told(kind: str) -> None:
    frames = [Image.fromarray(np.roll(RGB, shift, 1)) for shift in (0, 9, 20)]
    data = saved(kind, frames[0], save_all=True, append_images=frames[1:])
    if not is_read(kind):
        refuse(data)
        return
    image, header = decode_picture(data)
    assert header.is_animated
    assert np.abs(image.pixels[..., ::-1].astype(int) - RGB).mean() < 8


@pytest.mark.parametrize(('data', 'named'), [
    (b'\0\0\0\x18ftypheic\0\0\0\0mif1heic', 'HEIC, which is not read here: convert it'),
    (b'\xff\x0a' + bytes(40), 'JPEG XL'), (b'#?RADIANCE\n', 'floats'), (b'v/1\x01\0', 'OpenEXR'),
    (b'PF\n3 2\n-1.0\n', 'PFM'), (b'8BPS\0\1', 'Photoshop'),
])
def test_what_is_recognised_and_not_read(data: bytes, named: str) -> None:
    with pytest.raises(ImageError, match=named):
        read_header(memoryview(data))


def test_raw_files_of_cameras_and_floats_in_tiff_are_named() -> None:
    def tiff(*entries: tuple[int, int, int, int]) -> bytes:
        return b'II*\0\x08\0\0\0' + struct.pack('<H', len(entries)) + b''.join(
            struct.pack('<HHIHH', *entry, 0) for entry in entries) + bytes(4)

    size = ((256, 3, 1, 160), (257, 3, 1, 120))
    with pytest.raises(ImageError, match='raw file of a camera'):
        read_header(memoryview(tiff((254, 4, 1, 1), *size)))
    with pytest.raises(ImageError, match='floats'):
        read_header(memoryview(tiff(*size, (339, 3, 1, 3))))
    floats = bytes(cv2.imencode('.tiff', np.ones((4, 6), np.float32))[1])
    with pytest.raises(ImageError, match='floats'):
        read_header(memoryview(floats))


@pytest.mark.parametrize('data', [
    b'P5\n# large\n60000 60000\n255\n', b'P7\nWIDTH 60000\nHEIGHT 60000\nDEPTH 3\nENDHDR\n',
    b'BM' + bytes(12) + struct.pack('<Iii', 40, 60000, -60000) + bytes(40),
    b'GIF89a' + struct.pack('<HH', 60000, 60000) + bytes(20),
    b'RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0' + b'\xff\xff\x00' * 2 + bytes(20),
    b'\x59\xa6\x6a\x95' + struct.pack('>II', 60000, 60000),
    b'\xff\x4f\xff\x51\0\x29\0\0' + struct.pack('>IIII', 60000, 60000, 0, 0),
], ids=lambda data: picture_kind(data))
def test_a_size_beyond_the_limit_is_refused_before_decoding(data: bytes) -> None:
    with pytest.raises(ImageError, match='larger than the limit of 67108864 pixels'):
        decode_picture(data)


@settings(max_examples=400, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), cut=st.floats(0, 1), at=st.floats(0, 1),
       junk=st.binary(max_size=6))
def test_headers_of_damaged_files_raise_nothing_else(
    kind: str, cut: float, at: float, junk: bytes
) -> None:
    data = bytearray(FILES[kind])
    place = int(at * len(data))
    data[place:place + len(junk)] = junk
    try:
        header = read_header(memoryview(data[: int(cut * len(data))]))
    except ImageError:
        return
    assert header.size_wh[0] * header.size_wh[1] <= 1 << 26


FILES = {kind: saved(kind) for kind in KINDS}
