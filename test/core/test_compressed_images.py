"""JPEG and PNG: decoded right, refused before decoding when absurd, ImageError when damaged."""

from __future__ import annotations

import array
import io
import struct
import time
from typing import Any
import zlib

import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
from PIL import Image, ImageOps
import pytest

from yolov7_trt_ros.core import preprocess
from yolov7_trt_ros.core.pictures.picture_header import read_header
from yolov7_trt_ros.core.preprocess import decode_compressed, decode_picture
from yolov7_trt_ros.errors import ImageError
from yolov7_trt_ros.testing import colour_blocks, smooth_picture

EXIF_ORIENTATION = 0x0112


def encoded(rgb: np.ndarray, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, kind, **options)
    return file.getvalue()


def turned(rgb: np.ndarray, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    return encoded(rgb, 'JPEG', exif=exif, quality=95, subsampling=0)


def png_header(width: int, height: int) -> bytes:
    header = struct.pack('>4sIIBBBBB', b'IHDR', width, height, 8, 2, 0, 0, 0)
    data = b'IDAT' + zlib.compress(bytes(100))
    return b'\x89PNG\r\n\x1a\n' + b''.join([
        struct.pack('>I', 13), header, struct.pack('>I', zlib.crc32(header)),
        struct.pack('>I', len(data) - 4), data, struct.pack('>I', zlib.crc32(data)),
    ])


SMALL = smooth_picture(32, 24)
FILES = {
    'jpeg': encoded(SMALL, 'JPEG'),
    'progressive jpeg': encoded(SMALL, 'JPEG', progressive=True),
    'grey jpeg': encoded(SMALL[..., 0], 'JPEG'),
    'exif jpeg': turned(SMALL, 6),
    'png': encoded(SMALL, 'PNG'),
    'palette png': encoded(np.asarray(colour_blocks(6)), 'PNG'),
}


@pytest.mark.parametrize('kind', ['JPEG', 'PNG'])
@pytest.mark.parametrize(
    'container', [bytes, bytearray, memoryview, lambda data: array.array('B', data)]
)
def test_colours_come_back(kind: str, container: Any) -> None:
    picture = smooth_picture(64, 48)
    image = decode_compressed(container(encoded(picture, kind)))
    assert image.size_wh == (64, 48)
    assert image.encoding.name == 'bgr8'
    tolerance = 0 if kind == 'PNG' else 8
    assert np.abs(image.pixels[..., ::-1].astype(int) - picture).max() <= tolerance


def test_grey_alpha_and_16_bit_pngs_become_bgr8() -> None:
    grey = np.full((4, 6), 100, np.uint8)
    assert np.all(decode_compressed(encoded(grey, 'PNG')).pixels == 100)
    alpha = np.dstack([np.full((4, 6, 3), 50, np.uint8), np.zeros((4, 6), np.uint8)])
    assert np.all(decode_compressed(encoded(alpha, 'PNG')).pixels == 50)
    deep = bytes(cv2.imencode('.png', np.full((4, 6), 100 * 257, np.uint16))[1])
    assert np.all(decode_compressed(deep, 'mono16; png compressed ').pixels == 100)
    assert np.all(decode_picture(deep)[0].pixels == 100)
    with pytest.raises(ImageError, match='one channel of 16 bits, as depth images have'):
        decode_compressed(deep, 'png')


@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_orientation_is_applied_only_when_asked_for(orientation: int) -> None:
    data = turned(SMALL, orientation)
    assert decode_compressed(data).size_wh == (32, 24)
    photograph, _ = decode_picture(data)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))).astype(int)
    assert photograph.pixels.shape == upright.shape
    assert np.abs(photograph.pixels[..., ::-1] - upright).max() <= 8


@pytest.mark.parametrize('name', FILES)
def test_the_size_is_read_from_the_header(name: str) -> None:
    image = decode_compressed(FILES[name])
    assert read_header(memoryview(FILES[name])).size_wh == image.size_wh


@pytest.mark.parametrize('name', FILES)
def test_a_file_cut_off_anywhere_is_refused(name: str) -> None:
    data = FILES[name]
    for length in range(len(data)):
        with pytest.raises(ImageError):
            decode_compressed(data[:length])


@pytest.mark.parametrize('name', ['jpeg', 'progressive jpeg', 'exif jpeg'])
def test_a_jpeg_without_its_end_mark_never_reaches_the_decoder(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(preprocess.cv2, 'imdecode')
    with pytest.raises(ImageError, match='truncated JPEG: no end mark'):
        decode_compressed(FILES[name][:-2])


def test_damaged_pixels_of_a_png_never_reach_the_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """At those of an animated one OpenCV 4.11 ends the process."""
    monkeypatch.delattr(preprocess.cv2, 'imdecode')
    data = bytearray(FILES['png'])
    data[60] ^= 1
    with pytest.raises(ImageError, match='damaged PNG: wrong checksum of IDAT at byte 33'):
        decode_compressed(data)


@pytest.mark.parametrize(('major', 'decoded'), [(4, False), (5, True)])
def test_jpeg_2000_is_decoded_where_a_damaged_one_is_an_error(
    monkeypatch: pytest.MonkeyPatch, major: int, decoded: bool
) -> None:
    monkeypatch.setattr(preprocess, '_OPENCV_MAJOR', major)
    data = encoded(np.asarray(smooth_picture(128, 96)), 'JPEG2000')
    if decoded:
        assert decode_compressed(data).size_wh == (128, 96)
    else:
        with pytest.raises(ImageError, match='JPEG 2000, expected JPEG or PNG'):
            decode_compressed(data)


@pytest.mark.parametrize('length', [2**31 - 1, 2**32 - 1, 5000])
def test_a_png_whose_chunk_claims_more_than_there_is_never_reaches_the_decoder(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here OpenCV 5 sets aside what the length says: 2 GB and seconds for a file of 200 bytes."""
    monkeypatch.delattr(preprocess.cv2, 'imdecode')
    data = bytearray(FILES['png'])
    assert data[37:41] == b'IDAT'
    data[33:37] = length.to_bytes(4, 'big')
    with pytest.raises(ImageError, match='truncated or damaged PNG: no end chunk'):
        decode_compressed(data)


@pytest.mark.parametrize('padding', [
    bytes(500), bytes(3_000_000), b'\xff' * 300_000, FILES['jpeg'][300:], b'junk' * 5000,
])
def test_padding_after_the_end_mark_is_allowed(padding: bytes) -> None:
    image = decode_compressed(FILES['jpeg'] + padding)
    assert np.array_equal(image.pixels, decode_compressed(FILES['jpeg']).pixels)


def test_the_end_mark_of_a_thumbnail_is_not_that_of_the_picture() -> None:
    thumbnail = FILES['jpeg']
    length = (len(thumbnail) + 2).to_bytes(2, 'big')
    data = b'\xff\xd8\xff\xe1' + length + thumbnail + FILES['jpeg'][2:]
    assert decode_compressed(data).size_wh == (32, 24)
    with pytest.raises(ImageError, match='no end mark'):
        decode_compressed(data[:-20])


@pytest.mark.parametrize('data', [
    b'\xff\xd8' + b'\xff' * 20_000_000,
    b'\xff\xd8' + b'\xff\xd0' * 5_000_000,
    b'\xff\xd8' + b'\xff\xe0\0\2' * 2_500_000,
    png_header(5, 5)[:33] + bytes(12) * 800_000,
], ids=['fill bytes', 'stand-alone marks', 'empty segments', 'empty chunks'])
def test_work_is_bounded_by_native_code(data: bytes) -> None:
    start_s = time.thread_time()
    with pytest.raises(ImageError, match='truncated'):
        decode_compressed(data)
    assert time.thread_time() - start_s < 20  # a loop of Python over its bytes takes 40 s


def test_a_jpeg_of_very_many_scans_is_refused() -> None:
    data = FILES['progressive jpeg']
    scan = data.index(b'\xff\xda')
    with pytest.raises(ImageError, match='more than 64 scans'):
        decode_compressed(data[:-2] + data[scan:scan + 14] * 100 + b'\xff\xd9')


@given(name=st.sampled_from(sorted(FILES)), at=st.floats(0, 1), junk=st.binary(max_size=8))
@settings(max_examples=300, deadline=None)
def test_overwritten_bytes_give_an_image_or_image_error(
    name: str, at: float, junk: bytes
) -> None:
    data = bytearray(FILES[name])
    start = int(at * (len(data) - 1))
    data[start:start + len(junk)] = junk
    try:
        image = decode_compressed(data, max_pixels=1 << 16)  # spares the time for large ones
    except ImageError:
        return
    assert image.pixels.ndim == 3


@given(
    start=st.sampled_from([b'', b'\xff\xd8', b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n', b'GIF89a']),
    rest=st.binary(max_size=200),
)
@settings(max_examples=500, deadline=None)
def test_random_bytes_give_image_error(start: bytes, rest: bytes) -> None:
    try:
        decode_compressed(start + rest)
    except ImageError:
        return


@pytest.mark.parametrize('data', [b'', b'\0' * 100, b'\0\0\0\1\x67' + bytes(100)])
def test_what_is_no_picture_is_told_by_its_format_and_first_bytes(data: bytes) -> None:
    with pytest.raises(ImageError, match="format 'h264': no picture .* starts with"):
        decode_compressed(data, 'h264')


@pytest.mark.parametrize('data', [None, 'text', 5])
def test_what_is_no_buffer_is_refused(data: Any) -> None:
    with pytest.raises(ImageError):
        decode_compressed(data)


@pytest.mark.parametrize('bomb', [
    png_header(60_000, 60_000),
    png_header(2**32 - 1, 2**32 - 1),
    b'\xff\xd8\xff\xc0\x00\x11\x08' + struct.pack('>HH', 65_500, 65_500) + bytes(20),
], ids=['png', 'largest png', 'jpeg'])
def test_a_bomb_is_refused_before_it_is_decoded(
    bomb: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*args: object) -> None:
        raise AssertionError('was decoded')

    monkeypatch.setattr(preprocess.cv2, 'imdecode', explode)
    with pytest.raises(ImageError, match='larger than the limit'):
        decode_compressed(bomb)


def test_the_limit_can_be_chosen() -> None:
    assert decode_compressed(FILES['png'], max_pixels=32 * 24).size_wh == (32, 24)
    for decode in (decode_compressed, decode_picture):
        with pytest.raises(ImageError, match='32x24 pixels is larger than the limit of 767'):
            decode(FILES['png'], max_pixels=32 * 24 - 1)


def test_a_header_of_no_size_is_refused() -> None:
    with pytest.raises(ImageError, match='empty'):
        decode_compressed(png_header(0, 5))
