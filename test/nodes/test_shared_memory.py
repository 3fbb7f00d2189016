"""A node that finds no room in /dev/shm says so: it lives on by UDP, or does not start at all."""

from __future__ import annotations

import os
from pathlib import Path
import subprocess
import sys

import numpy as np
import pytest
from ros_probe import DetectorProcess, image_msg, Probe

from yolov7_trt_ros.nodes.process.process_setup import find_profile
from yolov7_trt_ros.nodes.process.shared_memory import memory_problem, room_bytes

OWN_MEMORY = ('unshare', '--mount', '--propagation', 'private', 'sh', '-c')
CANNOT = subprocess.run([*OWN_MEMORY, 'true'], capture_output=True, check=False).returncode
needs_namespace = pytest.mark.skipif(CANNOT != 0, reason='no namespace can be made here')
FULL = 'mount -t tmpfs -o size=64k tmpfs /dev/shm && ! cat /dev/zero > /dev/shm/fill 2>/dev/null'


def test_the_segment_of_the_profile_has_to_fit(tmp_path: Path) -> None:
    room = room_bytes(tmp_path)
    assert room is not None and 0 < room[0] <= room[1]
    profile = tmp_path / 'profile.xml'
    profile.write_text(f'<segment_size>{2 * room[1]}</segment_size>')
    environment = {'FASTDDS_DEFAULT_PROFILES_FILE': str(profile)}
    assert f'{tmp_path} has ' in memory_problem(environment, tmp_path)
    other = environment | {'RMW_IMPLEMENTATION': 'rmw_cyclonedds_cpp'}
    assert memory_problem(other, tmp_path) == ''
    profile.write_text('<segment_size>1024</segment_size>')
    assert memory_problem(environment, tmp_path) == ''
    assert memory_problem({'FASTDDS_DEFAULT_PROFILES_FILE': '/nowhere'}, tmp_path) == ''
    profile.write_text(f'<segment_size>{"9" * 5000}</segment_size>')
    assert memory_problem(environment, tmp_path) == ''
    profile.unlink()
    os.mkfifo(profile)
    assert memory_problem(environment, tmp_path) == ''


def test_without_the_folder_it_is_said(tmp_path: Path) -> None:
    said = memory_problem({'FASTDDS_DEFAULT_PROFILES_FILE': str(find_profile())}, tmp_path / 'no')
    assert 'no does not exist, and Fast DDS takes 134.4 MiB' in said


@needs_namespace
@pytest.mark.parametrize('program', [
    '-m yolov7_trt_ros.nodes.power.power_node', 'scripts/power_node'])
def test_a_full_folder_is_told_before_it_ends_the_process_without_a_word(program: str) -> None:
    ended = subprocess.run(
        [*OWN_MEMORY, f'{FULL}; exec "{sys.executable}" {program}'],
        capture_output=True, text=True, check=False, cwd=Path(__file__).resolve().parents[2],
    )
    assert ended.returncode == 1 and ended.stdout == ''
    assert ended.stderr.startswith('cannot start: /dev/shm is full')
    assert '--shm-size' in ended.stderr
    assert ended.stderr.count('\n') == 1


@needs_namespace
def test_with_no_room_for_images_it_detects_and_says_so(
    probe: Probe, log: Path, photograph: np.ndarray
) -> None:
    prepare = 'mount -t tmpfs -o ro tmpfs /dev/shm; exec "$@"'
    node = [sys.executable, '-m', 'yolov7_trt_ros.nodes.detector.detector_node']
    with DetectorProcess(
        log, command=[*OWN_MEMORY, prepare, 'sh', *node], autostart=True,
        image_topics='/camera/image_raw',
    ) as process:
        probe.wait_for_state('active')
        answer = probe.ask(probe.publisher(), image_msg(photograph), probe.detections())
        assert answer.detections
    assert '/dev/shm has 0.0 of ' in process.text()
