"""Choose the channels to remove for a target of work, size or time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

import torch
from torch import Tensor

from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.model.network.architecture import Network
from yolov7_trt_ros.model.network.network_cost import conv_costs, ConvCost, NetworkCost, total_cost
from yolov7_trt_ros.model.prune.channel_groups import (
    ChannelGroup,
    Cut,
    cut_channels,
    removed_counts,
)

ROUND_TO = 8
"""
Channels are removed in blocks, so that a multiple of this number is left, unless set otherwise.

Tensor cores multiply float16 matrices in tiles whose sides are multiples of 8, and CPUs have
vectors of 8 float32: a convolution with 57 channels takes as long as one with 64. In INT8 TensorRT
keeps maps in groups of 32 channels.

"""
LEAST_KEPT = 0.25
"""Share of the channels of each group that always stays."""

Measure = Callable[[Network], float]
Block = tuple[str, tuple[int, ...]]
"""Root of a group and channels of it that go together."""


@dataclasses.dataclass(frozen=True)
class PruneTarget:
    """
    How small the network is to become: exactly one of `flops`, `size_mb`, `latency_ms` is given.

    Attributes
    ----------
    flops
        Share of the multiply-accumulates that stay, 0..1.
    size_mb
        Float32 weights in 10^6 bytes, batch norms folded.
    latency_ms
        Whatever `measure` of `choose_cut` gives, in milliseconds.
    round_to
        Channels left of a group that loses some are a multiple of it.

    Raises
    ------
    SettingError
        None or several are given, or a value is out of its range.

    """

    flops: float | None = None
    size_mb: float | None = None
    latency_ms: float | None = None
    round_to: int = ROUND_TO

    def __post_init__(self) -> None:
        """Check the values."""
        if self.round_to < 1:
            raise SettingError(f'round_to (--round-to) must be at least 1, got {self.round_to}')
        asked = {'flops': self.flops, 'size_mb': self.size_mb, 'latency_ms': self.latency_ms}
        given = {name: value for name, value in asked.items() if value is not None}
        if len(given) != 1:
            raise SettingError(
                'expected one target of flops, size_mb and latency_ms, found '
                f'{", ".join(given) or "none"}'
            )
        name, value = given.popitem()
        if not value > 0 or (name == 'flops' and value >= 1):
            raise SettingError(
                f'{name} must be {"above 0 and below 1" if name == "flops" else "above 0"}, '
                f'got {value}'
            )


@dataclasses.dataclass(frozen=True)
class Plan:
    """What goes, and what the network costs before and after."""

    cut: Cut
    before: NetworkCost
    after: NetworkCost

    def as_record(self) -> dict[str, Any]:
        """Return the costs as a JSON-ready dict."""
        return {
            'before': self.before.as_record(),
            'after': self.after.as_record(),
            'channels_removed': sum(len(channels) for channels in self.cut.values()),
        }


def choose_cut(
    network: Network,
    groups: Sequence[ChannelGroup],
    scores: Mapping[str, Tensor],
    target: PruneTarget,
    *,
    size_wh: tuple[int, int],
    measure: Measure | None = None,
) -> Plan:
    """
    Choose the channels whose loss costs least for what it saves, until the target is met.

    All blocks of all groups are put in one order, by importance per multiply-accumulate saved (per
    weight for a target of size); bisection finds how many of them have to go.

    Parameters
    ----------
    network, groups, scores
        The original, `find_groups` and `score_channels`.
    target
        What to reach.
    size_wh
        Network pixels that multiply-accumulates are counted for.
    measure
        Needed for a target of latency: gives milliseconds of a network.

    Raises
    ------
    SettingError
        The network has the target already, or does not reach it with what has to stay: a quarter
        of each group, and `round_to` channels.

    """
    costs = conv_costs(network, size_wh)
    blocks = order_blocks(
        groups, scores, costs, by_weights=target.size_mb is not None, round_to=target.round_to
    )

    def miss(gone: Sequence[Block]) -> float:
        """Return how far above the target the network is without these blocks."""
        cut = as_cut(gone)
        if target.latency_ms is not None:
            assert measure is not None, 'a target of latency needs a measure'
            return measure(cut_channels(network, groups, cut)) - target.latency_ms
        cost = cut_cost(costs, groups, cut)
        if target.size_mb is not None:
            return cost.size_mb - target.size_mb
        assert target.flops is not None
        return cost.macs / total_cost(costs).macs - target.flops

    gone = blocks[: _bisect(lambda count: miss(blocks[:count]), len(blocks))]
    if target.latency_ms is None:  # to measure the time of each would take too long
        gone = _spare(gone, miss)
    cut = as_cut(gone)
    return Plan(cut, total_cost(costs), cut_cost(costs, groups, cut))


def _bisect(miss: Callable[[int], float], most: int) -> int:
    """Return the least count for which `miss` is not above 0."""
    above, most_miss = miss(0), miss(most)
    if above <= 0:
        raise SettingError(
            f'the network is below the target already (by {-above:.4g}): ask for less'
        )
    if most_miss > 0:
        raise SettingError(
            f'without all channels that may go the network is still {most_miss:.4g} above the '
            f'target ({LEAST_KEPT:.0%} of each layer stay, and multiples of --round-to): ask for '
            'more, or start from a smaller network'
        )
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if miss(middle) > 0 else (low, middle)
    return high


def _spare(gone: Sequence[Block], miss: Callable[[Sequence[Block]], float]) -> list[Block]:
    """Put back, the most important first, what the last large block made needless to take."""
    kept = list(gone)
    for block in reversed(gone):
        without = [other for other in kept if other != block]
        if miss(without) <= 0:
            kept = without
    return kept


def order_blocks(
    groups: Sequence[ChannelGroup],
    scores: Mapping[str, Tensor],
    costs: Mapping[str, ConvCost],
    *,
    by_weights: bool,
    round_to: int,
) -> list[Block]:
    """Return the blocks that may go, the one that costs least for what it saves first."""
    rated: list[tuple[float, int, Block]] = []
    for group in groups:
        saved = saved_per_channel(group, costs, by_weights=by_weights)
        channels = torch.argsort(scores[group.root], stable=True).tolist()
        least = max(round_to, -(-int(group.size * LEAST_KEPT) // round_to) * round_to)
        edges = list(range(group.size % round_to or round_to, group.size - least + 1, round_to))
        for start, end in zip([0, *edges], edges, strict=False):
            block = tuple(sorted(channels[start:end]))
            cost = float(scores[group.root][list(block)].sum()) / (saved * len(block))
            rated.append((cost, len(rated), (group.root, block)))
    return [block for _, _, block in sorted(rated)]


def saved_per_channel(
    group: ChannelGroup, costs: Mapping[str, ConvCost], *, by_weights: bool
) -> float:
    """Return the multiply-accumulates, or weights, that one channel of a group takes."""
    total = 0.0
    for members, makes in ((group.outputs, True), (group.inputs, False)):
        for member in members:
            cost = costs[member.conv]
            others = cost.inputs if makes else cost.outputs
            total += others * cost.taps * (1 if by_weights else cost.positions)
    return total


def as_cut(blocks: Sequence[Block]) -> dict[str, tuple[int, ...]]:
    """Return blocks as what goes of each group."""
    cut: dict[str, tuple[int, ...]] = {}
    for root, channels in blocks:
        cut[root] = tuple(sorted((*cut.get(root, ()), *channels)))
    return cut


def cut_cost(
    costs: Mapping[str, ConvCost], groups: Sequence[ChannelGroup], cut: Cut
) -> NetworkCost:
    """Return what a network would cost after a cut."""
    return total_cost(
        costs, removed_counts(groups, cut, 'inputs'), removed_counts(groups, cut, 'outputs')
    )
