"""Manifests and plans with anything in them: PlanError, and neither time nor memory."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import os
from pathlib import Path
import random
import subprocess
import sys
import time
from typing import Any

import pytest

from yolov7_trt_ros.core.forms.model_spec import ANCHOR_SETS, ModelSpec, OutputLayout, TensorInfo
from yolov7_trt_ros.engine.building.build_options import BuildOptions
from yolov7_trt_ros.engine.building.plan_cache import rebuild_options
from yolov7_trt_ros.engine.plan.build_target import BuildTarget
from yolov7_trt_ros.engine.plan.plan_file import (
    manifest_path,
    PlanManifest,
    read_manifest,
    read_plan,
    rebuild_command,
    write_plan,
)
from yolov7_trt_ros.engine.plan.plan_fit import differences
from yolov7_trt_ros.engine.plan.shape_range import ShapeRange
from yolov7_trt_ros.engine.plan.weight_table import WeightTable
from yolov7_trt_ros.errors import BuildError, PlanError, SettingError

REPOSITORY = Path(__file__).resolve().parents[2]
INPUTS = 3000
MOST_S = 60.0  # what is not bounded takes far longer; a loaded machine may take seconds
MOST_MORE_KIB = 1 << 20
HERE = BuildTarget('TensorRT', '10.3.0', '12.6', 'Orin', '8.7')
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 1e308, float('nan'), float('inf'), 2**31, 10**4000, '', 'text',
    '\0', '\ud800', 'x' * 10_000, [], {}, [[]], [None], [1, 2], {'a': {}}, [[[[]]]],
)


def manifest(onnx: str = 'v7.onnx') -> PlanManifest:
    return PlanManifest(
        machine=BuildTarget('TensorRT', '8.6.0', '12.2', 'Orin', '8.7'), precision='fp16',
        profiles=(ShapeRange((1, 3, 320, 320), (1, 3, 640, 640), (4, 3, 1280, 1280)),),
        onnx=onnx, onnx_sha256=hashlib.sha256(b'onnx').hexdigest(), plan_sha256='1' * 64,
        plan_size_bytes=4, options=BuildOptions().to_record(), build_seconds=1.5,
        created='2026-01-02T03:04:05+00:00',
        spec=ModelSpec(
            TensorInfo('images', (None, 3, None, None), 'float32'), OutputLayout.RAW_HEADS,
            ('a', 'b', 'c'), ('cat', 'Käfer'), 2, (8, 16, 32), ANCHOR_SETS['yolov7-tiny'],
        ),
        weights=WeightTable('2' * 64, {'head.bias': 'float32 255 0123456789abcdef'}),
    )


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to each value that lies inside another."""
    below = value.items() if isinstance(value, dict) else (
        enumerate(value) if isinstance(value, (list, tuple)) else ()
    )
    found = [path] if path else []
    for key, each in below:
        found += places(each, (*path, key))
    return found


def changed(record: Any, path: tuple[Any, ...], value: Any, *, drop: bool = False) -> Any:
    record = copy.deepcopy(record)
    inner = record
    for key in path[:-1]:
        inner = inner[key]
    if drop:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return record


def use(plan: Path) -> None:
    """Do all that is done with a manifest; anything but our errors is a fault."""
    try:
        found = read_manifest(plan)
        if found is None:
            return
        rebuild_command(found, plan)
        differences(found, HERE)
        json.dumps(found.to_record())
        read_plan(plan, found)
    except PlanError:
        return


def rebuild(plan: Path) -> None:
    try:
        rebuild_options(plan)
    except (PlanError, BuildError, SettingError):
        return


def test_each_value_of_each_odd_type(tmp_path: Path) -> None:
    """One value after the other, exchanged for each odd one, and left out."""
    plan, onnx = tmp_path / 'v7.plan', tmp_path / 'v7.onnx'
    plan.write_bytes(b'plan')
    onnx.write_bytes(b'onnx')
    record = json.loads(json.dumps(manifest(str(onnx)).to_record()))
    sys.set_int_max_str_digits(5000)
    try:
        manifest_path(plan).write_text(json.dumps(record))
        assert rebuild_options(plan)[0] == onnx
        for path in places(record):
            for value in ODD:
                manifest_path(plan).write_text(json.dumps(changed(record, path, value)))
                use(plan)
                rebuild(plan)
            manifest_path(plan).write_text(json.dumps(changed(record, path, None, drop=True)))
            use(plan)
            rebuild(plan)
    finally:
        sys.set_int_max_str_digits(4300)


def test_only_what_older_manifests_lack_may_be_missing(tmp_path: Path) -> None:
    plan = tmp_path / 'v7.plan'
    record = json.loads(json.dumps(manifest(str(tmp_path / 'v7.onnx')).to_record()))
    may_lack = {'weights', 'transposed', 'columns', 'evidence', 'doubts'}
    paths = [(key,) for key in record] + [('spec', key) for key in record['spec']]
    for path in paths:
        manifest_path(plan).write_text(json.dumps(changed(record, path, None, drop=True)))
        if path[-1] in may_lack:
            assert read_manifest(plan) is not None
            continue
        with pytest.raises(PlanError, match=f"has no '{path[-1]}'|format None"):
            read_manifest(plan)


@pytest.mark.parametrize(('path', 'value', 'message'), [
    (('plan_size_bytes',), '4', 'plan_size_bytes: expected a whole number'),
    (('plan_size_bytes',), True, 'plan_size_bytes: expected a whole number'),
    (('onnx',), 5, 'onnx: expected text'),
    (('options', 'keep_fp32'), ['x'], 'options.keep_fp32: expected a plain value'),
    (('machine', 'gpu_name'), None, 'gpu_name: expected text'),
    (('machine',), [], 'machine: expected an object'),
    (('profiles', 0, 'minimum'), '1234', 'minimum: expected a list'),
    (('profiles', 0, 'minimum'), [1, 3, 320], 'minimum: expected a list of 4 values'),
    (('profiles', 0, 'minimum'), [1, 3, 999, 320], 'a profile needs'),
    (('plan_size_bytes',), 2**41, 'plan_size_bytes: expected a whole number within 0..'),
    (('profiles', 0, 'maximum', 0), 2**40, 'maximum: expected a whole number'),
    (('build_seconds',), float('nan'), 'build_seconds: expected a number'),
    (('spec', 'strides'), [], 'strides'),
    (('spec', 'strides', 0), 0, 'strides: expected numbers above 0'),
    (('spec', 'strides', 0), -1, 'strides: expected a whole number within 0..'),
    (('spec', 'anchors', 0, 0), [1], 'anchors: expected a list of 2 values'),
    (('spec', 'anchors', 0, 0), [1, 0], 'anchors: expected numbers above 0'),
    (('spec', 'class_names', 0), 7, 'class_names: expected text'),
    (('spec', 'boxes_are_centres'), 'no', 'boxes_are_centres: expected true or false'),
    (('spec', 'layout'), 'pose', 'pose'),
    (('spec', 'input', 'shape'), [1, 3], 'expected an image input'),
    (('format',), 'x' * 10_000, 'format'),
])
def test_what_is_wrong_is_told_with_what_to_do(
    tmp_path: Path, path: tuple[Any, ...], value: Any, message: str
) -> None:
    plan = tmp_path / 'v7.plan'
    record = json.loads(json.dumps(manifest().to_record()))
    manifest_path(plan).write_text(json.dumps(changed(record, path, value)))
    with pytest.raises(PlanError) as caught:
        read_manifest(plan)
    assert message in str(caught.value) and len(str(caught.value)) < 1000
    assert 'build the plan again with yolov7_trt build' in str(caught.value)


def mutated(data: bytes, generator: random.Random) -> bytes:
    """Return bytes with some exchanged, put in, taken out, repeated or cut off."""
    changed = bytearray(data)
    for _ in range(generator.randrange(1, 6)):
        at = generator.randrange(len(changed) + 1)
        some = bytes(generator.choice(b'{}[],:"\\0123456789eE-tfn\x00\xff\xc3 ')
                     for _ in range(generator.randrange(1, 8)))
        choice = generator.randrange(5)
        if choice == 0:
            changed[at:at + len(some)] = some
        elif choice == 1:
            changed[at:at] = some
        elif choice == 2:
            del changed[at:at + generator.randrange(1, 40)]
        elif choice == 3:
            changed[at:at] = changed[at:at + 30] * generator.randrange(1, 50)
        elif generator.random() < 0.2:
            del changed[at:]
    return bytes(changed)


def try_mutations(folder: Path) -> None:
    """Run in a process of its own, whose peak of memory counts."""
    import resource

    plan = folder / 'v7.plan'
    plan.write_bytes(b'plan')
    (folder / 'v7.onnx').write_bytes(b'onnx')
    data = json.dumps(manifest(str(folder / 'v7.onnx')).to_record(), indent=2).encode()
    generator = random.Random(14)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    slowest_s = 0.0
    for _ in range(INPUTS):
        manifest_path(plan).write_bytes(mutated(data, generator))
        start = time.perf_counter()
        use(plan)
        rebuild(plan)
        slowest_s = max(slowest_s, time.perf_counter() - start)
    for bomb in (
        b'[' * 4_000_000, b'{"a":' * 800_000, b'9' * 4_000_000, b'"' + b'\xff' * 4_000_000,
        b'[' + b'[],' * 1_300_000 + b'0]', b' ' * 50_000_000,
    ):
        manifest_path(plan).write_bytes(bomb)
        start = time.perf_counter()
        use(plan)
        slowest_s = max(slowest_s, time.perf_counter() - start)
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({'slowest_s': slowest_s, 'more_kib': more}))


def test_bytes_of_a_manifest_changed_at_random(tmp_path: Path) -> None:
    folders = os.pathsep.join((str(REPOSITORY), str(Path(__file__).parent)))
    done = subprocess.run(
        [sys.executable, '-c', 'import sys, pathlib, test_manifest_values as tried\n'
         'tried.try_mutations(pathlib.Path(sys.argv[1]))', str(tmp_path)],
        capture_output=True, text=True, check=False, env=os.environ | {'PYTHONPATH': folders},
    )
    assert done.returncode == 0, done.stderr
    used = json.loads(done.stdout)
    assert used['slowest_s'] < MOST_S and used['more_kib'] < MOST_MORE_KIB


def test_plans_cut_off_extended_and_exchanged(tmp_path: Path) -> None:
    generator = random.Random(3)
    plan = tmp_path / 'v7.plan'
    whole = b'ptrt' + bytes(generator.randrange(256) for _ in range(400))

    known = dataclasses.replace(
        manifest(), plan_size_bytes=len(whole), plan_sha256=hashlib.sha256(whole).hexdigest()
    )
    write_plan(plan, whole, known)
    assert read_plan(plan, read_manifest(plan)) == whole
    for _ in range(200):
        found = mutated(whole, generator)
        if found != whole:
            plan.write_bytes(found)
            with pytest.raises(PlanError, match='build it again with: yolov7_trt build'):
                read_plan(plan, read_manifest(plan))


@pytest.mark.parametrize('onnx', [
    '/dev/zero', '~no_such_user_here/v7.onnx', 'x' * 5000, '.', 'gone.onnx', '',
])
def test_what_a_plan_was_built_from_cannot_be_read(tmp_path: Path, onnx: str) -> None:
    plan = tmp_path / 'v7.plan'
    manifest_path(plan).write_text(json.dumps(manifest(onnx).to_record()))
    with pytest.raises(BuildError, match='cannot be built again, its ONNX file cannot be read'):
        rebuild_options(plan)


@pytest.mark.parametrize(('option', 'value'), [
    ('workspace_mib', 'much'), ('refittable', 1), ('keep_fp32', 'a{99999999999}'),
    ('opt_level', 2.5), ('timing_cache', 5), ('bind_profiles', 'x'), ('profiles', 'x'),
])
def test_build_options_of_another_type(tmp_path: Path, option: str, value: Any) -> None:
    plan, onnx = tmp_path / 'v7.plan', tmp_path / 'v7.onnx'
    onnx.write_bytes(b'onnx')
    record = manifest(str(onnx)).to_record()
    record['options'][option] = value
    manifest_path(plan).write_text(json.dumps(record))
    with pytest.raises(SettingError, match=option):
        rebuild_options(plan)


@pytest.mark.parametrize('kind', ['folder', 'pipe', 'device', 'link to itself'])
def test_a_manifest_that_is_no_file(tmp_path: Path, kind: str) -> None:
    plan = tmp_path / 'v7.plan'
    path = manifest_path(plan)
    if kind == 'folder':
        path.mkdir()
    elif kind == 'pipe':
        os.mkfifo(path)
    else:
        path.symlink_to('/dev/zero' if kind == 'device' else path)
    with pytest.raises(PlanError, match='manifest .* cannot be read'):
        read_manifest(plan)


def test_a_plan_that_is_no_file(tmp_path: Path) -> None:
    pipe = tmp_path / 'v7.plan'
    os.mkfifo(pipe)
    with pytest.raises(PlanError, match='a pipe'):
        read_plan(pipe, None)
    zero = tmp_path / 'zero.plan'
    zero.symlink_to('/dev/zero')
    with pytest.raises(PlanError, match='a device'):
        read_plan(zero, None)
