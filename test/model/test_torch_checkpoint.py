from __future__ import annotations

import builtins
import contextlib
import functools
import io
import os
from pathlib import Path
import pickle
import sys
from typing import Any
import zipfile
import zlib

from damaged_files import full_disk
import hypothesis
from hypothesis import strategies
import numpy as np
import official_checkpoints
import pytest
import slow_reference
import torch

from yolov7_trt_ros.core.class_names import COCO80
from yolov7_trt_ros.errors import CheckpointError, ModelNotFoundError
from yolov7_trt_ros.model.checkpoint.load import load_network, save_network
from yolov7_trt_ros.model.checkpoint.restricted_pickle import load_pickle_bytes
from yolov7_trt_ros.model.checkpoint.stored_tensor import Storage
from yolov7_trt_ros.model.checkpoint.torch_file import read_torch_file
from yolov7_trt_ros.model.network.architecture import decode_maps
from yolov7_trt_ros.model.network.published import PUBLISHED, published_table

torch.set_num_threads(1)

FORMS = [
    *((name, 'IDetect') for name in ('yolov7-tiny', 'yolov7', 'yolov7x')),
    *((name, None) for name in PUBLISHED),
]


def blocks(batch: int, height: int, width: int) -> torch.Tensor:
    """Images of random blocks under noise; noise alone looks the same everywhere."""
    coarse = torch.rand(batch, 3, height // 8, width // 8)
    large = coarse.repeat_interleave(8, 2).repeat_interleave(8, 3)
    return 0.75 * large + 0.25 * torch.rand(batch, 3, height, width)


def model_and_images(name: str, head: str | None = None, **options: Any) -> Any:
    """Return an official model, and images for it."""
    model = official_checkpoints.official_model(name, head=head, **options).eval()
    stride = 64 if len(published_table(name).anchors) == 4 else 32
    return model, blocks(2, 2 * stride, 3 * stride)


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize(('name', 'head'), FORMS)
def test_every_architecture_computes_what_its_unfused_layers_do(
    tmp_path: Path, name: str, head: str | None
) -> None:
    model, images = model_and_images(name, head)
    path = official_checkpoints.save_official(model, tmp_path / 'official.pt')
    network, exact = load_network(path), load_network(path, batch_norm='keep').double()
    with torch.no_grad():
        wanted = slow_reference.run_official(model, images)
        for found, want in zip(network(images), wanted, strict=True):
            assert relative(found, want) < 2e-5
        for found, want in zip(exact(images.double()), wanted, strict=True):
            assert relative(found, want) < 1e-6
    assert network.class_names == ('thing 0', 'thing 1', 'thing 2')
    assert network.strides == (8, 16, 32, 64)[: len(wanted)]
    assert network.anchors == published_table(name).anchors
    assert not any('bn' in key for key in network.state_dict())


@pytest.mark.parametrize('name', ['yolov7-tiny', 'yolov7-w6'])
def test_rows_are_decoded_as_a_loop_over_cells_does(tmp_path: Path, name: str) -> None:
    model, images = model_and_images(name)
    path = official_checkpoints.save_official(model, tmp_path / 'official.pt')
    network = load_network(path).double()
    with torch.no_grad():
        maps = network(images.double())
        found = decode_maps(network, maps).numpy()
    wanted = slow_reference.decode(maps, published_table(name).anchors)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_a_rep_conv_with_a_bare_norm_is_merged(tmp_path: Path) -> None:
    model, images = model_and_images('yolov7', keep_rep_channels=True)
    assert model.model[102].rbr_identity is not None
    path = official_checkpoints.save_official(model, tmp_path / 'official.pt')
    with torch.no_grad():
        wanted = slow_reference.run_official(model, images)
        found = load_network(path)(images)
    assert max(map(relative, found, wanted)) < 2e-5


def test_a_rep_conv_that_is_merged_already_is_read(tmp_path: Path) -> None:
    model, images = model_and_images('yolov7')
    path = official_checkpoints.save_official(model, tmp_path / 'official.pt', half=False)
    merged = load_network(path)
    for index in (102, 103, 104):
        layer = model.model[index]
        layer.rbr_reparam = merged.model[index].conv
        del layer.rbr_dense, layer.rbr_1x1, layer.rbr_identity
    again = official_checkpoints.save_official(model, tmp_path / 'merged.pt', half=False)
    with torch.no_grad():
        for one, two in zip(merged(images), load_network(again)(images), strict=True):
            torch.testing.assert_close(one, two)


def test_vectors_that_a_fused_head_has_left_behind_are_not_folded_twice(tmp_path: Path) -> None:
    model, images = model_and_images('yolov7-tiny', 'IDetect')
    head = model.model[-1]
    head.forward = head.fuseforward  # as the original fuse() leaves it; pickled through getattr
    path = official_checkpoints.save_official(model, tmp_path / 'fused.pt')
    del head.forward
    for vectors, value in ((head.ia, 0), (head.im, 1)):
        for vector in vectors:
            torch.nn.init.constant_(vector.implicit, value)
    wanted = slow_reference.run_official(model, images)
    with torch.no_grad():
        found = load_network(path)(images)
    assert max(map(relative, found, wanted)) < 2e-5


def test_the_old_stream_and_full_precision_and_other_keys_are_read(tmp_path: Path) -> None:
    model, images = model_and_images('yolov7-tiny', 'IDetect')
    save = functools.partial(official_checkpoints.save_official, model, half=False)
    paths = [save(tmp_path / 'zip.pt'), save(tmp_path / 'old.pt', old_format=True),
             save(tmp_path / 'model.pt', key='model')]
    with official_checkpoints.original_modules():
        torch.save(model, tmp_path / 'bare.pt')
    torch.save(model.state_dict(), tmp_path / 'state.pt')
    torch.save({'module.' + key: value for key, value in model.state_dict().items()},
               tmp_path / 'parallel.pt')
    paths += [tmp_path / f'{name}.pt' for name in ('bare', 'state', 'parallel')]
    with torch.no_grad():
        wanted = slow_reference.run_official(model, images)
        first, *others = (load_network(path)(images) for path in paths)
    assert max(map(relative, first, wanted)) < 2e-5
    for other in others:
        assert all(torch.equal(one, two) for one, two in zip(first, other, strict=True))


@pytest.mark.parametrize('name', [
    'yolov7-tiny', 'yolov7', 'yolov7x', 'yolov7-w6', 'yolov7-e6',
    *(name for name in PUBLISHED if name.endswith('training')),
])
def test_a_state_dict_tells_its_table(tmp_path: Path, name: str) -> None:
    model, images = model_and_images(name)
    torch.save(model.state_dict(), tmp_path / 'state.pt')
    with torch.no_grad():
        wanted = slow_reference.run_official(model, images)
        found = load_network(tmp_path / 'state.pt')(images)
    assert max(map(relative, found, wanted)) < 2e-5


def test_another_epsilon_is_allowed_for(tmp_path: Path) -> None:
    model, images = model_and_images('yolov7-tiny')
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-5
    path = official_checkpoints.save_official(model, tmp_path / 'official.pt', half=False)
    with torch.no_grad():
        wanted = slow_reference.run_official(model, images)
        found = load_network(path, batch_norm='keep').double()(images.double())
    assert max(map(relative, found, wanted)) < 1e-6


def test_a_network_survives_saving_and_so_do_fewer_channels(tmp_path: Path) -> None:
    model, images = model_and_images('yolov7-e6')
    network = load_network(official_checkpoints.save_official(model, tmp_path / 'a.pt'),
                           batch_norm='keep')
    save_network(network, tmp_path / 'saved.pt')
    again = load_network(tmp_path / 'saved.pt', batch_norm='keep')
    with torch.no_grad():
        assert all(map(torch.equal, again(images), network(images)))
    assert (again.rows, again.class_names) == (network.rows, network.class_names)
    assert again.anchors == network.anchors
    first, second = network.model[3].conv, network.model[5].conv
    assert first.out_channels == 8 and second.in_channels == 8
    state = network.state_dict()
    for name in ('conv.weight', 'bn.weight', 'bn.bias', 'bn.running_mean', 'bn.running_var'):
        state[f'model.4.{name}'] = state[f'model.4.{name}'][:5]
    state['model.5.conv.weight'] = state['model.5.conv.weight'][:, :5]
    state['model.12.conv.weight'] = state['model.12.conv.weight'][:, :-3]
    pruned = type(network)(network.rows, state, network.anchors, network.class_names)
    save_network(pruned, tmp_path / 'pruned.pt')
    assert load_network(tmp_path / 'pruned.pt').model[4].conv.out_channels == 5


def test_80_classes_without_names_are_those_of_coco(tmp_path: Path) -> None:
    model = official_checkpoints.official_model('yolov7-tiny', num_classes=80)
    torch.save(model.state_dict(), tmp_path / 'state.pt')
    assert load_network(tmp_path / 'state.pt').class_names == COCO80


def test_names_are_in_the_order_of_their_numbers_and_can_be_written(tmp_path: Path) -> None:
    model = official_checkpoints.official_model('yolov7-tiny')
    for names, wanted in (
        ({2: 'two', 0: 'none', 1: 'one'}, ('none', 'one', 'two')),
        ({'2': 'a', '0': 'b', '1': 'c'}, ('b', 'c', 'a')),
        (['猫', '', 'half \ud800'], ('猫', '', 'half ?')),
    ):
        model.names = names
        path = official_checkpoints.save_official(model, tmp_path / 'official.pt')
        assert load_network(path).class_names == wanted


# ---- what is refused


class Runs:
    """Pickles as a call of something."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def _touch(tmp_path: Path) -> str:
    return f'touch {tmp_path / "ran"}'


MALICIOUS = {
    'system': lambda where: Runs(os.system, _touch(where)),
    'eval': lambda where: Runs(builtins.eval, f'open({str(where / "ran")!r}, "w")'),
    'exec': lambda where: Runs(builtins.exec, f'open({str(where / "ran")!r}, "w")'),
    'import': lambda where: Runs(builtins.__import__, 'antigravity'),
    'getattr': lambda where: Runs(getattr, 'text', 'format'),
    'getattr of a tensor': lambda where: Runs(getattr, torch.zeros(1), 'numpy'),
    'open': lambda where: Runs(io.open, str(where / 'ran'), 'w'),
    'torch.load': lambda where: Runs(torch.load, str(where / 'ran')),
    'partial': lambda where: Runs(functools.partial, os.system, _touch(where)),
    'nested call': lambda where: Runs(Runs, Runs(os.system, _touch(where))),
}


@pytest.mark.parametrize('old_format', [False, True])
@pytest.mark.parametrize('attack', MALICIOUS)
def test_code_in_a_checkpoint_is_refused_and_not_run(
    tmp_path: Path, attack: str, old_format: bool
) -> None:
    path = tmp_path / 'bad.pt'
    for record in (
        {'model': MALICIOUS[attack](tmp_path)},
        {'model.0.conv.weight': torch.zeros(1), 'deep': [{'x': (MALICIOUS[attack](tmp_path),)}]},
    ):
        torch.save(record, path, _use_new_zipfile_serialization=not old_format)
        with pytest.raises(CheckpointError, match=r'bad\.pt: '):
            load_network(path)
    assert not (tmp_path / 'ran').exists()


def _global(module: str, name: str) -> bytes:
    return b'c' + module.encode() + b'\n' + name.encode() + b'\n'


CRAFTED = {
    'call of a stand-in': _global('models.yolo', 'Model') + b'(tR.',
    'call of a stand-in with arguments': _global('models.common', 'Conv') + b'(I1\ntR.',
    'stand-in made with arguments': b'\x80\x02' + _global('models.yolo', 'Model') + b'(I1\nt\x81.',
    'attribute of a class': b'\x80\x04\x8c\x0bmodels.yolo\x8c\x0eModel.__init__\x93.',
    'state of a function': b'\x80\x02' + _global('torch._utils', '_rebuild_tensor_v2')
    + b'N}X\x01\x00\x00\x00aK\x01s\x86b.',
    'state of a class': b'\x80\x02' + _global('models.yolo', 'Model')
    + b'}X\x01\x00\x00\x00aK\x01sb.',
    'tensor on no storage': _global('torch._utils', '_rebuild_tensor_v2')
    + b'(NI0\n(I1\nt(I1\nttR.',
    'extension code': b'\x80\x02\x82\x01.',
    'storages without a file': b"(S'storage'\nNtQ.",
    'globals of builtins': _global('builtins', 'globals') + b'(tR.',
    'os by another name': _global('posix', 'system') + b"(S'true'\ntR.",
}


@pytest.mark.parametrize('name', CRAFTED)
def test_crafted_pickles_are_refused(name: str) -> None:
    with pytest.raises(CheckpointError):
        load_pickle_bytes(CRAFTED[name])


def _storage(key: bytes) -> bytes:
    return b'(X\x07\x00\x00\x00storage' + _global('torch', 'FloatStorage') + key + b'NK\x04tQ'


def test_a_storage_called_by_lists_that_share_parts_is_refused_before_it_is_printed() -> None:
    key = b']' + b''.join(b'q%c0](h%ch%ce' % (i, i, i) for i in range(60))  # 2**60 lists
    with pytest.raises(CheckpointError, match='calls a storage by a list'):
        load_pickle_bytes(b'\x80\x02' + _storage(key) + b'.', lambda *_: torch.zeros(4))


def test_a_size_of_many_numbers_is_refused_before_it_is_multiplied() -> None:
    size = b'(' + b'K\x01' * 100 + b't'
    tensor = _global('torch._utils', '_rebuild_tensor') + b'(' + _storage(b'K\x00')
    with pytest.raises(CheckpointError, match='a few numbers'):
        load_pickle_bytes(b'\x80\x02' + tensor + b'K\x00' + size + size + b'tR.',
                          lambda key, dtype, count: Storage(dtype, count, refuse_reading))


def refuse_reading() -> torch.Tensor:
    raise AssertionError('nobody asked for the numbers')


def _write_nested_archive(path: Path, pickled: bytes, keys: list[str]) -> None:
    """Write an archive whose member of each key holds, as its content, all those before it."""
    content, members = bytes(4096), []
    for key in keys:
        member = zipfile.ZipInfo(f'ab/data/{key}')
        member.file_size = member.compress_size = len(content)
        member.CRC = zlib.crc32(content)
        content = member.FileHeader() + content
        members.append((member, len(content)))
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('ab/data.pkl', pickled)
        assert archive.fp is not None
        archive.fp.write(content)
        archive.start_dir = archive.fp.tell()
        for member, length in members:
            member.header_offset = archive.start_dir - length
            archive.filelist.append(member)
            archive.NameToInfo[member.filename] = member


def test_members_of_an_archive_that_overlap_are_not_unfolded(tmp_path: Path) -> None:
    keys = [str(number) for number in range(10, 40)]  # with these names a header has 40 bytes
    storages = b''.join(
        _storage(b'X\x02\x00\x00\x00' + key.encode()).replace(
            b'K\x04tQ', b'M' + (1024 + 10 * place).to_bytes(2, 'little') + b'tQ')
        for place, key in enumerate(keys)
    )
    path = tmp_path / 'nested.pt'
    _write_nested_archive(path, b'\x80\x02(' + storages + b't.', keys)
    with pytest.raises(CheckpointError, match='together larger than the file|Overlapped'):
        read_torch_file(path)


def test_storages_of_an_old_stream_are_together_no_larger_than_it(tmp_path: Path) -> None:
    heads = b''.join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {}))
    storages = b''.join(
        _storage(b'K%c' % number).replace(b'K\x04tQ', b'K\x32tQ') for number in range(60)
    )
    path = tmp_path / 'large.pt'
    path.write_bytes(heads + b'\x80\x02(' + storages + b't.')
    with pytest.raises(CheckpointError, match='together larger than the file'):
        read_torch_file(path)


def test_the_state_of_a_tensor_cannot_ask_for_memory(tmp_path: Path) -> None:
    tensor = _global('torch._utils', '_rebuild_tensor') + b'(' + _storage(b'K\x00')
    state = b'q\x00(h\x00K\x00J\xff\xff\xff\x7f\x85K\x01\x85tb.'
    heads = b''.join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {}))
    whole = heads + b'\x80\x02' + tensor + b'K\x00K\x04\x85K\x01\x85tR'
    (tmp_path / 'x.pt').write_bytes(whole + state)
    with pytest.raises(CheckpointError, match='wants to change a StoredTensor'):
        read_torch_file(tmp_path / 'x.pt')


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'secret.pt'
    torch.save({}, path)
    data = bytearray(path.read_bytes())
    for start, offset in ((b'PK\x03\x04', 6), (b'PK\x01\x02', 8)):
        data[data.find(start) + offset] |= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match='encrypted'):
        read_torch_file(path)


def test_a_value_kept_under_a_large_number_takes_no_memory() -> None:
    assert load_pickle_bytes(b'\x80\x02Nr\xff\xff\xff\x0f.') is None


def test_the_refusals_are_not_of_everything() -> None:
    made = load_pickle_bytes(b'\x80\x02' + _global('models.yolo', 'Model') + b')\x81'
                             + b'}X\x01\x00\x00\x00aK\x01sb.')
    assert made.path == 'models.yolo.Model' and made.state == {'a': 1}
    ordered = pickle.dumps({'a': [1, 2.5, None, True, 'b']}, protocol=2)
    assert load_pickle_bytes(ordered) == {'a': [1, 2.5, None, True, 'b']}


def test_original_code_on_the_path_is_not_imported(tmp_path: Path) -> None:
    model = official_checkpoints.official_model('yolov7-tiny')
    path = official_checkpoints.save_official(model, tmp_path / 'official.pt')
    package = tmp_path / 'models'
    package.mkdir()
    for name in ('__init__', 'yolo', 'common'):
        (package / f'{name}.py').write_text('raise SystemExit("imported")\n')
    sys.path.insert(0, str(tmp_path))
    try:
        load_network(path)
    finally:
        sys.path.remove(str(tmp_path))
    assert 'models' not in sys.modules


@pytest.fixture(scope='module')
def official_bytes(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, bytes]:
    folder = tmp_path_factory.mktemp('official')
    model = official_checkpoints.official_model('yolov7-tiny')
    return {
        old: official_checkpoints.save_official(
            model, folder / 'x.pt', old_format=old
        ).read_bytes()
        for old in (False, True)
    }


@pytest.mark.parametrize('old_format', [False, True])
@pytest.mark.parametrize('part', [0.0, 0.001, 0.02, 0.5, 0.99, 0.99999])
def test_a_cut_off_file_is_refused(
    tmp_path: Path, official_bytes: dict[bool, bytes], old_format: bool, part: float
) -> None:
    whole = official_bytes[old_format]
    (tmp_path / 'cut.pt').write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(CheckpointError, match=r'cut\.pt: '):
        load_network(tmp_path / 'cut.pt')


@hypothesis.settings(max_examples=150, deadline=None)
@hypothesis.given(strategies.data())
def test_a_damaged_pickle_raises_nothing_else(
    official_bytes: dict[bool, bytes], data: strategies.DataObject
) -> None:
    archive = zipfile.ZipFile(io.BytesIO(official_bytes[False]))
    pickled = bytearray(archive.read(next(n for n in archive.namelist() if 'data.pkl' in n)))
    for _ in range(data.draw(strategies.integers(1, 3))):
        pickled[data.draw(strategies.integers(0, 4000))] = data.draw(strategies.integers(0, 255))
    with contextlib.suppress(CheckpointError):
        load_pickle_bytes(bytes(pickled), lambda key, dtype, count: Storage(
            dtype, count, refuse_reading
        ))


@pytest.mark.parametrize(('record', 'reason'), [
    ({'weights': 3}, 'holds weights; expected a checkpoint'),
    ([1, 2], 'holds a list'),
    ({'conv1.weight': torch.zeros(8, 3, 3, 3)}, "called 'conv1.weight'"),
    ({'model.0.conv.weight': torch.zeros(8, 3, 3, 3)}, '1 layers fit no published table'),
    ({'format': 'other 3'}, "the format 'other 3'"),
    ({'format': 'yolov7_trt_ros network 1', 'rows': 3}, 'damaged network file'),
])
def test_a_foreign_checkpoint_says_what_it_holds(
    tmp_path: Path, record: Any, reason: str
) -> None:
    torch.save(record, tmp_path / 'foreign.pt')
    with pytest.raises(CheckpointError, match=reason):
        load_network(tmp_path / 'foreign.pt')


def test_other_files_and_missing_ones_are_refused(tmp_path: Path) -> None:
    (tmp_path / 'text.pt').write_text('hello')
    with pytest.raises(CheckpointError, match='not a file that torch.save wrote'):
        load_network(tmp_path / 'text.pt')
    with zipfile.ZipFile(tmp_path / 'other.zip', 'w') as archive:
        archive.writestr('readme', 'hello')
    with pytest.raises(CheckpointError, match='no data.pkl'):
        load_network(tmp_path / 'other.zip')
    with pytest.raises(ModelNotFoundError):
        load_network(tmp_path / 'missing.pt')


def test_heads_and_layers_that_are_not_known_are_named(tmp_path: Path) -> None:
    model = official_checkpoints.official_model('yolov7-tiny', head='IBin')
    path = official_checkpoints.save_official(model, tmp_path / 'bin.pt')
    with pytest.raises(CheckpointError, match='IBin'):
        load_network(path)
    model = official_checkpoints.official_model('yolov7-tiny')
    for layer, change, reason in (
        (model.model[0].conv, {'padding': (0, 0)}, 'padding 0'),
        (model.model[0].conv, {'dilation': (2, 2)}, 'dilation 2'),
        (model.model[0].act, {'negative_slope': 0.2}, 'slope 0.2'),
        (model.model[38 + 1], {'mode': 'bilinear'}, 'bilinear'),
        (model.model[5], {'f': [99]}, 'earlier layer'),
    ):
        before = {name: getattr(layer, name) for name in change}
        vars(layer).update(change)
        path = official_checkpoints.save_official(model, tmp_path / 'changed.pt')
        with pytest.raises(CheckpointError, match=reason):
            load_network(path)
        vars(layer).update(before)


@pytest.mark.parametrize('change', [
    {'_parameters': [1]}, {'_buffers': 'x'}, {'_modules': {'conv': 3}}, {'f': torch.zeros(2)},
    {'i': torch.zeros(2)}, {'_modules': None},
])
def test_layers_whose_parts_are_of_other_types_are_refused(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    model = official_checkpoints.official_model('yolov7-tiny')
    vars(model.model[3]).update(change)
    path = official_checkpoints.save_official(model, tmp_path / 'changed.pt', half=False)
    with pytest.raises(CheckpointError, match=r'changed\.pt: '):
        load_network(path)


def test_weights_that_do_not_fit_each_other_are_refused(tmp_path: Path) -> None:
    state = official_checkpoints.official_model('yolov7-tiny').state_dict()
    state['model.7.conv.weight'] = state['model.7.conv.weight'][:, 1:]
    torch.save(state, tmp_path / 'state.pt')
    with pytest.raises(CheckpointError, match='layer 7 .* takes .* channels'):
        load_network(tmp_path / 'state.pt')


def test_a_full_disk_leaves_no_network_file(tmp_path: Path) -> None:
    model = official_checkpoints.official_model('yolov7-tiny')
    network = load_network(official_checkpoints.save_official(model, tmp_path / 'a.pt'))
    with full_disk(), pytest.raises(OSError, match='File too large'):
        save_network(network, tmp_path / 'b.pt')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.pt']
