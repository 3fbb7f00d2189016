"""
What the layers of YOLOv7's training code compute, written out plainly, in float64.

Nothing is merged or folded here, and nothing of the package is used.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


@torch.no_grad()
def run_official(model: Any, images: Tensor) -> list[Tensor]:
    """Raw maps (B, 3 * (5 + classes), h, w) of images, from the unfused layers."""
    values = {-1: images.double()}
    for index, layer in enumerate(model.model):
        sources = layer.f if isinstance(layer.f, list) else [layer.f]
        inputs = [values[index - 1 if source == -1 else source] for source in sources]
        kind = type(layer).__name__
        if 'Detect' in kind:
            return [_detect(layer, level, inputs[level]) for level in range(layer.nl)]
        values[index] = _run(layer, kind, inputs)
    raise AssertionError('no head')


def decode(maps: list[Tensor], anchors: Any) -> np.ndarray:
    """Rows (B, rows, 5 + classes) of raw maps, one cell and anchor after another."""
    found = []
    for level, raw in enumerate(maps):
        batch, channels, height, width = raw.shape
        stride = 8 * 2**level
        unit = 1 / (1 + np.exp(-raw.numpy().reshape(batch, 3, channels // 3, height, width)))
        for anchor, (size_w, size_h) in enumerate(anchors[level]):
            for y in range(height):
                for x in range(width):
                    cell = unit[:, anchor, :, y, x]
                    found.append(np.concatenate([np.stack([
                        (2 * cell[:, 0] - 0.5 + x) * stride,
                        (2 * cell[:, 1] - 0.5 + y) * stride,
                        (2 * cell[:, 2]) ** 2 * size_w,
                        (2 * cell[:, 3]) ** 2 * size_h,
                    ], 1), cell[:, 4:]], 1))
    return np.stack(found, 1)


def _run(layer: Any, kind: str, inputs: list[Tensor]) -> Tensor:
    x = inputs[0]
    if kind == 'Conv':
        return _conv(layer, x)
    if kind == 'RepConv':
        total = _norm(layer.rbr_dense[1], _convolve(layer.rbr_dense[0], x))
        total = total + _norm(layer.rbr_1x1[1], _convolve(layer.rbr_1x1[0], x))
        if layer.rbr_identity is not None:
            total = total + _norm(layer.rbr_identity, x)
        return _activate(layer.act, total)
    if kind in ('MP', 'SP'):
        return _pool(layer.m, x)
    if kind == 'Upsample':
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    if kind == 'Concat':
        return torch.cat(inputs, 1)
    if kind == 'Shortcut':
        return inputs[0] + inputs[1]
    if kind == 'ReOrg':
        return torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2],
                          x[..., 1::2, 1::2]], 1)
    if kind == 'DownC':
        stepped = _conv(layer.cv2, _conv(layer.cv1, x))
        return torch.cat([stepped, _conv(layer.cv3, _pool(layer.mp, x))], 1)
    assert kind == 'SPPCSPC'
    wide = x
    for part in (layer.cv1, layer.cv3, layer.cv4):
        wide = _conv(part, wide)
    wide = torch.cat([wide, *(_pool(pool, wide) for pool in layer.m)], 1)
    wide = _conv(layer.cv6, _conv(layer.cv5, wide))
    return _conv(layer.cv7, torch.cat([wide, _conv(layer.cv2, x)], 1))


def _convolve(layer: Any, x: Tensor) -> Tensor:
    bias = None if layer.bias is None else layer.bias.double()
    return functional.conv2d(x, layer.weight.double(), bias, layer.stride, layer.padding)


def _norm(layer: Any, x: Tensor) -> Tensor:
    mean, variance, gain, shift = (
        value.double()[:, None, None]
        for value in (layer.running_mean, layer.running_var, layer.weight, layer.bias)
    )
    return (x - mean) / torch.sqrt(variance + layer.eps) * gain + shift


def _conv(layer: Any, x: Tensor) -> Tensor:
    return _activate(layer.act, _norm(layer.bn, _convolve(layer.conv, x)))


def _activate(layer: Any, x: Tensor) -> Tensor:
    if type(layer).__name__ == 'SiLU':
        return x / (1 + torch.exp(-x))
    return torch.where(x > 0, x, 0.1 * x)


def _pool(layer: Any, x: Tensor) -> Tensor:
    return functional.max_pool2d(x, layer.kernel_size, layer.stride, layer.padding)


def _detect(layer: Any, level: int, x: Tensor) -> Tensor:
    if hasattr(layer, 'ia'):
        x = x + layer.ia[level].implicit.double()
    x = _convolve(layer.m[level], x)
    return x * layer.im[level].implicit.double() if hasattr(layer, 'im') else x
