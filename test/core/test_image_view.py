"""ImageView: every encoding seen right, nothing copied, only ImageError for bad input."""

from __future__ import annotations

import array
import mmap
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from yolov7_trt_ros.core.defaults import MAX_PIXELS
from yolov7_trt_ros.core.image import ENCODINGS, find_encoding, ImageView, PixelLayout
from yolov7_trt_ros.core.preprocess import to_bgr
from yolov7_trt_ros.errors import ImageError
from yolov7_trt_ros.testing import (
    colour_blocks,
    COLOURS,
    encode_image,
    encoded_view,
    smooth_picture,
)

ALL = sorted(ENCODINGS)
# Most a sample may differ on a smooth picture: rounding for YUV, interpolation for mosaics.
TOLERANCE = {PixelLayout.PACKED: 0, PixelLayout.YUV422: 6, PixelLayout.YUV420_SEMI_PLANAR: 8,
             PixelLayout.BAYER: 4}


def expected_bgr(rgb: np.ndarray, encoding: str) -> np.ndarray:
    if find_encoding(encoding).order == 'mono':
        grey = np.rint(rgb @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return rgb[..., ::-1]


def address(buffer: Any) -> int:
    memory = buffer if isinstance(buffer, np.ndarray) else np.frombuffer(buffer, np.uint8)
    return memory.__array_interface__['data'][0]


@pytest.mark.parametrize('step_padding', [0, 2, 10])
@pytest.mark.parametrize('encoding', ALL)
def test_a_smooth_picture_comes_back_in_its_colours(encoding: str, step_padding: int) -> None:
    rgb = smooth_picture(64, 48)
    got = to_bgr(encoded_view(rgb, encoding, step_padding)).astype(int)
    wrong = np.abs(got - expected_bgr(rgb, encoding))[2:-2, 2:-2]
    assert got.shape == (48, 64, 3)
    assert wrong.max() <= TOLERANCE[find_encoding(encoding).layout]


@pytest.mark.parametrize('encoding', [name for name in ALL if ENCODINGS[name].order != 'mono'])
def test_pure_colours_are_not_swapped(encoding: str) -> None:
    block = 16
    bgr = to_bgr(encoded_view(colour_blocks(block), encoding)).astype(int)
    for index, (name, rgb) in enumerate(COLOURS.items()):
        y, x = divmod(index, 4)
        middle = bgr[y * block + block // 2, x * block + block // 2]
        assert np.abs(middle[::-1] - rgb).max() <= 4, name


@pytest.mark.parametrize('encoding', ['mono16', 'MONO16'])
@pytest.mark.parametrize('big_endian', [False, True])
def test_mono16_of_either_byte_order(encoding: str, big_endian: bool) -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    image = encoded_view(ramp, encoding, big_endian=big_endian)
    assert image.pixels.dtype.itemsize == 2
    assert image.pixels[0, :, 0].tolist() == [257 * value for value in range(256)]
    assert to_bgr(image)[0, :, 0].tolist() == list(range(256))


def test_big_endian_says_nothing_about_8_bit_images() -> None:
    rgb = smooth_picture(8, 4)
    assert np.array_equal(to_bgr(encoded_view(rgb, 'rgb8', big_endian=True)), rgb[..., ::-1])


@pytest.mark.parametrize(('alias', 'name'), [
    ('yuv422', 'uyvy'), ('yuv422_yuy2', 'yuyv'), ('8UC1', 'mono8'), ('8UC3', 'bgr8'),
    ('8UC4', 'bgra8'), ('8uc1', 'mono8'), ('BGR8', 'bgr8'), ('Bayer_RGGB8', 'bayer_rggb8'),
])
def test_aliases(alias: str, name: str) -> None:
    assert find_encoding(alias) is ENCODINGS[name]


@pytest.mark.parametrize(('name', 'nearest'), [
    ('rgb', 'rgb8'), ('bgr16', 'bgr8'), ('bayer_rggb', 'bayer_rggb8'), ('nv16', 'nv'),
    ('mono', 'mono'), ('yuv422_yuyv', 'yuv422_yuy2'),
])
def test_an_unknown_encoding_names_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(ImageError, match=f'did you mean {nearest}') as info:
        find_encoding(name)
    assert all(known in str(info.value) for known in ENCODINGS)


@pytest.mark.parametrize('name', ['', 'bgr32', 'h264' * 10_000, '\0', 'é'])
def test_a_hopeless_encoding_is_refused_in_a_short_message(name: str) -> None:
    with pytest.raises(ImageError, match='unsupported encoding') as info:
        find_encoding(name)
    assert len(str(info.value)) < 500


# ---- nothing is copied


def _buffers(data: bytes, folder: Path) -> dict[str, Any]:
    path = folder / 'frame.raw'
    path.write_bytes(data)
    with path.open('r+b') as file:
        mapped = mmap.mmap(file.fileno(), 0)
    return {
        'bytes': data,
        'bytearray': bytearray(data),
        'array.array': array.array('B', data),
        'memoryview': memoryview(data),
        'mmap': mapped,
        'ndarray': np.frombuffer(data, np.uint8).copy(),
        '2-D ndarray': np.frombuffer(data, np.uint8).reshape(4, -1).copy(),
    }


@pytest.mark.parametrize(
    'kind', ['bytes', 'bytearray', 'array.array', 'memoryview', 'mmap', 'ndarray', '2-D ndarray']
)
@pytest.mark.parametrize('encoding', ['bgr8', 'mono16', 'nv12', 'uyvy', 'bayer_grbg8'])
def test_the_view_is_the_buffer(kind: str, encoding: str, tmp_path: Path) -> None:
    data, step = encode_image(smooth_picture(8, 8), encoding, step_padding=4)
    buffer = _buffers(data, tmp_path)[kind]
    image = ImageView.from_buffer(buffer, width=8, height=8, encoding=encoding, step=step)
    assert address(image.pixels) == address(buffer)
    assert image.pixels.strides[0] == step
    assert not image.pixels.flags.owndata


def test_a_later_write_to_the_buffer_is_seen() -> None:
    buffer = bytearray(12)
    image = ImageView.from_buffer(buffer, width=2, height=2, encoding='bgr8')
    buffer[0] = 77
    assert image.pixels[0, 0, 0] == 77
    assert to_bgr(image)[0, 0, 0] == 77


def test_bgr8_is_handed_on_without_a_copy() -> None:
    image = encoded_view(smooth_picture(8, 8), 'bgr8', step_padding=3)
    assert to_bgr(image) is image.pixels


def test_the_buffer_cannot_be_freed_or_resized_under_the_view() -> None:
    buffers: list[Any] = [bytearray(48), array.array('B', bytes(48)), mmap.mmap(-1, 48)]
    for buffer in buffers:
        image = ImageView.from_buffer(buffer, width=4, height=4, encoding='rgb8')
        with pytest.raises(BufferError):
            buffer.close() if isinstance(buffer, mmap.mmap) else buffer.pop()
        del image
        buffer.close() if isinstance(buffer, mmap.mmap) else buffer.pop()


# ---- refusals


def test_the_last_row_needs_no_padding() -> None:
    image = ImageView.from_buffer(bytes(16 + 12), width=4, height=2, encoding='bgr8', step=16)
    assert image.pixels.shape == (2, 4, 3)


@pytest.mark.parametrize('encoding', ALL)
def test_one_byte_too_few_is_refused(encoding: str) -> None:
    data, step = encode_image(smooth_picture(16, 8), encoding)
    with pytest.raises(ImageError, match=f'truncated image.* needs {len(data)} bytes'):
        ImageView.from_buffer(data[:-1], width=16, height=8, encoding=encoding, step=step)


@pytest.mark.parametrize('step', [0, -24, 1, 11])
def test_a_step_shorter_than_a_row_is_refused(step: int) -> None:
    with pytest.raises(ImageError, match='step is'):
        ImageView.from_buffer(bytes(100), width=4, height=2, encoding='bgr8', step=step)


def test_an_odd_step_of_16_bit_samples_is_refused() -> None:
    with pytest.raises(ImageError, match='multiple of 2'):
        ImageView.from_buffer(bytes(100), width=4, height=2, encoding='mono16', step=9)


@pytest.mark.parametrize(('width', 'height'), [(0, 0), (0, 5), (5, 0), (-1, 5), (5, -1)])
def test_an_empty_image_is_refused(width: int, height: int) -> None:
    with pytest.raises(ImageError, match='empty'):
        ImageView.from_buffer(bytes(100), width=width, height=height, encoding='bgr8')


@pytest.mark.parametrize('size', [(MAX_PIXELS + 2, 2), (2**31, 2**31), (2**32 - 2, 2)])
def test_an_absurd_size_is_taken_for_corrupt(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match='larger than the limit'):
        ImageView.from_buffer(b'', width=size[0], height=size[1], encoding='mono8')


@pytest.mark.parametrize(('encoding', 'width', 'height'), [
    ('uyvy', 3, 2), ('yuyv', 1, 1), ('nv12', 3, 2), ('nv12', 2, 3), ('nv21', 1, 1),
])
def test_sizes_that_cut_a_chroma_pair_are_refused(encoding: str, width: int, height: int) -> None:
    with pytest.raises(ImageError, match='even'):
        ImageView.from_buffer(bytes(100), width=width, height=height, encoding=encoding)


@pytest.mark.parametrize('data', [
    None, 5, 'text', np.zeros((4, 24), np.uint8)[:, ::2], np.empty((0, 3), np.uint8),
])
def test_what_is_no_buffer_is_refused(data: Any) -> None:
    with pytest.raises(ImageError):
        ImageView.from_buffer(data, width=4, height=4, encoding='mono8')


@given(
    data=st.one_of(st.binary(max_size=400), st.binary(max_size=400).map(bytearray)),
    width=st.one_of(st.integers(0, 24), st.integers(-2**31, 2**32)),
    height=st.one_of(st.integers(0, 24), st.integers(-2**31, 2**32)),
    step=st.one_of(st.none(), st.integers(0, 80), st.integers(-2**31, 2**32)),
    encoding=st.one_of(st.sampled_from(ALL), st.text(max_size=12)),
    big_endian=st.booleans(),
)
@settings(max_examples=1500, deadline=None)
def test_random_headers_give_a_view_within_the_buffer_or_image_error(
    data: bytes, width: int, height: int, step: int | None, encoding: str, big_endian: bool
) -> None:
    try:
        image = ImageView.from_buffer(
            data, width=width, height=height, encoding=encoding, step=step, big_endian=big_endian
        )
    except ImageError:
        return
    pixels = image.pixels
    spans = zip(pixels.shape, pixels.strides, strict=True)
    end = address(pixels) + sum((count - 1) * gap for count, gap in spans) + pixels.itemsize
    assert address(data) <= address(pixels)
    assert end <= address(data) + len(data)
    assert to_bgr(image).shape == (height, width, 3)


# ---- arrays


def test_from_array_takes_grey_and_colour() -> None:
    grey = np.zeros((5, 7), np.uint8)
    assert ImageView.from_array(grey, 'mono8').size_wh == (7, 5)
    assert ImageView.from_array(np.zeros((6, 8, 3), np.uint8)).size_wh == (8, 6)
    assert ImageView.from_array(np.zeros((9, 8), np.uint8), 'nv12').size_wh == (8, 6)


def test_from_array_does_not_copy_and_takes_slices() -> None:
    whole = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    image = ImageView.from_array(whole[2:6, 1:5])
    assert np.shares_memory(image.pixels, whole)
    assert np.array_equal(to_bgr(image), whole[2:6, 1:5])


@pytest.mark.parametrize(('pixels', 'encoding'), [
    (np.zeros((4, 4, 3), np.float32), 'bgr8'),
    (np.zeros((4, 4, 3), np.int8), 'bgr8'),
    (np.zeros((4, 4, 4), np.uint8), 'bgr8'),
    (np.zeros((4, 4), np.uint8), 'mono16'),
    (np.zeros(4, np.uint8), 'mono8'),
    (np.zeros((0, 4, 3), np.uint8), 'bgr8'),
    (np.zeros((4, 4), np.uint8), 'nv12'),
    (np.zeros((6, 3), np.uint8), 'nv12'),
    (np.zeros((4, 3, 2), np.uint8), 'uyvy'),
])
def test_from_array_refuses_what_does_not_fit(pixels: np.ndarray, encoding: str) -> None:
    with pytest.raises(ImageError):
        ImageView.from_array(pixels, encoding)
