from __future__ import annotations

from collections.abc import Callable
import contextlib
from pathlib import Path
import shutil
import sqlite3
import struct
from typing import Any

from hypothesis import given, HealthCheck, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from yolov7_trt_ros.core.preprocess import to_bgr
from yolov7_trt_ros.errors import BagError, ImageError
from yolov7_trt_ros.replay.bags.bag_reader import BagReader
from yolov7_trt_ros.replay.bags.mcap_file import McapFile
from yolov7_trt_ros.replay.frames import BadFrame, Frame

ENCODINGS = ('bgr8', 'rgb8', 'mono8', 'yuv422', 'jpeg', 'png')
CAMERA = '/camera/image_raw'
MakeBag = Callable[..., Path]
MakeMessage = Callable[..., Any]


@pytest.fixture
def recorded(picture: np.ndarray, make_message: MakeMessage) -> list[tuple[str, Any]]:
    return [(CAMERA, make_message(picture, 'bgr8', number * 1000)) for number in range(8)]


def storage_file(folder: Path) -> Path:
    return next(file for file in folder.iterdir() if file.suffix in ('.mcap', '.db3'))


def read(path: Path, **options: Any) -> list[Frame | BadFrame]:
    return list(BagReader(path, **options))


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_every_encoding_in_recording_order(
    make_bag: MakeBag, make_message: MakeMessage, picture: np.ndarray, storage: str
) -> None:
    bag = make_bag('bag', [
        (f'/{encoding}/image', make_message(picture, encoding, 7_123_456_789 + number))
        for number, encoding in enumerate(ENCODINGS)
    ], storage=storage)
    reader = BagReader(bag)
    assert reader.count == len(ENCODINGS)
    assert reader.warnings == []
    frames = list(reader)
    assert [frame.source for frame in frames] == [f'/{name}/image' for name in ENCODINGS]
    for number, frame in enumerate(frames):
        assert isinstance(frame, Frame)
        assert frame.stamp_ns == 7_123_456_789 + number
        assert frame.log_time_ns == 5_000_000_000 + number * 33_000_000
        assert frame.frame_id == 'camera'
        assert frame.index == 0
        difference = np.abs(to_bgr(frame.image).astype(int) - picture).mean()
        assert difference < (40 if frame.source in ('/mono8/image', '/yuv422/image') else 4)
    assert [frame.source for frame in reader] == [frame.source for frame in frames]


def test_pixels_are_a_view_of_the_message(make_bag: MakeBag, recorded: list[Any]) -> None:
    frame = read(make_bag('bag', recorded[:1]))[0]
    assert isinstance(frame, Frame)
    assert np.shares_memory(frame.image.pixels, np.frombuffer(frame.message, np.uint8))


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_bare_file_without_metadata(
    make_bag: MakeBag, recorded: list[Any], tmp_path: Path, storage: str
) -> None:
    file = storage_file(make_bag('bag', recorded, storage=storage))
    alone = Path(shutil.copy(file, tmp_path / f'alone{file.suffix}'))
    assert len(read(alone)) == len(recorded)
    assert BagReader(alone).warnings == []


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_folder_without_metadata(
    make_bag: MakeBag, recorded: list[Any], storage: str
) -> None:
    bag = make_bag('bag', recorded, storage=storage)
    (bag / 'metadata.yaml').unlink()
    reader = BagReader(bag)
    assert 'has no metadata.yaml' in reader.warnings[0]
    assert len(list(reader)) == len(recorded)


def test_damaged_metadata(make_bag: MakeBag, recorded: list[Any]) -> None:
    bag = make_bag('bag', recorded)
    (bag / 'metadata.yaml').write_text('rosbag2_bagfile_information: [')
    reader = BagReader(bag)
    assert 'metadata.yaml' in reader.warnings[0]
    assert len(list(reader)) == len(recorded)


def test_a_split_bag_whose_last_file_was_not_closed(
    make_bag: MakeBag, recorded: list[Any], tmp_path: Path
) -> None:
    whole = storage_file(make_bag('one', recorded[:3])).read_bytes()
    bag = tmp_path / 'split'
    bag.mkdir()
    (bag / 'split_9.mcap').write_bytes(whole)
    (bag / 'split_10.mcap').write_bytes(whole[:-300])
    reader = BagReader(bag)
    assert len(reader.warnings) == 2
    assert len(list(reader)) == 6
    assert [frame.index for frame in reader] == list(range(6))


def test_chosen_topics(
    make_bag: MakeBag, make_message: MakeMessage, picture: np.ndarray
) -> None:
    bag = make_bag('bag', [
        ('/left/image', make_message(picture, 'bgr8', 1)),
        ('/right/image', make_message(picture, 'jpeg', 2)),
    ])
    assert [frame.source for frame in read(bag, topics=['/right/image'])] == ['/right/image']
    assert [frame.source for frame in read(bag, topics=['left/image'])] == ['/left/image']
    with pytest.raises(BagError, match='/top/image is not in the bag; image topics: '
                                       '/left/image, /right/image'):
        BagReader(bag, topics=['/top/image'])


def test_a_bag_without_images_says_what_it_holds(make_bag: MakeBag) -> None:
    bag = make_bag('bag', [('/chatter', ('std_msgs/msg/String', b'\0\1\0\0\2\0\0\0a\0'))])
    with pytest.raises(BagError, match=r'no image topics; it has /chatter \(std_msgs/msg'):
        BagReader(bag)


def test_every_second_message_of_each_topic(make_bag: MakeBag, recorded: list[Any]) -> None:
    reader = BagReader(make_bag('bag', recorded), every=3)
    assert reader.count == 3
    assert [frame.stamp_ns for frame in reader if isinstance(frame, Frame)] == [0, 3000, 6000]


def test_unusable_messages_are_passed_over(
    make_bag: MakeBag, make_message: MakeMessage, picture: np.ndarray
) -> None:
    good = make_message(picture, 'bgr8', 1)
    bag = make_bag('bag', [
        (CAMERA, good),
        (CAMERA, make_message(picture, 'bgr8', 2, step=7)),
        (CAMERA, make_message(picture, 'bgr8', 2, is_bigendian=0, width=0)),
        (CAMERA, make_message(picture, 'bgr8', 2, data=np.zeros(9, np.uint8))),
        (CAMERA, ('sensor_msgs/msg/Image', b'\0\1\0\0\1\2\3')),
        (CAMERA, ('sensor_msgs/msg/Image', b'')),
        (CAMERA, ('sensor_msgs/msg/Image', b'\xff' * 64)),
        (CAMERA, good),
    ])
    items = read(bag)
    assert [isinstance(item, Frame) for item in items] == [True, *[False] * 6, True]
    for item in items[1:-1]:
        assert isinstance(item, BadFrame)
        assert isinstance(item.error, ImageError)
        assert '\n' not in str(item.error)
        assert CAMERA in str(item.error)


def test_depth_in_disguise(
    make_bag: MakeBag, make_message: MakeMessage, picture: np.ndarray
) -> None:
    depth = make_message(picture, 'png', 1)
    depth.format = '16UC1; compressedDepth'
    bag = make_bag('bag', [('/d/image/compressedDepth', depth), (CAMERA, make_message(
        picture, 'bgr8', 2))])
    assert [frame.source for frame in read(bag)] == [CAMERA]
    with pytest.raises(BagError, match=r'cannot detect in /d/image/compressedDepth \(16UC1\)'):
        BagReader(bag, topics=['/d/image/compressedDepth'])


# ---- damaged files


def test_a_half_written_mcap_is_read_up_to_its_end(
    make_bag: MakeBag, recorded: list[Any], tmp_path: Path
) -> None:
    whole = storage_file(make_bag('bag', recorded)).read_bytes()
    file = tmp_path / 'half.mcap'
    lengths = set()
    for size in (len(whole) // 3, len(whole) // 2, len(whole) - 40, len(whole) - 8):
        file.write_bytes(whole[:size])
        reader = BagReader(file)
        frames = list(reader)
        assert 'recovered' in reader.warnings[0]
        assert all(isinstance(frame, Frame) for frame in frames)
        lengths.add(len(frames))
    assert max(lengths) == len(recorded)
    assert min(lengths) >= 1


def test_a_damaged_chunk_costs_only_its_messages(
    make_bag: MakeBag, recorded: list[Any], chunk_starts: Callable[[bytes], list[int]]
) -> None:
    bag = make_bag('bag', recorded * 3)
    file = storage_file(bag)
    data = bytearray(file.read_bytes())
    chunks = chunk_starts(data)
    first_record = chunks[1] + 9 + 40
    data[first_record + 1:first_record + 9] = b'\xff' * 8  # its length
    file.write_bytes(data)
    items = read(bag)
    good = [item for item in items if isinstance(item, Frame)]
    bad = [item for item in items if isinstance(item, BadFrame)]
    assert bad
    assert len(recorded) < len(good) < len(recorded) * 3
    assert all(isinstance(item.error, BagError) for item in bad)


@pytest.mark.parametrize('data', [b'', b'\x89MCAP0\r\n', b'no bag at all', b'\0' * 500,
                                  b'SQLite format 3\0' + b'\0' * 84])
@pytest.mark.parametrize('suffix', ['.mcap', '.db3'])
def test_a_file_that_is_no_bag(tmp_path: Path, suffix: str, data: bytes) -> None:
    path = tmp_path / f'bad{suffix}'
    path.write_bytes(data)
    with pytest.raises(BagError) as caught:
        BagReader(path)
    assert str(path) in str(caught.value)
    assert '\n' not in str(caught.value)


def test_a_cut_off_sqlite_bag(make_bag: MakeBag, recorded: list[Any]) -> None:
    file = storage_file(make_bag('bag', recorded, storage='sqlite3'))
    whole = file.read_bytes()
    for share in (0.1, 0.5, 0.95):
        file.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(BagError, match=file.name):
            BagReader(file)


@pytest.mark.parametrize('value', [7, 'text'])  # damage in the file also makes NULL
def test_a_sqlite_row_without_bytes(
    make_bag: MakeBag, recorded: list[Any], value: object
) -> None:
    file = storage_file(make_bag('bag', recorded, storage='sqlite3'))
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute('UPDATE messages SET data = ? WHERE id = 3', (value,))
        database.commit()
    frames = read(file)
    assert [isinstance(frame, Frame) for frame in frames] == [True, True, False] + [True] * 5
    assert 'its 0 bytes' in str(frames[2].error)


def test_no_bag_there(tmp_path: Path) -> None:
    with pytest.raises(BagError, match='no such bag'):
        BagReader(tmp_path / 'nothing.mcap')
    with pytest.raises(BagError, match='is not a bag'):
        BagReader(tmp_path)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_no_damage_raises_anything_but_our_errors(
    make_bag: MakeBag, make_message: MakeMessage, tmp_path: Path, storage: str, data: st.DataObject
) -> None:
    small = np.zeros((16, 16, 3), np.uint8)
    folder = tmp_path / 'bag'
    if not folder.exists():
        make_bag('bag', [(CAMERA, make_message(small, 'bgr8', n)) for n in range(4)],
                 storage=storage)
    source = storage_file(folder)
    damaged = bytearray(source.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    path = tmp_path / f'damaged{source.suffix}'
    path.write_bytes(damaged[: cut if data.draw(st.booleans()) else len(damaged)])
    try:
        for item in BagReader(path):
            assert isinstance(item, (Frame, BadFrame))
    except BagError as exc:
        assert '\n' not in str(exc)


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_scanning_any_bytes_ends_without_a_crash(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / 'any.mcap'
    path.write_bytes(b'\x89MCAP0\r\n' + body)
    with contextlib.suppress(BagError):
        list(McapFile(path).messages(['/t']))


@pytest.mark.parametrize('compression', ['', 'lz4', 'zstd'])
def test_scanning_compressed_chunks(tmp_path: Path, compression: str) -> None:
    def record(opcode: int, body: bytes) -> bytes:
        return struct.pack('<BQ', opcode, len(body)) + body

    def text(value: str) -> bytes:
        return struct.pack('<I', len(value)) + value.encode()

    records = record(3, struct.pack('<H', 1) + text('a/msg/B') + text('ros2msg') + text(''))
    records += record(4, struct.pack('<HH', 1, 1) + text('/t') + text('cdr') + text(''))
    records += record(5, struct.pack('<HIQQ', 1, 0, 42, 43) + b'payload')
    packed = records
    if compression == 'lz4':
        import lz4.frame
        packed = lz4.frame.compress(records)
    elif compression == 'zstd':
        zstd = pytest.importorskip('backports.zstd')
        packed = zstd.compress(records)
    chunk = struct.pack('<QQQI', 42, 42, len(records), 0) + text(compression)
    chunk += struct.pack('<Q', len(packed)) + packed
    path = tmp_path / 'scan.mcap'
    path.write_bytes(b'\x89MCAP0\r\n' + record(1, text('ros2') + text('')) + record(6, chunk))
    assert list(McapFile(path).messages({'/t'})) == [('/t', 'a/msg/B', 42, b'payload')]


# ---- real bags


def test_real_bags(shared_data: Path) -> None:
    soccer = read(shared_data / 'vision/bags/real_soccer_amber_repacked')
    assert [item.log_time_ns for item in soccer] == [8297777777, 8331088888]
    assert all(isinstance(item, Frame) and item.image.size_wh == (640, 480) for item in soccer)
    webcam = BagReader(shared_data / 'vision/bags/real_webcam_klintan_repacked')
    assert list(webcam.topics) == ['/image', '/image/compressed']
    raw, jpeg = (item for item in webcam if isinstance(item, Frame))
    assert raw.image.encoding.name == jpeg.image.encoding.name == 'bgr8'
