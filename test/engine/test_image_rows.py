"""Images as rows of bytes, for copies to a GPU: in every layout, without a copy where possible."""

from __future__ import annotations

import numpy as np
import pytest

from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.engine.gpu.frame_layout import image_rows
from yolov7_trt_ros.testing import encode_image, smooth_picture


@pytest.mark.parametrize('padding', [0, 6])
@pytest.mark.parametrize('encoding', ['bgr8', 'mono8', 'mono16', 'rgba8', 'bayer_rggb8'])
def test_rows_are_the_bytes_of_the_message(encoding: str, padding: int) -> None:
    data, step = encode_image(smooth_picture(20, 8), encoding, padding)
    image = ImageView.from_buffer(data, width=20, height=8, encoding=encoding, step=step)
    rows = image_rows(image)
    whole = np.frombuffer(data, np.uint8)
    row_bytes = 20 * image.encoding.pixel_bytes
    assert rows.shape == (8, row_bytes) and rows.dtype == np.uint8
    for number, row in enumerate(rows):
        np.testing.assert_array_equal(row, whole[number * step:][:row_bytes])
    assert np.shares_memory(rows, whole)


def test_samples_in_the_other_byte_order_and_with_gaps_are_copied() -> None:
    samples = np.arange(8 * 20, dtype=np.uint16).reshape(8, 20)
    little = samples.astype('<u2').view(np.uint8).reshape(8, 40)
    data = samples.astype('>u2').tobytes()
    big = ImageView.from_buffer(
        data, width=20, height=8, encoding='mono16', step=40, big_endian=True
    )
    np.testing.assert_array_equal(image_rows(big), little)
    wide = np.repeat(samples, 2, axis=1)
    sliced = ImageView.from_array(wide[:, ::2], 'mono16')
    np.testing.assert_array_equal(image_rows(sliced), little)
