"""Cameras of a soak: each a participant of its own that can restart and send damaged images."""

from __future__ import annotations

import array
import itertools
from pathlib import Path
import struct
import time
from typing import Any, NamedTuple
import zlib

import cv2
import numpy as np
from photographs import load_photographs
import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from soak_parts.ledger import Ledger

from yolov7_trt_ros.core.units import NS_PER_S
from yolov7_trt_ros.nodes.tools.image_player_node import encode_pixels

JPEG = 'jpeg'
ENCODINGS = ('bgr8', 'mono8', 'yuv422_yuy2', 'rgb8', JPEG)
SIZES_WH = ((640, 480), (512, 384), (424, 240), (320, 240))
CORRUPT_RAW = ('cut data', 'wrong step', 'unknown encoding', 'no data')
CORRUPT_JPEG = ('cut JPEG', 'not a JPEG', 'no data', 'endless JPEG', 'giant PNG')
FRAMES = 3  # different ones of a camera
ENDLESS_BYTES = 3 << 20
GIANT_PX = 16384
BURST = 4  # no deeper than the queues of camera and detector


class Mode(NamedTuple):
    """What a camera may come back with after a restart."""

    encoding: str
    reliable: bool


class Camera:
    """
    Publishes on one topic, when `publish_if_due` is called often enough.

    Parameters
    ----------
    name, topic, size_wh, mode
        What it is.
    rate_hz
        Images a second.
    ledger
        Told of every image before it is published.
    pictures
        Folder of what it sends; None for scikit-image's.

    """

    def __init__(
        self, name: str, topic: str, size_wh: tuple[int, int], mode: Mode, *, rate_hz: float,
        ledger: Ledger, pictures: Path | None = None,
    ) -> None:
        self.name, self.topic, self.size_wh, self.mode = name, topic, size_wh, mode
        self.paused = False
        self.sent_ns: list[int] = []
        self._period_ns = int(NS_PER_S / rate_hz)
        self._due_ns = 0
        self._ledger, self._pictures = ledger, pictures
        self._node: Node | None = None
        self.start()

    @property
    def compressed(self) -> bool:
        """Whether it publishes compressed images."""
        return self.mode.encoding == JPEG

    @property
    def running(self) -> bool:
        """Whether it is there at all."""
        return self._node is not None

    def start(self, mode: Mode | None = None) -> None:
        """Come up as a participant, in another mode if wanted."""
        self.mode = mode or self.mode
        self._messages = itertools.cycle(
            make_messages(self.size_wh, self.mode.encoding, self._pictures)
        )
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self._node = Node(
            self.name, context=self._context, enable_rosout=False, start_parameter_services=False
        )
        reliability = ReliabilityPolicy.BEST_EFFORT
        if self.mode.reliable:
            reliability = ReliabilityPolicy.RELIABLE
        self._publisher = self._node.create_publisher(
            CompressedImage if self.compressed else Image, self.topic,
            QoSProfile(depth=5, reliability=reliability),
        )

    def stop(self) -> None:
        """Go, participant and all."""
        if self._node is not None:
            self._node.destroy_node()
            rclpy.shutdown(context=self._context)
            self._node = None

    def publish_if_due(self) -> None:
        """Publish the next image if it is due and the camera is not paused."""
        now_ns = time.monotonic_ns()
        if self._node is None or self.paused or now_ns < self._due_ns:
            return
        self._due_ns = max(self._due_ns + self._period_ns, now_ns)  # no burst after a delay
        self._publish(next(self._messages), usable=True)

    def publish_burst(self) -> None:
        """Publish images at once, so that some wait and one is in work."""
        for _ in range(BURST):
            self._publish(next(self._messages), usable=True)

    def publish_corrupt(self, kind: str) -> None:
        """Publish one damaged image."""
        message = make_messages(self.size_wh, self.mode.encoding)[0]
        spoil(message, kind)
        self._publish(message, usable=False)

    def _publish(self, message: Any, *, usable: bool) -> None:
        stamp_ns = time.time_ns()
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, NS_PER_S)
        message.header.frame_id = self.name
        self._ledger.note_sent(self.topic, stamp_ns, usable=usable)
        self.sent_ns.append(stamp_ns)
        self._publisher.publish(message)


def make_messages(
    size_wh: tuple[int, int], encoding: str, pictures: Path | None = None
) -> list[Any]:
    """Return some different images of a size, of a folder or of scikit-image."""
    frames = load_photographs(pictures, *size_wh, tiles=1, count=FRAMES)
    return [make_message(each, encoding) for each in frames]


def make_message(bgr: np.ndarray, encoding: str) -> Any:
    """Return a message of a picture."""
    if encoding == JPEG:
        data = cv2.imencode('.jpg', bgr)[1].tobytes()
        return CompressedImage(format='jpeg', data=array.array('B', data))
    pixels = encode_pixels(np.ascontiguousarray(bgr), encoding)
    height, width = bgr.shape[:2]
    message = Image(height=height, width=width, encoding=encoding, step=pixels.nbytes // height)
    message.data = array.array('B', pixels.tobytes())
    return message


def giant_png() -> bytes:
    """Return a whole grey PNG of some kilobytes that decodes to 256 MiB."""
    header = struct.pack('>IIBBBBB', GIANT_PX, GIANT_PX, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(GIANT_PX * (1 + GIANT_PX // 8)), 9)
    chunks = ((b'IHDR', header), (b'IDAT', rows), (b'IEND', b''))
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
        for kind, data in chunks
    )


def spoil(message: Any, kind: str) -> None:
    """Make a message useless, in one of the ways of `CORRUPT_RAW` or `CORRUPT_JPEG`."""
    if kind in ('cut data', 'cut JPEG'):
        message.data = message.data[: len(message.data) // 5]
    elif kind == 'wrong step':
        message.step = message.width // 2
    elif kind == 'unknown encoding':
        message.encoding = 'no such encoding'
    elif kind == 'not a JPEG':
        message.data = array.array('B', bytes(range(256)))
    elif kind == 'no data':
        message.data = array.array('B')
    elif kind == 'endless JPEG':
        message.data = array.array('B', b'\xff\xd8' + b'\xff' * ENDLESS_BYTES)
    elif kind == 'giant PNG':
        message.format = 'png'
        message.data = array.array('B', giant_png())
    else:
        raise ValueError(f'there is no kind of damage called {kind!r}')
