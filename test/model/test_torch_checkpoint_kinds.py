"""What a checkpoint is told to be: fused or not, which table, which head, whose file."""

from __future__ import annotations

from collections.abc import Callable
import copy
import io
import os
from pathlib import Path
import pickle
import tarfile
from typing import Any
import zipfile

import numpy as np
import official_checkpoints
from official_checkpoints import fuse, official_model, original_modules, save_official
import pytest
import slow_reference
from test_torch_checkpoint import model_and_images, relative
import torch

from yolov7_trt_ros.core.forms.model_spec import ANCHOR_SETS
from yolov7_trt_ros.errors import CheckpointError, ModelNotFoundError, SettingError
from yolov7_trt_ros.model.checkpoint.facts import Overrides
from yolov7_trt_ros.model.checkpoint.load import load_checkpoint, load_network, save_network

torch.set_num_threads(1)


def facts_of(path: Path, **overrides: Any) -> dict[str, Any]:
    loaded = load_checkpoint(path, overrides=Overrides(**overrides))
    return {fact.name: fact for fact in loaded.facts}


def difference(path: Path, model: Any, images: torch.Tensor, **overrides: Any) -> float:
    """Return how far a checkpoint is from the layers of a model, written out."""
    network = load_checkpoint(path, overrides=Overrides(**overrides)).network
    with torch.no_grad():
        wanted = slow_reference.run_official(model, images)
        return max(map(relative, network(images), wanted))


# ---- fused or not


@pytest.mark.parametrize(('name', 'head'), [
    ('yolov7-tiny', 'IDetect'), ('yolov7', 'IDetect'), ('yolov7-w6-training', None),
    ('yolov7x', None),
])
@pytest.mark.parametrize('whole', [False, True])
def test_a_fused_model_is_told_and_its_vectors_are_not_folded_twice(
    tmp_path: Path, name: str, head: str | None, whole: bool
) -> None:
    model, images = model_and_images(name, head)
    fused, path = fuse(copy.deepcopy(model)), tmp_path / 'fused.pt'
    if whole:
        save_official(fused, path, half=False)
    else:
        torch.save(fused.state_dict(), path)
    assert difference(path, model, images) < 2e-5
    told = facts_of(path)['fused']
    assert told.value.startswith('yes') and not told.is_assumed
    assert ('in the head already' in told.value) == (head == 'IDetect' or 'w6' in name)


def test_what_is_fused_by_half_is_refused_where_vectors_are_in_doubt(tmp_path: Path) -> None:
    model, images = model_and_images('yolov7', 'IDetect')
    whole, fused = model.state_dict(), fuse(copy.deepcopy(model)).state_dict()
    half = {
        **{name: value for name, value in whole.items() if int(name.split('.')[1]) < 50},
        **{name: value for name, value in fused.items() if int(name.split('.')[1]) >= 50},
    }
    torch.save(half, tmp_path / 'half.pt')
    with pytest.raises(CheckpointError, match=r'fused with their batch norms and \d+ are not'):
        load_network(tmp_path / 'half.pt')
    torch.save({name: value for name, value in half.items() if 'implicit' not in name},
               tmp_path / 'no_vectors.pt')
    assert facts_of(tmp_path / 'no_vectors.pt')['fused'].value.startswith('partly')
    lost = {name: value for name, value in whole.items() if '.7.bn.' not in name}
    torch.save(lost, tmp_path / 'lost.pt')
    with pytest.raises(CheckpointError, match='neither a batch norm nor a bias'):
        load_network(tmp_path / 'lost.pt')


@pytest.mark.parametrize('change', [
    lambda state, name: state.pop(f'{name}ia.1.implicit'),
    lambda state, name: state.update({f'{name}im.0.implicit': torch.ones(1, 1, 1, 1)}),
])
def test_vectors_that_do_not_fit_are_refused(
    tmp_path: Path, change: Callable[[dict[str, torch.Tensor], str], object]
) -> None:
    state = official_model('yolov7-tiny', head='IDetect').state_dict()
    change(state, 'model.77.')
    torch.save(state, tmp_path / 'state.pt')
    with pytest.raises(CheckpointError, match='implicit vector'):
        load_network(tmp_path / 'state.pt')


def test_a_layer_that_runs_as_fused_beside_its_norm_is_refused(tmp_path: Path) -> None:
    model = official_model('yolov7-tiny')
    model.model[0].forward = model.model[0].fuseforward
    path = save_official(model, tmp_path / 'both.pt')
    with pytest.raises(CheckpointError, match='has its batch norm still'):
        load_network(path)


# ---- activation and table


def test_the_activation_of_a_state_dict_is_assumed_and_can_be_given(tmp_path: Path) -> None:
    model, images = model_and_images('yolov7-tiny-silu')
    path = tmp_path / 'state.pt'
    torch.save(model.state_dict(), path)
    told = facts_of(path)['activation']
    assert (told.value, told.is_assumed) == ('leaky_relu', True)
    assert 'yolov7-tiny-silu' in told.source and '--activation silu' in told.source
    assert difference(path, model, images) > 1e-2
    assert difference(path, model, images, activation='silu') < 2e-5
    assert difference(path, model, images, table='yolov7-tiny-silu') < 2e-5
    for given in ({'activation': 'silu'}, {'table': 'yolov7-tiny-silu'}):
        told = facts_of(path, **given)['activation']
        assert (told.value, told.is_assumed) == ('silu', False)


def test_the_activation_of_modules_is_read_and_shown(tmp_path: Path) -> None:
    for name, activation in (('yolov7-tiny', 'leaky_relu'), ('yolov7-tiny-silu', 'silu')):
        path = save_official(official_model(name), tmp_path / f'{name}.pt')
        facts = facts_of(path)
        assert (facts['table'].value, facts['activation'].value) == (name, activation)
        assert not any(fact.is_assumed for fact in facts.values())
        again = facts_of(path, table=name, activation=activation)
        assert again['table'].value == name
        with pytest.raises(SettingError, match='states that it is'):
            facts_of(path, activation='relu')
        with pytest.raises(SettingError, match='states that it is'):
            facts_of(path, table='yolov7x')


def test_a_table_that_does_not_fit_or_exist_is_refused(tmp_path: Path) -> None:
    torch.save(official_model('yolov7-tiny').state_dict(), tmp_path / 'state.pt')
    with pytest.raises(CheckpointError, match='78 layers fit no published table .yolov7 has 106'):
        facts_of(tmp_path / 'state.pt', table='yolov7')
    with pytest.raises(SettingError, match='--table must be one of yolov7-tiny, '):
        facts_of(tmp_path / 'state.pt', table='yolov9')


# ---- heads


@pytest.mark.parametrize(('head', 'reason'), [
    ('IKeypoint', 'the head of the model is IKeypoint: it is a pose or face model'),
    ('IBin', 'the head of the model is IBin: its boxes are decoded from bins'),
])
@pytest.mark.parametrize('form', ['pickled', 'state', 'fused state'])
def test_other_heads_are_refused_by_name(
    tmp_path: Path, head: str, reason: str, form: str
) -> None:
    model = official_model('yolov7-w6', head=head)
    path = tmp_path / 'other.pt'
    if form == 'pickled':
        save_official(model, path)
    else:
        torch.save((fuse(model) if 'fused' in form else model).state_dict(), path)
    with pytest.raises(CheckpointError, match=reason):
        load_network(path)


@pytest.mark.parametrize(('name', 'reason'), [
    ('m_kpt.0.weight', 'IKeypoint'), ('proto.cv1.conv.weight', 'segmentation'),
    ('w_bin_sigma.bins', 'IBin'), ('stems.0.conv.weight', 'which no detection head'),
    ('m.0.scale', 'which no detection head'), ('anchors.extra', 'which no detection head'),
    ('dfl.conv.weight', 'YOLOv8'),
])
def test_weights_that_no_detection_head_has_are_not_left_out(
    tmp_path: Path, name: str, reason: str
) -> None:
    model = official_model('yolov7-tiny')
    state = model.state_dict() | {f'model.77.{name}': torch.zeros(4)}
    torch.save(state, tmp_path / 'state.pt')
    with pytest.raises(CheckpointError, match=reason):
        load_network(tmp_path / 'state.pt')


@pytest.mark.parametrize('name', ['model.3.attention.weight', 'model.11.se.conv.weight'])
def test_weights_that_no_layer_has_are_not_left_out(tmp_path: Path, name: str) -> None:
    state = official_model('yolov7').state_dict() | {name: torch.zeros(4, 4, 1, 1)}
    torch.save(state, tmp_path / 'state.pt')
    with pytest.raises(CheckpointError, match='fit'):
        load_network(tmp_path / 'state.pt')
    branch = official_model('yolov7').state_dict() | {'model.102.rbr_avg.weight': torch.zeros(3)}
    torch.save(branch, tmp_path / 'branch.pt')
    with pytest.raises(CheckpointError, match='rbr_avg'):
        load_network(tmp_path / 'branch.pt')


def test_the_head_is_looked_at_before_the_layers(tmp_path: Path) -> None:
    model = official_model('yolov7-tiny')
    model.model[4].__class__ = official_checkpoints.CLASSES['MT']  # a layer of no known kind
    model.model[-1].__class__ = official_checkpoints.CLASSES['MT']
    path = save_official(model, tmp_path / 'mt.pt')
    with pytest.raises(CheckpointError, match='multi-task model'):
        load_network(path)


def test_a_head_with_more_values_than_its_classes_need_is_refused(tmp_path: Path) -> None:
    model = official_model('yolov7-tiny')
    model.model[-1].no = 5 + 3 + 10  # yolov7-face and yolov5-face: five points
    path = save_official(model, tmp_path / 'face.pt')
    with pytest.raises(CheckpointError, match='18 values an anchor for 3 classes'):
        load_network(path)


def test_a_head_wider_than_the_classes_told_is_refused(tmp_path: Path) -> None:
    state = official_model('yolov7-tiny', num_classes=11).state_dict()  # a face and five points
    torch.save({'model': state, 'nc': 1}, tmp_path / 'face.pt')
    with pytest.raises(CheckpointError, match='has 1 classes, but its head has as many .* of 11'):
        load_network(tmp_path / 'face.pt')
    torch.save({**state, 'nc': 11}, tmp_path / 'eleven.pt')
    assert load_network(tmp_path / 'eleven.pt').num_classes == 11


def test_a_folder_or_pipe_is_no_checkpoint(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / 'pipe.pt')
    for path in (tmp_path, tmp_path / 'pipe.pt', tmp_path / 'none.pt'):
        with pytest.raises(ModelNotFoundError, match='cannot be read'):
            load_network(path)


@pytest.mark.parametrize(('change', 'reason'), [
    (lambda model: model.model[0].conv.__dict__.update(padding_mode='reflect'), 'pad with zeros'),
    (lambda model: setattr(model.model[0], 'bn', torch.nn.InstanceNorm2d(8, affine=True)),
     'InstanceNorm2d, expected BatchNorm2d'),
    (lambda model: setattr(model.model[8].m, 'ceil_mode', True), 'rounds up'),
    (lambda model: setattr(model.model[8], 'm', torch.nn.AvgPool2d(2, 2)), 'AvgPool2d'),
])
def test_layers_that_compute_something_else_are_refused(
    tmp_path: Path, change: Callable[[Any], object], reason: str
) -> None:
    model = official_model('yolov7-tiny')
    change(model)
    path = save_official(model, tmp_path / 'changed.pt')
    with pytest.raises(CheckpointError, match=reason):
        load_network(path)


# ---- wrappers, keys, prefixes, protocols


def wrapped(model: Any) -> dict[str, Callable[[Path], Any]]:
    """Return what writes a model in many ways, by name."""
    state = model.state_dict()

    def average(path: Path) -> None:
        ema = official_checkpoints.CLASSES['ModelEMA']()
        ema.ema = model
        torch.save({'ema': ema}, path)

    def old(path: Path) -> None:
        torch.save(state, path, _use_new_zipfile_serialization=False)

    return {
        'DataParallel': lambda path: torch.save(torch.nn.DataParallel(model), path),
        'DataParallel within': lambda path: torch.save(
            {'model': torch.nn.DataParallel(model)}, path),
        'its state': lambda path: torch.save(torch.nn.DataParallel(model).state_dict(), path),
        'ModelEMA': average,
        'empty ema': lambda path: torch.save({'ema': {}, 'model': model}, path),
        'no ema': lambda path: torch.save({'ema': None, 'model': state}, path),
        'decay as ema': lambda path: torch.save({'ema': {'decay': 0.9}, 'model': state}, path),
        'state as ema': lambda path: torch.save({'ema': state, 'model': None}, path),
        'model_state_dict': lambda path: torch.save({'model_state_dict': state}, path),
        'nested': lambda path: torch.save({'model': {'state_dict': state}}, path),
        'old stream': old,
        'without prefix': lambda path: torch.save(model.model.state_dict(), path),
        **{prefix: lambda path, prefix=prefix: torch.save(
            {prefix + name: value for name, value in state.items()}, path)
           for prefix in ('model.', 'module.', 'model.module.', '_orig_mod.', 'ema.')},
        'protocol 5': lambda path: save_official(
            model, path, half=False, protocol=5, fitness=np.arange(4.0), when=np.datetime64(0, 'D')
        ),
        'protocol 4, old': lambda path: save_official(
            model, path, half=False, protocol=4, old_format=True),
    }


@pytest.mark.parametrize('way', list(wrapped(torch.nn.Module())))
def test_a_model_is_found_however_it_is_wrapped(tmp_path: Path, way: str) -> None:
    model, images = model_and_images('yolov7-tiny', 'IDetect')
    path = tmp_path / 'wrapped.pt'
    with original_modules():
        wrapped(model)[way](path)
    assert difference(path, model, images) < 2e-5


def test_numpy_arrays_of_every_version_are_passed_over(tmp_path: Path) -> None:
    model = official_model('yolov7-tiny')
    path = save_official(model, tmp_path / 'five.pt', protocol=5, fitness=np.arange(3.0))
    data = zipfile.ZipFile(path).read('five/data.pkl')
    assert b'_frombuffer' in data and b'numpy._core' in data
    assert load_network(path).num_classes == 3


def test_which_weights_were_taken_is_said(tmp_path: Path) -> None:
    model, other = official_model('yolov7-tiny'), official_model('yolov7-tiny')
    torch.nn.init.zeros_(other.model[0].conv.weight)
    both = tmp_path / 'both.pt'
    with original_modules():
        torch.save({'model': other, 'ema': model}, both)
    assert 'EMA' in facts_of(both)['weights'].value
    assert load_network(both).model[0].conv.weight.abs().max() > 0
    alone = save_official(model, tmp_path / 'alone.pt', key='model')
    assert 'there is no ema' in facts_of(alone)['weights'].source
    two = {f'{owner}.{name}': value for owner in ('student', 'teacher')
           for name, value in model.state_dict().items()}
    torch.save(two, tmp_path / 'two.pt')
    with pytest.raises(CheckpointError, match='several prefixes'):
        load_network(tmp_path / 'two.pt')


# ---- names and anchors


def test_names_beside_a_state_dict_are_read(tmp_path: Path) -> None:
    state, names = official_model('yolov7-tiny').state_dict(), ['cat', 'dog', 'cup']
    for number, record in enumerate((
        {'model': state, 'names': names}, {**state, 'names': names},
        {'model': {'state_dict': state}, 'class_names': dict(enumerate(names))},
    )):
        torch.save(record, tmp_path / f'{number}.pt')
        assert load_network(tmp_path / f'{number}.pt').class_names == tuple(names)
    torch.save({**state, 'names': names, 'epoch': 3}, tmp_path / 'epoch.pt')
    assert facts_of(tmp_path / 'epoch.pt')['left aside'].value == 'epoch'


@pytest.mark.parametrize(('names', 'reason'), [
    ([f'thing {number}' for number in range(80)], '80 class names'),
    ({1: 'a', 2: 'b', 3: 'c'}, 'numbered 1, 2, 3'), ('abc', 'not a list of texts'),
    ([np.str_('a'), None, 'c'], 'not a list of texts'),
])
def test_wrong_names_are_refused_and_mended_by_those_given(
    tmp_path: Path, names: Any, reason: str
) -> None:
    model = official_model('yolov7-tiny')
    model.names = names
    path = save_official(model, tmp_path / 'names.pt')
    with pytest.raises(CheckpointError, match=reason):
        load_network(path)
    assert load_network(path, class_names=('a', 'b', 'c')).class_names == ('a', 'b', 'c')
    with pytest.raises(SettingError, match='3 classes, but there are 2 class names'):
        load_network(path, class_names=('a', 'b'))


def test_anchors_of_its_own_are_kept_and_said(tmp_path: Path) -> None:
    model, own = official_model('yolov7-tiny'), torch.arange(3.0, 21.0).reshape(3, 3, 2) * 2
    head = model.model[-1]
    head.anchor_grid.copy_(own.view(3, 1, 3, 1, 1, 2))
    head.anchors.copy_(own / torch.tensor([8.0, 16.0, 32.0]).view(3, 1, 1))
    wanted = tuple(tuple(map(tuple, sizes)) for sizes in own.tolist())
    save_official(model, tmp_path / 'whole.pt', half=False)
    torch.save(model.state_dict(), tmp_path / 'state.pt')
    only_cells = model.state_dict()
    del only_cells['model.77.anchor_grid']
    torch.save(only_cells, tmp_path / 'cells.pt')
    for name in ('whole', 'state', 'cells'):
        loaded = load_checkpoint(tmp_path / f'{name}.pt')
        assert loaded.network.anchors == wanted
        told = next(fact for fact in loaded.facts if fact.name == 'anchors')
        assert told.value.startswith('its own: 6,8 10,12 ') and not told.is_assumed
    given = ANCHOR_SETS['yolov7']
    assert load_checkpoint(
        tmp_path / 'whole.pt', overrides=Overrides(anchors=given)
    ).network.anchors == given
    with pytest.raises(SettingError, match='anchors for 4'):
        facts_of(tmp_path / 'whole.pt', anchors=ANCHOR_SETS['yolov7-p6'])
    head.anchors.mul_(2)
    save_official(model, tmp_path / 'two.pt', half=False)
    assert 'anchors has others' in facts_of(tmp_path / 'two.pt')['anchors'].source


@pytest.mark.parametrize('value', [0.0, -3.0, float('nan'), float('inf')])
def test_anchors_that_are_no_sizes_are_refused(tmp_path: Path, value: float) -> None:
    state = official_model('yolov7-tiny').state_dict()
    state['model.77.anchor_grid'][0, 0, 0] = value
    torch.save(state, tmp_path / 'state.pt')
    with pytest.raises(CheckpointError, match='no sizes'):
        load_network(tmp_path / 'state.pt')
    state['model.77.anchor_grid'] = torch.ones(5, 1, 3, 1, 1, 2)
    torch.save(state, tmp_path / 'state.pt')
    with pytest.raises(CheckpointError, match='expected 3 maps'):
        load_network(tmp_path / 'state.pt')


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_no_numbers_are_named(tmp_path: Path, value: float) -> None:
    model = official_model('yolov7-tiny')
    model.model[3].conv.weight.data[0, 0] = value
    path = save_official(model, tmp_path / 'broken.pt')
    with pytest.raises(CheckpointError, match=r'model\.3\.conv\.weight hold infinite values or'):
        load_network(path)
    state = official_model('yolov7-tiny').state_dict()
    state['model.0.conv.weight'] = state['model.0.conv.weight'].to(torch.int8)
    torch.save(state, tmp_path / 'int8.pt')
    with pytest.raises(CheckpointError, match='before it was quantised'):
        load_network(tmp_path / 'int8.pt')


def test_a_network_file_of_ours_says_so(tmp_path: Path) -> None:
    network = load_network(save_official(official_model('yolov7-w6-training'), tmp_path / 'a.pt'))
    save_network(network, tmp_path / 'own.pt')
    facts = facts_of(tmp_path / 'own.pt')
    assert facts['table'].value == 'yolov7-w6' and facts['table'].source == 'recorded'
    assert facts['strides'].value == '8, 16, 32, 64'
    assert not any(fact.is_assumed for fact in facts.values())


# ---- files of others


def foreign_module(module: str, name: str) -> bytes:
    """Pickle an object of a class of another package, as torch.save would in an archive."""
    pickled = b'\x80\x02}q\x00X\x05\x00\x00\x00modelc' + f'{module}\n{name}\n'.encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        archive.writestr('x/data.pkl', pickled + b')\x81}bs.')
        archive.writestr('x/version', '3\n')
    return buffer.getvalue()


def tar_file() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as archive:
        archive.addfile(tarfile.TarInfo('storages'))
    return buffer.getvalue()


def zip_of(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        for name in names:
            archive.writestr(name, b'x')
    return buffer.getvalue()


FOREIGN = {
    'safetensors': (b'\x40\0\0\0\0\0\0\0{"model.0.conv.weight":{"dtype":"F32"', 'safetensors'),
    'empty': (b'', 'is empty'),
    'lfs': (b'version https://git-lfs.github.com/spec/v1\noid', 'git lfs pull'),
    'html': (b'\n<!DOCTYPE html><html>', 'web page'),
    'hdf5': (b'\x89HDF\r\n\x1a\n', 'HDF5'), 'gzip': (b'\x1f\x8b\x08', 'gzip'),
    'plan': (b'ptrt\0\0', 'TensorRT plan'), 'npy': (b'\x93NUMPY\x01\0', 'NumPy'),
    'onnx': (b'\x08\x08\x12\x07pytorch', 'an ONNX model'), 'tar': (tar_file(), 'tar archive'),
    'npz': (zip_of('a.npy', 'b.npy'), 'npz'), 'zip': (zip_of('run/best.pt'), 'unpack it first'),
    'pickle': (pickle.dumps({'a': 1}), 'a pickle that holds a dict'),
    'ultralytics': (foreign_module('ultralytics.nn.tasks', 'DetectionModel'), 'Ultralytics'),
    'yolov6': (foreign_module('yolov6.models.yolo', 'Model'), 'YOLOv6'),
    'sklearn': (foreign_module('sklearn.svm._classes', 'SVC'), 'scikit-learn'),
    'darknet': (foreign_module('models.models', 'Darknet'), 'YOLOR'),
    'other': (foreign_module('mypackage.net', 'Net'), 'names mypackage.net.Net'),
    'quantised': (foreign_module('torch._utils', '_rebuild_qtensor'), 'quantised'),
}


@pytest.mark.parametrize('kind', FOREIGN)
def test_a_file_of_another_kind_is_named_in_one_line(tmp_path: Path, kind: str) -> None:
    data, reason = FOREIGN[kind]
    (tmp_path / 'foreign.pt').write_bytes(data)
    with pytest.raises(CheckpointError, match=reason) as caught:
        load_network(tmp_path / 'foreign.pt')
    assert '\n' not in str(caught.value) and str(caught.value).startswith(str(tmp_path))


@pytest.mark.parametrize(('kinds', 'reason'), [
    ({4: 'C3', 5: 'SPPF'}, 'YOLOv5'), ({4: 'RepNCSPELAN4', -1: 'DualDDetect'}, 'YOLOv9'),
    ({-1: 'Segment'}, 'segmentation'), ({-1: 'Head9'}, 'the head of the model is Head9'),
])
def test_layers_of_others_tell_whose_model_it_is(
    tmp_path: Path, kinds: dict[int, str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = official_model('yolov7-tiny')
    for index, kind in kinds.items():
        made = type(kind, (torch.nn.Module,), {'__module__': 'models.common'})
        model.model[index].__class__ = made
        monkeypatch.setitem(official_checkpoints.CLASSES, kind, made)
        modules = official_checkpoints._MODULES
        monkeypatch.setitem(modules, 'models.common', (*modules['models.common'], kind))
    path = save_official(model, tmp_path / 'other.pt')
    with pytest.raises(CheckpointError, match=reason):
        load_network(path)


@pytest.mark.parametrize(('name', 'reason'), [
    ('model.22.dfl.conv.weight', 'YOLOv8'), ('backbone.backbone.stem.conv.conv.weight', 'YOLOX'),
    ('module_list.0.Conv2d.weight', 'YOLOR'), ('model.2.m.0.cv1.conv.weight', 'YOLOv5'),
    ('transformer.encoder.weight', 'transformer'), ('fc.weight', 'classifier'),
])
def test_weights_of_others_tell_whose_they_are(tmp_path: Path, name: str, reason: str) -> None:
    torch.save({name: torch.zeros(4), 'conv1.weight': torch.zeros(4)}, tmp_path / 'other.pt')
    with pytest.raises(CheckpointError, match=reason):
        load_network(tmp_path / 'other.pt')


def test_torchscript_is_named(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), str(tmp_path / 'script.pt'))
    with pytest.raises(CheckpointError, match='TorchScript archive'):
        load_network(tmp_path / 'script.pt')
