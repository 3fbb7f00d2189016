"""Crops of a frame on a GPU: fetched from where the frame was received, with equal detections."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from test_trt_detector import low, Mapping, open_plan, same, street

from yolov7_trt_ros.bank.looks.second_look import look_twice
from yolov7_trt_ros.core.image import ENCODINGS, ImageView, PixelLayout
from yolov7_trt_ros.core.looks.crops import Crop, cut
from yolov7_trt_ros.core.looks.look_options import LookOptions
from yolov7_trt_ros.engine.gpu import upload
from yolov7_trt_ros.engine.gpu.trt_detector import TrtDetector
from yolov7_trt_ros.engine.plan.shape_range import ShapeRange
from yolov7_trt_ros.engine.trt.api import TrtApi
from yolov7_trt_ros.testing import encode_image

MOST = 8
PROFILE = ShapeRange((1, 3, 32, 32), (4, 3, 320, 320), (MOST, 3, 640, 640))
SIZE_WH = (1920, 1080)
CROPS = [
    Crop(0, 0, 320, 320), Crop(1600, 760, 1920, 1080), Crop(1600, 0, 1920, 320),
    Crop(0, 760, 320, 1080), Crop(802, 402, 1122, 722), Crop(2, 758, 322, 1078),
    Crop(804, 400, 1124, 720), Crop(1598, 2, 1918, 322),
]
"""Each corner of a frame, near corners, and within."""


class Engines(NamedTuple):
    """For whole frames, for crops, and for copies of crops: of one plan."""

    first: TrtDetector
    second: TrtDetector
    plain: TrtDetector


@pytest.fixture(scope='module')
def engines(api: TrtApi, plan: Callable[..., Path]) -> Iterator[Engines]:
    path = plan(name='nano_crops', profiles=(PROFILE,))
    opened = Engines(*(
        open_plan(api, path, network_size=size, memory=memory)
        for size, memory in ((640, 'locked'), (320, 'locked'), (320, 'staged'))
    ))
    yield opened
    for each in opened:
        each.close()


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list to which the bytes of each copy by the host are added."""
    found: list[int] = []

    def copy_rows(source: Any, target: Any, was: Any = upload.copy_rows) -> None:
        found.append(target.rows.nbytes)
        was(source, target)

    monkeypatch.setattr(upload, 'copy_rows', copy_rows)
    return found


def received(encoding: str, padding: int) -> tuple[Mapping, ImageView]:
    """View a frame in pages of our own, as in the memory of a message."""
    data, step = encode_image(street(11, *SIZE_WH)[..., ::-1], encoding, padding)
    block = Mapping(len(data))
    block.octets[:] = np.frombuffer(data, np.uint8)
    return block, ImageView.from_buffer(
        block.octets, width=SIZE_WH[0], height=SIZE_WH[1], encoding=encoding, step=step,
        memory=block.memory,
    )


@pytest.mark.parametrize('padding', [0, 64])
@pytest.mark.parametrize('encoding', sorted({e.name for e in ENCODINGS.values()}))
def test_crops_are_fetched_from_the_frame_and_give_what_copies_give(
    engines: Engines, copied: list[int], encoding: str, padding: int
) -> None:
    block, frame = received(encoding, padding)
    for _ in range(3):  # from the third on the block is page-locked
        engines.first.detect(frame, low())
    copied.clear()
    engines.first.detect(frame, low())
    assert not copied
    in_planes = frame.encoding.layout is PixelLayout.YUV420_SEMI_PLANAR
    for count in range(1, MOST + 1):
        views = [cut(frame, crop) for crop in CROPS[-count:]]
        apart = [dataclasses.replace(each, pixels=each.pixels.copy()) for each in views]
        wanted, _ = engines.plain.detect_batch(apart, low())
        copied.clear()
        for _ in range(3):  # plainly, captured, replayed
            found, _ = engines.second.detect_batch(views, low())
            assert all(map(same, found, wanted)) and sum(map(len, found))
        size_bytes = sum(each.pixels.nbytes for each in views)
        assert sum(copied) == (3 * size_bytes if in_planes else 0)
    block.memory.release()
    block.unmap()


def test_a_second_look_copies_nothing_and_finds_what_one_of_copies_finds(
    api: TrtApi, plan: Callable[..., Path], copied: list[int]
) -> None:
    path = plan(name='nano_crops', profiles=(PROFILE,))
    options = LookOptions(
        mode='on', first_size=416, crop_px=320, crop_size=320, object_px=240, max_crops=6,
        full_frames=3,
    )

    def twice(memory: str) -> Any:
        return look_twice(*(
            open_plan(api, path, network_size=size, memory=memory) for size in (416, 320)
        ), options)

    fetching, copying = twice('locked'), twice('staged')
    block = Mapping(SIZE_WH[0] * SIZE_WH[1] * 3)
    for seed in range(10):
        image = block.image(street(seed, *SIZE_WH)).of_stream('/camera')
        wanted, _ = copying.detect(image, low())
        assert copied
        copied.clear()
        found, _ = fetching.detect(image, low())
        assert same(found, wanted)
        assert seed < 3 or not copied
        copied.clear()
    told = fetching.status()['second look: images page-locked']
    assert int(told.partition(',')[0]) > 10, told
    fetching.close()
    copying.close()
    block.memory.release()
    block.unmap()
