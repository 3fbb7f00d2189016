"""Preprocessor: right values for every encoding, and no image-sized copy on the way."""

from __future__ import annotations

import tracemalloc
from typing import Any

import cv2
import numpy as np
import pytest

from yolov7_trt_ros.core import preprocess
from yolov7_trt_ros.core.image import ENCODINGS, ImageView, PixelLayout
from yolov7_trt_ros.core.letterbox import fit_letterbox, fit_rectangle, Letterbox
from yolov7_trt_ros.core.preprocess import Preprocessor, RESIZE_LEVELS, to_bgr
from yolov7_trt_ros.testing import encode_image, encoded_view, smooth_picture

CANONICAL = sorted({encoding.name for encoding in ENCODINGS.values()})
PACKED = [name for name in CANONICAL if ENCODINGS[name].layout is PixelLayout.PACKED]
LETTERBOXES = {
    'shrink': fit_rectangle((160, 100), 64, 32),
    'enlarge': fit_letterbox((40, 30), (96, 64)),
    'same size, padded': fit_letterbox((40, 30), (40, 64)),
    'same size, no border': fit_letterbox((64, 32), (64, 32)),
    'flat': fit_rectangle((160, 2), 64, 32),
}


def resize_slowly(picture: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    """Bilinear, pixel centres at half integers, edges repeated; float64."""
    height, width = picture.shape[:2]

    def taps(count: int, source: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        at = (np.arange(count) + 0.5) * source / count - 0.5
        low = np.floor(at)
        first = np.clip(low, 0, source - 1).astype(int)
        second = np.clip(low + 1, 0, source - 1).astype(int)
        return first, second, at - low

    x0, x1, fx = taps(size_wh[0], width)
    y0, y1, fy = taps(size_wh[1], height)
    values = picture.astype(np.float64)
    rows = values[y0] * (1 - fy)[:, None, None] + values[y1] * fy[:, None, None]
    return rows[:, x0] * (1 - fx)[None, :, None] + rows[:, x1] * fx[None, :, None]


def reference_blob(image: ImageView, box: Letterbox) -> np.ndarray:
    rgb = resize_slowly(to_bgr(image)[..., ::-1], box.resized_wh)
    canvas = np.full((box.network_wh[1], box.network_wh[0], 3), 114.0)
    left, top = box.offset_xy
    canvas[top:top + rgb.shape[0], left:left + rgb.shape[1]] = rgb
    return canvas.transpose(2, 0, 1)[None] / 255


@pytest.mark.parametrize('options', [{}, {'in_three_channels': True}])
@pytest.mark.parametrize('dtype', ['float32', 'float16'])
@pytest.mark.parametrize('name', LETTERBOXES)
@pytest.mark.parametrize('encoding', CANONICAL)
def test_the_tensor_equals_a_slow_reference(
    encoding: str, name: str, dtype: str, options: dict[str, bool]
) -> None:
    box = LETTERBOXES[name]
    image = encoded_view(smooth_picture(*box.source_wh), encoding, step_padding=6)
    blob = Preprocessor(dtype, **options).prepare(image, box)
    assert blob.shape == (1, 3, box.network_wh[1], box.network_wh[0])
    assert blob.dtype == dtype
    # OpenCV's 8-bit interpolation, and float16's 11 bits
    tolerance = RESIZE_LEVELS / 255 + (5e-4 if dtype == 'float16' else 0)
    assert np.abs(blob.astype(np.float64) - reference_blob(image, box)).max() <= tolerance


@pytest.mark.parametrize('dtype', ['float32', 'float16'])
def test_every_grey_level_is_exact(dtype: str) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = np.stack([levels, levels[::-1], levels.T], axis=2)
    box = fit_letterbox((16, 16), (16, 16))
    blob = Preprocessor(dtype).prepare(encoded_view(picture, 'rgb8'), box)
    exact = picture.transpose(2, 0, 1) / 255
    assert np.allclose(blob[0].astype(np.float64), exact, atol=0, rtol=np.finfo(dtype).eps)


@pytest.mark.parametrize('big_endian', [False, True])
def test_mono16_of_either_byte_order(big_endian: bool) -> None:
    picture = smooth_picture(160, 100)
    box = fit_rectangle((160, 100), 64, 32)
    prepared = Preprocessor()
    little = prepared.prepare(encoded_view(picture, 'mono16'), box).copy()
    other = prepared.prepare(encoded_view(picture, 'mono16', big_endian=big_endian), box)
    assert np.array_equal(little, other)
    wanted = reference_blob(encoded_view(picture, 'mono8'), box)
    assert np.abs(little - wanted).max() <= RESIZE_LEVELS / 255


class Carotene:
    """Stands in for cv2.resize of OpenCV's aarch64 wheels: right with three channels alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.channels: list[int] = []
        self._real = cv2.resize
        monkeypatch.setattr(preprocess.cv2, 'resize', self)

    def __call__(self, pixels: np.ndarray, *args: Any, **kwargs: Any) -> Any:
        channels = 1 if pixels.ndim == 2 else pixels.shape[2]
        self.channels.append(channels)
        scaled = self._real(pixels, *args, **kwargs)
        if pixels.dtype == np.uint8 and channels != 3:
            scaled[:, 0] ^= 0xFF  # near column 0, where it is up to 252 of 255 wrong
        return scaled


@pytest.mark.parametrize('encoding', PACKED)
def test_where_only_three_channels_are_scaled_well_all_are_scaled_as_three(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = encoded_view(smooth_picture(142, 296), encoding)
    box = fit_letterbox((142, 296), (171, 214))
    wanted = reference_blob(image, box)
    resize = Carotene(monkeypatch)
    prepared = Preprocessor(in_three_channels=True)
    for _ in range(2):
        blob = prepared.prepare(image, box)
        assert np.abs(blob - wanted).max() <= RESIZE_LEVELS / 255
    eight_bits = ENCODINGS[encoding].sample_bytes == 1
    assert resize.channels == [3 if eight_bits else ENCODINGS[encoding].channels] * 2
    if eight_bits and ENCODINGS[encoding].channels != 3:
        blob = Preprocessor(in_three_channels=False).prepare(image, box)
        assert np.abs(blob - wanted).max() > 100 / 255, 'else this test shows nothing'


def test_the_border_stays_grey_frame_after_frame() -> None:
    box = fit_letterbox((40, 20), (64, 64))
    prepared = Preprocessor()
    for seed in range(3):
        noise = np.random.default_rng(seed).integers(0, 256, (20, 40, 3), np.uint8)
        blob = prepared.prepare(encoded_view(noise, 'bgr8'), box)
        left, top = box.offset_xy
        width, height = box.resized_wh
        border = np.ones(blob.shape[2:], bool)
        border[top:top + height, left:left + width] = False
        assert np.allclose(blob[0][:, border], 114 / 255)


def test_rgb_and_bgr_of_one_picture_give_one_tensor() -> None:
    box = fit_rectangle((160, 100), 64, 32)
    picture = smooth_picture(160, 100)
    blobs = [Preprocessor().prepare(encoded_view(picture, name), box)
             for name in ('bgr8', 'rgb8', 'bgra8', 'rgba8')]
    assert all(np.array_equal(blobs[0], blob) for blob in blobs[1:])


@pytest.mark.parametrize('source', [(1, 1), (1, 900), (900, 1), (2, 2), (7, 3), (1, 40_000)])
@pytest.mark.parametrize('encoding', ['bgr8', 'mono8', 'mono16', 'bayer_rggb8', 'bayer_gbrg8'])
def test_odd_sizes(source: tuple[int, int], encoding: str) -> None:
    box = fit_rectangle(source, 64, 32)
    blob = Preprocessor().prepare(encoded_view(smooth_picture(*source), encoding), box)
    assert np.isfinite(blob).all()
    assert 0 <= blob.min() <= blob.max() <= 1


# ---- nothing is copied


class Spy:
    """Stands in for an OpenCV function and remembers where its input lay."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.inputs: list[tuple[int, tuple[int, ...]]] = []
        self._real = getattr(cv2, name)
        monkeypatch.setattr(preprocess.cv2, name, self)

    def __call__(self, pixels: np.ndarray, *args: Any, **kwargs: Any) -> Any:
        self.inputs.append((pixels.__array_interface__['data'][0], pixels.strides))
        return self._real(pixels, *args, **kwargs)


def _message(encoding: str, step_padding: int = 8) -> tuple[bytes, int, ImageView]:
    data, step = encode_image(smooth_picture(160, 100), encoding, step_padding)
    image = ImageView.from_buffer(data, width=160, height=100, encoding=encoding, step=step)
    return data, step, image


def _address(data: bytes) -> int:
    return np.frombuffer(data, np.uint8).__array_interface__['data'][0]


@pytest.mark.parametrize('encoding', PACKED)
def test_the_resize_reads_the_message_itself(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, step, image = _message(encoding)
    resize = Spy(monkeypatch, 'resize')
    Preprocessor(in_three_channels=False).prepare(image, fit_rectangle((160, 100), 64, 32))
    [(address, strides)] = resize.inputs
    assert (address, strides[0]) == (_address(data), step)


@pytest.mark.parametrize('encoding', ['bgr8', 'rgb8', 'bgra8', 'rgba8'])
def test_without_scaling_the_channels_are_read_from_the_message_itself(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, step, image = _message(encoding)
    resize, extract = Spy(monkeypatch, 'resize'), Spy(monkeypatch, 'extractChannel')
    Preprocessor().prepare(image, fit_letterbox((160, 100), (160, 128)))
    assert not resize.inputs
    assert [(address, strides[0]) for address, strides in extract.inputs] == [
        (_address(data), step)
    ] * 3


@pytest.mark.parametrize('encoding', ['nv12', 'nv21', 'uyvy', 'yuyv', 'bayer_rggb8'])
def test_conversions_read_the_message_itself(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, step, image = _message(encoding)
    convert = Spy(monkeypatch, 'cvtColor')
    Preprocessor().prepare(image, fit_rectangle((160, 100), 64, 32))
    assert [(address, strides[0]) for address, strides in convert.inputs] == [
        (_address(data), step)
    ]


@pytest.mark.parametrize('options', [{}, {'in_three_channels': True}])
@pytest.mark.parametrize('dtype', ['float32', 'float16'])
@pytest.mark.parametrize('network', [(320, 192), (640, 480)])
@pytest.mark.parametrize('encoding', CANONICAL)
def test_further_frames_allocate_nothing_of_an_images_size(
    encoding: str, network: tuple[int, int], dtype: str, options: dict[str, bool]
) -> None:
    """What numpy takes is told to tracemalloc, OpenCV's outputs in numpy arrays included."""
    box = fit_letterbox((640, 480), network)
    image = encoded_view(np.zeros((480, 640, 3), np.uint8), encoding)
    prepared = Preprocessor(dtype, **options)
    blob = prepared.prepare(image, box)
    tracemalloc.start()
    try:
        for _ in range(3):
            assert prepared.prepare(image, box) is blob
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 120_000  # numpy casts in blocks of 8192 values


def test_tracemalloc_would_see_a_copy() -> None:
    image = encoded_view(np.zeros((480, 640, 3), np.uint8), 'rgb8')
    tracemalloc.start()
    try:
        to_bgr(image)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes >= 640 * 480 * 3


# ---- the kept geometries


def test_the_tensor_is_kept_per_geometry_and_encoding() -> None:
    prepared = Preprocessor()
    wide, high = fit_rectangle((160, 100), 64, 32), fit_rectangle((100, 160), 64, 32)
    first = prepared.prepare(encoded_view(smooth_picture(160, 100), 'bgr8'), wide)
    other = prepared.prepare(encoded_view(smooth_picture(100, 160), 'bgr8'), high)
    mono = prepared.prepare(encoded_view(smooth_picture(160, 100), 'mono8'), wide)
    again = prepared.prepare(encoded_view(smooth_picture(160, 100), 'bgr8'), wide)
    assert again is first
    assert len({id(first), id(other), id(mono)}) == 3


def test_the_least_recently_used_geometry_is_dropped() -> None:
    prepared = Preprocessor()

    def tensor_of(width: int) -> Any:
        image = encoded_view(smooth_picture(width, 20), 'bgr8')
        return prepared.prepare(image, fit_rectangle((width, 20), 64, 32))

    kept = [tensor_of(width) for width in range(30, 38)]
    assert tensor_of(30) is kept[0]  # makes the second one the oldest
    tensor_of(99)
    assert tensor_of(30) is kept[0]
    assert tensor_of(31) is not kept[1]
