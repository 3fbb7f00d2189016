"""The file that node_exporter reads: from real nodes, and on disks that refuse it."""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
import shutil

from damaged_files import full_disk
from diagnostic_msgs.msg import DiagnosticStatus
from fake_engine import FakeEngine
from prometheus_client.parser import text_string_to_metric_families
import pytest
from ros_probe import Probe
from seam_camera import Camera, TOPIC

from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.nodes.diagnostics import make_status
from yolov7_trt_ros.nodes.prometheus_file import PrometheusFile
from yolov7_trt_ros.testing import FakeDetector

STATUS = make_status('/detector: detector', DiagnosticStatus.OK, 'active', {'state': 'active'})


def read_file(path: Path) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Return labels and values by the names of series; nothing where the file is not there."""
    text = path.read_text() if path.exists() else ''
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for each in family.samples:
            found.setdefault(each.name, []).append((each.labels, each.value))
    return found


def test_a_detector_writes_what_its_diagnostics_say(probe: Probe, tmp_path: Path) -> None:
    camera = Camera(probe)
    path = tmp_path / 'node' / 'detector.prom'
    path.parent.mkdir()
    engine = FakeEngine(FakeDetector())
    topics = {'image_topics': TOPIC, 'autostart': True}
    with probe.host(engine.seam, prometheus_file=str(path), **topics):
        probe.wait_for_state('active')
        probe.wait_until(
            lambda: 'yolov7_trt_ros_images_received_total' in read_file(path), 'the topic')
        assert 'yolov7_trt_ros_images_per_batch' not in read_file(path)
        camera.ask()
        labels = {'node': '/detector', 'topic': TOPIC}
        probe.wait_until(
            lambda: (labels, 1.0) in read_file(path).get(
                'yolov7_trt_ros_images_processed_total', []), 'the image in the file')
        probe.wait_until(lambda: probe.counts(TOPIC)['processed'] == 1, 'the same to be told')
        refused = probe.set_parameter('prometheus_file', str(tmp_path / 'other.prom'))
        assert 'read-only' in refused
        path.parent.rename(tmp_path / 'gone')  # at once: the node writes meanwhile
        probe.wait_until(lambda: 'prometheus_file' in probe.summary()[0], 'a warning')
        assert probe.summary() == (
            f'prometheus_file {path}: cannot be written: No such file or directory',
            DiagnosticStatus.WARN,
        )
        camera.ask()  # the node lives on
        path.parent.mkdir()
        probe.wait_until(lambda: probe.summary()[0] == 'active', 'the end of the warning')
        assert read_file(path)
    assert list(path.parent.iterdir()) == []
    camera.close()


def test_the_power_node_writes_its_numbers(power, board, tmp_path: Path) -> None:
    path = tmp_path / 'power.prom'
    with power.node(board, prometheus_file=str(path)):
        rails = power.probe.wait_until(
            lambda: read_file(path).get('yolov7_trt_ros_power_watts'), 'power in the file')
        assert {labels['rail'] for labels, _ in rails} >= {'total', 'VDD_IN'}
        assert all(1.0 <= watts < 40.0 for labels, watts in rails if labels['rail'] == 'VDD_IN')
    assert not path.exists()


@pytest.fixture
def told() -> list[str]:
    """Return what was logged."""
    return []


def put_until(file: PrometheusFile, holds: Callable[[], bool]) -> None:
    """Put statuses, each when the one before is done, until something holds."""
    for _ in range(100_000):
        file.put([STATUS])
        assert file._job is not None and file._job.wait(600.0, lambda: True)
        if holds():
            return
    raise AssertionError('it never holds')


@pytest.mark.parametrize('reason', ['File too large', 'Not a directory', 'Is a directory'])
def test_what_keeps_it_from_being_written_is_told_once(
    tmp_path: Path, told: list[str], reason: str
) -> None:
    folder = tmp_path / 'folder'
    path = folder / 'detector.prom'
    file = PrometheusFile(str(path), told.append, '/detector')
    if reason == 'Not a directory':
        folder.write_text('')
    else:
        (folder if reason == 'File too large' else path).mkdir(parents=True)
    with full_disk(10 if reason == 'File too large' else 2 ** 20):
        for _ in range(3):
            put_until(file, lambda: bool(file.problem))
    reason = reason.replace('Is a directory', f'{path} is no plain file, but a folder')
    assert told == [f'prometheus_file {path}: cannot be written: {reason}']
    assert not list(tmp_path.rglob('.*')), 'nothing half written is left'
    shutil.rmtree(folder, ignore_errors=True)
    folder.unlink(missing_ok=True)
    folder.mkdir()
    put_until(file, lambda: not file.problem)
    assert read_file(path)
    file.close()
    assert not path.exists()


def test_another_user_can_read_it(tmp_path: Path, told: list[str]) -> None:
    path = tmp_path / 'detector.prom'
    before = os.umask(0o077)
    try:
        file = PrometheusFile(str(path), told.append, '/detector')
        put_until(file, path.exists)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644
    file.close()


@pytest.mark.parametrize('text', [b'mine 1\n', b'# Written by the node /b of yolov7_trt_ros\n'])
def test_a_file_of_somebody_else_is_neither_replaced_nor_removed(
    tmp_path: Path, told: list[str], text: bytes
) -> None:
    path = tmp_path / 'detector.prom'
    path.write_bytes(text)
    file = PrometheusFile(str(path), told.append, '/detector')
    put_until(file, lambda: bool(file.problem))
    assert 'was not written by this node' in file.problem and '?' not in file.problem
    assert 'give each node a file of its own' in file.problem
    file.close()
    assert path.read_bytes() == text


@pytest.mark.parametrize('text', ['/tmp/detector.txt', '/tmp/detector', '/tmp/.prom', 'a\0.prom'])
def test_what_node_exporter_would_not_read_is_refused(text: str, told: list[str]) -> None:
    with pytest.raises(SettingError):
        PrometheusFile(text, told.append, '/detector')


def test_without_a_name_nothing_is_written(told: list[str]) -> None:
    file = PrometheusFile('', told.append, '/detector')
    file.put([STATUS])
    file.close()
    assert not told and not file.problem


def test_the_numbers_have_their_time(tmp_path: Path, told: list[str]) -> None:
    """The file of a killed node stays as it is, and node_exporter goes on with its numbers."""
    path = tmp_path / 'detector.prom'
    times = iter([1_800_000_000.25, 1_800_000_001.25])
    file = PrometheusFile(str(path), told.append, '/detector', lambda: next(times))
    for expected in (1_800_000_000.25, 1_800_000_001.25):
        assert file._job is not None and file._job.wait(600.0, lambda: True)
        file.put([STATUS])
        assert file._job.wait(600.0, lambda: True)
        assert read_file(path)['yolov7_trt_ros_last_update_timestamp_seconds'] == [
            ({'node': '/detector'}, expected)]
    file.close()


def test_what_a_killed_node_left_is_removed_at_the_next_start(
    tmp_path: Path, told: list[str]
) -> None:
    path = tmp_path / 'detector.prom'
    path.write_text('# Written by the node /detector of yolov7_trt_ros\nold 1\n')
    other = PrometheusFile(str(path), told.append, '/other')
    assert other._job is not None and other._job.wait(600.0, lambda: True)
    assert path.exists() and not told
    file = PrometheusFile(str(path), told.append, '/detector')
    assert file._job is not None and file._job.wait(600.0, lambda: True)
    assert not path.exists()
    file.close()
    other.close()
