"""
Fakes and synthetic images for tests of this package and of packages built on it.

Nothing the package itself runs imports this module. Needs numpy only.

"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.class_names import COCO80
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import DetectSettings, FrameTimings
from yolov7_trt_ros.core.forms.model_spec import ModelSpec, OutputLayout, TensorInfo
from yolov7_trt_ros.core.image import Encoding, find_encoding, ImageView, PixelLayout
from yolov7_trt_ros.errors import InferenceError, SettingError

FAKE_TIMINGS = FrameTimings(preprocess_ns=1_000_000, infer_ns=5_000_000, postprocess_ns=500_000)
"""Timings that a FakeDetector reports for each frame: 1 ms, 5 ms and 0.5 ms."""


def fake_spec(class_names: Sequence[str] = COCO80) -> ModelSpec:
    """Return the spec of a grid model with a free input size and the given classes."""
    return ModelSpec(
        image=TensorInfo('images', (None, 3, None, None), 'float32'),
        layout=OutputLayout.GRID,
        outputs=('output',),
        class_names=tuple(class_names),
        num_classes=len(class_names),
        strides=(8, 16, 32),
    )


def make_detections(
    source_wh: tuple[int, int], *found: tuple[Sequence[float], float, int],
    track_ids: Sequence[int] | None = None,
) -> Detections:
    """
    Return Detections from plain numbers.

    Parameters
    ----------
    source_wh
        Size of the image in pixels.
    found
        Box (left, top, right, bottom in source pixels), score and class id of each, best first.
    track_ids
        Of each, or none at all.

    """
    boxes = np.array([box for box, _, _ in found], np.float32).reshape(-1, 4)
    scores = np.array([score for _, score, _ in found], np.float32)
    class_ids = np.array([class_id for _, _, class_id in found], np.int32)
    tracks = None if track_ids is None else np.array(track_ids, np.int64)
    return Detections(boxes, scores, class_ids, source_wh, tracks)


@dataclasses.dataclass(frozen=True)
class FakeCall:
    """Arguments of one `detect` of a FakeDetector, its pixels copied."""

    size_wh: tuple[int, int]
    encoding: str
    pixels: NDArray[Any]
    settings: DetectSettings


class FakeDetector:
    """
    A Detector with scripted results.

    Parameters
    ----------
    script
        Results of successive frames: Detections are returned (with the source size as scripted),
        exceptions are raised. The last one repeats. Empty: nothing is found.
    spec
        The model it claims to be; an 80-class grid model by default.
    on_detect
        Called in each `detect`, before the script: block here on an event, or advance a fake
        clock, to play a slow detector.
    status
        What `status()` returns.
    max_batch
        Most images of `detect_batch`, which fails if one of its frames does.

    Attributes
    ----------
    calls
        One FakeCall a frame, oldest first, failed frames included.
    batches
        How many images each `detect_batch` was given.
    closed
        How often `close` was called; `detect` after it raises InferenceError.

    Examples
    --------
    >>> person = make_detections((640, 480), ((10, 20, 110, 220), 0.9, 0))
    >>> detector = FakeDetector([person, InferenceError('out of memory'), person])

    """

    backend = 'fake'

    def __init__(
        self,
        script: Sequence[Detections | Exception] = (),
        *,
        spec: ModelSpec | None = None,
        on_detect: Callable[[], object] | None = None,
        status: Mapping[str, str] | None = None,
        max_batch: int = 1,
    ) -> None:
        self.max_batch = max_batch
        self.batches: list[int] = []
        self.spec = fake_spec() if spec is None else spec
        self.calls: list[FakeCall] = []
        self.closed = 0
        self._script = list(script)
        self._on_detect = on_detect
        self._status = dict(status or {})

    def detect(
        self, image: ImageView, settings: DetectSettings
    ) -> tuple[Detections, FrameTimings]:
        """Return or raise the scripted result for this frame."""
        if self.closed:
            raise InferenceError('the detector is closed')
        index = len(self.calls)
        self.calls.append(
            FakeCall(image.size_wh, image.encoding.name, image.pixels.copy(), settings)
        )
        if self._on_detect is not None:
            self._on_detect()
        if not self._script:
            return Detections.empty(image.size_wh), FAKE_TIMINGS
        scripted = self._script[min(index, len(self._script) - 1)]
        if isinstance(scripted, Exception):
            raise scripted
        return scripted, FAKE_TIMINGS

    def detect_batch(
        self, images: Sequence[ImageView], settings: DetectSettings
    ) -> tuple[list[Detections], FrameTimings]:
        """Return or raise the scripted results for these frames."""
        if not 1 <= len(images) <= self.max_batch:
            raise SettingError(f'expected 1 to {self.max_batch} images, got {len(images)}')
        self.batches.append(len(images))
        return [self.detect(image, settings)[0] for image in images], FAKE_TIMINGS

    def status(self) -> dict[str, str]:
        """Return a copy of the status given to the constructor."""
        return dict(self._status)

    def close(self) -> None:
        """Count the call."""
        self.closed += 1


COLOURS = {
    'red': (255, 0, 0),
    'green': (0, 255, 0),
    'blue': (0, 0, 255),
    'yellow': (255, 255, 0),
    'cyan': (0, 255, 255),
    'magenta': (255, 0, 255),
    'white': (255, 255, 255),
    'black': (0, 0, 0),
}
"""The colours of `colour_blocks`, RGB, in reading order."""


def colour_blocks(block_px: int = 16) -> NDArray[np.uint8]:
    """Return an RGB picture (2 b, 4 b, 3) of eight plain squares: `COLOURS` in reading order."""
    colours = np.array(list(COLOURS.values()), np.uint8).reshape(2, 4, 3)
    return colours.repeat(block_px, axis=0).repeat(block_px, axis=1)


def smooth_picture(width: int, height: int) -> NDArray[np.uint8]:
    """Return an RGB picture (height, width, 3) of slow gradients, different in each channel."""
    y, x = np.mgrid[:height, :width].astype(float)
    red = 40 + 170 * x / max(1, width - 1)
    green = 40 + 170 * y / max(1, height - 1)
    blue = 210 - 85 * x / max(1, width - 1) - 85 * y / max(1, height - 1)
    return _rounded(np.stack([red, green, blue], axis=2))


def encode_image(
    rgb: NDArray[np.uint8], encoding: str, step_padding: int = 0, big_endian: bool = False
) -> tuple[bytes, int]:
    """
    Encode a picture as the `data` and `step` of a sensor_msgs/Image.

    Parameters
    ----------
    rgb
        (H, W, 3); sizes even where the encoding shares chroma.
    encoding
        Any name of `core.image.ENCODINGS`. Alpha becomes 255; YUV is BT.601 with 16..235 luma and
        averaged chroma; mono16 is mono8 times 257.
    step_padding
        Bytes of 0xA5 after each row. An even number for mono16.
    big_endian
        Byte order of mono16.

    """
    kind = find_encoding(encoding)
    rows = _memory_rows(rgb, kind, big_endian)
    padding = np.full((len(rows), step_padding), 0xA5, np.uint8)
    return np.hstack([rows, padding]).tobytes(), rows.shape[1] + step_padding


def _memory_rows(rgb: NDArray[np.uint8], kind: Encoding, big_endian: bool) -> NDArray[np.uint8]:
    """Bytes (memory rows, bytes a row), without padding."""
    height, width = rgb.shape[:2]
    if kind.layout is PixelLayout.BAYER:
        mosaic = np.empty((height, width), np.uint8)
        for index, colour in enumerate(kind.order):
            y, x = divmod(index, 2)
            mosaic[y::2, x::2] = rgb[y::2, x::2, 'rgb'.index(colour)]
        return mosaic
    if kind.layout is PixelLayout.YUV422:
        return _yuv422(rgb, kind.order)
    if kind.layout is PixelLayout.YUV420_SEMI_PLANAR:
        return _yuv420(rgb, kind.order)
    if kind.order == 'mono':
        grey = _rounded(rgb @ np.array([0.299, 0.587, 0.114]))
        if kind.sample_bytes == 1:
            return grey
        wide = (grey.astype(np.uint16) * 257).astype('>u2' if big_endian else '<u2')
        return np.asarray(wide.view(np.uint8))
    planes = {'r': rgb[..., 0], 'g': rgb[..., 1], 'b': rgb[..., 2]}
    planes['a'] = np.full((height, width), 255, np.uint8)
    interleaved = np.stack([planes[name] for name in kind.order], axis=2)
    return np.asarray(interleaved.reshape(height, -1), np.uint8)


def _rounded(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray(np.rint(values).astype(np.uint8))


def _yuv444(rgb: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """BT.601 planes as floats: luma 16..235, chroma 16..240."""
    red, green, blue = (rgb[..., index] / 255 for index in range(3))
    luma = 16 + 65.481 * red + 128.553 * green + 24.966 * blue
    chroma_b = 128 - 37.797 * red - 74.203 * green + 112.0 * blue
    chroma_r = 128 + 112.0 * red - 93.786 * green - 18.214 * blue
    return luma, chroma_b, chroma_r


def _yuv422(rgb: NDArray[np.uint8], order: str) -> NDArray[np.uint8]:
    luma, chroma_b, chroma_r = _yuv444(rgb)
    height, width = luma.shape
    planes = {
        'y': luma.reshape(height, width // 2, 2),
        'u': chroma_b.reshape(height, width // 2, 2).mean(axis=2),
        'v': chroma_r.reshape(height, width // 2, 2).mean(axis=2),
    }
    first, second = planes['y'][..., 0], planes['y'][..., 1]
    quads = {
        'uyvy': (planes['u'], first, planes['v'], second),
        'yuyv': (first, planes['u'], second, planes['v']),
    }[order]
    return _rounded(np.stack(quads, axis=2)).reshape(height, -1)


def _yuv420(rgb: NDArray[np.uint8], order: str) -> NDArray[np.uint8]:
    luma, chroma_b, chroma_r = _yuv444(rgb)
    height, width = luma.shape
    pair = [
        plane.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
        for plane in ((chroma_b, chroma_r) if order == 'nv12' else (chroma_r, chroma_b))
    ]
    chroma = np.stack(pair, axis=2).reshape(height // 2, width)
    return _rounded(np.vstack([luma, chroma]))


def encoded_view(
    rgb: NDArray[np.uint8], encoding: str, step_padding: int = 0, big_endian: bool = False
) -> ImageView:
    """View a picture encoded by `encode_image`, as the node views a message."""
    data, step = encode_image(rgb, encoding, step_padding, big_endian)
    height, width = rgb.shape[:2]
    return ImageView.from_buffer(
        data, width=width, height=height, encoding=encoding, step=step, big_endian=big_endian
    )
