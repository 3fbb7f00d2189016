"""
A camera made of pictures, a video or a bag: plays frames into an image topic.

    ros2 run yolov7_trt_ros image_player_node --ros-args -p source:=drive.mp4 -p rate_hz:=30.0

Pictures are shown through a slowly moving view, a few seconds each; videos and bags as they are.
Publishes `image_raw` (sensor_msgs/Image) or `image_raw/compressed`, as camera drivers do. If the
source cannot be read any more, it logs that and ends with exit status 1.
With `stamps:=original` a bag is played in recorded time instead, each topic under its name.

"""

from __future__ import annotations

import array
from collections.abc import Callable, Iterator
import itertools
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from yolov7_trt_ros.core.preprocess import to_bgr
from yolov7_trt_ros.errors import ImageError, InputError, SettingError
from yolov7_trt_ros.nodes.diagnostics import publish_failures
from yolov7_trt_ros.nodes.parameter_spec import (
    declare_parameters,
    ParameterSpec,
    read_parameters,
    SteadyParameters,
)
from yolov7_trt_ros.nodes.process.node_main import run_node
from yolov7_trt_ros.nodes.steady_clock import steady_clock
from yolov7_trt_ros.nodes.tools.source_end import end_with_source, end_without_source
from yolov7_trt_ros.replay.file_kinds import local_path
from yolov7_trt_ros.replay.frames import Frame
from yolov7_trt_ros.replay.sources import open_frames

_SECONDS_PER_PICTURE = 4.0
_MOST_NOTES = 100
_ENCODINGS = ('bgr8', 'rgb8', 'mono8', 'yuv422_yuy2', 'jpeg')
_ORIGINAL = 'original'


def _fixed(
    name: str, default: float | bool | str, description: str, **limits: Any
) -> ParameterSpec:
    return ParameterSpec(
        name, default, description, start_only=True, otherwise='fixed at start', **limits
    )


PARAMETERS = (
    _fixed('source', '', 'Picture, folder of pictures, video or bag.'),
    _fixed('rate_hz', 15.0, 'Frames per second.', minimum=0.001, maximum=1000.0),
    _fixed('width', 640, 'Width of the view of a picture, pixels.', minimum=2, maximum=16384),
    _fixed('height', 480, 'Height of the view of a picture, pixels.', minimum=2, maximum=16384),
    _fixed('encoding', 'bgr8', 'Encoding of the published images.', choices=_ENCODINGS),
    _fixed('jpeg_quality', 95, 'JPEG quality of the encoding jpeg.', minimum=1, maximum=100),
    _fixed('loop', True, 'Start again at the end.'),
    _fixed('frame_id', 'camera', 'Frame id of the published images.'),
    _fixed('reliable', False, 'Publish images reliably instead of best effort.'),
    _fixed('stamps', 'now', 'original: play a bag in recorded time.', choices=('now', _ORIGINAL)),
    _fixed('rate', 1.0, 'Speed factor of a bag. 0: no waiting.', minimum=0.0, maximum=1000.0),
    _fixed('clock', False, 'Publish the time of the bag on /clock.'),
    _fixed('wait_for_subscribers', False, 'Start a bag when every topic has a subscriber.'),
)


class ImagePlayerNode(SteadyParameters):
    """
    Publishes frames at `rate_hz` until the source ends (or for ever with `loop`).

    With `stamps:=original` it is a `BagPlayer` that does. `PARAMETERS` are those of the node.

    Raises
    ------
    SettingError
        A parameter is out of its range.
    InputError
        The source cannot be opened.

    """

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__('image_player', **node_arguments)
        declare_parameters(self, PARAMETERS)
        values = read_parameters(self, PARAMETERS)
        source = local_path(values['source'])
        publish_failures(self)
        if values['stamps'] == _ORIGINAL:
            self._play_bag(source, values)
            return
        if values['clock'] or values['wait_for_subscribers'] or values['rate'] != 1:
            raise SettingError('clock, rate and wait_for_subscribers need stamps:=original')
        self._play_frames(source, values)

    def _play_bag(self, source: Path, values: dict[str, Any]) -> None:
        from yolov7_trt_ros.nodes.tools.bag_player import (
            BagPlayer,  # rosbags is an optional package
        )

        self._bag_player = BagPlayer(self, source, **{
            name: values[name] for name in ('rate', 'clock', 'reliable', 'wait_for_subscribers')
        })

    def _play_frames(self, source: Path, values: dict[str, Any]) -> None:
        self._encoding = values['encoding']
        self._frame_id = values['frame_id']
        self._jpeg = [cv2.IMWRITE_JPEG_QUALITY, values['jpeg_quality']]
        self._noted: set[str] = set()
        self._frames = read_frames(
            source, (values['width'], values['height']), values['rate_hz'], loop=values['loop'],
            note=self._note,
        )
        self._next = next(self._frames, None)
        if self._next is None:
            reason = f': {min(self._noted)}' if self._noted else ''
            raise InputError(f'source {values["source"]!r} holds no frames{reason}')
        reliability = (
            ReliabilityPolicy.RELIABLE if values['reliable'] else ReliabilityPolicy.BEST_EFFORT
        )
        compressed = self._encoding == 'jpeg'
        self._publisher = self.create_publisher(
            CompressedImage if compressed else Image,
            'image_raw/compressed' if compressed else 'image_raw',
            QoSProfile(depth=1, reliability=reliability),
        )
        self.published = 0
        self._timer = self.create_timer(
            1.0 / values['rate_hz'], self._publish_next, clock=steady_clock()
        )

    def _publish_next(self) -> None:
        if self._next is None:
            end_with_source(self, self.published)
        try:
            self._publish(self._next)
            self._next = next(self._frames, None)
        except InputError as exc:
            end_without_source(self, self._timer, self.published, exc)

    def _publish(self, bgr: NDArray[np.uint8]) -> None:
        message = self._message(bgr)
        message.header.frame_id = self._frame_id
        message.header.stamp = self.get_clock().now().to_msg()
        self._publisher.publish(message)
        self.published += 1

    def _note(self, text: str) -> None:
        """Warn of a frame that is passed over; once, even if the source is played again."""
        if len(self._noted) < _MOST_NOTES and text not in self._noted:
            self._noted.add(text)
            self.get_logger().warning(text)

    def _message(self, bgr: NDArray[np.uint8]) -> Image | CompressedImage:
        if self._encoding == 'jpeg':
            jpeg = _encode_jpeg(bgr, self._jpeg)
            return CompressedImage(format='jpeg', data=array.array('B', jpeg.tobytes()))
        pixels = encode_pixels(bgr, self._encoding)
        height, width = pixels.shape[:2]
        message = Image(height=height, width=width, encoding=self._encoding)
        message.step = pixels.nbytes // height
        message.data = array.array('B', pixels.tobytes())
        return message


def _encode_jpeg(bgr: NDArray[np.uint8], options: list[int]) -> NDArray[np.uint8]:
    try:
        done, jpeg = cv2.imencode('.jpg', bgr, options)
    except cv2.error as exc:
        raise ImageError(f'cannot encode a frame as JPEG: {exc.err}') from exc
    if not done:
        raise ImageError(
            f'cannot encode a frame of {bgr.shape[1]}x{bgr.shape[0]} pixels as JPEG; choose '
            'another encoding'
        )
    return np.asarray(jpeg, np.uint8)


def encode_pixels(bgr: NDArray[np.uint8], encoding: str) -> NDArray[np.uint8]:
    """
    Return a BGR image (H, W, 3) in another encoding, as an array (H, W[, C]).

    Two pixels share their colour in `yuv422_yuy2`: an odd last column is left out there.

    """
    if encoding == 'bgr8':
        return bgr
    if encoding == 'rgb8':
        return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
    if encoding == 'mono8':
        return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), np.uint8)
    # BT.601 studio range, the one COLOR_YUV2BGR_YUY2 reads; chroma of each pixel pair averaged
    bgr = bgr[:, : bgr.shape[1] // 2 * 2]
    blue, green, red = (bgr[:, :, channel].astype(np.float32) for channel in range(3))
    luma = 16 + 0.257 * red + 0.504 * green + 0.098 * blue
    chroma_u = 128 - 0.148 * red - 0.291 * green + 0.439 * blue
    chroma_v = 128 + 0.439 * red - 0.368 * green - 0.071 * blue
    yuyv = np.empty((*bgr.shape[:2], 2), np.float32)
    yuyv[:, :, 0] = luma
    yuyv[:, 0::2, 1] = (chroma_u[:, 0::2] + chroma_u[:, 1::2]) / 2
    yuyv[:, 1::2, 1] = (chroma_v[:, 0::2] + chroma_v[:, 1::2]) / 2
    return np.asarray(np.clip(np.rint(yuyv), 0, 255), np.uint8)


def read_frames(
    source: Path, view_wh: tuple[int, int], rate_hz: float, *, loop: bool,
    note: Callable[[str], None],
) -> Iterator[NDArray[np.uint8]]:
    """
    Yield BGR frames (H, W, 3) of a source, for ever with `loop`.

    Pictures come as a moving view of `view_wh` pixels. Frames that cannot be read or shown are
    passed over; `note` gets the reason, and warnings of the source.

    Raises
    ------
    InputError
        The source cannot be opened, also later: each round opens it again.

    """
    for _ in itertools.count() if loop else range(1):
        found = False
        for bgr, is_picture in _source_images(source, note):
            found = True
            if is_picture:
                yield from moving_view(bgr, view_wh, round(_SECONDS_PER_PICTURE * rate_hz))
            else:
                yield bgr
        if not found:
            return


def _source_images(
    source: Path, note: Callable[[str], None]
) -> Iterator[tuple[NDArray[np.uint8], bool]]:
    frames = open_frames(source)
    known = list(frames.warnings)
    for warning in known:
        note(warning)
    for frame in frames:
        if not isinstance(frame, Frame):
            note(f'passed over: {frame.error}')
            continue
        try:
            bgr = to_bgr(frame.image)
        except ImageError as exc:
            note(f'passed over: {frame.source}: {exc}')
            continue
        yield bgr, frames.kind == 'pictures'
    for warning in frames.warnings[len(known):]:
        note(warning)


def moving_view(
    picture: NDArray[np.uint8], view_wh: tuple[int, int], count: int
) -> Iterator[NDArray[np.uint8]]:
    """
    Yield `count` views of `view_wh` pixels whose window wanders over a picture and zooms a little.

    The window has the view's aspect ratio and 80 to 100 % of the largest that fits.

    """
    height, width = picture.shape[:2]
    largest = min(width / view_wh[0], height / view_wh[1])
    for index in range(count):
        phase = 2 * math.pi * index / max(1, count)
        scale = largest * (0.9 + 0.1 * math.cos(phase))
        window_w, window_h = scale * view_wh[0], scale * view_wh[1]
        left = (width - window_w) * (0.5 + 0.5 * math.sin(phase))
        top = (height - window_h) * (0.3 - 0.3 * math.cos(phase))
        matrix = np.array([[scale, 0, left], [0, scale, top]], np.float32)
        view = cv2.warpAffine(
            picture, matrix, view_wh, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        yield np.asarray(view, np.uint8)


def main(args: list[str] | None = None) -> int:
    """Play until the source ends; returns the exit code."""
    return run_node('image_player', ImagePlayerNode, args, about=__doc__, table=PARAMETERS)


if __name__ == '__main__':
    raise SystemExit(main())
