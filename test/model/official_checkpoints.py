"""
Checkpoints as YOLOv7's training code pickles them, made without that code.

The classes here have the published names and attributes, and no behaviour: what they compute is in
slow_reference. They are registered under the original module names only while a file is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
from pathlib import Path
import sys
import types
from typing import Any
import warnings

import numpy as np
import torch
from torch import nn

from yolov7_trt_ros.model.network.layer_table import LayerRow
from yolov7_trt_ros.model.network.published import published_table, PublishedTable

_MODULES = {
    'models.common': ('Conv', 'RepConv', 'MP', 'SP', 'Concat', 'Shortcut', 'ReOrg', 'DownC',
                      'SPPCSPC', 'ImplicitA', 'ImplicitM'),
    'models.yolo': ('Model', 'Detect', 'IDetect', 'IAuxDetect', 'IBin', 'IKeypoint', 'MT'),
    'utils.torch_utils': ('ModelEMA',),
}


def fuseforward(self: Any, x: Any) -> Any:
    """Stand for what a fused layer runs; nothing here runs it."""
    raise NotImplementedError


CLASSES = {
    name: type(name, (nn.Module,), {'__module__': module, 'fuseforward': fuseforward})
    for module, names in _MODULES.items() for name in names
}
_ACTIVATIONS = {'silu': nn.SiLU, 'leaky_relu': lambda: nn.LeakyReLU(0.1)}


@contextlib.contextmanager
def original_modules() -> Iterator[None]:
    """Let pickle find the classes under their original names."""
    made = {}
    for module, names in {'models': (), 'utils': (), **_MODULES}.items():
        made[module] = types.ModuleType(module)
        for name in names:
            setattr(made[module], name, CLASSES[name])
    before = {name: sys.modules.get(name) for name in made}
    sys.modules.update(made)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def scaled(table: PublishedTable, width: float) -> tuple[LayerRow, ...]:
    """Rows with fewer channels, multiples of 8."""
    return tuple(
        row if row.channels is None else
        dataclasses.replace(row, channels=max(8, round(row.channels * width / 8) * 8))
        for row in table.rows
    )


def official_model(name: str, *, width: float = 0.125, num_classes: int = 3,
                   head: str | None = None, keep_rep_channels: bool = False) -> Any:
    """
    Return a `models.yolo.Model` of a published table with random weights.

    With `keep_rep_channels`, each RepConv has as many outputs as inputs: it has a third branch.
    """
    torch.manual_seed(1)
    table = published_table(name)
    rows = scaled(table, width)
    if head is None:
        head = 'IAuxDetect' if name.endswith('training') else 'Detect'
    outputs: list[int] = []
    layers = []
    for index, row in enumerate(rows):
        inputs = [3 if source < 0 else outputs[source] for source in row.sources]
        if row.kind == 'rep_conv' and keep_rep_channels:
            row = dataclasses.replace(row, channels=inputs[0])
        if row.kind == 'detect':
            layer = _head(head, inputs, table, num_classes)
        else:
            layer = _layer(row, inputs)
        layer.i, layer.f = index, _as_written(index, row.sources)
        layer.type, layer.np = f'models.common.{type(layer).__name__}', 0
        layers.append(layer)
        outputs.append(_outputs(row, inputs))
    model = CLASSES['Model']()
    model.yaml = {'nc': num_classes, 'depth_multiple': 1.0, 'width_multiple': width}
    model.names = [f'thing {number}' for number in range(num_classes)]
    model.model = nn.Sequential(*layers)
    model.save, model.stride = [1, 2], torch.tensor([8.0, 16.0, 32.0])
    return model


def save_official(model: Any, path: Path, *, half: bool = True, key: str = 'ema',
                  old_format: bool = False, protocol: int = 2, **extra: Any) -> Path:
    """Write a checkpoint as the training code does; protocol 5 is that of other programs."""
    checkpoint = {
        'epoch': 299, 'best_fitness': np.array([0.51]), 'fitness': np.float64(0.5),
        'training_results': 'text', 'model': None, 'ema': None, 'updates': 1000,
        'optimizer': None, 'wandb_id': None, 'kept': {'set': {1, 2}, 'where': Path('runs')},
        key: model.half() if half else model, **extra,
    }
    with original_modules(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the old form misses the classes' source code
        torch.save(checkpoint, path, _use_new_zipfile_serialization=not old_format,
                   pickle_protocol=protocol)
    return path


@torch.no_grad()
def fuse(model: Any) -> Any:
    """
    Fuse a model in place as the original does, and return it.

    Batch norms go into their convolutions, branches into one; the head's implicit vectors go into
    its convolutions and are left behind as they were.
    """
    for module in model.modules():
        kind = type(module).__name__
        if kind == 'Conv':
            module.conv = _fused(module.conv, module.bn)
            del module.bn
        elif kind == 'RepConv':
            merged, small = _fused(*module.rbr_dense), _fused(*module.rbr_1x1)
            merged.weight += nn.functional.pad(small.weight, [1, 1, 1, 1])
            merged.bias += small.bias
            assert module.rbr_identity is None
            module.rbr_reparam, module.deploy = merged, True
            del module.rbr_dense, module.rbr_1x1, module.rbr_identity
        elif kind in ('IDetect', 'IAuxDetect', 'IKeypoint'):
            for layer, shift, gain in zip(module.m, module.ia, module.im, strict=False):
                layer.bias += (layer.weight * shift.implicit).sum((1, 2, 3))
                layer.weight *= gain.implicit.transpose(0, 1)
                layer.bias *= gain.implicit.flatten()
        if hasattr(module, 'forward') and kind in ('Conv', 'IDetect', 'IAuxDetect'):
            module.forward = module.fuseforward
    return model


def _fused(layer: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    made = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride,
                     layer.padding)
    gain = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    made.weight.copy_(layer.weight * gain[:, None, None, None])
    made.bias.copy_(norm.bias - norm.running_mean * gain)
    return made


def _as_written(index: int, sources: Sequence[int]) -> int | list[int]:
    """Return sources as configurations write them: -1 for the row before, others by number."""
    written = [-1 if source == index - 1 else source for source in sources]
    return written[0] if len(written) == 1 else written


def _outputs(row: LayerRow, inputs: list[int]) -> int:
    if row.channels is not None:
        return row.channels
    if row.kind == 'concat':
        return sum(inputs)
    return 4 * inputs[0] if row.kind == 'reorg' else inputs[0]


def _norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.03)
    nn.init.uniform_(norm.weight, 0.8, 1.2)
    nn.init.normal_(norm.bias, 0, 1)
    nn.init.normal_(norm.running_mean, 0, 0.2)
    nn.init.uniform_(norm.running_var, 0.8, 1.2)
    return norm


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Each layer makes differences a little smaller, so that roundings do not grow either."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    nn.init.normal_(layer.weight, 0, 1.35 / (inputs * kernel**2) ** 0.5)
    return layer


def _conv(inputs: int, outputs: int, kernel: int, stride: int, activation: str) -> Any:
    layer = CLASSES['Conv']()
    layer.conv = _convolution(inputs, outputs, kernel, stride)
    layer.bn, layer.act = _norm(outputs), _ACTIVATIONS[activation]()
    return layer


def _layer(row: LayerRow, inputs: list[int]) -> Any:
    channels = row.channels or 0
    if row.kind == 'conv':
        return _conv(inputs[0], channels, row.kernel, row.stride, row.activation)
    if row.kind == 'rep_conv':
        return _rep_conv(inputs[0], channels, row.activation)
    if row.kind == 'max_pool':
        layer = CLASSES['MP' if row.stride > 1 else 'SP']()
        layer.m = nn.MaxPool2d(row.kernel, row.stride, row.padding)
        return layer
    if row.kind == 'upsample':
        return nn.Upsample(None, 2, 'nearest')
    if row.kind == 'down':
        layer = CLASSES['DownC']()
        layer.cv1 = _conv(inputs[0], inputs[0], 1, 1, row.activation)
        layer.cv2 = _conv(inputs[0], channels // 2, 3, 2, row.activation)
        layer.cv3 = _conv(inputs[0], channels // 2, 1, 1, row.activation)
        layer.mp = nn.MaxPool2d(2, 2)
        return layer
    if row.kind == 'pyramid':
        layer, source = CLASSES['SPPCSPC'](), inputs[0]
        sizes = ((source, 1), (source, 1), (channels, 3), (channels, 1), (4 * channels, 1),
                 (channels, 3), (2 * channels, 1))
        for number, (taken, kernel) in enumerate(sizes, 1):
            setattr(layer, f'cv{number}', _conv(taken, channels, kernel, 1, row.activation))
        layer.m = nn.ModuleList(nn.MaxPool2d(k, 1, k // 2) for k in (5, 9, 13))
        return layer
    layer = CLASSES[{'concat': 'Concat', 'add': 'Shortcut', 'reorg': 'ReOrg'}[row.kind]]()
    layer.d = 1
    return layer


def _rep_conv(inputs: int, outputs: int, activation: str) -> Any:
    layer = CLASSES['RepConv']()
    layer.deploy, layer.groups = False, 1
    layer.act = _ACTIVATIONS[activation]()
    layer.rbr_identity = _norm(inputs) if inputs == outputs else None
    layer.rbr_dense = nn.Sequential(_convolution(inputs, outputs, 3), _norm(outputs))
    layer.rbr_1x1 = nn.Sequential(_convolution(inputs, outputs, 1), _norm(outputs))
    return layer


def _head(kind: str, inputs: list[int], table: PublishedTable, num_classes: int) -> Any:
    layer = CLASSES[kind]()
    levels, values = len(table.anchors), 3 * (5 + num_classes)
    layer.nc, layer.no, layer.nl, layer.na = num_classes, 5 + num_classes, levels, 3
    layer.grid = [torch.zeros(1)] * levels
    pixels = torch.tensor(table.anchors).float()
    strides = torch.tensor([8.0, 16.0, 32.0, 64.0][:levels])
    layer.register_buffer('anchors', pixels / strides.view(-1, 1, 1))
    layer.register_buffer('anchor_grid', pixels.view(levels, 1, 3, 1, 1, 2))
    layer.m = nn.ModuleList(nn.Conv2d(taken, values, 1) for taken in inputs[:levels])
    if kind == 'IAuxDetect':
        layer.m2 = nn.ModuleList(nn.Conv2d(taken, values, 1) for taken in inputs[levels:])
    if kind == 'IKeypoint':
        layer.m_kpt = nn.ModuleList(nn.Conv2d(taken, 3 * 51, 1) for taken in inputs[:levels])
    if kind == 'IBin':
        layer.w_bin_sigma = nn.Module()
        layer.w_bin_sigma.register_buffer('bins', torch.linspace(0, 4, 21))
    if kind in ('IDetect', 'IAuxDetect', 'IKeypoint', 'IBin'):
        layer.ia = nn.ModuleList(
            _implicit('ImplicitA', taken, 0.0) for taken in inputs[:levels]
        )
        layer.im = nn.ModuleList(_implicit('ImplicitM', values, 1.0) for _ in range(levels))
    return layer


def _implicit(kind: str, channels: int, mean: float) -> Any:
    layer = CLASSES[kind]()
    layer.channel, layer.mean, layer.std = channels, mean, 0.3
    layer.implicit = nn.Parameter(mean + 0.3 * torch.randn(1, channels, 1, 1))
    return layer
