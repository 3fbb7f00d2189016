"""Nodes that are to end with the process that started them: it ends without saying so."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import json
import os
from pathlib import Path
import select
import signal
import subprocess
import sys

from power_probe import HOSTED, mode_of, PowerProbe
import pytest
from ros_probe import fresh_probe, node_module, Probe

from yolov7_trt_ros.emulated_board.board import EmulatedBoard
from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.parent_process import end_with_starter, ENDS_WITH, ends_with_this_process

# Stands for `ros2 launch`: it starts nodes, has their output in pipes, and passes no signal on.
PARENT = """
import json, os, signal, subprocess, sys
from yolov7_trt_ros.parent_process import ends_with_this_process
for command, descriptor, log, is_bound in json.loads(sys.argv[1]):
    subprocess.Popen(
        command, env=os.environ | (ends_with_this_process() if is_bound else {}),
        pass_fds=(descriptor,), stdout=subprocess.PIPE, stderr=open(log, 'wb'),
    )
signal.pause()
"""
NODES = ('detector', 'power_manager', 'recorder', 'image_player')
WAIT_S = 600.0


class Started:
    """A node of the stand-in: the other end of a pipe that it has open as long as it lives."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._reader, self.writer = os.pipe()

    def has_ended(self, timeout_s: float = 0.0) -> bool:
        return bool(select.select([self._reader], [], [], timeout_s)[0])

    def close(self) -> None:
        os.close(self._reader)


@contextlib.contextmanager
def parent(
    folder: Path, commands: dict[str, list[str]], *, alone: str = ''
) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Started]]]:
    """Start nodes by a stand-in; all but `alone` are to end with it."""
    nodes = {name: Started(folder / f'{name}.txt') for name in commands}
    told = [
        (commands[name], node.writer, str(node.log), name != alone)
        for name, node in nodes.items()
    ]
    process = subprocess.Popen(
        [sys.executable, '-c', PARENT, json.dumps(told)],
        pass_fds=[node.writer for node in nodes.values()],
    )
    for node in nodes.values():
        os.close(node.writer)
    try:
        yield process, nodes
    finally:
        process.kill()
        process.wait()
        for node in nodes.values():
            node.close()


def commands(folder: Path, board: EmulatedBoard) -> dict[str, list[str]]:
    hosted = [sys.executable, '-c', HOSTED, str(board.root.parent), '--ros-args']
    start = [sys.executable, '-m']
    source = folder / 'picture.png'
    return {
        'detector': [*start, node_module('detector_node'), '--ros-args', '-p', 'autostart:=true'],
        'power_manager': hosted,
        'recorder': [
            *start, node_module('recorder_node'), '--ros-args', '-p', f'bag:={folder}/bag'],
        'image_player': [
            *start, node_module('image_player_node'), '--ros-args', '-p', f'source:={source}',
            '-p', 'rate_hz:=5.0',
        ],
    }


def wait_for_nodes(probe: Probe, power: PowerProbe) -> None:
    """Wait until all nodes do what they are for, and the board is changed."""
    probe.wait_until(lambda: set(NODES) <= set(probe.node.get_node_names()), 'the nodes')
    assert power.set_parameter('power_mode', 'MAXN_SUPER') == (True, '')
    probe.wait_until(
        lambda: int(probe.values('/image_raw').get('processed', 0)) > 0, 'detections'
    )


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_every_node_ends_with_its_launch_and_the_board_is_put_back(
    tmp_path: Path, board: EmulatedBoard, photograph, number: int
) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / 'picture.png'), photograph)
    with (
        fresh_probe() as probe,
        parent(tmp_path, commands(tmp_path, board)) as (launch, nodes),
    ):
        power = PowerProbe(probe)
        wait_for_nodes(probe, power)
        launch.send_signal(number)
        for node in nodes.values():
            assert node.has_ended(WAIT_S), node.log.read_text()
        power.close()
    for node in nodes.values():
        text = node.log.read_text()
        assert 'has ended: ending too' in text and 'Traceback' not in text, text
    assert mode_of(board) == '25W'
    assert (tmp_path / 'bag' / 'metadata.yaml').is_file()


def test_a_node_that_was_not_told_to_lives_on(tmp_path: Path, board: EmulatedBoard) -> None:
    names = ('power_manager', 'recorder')
    chosen = {name: commands(tmp_path, board)[name] for name in names}
    with (
        fresh_probe() as probe,
        parent(tmp_path, chosen, alone='power_manager') as (launch, nodes),
    ):
        power = PowerProbe(probe)
        assert power.set_parameter('power_mode', 'MAXN_SUPER') == (True, '')
        probe.wait_until(lambda: 'recorder' in probe.node.get_node_names(), 'the recorder')
        children = Path(f'/proc/{launch.pid}/task/{launch.pid}/children').read_text().split()
        launch.kill()
        assert nodes['recorder'].has_ended(WAIT_S)
        assert not nodes['power_manager'].has_ended()
        assert power.get('power_mode') == 'MAXN_SUPER'
        os.kill(int(children[0]), signal.SIGTERM)
        assert nodes['power_manager'].has_ended(WAIT_S)
        power.close()


def test_one_whose_launch_has_ended_before_it_looked_ends_at_once(tmp_path: Path) -> None:
    command = 'from yolov7_trt_ros.parent_process import *; print(ends_with_this_process())'
    told = subprocess.run([sys.executable, '-c', command], stdout=subprocess.PIPE, check=True)
    mark = json.loads(told.stdout.decode().replace("'", '"'))
    ended = subprocess.run(
        [sys.executable, '-m', 'yolov7_trt_ros.nodes.tools.recorder_node', '--ros-args', '-p',
         f'bag:={tmp_path}/bag'],
        env=os.environ | mark, capture_output=True, text=True, timeout=600,
    )
    assert ended.returncode == 0, ended.stderr
    assert 'has ended: ending too' in ended.stderr and 'Traceback' not in ended.stderr


def test_another_process_of_the_same_number_is_not_the_launch(tmp_path: Path) -> None:
    pid, start = ends_with_this_process()[ENDS_WITH].split(':')
    code = (
        'import os, signal\nfrom yolov7_trt_ros.parent_process import end_with_starter\n'
        'end_with_starter(os.environ, print)\nsignal.pause()'
    )
    ended = subprocess.run(
        [sys.executable, '-c', code], env=os.environ | {ENDS_WITH: f'{pid}:{int(start) - 1}'},
        capture_output=True, timeout=600,
    )
    assert ended.returncode == -signal.SIGTERM


def test_what_does_not_heed_sigterm_is_killed_in_the_end() -> None:
    pid, start = ends_with_this_process()[ENDS_WITH].split(':')
    code = (
        'import os, signal\nfrom yolov7_trt_ros.parent_process import end_with_starter\n'
        'signal.signal(signal.SIGTERM, signal.SIG_IGN)\n'
        'end_with_starter(os.environ, print, patience_s=0.1)\nsignal.pause()'
    )
    ended = subprocess.run(
        [sys.executable, '-c', code], env=os.environ | {ENDS_WITH: f'{pid}:{int(start) - 1}'},
        capture_output=True, timeout=600,
    )
    assert ended.returncode == -signal.SIGKILL


def test_what_it_starts_itself_does_not_inherit_the_variable() -> None:
    code = (
        'import os, subprocess, sys\n'
        'from yolov7_trt_ros.parent_process import end_with_starter\n'
        'end_with_starter(os.environ, print)\n'
        'subprocess.run([sys.executable, "-c", "import os; print(sorted(os.environ))"])'
    )
    told = subprocess.run(
        [sys.executable, '-c', code], env=os.environ | ends_with_this_process(),
        capture_output=True, text=True, timeout=600, check=True,
    )
    assert "'PATH'" in told.stdout and ENDS_WITH not in told.stdout


@pytest.mark.parametrize(
    'text', ['1', '1:', ':1', '0:1', 'a:b', '1:2:3', '99999999:1', '1:\u0661']
)
def test_a_variable_that_tells_no_process_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match='unset it'):
        end_with_starter({ENDS_WITH: text}, print)


@pytest.mark.parametrize('environment', [{}, {ENDS_WITH: ''}])
def test_without_the_variable_nobody_is_watched(environment: dict[str, str]) -> None:
    end_with_starter(environment, pytest.fail)
