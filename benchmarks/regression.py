"""
Results of `compare` for changes to a detector: another letterbox, size or precision.

    python benchmarks/regression.py --pictures val2017/images \
        --against yolov5n.onnx yolov5n_int8_percentile.onnx yolov5n_int8_kl.onnx

Makes a bag of two cameras of JPEG pictures, replays it with the embedded model as it is, once
more, with --square, with --size 480 and with a higher threshold, and with each model of
--against; the first of those is the reference of the others. What `compare --json` writes of each
pair is kept.

"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import subprocess
import sys
import tempfile
from typing import Any

from measured_on import save
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores

HERE = Path(__file__).parent
PROGRAM = [sys.executable, '-m', 'yolov7_trt_ros']
TOPICS = ('/front/image_raw/compressed', '/rear/image_raw/compressed')
START_NS, PERIOD_NS = 1_000_000_000_000_000_000, 33_000_000
BAG_VERSION = 9
KEPT = ('frames', 'detections', 'iou', 'score_drift', 'ap50', 'exceeded')


def write_bag(folder: Path, pictures: list[Path]) -> None:
    """Write the pictures as they are, one to each camera in turn."""
    types = get_typestore(Stores.ROS2_HUMBLE)
    kind = 'sensor_msgs/msg/CompressedImage'
    image, header, time = (
        types.types[name]
        for name in (kind, 'std_msgs/msg/Header', 'builtin_interfaces/msg/Time')
    )
    with Writer(folder, version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = [writer.add_connection(topic, kind, typestore=types) for topic in TOPICS]
        for index, path in enumerate(pictures):
            stamp_ns = START_NS + index * PERIOD_NS
            stamp = time(*divmod(stamp_ns, 1_000_000_000))
            data = np.frombuffer(path.read_bytes(), np.uint8)
            message = image(header(stamp, 'camera'), 'jpeg', data)
            connection = connections[index % len(connections)]
            writer.write(connection, stamp_ns, bytes(types.serialize_cdr(message, kind)))


def replay(drive: Path, output: Path, options: list[str]) -> Path:
    """Replay the bag with some options."""
    subprocess.run(
        [*PROGRAM, 'replay', str(drive), '-o', str(output), '--score-threshold', '0.1', *options],
        check=True, stdout=subprocess.DEVNULL,
    )
    return output


def compare(reference: Path, other: Path) -> dict[str, Any]:
    """Return what is kept of a comparison, with the exit status."""
    done = subprocess.run(
        [*PROGRAM, 'compare', str(reference), str(other), '--json', '-'],
        capture_output=True, text=True,
    )
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr)
    record = json.loads(done.stdout)
    return {'exit_status': done.returncode, **{key: record[key] for key in KEPT}}


def main() -> None:
    """Replay, compare, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--pictures', type=Path, required=True, help='folder of JPEG files')
    parser.add_argument('--count', type=int, default=80, help='pictures (default: %(default)s)')
    parser.add_argument('--against', type=Path, nargs='+', default=[], metavar='MODEL',
                        help='a model, and others to compare with it')
    parser.add_argument('-o', '--output', type=Path, default=HERE / 'results' / 'regression.json')
    args = parser.parse_args()
    pictures = sorted(args.pictures.rglob('*.jpg'))[:args.count]
    if len(pictures) < args.count:
        raise SystemExit(f'{args.pictures} has {len(pictures)} JPEG files, {args.count} wanted')
    variants: dict[str, list[str]] = {
        'the same again': [], '--square': ['--square'], '--size 480': ['--size', '480'],
        '--score-threshold 0.3': ['--score-threshold', '0.3'],
    }
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        drive = Path(folder, 'drive')
        write_bag(drive, pictures)
        reference = replay(drive, Path(folder, 'reference.mcap'), [])
        for index, (name, options) in enumerate(variants.items()):
            other = replay(drive, Path(folder, f'variant{index}.mcap'), options)
            rows[f'embedded model, {name}'] = compare(reference, other)
        bags = [
            replay(drive, Path(folder, f'model{index}.mcap'), ['--model', str(model)])
            for index, model in enumerate(args.against)
        ]
        for model, bag in zip(args.against[1:], bags[1:], strict=True):
            rows[f'{args.against[0].name}, {model.name}'] = compare(bags[0], bag)
    for name, row in rows.items():
        print(name, json.dumps(row), sep=': ')
    save(args.output, {'pictures': len(pictures), 'rows': rows})


if __name__ == '__main__':
    main()
