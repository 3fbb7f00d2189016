"""A bag in its own time: the real player with /clock, and the real detector on it."""

from __future__ import annotations

from collections.abc import Container, Iterator
import contextlib
import dataclasses
from pathlib import Path
import time
from typing import Any

import cv2
import numpy as np
import pytest
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_probe import DetectorProcess, image_msg, jpeg_msg, Probe, start_node, TIMEOUT_S
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image

from yolov7_trt_ros.cli.main import main
from yolov7_trt_ros.core.units import NS_PER_S
from yolov7_trt_ros.errors import InputError, SettingError
from yolov7_trt_ros.nodes.tools.image_player_node import ImagePlayerNode
from yolov7_trt_ros.replay.bags.rosbags_adapter import COMPRESSED_TYPE, IMAGE_TYPE, load_typestore

TOPICS = {'/front/image_raw': IMAGE_TYPE, '/rear/image_raw/compressed': COMPRESSED_TYPE}
OUTPUTS = ('/front/detections', '/rear/detections')
START_NS = 1_600_000_000 * NS_PER_S  # years ago, so that no other clock is taken for it
DELAY_NS = 30_000_000
MODEL = {'network_size': 96, 'score_threshold': 0.05}
CLOCK_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
OF_THE_CLOCK = {'transport', 'stamp_to_publish'}
FRAME_ID = 'drive'
FRAMES = 4
PERIOD_NS = NS_PER_S  # so long that a busy machine drops no frame


@dataclasses.dataclass(frozen=True)
class Drive:
    """A bag of two cameras that take turns, and what is in it."""

    path: Path
    stamps_ns: tuple[tuple[int, ...], tuple[int, ...]]
    """Of each of the two topics."""
    log_times_ns: tuple[int, ...]


def header_ns(message: Any) -> int:
    """Return the stamp of a message."""
    return message.header.stamp.sec * NS_PER_S + message.header.stamp.nanosec


def record(
    path: Path, photograph: np.ndarray, frames: int, broken: Container[int] = ()
) -> Drive:
    """Record moving pictures of 96 x 64; the JPEGs of these indices are cut off."""
    types = load_typestore()
    stamps: tuple[list[int], list[int]] = ([], [])
    small = cv2.resize(photograph, (96, 64))
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = [
            writer.add_connection(topic, kind, typestore=types) for topic, kind in TOPICS.items()
        ]
        for index in range(2 * frames):
            camera, stamp_ns = index % 2, START_NS + index * PERIOD_NS // 2
            picture = np.roll(small, 3 * index, axis=1)
            message: Any = image_msg(picture) if camera == 0 else jpeg_msg(picture)
            if camera == 1 and index // 2 in broken:
                message.data = message.data[:100]
            kind = tuple(TOPICS.values())[camera]
            values = {'header': types.types['std_msgs/msg/Header'](
                types.types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, NS_PER_S)), FRAME_ID
            )}
            for name in types.types[kind].__dataclass_fields__:
                if name not in ('header', '__msgtype__'):
                    values[name] = getattr(message, name)
            values['data'] = np.asarray(values['data'], np.uint8)
            data = types.serialize_cdr(types.types[kind](**values), kind)
            writer.write(connections[camera], stamp_ns + DELAY_NS, data)
            stamps[camera].append(stamp_ns)
    return Drive(
        path, (tuple(stamps[0]), tuple(stamps[1])),
        tuple(sorted(stamp_ns + DELAY_NS for each in stamps for stamp_ns in each)),
    )


class Counters:
    """What diagnostics tell of a topic; they go on while the node's own time stands still."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe

    def counts(self, topic: str) -> dict[str, int]:
        """Wait for new diagnostics of a topic and return its counters."""
        self._probe.forget_diagnostics()
        self._probe.wait_until(lambda: self._probe.values(topic), 'diagnostics')
        values = self._probe.values(topic)
        names = ('received', 'processed', 'dropped', 'skipped', 'failed', 'lost')
        return {name: int(values[name]) for name in names}

    def stages(self, topic: str) -> set[str]:
        """Return which stages have been measured."""
        self.counts(topic)
        suffix = ' p50 (ms)'
        return {
            name.removesuffix(suffix) for name in self._probe.values(topic) if suffix in name
        }


@pytest.fixture
def counters(probe: Probe) -> Counters:
    return Counters(probe)


@contextlib.contextmanager
def detector(probe: Probe, log: Path) -> Iterator[list[list[Any]]]:
    """
    Run a detector on simulated time that has answered on both topics; yield its answers.

    Nobody publishes /clock meanwhile. Reliable throughout, so that nothing is lost on the way.

    """
    with DetectorProcess(
        log, autostart=True, use_sim_time=True, image_qos='reliable',
        image_topics=','.join(TOPICS), **MODEL,
    ):
        answers = [probe.detections(topic) for topic in OUTPUTS]
        black = np.zeros((64, 96, 3), np.uint8)
        for topic, found in zip(TOPICS, answers, strict=True):
            compressed = topic.endswith('/compressed')
            kind, message = (
                (CompressedImage, jpeg_msg(black)) if compressed else (Image, image_msg(black))
            )
            camera = probe.publisher(topic, reliable=True, kind=kind)
            probe.ask(camera, message, found)
            probe.node.destroy_publisher(camera)
        yield answers


@contextlib.contextmanager
def playing(probe: Probe, drive: Drive, log: Path, **parameters: Any) -> Iterator[None]:
    """Play a bag; leaving the context waits for the player's end, which may take some seconds."""
    arguments = []
    for name, value in (
        {'source': drive.path, 'stamps': 'original', 'clock': True, 'reliable': True,
         'wait_for_subscribers': True} | parameters
    ).items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        arguments += ['-p', f'{name}:={text}']
    player = start_node('image_player_node', arguments, log)
    try:
        yield
        probe.wait_until(lambda: player.poll() is not None, 'the end of the player')
    finally:
        player.kill()
    assert player.wait(TIMEOUT_S) == 0, log.read_text()
    published = 2 * len(drive.stamps_ns[0])
    assert f'source ended after {published} frames' in log.read_text()


def of_the_bag(answers: list[Any]) -> list[Any]:
    """Return the answers to images of the bag: others may be on their way still."""
    return [each for each in answers if each.header.frame_id == FRAME_ID]


def found_in(message: Any) -> list[tuple[Any, ...]]:
    """Return every box, score and class of a Detection2DArray, of rclpy or rosbags."""
    return [
        (
            each.bbox.center.position.x, each.bbox.center.position.y,
            each.bbox.size_x, each.bbox.size_y,
            each.results[0].hypothesis.class_id, each.results[0].hypothesis.score,
        )
        for each in message.detections
    ]


def replayed(drive: Drive, out: Path) -> list[dict[int, list[tuple[Any, ...]]]]:
    """Run `yolov7_trt replay` and return what it found, by stamp, of each topic."""
    assert main([
        'replay', str(drive.path), '-o', str(out), '--threads', '1',
        '--size', str(MODEL['network_size']),
        '--score-threshold', str(MODEL['score_threshold']),
    ]) == 0
    found: dict[str, dict[int, list[tuple[Any, ...]]]] = {topic: {} for topic in OUTPUTS}
    with Reader(out) as reader:
        for connection, _, data in reader.messages():
            message = load_typestore().deserialize_cdr(data, connection.msgtype)
            found[connection.topic][header_ns(message)] = found_in(message)
    return [found[topic] for topic in OUTPUTS]


def run_once(
    probe: Probe, drive: Drive, answers: list[list[Any]]
) -> list[dict[int, list[tuple[Any, ...]]]]:
    """Wait for the answers to a bag that is played, and return them by stamp, of each topic."""
    probe.wait_until(
        lambda: all(len(of_the_bag(each)) == FRAMES for each in answers), 'every answer'
    )
    for stamps_ns, each in zip(drive.stamps_ns, answers, strict=True):
        assert tuple(map(header_ns, of_the_bag(each))) == stamps_ns
    found = [
        {header_ns(each): found_in(each) for each in of_the_bag(messages)} for messages in answers
    ]
    for each in answers:
        each.clear()
    return found


def test_at_1x_every_frame_is_detected_in_and_always_the_same(
    probe: Probe, counters: Counters, log, tmp_path, photograph
):
    drive = record(tmp_path / 'bag', photograph, FRAMES)
    duration_s = (drive.log_times_ns[-1] - drive.log_times_ns[0]) / NS_PER_S
    with detector(probe, log) as answers, contextlib.ExitStack() as players:
        for topic in TOPICS:  # what was answered without any /clock
            measured = counters.stages(topic)
            assert {'wait', 'infer', 'publish'} <= measured and not OF_THE_CLOCK & measured
        players.enter_context(playing(probe, drive, tmp_path / 'first.txt'))
        first = run_once(probe, drive, answers)
        assert all(counters.stages(topic) >= OF_THE_CLOCK for topic in TOPICS)
        started_s = time.monotonic()
        players.enter_context(playing(probe, drive, tmp_path / 'second.txt'))
        second = run_once(probe, drive, answers)
        assert time.monotonic() - started_s > duration_s
        for topic in TOPICS:
            counts = counters.counts(topic)
            assert counts['processed'] == counts['received'] > 2 * FRAMES
            assert counts['lost'] == 0
        assert first == second == replayed(drive, tmp_path / 'replayed.mcap')
    assert all(found for each in first for found in each.values())


def test_the_clock_tells_the_times_of_recording_and_those_between(
    probe: Probe, tmp_path, photograph
):
    drive = record(tmp_path / 'bag', photograph, 2 * FRAMES)
    ticks: list[Clock] = []
    images: list[Any] = []
    node = probe.node  # whose subscriptions are there before the player waits for some
    listeners = [node.create_subscription(Clock, '/clock', ticks.append, CLOCK_QOS)] + [
        node.create_subscription(
            CompressedImage if topic.endswith('/compressed') else Image, topic, images.append,
            QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE),
        )
        for topic in TOPICS
    ]
    with playing(probe, drive, tmp_path / 'player.txt'):
        probe.wait_until(lambda: len(images) == 4 * FRAMES, 'every image')
    for listener in listeners:
        node.destroy_subscription(listener)
    times_ns = [each.clock.sec * NS_PER_S + each.clock.nanosec for each in ticks]
    assert times_ns and times_ns == sorted(times_ns)
    assert drive.log_times_ns[0] <= times_ns[0] and times_ns[-1] <= drive.log_times_ns[-1]
    assert set(times_ns) - set(drive.log_times_ns), 'no time was told between two frames'


def test_as_fast_as_possible_every_frame_is_accounted_for(
    probe: Probe, counters: Counters, log, tmp_path, photograph
):
    frames = 200
    drive = record(tmp_path / 'bag', photograph, frames, broken=range(0, frames - 1, 3))
    with detector(probe, log) as answers:
        asked = {topic: settled(counters, topic) for topic in TOPICS}
        with playing(probe, drive, tmp_path / 'player.txt', rate=0):
            for stamps_ns, found in zip(drive.stamps_ns, answers, strict=True):
                # nothing replaces the last frame of a topic, and all others came before it
                probe.wait_until(
                    lambda last=stamps_ns[-1], all_=found: last in map(header_ns, all_),
                    'the last frame',
                )
            for topic, stamps_ns, found in zip(TOPICS, drive.stamps_ns, answers, strict=True):
                counts = settled(counters, topic)
                became = {name: counts[name] - asked[topic][name] for name in counts}
                stamps = [header_ns(each) for each in of_the_bag(found)]
                assert len(stamps) == became['processed'] <= became['received'] <= frames
                assert stamps == sorted(set(stamps)) and set(stamps) <= set(stamps_ns)
                failed = 0
                if topic.endswith('/compressed'):
                    broken = set(stamps_ns[:-1:3])
                    assert not broken & set(stamps)
                    failed = len(broken)
                assert 0 <= became['failed'] <= failed


def settled(counters: Counters, topic: str) -> dict[str, int]:
    """Return the counters once they add up, which no frame in work does, and stay as they are."""
    before: dict[str, int] = {}
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        counts = counters.counts(topic)
        became = sum(counts[name] for name in ('processed', 'failed', 'dropped', 'skipped'))
        if counts == before and became == counts['received']:
            return counts
        before = counts
    raise AssertionError(f'{topic}: received is not what became of the frames: {before}')


@pytest.mark.parametrize(('parameters', 'error', 'text'), [
    ({'clock': True}, SettingError, 'need stamps:=original'),
    ({'rate': 2}, SettingError, 'need stamps:=original'),
    ({'stamps': 'original'}, SettingError, 'stamps:=original needs a bag, got'),
    ({'stamps': 'old'}, SettingError, 'stamps must be one of now, original'),
    ({'stamps': 'original', 'source': '/nowhere.mcap'}, InputError, 'no such file'),
])
def test_what_cannot_be_played_is_named(
    probe: Probe, tmp_path, photograph, parameters: dict[str, Any], error: type, text: str
):
    cv2.imwrite(str(tmp_path / 'person.png'), photograph)
    values = {'source': str(tmp_path)} | parameters
    overrides = [Parameter(name, value=value) for name, value in values.items()]
    with pytest.raises(error, match=text):
        ImagePlayerNode(context=probe.node.context, parameter_overrides=overrides)
