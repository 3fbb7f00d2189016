"""Damaged and crafted checkpoints: our own exceptions only, in bounded memory and time."""

from __future__ import annotations

from collections.abc import Callable
import io
from pathlib import Path
import pickle
import random
from typing import Any
import zipfile

from damaged_files import bounded
from official_checkpoints import official_model, save_official
import pytest
import torch

from yolov7_trt_ros.errors import CheckpointError
from yolov7_trt_ros.model.checkpoint.load import load_network, save_network
from yolov7_trt_ros.model.checkpoint.restricted_pickle import load_pickle_bytes

torch.set_num_threads(1)

INPUTS = 160
PICKLE_BYTES = 60_000


def try_to_load(path: Path, data: bytes) -> bool:
    """Load bytes as a checkpoint; whether they are one. Anything but our own error is raised."""
    path.write_bytes(data)
    with bounded():
        try:
            load_network(path)
        except CheckpointError as exc:
            assert str(exc).startswith(f'{path}: ') and '\n' not in str(exc)
            return False
    return True


@pytest.fixture(scope='module')
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp('originals')
    model = official_model('yolov7-tiny', head='IDetect')
    zipped = save_official(model, folder / 'zip.pt')
    save_official(model, folder / 'old.pt', old_format=True)
    torch.save(model.state_dict(), folder / 'state.pt')
    save_network(load_network(zipped), folder / 'own.pt')
    return {path.stem: path.read_bytes() for path in folder.iterdir()}


def damaged(random_: random.Random, data: bytes) -> bytes:
    """Flip, cut, insert or remove bytes, most often among the names and sizes."""
    spoilt = bytearray(data)

    def place() -> int:
        low, high = random_.choice([
            (0, min(PICKLE_BYTES, len(spoilt))), (max(0, len(spoilt) - 20_000), len(spoilt)),
            (0, len(spoilt)),
        ])
        return random_.randrange(low, high)

    start = place()
    way = random_.choice(['bit', 'bytes', 'cut', 'insert', 'ones', 'remove', 'copy'])
    if way == 'bit':
        spoilt[start] ^= 1 << random_.randrange(8)
    elif way == 'bytes':
        for _ in range(8):
            spoilt[place()] = random_.randrange(256)
    elif way == 'cut':
        del spoilt[start:]
    elif way == 'insert':
        spoilt[start:start] = random_.randbytes(random_.randrange(1, 20))
    elif way == 'ones':
        spoilt[start:start + 8] = b'\xff' * 8
    elif way == 'remove':
        del spoilt[start:start + random_.randrange(1, 40)]
    else:
        other = place()
        spoilt[start:start + 20] = spoilt[other:other + 20]
    return bytes(spoilt)


@pytest.mark.parametrize('name', ['zip', 'old', 'state', 'own'])
def test_damaged_files_raise_our_own_error_only(
    tmp_path: Path, originals: dict[str, bytes], name: str
) -> None:
    random_ = random.Random(14)
    refused = sum(
        not try_to_load(tmp_path / 'x.pt', damaged(random_, originals[name]))
        for _ in range(INPUTS // 4)
    )
    assert refused > INPUTS // 8


@pytest.mark.parametrize('name', ['zip', 'state', 'own'])
def test_damaged_pickles_in_sound_archives_raise_our_own_error_only(
    tmp_path: Path, originals: dict[str, bytes], name: str
) -> None:
    """The check sums of an archive would hide them; whoever writes one computes these anew."""
    random_ = random.Random(15)
    archive = zipfile.ZipFile(io.BytesIO(originals[name]))
    members = {each: archive.read(each) for each in archive.namelist()}
    pickled = next(each for each in members if each.endswith('data.pkl'))
    for _ in range(INPUTS // 4):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, 'w') as made:
            for each, content in members.items():
                spoilt = damaged(random_, content) if each == pickled else content
                made.writestr(each, spoilt)
        try_to_load(tmp_path / 'x.pt', buffer.getvalue())


# ---- crafted


def named(module: str, name: str) -> bytes:
    return f'c{module}\n{name}\n'.encode()


def storage(key: int, count: int) -> bytes:
    number = b'\x8a\x08' + count.to_bytes(8, 'little')
    return (b'(X\x07\x00\x00\x00storage' + named('torch', 'FloatStorage') + b'X\x01\x00\x00\x00'
            + str(key).encode() + b'X\x03\x00\x00\x00cpu' + number + b'tQ')


def number(value: int) -> bytes:
    return b'\x8a\x08' + value.to_bytes(8, 'little', signed=True)


def tensor(shape: int, stride: int, offset: int, count: int = 4) -> bytes:
    """Pickle a tensor of one dimension on storage 0."""
    return (named('torch._utils', '_rebuild_tensor_v2') + b'(' + storage(0, count)
            + number(offset) + number(shape) + b'\x85' + number(stride) + b'\x85\x89}tR')


def state_of(value: bytes) -> bytes:
    """Pickle a state_dict of one weight."""
    return b'\x80\x02}X\x13\x00\x00\x00model.0.conv.weight' + value + b's.'


def archive(pickled: bytes, storage_bytes: int = 16, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', **options) as made:
        made.writestr('x/data.pkl', pickled)
        made.writestr('x/data/0', bytes(storage_bytes))
    return buffer.getvalue()


def stream(pickled: bytes, keys: list[str], body: bytes) -> bytes:
    heads = (0x1950A86A20F9469CFC6C, 1001, {'little_endian': True})
    return (b''.join(pickle.dumps(head, 2) for head in heads) + pickled + pickle.dumps(keys, 2)
            + body)


def oversized_member() -> bytes:
    """Say in the directory of an archive that a stored member has 3 GB."""
    made = bytearray(archive(state_of(tensor(4, 1, 0, 750_000_000))))
    entry = made.rfind(b'PK\x01\x02')
    made[entry + 20:entry + 28] = (3_000_000_000).to_bytes(4, 'little') * 2
    return bytes(made)


def shared_modules(levels: int) -> bytes:
    """Pickle a model whose modules each hold the next one twice: 2**levels ways through it."""
    module = named('torch.nn.modules.container', 'Sequential')
    made = b'\x80\x02' + module + b')\x81q\x00'  # the innermost
    for level in range(levels):
        inner = b'h' + bytes([level])
        made += (b'0' + module + b')\x81q' + bytes([level + 1]) + b'}X\x08\x00\x00\x00_modules}('
                 + b'X\x01\x00\x00\x000' + inner + b'X\x01\x00\x00\x001' + inner + b'usb')
    return (made + b'0' + named('models.yolo', 'Model') + b')\x81}X\x08\x00\x00\x00_modules}'
            + b'X\x05\x00\x00\x00modelh' + bytes([levels]) + b'ssb.')


CRAFTED: dict[str, Callable[[], bytes]] = {
    'storage of a terabyte': lambda: archive(state_of(tensor(4, 1, 0, 2**38))),
    'storage of negative size': lambda: archive(state_of(tensor(4, 1, 0, 2**63 + 2**62))),
    'tensor of a terabyte': lambda: archive(state_of(tensor(2**38, 0, 0))),
    'tensor beyond its storage': lambda: archive(state_of(tensor(4, 1, 1))),
    'offset far away': lambda: archive(state_of(tensor(1, 1, 2**40))),
    'negative offset': lambda: archive(state_of(tensor(1, 1, -1))),
    'negative stride': lambda: archive(state_of(tensor(4, -1, 3))),
    'negative size': lambda: archive(state_of(tensor(-4, 1, 0))),
    'member shorter than its storage': lambda: archive(state_of(tensor(4, 1, 0)), 8),
    'zip bomb': lambda: archive(state_of(tensor(4, 1, 0, 2**28)), 2**26,
                                compression=zipfile.ZIP_DEFLATED),
    'member of 3 GB in the directory': oversized_member,
    'stream with a storage of a terabyte': lambda: stream(
        state_of(tensor(4, 1, 0, 2**38)), ['0'], (2**38).to_bytes(8, 'little')),
    'stream that ends early': lambda: stream(
        state_of(tensor(4, 1, 0)), ['0'], (4).to_bytes(8, 'little') + bytes(15)),
    'stream whose count differs': lambda: stream(
        state_of(tensor(4, 1, 0)), ['0'], (5).to_bytes(8, 'little') + bytes(20)),
    'deep lists': lambda: archive(b'\x80\x02' + b']' * 400_000 + b'a' * 399_999 + b'.'),
    'deep modules': lambda: archive(shared_modules(40)),
    'millions of sets': lambda: archive(b'\x80\x04(' + b'\x8f' * 6_000_000 + b't.'),
    'one long list taken again and again': lambda: archive(
        b'\x80\x02(' + b'N' * 100_000 + b'lq\x000(' + (
            named('torch', 'Size') + b'h\x00\x85R') * 20_000 + b't.'),
    'a key of tuples that share parts': lambda: archive(
        b'\x80\x02}' + b'K\x01' + b''.join(b'q\x00h\x00\x86' for _ in range(60)) + b'K\x01s.'),
    'bytes of 4 GB': lambda: stream(b'\x80\x05\x96' + (2**32).to_bytes(8, 'little'), [], b''),
    'text of 4 GB': lambda: archive(b'\x80\x04\x8d' + (2**32).to_bytes(8, 'little') + b'x'),
    'an attribute called by a long text': lambda: archive(
        b'\x80\x02' + named('builtins', 'getattr') + b'(NX\x40\x42\x0f\x00' + b'x' * 1_000_000
        + b'tR.'),
}


@pytest.mark.parametrize('name', CRAFTED)
def test_crafted_files_are_refused_at_once(tmp_path: Path, name: str) -> None:
    data = CRAFTED[name]()
    assert not try_to_load(tmp_path / 'crafted.pt', data)


def test_members_of_one_name_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO(archive(state_of(tensor(4, 1, 0))))
    with zipfile.ZipFile(buffer, 'a') as made, pytest.warns(UserWarning, match='Duplicate'):
        made.writestr('x/data/0', bytes(16))
    (tmp_path / 'twice.pt').write_bytes(buffer.getvalue())
    with pytest.raises(CheckpointError, match='two members of one name'):
        load_network(tmp_path / 'twice.pt')


def test_what_the_optimiser_holds_is_not_read(tmp_path: Path) -> None:
    """A training checkpoint is three times as large as its weights."""
    model = official_model('yolov7-tiny')
    path = save_official(model, tmp_path / 'last.pt', optimizer={'state': torch.ones(1000)})
    data = bytearray(path.read_bytes())
    place = data.find(b'\x00\x00\x80?' * 1000)
    assert place > 0
    data[place] = 1  # its check sum is wrong now
    path.write_bytes(data)
    assert load_network(path).num_classes == 3


def test_every_instruction_of_every_protocol_is_read() -> None:
    values = {
        'texts': ['a', 'ü' * 300], 'numbers': [0, -1, 2**40, 2**80, 1.5, True, False, None],
        'tuples': [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        'sets': [{1, 2}, frozenset({3})], 'nested': {'a': [{'b': ({},)}]}, 3: 'three',
    }
    for protocol in range(2, 6):
        assert load_pickle_bytes(pickle.dumps(values, protocol)) == values
    assert load_pickle_bytes(pickle.dumps([b'', b'x' * 300, b'y'], 3)) == [b'', b'x' * 300, b'y']
    assert load_pickle_bytes(pickle.dumps([1, 'a', None, True, 2.5, {'k': (1,)}], 0)) == [
        1, 'a', None, True, 2.5, {'k': (1,)}]
    shared = ['x']
    again = load_pickle_bytes(pickle.dumps([shared, shared], 2))
    assert again[0] is again[1]
