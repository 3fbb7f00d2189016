"""
Reads mutated bags, pictures and messages under a limit of memory, and tells what that raised.

Run in a process of its own: `python mutated_inputs.py FOLDER KIND COUNT SEED` prints JSON.

"""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import io
import json
from pathlib import Path
import random
import resource
import shutil
import sqlite3
import sys
import time
import traceback
from typing import Any

import cv2
import numpy as np
from PIL import Image
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.preprocess import decode_compressed
from yolov7_trt_ros.errors import Yolov7TrtError
from yolov7_trt_ros.replay.bags.bag_detections import DetectionReader
from yolov7_trt_ros.replay.bags.bag_reader import BagReader
from yolov7_trt_ros.replay.bags.bag_writer import DetectionBagWriter
from yolov7_trt_ros.replay.bags.detection_message import DetectionMessages, DETECTIONS_TYPE
from yolov7_trt_ros.replay.bags.rosbags_adapter import load_typestore
from yolov7_trt_ros.replay.run import replay_bag
from yolov7_trt_ros.replay.sources import open_frames
from yolov7_trt_ros.testing import FakeDetector, smooth_picture

ALLOWED_BYTES = 1 << 30
TYPES = get_typestore(Stores.ROS2_HUMBLE)
IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED = 'sensor_msgs/msg/CompressedImage'
PICTURE = np.ascontiguousarray(smooth_picture(48, 32)[..., ::-1])
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF)
FORMATS = ('jpeg', 'bayer_rggb8; jpeg compressed ', '', 'rgb8; png compressed bgr8', 'mono16; png '
           'compressed ', '16UC1; compressedDepth png')
Reading = Callable[[Path], None]


def main(folder: Path, kind: str, count: int, seed: int) -> None:
    inputs = KINDS[kind](folder)
    chance = random.Random(seed)
    outcome: dict[str, Any] = {'inputs': 0, 'read': 0, 'worst_s': 0.0, 'foreign': []}
    limit_memory()
    for number in range(count):
        name, data, read = inputs[number % len(inputs)]
        damaged = mutated(data, chance)
        path = folder / 'mutated' / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(damaged)
        start_s = time.monotonic()
        outcome['inputs'] += 1
        try:
            read(path)
            outcome['read'] += 1
        except Yolov7TrtError as exc:
            if '\n' in str(exc) or len(str(exc)) > 1200:
                outcome['foreign'].append(f'{name} {number}: a message that is too long')
        except BaseException:
            outcome['foreign'].append(f'{name} {number}: {traceback.format_exc()[-700:]}')
        took_s = time.monotonic() - start_s
        if took_s > outcome['worst_s']:
            outcome |= {'worst_s': took_s, 'worst': f'{name} {number}'}
    json.dump(outcome, sys.stdout)


def limit_memory() -> None:
    """Allow so much more address space than is taken now."""
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    most = pages * resource.getpagesize() + ALLOWED_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Return bytes in which a few things are wrong."""
    damaged = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(max(1, len(damaged)))
        what = chance.randrange(6)
        if what < 2:
            damaged[at:at + 1] = bytes([chance.randrange(256)])
        elif what == 2:
            width = chance.choice((2, 4, 8))
            damaged[at:at + width] = bytes([chance.choice(EXTREMES)]) * width
        elif what == 3:
            damaged[at:at + chance.randrange(64)] = b''
        elif what == 4:
            damaged[at:at] = damaged[chance.randrange(len(damaged) + 1):][:chance.randrange(64)]
        elif chance.random() < 0.3:
            del damaged[at:]
    return bytes(damaged)


# ---- bags


def image_message(encoding: str = 'bgr8') -> Any:
    return TYPES.types[IMAGE](
        header(), height=32, width=48, encoding=encoding, is_bigendian=0, step=144,
        data=PICTURE.reshape(-1),
    )


def compressed_message(text: str = 'jpeg') -> Any:
    return TYPES.types[COMPRESSED](header(), text, cv2.imencode('.jpg', PICTURE)[1].reshape(-1))


def header() -> Any:
    return TYPES.types['std_msgs/msg/Header'](
        TYPES.types['builtin_interfaces/msg/Time'](1, 2), 'camera'
    )


def write_bag(folder: Path, storage: str, mode: str = 'NONE') -> Path:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
    writer = Writer(folder, version=9, storage_plugin=StoragePlugin[storage])
    writer.set_compression(CompressionMode[mode], CompressionFormat.ZSTD)
    with writer:
        topics = {
            topic: writer.add_connection(topic, kind, typestore=TYPES)
            for topic, kind in (('/a/image', IMAGE), ('/b/image', COMPRESSED))
        }
        for number in range(6):
            for topic, message in (
                ('/a/image', image_message()), ('/b/image', compressed_message())
            ):
                data = TYPES.serialize_cdr(message, message.__msgtype__)
                writer.write(topics[topic], 1000 + number, bytes(data))
    return folder


def read_bag(path: Path) -> None:
    reader = BagReader(path)
    output = path.with_name('written.mcap')
    with DetectionBagWriter(
        output, reader.topics, ('person',), qos=reader.qos, with_images=True, overwrite=True
    ) as writer:
        replay_bag(reader, FakeDetector(), DetectSettings(), writer)


def bags(folder: Path) -> list[tuple[str, bytes, Reading]]:
    found = []
    for name, storage, mode in (
        ('plain', 'MCAP', 'NONE'), ('chunks', 'MCAP', 'STORAGE'), ('messages', 'MCAP', 'MESSAGE'),
        ('packed', 'MCAP', 'FILE'), ('sqlite', 'SQLITE3', 'NONE'), ('rows', 'SQLITE3', 'MESSAGE'),
    ):
        bag = write_bag(folder / name, storage, mode)
        file = next(each for each in bag.iterdir() if each.name != 'metadata.yaml')
        found.append((f'{name}{"".join(file.suffixes)}', file.read_bytes(), read_bag))
    return found


def detections(folder: Path) -> list[tuple[str, bytes, Reading]]:
    """Return bags as `replay` writes them."""
    types = load_typestore()
    found = Detections(np.array([[1, 2, 30, 20]] * 3, np.float32), np.full(3, 0.5, np.float32),
                       np.zeros(3, np.int32), (48, 32))
    bags = []
    for storage in ('MCAP', 'SQLITE3'):
        bag = folder / storage
        with Writer(bag, version=9, storage_plugin=StoragePlugin[storage]) as writer:
            connection = writer.add_connection('/d', DETECTIONS_TYPE, typestore=types)
            message = DetectionMessages(('person',)).build(5, 'camera', found)
            data = bytes(types.serialize_cdr(message, DETECTIONS_TYPE))
            for number in range(6):
                writer.write(connection, number, data)
        file = next(each for each in bag.iterdir() if each.name != 'metadata.yaml')
        bags.append((file.name, file.read_bytes(), read_detection_bag))
    return bags


def read_detection_bag(path: Path) -> None:
    for _ in DetectionReader(path, {}).frames():
        pass


def metadata(folder: Path) -> list[tuple[str, bytes, Reading]]:
    bag = write_bag(folder / 'bag', 'MCAP')
    data = (bag / 'metadata.yaml').read_bytes()

    def read(path: Path) -> None:
        shutil.copy(path, bag / 'metadata.yaml')
        read_bag(bag)

    return [('metadata.yaml', data, read)]


def logs(folder: Path) -> list[tuple[str, bytes, Reading]]:
    """Return the write-ahead log of a recorder that did not end, and the file beside it."""
    whole = next(write_bag(folder / 'sqlite', 'SQLITE3').glob('*.db3'))
    database = sqlite3.connect(whole)
    database.execute('PRAGMA journal_mode = WAL')
    database.execute('UPDATE messages SET timestamp = timestamp + 1')
    database.commit()
    kept = {each.name: each.read_bytes() for each in whole.parent.iterdir()}
    database.close()

    def read(path: Path) -> None:
        for name, data in kept.items():
            (path.parent / name).write_bytes(data)
        shutil.copy(path, path.parent / path.name.removeprefix('damaged-'))
        read_bag(path.parent / whole.name)

    return [(f'damaged-{name}', data, read) for name, data in kept.items() if 'shm' not in name
            and name != 'metadata.yaml']


# ---- pictures


def pictures(folder: Path) -> list[tuple[str, bytes, Reading]]:
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [Image.fromarray(np.roll(PICTURE, shift, 1)) for shift in (0, 9)]
    found = []
    for suffix, options in (
        ('.jpg', {'exif': exif}), ('.jpg', {'progressive': True}), ('.png', {'exif': exif}),
        ('.gif', {'save_all': True, 'append_images': frames[1:]}), ('.bmp', {}),
        ('.webp', {'exif': exif}), ('.webp', {'lossless': True}),
        ('.tif', {'compression': 'tiff_lzw'}), ('.tif', {}), ('.ppm', {}), ('.jp2', {}),
        ('.avif', {}), ('.png', {'save_all': True, 'append_images': frames[1:]}),
    ):
        if suffix == '.jp2' and cv2.__version__ < '5':
            continue  # a damaged one ends the process there: docs/limits.md
        file = io.BytesIO()
        with contextlib.suppress(KeyError):  # a format that this Pillow does not have
            frames[0].save(file, Image.registered_extensions()[suffix], **options)
            found.append((f'{len(found)}{suffix}', file.getvalue(), read_frames))
    for suffix in ('.pgm', '.pbm', '.pam', '.ras', '.tiff'):
        data = bytes(cv2.imencode(suffix, PICTURE[..., 0])[1])
        found.append((f'{len(found)}{suffix}', data, read_frames))
    return found


def read_frames(path: Path) -> None:
    for item in open_frames(path):
        if hasattr(item, 'error'):
            raise item.error


def videos(folder: Path) -> list[tuple[str, bytes, Reading]]:
    found = []
    for suffix, codec in (('.avi', 'MJPG'), ('.mp4', 'mp4v'), ('.mkv', 'mp4v')):
        file = folder / f'clip{suffix}'
        writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*codec), 10, (48, 32))
        for _ in range(4):
            writer.write(PICTURE)
        writer.release()
        found.append((file.name, file.read_bytes(), read_frames))
    return found


def messages(folder: Path) -> list[tuple[str, bytes, Reading]]:
    found = []
    for name, data, _ in pictures(folder):
        for number, text in enumerate(FORMATS):
            found.append((f'{number}-{name}', data, _decoding(text)))
    return found


def _decoding(text: str) -> Reading:
    def read(path: Path) -> None:
        decode_compressed(path.read_bytes(), text)

    return read


KINDS = {
    'bags': bags, 'detections': detections, 'metadata': metadata, 'logs': logs,
    'pictures': pictures, 'videos': videos, 'messages': messages,
}

if __name__ == '__main__':
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
