"""Bags written with rosbags, as a camera would have recorded them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
import struct
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores

from yolov7_trt_ros.core.units import NS_PER_S

TYPES = get_typestore(Stores.ROS2_HUMBLE)
IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED = 'sensor_msgs/msg/CompressedImage'
PERIOD_NS = 33_000_000


def header(stamp_ns: int, frame_id: str = 'camera') -> Any:
    time = TYPES.types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, NS_PER_S))
    return TYPES.types['std_msgs/msg/Header'](time, frame_id)


def image_message(bgr: np.ndarray, encoding: str, stamp_ns: int, **fields: Any) -> Any:
    """Return a message of a BGR picture; `jpeg` and `png` are compressed."""
    if encoding in ('jpeg', 'png'):
        data = cv2.imencode(f'.{encoding}', bgr)[1].reshape(-1)
        return TYPES.types[COMPRESSED](header(stamp_ns), encoding, data)
    pixels = {
        'bgr8': lambda: bgr,
        'rgb8': lambda: bgr[..., ::-1],
        'mono8': lambda: cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY),
        'yuv422': lambda: np.stack(
            [np.full(bgr.shape[:2], 128, np.uint8), cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)], axis=2
        ),
    }[encoding]()
    pixels = np.ascontiguousarray(pixels)
    height, width = bgr.shape[:2]
    values = {
        'height': height, 'width': width, 'encoding': encoding, 'is_bigendian': 0,
        'step': pixels.nbytes // height, 'data': pixels.reshape(-1),
    }
    return TYPES.types[IMAGE](header(stamp_ns), **(values | fields))


def message_type(message: Any) -> str:
    return str(message.__msgtype__)


@pytest.fixture
def picture() -> np.ndarray:
    """Return a BGR photograph of a person, 320 x 256."""
    import skimage.data

    bgr = skimage.data.astronaut()[:410, :, ::-1]
    return np.ascontiguousarray(cv2.resize(bgr, (320, 256)))


@pytest.fixture
def chunk_starts() -> Callable[[bytes], list[int]]:
    """Return where the chunks of an MCAP file start."""

    def find(data: bytes) -> list[int]:
        at, starts = 8, []
        while at < len(data) - 8:
            opcode, length = struct.unpack_from('<BQ', data, at)
            starts += [at] if opcode == 6 else []
            at += 9 + length
        return starts

    return find


@pytest.fixture
def make_message() -> Callable[..., Any]:
    return image_message


@pytest.fixture
def make_bag(tmp_path: Path) -> Callable[..., Path]:
    """Write (topic, message or type and bytes) pairs, one every 33 ms; return the bag folder."""

    def make(
        name: str,
        recorded: Sequence[tuple[str, Any]],
        *,
        storage: str = 'mcap',
        start_ns: int = 5 * NS_PER_S,
    ) -> Path:
        folder = tmp_path / name
        with Writer(folder, version=9, storage_plugin=StoragePlugin[storage.upper()]) as writer:
            connections: dict[str, Any] = {}
            for number, (topic, message) in enumerate(recorded):
                if isinstance(message, tuple):
                    kind, data = message
                else:
                    kind = message_type(message)
                    data = TYPES.serialize_cdr(message, kind)
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, kind, typestore=TYPES)
                writer.write(connections[topic], start_ns + number * PERIOD_NS, bytes(data))
        return folder

    return make
