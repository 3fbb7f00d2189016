"""Scenes of moving objects that hide each other, and simulated detections of them; seeded."""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.boxes import nms
from yolov7_trt_ros.core.detections import Detections

IMAGE_WH = (1280, 720)
CLASSES = ('person', 'car', 'dog')
_ASPECTS = np.array([0.4, 1.9, 1.2])  # width to height, by class
_SPEEDS = np.array([60.0, 160.0, 90.0])  # pixels a second, of an object of 100 pixels
_LEAST_SCORE, _NMS_IOU = 0.05, 0.45
_GRID = (np.arange(8) + 0.5) / 8
_STEP_S = 1 / 120


@dataclasses.dataclass(frozen=True)
class SceneSettings:
    """
    What a scene is like.

    Attributes
    ----------
    objects
        At any time.
    seconds, rate_hz
        How long it is, and the rate of its images.
    miss
        Share of detections that are missing for no reason; those of hidden objects miss as well.
    false_alarms
        Mean number of an image, each somewhere else.
    pan_px
        How far the camera swings to either side, in 4 s.

    """

    objects: int = 20
    seconds: float = 20.0
    rate_hz: float = 30.0
    miss: float = 0.05
    false_alarms: float = 0.5
    pan_px: float = 0.0


class SceneFrame(NamedTuple):
    """An image: the objects that can be seen in it, and what was detected."""

    stamp_ns: int
    boxes: NDArray[np.float32]
    """Of the objects, (n, 4), left, top, right, bottom."""
    numbers: NDArray[np.int64]
    """Which objects they are, (n,)."""
    found: Detections
    """From a score of 0.05 on, after suppression."""


class _World:
    """Objects that walk about; each stays for some time, and another one comes in its place."""

    def __init__(self, settings: SceneSettings, rng: np.random.Generator) -> None:
        self._rng, count = rng, settings.objects
        self.classes = rng.integers(0, len(CLASSES), count)
        self.numbers = np.arange(count)
        self._centres, self._speeds = np.zeros((count, 2)), np.zeros((count, 2))
        self._heights, self._left_s = np.zeros(count), np.zeros(count)
        for index in range(count):
            self._begin(index)

    def _begin(self, index: int) -> None:
        rng = self._rng
        self._centres[index] = rng.uniform((0, 0.3 * IMAGE_WH[1]), IMAGE_WH)
        self._heights[index] = 40 + 140 * self._centres[index, 1] / IMAGE_WH[1]
        speed = _SPEEDS[self.classes[index]] * self._heights[index] / 100
        turn = rng.choice((-1, 1)) * rng.uniform(0.4, 1.4)
        self._speeds[index] = speed * turn, 0.15 * speed * rng.normal()
        self._left_s[index] = rng.uniform(3, 15)

    def step(self) -> None:
        """Go on by a small time."""
        pull = 0.4 * self._rng.normal(size=self._speeds.shape) * np.abs(self._speeds)
        self._speeds += pull * np.sqrt(_STEP_S)
        self._centres += self._speeds * _STEP_S
        self._left_s -= _STEP_S
        gone = (self._left_s < 0) | (self._centres < 0).any(axis=1)
        gone |= (self._centres > IMAGE_WH).any(axis=1)
        for index in np.flatnonzero(gone):
            self.numbers[index] = self.numbers.max() + 1
            self._begin(index)

    def boxes(self, shift_px: float) -> NDArray[np.float64]:
        """Return where they are (n, 4), seen by a camera that is turned."""
        sizes = np.stack([self._heights * _ASPECTS[self.classes], self._heights], axis=1)
        centres = self._centres + (shift_px, 0)
        return np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)


def visible_shares(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what share of each box can be seen: the lower in the image, the nearer it is."""
    across = boxes[:, :1] + (boxes[:, 2:3] - boxes[:, :1]) * _GRID
    down = boxes[:, 1:2] + (boxes[:, 3:] - boxes[:, 1:2]) * _GRID
    x = np.repeat(across[:, None], len(_GRID), axis=1).reshape(len(boxes), -1)
    y = np.repeat(down[:, :, None], len(_GRID), axis=2).reshape(len(boxes), -1)
    hidden = (x < 0) | (x > IMAGE_WH[0]) | (y < 0) | (y > IMAGE_WH[1])
    for left, top, right, bottom in boxes:
        nearer = (bottom > boxes[:, 3])[:, None]
        hidden |= nearer & (x > left) & (x < right) & (y > top) & (y < bottom)
    return 1 - hidden.mean(axis=1)


def scene(settings: SceneSettings, seed: int) -> Iterator[SceneFrame]:
    """Return the images of a scene, the same for a seed."""
    rng = np.random.default_rng(seed)
    world, at_s, steps = _World(settings, rng), 0.0, 0
    for index in range(round(settings.seconds * settings.rate_hz)):
        at_s = index / settings.rate_hz
        while steps * _STEP_S < at_s:
            world.step()
            steps += 1
        boxes = world.boxes(settings.pan_px * np.sin(2 * np.pi * at_s / 4))
        shares = visible_shares(boxes)
        found = _detect(boxes, world.classes, shares, settings, rng)
        seen = shares >= 0.25
        yield SceneFrame(
            1 + round(at_s * 1e9), boxes[seen].astype(np.float32), world.numbers[seen].copy(),
            found,
        )


def _detect(
    boxes: NDArray[np.float64], classes: NDArray[np.int64], shares: NDArray[np.float64],
    settings: SceneSettings, rng: np.random.Generator,
) -> Detections:
    """Return what a detector finds: low scores and poor boxes of what is hidden for the most."""
    scores = 0.1 + 0.75 * shares + rng.normal(0, 0.08, len(boxes))
    sizes = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    noise = rng.normal(0, 1, boxes.shape) * sizes * (0.02 + 0.06 * (1 - shares))[:, None]
    kept = (rng.random(len(boxes)) >= settings.miss) & (shares > 0.1)
    false, false_scores, false_classes = _false_alarms(settings, rng)
    boxes = np.concatenate([(boxes + noise)[kept], false])
    boxes = boxes.clip(0, np.array([*IMAGE_WH, *IMAGE_WH])).astype(np.float32)
    scores = np.concatenate([scores[kept], false_scores]).clip(0, 0.99).astype(np.float32)
    class_ids = np.concatenate([classes[kept], false_classes]).astype(np.int32)
    boxes, class_ids = boxes[scores > _LEAST_SCORE], class_ids[scores > _LEAST_SCORE]
    scores = scores[scores > _LEAST_SCORE]
    chosen = nms(boxes, scores, class_ids, _NMS_IOU, 300)
    return Detections(boxes[chosen], scores[chosen], class_ids[chosen], IMAGE_WH)


def _false_alarms(
    settings: SceneSettings, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    count = rng.poisson(settings.false_alarms)
    corners = rng.uniform((0, 0), (IMAGE_WH[0] - 100, IMAGE_WH[1] - 100), (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(30, 100, (count, 2))], axis=1)
    return boxes, rng.uniform(0.05, 0.5, count), rng.integers(0, len(CLASSES), count)
