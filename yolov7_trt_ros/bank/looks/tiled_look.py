"""TiledLook: a Detector that runs one engine on the whole image and on all its tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import time

import numpy as np

from yolov7_trt_ros.bank.looks.in_parts import detect_in_parts
from yolov7_trt_ros.bank.looks.left_out import LeftOut
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import BatchDetector, Detector, DetectSettings, FrameTimings
from yolov7_trt_ros.core.forms.model_spec import ModelSpec
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.looks.crops import Crop, cut
from yolov7_trt_ros.core.looks.merge_looks import Look, merge_looks
from yolov7_trt_ros.core.looks.tiles import TileOptions
from yolov7_trt_ros.errors import SettingError

SURE_SCORE = 0.0
"""The whole image is always sure: of two scores of one object the higher one counts."""

LARGEST_SHARE = 0.5
"""What is wider or higher than this part of its tile is left to the whole image."""


class TiledLook(BatchDetector):
    """
    Looks at each image as a whole and tile by tile, in as few passes as the engine allows.

    What both show is merged as crops of a second look are (`merge_looks`), but for objects that
    are too large for a tile: these are what the whole image shows of them. An error of the engine
    is an error of the frame.

    Parameters
    ----------
    engine
        Its own from then on.
    tiles
        Which tiles.
    clock
        Monotonic nanoseconds.
    warn
        Called once with each size of images that have no tiles.

    """

    def __init__(
        self, engine: Detector, tiles: TileOptions,
        clock: Callable[[], int] = time.perf_counter_ns,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._engine, self._tiles, self._clock = engine, tiles, clock
        self._told = 'no image yet'
        self._left_out = LeftOut(warn)

    @property
    def spec(self) -> ModelSpec:
        """Return what the model is."""
        return self._engine.spec

    @property
    def backend(self) -> str:
        """Return what runs it."""
        return f'{self._engine.backend}, tiles {self._tiles.text}'

    @property
    def max_batch(self) -> int:
        """Return how many whole images are looked at at once; their tiles may take more passes."""
        return self._engine.max_batch

    def detect_batch(
        self, images: Sequence[ImageView], settings: DetectSettings
    ) -> tuple[list[Detections], FrameTimings]:
        """
        Find objects in several images.

        Raises
        ------
        SettingError
            No image, or more than `max_batch`.
        InferenceError
            As `Detector.detect`; or an image has too many tiles.

        """
        began_ns = self._clock()
        if not 1 <= len(images) <= self.max_batch:
            raise SettingError(f'expected 1 to {self.max_batch} images, got {len(images)}')
        tiles = [self._tiles.place(image.size_wh) for image in images]
        for image, crops in zip(images, tiles, strict=True):
            if not crops:
                self._left_out.note_size('tiles', image.size_wh, 'one tile would be the image')
        views = [*images, *(
            cut(image, crop) for image, crops in zip(images, tiles, strict=True) for crop in crops
        )]
        found, timings = detect_in_parts(self._engine, views, settings)
        shown = iter(found[len(images):])
        merged = [
            merge_looks(
                whole, [Look(crop, _small(next(shown), crop)) for crop in crops], settings,
                SURE_SCORE,
            )
            for whole, crops in zip(found[:len(images)], tiles, strict=True)
        ]
        self._tell(len(images), len(views))
        rest_ns = max(0, self._clock() - began_ns - timings.total_ns)
        return merged, FrameTimings(
            timings.preprocess_ns, timings.infer_ns, timings.postprocess_ns + rest_ns
        )

    def status(self) -> dict[str, str]:
        """Return the status of the engine, the number of tiles, and images without any."""
        return self._engine.status() | {'tiles': self._told} | self._left_out.status()

    def close(self) -> None:
        """Close the engine; calling it twice is harmless."""
        self._engine.close()

    def _tell(self, images: int, views: int) -> None:
        passes = -(-views // self._engine.max_batch)
        self._told = (
            f'{self._tiles.text}, overlap {self._tiles.overlap:g}: {views} views of {images} '
            f'image(s) in {passes} pass(es)'
        )


def _small(found: Detections, tile: Crop) -> Detections:
    """Return what is not too large for a tile."""
    sides = found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]
    largest = np.array(tile.size_wh) * LARGEST_SHARE
    return found.chosen(np.asarray((sides <= largest).all(axis=1)))
