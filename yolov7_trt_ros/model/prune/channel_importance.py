"""Importance of each channel: the curvature of the imitation loss when it is removed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
import contextlib

import torch
from torch import Tensor

from yolov7_trt_ros.model.network.architecture import Network
from yolov7_trt_ros.model.network.conv_cells import find_cells
from yolov7_trt_ros.model.prune.channel_groups import ChannelGroup
from yolov7_trt_ros.model.prune.imitation import split_map

_BOX_CURVATURE = 1.0


def score_channels(
    network: Network,
    groups: Sequence[ChannelGroup],
    batches: Iterable[Tensor],
    *,
    probes: int = 2,
    seed: int = 0,
) -> dict[str, Tensor]:
    """
    Return what taking each channel away would cost, by the root of its group.

    At the original the imitation loss and its gradient are zero: channels differ by its curvature
    alone. It is sampled: the maps, weighted by the root of the loss's own curvature, are
    projected on random directions, and the square of the projection's derivative by a gate on the
    channel is averaged. A gate takes away what the channel varies by; its mean goes into the bias
    of the next convolution when the weights are fitted.

    Parameters
    ----------
    network
        The original, in evaluation mode.
    groups
        `find_groups`.
    batches
        Images (B, 3, H, W), 0..1, on the device of the network; each is used `probes` times.
    probes
        Random directions per batch.
    seed
        Of the directions.

    Returns
    -------
    scores
        (size,) float64 for each group, on the CPU; comparable across groups.

    """
    cells = find_cells(network)
    generator = torch.Generator().manual_seed(seed)
    scores = {group.root: torch.zeros(group.size, dtype=torch.float64) for group in groups}
    for images in batches:
        values: dict[str, Tensor] = {}
        with contextlib.ExitStack() as stack, torch.enable_grad():
            for name in {member.conv for group in groups for member in group.outputs}:
                handle = cells[name].block.register_forward_hook(
                    lambda _, __, output, name=name, values=values: values.__setitem__(
                        name, output
                    )
                )
                stack.callback(handle.remove)
            maps = network(images.clone().requires_grad_())
        projected = [_curvature_root(raw, network) * raw for raw in maps]
        for probe in range(probes):
            _add_probe(groups, values, projected, scores, generator, probe + 1 < probes)
    return scores


def _add_probe(
    groups: Sequence[ChannelGroup],
    values: dict[str, Tensor],
    projected: Sequence[Tensor],
    scores: dict[str, Tensor],
    generator: torch.Generator,
    retain: bool,
) -> None:
    directions = [
        torch.randn(value.shape, generator=generator).to(value.device) for value in projected
    ]
    names = list(values)
    slopes = torch.autograd.grad(
        projected, [values[name] for name in names], directions, retain_graph=retain
    )
    gates = {}
    for name, slope in zip(names, slopes, strict=True):
        value = values[name].detach()
        varying = value - value.mean((0, 2, 3), keepdim=True)
        gates[name] = (varying * slope).sum((2, 3))
    for group in groups:
        total = sum(
            (gates[m.conv][:, m.first:m.first + group.size] for m in group.outputs),
            start=torch.zeros(()),
        )
        scores[group.root] += total.square().sum(0).double().cpu()


@torch.no_grad()
def _curvature_root(raw: Tensor, network: Network) -> Tensor:
    """Return the root of the imitation loss's second derivative by each value of a map."""
    cells = split_map(raw, network.num_classes)
    objectness = cells[:, :, 4:5].sigmoid()
    classes = cells[:, :, 5:].sigmoid()
    curvature = torch.cat([
        (objectness * _BOX_CURVATURE).expand(-1, -1, 4, -1, -1),
        objectness * (1 - objectness),
        objectness * classes * (1 - classes),
    ], 2)
    return curvature.sqrt().reshape(raw.shape)
