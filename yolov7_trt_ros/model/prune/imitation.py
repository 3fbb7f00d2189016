"""Imitation loss: the distance between a network's raw maps and those of the original."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

BOX_WEIGHT = 2.0
_ANCHORS = 3
_LEAST = 1e-6


def split_map(raw: Tensor, num_classes: int) -> Tensor:
    """View a raw map (B, 3 * (5 + classes), h, w) as (B, 3, 5 + classes, h, w)."""
    return raw.reshape(raw.shape[0], _ANCHORS, 5 + num_classes, *raw.shape[2:])


def imitation_loss(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    anchors: Sequence[Sequence[Sequence[float]]],
    strides: Sequence[int],
) -> tuple[Tensor, dict[str, Tensor]]:
    """
    Return the loss of raw maps against those of a teacher, and its parts.

    The teacher's objectness weights each cell, its box and its classes. The
    objectness itself is compared everywhere. Each part is zero where the maps agree, and is
    divided by the sum of the teacher's objectness, which stands for the number of objects.

    Parameters
    ----------
    student, teacher
        Logits (B, 3 * (5 + classes), h, w) per map, of any float dtype; computed in float32.
    anchors, strides
        In network pixels, per map.

    Returns
    -------
    loss
        Scalar.
    parts
        `box` (1 - generalised IoU), `objectness` and `classes` (Kullback-Leibler divergence of
        each logit as a Bernoulli variable), detached.

    """
    weights = torch.zeros((), device=student[0].device)
    sums = dict.fromkeys(('box', 'objectness', 'classes'), weights)
    for mine, theirs, sizes, stride in zip(student, teacher, anchors, strides, strict=True):
        num_classes = mine.shape[1] // _ANCHORS - 5
        ours = split_map(mine.float(), num_classes)
        goal = split_map(theirs.float(), num_classes)
        weight = goal[:, :, 4].sigmoid()
        found = {
            'box': weight * _box_distance(ours[:, :, :4], goal[:, :, :4], sizes, stride),
            'objectness': _divergence(ours[:, :, 4], goal[:, :, 4]),
            'classes': weight * _divergence(ours[:, :, 5:], goal[:, :, 5:]).sum(2),
        }
        sums = {name: value + found[name].sum() for name, value in sums.items()}
        weights = weights + weight.sum()
    parts = {name: value / weights.clamp(min=_LEAST) for name, value in sums.items()}
    loss = BOX_WEIGHT * parts['box'] + parts['objectness'] + parts['classes']
    return loss, {name: value.detach() for name, value in parts.items()}


def _divergence(logits: Tensor, goal: Tensor) -> Tensor:
    """Return the divergence of Bernoulli variables from the goal's, element by element."""
    target = goal.sigmoid()
    cross = functional.binary_cross_entropy_with_logits(logits, target, reduction='none')
    own = functional.binary_cross_entropy_with_logits(goal, target, reduction='none')
    return cross - own


def _box_distance(
    logits: Tensor, goal: Tensor, sizes: Sequence[Sequence[float]], stride: int
) -> Tensor:
    """Return 1 - generalised IoU of boxes of the same cell and anchor, (B, 3, h, w)."""
    anchors = torch.tensor(sizes, device=logits.device) / stride
    left, right = (corners(decode_offsets(box, anchors), 2) for box in (logits, goal))
    return 1 - generalised_iou(left, right)


def decode_offsets(logits: Tensor, anchors: Tensor) -> Tensor:
    """Decode (B, 3, 4, h, w) to centre (from the cell's own), width and height in cells."""
    unit = logits.sigmoid()
    size = (unit[:, :, 2:] * 2).square() * anchors[:, :, None, None]
    return torch.cat([unit[:, :, :2] * 2 - 0.5, size], 2)


def corners(boxes: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return left, top, right and bottom of boxes whose cx, cy, w, h lie along `dim`."""
    x, y, width, height = boxes.unbind(dim)
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def generalised_iou(
    one: tuple[Tensor, Tensor, Tensor, Tensor], other: tuple[Tensor, Tensor, Tensor, Tensor]
) -> Tensor:
    """Return the generalised IoU, -1..1, of boxes given by their corners."""
    width = (torch.minimum(one[2], other[2]) - torch.maximum(one[0], other[0])).clamp(min=0)
    height = (torch.minimum(one[3], other[3]) - torch.maximum(one[1], other[1])).clamp(min=0)
    shared = width * height
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    union = areas[0] + areas[1] - shared + _LEAST
    hull = (torch.maximum(one[2], other[2]) - torch.minimum(one[0], other[0])) * (
        torch.maximum(one[3], other[3]) - torch.minimum(one[1], other[1])
    ) + _LEAST
    return shared / union - (hull - union) / hull
