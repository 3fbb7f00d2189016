"""Many recordings by one command: the same on Dask as in turn, whatever happens to a worker."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import errno
from functools import partial
import json
import logging
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
from typing import Any
from xml.dom import minidom

import cloudpickle
import cv2
from distributed import Client, get_worker, LocalCluster
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores
import skimage.data

from yolov7_trt_ros.cli.fleet import dask_runs as fleet_dask
from yolov7_trt_ros.cli.fleet.dask_cluster import silence
from yolov7_trt_ros.cli.fleet.progress import fleet_progress, progress_text
from yolov7_trt_ros.cli.fleet.runner import run_all
from yolov7_trt_ros.cli.fleet.tasks import Task
from yolov7_trt_ros.cli.main import main
from yolov7_trt_ros.cli.work.work_folder import STATE
from yolov7_trt_ros.errors import InputError, ModelError

REPOSITORY = Path(__file__).resolve().parents[2]
FAST = ('--size', '320', '--threads', '1')
TOPIC, KIND = '/front/image_raw/compressed', 'sensor_msgs/msg/CompressedImage'

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test


def write_drive(folder: Path, shift_px: int) -> Path:
    """Write a bag of two frames of a person."""
    types = get_typestore(Stores.ROS2_HUMBLE)
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topic = writer.add_connection(TOPIC, KIND, typestore=types)
        for number in range(2):
            rgb = skimage.data.astronaut()[shift_px + number:shift_px + number + 400]
            jpeg = cv2.imencode('.jpg', np.ascontiguousarray(rgb[..., ::-1]))[1].reshape(-1)
            stamp = types.types['builtin_interfaces/msg/Time'](100, number)
            header = types.types['std_msgs/msg/Header'](stamp, 'camera')
            message = types.types[KIND](header, 'jpeg', jpeg)
            writer.write(topic, number, bytes(types.serialize_cdr(message, KIND)))
    return folder


@pytest.fixture(scope='module')
def drives(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return three drives, and one that is damaged."""
    folder = tmp_path_factory.mktemp('drives')
    found = [write_drive(folder / f'drive{number}', 10 * number) for number in range(3)]
    bad = folder / 'drive9.mcap'
    bad.write_bytes(b'\x89MCAP0\r\nnothing')
    return [*map(str, found), str(bad)]


@pytest.fixture(scope='module')
def cluster() -> Iterator[LocalCluster]:
    with fleet_dask.local_cluster(2) as started:
        yield started


@pytest.fixture
def run(cluster: LocalCluster) -> Iterator[Any]:
    with Client(cluster, set_as_default=False) as client:
        yield fleet_dask.DaskRunner(client, partial(cluster.scale, 2))


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder, without what is kept of the work."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob('*') if path.is_file() and STATE not in path.parts
    }


def test_every_verb_gives_the_same_on_dask_as_in_turn(
    drives: list[str], cluster: LocalCluster, tmp_path: Path
) -> None:
    on_dask = ['--dask', cluster.scheduler_address]
    made = {}
    for place, words in (('serial', []), ('dask', on_dask)):
        out = tmp_path / place
        once = ['replay', *drives, '-s', '0.1', *FAST, *words]
        assert main([*once, '-o', str(out / 'a')]) == 1
        assert main([*once[:-len(words) or None], '-o', str(out / 'b'), *words,
                     '--square', '--size', '256']) == 1
        (out / 'b/drive1.mcap').unlink()
        assert main(['label', *drives, '-o', str(out / 'set'), '--format', 'coco', *FAST, *words,
                     '--second-model', 'yolov7-nano']) == 1
        assert main(['eval', '--images', str(out / 'set/images'), '--annotations',
                     str(out / 'set/annotations/instances_default.json'), *FAST, *words,
                     '-o', str(out / 'eval')]) == 0
        made[place] = contents(out)
    for out in (tmp_path / 'serial', tmp_path / 'dask'):
        words = on_dask if out.name == 'dask' else []
        assert main(['compare', str(tmp_path / 'serial/a'), str(tmp_path / 'serial/b'), '--drives',
                     '-o', str(out / 'compare'), '--images', str(Path(drives[0]).parent),
                     *words]) == 1
        made[out.name] |= contents(out / 'compare')
    assert set(made['serial']) == set(made['dask'])
    assert [name for name in made['serial'] if made['serial'][name] != made['dask'][name]] == []
    pages = [data.decode() for name, data in made['serial'].items() if name.endswith('.html')]
    assert len(pages) == 5
    for page in pages:
        minidom.parseString(page.replace('<!DOCTYPE html>', ''))
    compared = made['serial']['drives.html'].decode()
    assert 'B has no bag of this name' in compared and 'data:image/jpeg;base64,' in compared


def test_what_one_recording_is_warned_of_is_said_of_many_too(
    drives: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bags = [Path(shutil.copytree(drive, tmp_path / Path(drive).name)) for drive in drives[:2]]
    (bags[0] / 'metadata.yaml').unlink()
    assert main(['replay', *map(str, bags), '-o', str(tmp_path / 'a'), *FAST]) == 0
    assert f'drive0: {bags[0]} has no metadata.yaml' in capsys.readouterr().err
    shutil.copytree(tmp_path / 'a', tmp_path / 'b')
    half = tmp_path / 'b/drive1.mcap'
    half.write_bytes(half.read_bytes()[:half.stat().st_size // 2])
    assert main(['compare', str(tmp_path / 'a'), str(tmp_path / 'b'), '--drives', '-o',
                 str(tmp_path / 'compare')]) == 1
    assert 'warning: drive1: ' in capsys.readouterr().err
    out = tmp_path / 'set'
    assert main(['label', *map(str, bags), '-o', str(out), '--format', 'coco', *FAST]) == 0
    labels = out / 'annotations/instances_default.json'
    record = json.loads(labels.read_text())
    record['categories'].append({'id': 99, 'name': 'unicorn'})
    record['annotations'].append(record['annotations'][0] | {'category_id': 99})
    labels.write_text(json.dumps(record))
    capsys.readouterr()
    assert main(['eval', '--images', str(out / 'images'), '--annotations', str(labels), *FAST,
                 '-o', str(tmp_path / 'eval')]) == 0
    assert 'are not measured, because no class of the model' in capsys.readouterr().err
    assert json.loads((tmp_path / 'eval/drives.json').read_text())['categories_left_out'] == [
        'unicorn']


def test_what_is_done_is_not_done_again(
    drives: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bags = [Path(shutil.copytree(drive, tmp_path / Path(drive).name)) for drive in drives[:2]]
    words = ['replay', *map(str, bags), '-o', str(tmp_path / 'out'), *FAST]
    assert main(words) == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / 'out').glob('*.mcap')}
    shutil.copytree(drives[2], bags[1], dirs_exist_ok=True)
    left = tmp_path / 'out' / '.drive0.partial-abcd_123'
    left.mkdir()
    assert main(words) == 0
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / 'out').glob('*.mcap')}
    assert [path.name for path in after if after[path] != before[path]] == ['drive1.mcap']
    assert not left.exists()
    assert main([*words, '--square']) == 1
    assert "started with square 'false', not 'true'" in capsys.readouterr().err


# ---- what happens to workers


def given(*values: object) -> list[Task]:
    return [Task(str(number), value if isinstance(value, tuple) else (value,))
            for number, value in enumerate(values)]


def results(run: Any, function: Any, *values: object) -> list[dict[str, Any]]:
    args = argparse.Namespace(workers=None, dask='here', run=print)
    return list(run_all(run, function, args, given(*values), lambda *_: None).values())


def fill(args: argparse.Namespace, full: tuple[str, ...]) -> dict[str, Any]:
    if get_worker().address in full:
        raise OSError(errno.ENOSPC, 'No space left on device', 'out')
    return {'written': True}


def test_a_full_disk_of_one_worker_is_left_to_another(run: Any, cluster: LocalCluster) -> None:
    workers = tuple(cluster.scheduler.workers)
    assert results(run, fill, *[((workers[0],),)] * 4) == [{'written': True}] * 4
    found = results(run, fill, *[(workers,)] * 2)
    assert [each['error'] for each in found] == ['out: No space left on device'] * 2


def fail(args: argparse.Namespace, error: Exception) -> dict[str, Any]:
    raise error


def test_a_defect_costs_one_recording_and_a_bad_model_the_run(run: Any) -> None:
    found = results(run, fail, ZeroDivisionError('oh'), InputError('no bag'))
    assert [each['error'] for each in found] == ['a defect: ZeroDivisionError: oh', 'no bag']
    with pytest.raises(ModelError, match='no model'):
        results(run, fail, ModelError('no model'))


@pytest.mark.parametrize('address', ['nonsense', '', 'http://127.0.0.1:9', 'host:port'])
def test_what_is_no_address_of_a_scheduler(
    address: str, drives: list[str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, '-m', 'yolov7_trt_ros', 'replay', *drives, '-o', 'out', *FAST,
         '--dask', address], cwd=tmp_path, env=os.environ | {'PYTHONPATH': str(REPOSITORY)},
        capture_output=True, text=True, timeout=600,
    )
    assert done.returncode == 1 and done.stderr.count('\n') == 1, done.stderr
    assert f'{address!r} is no address of a Dask scheduler' in done.stderr


def test_a_scheduler_that_does_not_answer(
    drives: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    address = 'tcp://127.0.0.1:9'
    monkeypatch.setattr(fleet_dask, 'PATIENCE_S', 1)
    assert main(['replay', *drives, '-o', str(tmp_path / 'out'), '--dask', address]) == 1
    told = capsys.readouterr().err
    assert f'error: no Dask scheduler answers at {address} within 1 s' in told
    assert 'dask scheduler' in told and told.count('\n') == 1


def test_a_scheduler_without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_dask, 'PATIENCE_S', 6)  # for the answer too, which does come
    with fleet_dask.local_cluster(0) as empty, pytest.raises(InputError, match='no workers'), (
        fleet_dask.dask_runner(empty.scheduler_address, None)
    ):
        pass


def test_a_worker_of_another_version(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_dask, '__version__', '9.9')
    with pytest.raises(InputError, match='and this machine 9.9'), (
        fleet_dask.dask_runner(cluster.scheduler_address, None)
    ):
        pass


# ---- the command


def test_workers_of_this_machine(drives: list[str], tmp_path: Path) -> None:
    spare = tmp_path / 'spare'
    spare.mkdir()
    done = subprocess.run(
        [sys.executable, '-m', 'yolov7_trt_ros', 'replay', drives[0], '-o', 'out', *FAST,
         '--workers', '1'], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {'PYTHONPATH': str(REPOSITORY), 'TMPDIR': str(spare)},
    )
    assert done.returncode == 0, done.stderr
    assert not list(spare.iterdir())
    assert 'bags        1 of 1' in done.stdout and '1 of 1 bags' in done.stderr
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [
        STATE, 'drive0.mcap', 'drives.html', 'drives.json']


@pytest.mark.parametrize(('words', 'reason'), [
    (['replay', 'a', '-o', 'o', '--workers', '0'], 'within 1..256'),
    (['replay', 'a', '-o', 'o', '--workers', '100000'], 'within 1..256'),
    (['replay', 'a', '-o', 'o', '--workers', '2', '--dask', 'x'], 'one of --workers'),
    (['compare', 'a', 'b', '--workers', '2'], '--drives and --output'),
    (['compare', 'a', 'b', '--drives', '-o', 'o', '--html', 'p.html'], 'leave --html out'),
    (['eval', '--images', 'a', '--annotations', 'b', '--workers', '2'], '--output DIR'),
])
def test_what_does_not_go_together(
    words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert reason in capsys.readouterr().err


def test_progress_is_told_with_rates(capsys: pytest.CaptureFixture[str]) -> None:
    assert progress_text(5, 1, 100, 20, 'bags', 10.0) == (
        '5 of 20 bags (1 failed), 0.50/s, 10.0 frames/s, 10 s so far, 30 s to go')
    times = iter((0.0, 1.0, 12.0, 13.0))
    with fleet_progress(3, 'bags', lambda: next(times)) as progress:
        for result in ({'frames': 3}, {'frames': [1, 2]}, {'error': 'x'}):
            progress(result)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(',')[0] for line in lines] == [
        'yolov7_trt: 2 of 3 bags', 'yolov7_trt: 3 of 3 bags (1 failed)']


# ---- workers that die


def die_once(args: argparse.Namespace, mark: Path) -> dict[str, Any]:
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {'lived': True}


def die(args: argparse.Namespace, wanted: bool) -> dict[str, Any]:
    if wanted:
        os.kill(os.getpid(), signal.SIGKILL)
    return {'lived': True}


def test_a_killed_worker_costs_nothing_and_a_deadly_recording_itself(
    run: Any, cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes last: Dask may have fewer workers after it for a while."""
    monkeypatch.setattr(fleet_dask, 'FETCH_S', 5)
    monkeypatch.setattr(fleet_dask, 'STALL_S', 5)
    assert results(run, die_once, tmp_path / '0', tmp_path / '1') == [{'lived': True}] * 2
    monkeypatch.setattr(cluster.scheduler, 'allowed_failures', 0)
    found = results(run, die, False, True, False)
    lost = {'error': 'workers died with it, also when it ran alone'}
    assert found == [{'lived': True}, lost, {'lived': True}]


def test_dask_logs_nothing() -> None:
    client = logging.getLogger('distributed.client')
    before = client.level
    client.setLevel(logging.WARNING)  # as Dask's own configuration does
    try:
        silence()
        assert not client.isEnabledFor(logging.ERROR)
    finally:
        client.setLevel(before)
