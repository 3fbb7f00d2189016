from __future__ import annotations

from collections.abc import Callable
import dataclasses
from pathlib import Path
import tempfile

import numpy as np
from official_checkpoints import official_model, save_official
import pytest
import torch

from yolov7_trt_ros.errors import CalibrationError, CheckpointError, ImageError, InputError
from yolov7_trt_ros.model.checkpoint.load import load_network
from yolov7_trt_ros.model.network.architecture import Network
from yolov7_trt_ros.model.prune import training_batches
from yolov7_trt_ros.model.prune.channel_groups import cut_channels, find_groups
from yolov7_trt_ros.model.prune.distill import read_recovery, Recovery, RecoverySettings
from yolov7_trt_ros.model.prune.imitation import imitation_loss
from yolov7_trt_ros.model.prune.labelled_loss import assign, BoxLabels, place_boxes
from yolov7_trt_ros.model.prune.training_batches import (
    Augmentation,
    BatchOrder,
    draw_placements,
    ImageCache,
    place,
    recolour,
)

torch.set_num_threads(1)

SIDE = 64
SETTINGS = RecoverySettings(epochs=4, batch=2, learning_rate=2e-3, seed=3)


def make_cache(count: int = 6) -> ImageCache:
    generator = np.random.default_rng(4)
    coarse = generator.integers(0, 256, (count, 3, 8, 8), np.uint8)
    images = coarse.repeat(SIDE // 8, 2).repeat(SIDE // 8, 3)
    return ImageCache(lambda index: images[index], count, SIDE, torch.device('cpu'), threads=2)


@pytest.fixture(scope='module')
def teacher_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = official_model('yolov7-tiny', width=0.25)
    return save_official(model, tmp_path_factory.mktemp('teacher') / 'tiny.pt', half=False)


@pytest.fixture
def teacher(teacher_path: Path) -> Network:
    return load_network(teacher_path, batch_norm='keep')


@pytest.fixture
def start(teacher: Network) -> Callable[..., Recovery]:
    groups = find_groups(teacher)
    cut = {group.root: list(range(0, group.size, 4)) for group in groups}

    def make(settings: RecoverySettings = SETTINGS, count: int = 6) -> Recovery:
        return Recovery(cut_channels(teacher, groups, cut), teacher, make_cache(count), settings)

    return make


def test_the_loss_is_zero_for_equal_maps_and_grows_with_any_change(teacher: Network) -> None:
    images = make_cache().batch(torch.arange(2))
    with torch.no_grad():
        maps = teacher(images)
    anchors, strides = teacher.anchors, teacher.strides
    assert float(imitation_loss(maps, maps, anchors, strides)[0]) == pytest.approx(0, abs=1e-5)
    for channel, part in ((0, 'box'), (3, 'box'), (4, 'objectness'), (6, 'classes')):
        changed = [raw.clone() for raw in maps]
        changed[1].view(2, 3, 8, 4, 4)[:, :, channel] += 1
        loss, parts = imitation_loss(changed, maps, anchors, strides)
        assert float(loss) > 1e-3
        assert [name for name, value in parts.items() if value > 1e-4] == [part]


def test_cells_count_by_the_teachers_objectness(teacher: Network) -> None:
    empty = [torch.zeros(1, 24, side, side) for side in (8, 4, 2)]
    for raw in empty:
        raw.view(1, 3, 8, *raw.shape[2:])[:, :, 4] = -12
    empty[0].view(1, 3, 8, 8, 8)[0, 0, 4, 2, 2] = 5
    losses = []
    for y in (2, 6):
        changed = [raw.clone() for raw in empty]
        changed[0].view(1, 3, 8, 8, 8)[0, 0, 5, y, y] += 2
        losses.append(float(imitation_loss(changed, empty, teacher.anchors, teacher.strides)[0]))
    assert losses[0] > 1e3 * losses[1] > 0


def test_recovery_brings_a_cut_network_nearer(
    start: Callable[..., Recovery], teacher: Network
) -> None:
    recovery = start(RecoverySettings(epochs=25, batch=3, learning_rate=3e-3, average=0.9))
    images = make_cache().batch(torch.arange(6))

    def distance(network: Network) -> float:
        with torch.no_grad():
            return float(imitation_loss(
                network.eval()(images), teacher(images), teacher.anchors, teacher.strides
            )[0])

    before, reports = distance(recovery.student), []
    assert recovery.run(on_epoch=reports.append)
    assert distance(recovery.result) < before * 0.6
    assert [report.epoch for report in reports] == list(range(1, 26))
    assert reports[-1].progress == 1
    assert reports[-1].learning_rate < 0.05 * max(r.learning_rate for r in reports)


@pytest.mark.parametrize('steps', [1, 3, 7])
def test_an_interrupted_recovery_goes_on_to_the_bit(
    start: Callable[..., Recovery], tmp_path: Path, steps: int
) -> None:
    whole = start()
    assert whole.run()
    first = start()
    assert not first.run(should_stop=lambda: first.step == steps)
    first.save(tmp_path / 'stopped', {'cut': {'a': [1]}})
    second = start()
    record = read_recovery(tmp_path / 'stopped')
    assert record['extra'] == {'cut': {'a': [1]}}
    second.resume(record)
    assert second.step == steps
    assert second.run()
    for mine, theirs in ((second.result, whole.result), (second.student, whole.student)):
        for (name, one), other in zip(
            mine.state_dict().items(), theirs.state_dict().values(), strict=True
        ):
            assert torch.equal(one, other), name


def test_another_recovery_is_not_resumed(
    start: Callable[..., Recovery], tmp_path: Path
) -> None:
    recovery = start()
    recovery.save(tmp_path / 'stopped', {})
    record = read_recovery(tmp_path / 'stopped')
    with pytest.raises(CheckpointError, match='batch 2 there, 3 here'):
        start(dataclasses.replace(SETTINGS, batch=3)).resume(record)
    with pytest.raises(CheckpointError, match='images 6 there, 5 here'):
        start(count=5).resume(record)


def test_a_damaged_or_foreign_file_is_no_recovery(tmp_path: Path) -> None:
    path = tmp_path / 'file'
    with pytest.raises(CheckpointError, match='without --resume'):
        read_recovery(path)
    path.write_bytes(b'PK\x03\x04 cut off')
    with pytest.raises(CheckpointError, match='damaged'):
        read_recovery(path)
    torch.save({'model': torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match='expected'):
        read_recovery(path)
    torch.save({'format': 'yolov7_trt_ros recovery 1', 'settings': [], 'step': 1}, path)
    with pytest.raises(CheckpointError, match='is damaged: start anew'):
        read_recovery(path)


def test_a_limit_of_time_ends_the_run_with_the_schedule_run_out(
    start: Callable[..., Recovery]
) -> None:
    recovery = start(dataclasses.replace(SETTINGS, epochs=10_000, minutes=0.02))
    reports = []
    assert recovery.run(on_epoch=reports.append)
    assert recovery.step < recovery.total_steps / 10
    assert recovery.elapsed_s >= 1.2
    assert reports[-1].learning_rate < SETTINGS.learning_rate / 10


def test_images_that_cannot_be_read_are_left_out() -> None:
    def load(index: int) -> np.ndarray:
        if index % 2:
            raise ImageError(f'no picture {index}')
        return np.full((3, SIDE, SIDE), index, np.uint8)

    cache = ImageCache(load, 5, SIDE, torch.device('cpu'), threads=3)
    assert (len(cache), [index for index, _ in cache.failed]) == (3, [1, 3])
    assert (cache.batch(torch.tensor([2, 1]))[:, 0, 0, 0] * 255).tolist() == [4, 2]
    cache.close()
    cache.close()


def test_many_images_lie_in_a_file_whose_room_is_taken_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(training_batches, '_LARGEST_IN_MEMORY_BYTES', 100)
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    taken = []

    def load(index: int) -> np.ndarray:
        taken.extend(file.stat().st_blocks * 512 for file in tmp_path.glob('*/images'))
        return np.full((3, SIDE, SIDE), index, np.uint8)

    cache = ImageCache(load, 3, SIDE, torch.device('cpu'))
    assert taken and min(taken) >= 3 * 3 * SIDE * SIDE
    assert (cache.batch(torch.tensor([2, 1]))[:, 0, 0, 0] * 255).tolist() == [2, 1]
    cache.close()
    assert list(tmp_path.iterdir()) == []


def test_no_image_at_all_is_an_error() -> None:
    def load(index: int) -> np.ndarray:
        raise ImageError('damaged')

    with pytest.raises(CalibrationError, match='none of 2 can be used: damaged'):
        ImageCache(load, 2, SIDE, torch.device('cpu'))


def test_every_image_comes_once_an_epoch_in_another_order() -> None:
    order = BatchOrder(images=7, batch=3, seed=1)
    assert order.steps_per_epoch == 2
    epochs = [torch.cat([order.chosen(step) for step in steps]).tolist()
              for steps in ((0, 1), (2, 3), (4, 5))]
    assert all(len(set(epoch)) == 6 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert BatchOrder(images=2, batch=8).chosen(5).sort().values.tolist() == [0, 1]


def test_a_box_moves_with_its_image() -> None:
    image = torch.zeros(1, 3, 128, 128)
    image[:, :, 40:60, 30:70] = 1
    box = torch.tensor([[7, 50 / 128, 50 / 128, 40 / 128, 20 / 128]])
    generator = torch.Generator().manual_seed(0)
    seen = 0
    for placement in draw_placements(30, Augmentation(), generator):
        moved = place_boxes(box, placement)
        bright = (place(image, placement[None])[0, 0] > 0.75).nonzero()
        if not len(moved):
            continue
        seen += 1
        centre, size = moved[0, 1:3] * 128, moved[0, 3:5] * 128
        (top, left), (bottom, right) = bright.amin(0), bright.amax(0) + 1
        found = torch.stack([left, top, right, bottom]).float()
        wanted = torch.cat([centre - size / 2, centre + size / 2])
        assert float((found - wanted).abs().max()) <= 1.6
    assert seen > 20


def test_a_flip_is_exact_and_calm_images_keep_their_pixels() -> None:
    images = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    placements = draw_placements(8, Augmentation.calm(), torch.Generator().manual_seed(2))
    flipped = placements[:, 0] < 0
    assert 0 < int(flipped.sum()) < 8
    moved = place(images, placements)
    torch.testing.assert_close(moved[flipped], images[flipped].flip(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(moved[~flipped], images[~flipped], atol=1e-5, rtol=0)


def test_colours_change_within_the_range() -> None:
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    changed = recolour(images, 0.3, torch.Generator().manual_seed(2))
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 1
    assert float((changed - images).abs().mean()) > 0.02
    torch.testing.assert_close(recolour(images, 0.0, torch.Generator()), images)


def test_a_box_is_answered_by_its_cell_and_two_neighbours() -> None:
    targets = torch.tensor([[0, 2, 3.3 / 8, 4.8 / 8, 2 / 8, 1 / 8]])
    anchors = torch.tensor([[2.0, 1.0], [30.0, 30.0]])
    image, anchor, y, x, boxes, classes = assign(targets, anchors, (8, 8))
    cells = set(zip(x.tolist(), y.tolist(), strict=True))
    assert cells == {(3, 4), (2, 4), (3, 5)}
    assert (set(image.tolist()), set(anchor.tolist()), set(classes.tolist())) == ({0}, {0}, {2})
    at = boxes[(x == 3) & (y == 4)][0]
    torch.testing.assert_close(at, torch.tensor([0.3, 0.8, 2.0, 1.0]), atol=1e-5, rtol=0)


def test_the_labelled_loss_prefers_the_right_box(teacher: Network) -> None:
    boxes = [np.array([[1, 0.5, 0.5, 0.3, 0.4]], np.float32), np.zeros((0, 5), np.float32)]
    loss = BoxLabels(boxes, teacher.anchors, teacher.strides)
    chosen, still = torch.tensor([0, 1]), torch.tensor([[1.0, 1, 0, 0]] * 2)
    maps = [torch.zeros(2, 24, side, side, requires_grad=True) for side in (8, 4, 2)]
    optimiser = torch.optim.Adam(maps, lr=0.3)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        value = loss(maps, chosen, still)
        value.backward()
        optimiser.step()
        losses.append(float(value.detach()))
    assert losses[-1] < losses[0] / 5
    cells = maps[1].detach().view(2, 3, 8, 4, 4)
    assert float(cells[0, :, 4, 2, 2].max()) > 0 > float(cells[1, :, 4].max())
    assert cells[0, 0, 5:, 2, 2].argmax() == 1
    with pytest.raises(InputError):
        BoxLabels([boxes[1], None], teacher.anchors, teacher.strides)


def test_images_that_nobody_labelled_have_no_part_in_the_labelled_loss(teacher: Network) -> None:
    boxes = [None, np.array([[1, 0.5, 0.5, 0.3, 0.4]], np.float32), None]
    loss = BoxLabels(boxes, teacher.anchors, teacher.strides)
    alone = BoxLabels(boxes[1:2], teacher.anchors, teacher.strides)
    maps = [torch.randn(3, 24, side, side, requires_grad=True) for side in (8, 4, 2)]
    still = torch.tensor([[1.0, 1, 0, 0]] * 3)
    value = loss(maps, torch.tensor([0, 1, 2]), still)
    value.backward()
    expected = alone([raw[1:2] for raw in maps], torch.tensor([0]), still[:1])
    torch.testing.assert_close(value, expected)
    assert float(maps[0].grad[1].abs().sum()) > 0
    assert float(maps[0].grad[[0, 2]].abs().sum()) == 0
    assert float(loss([raw[:1] for raw in maps], torch.tensor([2]), still[:1])) == 0


def test_labels_are_learnt_beside_the_maps(
    start: Callable[..., Recovery], teacher: Network
) -> None:
    plain = start(dataclasses.replace(SETTINGS, epochs=1))
    boxes = [np.array([[1, 0.5, 0.5, 0.3, 0.4]], np.float32)] * 6
    labelled = Recovery(
        start().student, teacher, make_cache(), dataclasses.replace(SETTINGS, epochs=1),
        BoxLabels(boxes, teacher.anchors, teacher.strides),
    )
    reports = []
    plain.run()
    labelled.run(on_epoch=reports.append)
    assert 'labels' in reports[0].parts
    weights = [r.student.model[0].conv.weight for r in (plain, labelled)]
    assert not torch.equal(*weights)
