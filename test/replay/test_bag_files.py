"""Bags as they lie on disks: logs beside them, wrong or no metadata, compressed, unfinished."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import hashlib
import os
from pathlib import Path
import resource
import shutil
import sqlite3
import struct
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
import yaml

from yolov7_trt_ros.errors import BagError, InputError
from yolov7_trt_ros.replay.bags.bag_metadata import read_metadata
from yolov7_trt_ros.replay.bags.bag_reader import BagReader
from yolov7_trt_ros.replay.bags.mcap_file import McapFile
from yolov7_trt_ros.replay.bags.rosbags_adapter import load_typestore, zstd
from yolov7_trt_ros.replay.bags.unpacking import MAX_UNPACKED_BYTES
from yolov7_trt_ros.replay.file_kinds import BAG_SUFFIXES, read_head
from yolov7_trt_ros.replay.frames import BadFrame, Frame

CAMERA = '/camera/image_raw'
IMAGE = 'sensor_msgs/msg/Image'
MESSAGES = 8
MakeBag = Callable[..., Path]
MakeMessage = Callable[..., Any]


@pytest.fixture
def recorded(picture: np.ndarray, make_message: MakeMessage) -> list[tuple[str, Any]]:
    return [(CAMERA, make_message(picture, 'bgr8', number)) for number in range(MESSAGES)]


def good_and_bad(reader: BagReader) -> tuple[list[Frame], list[BadFrame]]:
    items = list(reader)
    return ([item for item in items if isinstance(item, Frame)],
            [item for item in items if isinstance(item, BadFrame)])


def storage_file(folder: Path) -> Path:
    return next(file for file in folder.iterdir() if file.name.endswith(BAG_SUFFIXES))


def hashes(folder: Path) -> dict[str, str]:
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()
    }


# ---- SQLite's log


@pytest.fixture
def killed(make_bag: MakeBag, recorded: list[Any], tmp_path: Path) -> Path:
    """Return a bag of which a killed recorder left six of eight messages in the log."""
    bag = make_bag('bag', recorded, storage='sqlite3')
    file = storage_file(bag)
    left = tmp_path / 'killed'
    with contextlib.closing(sqlite3.connect(file)) as database:
        rows = database.execute('SELECT * FROM messages WHERE id > 2').fetchall()
        database.execute('DELETE FROM messages WHERE id > 2')
        database.commit()
        database.execute('PRAGMA journal_mode = WAL')
        database.executemany('INSERT INTO messages VALUES (?, ?, ?, ?)', rows)
        database.commit()
        shutil.copytree(bag, left)
    (left / 'metadata.yaml').unlink()
    return left


@pytest.mark.parametrize('index', ['with its index', 'without its index'])
def test_the_log_of_a_killed_recorder_is_read_and_not_changed(killed: Path, index: str) -> None:
    assert storage_file(killed).with_name('bag.db3-wal').stat().st_size > 100_000
    if index == 'without its index':
        (killed / 'bag.db3-shm').unlink()
    before = hashes(killed)
    reader = BagReader(killed)
    good, bad = good_and_bad(reader)
    assert (len(good), bad) == (MESSAGES, [])
    assert any('bag.db3-wal is read too' in text for text in reader.warnings)
    assert len(list(BagReader(killed / 'bag.db3'))) == MESSAGES
    assert hashes(killed) == before


def test_a_log_in_a_folder_that_cannot_be_written(killed: Path) -> None:
    for file in killed.iterdir():
        file.chmod(0o444)
    killed.chmod(0o555)
    try:
        assert len(good_and_bad(BagReader(killed))[0]) == MESSAGES
    finally:
        killed.chmod(0o755)


def test_a_bag_that_is_being_recorded(killed: Path) -> None:
    with contextlib.closing(sqlite3.connect(storage_file(killed))) as database:
        database.execute('DELETE FROM messages WHERE id = 1')
        database.commit()
        assert len(good_and_bad(BagReader(killed))[0]) == MESSAGES - 1
    assert len(good_and_bad(BagReader(killed))[0]) == MESSAGES - 1  # the log is folded in now


def test_names_that_mean_something_in_addresses(
    make_bag: MakeBag, recorded: list[Any]
) -> None:
    bag = make_bag('bag', recorded, storage='sqlite3')
    bag = bag.rename(bag.with_name('a #1 100% ?x=y ü'))
    file = storage_file(bag).rename(bag / 'a?b#c%20d.db3')
    for path in (bag, file):
        with contextlib.suppress(FileNotFoundError):
            (bag / 'metadata.yaml').unlink()
        assert len(good_and_bad(BagReader(path))[0]) == MESSAGES


def test_a_file_with_an_unfinished_journal_is_refused(
    make_bag: MakeBag, recorded: list[Any]
) -> None:
    file = storage_file(make_bag('bag', recorded, storage='sqlite3'))
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute('PRAGMA cache_size = 1')
        database.execute('UPDATE messages SET data = randomblob(300000)')
        with pytest.raises(BagError, match='was being written when its recorder ended, as '
                                           'bag.db3-journal shows'):
            BagReader(file)
        database.rollback()
    assert len(list(BagReader(file))) == MESSAGES


def test_a_journal_that_is_a_pipe_is_not_waited_for(
    make_bag: MakeBag, recorded: list[Any]
) -> None:
    file = storage_file(make_bag('bag', recorded, storage='sqlite3'))
    os.mkfifo(file.with_name(f'{file.name}-journal'))
    assert len(list(BagReader(file))) == MESSAGES


# ---- metadata.yaml


@pytest.fixture
def change_metadata() -> Callable[[Path, Callable[[dict[str, Any]], object]], None]:
    def change(bag: Path, do: Callable[[dict[str, Any]], object]) -> None:
        path = bag / 'metadata.yaml'
        told = yaml.safe_load(path.read_text())
        do(told['rosbag2_bagfile_information'])
        path.write_text(yaml.safe_dump(told))

    return change


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_metadata_without_topics_does_not_beat_the_files(
    make_bag: MakeBag, recorded: list[Any], change_metadata: Any, storage: str
) -> None:
    bag = make_bag('bag', recorded, storage=storage)
    change_metadata(bag, lambda told: told.update(topics_with_message_count=[], message_count=0))
    reader = BagReader(bag)
    assert len(good_and_bad(reader)[0]) == MESSAGES
    assert 'metadata.yaml is wrong for 1 of 1 topics: it states 0 messages' in reader.warnings[0]


@pytest.mark.parametrize(('count', 'failed', 'warned'), [(3, 0, True), (8, 0, False),
                                                         (11, 1, False)])
def test_the_number_of_messages_is_compared_with_metadata(
    make_bag: MakeBag, recorded: list[Any], change_metadata: Any,
    count: int, failed: int, warned: bool,
) -> None:
    bag = make_bag('bag', recorded)
    change_metadata(
        bag, lambda told: told['topics_with_message_count'][0].update(message_count=count)
    )
    reader = BagReader(bag)
    good, bad = good_and_bad(reader)
    assert (len(good), len(bad), bool(reader.warnings)) == (MESSAGES, failed, warned)
    if failed:
        assert 'should have 11 messages, 8 could be read' in str(bad[0].error)


def test_files_that_metadata_names_and_that_are_not_there(
    make_bag: MakeBag, recorded: list[Any], change_metadata: Any
) -> None:
    bag = make_bag('bag', recorded)
    change_metadata(bag, lambda told: told.update(
        relative_file_paths=['bag/bag.mcap', '../../elsewhere/lost_1.mcap']))
    good, bad = good_and_bad(BagReader(bag))
    assert len(good) == MESSAGES
    assert 'names missing files: lost_1.mcap' in str(bad[0].error)


def test_no_path_leaves_the_folder(
    make_bag: MakeBag, recorded: list[Any], change_metadata: Any, tmp_path: Path
) -> None:
    outside = storage_file(make_bag('outside', recorded))
    bag = make_bag('bag', recorded[:2])
    for name in (str(outside), f'../outside/{outside.name}'):
        change_metadata(bag, lambda told, name=name: told.update(relative_file_paths=[name]))
        good, bad = good_and_bad(BagReader(bag))
        assert (len(good), len(bad)) == (2, 1)


def test_a_file_that_metadata_does_not_name_is_told(
    make_bag: MakeBag, recorded: list[Any]
) -> None:
    bag = make_bag('bag', recorded)
    shutil.copy(storage_file(bag), bag / 'copy.mcap')
    reader = BagReader(bag)
    assert len(list(reader)) == MESSAGES
    assert 'not read, because metadata.yaml does not name it: copy.mcap' in reader.warnings[0]


@pytest.mark.parametrize('text', [
    '', '[' * 5000, 'rosbag2_bagfile_information: 7', 'a: &a [*a]\n', '\x00', '%YAML 9',
    'rosbag2_bagfile_information:\n  relative_file_paths: 3', '- x\n' * 600_000,
    'rosbag2_bagfile_information: {relative_file_paths: [a.mcap], topics_with_message_count: [7]}',
], ids=str.split('empty nested number loop zero directive no-list large no-topic'))
def test_metadata_that_is_none(make_bag: MakeBag, recorded: list[Any], text: str) -> None:
    bag = make_bag('bag', recorded)
    (bag / 'metadata.yaml').write_text(text)
    reader = BagReader(bag)
    assert 'metadata.yaml' in reader.warnings[0]
    assert len(reader.warnings[0]) < 500
    assert "' object" not in reader.warnings[0]
    assert len(good_and_bad(reader)[0]) == MESSAGES


def test_metadata_that_is_a_pipe(make_bag: MakeBag, recorded: list[Any]) -> None:
    bag = make_bag('bag', recorded)
    (bag / 'metadata.yaml').unlink()
    os.mkfifo(bag / 'metadata.yaml')
    reader = BagReader(bag)
    assert 'metadata.yaml is no plain file, but a pipe' in reader.warnings[0]
    assert len(good_and_bad(reader)[0]) == MESSAGES


def test_a_pipe_that_takes_the_place_of_a_file_after_it_was_seen(
    make_bag: MakeBag, recorded: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was opened decides: it may be another one than what had the name before."""
    bag = make_bag('bag', recorded)
    for path in (bag / 'metadata.yaml', bag / 'bag_0.mcap'):
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    monkeypatch.setattr(Path, 'is_file', Path.exists)
    with pytest.raises(BagError, match='metadata.yaml is no plain file, but a pipe'):
        read_metadata(bag)
    with pytest.raises(InputError, match='bag_0.mcap is no plain file, but a pipe'):
        read_head(bag / 'bag_0.mcap')
    with pytest.raises(BagError, match='bag_0.mcap is no plain file, but a pipe'):
        McapFile(bag / 'bag_0.mcap')


# ---- several files


def test_a_part_of_several_that_is_empty(
    make_bag: MakeBag, recorded: list[Any], change_metadata: Any
) -> None:
    bag = make_bag('bag', recorded)
    (bag / 'bag_1.mcap').touch()
    change_metadata(bag, lambda told: told['relative_file_paths'].append('bag_1.mcap'))
    good, bad = good_and_bad(BagReader(bag))
    assert len(good) == MESSAGES
    assert 'bag_1.mcap is empty' in str(bad[0].error)


def test_storage_files_are_known_by_their_content(
    make_bag: MakeBag, recorded: list[Any], tmp_path: Path
) -> None:
    sqlite = storage_file(make_bag('bag', recorded, storage='sqlite3'))
    assert len(list(BagReader(Path(shutil.copy(sqlite, tmp_path / 'other.mcap'))))) == MESSAGES


def test_a_bag_without_messages_says_so(make_bag: MakeBag, recorded: list[Any]) -> None:
    bag = make_bag('bag', recorded, storage='sqlite3')
    with contextlib.closing(sqlite3.connect(storage_file(bag))) as database:
        database.execute('DELETE FROM messages')
        database.commit()
    (bag / 'metadata.yaml').unlink()
    item, = BagReader(bag)
    assert isinstance(item, BadFrame)
    assert f'has no message on {CAMERA}' in str(item.error)


# ---- compression


def write_packed(folder: Path, storage: str, mode: str, recorded: list[Any]) -> Path:
    types = load_typestore()
    writer = Writer(folder, version=9, storage_plugin=StoragePlugin[storage])
    writer.set_compression(CompressionMode[mode], CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection(CAMERA, IMAGE, typestore=types)
        for number, (_, message) in enumerate(recorded):
            writer.write(connection, number, bytes(types.serialize_cdr(message, IMAGE)))
    return folder


@pytest.mark.parametrize('has_metadata', [True, False])
@pytest.mark.parametrize('mode', ['MESSAGE', 'FILE'])
@pytest.mark.parametrize('storage', ['MCAP', 'SQLITE3'])
def test_zstd_by_its_magic(
    tmp_path: Path, recorded: list[Any], storage: str, mode: str, has_metadata: bool
) -> None:
    bag = write_packed(tmp_path / 'bag', storage, mode, recorded)
    if not has_metadata:
        (bag / 'metadata.yaml').unlink()
    for path in (bag, storage_file(bag)):
        good, bad = good_and_bad(BagReader(path))
        assert (len(good), bad) == (MESSAGES, [])
        assert good[0].message.startswith(b'\0\1\0\0')
    if mode == 'FILE' and not has_metadata:  # as `ros2 bag play` leaves it
        packed = storage_file(bag)
        packed.with_suffix('').write_bytes(zstd.decompress(packed.read_bytes()))
        assert len(list(BagReader(bag))) == MESSAGES


def test_a_damaged_message_in_zstd_is_told_as_such(tmp_path: Path, recorded: list[Any]) -> None:
    bag = write_packed(tmp_path / 'bag', 'SQLITE3', 'MESSAGE', recorded)
    with contextlib.closing(sqlite3.connect(storage_file(bag))) as database:
        database.execute('UPDATE messages SET data = substr(data, 1, 50) WHERE id = 3')
        database.commit()
    good, bad = good_and_bad(BagReader(bag))
    assert len(good) == MESSAGES - 1
    assert 'zstd' in str(bad[0].error) or 'truncated' in str(bad[0].error)


def record(opcode: int, body: bytes) -> bytes:
    return struct.pack('<BQ', opcode, len(body)) + body


def text(value: str) -> bytes:
    return struct.pack('<I', len(value)) + value.encode()


def mcap(*records: bytes) -> bytes:
    """Return an MCAP file without a footer, with one channel of images."""
    return b'\x89MCAP0\r\n' + record(1, text('ros2') + text('')) + record(
        3, struct.pack('<H', 1) + text(IMAGE) + text('ros2msg') + text('')
    ) + record(
        4, struct.pack('<HH', 1, 1) + text('/t') + text('cdr') + text('')
    ) + b''.join(records)


def chunk(packed: bytes, size: int) -> bytes:
    return record(6, struct.pack('<QQQI', 0, 1, size, 0) + text('zstd')
                  + struct.pack('<Q', len(packed)) + packed)


def zeros(size: int) -> bytes:
    """Return zstd of so many zeros."""
    compressor = zstd.ZstdCompressor()
    pieces = [compressor.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return b''.join([*pieces, compressor.flush()])


def bombs() -> Iterator[tuple[str, bytes]]:
    yield 'states 4 GiB', mcap(chunk(zeros(1 << 20), 1 << 32))
    yield 'states little', mcap(chunk(zeros(1 << 30), 1000))
    yield 'is large', mcap(chunk(zeros(MAX_UNPACKED_BYTES), MAX_UNPACKED_BYTES))
    yield 'message', mcap(record(5, struct.pack('<HIQQ', 1, 0, 1, 1) + zeros(1 << 30)))
    tiny = record(5, struct.pack('<HIQQ', 1, 0, 1, 1)) * 400_000
    yield 'many messages', mcap(chunk(zstd.compress(tiny), len(tiny)))
    yield 'long record', mcap(struct.pack('<BQ', 5, 1 << 40) + b'abc')


@pytest.mark.parametrize(('name', 'data'), bombs(), ids=[name for name, _ in bombs()])
def test_a_small_file_takes_neither_all_memory_nor_all_time(
    tmp_path: Path, name: str, data: bytes
) -> None:
    path = tmp_path / 'bomb.mcap'
    path.write_bytes(data)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    items = list(BagReader(path))
    assert items and all(isinstance(item, BadFrame) for item in items)
    assert len(items) < 5000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 1 << 20


def test_a_packed_file_that_grows_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'bomb.db3.zstd'
    path.write_bytes(zeros(1 << 29))
    with pytest.raises(BagError, match='unpacks to more than 1000 times its size'):
        BagReader(path)


# ---- MCAP as such


def test_chunks_can_be_found_by_the_summary_after_damage(
    make_bag: MakeBag, recorded: list[Any], chunk_starts: Callable[[bytes], list[int]]
) -> None:
    file = storage_file(make_bag('bag', recorded * 4))
    data = bytearray(file.read_bytes())
    chunks = chunk_starts(data)
    assert len(chunks) >= 3
    data[chunks[1]:chunks[1] + 9] = b'\xf0' * 9  # its opcode and length
    file.write_bytes(data)
    good, bad = good_and_bad(BagReader(file))
    assert MESSAGES < len(good) < 4 * MESSAGES
    assert 'could be read' in str(bad[-1].error)


def test_messages_of_other_serialisations_are_told(tmp_path: Path) -> None:
    path = tmp_path / 'other.mcap'
    path.write_bytes(mcap().replace(text('cdr'), text('pbf')))
    with pytest.raises(BagError, match=r'has no image topics; it has /t \(.*Image \(pbf\)\)'):
        BagReader(path)


# ---- stamps


@pytest.mark.parametrize(('sec', 'nanosec', 'proper'), [
    (5, 999_999_999, True), (5, 1_000_000_000, False), (5, 2**32 - 1, False), (-1, 5, False),
])
def test_stamps_that_no_clock_gives_are_told(
    make_bag: MakeBag, make_message: MakeMessage, picture: np.ndarray,
    sec: int, nanosec: int, proper: bool,
) -> None:
    message = make_message(picture, 'bgr8', 0)
    message.header.stamp.sec, message.header.stamp.nanosec = sec, nanosec
    reader = BagReader(make_bag('bag', [(CAMERA, message)]))
    for _ in range(2):  # told once, however often it is read
        frame, = reader
        assert frame.stamp_ns == sec * 1_000_000_000 + nanosec
        assert [f'{CAMERA}: 1 stamps are not proper' in each for each in reader.warnings] == (
            [] if proper else [True])
