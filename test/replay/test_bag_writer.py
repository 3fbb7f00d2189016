from __future__ import annotations

from collections.abc import Callable
import itertools
import os
from pathlib import Path
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag2 import Reader

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import DetectSettings, FrameTimings
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.tracks.track_options import TrackOptions
from yolov7_trt_ros.errors import BagError, InferenceError
from yolov7_trt_ros.replay.bags.bag_reader import BagReader
from yolov7_trt_ros.replay.bags.bag_writer import DetectionBagWriter
from yolov7_trt_ros.replay.bags.detection_message import DETECTIONS_TYPE
from yolov7_trt_ros.replay.bags.rosbags_adapter import load_typestore
from yolov7_trt_ros.replay.run import Following, replay_bag, RunSummary
from yolov7_trt_ros.temporary_folder import MARK

CAMERA = '/camera/image_raw'
HASHES = Path(__file__).resolve().parents[1] / 'data/vision_msgs_type_hashes.txt'
MakeBag = Callable[..., Path]
MakeMessage = Callable[..., Any]


class OneBox:
    """Finds one box per image, and fails on every `fail_every`-th."""

    spec = SimpleNamespace(class_names=('person', 'car'))
    backend = 'test'

    def __init__(self, fail_every: int = 0) -> None:
        self._fail_every = fail_every
        self._calls = itertools.count(1)

    def detect(
        self, image: ImageView, settings: DetectSettings
    ) -> tuple[Detections, FrameTimings]:
        if self._fail_every and next(self._calls) % self._fail_every == 0:
            raise InferenceError('made to fail')
        boxes = np.array([[10, 20, 30, 60]], np.float32)
        found = Detections(
            boxes, np.array([0.75], np.float32), np.array([1], np.int32), image.size_wh
        )
        return found, FrameTimings(1_000_000, 2_000_000, 3_000_000)

    def close(self) -> None:
        pass


@pytest.fixture
def bag(make_bag: MakeBag, make_message: MakeMessage, picture: np.ndarray) -> Path:
    recorded = [(CAMERA, make_message(picture, 'bgr8', 1_000_000_007 * n)) for n in range(4)]
    recorded.insert(2, (CAMERA, make_message(picture, 'bgr8', 5, step=3)))
    recorded.append(('/rear/image/compressed', make_message(picture, 'jpeg', 9)))
    return make_bag('bag', recorded)


def replay(bag: Path, out: Path, detector: Any = None, **options: Any) -> RunSummary:
    reader = BagReader(bag)
    detector = detector or OneBox()
    with DetectionBagWriter(
        out, reader.topics, detector.spec.class_names, qos=reader.qos, source=bag, **options
    ) as writer:
        return replay_bag(reader, detector, DetectSettings(), writer)


def messages(path: Path) -> list[tuple[str, int, bytes]]:
    with Reader(path) as reader:
        return [(item.topic, time, bytes(data)) for item, time, data in reader.messages()]


@pytest.mark.parametrize('mode', ['off', 'bytetrack'])
def test_ids_are_those_of_a_topic_and_new_where_stamps_go_back(
    make_bag: MakeBag, make_message: MakeMessage, picture: np.ndarray, tmp_path: Path, mode: str
) -> None:
    def image(stamp_ms: int) -> Any:
        return make_message(picture, 'bgr8', stamp_ms * 1_000_000)

    bag = make_bag('bag', [
        (CAMERA, image(1)), ('/rear/image', image(2)), (CAMERA, image(901)),
        ('/rear/image', image(902)), (CAMERA, image(2)),
    ])
    reader, following = BagReader(bag), Following(TrackOptions(mode))
    with DetectionBagWriter(tmp_path / 'out', reader.topics, ('person', 'car')) as writer:
        replay_bag(reader, OneBox(), DetectSettings(), writer, following=following)
    found = [
        load_typestore().deserialize_cdr(data, DETECTIONS_TYPE).detections[0].id
        for _, _, data in messages(tmp_path / 'out')
    ]
    assert found == (['1', '2', '1', '2', '3'] if mode != 'off' else [''] * 5)


def test_detections_have_the_header_and_log_time_of_their_image(bag: Path, tmp_path: Path) -> None:
    out = tmp_path / 'new/folder/out.mcap'
    summary = replay(bag, out)
    assert (summary.frames, summary.failed) == (5, 1)
    assert summary.detections_per_class == {'car': 5}
    assert summary.latency_ms['total'].p50 == 6.0
    assert 'step' in summary.reasons[0]
    written = messages(out)
    images = {item.log_time_ns: item for item in BagReader(bag)}
    assert [topic for topic, _, _ in written] == ['/camera/detections'] * 4 + ['/rear/detections']
    for _, log_time_ns, data in written:
        message = load_typestore().deserialize_cdr(data, DETECTIONS_TYPE)
        stamp = message.header.stamp
        assert stamp.sec * 1_000_000_000 + stamp.nanosec == images[log_time_ns].stamp_ns
        assert message.header.frame_id == 'camera'
        detection, = message.detections
        assert detection.header == message.header
        assert detection.results[0].hypothesis.class_id == 'car'
        assert detection.results[0].hypothesis.score == 0.75
        assert (detection.bbox.center.position.x, detection.bbox.center.position.y) == (20, 40)
        assert (detection.bbox.size_x, detection.bbox.size_y) == (20, 40)
    assert sorted(path.name for path in out.parent.iterdir()) == ['out.mcap']


def test_replaying_twice_gives_the_same_bytes(bag: Path, tmp_path: Path) -> None:
    for name in ('one.mcap', 'two.mcap'):
        replay(bag, tmp_path / name, with_images=True)
    assert messages(tmp_path / 'one.mcap') == messages(tmp_path / 'two.mcap')


def test_images_are_copied_unchanged_even_damaged_ones(bag: Path, tmp_path: Path) -> None:
    replay(bag, tmp_path / 'out.mcap', with_images=True)
    copied = [item for item in messages(tmp_path / 'out.mcap') if 'detections' not in item[0]]
    assert copied == messages(bag)


def test_a_bag_folder_as_output(bag: Path, tmp_path: Path) -> None:
    replay(bag, tmp_path / 'out')
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [
        'metadata.yaml', 'out.mcap'
    ]
    assert len(messages(tmp_path / 'out')) == 5
    with pytest.raises(BagError, match='exists already'):
        replay(bag, tmp_path / 'out')
    replay(bag, tmp_path / 'out', overwrite=True)
    assert len(messages(tmp_path / 'out')) == 5


def test_nothing_is_overwritten_unless_forced(bag: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out.mcap'
    out.write_bytes(b'precious')
    with pytest.raises(BagError, match='--force'):
        replay(bag, out)
    assert out.read_bytes() == b'precious'
    replay(bag, out, overwrite=True)
    assert len(messages(out)) == 5


def test_the_input_is_never_overwritten(bag: Path, tmp_path: Path) -> None:
    before = messages(bag)
    for out in (bag, bag / 'bag.mcap', bag / 'new.mcap', tmp_path):
        with pytest.raises(BagError):
            replay(bag, out, overwrite=True)
    assert messages(bag) == before


def test_a_folder_that_is_no_bag_is_not_replaced(bag: Path, tmp_path: Path) -> None:
    (tmp_path / 'thesis').mkdir()
    (tmp_path / 'thesis/chapter.txt').write_text('years of work')
    with pytest.raises(BagError, match='not a bag'):
        replay(bag, tmp_path / 'thesis', overwrite=True)
    assert (tmp_path / 'thesis/chapter.txt').exists()


def test_an_interrupted_run_leaves_nothing_behind(bag: Path, tmp_path: Path) -> None:
    class Interrupted(OneBox):

        def detect(self, image: ImageView, settings: DetectSettings) -> Any:
            raise KeyboardInterrupt

    folder = tmp_path / 'results'
    folder.mkdir()
    (folder / 'out.mcap').write_bytes(b'of an earlier run')
    with pytest.raises(KeyboardInterrupt):
        replay(bag, folder / 'out.mcap', Interrupted(), overwrite=True)
    assert [path.name for path in folder.iterdir()] == ['out.mcap']
    assert (folder / 'out.mcap').read_bytes() == b'of an earlier run'


def test_a_failing_engine_is_counted_and_passed_over(bag: Path, tmp_path: Path) -> None:
    summary = replay(bag, tmp_path / 'out.mcap', OneBox(fail_every=2))
    assert (summary.frames, summary.failed) == (3, 3)
    assert any('made to fail' in reason for reason in summary.reasons)


def test_closing_twice_is_harmless(bag: Path, tmp_path: Path) -> None:
    writer = DetectionBagWriter(tmp_path / 'out.mcap', {CAMERA: 'sensor_msgs/msg/Image'}, ())
    writer.close()
    writer.close()
    writer.discard()
    assert (tmp_path / 'out.mcap').is_file()


def test_message_types_are_those_of_ros() -> None:
    hashes = dict(
        line.split() for line in HASHES.read_text().splitlines() if line.startswith('vision_msgs/')
    )
    assert load_typestore().hash_rihs01(DETECTIONS_TYPE) == hashes[DETECTIONS_TYPE]


def test_what_a_killed_process_left_of_a_bag_is_removed_by_the_next(tmp_path: Path) -> None:
    code = (
        'import os, sys\n'
        'from pathlib import Path\n'
        'from yolov7_trt_ros.replay.bags.bag_writer import DetectionBagWriter\n'
        'writer = DetectionBagWriter(Path(sys.argv[1]), {}, ())\n'
        'os.kill(os.getpid(), 9)\n'
    )
    path = tmp_path / 'drive.mcap'
    subprocess.run([sys.executable, '-c', code, str(path)], timeout=600, check=False)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith('.drive.partial-')
    os.utime(left / MARK, (1_000_000_000, 1_000_000_000))
    with DetectionBagWriter(path, {CAMERA: 'sensor_msgs/msg/Image'}, ()):
        pass
    assert list(tmp_path.iterdir()) == [path]
