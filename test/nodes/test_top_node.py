"""`yolov7_trt top` as it is started, beside a real detector and a real power node."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

from fake_engine import FakeEngine
import numpy as np
from power_probe import PowerProbe
import pytest
from ros_probe import fresh_probe, image_msg, Probe
from sensor_msgs.msg import Image
from std_msgs.msg import String
from vision_msgs.msg import Detection2DArray

from yolov7_trt_ros.cli.main import main
from yolov7_trt_ros.emulated_board.board import create_board
from yolov7_trt_ros.nodes.tools.top_node import make_screen, TopNode
from yolov7_trt_ros.report.top_view import Line
from yolov7_trt_ros.testing import FakeDetector, make_detections

TOPIC = '/top/image_raw'
IMAGE = np.zeros((48, 64, 3), np.uint8)
PERSON = make_detections((64, 48), ((10, 20, 50, 40), 0.9, 0))
COMMAND = (sys.executable, '-m', 'yolov7_trt_ros', 'top')
PERIOD_S = 0.05


@pytest.fixture(scope='module')
def probe(ros_domain: None) -> Iterator[Probe]:
    with fresh_probe() as probe:
        yield probe


class Scene:
    """A detector with a camera of 20 Hz, and a power node on an emulated board."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._publisher = probe.node.create_publisher(Image, TOPIC, 5)

    def play_until(self, condition: Callable[[], bool], timeout_s: float = 600.0) -> None:
        """Publish images until the condition holds."""
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline_s
            self._publisher.publish(self._probe.stamp(image_msg(IMAGE)))
            self._probe.spin(PERIOD_S)


@pytest.fixture(scope='module')
def scene(probe: Probe, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    board = create_board('orin_nano_super', tmp_path_factory.mktemp('board') / 'root')
    powers = PowerProbe(probe)
    engine = FakeEngine(FakeDetector([PERSON])).seam
    with powers.node(board, sample_rate_hz=5.0), probe.host(
        engine, image_topics=TOPIC, autostart=True
    ):
        yield Scene(probe)
    powers.close()


def start(*arguments: str, **options: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments], text=True, env=os.environ | {'PYTHONIOENCODING': 'utf-8'},
        **({'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE} | options),
    )


SHOWN = (
    r'/detector +ok +active', r'/power_manager +(ok|WARN) .* W',
    rf'{TOPIC} +([\d.]+) +([\d.]+) +(\d+) +\d+ +0 ',
    r'/top/detections +([\d.]+) +([\d.]+) .*[▁-█]  person 1\.0',
    r'/power_manager +([\d.]+) +\d+ +[\d.]+ .*[▁-█]',
)


def snapshot(scene: Scene) -> list[re.Match[str] | None]:
    """Return what there is of everything in a snapshot, with the camera on."""
    process = start('--once')
    scene.play_until(lambda: process.poll() is not None)
    text, errors = process.communicate()
    assert process.returncode == 0, errors
    assert 'Traceback' not in errors and '\x1b' not in text
    print(text)
    return [re.search(each, text) for each in SHOWN]


def test_one_snapshot_of_everything(scene: Scene) -> None:
    deadline_s = time.monotonic() + 600
    while not all(found := snapshot(scene)):  # a busy machine may tell something later
        assert time.monotonic() < deadline_s
    _, _, camera, detections, power = found
    assert camera is not None and detections is not None and power is not None
    assert 0 < float(camera[1]) < 25 and int(camera[3]) > 0
    assert 0 < float(detections[1]) < 100 and float(detections[2]) > 0
    assert 1 < float(power[1]) < 40


def test_a_terminal_gets_one_screen_and_has_it_back_after_ctrl_c(scene: Scene) -> None:
    terminal, other = pty.openpty()
    process = start('--period', '0.2', stdout=other, stderr=other)
    os.close(other)
    shown = bytearray()

    def read() -> bytes:
        while select.select([terminal], [], [], 0)[0]:
            try:
                part = os.read(terminal, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            shown.extend(part)
        return bytes(shown)

    try:
        scene.play_until(lambda: b'person' in read() and b'/power_manager' in read())
        assert b'\x1b[?1049h' in shown and b'\x1b[?1049l' not in shown
        process.send_signal(signal.SIGINT)
        scene.play_until(lambda: read() is not None and process.poll() is not None)
        read()
    finally:
        if process.poll() is None:
            process.kill()
        os.close(terminal)
    assert process.returncode == 0, shown.decode()
    after = bytes(shown).rpartition(b'\x1b[?1049l')[2]
    assert b'/top/detections' in after, 'the last snapshot stays'
    assert b'Traceback' not in shown


def test_nothing_heard_is_said_and_a_failure() -> None:
    code = (
        'import sys\n'
        'from yolov7_trt_ros.nodes.process.node_main import run_node\n'
        'from yolov7_trt_ros.nodes.tools.top_node import TopNode\n'
        "once = ['--ros-args', '-p', 'once:=true']\n"
        "sys.exit(run_node('top', lambda: TopNode(timeout_s=0.5), once))\n"
    )
    apart = str(100 + os.getpid() % 100)  # a domain where nobody else is
    ended = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, timeout=600,
        env=os.environ | {'ROS_DOMAIN_ID': apart, 'PYTHONIOENCODING': 'utf-8'},
    )
    assert ended.returncode == 1, ended.stderr
    assert f'ROS domain {apart}' in ended.stdout and 'Nothing heard yet' in ended.stdout


@pytest.mark.parametrize('once', ['true', 'false'])
def test_a_disk_that_is_full_ends_it_with_one_line_and_a_failure(once: str) -> None:
    code = (
        'import sys\n'
        'from yolov7_trt_ros.nodes.process.node_main import run_node\n'
        'from yolov7_trt_ros.nodes.tools.top_node import TopNode\n'
        "arguments = ['--ros-args', '-p', f'once:={sys.argv[1]}']\n"
        "output = open('/dev/full', 'w')\n"
        "sys.exit(run_node('top', lambda: TopNode(timeout_s=0.5, output=output), arguments))\n"
    )
    ended = subprocess.run(
        [sys.executable, '-c', code, once], capture_output=True, text=True, timeout=600,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.count('cannot show anything: No space left on device') == 1
    assert 'callback failed' not in ended.stderr and 'Traceback' not in ended.stderr


def test_characters_that_the_output_lacks_are_shown_as_marks() -> None:
    data = io.BytesIO()
    screen = make_screen(io.TextIOWrapper(data, encoding='ascii'), once=True)
    screen.show([Line('fußgänger 1.0')])
    assert data.getvalue() == b'fu?g?nger 1.0\n'


def test_values_that_cannot_be(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (['--period', '0'], '--period must be within'), (['--domain-id', '233'], '--domain-id'),
    ):
        assert main(['top', *arguments]) == 2
        assert words in capsys.readouterr().err


def test_a_topic_that_cannot_be_taken_is_left_out(probe: Probe, capfd) -> None:
    """Another node publishes detections where this one has diagnostics."""
    output = io.StringIO()
    other = probe.node.create_publisher(Detection2DArray, '/top/strange', 1)
    text = probe.node.create_subscription(String, '/top/text', print, 1)
    node = TopNode(output=output, context=probe.node.context)
    listed = node.get_topic_names_and_types
    node.get_topic_names_and_types = lambda: [  # type: ignore[method-assign]
        ('/top/text', ['vision_msgs/msg/Detection2DArray']),
        ('/no-ros-name', ['vision_msgs/msg/Detection2DArray']), *listed(),
    ]
    node._discover()
    node._discover()
    assert {'/top/strange', '/top/text', '/no-ros-name'} <= node._known
    node.destroy_node()
    probe.node.destroy_publisher(other)
    probe.node.destroy_subscription(text)
    told = capfd.readouterr().err
    assert told.count('/top/text is not shown: ') == told.count('/no-ros-name is not shown: ') == 1
    assert '/top/strange' not in told


def test_topics_without_a_publisher_are_left_and_found_again(probe: Probe) -> None:
    node = TopNode(output=io.StringIO(), context=probe.node.context)
    listed = node.get_topic_names_and_types
    node.get_topic_names_and_types = lambda: [  # type: ignore[method-assign]
        each for each in listed() if each[0] == '/top/passing']
    for _ in range(2):
        passing = probe.node.create_publisher(Detection2DArray, '/top/passing', 1)
        probe.wait_until(lambda: node._discover() or '/top/passing' in node._heard)
        node.forgotten_s = 0.0
        node._discover()
        assert '/top/passing' in node._heard, 'it has a publisher'
        probe.wait_until(lambda: node.count_subscribers('/top/passing') == 1)
        probe.node.destroy_publisher(passing)
        probe.wait_until(lambda: node._discover() or '/top/passing' not in node._heard)
        probe.wait_until(lambda: not node.count_subscribers('/top/passing'))
        assert '/top/passing' not in node._known | node._model._frames.keys()
    node.destroy_node()
