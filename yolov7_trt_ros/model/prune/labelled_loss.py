"""Loss of raw maps against labelled boxes, as used to train YOLO detectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from torch.nn import functional

from yolov7_trt_ros.errors import InputError
from yolov7_trt_ros.model.prune.imitation import corners, generalised_iou, split_map

MOST_RATIO = 4.0
"""An anchor takes a box whose sides are within this factor of its own."""
BALANCE = (4.0, 1.0, 0.4, 0.1)
"""Weight of the objectness of each map: small strides have many cells and small values."""
BOX_WEIGHT, OBJECTNESS_WEIGHT, CLASS_WEIGHT = 0.05, 0.7, 0.3
_REACH = 0.5
_LEAST_SHARE = 0.2
"""Of a box that has to stay in the frame for its label to stay."""


class BoxLabels:
    """
    Boxes of every image of a cache, and the loss of maps against them.

    Parameters
    ----------
    boxes
        Per image (n, 5): class, centre x and y, width and height, as shares of the letterboxed
        square. None for unlabelled images, which do not contribute to the loss.
    anchors, strides
        Of the network, in pixels.

    Raises
    ------
    InputError
        No image has a box.

    """

    def __init__(
        self,
        boxes: Sequence[NDArray[np.float32] | None],
        anchors: Sequence[Sequence[Sequence[float]]],
        strides: Sequence[int],
    ) -> None:
        if not any(rows is not None and len(rows) for rows in boxes):
            raise InputError('the labels hold no box of the pictures: expected some')
        self._boxes = [
            None if rows is None else torch.from_numpy(np.asarray(rows, np.float32))
            for rows in boxes
        ]
        self._anchors, self._strides = anchors, strides

    def __call__(self, maps: list[Tensor], chosen: Tensor, placements: Tensor) -> Tensor:
        """Return the loss of maps of the images `chosen`, placed by `placements`."""
        places = [
            place for place, index in enumerate(chosen.tolist()) if self._boxes[index] is not None
        ]
        if not places:
            return maps[0].new_zeros(())
        if len(places) < len(chosen):
            maps = [raw[places] for raw in maps]
            chosen, placements = chosen[places], placements[places]
        targets = self._targets(chosen, placements).to(maps[0].device)
        losses = [
            _map_loss(raw, targets, sizes, stride, balance)
            for raw, sizes, stride, balance in zip(
                maps, self._anchors, self._strides, BALANCE, strict=False
            )
        ]
        return torch.stack(losses).sum()

    def _targets(self, chosen: Tensor, placements: Tensor) -> Tensor:
        """Return (n, 6): image of the batch, class, cx, cy, w, h, in shares of the frame."""
        found = []
        for number, (index, placement) in enumerate(
            zip(chosen.tolist(), placements, strict=True)
        ):
            boxes = self._boxes[index]
            assert boxes is not None  # only such images get here
            rows = place_boxes(boxes, placement)
            found.append(torch.cat([torch.full((len(rows), 1), float(number)), rows], 1))
        return torch.cat(found)


def place_boxes(boxes: Tensor, placement: Tensor) -> Tensor:
    """Move boxes (n, 5) as `place` moves their image; those outside the frame are dropped."""
    scale, shift = placement[:2], placement[2:]
    centre = ((boxes[:, 1:3] * 2 - 1) * scale + shift + 1) / 2
    size = boxes[:, 3:5] * scale.abs()
    low, high = (centre - size / 2).clamp(0, 1), (centre + size / 2).clamp(0, 1)
    visible = (high - low).prod(1) > _LEAST_SHARE * size.prod(1)
    moved = torch.cat([boxes[:, :1], (low + high) / 2, high - low], 1)
    return moved[visible & ((high - low) > 0).all(1)]


def _map_loss(
    raw: Tensor, targets: Tensor, sizes: Sequence[Sequence[float]], stride: int, balance: float
) -> Tensor:
    cells = split_map(raw, raw.shape[1] // len(sizes) - 5)
    anchors = torch.tensor(sizes, device=raw.device) / stride
    image, anchor, y, x, boxes, classes = assign(targets, anchors, (raw.shape[3], raw.shape[2]))
    wanted = torch.zeros_like(cells[:, :, 4])
    loss = raw.new_zeros(())
    if len(image):
        chosen = cells[image, anchor, :, y, x]
        offsets = _decode(chosen[:, :4], anchors[anchor])
        iou = generalised_iou(corners(offsets, 1), corners(boxes, 1))
        names = functional.one_hot(classes, chosen.shape[1] - 5).to(chosen)
        loss = BOX_WEIGHT * (1 - iou).mean() + CLASS_WEIGHT * (
            functional.binary_cross_entropy_with_logits(chosen[:, 5:], names)
        )
        wanted[image, anchor, y, x] = iou.detach().clamp(0, 1).to(wanted)
    objectness = functional.binary_cross_entropy_with_logits(cells[:, :, 4], wanted)
    return loss + OBJECTNESS_WEIGHT * balance * objectness


def _decode(logits: Tensor, anchors: Tensor) -> Tensor:
    unit = logits.sigmoid()
    return torch.cat([unit[:, :2] * 2 - 0.5, (unit[:, 2:] * 2).square() * anchors], 1)


def assign(
    targets: Tensor, anchors: Tensor, cells_wh: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """
    Choose the cells and anchors that answer for boxes: the cell and its two nearest neighbours.

    Parameters
    ----------
    targets
        (n, 6): image, class, cx, cy, w, h in shares of the frame.
    anchors
        (a, 2) in cells.
    cells_wh
        Of the map.

    Returns
    -------
    image, anchor, y, x
        (m,) int64.
    boxes
        (m, 4): centre from the cell's corner, width and height, in cells.
    classes
        (m,) int64.

    """
    size = targets.new_tensor(cells_wh)
    centres, sides = targets[:, 2:4] * size, targets[:, 4:6] * size
    ratio = sides[None] / anchors[:, None]
    fits = torch.maximum(ratio, 1 / ratio.clamp(min=1e-9)).amax(2) < MOST_RATIO
    anchor, target = fits.nonzero(as_tuple=True)
    steps = targets.new_tensor([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]])
    cells = centres[target].floor()[None] + steps[:, None]
    distance = (centres[target][None] - (cells + 0.5)).abs().amax(2)
    inside = ((cells >= 0) & (cells < size)).all(2) & (distance < 0.5 + _REACH)
    step, place = inside.nonzero(as_tuple=True)
    anchor, target, cell = anchor[place], target[place], cells[step, place]
    boxes = torch.cat([centres[target] - cell, sides[target]], 1)
    column, row = cell.long().unbind(1)
    return targets[target, 0].long(), anchor, row, column, boxes, targets[target, 1].long()
