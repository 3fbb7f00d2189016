"""TiledLook: objects at the borders of tiles, once each; passes; errors; settings."""

from __future__ import annotations

import numpy as np
import pytest

from yolov7_trt_ros.bank.looks.tiled_look import TiledLook
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import DetectSettings, FrameTimings
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.looks.tiles import TileOptions
from yolov7_trt_ros.errors import InferenceError, SettingError
from yolov7_trt_ros.testing import FakeDetector

ASKED = DetectSettings(score_threshold=0.25)
SIZE_WH = (640, 480)
TWO, GRID = TileOptions((2, 1), 0.2), TileOptions((2, 2), 0.2)


class Colours(FakeDetector):
    """
    Finds rectangles of one colour: the channel is their class, the value in it their score.

    In the whole image it finds none with a side under `least_px`, for that is scaled down.

    """

    def __init__(self, least_px: int = 0, max_batch: int = 8) -> None:
        super().__init__(max_batch=max_batch)
        self.least_px = least_px
        self.error: Exception | None = None

    def detect_batch(self, images, settings):
        super().detect_batch(images, settings)
        if self.error is not None:
            raise self.error
        return [self._find(image, settings) for image in images], FrameTimings(1, 2, 3)

    def _find(self, image, settings):
        least_px = self.least_px if image.size_wh == SIZE_WH else 0
        rows = []
        for class_id in range(3):
            plane = image.pixels[:, :, class_id]
            for value in np.unique(plane[plane > 0]):
                ys, xs = np.nonzero(plane == value)
                box = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
                if min(box[2] - box[0], box[3] - box[1]) >= least_px:
                    rows.append((value / 255, box, class_id))
        rows = sorted((row for row in rows if row[0] > settings.score_threshold), reverse=True)
        return Detections(
            np.array([row[1] for row in rows], np.float32).reshape(-1, 4),
            np.array([row[0] for row in rows], np.float32),
            np.array([row[2] for row in rows], np.int32), image.size_wh,
        )


def scene(*objects: tuple[int, int, int, int, int, int]) -> ImageView:
    """Return an image with rectangles: left, top, right, bottom, value, class."""
    pixels = np.zeros((*SIZE_WH[::-1], 3), np.uint8)
    for left, top, right, bottom, value, class_id in objects:
        pixels[top:bottom, left:right, class_id] = value
    return ImageView.from_array(pixels)


def found_in(image: ImageView, tiles: TileOptions, **engine: int) -> list[tuple]:
    found, _ = TiledLook(Colours(**engine), tiles).detect(image, ASKED)
    return sorted(zip(found.boxes_xyxy.tolist(), found.class_ids.tolist(), strict=True))


@pytest.mark.parametrize('left', range(250, 390, 4))
def test_a_small_object_across_a_border_is_found_once_and_whole(left):
    # the tiles are 0..356 and 284..640: what is up to 64 px wide lies in one of them whole
    box = [left, 200, left + 60, 240]
    assert found_in(scene((*box, 200, 1)), TWO, least_px=100) == [(box, 1)]


@pytest.mark.parametrize('left', range(100, 400, 20))
def test_a_large_object_is_what_the_whole_image_shows_of_it(left):
    box = [left, 100, left + 200, 300]
    assert found_in(scene((*box, 200, 0)), GRID, least_px=100) == [(box, 0)]


def test_what_is_cut_in_each_tile_and_too_small_for_the_whole_image_is_not_shown_in_pieces():
    # 90 px wide, 20 high, across the overlap of 72 px: neither tile shows all of it
    assert found_in(scene((275, 200, 365, 220, 200, 0)), TWO, least_px=100) == []


def test_classes_are_apart_where_tiles_meet():
    one, other = [300, 200, 340, 240], [300, 200, 342, 242]
    image = scene((*one, 200, 0), (*other, 210, 1))
    for least_px in (0, 100):
        assert found_in(image, GRID, least_px=least_px) == [(one, 0), (other, 1)]
        agnostic = DetectSettings(score_threshold=0.25, class_agnostic=True)
        found, _ = TiledLook(Colours(least_px), GRID).detect(image, agnostic)
        assert found.class_ids.tolist() == [1]


def test_the_frame_is_no_border():
    boxes = [[0, 0, 30, 30], [610, 450, 640, 480]]
    image = scene(*((*box, 200 + index, 0) for index, box in enumerate(boxes)))
    assert found_in(image, GRID, least_px=100) == [(box, 0) for box in boxes]


@pytest.mark.parametrize(('most', 'batches'), [(8, [5]), (5, [5]), (3, [3, 2]), (1, [1] * 5)])
def test_all_views_of_an_image_run_in_as_few_passes_as_possible(most, batches):
    engine = Colours(max_batch=most)
    look = TiledLook(engine, GRID)
    _, timings = look.detect(scene(), ASKED)
    assert engine.batches == batches
    assert timings.infer_ns == 2 * len(batches)
    assert look.status()['tiles'] == (
        f'2x2, overlap 0.2: 5 views of 1 image(s) in {len(batches)} pass(es)'
    )


def test_each_image_of_a_batch_gets_what_is_its_own():
    boxes = [[20, 20, 50, 50], [400, 300, 450, 340]]
    look = TiledLook(Colours(least_px=100, max_batch=4), GRID)
    found, _ = look.detect_batch([scene((*box, 200, 0)) for box in boxes], ASKED)
    assert [each.boxes_xyxy.tolist() for each in found] == [[box] for box in boxes]


@pytest.mark.parametrize('count', [0, 5])
def test_no_image_and_more_than_it_takes_are_refused(count):
    engine = Colours(max_batch=4)
    with pytest.raises(SettingError, match=f'expected 1 to 4 images, got {count}'):
        TiledLook(engine, GRID).detect_batch([scene()] * count, ASKED)
    assert engine.batches == []


def test_the_settings_of_each_frame_hold_for_the_result():
    image = scene((20, 20, 50, 50, 200, 0), (100, 20, 130, 50, 90, 0), (200, 20, 230, 50, 220, 0))
    look = TiledLook(Colours(), GRID)
    assert len(look.detect(image, ASKED)[0]) == 3
    assert len(look.detect(image, DetectSettings(score_threshold=0.5))[0]) == 2
    own = DetectSettings(score_threshold=0.25, class_thresholds=((0, 0.8),), max_detections=1)
    found, _ = look.detect(image, own)
    assert found.boxes_xyxy.tolist() == [[200, 20, 230, 50]]


def test_errors_are_those_of_the_frame():
    engine = Colours()
    look = TiledLook(engine, TileOptions((64, 64), 0.0))
    with pytest.raises(InferenceError, match='640x480 has 80 tiles of 64x64, at most 63'):
        look.detect(scene(), ASKED)
    assert engine.batches == []
    engine.error = InferenceError('made to fail')
    small = ImageView.from_array(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(InferenceError, match='made to fail'):
        look.detect(small, ASKED)
    engine.error = None
    assert len(look.detect(small, ASKED)[0]) == 0  # one tile would be all of it
    assert engine.batches == [1, 1]
    look.close()
    assert engine.closed == 1


def test_sizes_without_tiles_are_told_once():
    told: list[str] = []
    look = TiledLook(Colours(), TileOptions((640, 480), 0.2), warn=told.append)
    for _ in range(2):
        look.detect(scene(), ASKED)
    assert told == ['images of 640x480 get no tiles: one tile would be the image']
    assert look.status()['left out'] == told[0]
