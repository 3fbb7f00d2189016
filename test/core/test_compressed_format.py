"""The format of a compressed image: what the picture inside it is."""

from __future__ import annotations

import cv2
from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from yolov7_trt_ros.core.image import ImageView, is_measurement
from yolov7_trt_ros.core.pictures.compressed_format import parse_format
from yolov7_trt_ros.core.preprocess import decode_compressed, to_bgr
from yolov7_trt_ros.errors import ImageError
from yolov7_trt_ros.testing import smooth_picture

BGR = np.ascontiguousarray(smooth_picture(64, 48)[..., ::-1])
GREY = cv2.cvtColor(BGR, cv2.COLOR_BGR2GRAY)
ORDERS = ('rggb', 'bggr', 'gbrg', 'grbg')  # colours of the 2 x 2 mosaic, row by row


def encode(pixels: np.ndarray, suffix: str) -> bytes:
    return bytes(cv2.imencode(suffix, pixels, [cv2.IMWRITE_JPEG_QUALITY, 100])[1])


def mosaic(order: str) -> np.ndarray:
    pixels = np.empty(BGR.shape[:2], np.uint8)
    for place, colour in enumerate(order):
        row, column = divmod(place, 2)
        pixels[row::2, column::2] = BGR[row::2, column::2, 'bgr'.index(colour)]
    return pixels


@pytest.mark.parametrize(('text', 'source', 'codec', 'target'), [
    ('bgr8; jpeg compressed bgr8', 'bgr8', 'jpeg', 'bgr8'),
    ('bayer_rggb8; jpeg compressed ', 'bayer_rggb8', 'jpeg', ''),
    ('BAYER_RGGB8;JPEG  Compressed   MONO8 ', 'bayer_rggb8', 'jpeg', 'mono8'),
    ('; jpeg compressed bgr8', '', 'jpeg', 'bgr8'),
    ('16UC1; compressedDepth png', '16uc1', 'compresseddepth', ''),
    ('mono8; png compressed', 'mono8', 'png', ''),
    ('jpeg', '', 'jpeg', ''), ('image/jpeg', '', 'jpeg', ''), ('', '', '', ''),
    ('compressedDepth', '', 'compresseddepth', ''), ('bayer_gbrg8', 'bayer_gbrg8', '', ''),
    (';', '', '', ''), (';;;', '', ';;', ''),
])
def test_the_parts(text: str, source: str, codec: str, target: str) -> None:
    told = parse_format(text)
    assert (told.source, told.codec, told.target) == (source, codec, target)


@given(st.text(max_size=300))
def test_any_text_has_a_meaning_or_is_depth(text: str) -> None:
    told = parse_format(text)
    if told.measurement:
        with pytest.raises(ImageError, match='depth'):
            told.content()
    else:
        assert told.content()


@pytest.mark.parametrize('order', ORDERS)
@pytest.mark.parametrize('form', [
    'bayer_{}8; jpeg compressed ', 'bayer_{}8; jpeg compressed', 'bayer_{}8; png compressed ',
    'bayer_{}8; tiff compressed ', 'BAYER_{}8; PNG COMPRESSED', 'bayer_{}8',
    '; png compressed bayer_{}8',
])
def test_a_mosaic_is_one_as_in_raw_messages(order: str, form: str) -> None:
    suffix = next((f'.{kind}' for kind in ('png', 'tiff') if kind in form.lower()), '.jpg')
    pixels = mosaic(order)
    image = decode_compressed(encode(pixels, suffix), form.format(order))
    assert image.encoding.name == f'bayer_{order}8'
    raw = ImageView.from_array(pixels, f'bayer_{order}8')
    difference = np.abs(to_bgr(image).astype(int) - to_bgr(raw))
    assert difference.mean() < (3 if suffix == '.jpg' else 0.001)


def test_a_mosaic_of_16_bits_or_in_three_equal_channels() -> None:
    pixels = mosaic('grbg')
    for stored in (pixels.astype(np.uint16) * 257, cv2.merge([pixels] * 3)):
        image = decode_compressed(encode(stored, '.png'), 'bayer_grbg16; png compressed ')
        assert image.encoding.name == 'bayer_grbg8'
        assert np.array_equal(image.pixels[..., 0], pixels)


@pytest.mark.parametrize('text', [
    'bgr8; jpeg compressed bgr8', 'rgb8; jpeg compressed bgr8', 'rgba8; png compressed bgr8',
    'bayer_rggb8; jpeg compressed bgr8', 'yuv422; jpeg compressed bgr8', '; jpeg compressed bgr8',
    'rgb16; png compressed bgr16', 'jpeg', 'png', 'tiff', 'JPG', '', '8UC3; png compressed ',
    'rgb8; png compressed ', 'bgr8; tiff compressed ', 'bayer_rggb8; png compressed ',
    'yuv422_yuy2; jpeg compressed ', 'something; jpeg compressed ', 'nv12; png compressed',
])
@pytest.mark.parametrize('suffix', ['.png', '.tiff', '.webp', '.bmp'])
def test_colour_is_colour_whatever_it_was_before(text: str, suffix: str) -> None:
    image = decode_compressed(encode(BGR, suffix), text)
    assert image.encoding.name == 'bgr8'
    assert np.abs(image.pixels.astype(int) - BGR).mean() < 1


@pytest.mark.parametrize('text', [
    'rgb8; jpeg compressed rgb8', 'rgb8; png compressed rgb8', 'bgr8; png compressed rgb8',
    'rgb8; tiff compressed ', 'rgba8; tiff compressed',
])
def test_rgb_that_was_compressed_as_if_it_were_bgr(text: str) -> None:
    image = decode_compressed(encode(BGR[..., ::-1], '.png'), text)
    assert np.array_equal(to_bgr(image), BGR)


@pytest.mark.parametrize('text', [
    'mono8; jpeg compressed ', 'mono8; jpeg compressed mono8', 'mono8; png compressed ', 'jpeg',
    'bayer_rggb8; jpeg compressed mono8', '8UC1; jpeg compressed ', 'png', '',
    'mono16; jpeg compressed mono8', 'yuv422; jpeg compressed mono8',
])
def test_grey_is_grey(text: str) -> None:
    image = decode_compressed(encode(GREY, '.png'), text)
    assert np.array_equal(to_bgr(image), cv2.merge([GREY] * 3))


@pytest.mark.parametrize('text', [
    '16UC1; png compressed ', '16uc1; PNG compressed', '16UC1; compressedDepth',
    '16UC1; compressedDepth png', '16UC1;compressedDepth rvl', '32FC1; compressedDepth png',
    '32FC1; tiff compressed ', '16UC1; jpeg compressed mono8', '16UC1', 'compressedDepth',
    '; compressedDepth png', '32FC2; png compressed ', '16SC1; png compressed', 'mono16; '
    'compressedDepth png', '64FC1; zlib compressed',
])
def test_depth_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(ImageError, match='depth image'):
        decode_compressed(encode(GREY, '.png'), text)


@pytest.mark.parametrize(('text', 'named'), [
    ('nv12; png compressed ', 'packed YUV'), ('polarised8; png compressed ', 'unknown encoding'),
    ('BayerRG8; jpeg compressed', 'unknown encoding'), ('zstd', 'unknown encoding'),
])
def test_a_single_channel_that_could_be_anything_is_refused(text: str, named: str) -> None:
    with pytest.raises(ImageError, match=named):
        decode_compressed(encode(GREY, '.png'), text)


def test_a_long_format_is_cut_in_messages() -> None:
    with pytest.raises(ImageError) as caught:
        decode_compressed(b'nothing', '\x1b[31m' + 'x' * 5_000_000)
    assert len(str(caught.value)) < 300
    assert '\x1b' not in str(caught.value)


@pytest.mark.parametrize(('encoding', 'wanted'), [
    ('16UC1', True), ('32FC1', True), ('32FC', True), ('16uc3', True), ('8UC2', True),
    ('8SC1', True), ('64FC(12)', True), ('8UC1', False), ('8uc3', False), ('8UC4', False),
    ('mono16', False), ('bgr8', False), ('', False), ('16UC1x', False),
])
def test_measurements(encoding: str, wanted: bool) -> None:
    assert is_measurement(encoding) == wanted
