from __future__ import annotations

from collections.abc import Callable

from official_checkpoints import official_model, save_official
import pytest
import torch

from yolov7_trt_ros.model.checkpoint.load import load_network
from yolov7_trt_ros.model.network.architecture import Network
from yolov7_trt_ros.model.network.conv_cells import find_cells
from yolov7_trt_ros.model.prune.channel_groups import cut_channels, find_groups, kept_channels
from yolov7_trt_ros.model.prune.imitation import imitation_loss
from yolov7_trt_ros.model.prune.reconstruct import fit_weights

torch.set_num_threads(1)


@pytest.fixture(scope='module', params=['yolov7-tiny', 'yolov7-e6e'])
def load(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[
    ..., Network
]:
    name = request.param
    path = tmp_path_factory.mktemp('networks') / f'{name}.pt'
    save_official(official_model(name, width=0.25 if 'tiny' in name else 0.125), path, half=False)
    return lambda **options: load_network(path, **options)


def some_images(count: int, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 16, 16, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(128, 128), mode='bilinear')
    return list(smooth.split(2))


def distance(network: Network, original: Network, images: torch.Tensor) -> float:
    with torch.no_grad():
        return float(imitation_loss(
            network(images), original(images), network.anchors, network.strides
        )[0])


@pytest.mark.parametrize('batch_norm', ['keep', 'fold'])
def test_copies_that_are_cut_are_replaced_exactly(
    load: Callable[..., Network], batch_norm: str
) -> None:
    """Half of the channels of some layers repeat the other half: the fit can do without them."""
    original = load(batch_norm=batch_norm)
    groups = [group for group in find_groups(original) if len(group.outputs) == 1][1::3]
    cells = find_cells(original)
    cut = {}
    with torch.no_grad():
        for group in groups:
            half = group.size // 2
            cell = cells[group.root]
            for module in (cell.conv, cell.norm):
                for value in () if module is None else module.state_dict().values():
                    if value.ndim:
                        value[half:2 * half] = value[:half]
            cut[group.root] = list(range(half, 2 * half))
    smaller = cut_channels(original, groups, cut)
    images = some_images(8, seed=3)
    before = distance(smaller, original, images[0])
    kept = kept_channels(original, groups, cut, 'outputs')
    fit_weights(smaller, original, kept, images)
    assert before > 0.01
    assert distance(smaller, original, images[0]) < before / 50


def test_the_fit_brings_a_real_cut_nearer(load: Callable[..., Network]) -> None:
    original = load(batch_norm='keep')
    groups = find_groups(original)
    cut = {group.root: list(range(0, group.size, 4)) for group in groups}
    smaller = cut_channels(original, groups, cut)
    unseen = some_images(2, seed=9)[0]
    before = distance(smaller, original, unseen)
    kept = kept_channels(original, groups, cut, 'outputs')
    rows = []
    images = some_images(8, seed=3)
    fit_weights(smaller, original, kept, images, progress=lambda: rows.append(1))
    assert len(rows) == len(original.rows)
    assert distance(smaller, original, unseen) < before / 2
    # the statistics of the batch norms are those of the pictures
    with torch.no_grad():
        fitted = smaller(torch.cat(images))
        of_the_batch = smaller.train()(torch.cat(images))
    for mine, theirs in zip(of_the_batch, fitted, strict=True):
        assert float((mine - theirs).square().mean() / theirs.var()) < 0.2


def test_the_same_seed_gives_the_same_weights(load: Callable[..., Network]) -> None:
    original = load(batch_norm='fold')
    groups = find_groups(original)
    cut = {groups[2].root: [0, 1]}
    kept = kept_channels(original, groups, cut, 'outputs')
    twice = [cut_channels(original, groups, cut) for _ in range(2)]
    for network in twice:
        fit_weights(network, original, kept, some_images(2, seed=3), positions=64)
    for one, other in zip(*(network.state_dict().values() for network in twice), strict=True):
        assert torch.equal(one, other)
