"""The layers of a network in deploy form, as torch modules under the published names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn, Tensor
from torch.nn import functional

from yolov7_trt_ros.errors import CheckpointError
from yolov7_trt_ros.model.network.layer_table import LayerRow, LEAKY_SLOPE

State = Mapping[str, Tensor]

BATCH_NORM_EPS = 1e-3
"""Every batch norm here has this; where a checkpoint's has another, its variances are shifted."""

PYRAMID_CONVS = (1, 1, 3, 1, 1, 3, 1)
"""Kernels of cv1 to cv7 of the pyramid block."""
PYRAMID_POOLS = (5, 9, 13)
DOWN_CONVS = (1, 3, 1)
"""Kernels of cv1 to cv3 of the down block; cv2 steps by two."""


class ConvBlock(nn.Module):
    """
    Convolution, batch norm unless it is folded away, activation.

    `conv.weight` and what else the state has under `name` decide the channels.

    """

    def __init__(self, row: LayerRow, state: State, name: str) -> None:
        super().__init__()
        weight = _weight(state, f'{name}conv.weight', row.kernel)
        self.conv = nn.Conv2d(
            weight.shape[1] * row.groups, weight.shape[0], row.kernel, row.stride, row.padding,
            groups=row.groups, bias=f'{name}conv.bias' in state,
        )
        self.bn: nn.BatchNorm2d | None = None
        if f'{name}bn.weight' in state:
            self.bn = nn.BatchNorm2d(weight.shape[0], eps=BATCH_NORM_EPS, momentum=0.03)
        self.activation = row.activation

    @property
    def channels(self) -> tuple[int, int]:
        """Return inputs and outputs."""
        return self.conv.in_channels, self.conv.out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, h, w)."""
        x = self.conv(x)
        if self.bn is not None:
            x = self.bn(x)
        return activate(x, self.activation)


class Pyramid(nn.Module):
    """SPPCSPC: poolings of three sizes on one branch, joined with a plain second one."""

    cv1: ConvBlock
    cv2: ConvBlock
    cv3: ConvBlock
    cv4: ConvBlock
    cv5: ConvBlock
    cv6: ConvBlock
    cv7: ConvBlock

    def __init__(self, row: LayerRow, state: State, name: str) -> None:
        super().__init__()
        for number, kernel in enumerate(PYRAMID_CONVS, 1):
            part = LayerRow('conv', (0,), kernel=kernel, activation=row.activation)
            self.add_module(f'cv{number}', ConvBlock(part, state, f'{name}cv{number}.'))

    @property
    def channels(self) -> tuple[int, int]:
        """Return inputs and outputs."""
        return self.cv1.channels[0], self.cv7.channels[1]

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, h, w)."""
        wide = self.cv4(self.cv3(self.cv1(x)))
        pools = [functional.max_pool2d(wide, size, 1, size // 2) for size in PYRAMID_POOLS]
        wide = self.cv6(self.cv5(torch.cat([wide, *pools], 1)))
        joined: Tensor = self.cv7(torch.cat([wide, self.cv2(x)], 1))
        return joined


class Down(nn.Module):
    """DownC: a step of two by a 3x3 convolution, joined with one by pooling."""

    cv1: ConvBlock
    cv2: ConvBlock
    cv3: ConvBlock

    def __init__(self, row: LayerRow, state: State, name: str) -> None:
        super().__init__()
        for number, kernel in enumerate(DOWN_CONVS, 1):
            stride = 2 if number == 2 else 1
            part = LayerRow('conv', (0,), kernel=kernel, stride=stride, activation=row.activation)
            self.add_module(f'cv{number}', ConvBlock(part, state, f'{name}cv{number}.'))

    @property
    def channels(self) -> tuple[int, int]:
        """Return inputs and outputs."""
        return self.cv1.channels[0], self.cv2.channels[1] + self.cv3.channels[1]

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, h / 2, w / 2)."""
        pooled = functional.max_pool2d(x, 2, 2)
        return torch.cat([self.cv2(self.cv1(x)), self.cv3(pooled)], 1)


class Reorg(nn.Module):
    """The four pixels of each 2x2 square become channels: down the columns first."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, 4 * channels, h / 2, w / 2)."""
        corners = [x[..., row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return torch.cat(corners, 1)


class Head(nn.Module):
    """One 1x1 convolution per map: 3 anchors x (4 box values, objectness, classes)."""

    def __init__(self, row: LayerRow, state: State, name: str) -> None:
        super().__init__()
        self.m = nn.ModuleList()
        for level in range(len(row.sources)):
            weight = _weight(state, f'{name}m.{level}.weight', 1)
            self.m.append(nn.Conv2d(weight.shape[1], weight.shape[0], 1))

    @property
    def layers(self) -> list[nn.Conv2d]:
        """Return the convolutions, one per map."""
        return [layer for layer in self.m if isinstance(layer, nn.Conv2d)]

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the raw maps (B, 3 * (5 + classes), h, w)."""
        return [layer(x) for layer, x in zip(self.layers, maps, strict=True)]


def activate(x: Tensor, activation: str) -> Tensor:
    """Apply one of `ACTIVATIONS`."""
    if activation == 'silu':
        return functional.silu(x)
    if activation == 'leaky_relu':
        return functional.leaky_relu(x, LEAKY_SLOPE)
    return functional.relu(x) if activation == 'relu' else x


def build_block(row: LayerRow, state: State, name: str) -> nn.Module:
    """Return the module of a row that is in deploy form; joining rows get an identity."""
    if row.kind in ('conv', 'pyramid', 'down', 'detect'):
        block = {'conv': ConvBlock, 'pyramid': Pyramid, 'down': Down, 'detect': Head}[row.kind]
        return block(row, state, name)
    if row.kind == 'max_pool':
        return nn.MaxPool2d(row.kernel, row.stride, row.padding)
    if row.kind == 'upsample':
        return nn.Upsample(scale_factor=2, mode='nearest')
    return Reorg() if row.kind == 'reorg' else nn.Identity()


def _weight(state: State, name: str, kernel: int) -> Tensor:
    """Return the convolution weight `name`, checked; raises CheckpointError."""
    weight = state.get(name)
    if weight is None:
        raise CheckpointError(f'the weight {name} is missing')
    if weight.ndim != 4 or tuple(weight.shape[2:]) != (kernel, kernel):
        raise CheckpointError(
            f'the weight {name} has the shape {tuple(weight.shape)}, expected (outputs, inputs, '
            f'{kernel}, {kernel})'
        )
    return weight
