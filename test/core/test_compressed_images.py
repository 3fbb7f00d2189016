"""JPEG and PNG: decoded right, refused before decoding when absurd, ImageError when damaged."""

from __future__ import annotations

import array
import io
import struct
from typing import Any
import zlib

import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
from PIL import Image, ImageOps
import pytest

from yolov7_trt_ros.core import image as image_module
from yolov7_trt_ros.core import preprocess
from yolov7_trt_ros.core.compressed import read_size
from yolov7_trt_ros.core.preprocess import decode_compressed
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
    assert np.all(decode_compressed(deep).pixels == 100)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_orientation_is_applied_only_when_asked_for(orientation: int) -> None:
    data = turned(SMALL, orientation)
    assert decode_compressed(data).size_wh == (32, 24)
    photograph = decode_compressed(data, apply_orientation=True)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))).astype(int)
    assert photograph.pixels.shape == upright.shape
    assert np.abs(photograph.pixels[..., ::-1] - upright).max() <= 8


@pytest.mark.parametrize('name', FILES)
def test_the_size_is_read_from_the_header(name: str) -> None:
    image = decode_compressed(FILES[name])
    assert read_size(memoryview(FILES[name])) == image.size_wh


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


def test_padding_after_the_end_mark_is_allowed() -> None:
    assert decode_compressed(FILES['jpeg'] + bytes(500)).size_wh == (32, 24)


@given(name=st.sampled_from(sorted(FILES)), at=st.floats(0, 1), junk=st.binary(max_size=8))
@settings(max_examples=300, deadline=None)
def test_overwritten_bytes_give_an_image_or_image_error(
    name: str, at: float, junk: bytes
) -> None:
    data = bytearray(FILES[name])
    start = int(at * (len(data) - 1))
    data[start:start + len(junk)] = junk
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_module, 'MAX_PIXELS', 1 << 16)  # spares the time of decoding gigabytes
        try:
            image = decode_compressed(data)
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


@pytest.mark.parametrize('data', [b'', b'\0' * 100, b'GIF89a' + bytes(100), b'BM' + bytes(100)])
def test_other_formats_are_named_by_their_first_bytes(data: bytes) -> None:
    with pytest.raises(ImageError, match='neither JPEG nor PNG.* starts with'):
        decode_compressed(data)


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


def test_a_header_of_no_size_is_refused() -> None:
    with pytest.raises(ImageError, match='empty'):
        decode_compressed(png_header(0, 5))
