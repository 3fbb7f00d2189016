"""How a node starts: its help, what it says when it cannot, and what it says to do next."""

from __future__ import annotations

import os
from pathlib import Path
import subprocess
import sys

import pytest
from ros_probe import DetectorProcess, node_module, Probe, start_node

REPOSITORY = Path(__file__).resolve().parents[2]
NODES = {
    'detector_node': 'image_topics', 'power_node': 'power_mode', 'image_player_node': 'source',
    'recorder_node': 'bag', 'top_node': 'period_s',
}


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | environment
    )


def run_node(module: str, *arguments: str, **environment: str) -> list[str]:
    """Start a node that cannot start; returns what it says, checked to be one line."""
    ended = run(
        sys.executable, '-m', node_module(module), '--ros-args', *arguments,
        **environment,
    )
    lines = (ended.stdout + ended.stderr).strip().splitlines()
    assert ended.returncode == 1, lines
    assert len(lines) == 1 and 'cannot start: ' in lines[0], lines
    return lines


@pytest.mark.parametrize('module', NODES)
@pytest.mark.parametrize('option', ['--help', '-h'])
def test_help_tells_the_parameters_and_starts_nothing(module: str, option: str) -> None:
    ended = run(sys.executable, '-m', node_module(module), option)
    assert (ended.returncode, ended.stderr) == (0, '')
    assert f'\n  {NODES[module]}  (' in ended.stdout and 'usage: ' in ended.stdout
    assert max(map(len, ended.stdout.splitlines())) < 100


@pytest.mark.parametrize('script', ['detector_node', 'image_player_node', 'power_node'])
def test_the_programs_have_help_too(script: str) -> None:
    ended = run(sys.executable, str(REPOSITORY / 'scripts' / script), '--help')
    assert ended.returncode == 0 and NODES[script] in ended.stdout


PARAMETER_FILES = {
    'a list of two types': ('classes: [person, 2]', 4, 'must have one type, found integer'),
    'a name that is a boolean': ('classes: [no, person]', 4, 'must have one type, found string'),
    'no value': ('classes:', 4, 'a parameter without a value'),
    'no closing bracket': ('classes: [person', None, ''),
    'a tab': ('\tclasses: person', None, ''),
    'nothing below its node': ('', None, ''),
}


@pytest.mark.parametrize('case', PARAMETER_FILES)
def test_a_parameter_file_that_cannot_be_read_is_named_with_its_line(tmp_path, case) -> None:
    text, line, reason = PARAMETER_FILES[case]
    file = tmp_path / 'mine.yaml'
    file.write_text(f'/**:\n  ros__parameters:\n    threads: 1\n    {text}\n'.replace(
        '    threads: 1\n    \n', ''))
    (said,) = run_node('detector_node', '--params-file', str(file))
    assert str(file) in said and reason in said
    if line is not None:
        assert f'mine.yaml, line {line}: ' in said


CANNOT = {
    'a file that is not there': (
        'detector_node', ['--params-file', '/nowhere/mine.yaml'], '/nowhere/mine.yaml'),
    'an image topic': ('detector_node', ['-p', 'image_topics:=/no topic'], "'/no topic' is no"),
    'an output': ('detector_node', ['-p', 'detections_topics:=a//b'], "'a//b' is not a topic"),
    'a topic to count': (
        'power_node', ['-p', 'emulate:=nano', '-p', 'detections_topics:=/no topic'],
        "detections_topics: '/no topic' is not a topic name"),
    'a topic to record': (
        'recorder_node', ['-p', 'images:=["/no topic"]'], "images: '/no topic' is not a topic"),
    'a topic to show': (
        'top_node', ['-p', 'detections_topics:=/no topic'], "'/no topic' is not a topic name"),
    'a home folder': (
        'image_player_node', ['-p', 'source:=~nosuchuser/x'], "'~nosuchuser/x': no home folder"),
    'a wrong type': ('top_node', ['-p', 'period_s:=soon'], 'period_s must be a double'),
    'a number out of range': ('detector_node', ['-p', 'score_threshold:=3.0'], 'score_threshold'),
    'a clock of no kind': (
        'detector_node', ['-p', 'use_sim_time:=maybe'], "'use_sim_time' to 'maybe'"),
    'a value that YAML takes for a name': (
        'top_node', ['-p', 'detections_topics:=*'], "\"detections_topics:='*'\""),
    'an empty list': (
        'top_node', ['-p', 'detections_topics:=[]'], 'got no value, as of an empty list'),
    'a node name': ('detector_node', ['-r', '__node:=a b'], 'remap rule'),
    'a namespace': ('power_node', ['-p', 'emulate:=nano', '-r', '__ns:=/9'], '/9'),
    'a log level': ('detector_node', ['--log-level', 'loud'], 'loud'),
    'an argument': ('detector_node', ['--no-such-thing'], '--no-such-thing'),
    'a board': ('power_node', ['-p', 'emulate:=toaster'], 'toaster'),
}


@pytest.mark.parametrize('case', CANNOT)
def test_a_node_that_cannot_start_says_why_in_one_line(tmp_path, case: str) -> None:
    module, arguments, reason = CANNOT[case]
    if module == 'recorder_node':
        arguments = [*arguments, '-p', f'bag:={tmp_path / "bag"}']
    (said,) = run_node(module, *arguments)
    assert reason in said


@pytest.mark.parametrize('folder', ['/dev/null/logs', '/proc'])
def test_a_folder_of_logs_that_cannot_be_used_is_said_with_what_to_do(folder: str) -> None:
    (said,) = run_node('detector_node', ROS_LOG_DIR=folder)
    assert folder in said and 'set ROS_LOG_DIR to' in said


def test_security_without_its_keys_is_said_in_one_line(tmp_path) -> None:
    (said,) = run_node(
        'detector_node', ROS_SECURITY_ENABLE='true', ROS_SECURITY_STRATEGY='Enforce',
        ROS_SECURITY_KEYSTORE=str(tmp_path),
    )
    assert 'SECURITY ERROR' in said


def test_a_parameter_that_there_is_not_is_named_with_the_nearest(probe: Probe, log) -> None:
    file = log.parent / 'mine.yaml'
    file.write_text('/**:\n  ros__parameters:\n    max_rate: 3.0\n')
    with DetectorProcess(log, '--params-file', str(file), scor_threshold=0.5, qwxz=1):
        probe.wait_for_state('unconfigured')
        said = probe.set_parameter('iou_treshold', 0.5)
        assert said == "no parameter is called 'iou_treshold', did you mean 'iou_threshold'?"
    text = log.read_text()
    assert "no parameter is called 'scor_threshold', did you mean 'score_threshold'?" in text
    assert "no parameter is called 'max_rate', did you mean 'max_rate_hz'?" in text
    assert "no parameter is called 'qwxz'\n" in text
    assert text.count('[WARN]') == 3


def test_without_autostart_it_says_what_to_do(probe: Probe, log) -> None:
    with DetectorProcess(log, '-r', '__ns:=/robot') as process:
        probe.wait_until(lambda: 'ros2 lifecycle set /robot/detector configure' in process.text(),
                         'what to do')
    with DetectorProcess(log, autostart=True) as process:
        probe.wait_for_state('active')
        assert 'ros2 lifecycle set' not in process.text()


INTERRUPTING = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == 'rclpy':
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
"""
"""Python imports it by itself at start, under the name that it is given."""

WAYS = {
    'the program': [str(REPOSITORY / 'scripts' / 'detector_node')],
    'the module': ['-m', 'yolov7_trt_ros.nodes.detector.detector_node'],
    'the module of top': ['-m', 'yolov7_trt_ros.nodes.tools.top_node'],
}


@pytest.mark.parametrize('way', WAYS)
def test_ctrl_c_while_it_imports_ends_it_quietly(tmp_path: Path, way: str) -> None:
    (tmp_path / 'sitecustomize.py').write_text(INTERRUPTING)
    sourced = os.environ.get('PYTHONPATH', '').split(os.pathsep)  # of ROS, where it is no wheel
    folders = [str(tmp_path), str(REPOSITORY), *filter(None, sourced)]
    ended = run(sys.executable, *WAYS[way], PYTHONPATH=os.pathsep.join(folders))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, '', '')


def test_the_player_with_a_name_that_is_misspelt_says_so(tmp_path) -> None:
    player = start_node(
        'image_player_node', ['-p', 'sourse:=x.png'], tmp_path / 'player.txt'
    )
    assert player.wait(600) == 1
    assert 'cannot start' in (tmp_path / 'player.txt').read_text()
