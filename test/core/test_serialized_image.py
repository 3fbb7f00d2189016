"""Image messages from their bytes: as rosbags writes them, in both byte orders, and cut off."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
from rosbags.typesys import get_typestore, Stores

from yolov7_trt_ros.core.messages.image_message import view_message
from yolov7_trt_ros.core.messages.serialized_image import (
    read_compressed_image,
    read_image,
    read_stamp_ns,
)
from yolov7_trt_ros.errors import ImageError

TYPES = get_typestore(Stores.ROS2_HUMBLE)
IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
NAMES = st.text(st.characters(codec='utf-8', exclude_characters='\0'), max_size=9)
SECONDS = st.integers(-2**31, 2**31 - 1)
SIZES = st.integers(0, 2**32 - 1)


def header(sec: int = 1700000000, nanosec: int = 5, frame_id: str = 'camera') -> Any:
    time = TYPES.types['builtin_interfaces/msg/Time'](sec, nanosec)
    return TYPES.types['std_msgs/msg/Header'](time, frame_id)


def serialized(kind: str, *values: Any, little: bool = True, **head: Any) -> bytes:
    message = TYPES.types[kind](header(**head), *values)
    return bytes(TYPES.serialize_cdr(message, kind, little_endian=little))


def octets(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


@given(
    little=st.booleans(), sec=SECONDS, nanosec=SIZES, frame_id=NAMES, height=SIZES, width=SIZES,
    encoding=NAMES, big=st.integers(0, 255), step=SIZES, data=st.binary(max_size=40),
)
def test_every_field_of_an_image(
    little: bool, sec: int, nanosec: int, frame_id: str, height: int, width: int, encoding: str,
    big: int, step: int, data: bytes,
) -> None:
    message = serialized(
        IMAGE, height, width, encoding, big, step, octets(data), little=little, sec=sec,
        nanosec=nanosec, frame_id=frame_id,
    )
    read = read_image(message)
    assert (read.header.sec, read.header.nanosec, read.header.frame_id) == (
        sec, nanosec, frame_id
    )
    assert (read.height, read.width, read.encoding, read.is_bigendian, read.step) == (
        height, width, encoding, big, step
    )
    assert bytes(read.data) == data
    assert read_stamp_ns(message) == read.header.stamp_ns == sec * 10**9 + nanosec


@given(little=st.booleans(), frame_id=NAMES, form=NAMES, data=st.binary(max_size=40))
def test_every_field_of_a_compressed_image(
    little: bool, frame_id: str, form: str, data: bytes
) -> None:
    message = serialized(COMPRESSED, form, octets(data), little=little, frame_id=frame_id)
    read = read_compressed_image(message)
    assert (read.header.frame_id, read.format, bytes(read.data)) == (frame_id, form, data)


@pytest.mark.parametrize('encoding', ['bgr8', 'mono16'])
@pytest.mark.parametrize('frame_id', ['', 'a', 'ab', 'abc', 'abcd'])
def test_pixels_lie_in_the_message(encoding: str, frame_id: str) -> None:
    """Whatever the strings before them, at a multiple of four bytes: 16 bits are aligned."""
    pixels = np.arange(4 * 6 * 3 * 2, dtype=np.uint8)
    step = 6 * 3 if encoding == 'bgr8' else 6 * 2
    message = serialized(IMAGE, 4, 6, encoding, 0, step, pixels, frame_id=frame_id)
    image = view_message(read_image(message))
    whole = np.frombuffer(message, np.uint8)
    assert np.shares_memory(image.pixels, whole)
    assert image.pixels.flags.aligned
    assert image.pixels.tobytes() == pixels.tobytes()[:4 * step]


def test_a_message_cut_anywhere_is_refused() -> None:
    pixels = octets(bytes(range(36)))
    for message, read in (
        (serialized(IMAGE, 3, 4, 'bgr8', 0, 12, pixels), read_image),
        (serialized(COMPRESSED, 'jpeg', pixels), read_compressed_image),
    ):
        assert read(message)
        for length in range(len(message)):
            with pytest.raises(ImageError, match='truncated|unknown representation'):
                read(message[:length])
            assert read_stamp_ns(message[:length]) in (0, 1700000000_000000005)


@given(st.binary(max_size=80))
def test_rubbish_is_refused_or_read(message: bytes) -> None:
    read_stamp_ns(message)
    for read in (read_image, read_compressed_image):
        for text in (message, b'\0\1\0\0' + message):
            with contextlib.suppress(ImageError):
                read(text)


@pytest.mark.parametrize('start', [b'', b'\0\3\0\0', b'\0\7\0\0', b'\1\1\0\0'])
def test_other_representations_are_named(start: bytes) -> None:
    message = start + serialized(IMAGE, 1, 1, 'mono8', 0, 1, octets(b'x'))[4:] if start else b''
    with pytest.raises(ImageError, match=rf'\({start.hex() or "empty"}\); expected plain CDR'):
        read_image(message)
    assert read_stamp_ns(message) == 0


def test_text_that_is_no_utf_8_is_shown_as_far_as_it_goes() -> None:
    message = serialized(COMPRESSED, 'jpeg', octets(b'x'), frame_id='caméra')
    read = read_compressed_image(message.replace('é'.encode(), b'\xff\xfe'))
    assert read.header.frame_id == 'cam\ufffd\ufffdra'
