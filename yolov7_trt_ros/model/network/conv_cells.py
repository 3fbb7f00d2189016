"""Convolutions with their batch norm, as cells that act as one affine map."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from yolov7_trt_ros.model.network.architecture import conv_blocks, Network


@dataclasses.dataclass(frozen=True, eq=False)
class ConvCell:
    """
    A convolution, its batch norm if it has one, and the module around them.

    Attributes
    ----------
    name
        Of the convolution within the network.
    conv, norm
        The modules themselves; `norm` is None if batch norms were folded, and in heads.
    block
        What applies the activation; `conv` itself in heads.

    """

    name: str
    conv: nn.Conv2d
    norm: nn.BatchNorm2d | None
    block: nn.Module

    @property
    def output(self) -> nn.Module:
        """Return the module whose output is the value before the activation."""
        return self.conv if self.norm is None else self.norm


def find_cells(network: Network) -> dict[str, ConvCell]:
    """Return the cells of a network by the names of their convolutions, in the order they run."""
    cells = [
        ConvCell(f'{name}.conv', block.conv, block.bn, block)
        for name, block in conv_blocks(network).items()
    ]
    head = f'model.{len(network.rows) - 1}.m'
    cells += [
        ConvCell(f'{head}.{level}', layer, None, layer)
        for level, layer in enumerate(network.head.layers)
    ]
    return {cell.name: cell for cell in cells}


@torch.no_grad()
def set_affine(
    cell: ConvCell,
    weight: torch.Tensor,
    bias: torch.Tensor,
    mean: torch.Tensor,
    variance: torch.Tensor,
) -> None:
    """
    Let a cell compute conv(x, weight) + bias.

    A batch norm keeps its place: its statistics become those of conv(x, weight), so that it gives
    about the same whether it uses them or those of a batch.

    Parameters
    ----------
    cell
        What is changed in place.
    weight, bias
        (out, in, k, k) and (out,).
    mean, variance
        (out,): of conv(x, weight) over the data.

    """
    cell.conv.weight.copy_(weight)
    if cell.norm is None:
        if cell.conv.bias is None:
            cell.conv.bias = nn.Parameter(bias.to(cell.conv.weight))
        else:
            cell.conv.bias.copy_(bias)
        return
    if cell.conv.bias is not None:
        cell.conv.bias.zero_()
    norm = cell.norm
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_((variance + norm.eps).sqrt())
    norm.bias.copy_(bias + mean)
