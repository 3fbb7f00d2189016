from __future__ import annotations

import functools
from pathlib import Path
import tempfile

from official_checkpoints import official_model, save_official
import pytest
import torch
from torch import Tensor

from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.model.checkpoint.load import load_network, save_network
from yolov7_trt_ros.model.network.architecture import Network
from yolov7_trt_ros.model.network.conv_cells import find_cells
from yolov7_trt_ros.model.network.network_cost import conv_costs, NetworkCost, total_cost
from yolov7_trt_ros.model.prune.channel_groups import (
    ChannelGroup,
    cut_channels,
    find_groups,
    kept_channels,
)
from yolov7_trt_ros.model.prune.channel_importance import score_channels
from yolov7_trt_ros.model.prune.choose import choose_cut, PruneTarget

torch.set_num_threads(1)

SIZE_WH = (128, 64)


def network_cost(network: Network, size_wh: tuple[int, int]) -> NetworkCost:
    return total_cost(conv_costs(network, size_wh))


@functools.cache
def checkpoint(name: str, width: float) -> Path:
    folder = Path(tempfile.mkdtemp(prefix='yolov7_trt_test_'))
    model = official_model(name, width=width)
    return save_official(model, folder / f'{name}.pt', half=False)


def small_network(
    name: str = 'yolov7-tiny', width: float = 0.5, *, folded: bool = False
) -> Network:
    path = checkpoint(name, width)
    return load_network(path, batch_norm='fold' if folded else 'keep')


def random_scores(groups: list[ChannelGroup]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {
        group.root: torch.rand(group.size, generator=generator, dtype=torch.float64)
        for group in groups
    }


@pytest.mark.parametrize(('name', 'folded'), [
    ('yolov7-tiny', False), ('yolov7-tiny', True), ('yolov7', False), ('yolov7', True),
    ('yolov7-w6', False), ('yolov7-e6', False), ('yolov7-d6-training', False),
    ('yolov7-e6e', False),
])
def test_a_cut_network_is_the_original_with_silent_channels(name: str, folded: bool) -> None:
    network = small_network(name, 0.25, folded=folded)
    groups = find_groups(network)
    generator = torch.Generator().manual_seed(2)
    cut = {
        group.root: torch.randperm(group.size, generator=generator)[: group.size // 3].tolist()
        for group in groups[::2]
    }
    smaller = cut_channels(network, groups, cut)
    cells = find_cells(network)
    for conv, kept in kept_channels(network, groups, cut, 'outputs').items():
        mask = torch.zeros(cells[conv].conv.out_channels)
        mask[kept] = 1
        assert find_cells(smaller)[conv].conv.out_channels == len(kept) < len(mask)
        cells[conv].block.register_forward_hook(
            lambda _, __, output, mask=mask: output * mask[None, :, None, None]
        )
    images = torch.rand(1, 3, 128, 128, generator=generator)
    with torch.no_grad():
        for mine, theirs in zip(smaller(images), network(images), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_every_convolution_but_the_heads_can_be_cut() -> None:
    network = small_network('yolov7-e6e', 0.125)
    groups = find_groups(network)
    makers = [member.conv for group in groups for member in group.outputs]
    assert len(makers) == len(set(makers))
    heads = {name for name in find_cells(network) if '.m.' in name}
    assert set(makers) == set(find_cells(network)) - heads
    assert any(len(group.outputs) > 1 for group in groups), 'e6e adds layers: they share channels'


@pytest.mark.parametrize('share', [0.9, 0.6, 0.4])
def test_a_target_of_work_is_met_in_blocks_of_eight(share: float) -> None:
    network = small_network()
    groups = find_groups(network)
    plan = choose_cut(
        network, groups, random_scores(groups), PruneTarget(flops=share), size_wh=SIZE_WH
    )
    smaller = cut_channels(network, groups, plan.cut)
    assert plan.before == network_cost(network, SIZE_WH)
    assert plan.after == network_cost(smaller, SIZE_WH)
    assert share - 0.02 < plan.after.macs / plan.before.macs <= share
    for group in groups:
        left = group.size - len(plan.cut.get(group.root, ()))
        assert left % 8 == 0
        assert left >= group.size / 4


def test_channels_go_in_blocks_of_what_is_asked() -> None:
    network = small_network()
    groups = find_groups(network)
    plan = choose_cut(
        network, groups, random_scores(groups), PruneTarget(flops=0.8, round_to=32),
        size_wh=SIZE_WH,
    )
    left = {group.root: group.size - len(plan.cut.get(group.root, ())) for group in groups}
    assert 0.5 < plan.after.macs / plan.before.macs <= 0.8
    assert all(left[group.root] in (group.size, *range(32, group.size, 32)) for group in groups)
    with pytest.raises(SettingError, match='round_to'):
        PruneTarget(flops=0.8, round_to=0)


def test_a_target_of_size_is_met_by_the_file(tmp_path: Path) -> None:
    network = small_network(folded=True)
    groups = find_groups(network)
    target = network_cost(network, SIZE_WH).size_mb * 0.5
    plan = choose_cut(
        network, groups, random_scores(groups), PruneTarget(size_mb=target), size_wh=SIZE_WH
    )
    smaller = cut_channels(network, groups, plan.cut)
    assert target * 0.97 < plan.after.size_mb <= target
    assert sum(p.numel() for p in smaller.parameters()) == plan.after.parameters
    save_network(smaller, tmp_path / 'smaller.pt')
    again = load_network(tmp_path / 'smaller.pt')
    assert network_cost(again, SIZE_WH) == plan.after


def test_a_target_of_time_asks_the_measure() -> None:
    network = small_network()
    groups = find_groups(network)
    asked = []

    def measure(candidate: Network) -> float:
        asked.append(network_cost(candidate, SIZE_WH).macs)
        return asked[-1] / asked[0] * 10

    plan = choose_cut(
        network, groups, random_scores(groups), PruneTarget(latency_ms=7), size_wh=SIZE_WH,
        measure=measure,
    )
    assert 0.66 < plan.after.macs / plan.before.macs <= 0.7
    assert len(asked) < 15


@pytest.mark.parametrize('values', [
    {}, {'flops': 0.5, 'size_mb': 3.0}, {'flops': 1.0}, {'flops': 0.0}, {'size_mb': -1.0},
    {'latency_ms': float('nan')},
])
def test_a_target_that_makes_no_sense_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(SettingError):
        PruneTarget(**values)


@pytest.mark.parametrize(('target', 'said'), [
    (PruneTarget(flops=0.01), 'still'), (PruneTarget(size_mb=1000), 'already'),
])
def test_a_target_out_of_reach_is_said(target: PruneTarget, said: str) -> None:
    network = small_network()
    groups = find_groups(network)
    with pytest.raises(SettingError, match=said):
        choose_cut(network, groups, random_scores(groups), target, size_wh=SIZE_WH)


def test_channels_that_do_nothing_score_lowest() -> None:
    network = small_network()
    groups = find_groups(network)
    group = groups[7]
    cell = find_cells(network)[group.root]
    assert cell.norm is not None
    silent, constant = 3, 5
    with torch.no_grad():
        cell.norm.weight[[silent, constant]] = 0
        cell.norm.bias[silent], cell.norm.bias[constant] = 0, 2.0
    generator = torch.Generator().manual_seed(1)
    batches = [torch.rand(2, 3, 64, 64, generator=generator) for _ in range(2)]
    scores = score_channels(network, groups, batches)
    others = [n for n in range(group.size) if n not in (silent, constant)]
    assert scores[group.root][[silent, constant]].max() < 1e-6 * scores[group.root][others].min()
    assert all(torch.isfinite(score).all() for score in scores.values())


def test_scores_tell_what_a_channel_changes() -> None:
    """A channel of small effect, by the weights that read it, scores lower by its square."""
    network = small_network()
    groups = find_groups(network)
    group = next(group for group in groups if len(group.inputs) == 1 and group.size >= 16)
    batches = [torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))]
    before = score_channels(network, groups, batches)[group.root]
    reader = find_cells(network)[group.inputs[0].conv].conv
    with torch.no_grad():
        reader.weight[:, group.inputs[0].first + 4] *= 0.1
    after = score_channels(network, groups, batches)[group.root]
    assert after[4] / before[4] < 0.1
    assert float((after / before)[[n for n in range(group.size) if n != 4]].median()) > 0.3
