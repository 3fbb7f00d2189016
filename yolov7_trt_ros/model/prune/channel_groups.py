"""Find channels that depend on each other with torch-pruning, and cut them out of a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
from typing import Any

import torch
from torch import nn, Tensor

from yolov7_trt_ros.errors import MissingDependencyError, ModelLayoutError
from yolov7_trt_ros.model.network.architecture import Network
from yolov7_trt_ros.model.network.conv_cells import find_cells

_EXAMPLE_CELLS = 2
"""Side of the traced image, in cells of the largest stride."""


@dataclasses.dataclass(frozen=True)
class Member:
    """Channels `first` to `first + size` of a convolution, one for each channel of a group."""

    conv: str
    first: int


@dataclasses.dataclass(frozen=True)
class ChannelGroup:
    """
    Channels that can only go together: one of them is one channel of each member.

    Attributes
    ----------
    root
        Name of the convolution whose output channels number the group.
    size
        Number of its channels.
    outputs
        What produces the channels: the root, and what is added to it.
    inputs
        What reads them; a convolution may read them several times, through poolings.

    """

    root: str
    size: int
    outputs: tuple[Member, ...]
    inputs: tuple[Member, ...]


Cut = Mapping[str, Sequence[int]]
"""Root of each group that is cut to those of its channels that are taken away."""


def find_groups(network: Network) -> list[ChannelGroup]:
    """
    Return the groups of a network that may be cut: all but those of its outputs.

    Raises
    ------
    MissingDependencyError
        torch-pruning is not installed.
    ModelLayoutError
        Nothing in the network can be cut.

    """
    graph = _trace(network)
    cells = find_cells(network)
    names: dict[nn.Module, str] = {cell.conv: name for name, cell in cells.items()}
    fixed = set(network.head.layers)
    groups: list[ChannelGroup] = []
    seen: set[str] = set()
    for name, cell in cells.items():
        if cell.conv not in fixed and name not in seen:
            group = _find_group(graph, cell.conv, names)
            seen |= {member.conv for member in group.outputs}
            if not _is_fixed(group, cells, fixed):
                groups.append(group)
    if not groups:
        raise ModelLayoutError(
            'no channels of this network can be cut: expected convolutions between its input and '
            'its maps, found none'
        )
    return groups


def cut_channels(network: Network, groups: Sequence[ChannelGroup], cut: Cut) -> Network:
    """Return a new network without some channels; what reads them has fewer inputs."""
    state = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    outputs = kept_channels(network, groups, cut, 'outputs')
    inputs = kept_channels(network, groups, cut, 'inputs')
    for conv, kept in outputs.items():
        block = conv.removesuffix('conv')
        for name in (f'{conv}.weight', f'{conv}.bias', *(f'{block}bn.{part}' for part in _NORM)):
            if name in state:
                state[name] = state[name][kept]
    for conv, kept in inputs.items():
        state[f'{conv}.weight'] = state[f'{conv}.weight'][:, kept]
    return Network(network.rows, state, network.anchors, network.class_names)


_NORM = ('weight', 'bias', 'running_mean', 'running_var')


def kept_channels(
    network: Network, groups: Sequence[ChannelGroup], cut: Cut, side: str
) -> dict[str, Tensor]:
    """
    Return which channels stay, of each convolution that loses some, as indices.

    Parameters
    ----------
    network, groups, cut
        The network before the cut.
    side
        `outputs` or `inputs`.

    """
    cells = find_cells(network)
    masks: dict[str, Tensor] = {}
    for member, channels in _removed(groups, cut, side):
        conv = cells[member.conv].conv
        count = conv.out_channels if side == 'outputs' else conv.in_channels
        mask = masks.setdefault(member.conv, torch.ones(count, dtype=torch.bool))
        mask[[member.first + channel for channel in channels]] = False
    return {name: mask.nonzero().flatten() for name, mask in masks.items()}


def removed_counts(groups: Sequence[ChannelGroup], cut: Cut, side: str) -> dict[str, int]:
    """Return how many channels each convolution loses, on one side."""
    counts: dict[str, int] = {}
    for member, channels in _removed(groups, cut, side):
        counts[member.conv] = counts.get(member.conv, 0) + len(channels)
    return counts


def _removed(
    groups: Sequence[ChannelGroup], cut: Cut, side: str
) -> Iterator[tuple[Member, Sequence[int]]]:
    for group in groups:
        channels = cut.get(group.root, ())
        if channels:
            for member in getattr(group, side):
                yield member, channels


def _trace(network: Network) -> Any:
    """Return torch-pruning's graph of a network."""
    try:
        import torch_pruning
    except ImportError as exc:
        raise MissingDependencyError(
            f'pruning needs torch-pruning ({exc}); install it with: pip install torch-pruning'
        ) from exc
    side = network.stride * _EXAMPLE_CELLS
    image = torch.zeros(1, 3, side, side, device=next(network.parameters()).device)
    with torch.enable_grad():  # in a tuple: torch-pruning would take the batch apart
        return torch_pruning.DependencyGraph().build_dependency(
            network, example_inputs=(image,), verbose=False
        )


def _find_group(graph: Any, root: nn.Conv2d, names: Mapping[nn.Module, str]) -> ChannelGroup:
    """
    Ask torch-pruning who shares the channels of a convolution.

    The first and the last channel are enough: concatenation, addition and pooling keep channels
    in order. To ask for every channel takes minutes in a large network.

    """
    last = root.out_channels - 1
    prune = graph.get_pruner_of_module(root).prune_out_channels
    members: dict[str, list[Member]] = {'outputs': [], 'inputs': []}
    for item in graph.get_pruning_group(root, prune, sorted({0, last})):
        module = item.dep.target.module
        if isinstance(module, nn.Conv2d):
            makes = graph.is_out_channel_pruning_fn(item.dep.handler)
            members['outputs' if makes else 'inputs'] += _members(item, names[module], last)
    return ChannelGroup(
        names[root], last + 1, tuple(members['outputs']), tuple(members['inputs'])
    )


def _members(item: Any, name: str, last: int) -> list[Member]:
    pairs = list(zip(item.idxs, item.root_idxs, strict=True))
    firsts = sorted(int(channel) for channel, root in pairs if root == 0)
    lasts = sorted(int(channel) for channel, root in pairs if root == last)
    if [first + last for first in firsts] != lasts:
        raise ModelLayoutError(
            f'the channels that {name} shares do not lie in order ({firsts}, {lasts}): this '
            'network cannot be pruned'
        )
    return [Member(name, first) for first in firsts]


def _is_fixed(group: ChannelGroup, cells: Mapping[str, Any], fixed: set[nn.Conv2d]) -> bool:
    """Tell whether a group holds a map of the network or a convolution in groups."""
    makers = [cells[member.conv].conv for member in group.outputs]
    readers = [cells[member.conv].conv for member in group.inputs]
    grouped = any(conv.groups > 1 for conv in (*makers, *readers))
    return grouped or not readers or any(conv in fixed for conv in makers)
