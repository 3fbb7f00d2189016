"""Cost of a network before and after a cut: multiply-accumulates, parameters, bytes."""

from __future__ import annotations

from collections.abc import Mapping
import contextlib
import dataclasses
from typing import Any

import torch
from torch import nn

BYTES_PER_WEIGHT = 4
"""Of a float32, as weights lie in an ONNX file."""


@dataclasses.dataclass(frozen=True)
class NetworkCost:
    """
    Cost of one image.

    Attributes
    ----------
    macs, parameters
        Multiply-accumulates of the convolutions (half of the "FLOPs" that papers count), and
        their weights and biases with batch norms folded in.

    """

    macs: int
    parameters: int

    @property
    def size_mb(self) -> float:
        """Size of the float32 weights in 10^6 bytes; an ONNX file has some kilobytes more."""
        return self.parameters * BYTES_PER_WEIGHT / 1e6

    def as_record(self) -> dict[str, Any]:
        """Return the cost as a JSON-ready dict."""
        return {'macs': self.macs, 'parameters': self.parameters, 'size_mb': self.size_mb}


@dataclasses.dataclass(frozen=True)
class ConvCost:
    """Channels, taps (kernel height x width / groups) and output positions of a convolution."""

    inputs: int
    outputs: int
    taps: float
    positions: int

    def weights(self, inputs: int, outputs: int) -> float:
        """Return the number of weights with other numbers of channels."""
        return inputs * outputs * self.taps


def conv_costs(network: nn.Module, size_wh: tuple[int, int]) -> dict[str, ConvCost]:
    """Return the cost of each convolution for an image of `size_wh` network pixels, by name."""
    costs: dict[str, ConvCost] = {}

    def note(name: str, conv: nn.Conv2d, output: torch.Tensor) -> None:
        taps = conv.kernel_size[0] * conv.kernel_size[1] / conv.groups
        positions = output.shape[2] * output.shape[3]
        costs[name] = ConvCost(conv.in_channels, conv.out_channels, taps, positions)

    with contextlib.ExitStack() as stack, torch.no_grad():
        for name, module in network.named_modules():
            if isinstance(module, nn.Conv2d):
                handle = module.register_forward_hook(
                    lambda conv, _, output, name=name: note(name, conv, output)
                )
                stack.callback(handle.remove)
        device = next(network.parameters()).device
        network(torch.zeros(1, 3, size_wh[1], size_wh[0], device=device))
    return costs


def total_cost(
    costs: Mapping[str, ConvCost],
    removed_inputs: Mapping[str, int] | None = None,
    removed_outputs: Mapping[str, int] | None = None,
) -> NetworkCost:
    """Return the cost of a network, with some channels of its convolutions taken away."""
    macs, parameters = 0.0, 0.0
    for name, cost in costs.items():
        inputs = cost.inputs - (removed_inputs or {}).get(name, 0)
        outputs = cost.outputs - (removed_outputs or {}).get(name, 0)
        weights = cost.weights(inputs, outputs)
        macs += weights * cost.positions
        parameters += weights + outputs
    return NetworkCost(round(macs), round(parameters))
