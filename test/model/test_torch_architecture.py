from __future__ import annotations

import dataclasses

from official_checkpoints import scaled
import pytest
import torch

from yolov7_trt_ros.errors import CheckpointError
from yolov7_trt_ros.model.network.architecture import fold_batch_norms, Network
from yolov7_trt_ros.model.network.layer_table import check_rows, head_strides, LayerRow, live_rows
from yolov7_trt_ros.model.network.published import PUBLISHED, published_table

torch.set_num_threads(1)

# Millions of weights as the authors publish them, for 80 classes: without auxiliary heads, but
# for d6.
PUBLISHED_MILLIONS = {
    'yolov7-tiny': 6.2, 'yolov7': 36.9, 'yolov7x': 71.3, 'yolov7-w6': 70.4, 'yolov7-e6': 97.2,
    'yolov7-d6-training': 154.7, 'yolov7-e6e': 151.7,
}


def count_weights(rows: tuple[LayerRow, ...], num_classes: int = 80) -> int:
    """Convolutions and the gain and shift of their batch norms."""
    outputs: list[int] = []
    total = 0

    def conv(inputs: int, channels: int, kernel: int) -> int:
        return inputs * channels * kernel**2 + 2 * channels

    for row in rows:
        inputs = [3 if source < 0 else outputs[source] for source in row.sources]
        channels = row.channels or (sum(inputs) if row.kind == 'concat' else inputs[0])
        if row.kind in ('conv', 'rep_conv'):
            total += conv(inputs[0], channels, row.kernel)
        elif row.kind == 'reorg':
            channels *= 4
        elif row.kind == 'down':
            total += conv(inputs[0], inputs[0], 1) + conv(inputs[0], channels // 2, 3)
            total += conv(inputs[0], channels // 2, 1)
        elif row.kind == 'pyramid':
            total += 2 * conv(inputs[0], channels, 1) + 2 * conv(channels, channels, 3)
            total += conv(channels, channels, 1) + conv(4 * channels, channels, 1)
            total += conv(2 * channels, channels, 1)
        elif row.kind == 'detect':
            total += sum((width + 1) * 3 * (5 + num_classes) for width in inputs)
        outputs.append(channels)
    return total


@pytest.mark.parametrize('name', PUBLISHED_MILLIONS)
def test_the_tables_have_the_published_number_of_weights(name: str) -> None:
    millions = count_weights(published_table(name).rows) / 1e6
    assert millions == pytest.approx(PUBLISHED_MILLIONS[name], abs=0.06)


@pytest.mark.parametrize('name', PUBLISHED)
def test_the_tables_are_sound_and_only_training_forms_have_dead_rows(name: str) -> None:
    table = published_table(name)
    rows = check_rows(table.rows)
    maps = len(table.anchors)
    assert head_strides(rows)[:maps] == (8, 16, 32, 64)[:maps]
    trimmed = (*rows[:-1], dataclasses.replace(rows[-1], sources=rows[-1].sources[:maps]))
    dead = set(range(len(rows))) - set(live_rows(trimmed))
    assert len(dead) == (4 if name.endswith('training') else 0)


def small_network() -> Network:
    return build(scaled(published_table('yolov7-tiny'), 0.125))


def build(rows: tuple[LayerRow, ...], **changes: torch.Tensor) -> Network:
    state = {}
    outputs: list[int] = []
    for index, row in enumerate(rows):
        inputs = [3 if source < 0 else outputs[source] for source in row.sources]
        channels = row.channels or (sum(inputs) if row.kind == 'concat' else inputs[0])
        if row.kind == 'conv':
            name = f'model.{index}.conv'
            state[f'{name}.weight'] = torch.randn(channels, inputs[0], row.kernel, row.kernel)
            state[f'{name}.bias'] = torch.randn(channels)
        elif row.kind == 'detect':
            for level, width in enumerate(inputs):
                state[f'model.{index}.m.{level}.weight'] = torch.randn(21, width, 1, 1)
                state[f'model.{index}.m.{level}.bias'] = torch.randn(21)
        outputs.append(channels)
    return Network(rows, state | changes, published_table('yolov7-tiny').anchors)


def test_a_network_is_what_its_weights_say() -> None:
    network = small_network()
    assert network.num_classes == 2 and network.class_names == ('class_0', 'class_1')
    with torch.no_grad():
        maps = network(torch.rand(2, 3, 96, 64))
    assert [tuple(raw.shape) for raw in maps] == [(2, 21, 12, 8), (2, 21, 6, 4), (2, 21, 3, 2)]


def test_folding_changes_nothing_and_leaves_the_network_alone() -> None:
    network = small_network()
    with torch.no_grad():
        images = torch.rand(1, 3, 64, 64)
        before = network(images)
        assert all(map(torch.equal, fold_batch_norms(network)(images), before))
        assert all(map(torch.equal, network(images), before))


@pytest.mark.parametrize(('changes', 'reason'), [
    ({'model.7.conv.weight': torch.randn(8, 5, 1, 1)}, 'layer 7 .* takes 5 channels'),
    ({'model.7.conv.weight': torch.randn(8, 32, 3, 3)}, 'expected .outputs, inputs, 1, 1'),
    ({'model.7.conv.bias': torch.randn(9)}, 'do not fit'),
    ({'model.200.conv.bias': torch.randn(9)}, 'do not fit'),
    ({'model.77.m.0.weight': torch.randn(22, 16, 1, 1)}, 'have 22, 21, 21 channels'),
    ({f'model.77.m.{level}.weight': torch.randn(15, 16 * 2**level, 1, 1) for level in range(3)},
     '15, 15, 15 channels'),
])
def test_weights_that_do_not_fit_are_refused(
    changes: dict[str, torch.Tensor], reason: str
) -> None:
    with pytest.raises(CheckpointError, match=reason):
        build(scaled(published_table('yolov7-tiny'), 0.125), **changes)


@pytest.mark.parametrize(('row', 'reason'), [
    (LayerRow('attention', (0,)), 'is none of'),
    (LayerRow('conv', (7,)), 'earlier layer'),
    (LayerRow('add', (0,)), 'reads 1 layers, expected 2'),
    (LayerRow('conv', (0,), activation='tanh'), "activation 'tanh'"),
    (LayerRow('conv', (0,), kernel=2), 'even kernel'),
    (LayerRow('conv', (0,), stride=3), 'stride 3'),
    (LayerRow('detect', (0,)), 'not the last'),
    (LayerRow('upsample', (-1,)), 'finer than the image'),
    (LayerRow('concat', (-1, 0)), 'joins maps of the strides'),
])
def test_impossible_rows_are_refused(row: LayerRow, reason: str) -> None:
    rows = (LayerRow('conv', (-1,), 8, 3, 2), row, LayerRow('detect', (0,)))
    with pytest.raises(CheckpointError, match=reason):
        check_rows(rows)
    with pytest.raises(CheckpointError, match='empty'):
        check_rows(())
