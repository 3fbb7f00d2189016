"""Plans on disk: whole or not there, with a manifest that says what they fit."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
from pathlib import Path
import shlex
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import pytest

from yolov7_trt_ros.cli.verbs import build as build_verb
from yolov7_trt_ros.core.forms.model_spec import ANCHOR_SETS, ModelSpec, OutputLayout, TensorInfo
from yolov7_trt_ros.engine.building.build_options import BuildOptions
from yolov7_trt_ros.engine.options import PRECISIONS
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
from yolov7_trt_ros.engine.plan.shape_range import parse_shape, ShapeRange
from yolov7_trt_ros.errors import BuildError, PlanError, PlanMissingError, SettingError

ORIN = BuildTarget('TensorRT', '8.6.0', '12.2', 'Orin', '8.7')
PROFILE = ShapeRange((1, 3, 320, 320), (1, 3, 640, 640), (4, 3, 1280, 1280))
SPEC = ModelSpec(
    TensorInfo('images', (None, 3, None, None), 'float32'), OutputLayout.RAW_HEADS,
    ('a', 'b', 'c'), ('cat', 'Käfer'), 2, (8, 16, 32), ANCHOR_SETS['yolov7-tiny'],
)


def manifest_of(data: bytes, machine: BuildTarget = ORIN, **options: Any) -> PlanManifest:
    return PlanManifest(
        machine=machine, precision='fp16', profiles=(PROFILE,), onnx='my models/v7.onnx',
        onnx_sha256='0' * 64, plan_sha256=hashlib.sha256(data).hexdigest(),
        plan_size_bytes=len(data), options=BuildOptions(**options).to_record(), spec=SPEC,
        created='2026-01-02T03:04:05+00:00', build_seconds=1.5,
    )


def test_a_plan_and_its_manifest_come_back(tmp_path: Path) -> None:
    path = tmp_path / 'new folder' / 'v7.plan'
    manifest = manifest_of(b'plan')
    write_plan(path, b'plan', manifest)
    assert read_manifest(path) == manifest
    assert read_plan(path, manifest) == b'plan'
    assert sorted(each.name for each in path.parent.iterdir()) == ['v7.plan', 'v7.plan.json']


def test_a_plan_of_other_tools_has_no_manifest(tmp_path: Path) -> None:
    path = tmp_path / 'v7.engine'
    path.write_bytes(b'plan')
    assert read_manifest(path) is None
    assert read_plan(path, None) == b'plan'


def test_a_full_disk_leaves_the_old_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / 'v7.plan'
    write_plan(path, b'old', manifest_of(b'old'))

    def full(descriptor: int) -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(BuildError, match='v7.plan cannot be written: .*No space'):
        write_plan(path, b'new', manifest_of(b'new'))
    assert read_plan(path, read_manifest(path)) == b'old'
    assert len(list(tmp_path.iterdir())) == 2


def test_a_manifest_that_would_not_be_read_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / 'v7.plan'
    write_plan(path, b'old', manifest_of(b'old'))
    names = tuple(f'{number:01000}' for number in range(4200))
    large = dataclasses.replace(
        manifest_of(b'new'), spec=dataclasses.replace(SPEC, class_names=names, num_classes=4200))
    with pytest.raises(BuildError, match=r'would have 4\d{6} bytes, at most 4194304 are read'):
        write_plan(path, b'new', large)
    assert read_plan(path, read_manifest(path)) == b'old'


@pytest.mark.parametrize(('found', 'message'), [
    (b'', 'is empty; build it again with: yolov7_trt build'),
    (b'pla', 'is truncated: 3 bytes of 4; build it again with: yolov7_trt build'),
    (b'PLAN', r'not the one that v7.plan.json describes .*yolov7_trt build'),
    (b'plan!', 'not the one'),
])
def test_damaged_plans(tmp_path: Path, found: bytes, message: str) -> None:
    path = tmp_path / 'v7.plan'
    write_plan(path, b'plan', manifest_of(b'plan'))
    path.write_bytes(found)
    with pytest.raises(PlanError, match=message):
        read_plan(path, read_manifest(path))


def test_missing_and_unreadable_plans(tmp_path: Path) -> None:
    with pytest.raises(PlanMissingError, match=r'no plan .*v7\.plan; build it with yolov7_trt'):
        read_plan(tmp_path / 'v7.plan', None)
    with pytest.raises(PlanError, match='cannot be read'):
        read_plan(tmp_path, None)


@pytest.mark.parametrize('text', [
    '', 'no json', '[]', '{}', 'null', '{"format": 2}', '{"format": 1}', '\x00', '[' * 100_000,
])
def test_what_is_no_manifest(tmp_path: Path, text: str) -> None:
    path = tmp_path / 'v7.plan'
    manifest_path(path).write_text(text)
    with pytest.raises(PlanError, match='manifest'):
        read_manifest(path)


@given(st.data())
def test_a_changed_manifest_raises_only_our_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    record = manifest_of(b'plan').to_record()
    key = data.draw(st.sampled_from(sorted(record)))
    json_values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=5,
    )
    record[key] = data.draw(json_values)
    path = tmp_path_factory.getbasetemp() / 'changed.plan'
    manifest_path(path).write_text(json.dumps(record))
    try:
        read_manifest(path)
    except PlanError:
        return


def machine(**changes: str) -> BuildTarget:
    return dataclasses.replace(ORIN, **changes)


NEWER = machine(tensorrt_version='10.3.0')
OLDER = machine(tensorrt_version='8.5.2')
OTHER_GPU = machine(gpu_name='NVIDIA H200', compute_capability='9.0')
OLD_GPU = machine(gpu_name='Xavier', compute_capability='7.2')


@pytest.mark.parametrize(('options', 'here', 'words'), [
    ({}, ORIN, ()),
    ({}, machine(cuda_version='12.6'), ()),
    ({}, NEWER, ('built with TensorRT 8.6.0, here is 10.3.0',)),
    ({}, OTHER_GPU, ('built for Orin (compute capability 8.7), here is NVIDIA H200 (9.0)',)),
    ({}, machine(gpu_name='Orin Nano'), ('built for Orin',)),
    ({}, machine(flavour='TensorRT-RTX'), ('built with TensorRT, here is TensorRT-RTX',)),
    ({}, dataclasses.replace(OTHER_GPU, tensorrt_version='10.3.0'), ('8.6.0', 'Orin')),
    ({'version_compatible': True}, NEWER, ()),
    ({'version_compatible': True}, OLDER, ('here is 8.5.2',)),
    ({'hardware_compatible': True}, OTHER_GPU, ()),
    ({'hardware_compatible': True}, OLD_GPU, ('here is Xavier (7.2)',)),
    ({'hardware_compatible': True}, NEWER, ('here is 10.3.0',)),
])
def test_what_differs(options: dict[str, bool], here: BuildTarget, words: tuple[str, ...]) -> None:
    found = differences(manifest_of(b'', **options), here)
    assert len(found) == len(words)
    for text, word in zip(found, words, strict=True):
        assert word in text


def test_a_plan_for_any_gpu_fits_all() -> None:
    built = BuildTarget('TensorRT-RTX', '1.7.1', '', '', '')
    here = BuildTarget('TensorRT-RTX', '1.7.1', '13.0', 'GeForce RTX 4070', '8.9')
    assert differences(manifest_of(b'', built), here) == []
    assert str(built) == 'TensorRT-RTX 1.7.1 on any GPU it supports'


shapes = st.tuples(st.integers(1, 8), st.just(3), st.integers(1, 40), st.integers(1, 40))
ranges = st.tuples(shapes, shapes, shapes).map(
    lambda three: ShapeRange(*zip(*map(sorted, zip(*three, strict=True)), strict=True))
)
some_options = st.builds(
    BuildOptions,
    precision=st.sampled_from([name for name in PRECISIONS if name != 'fp32']),
    profiles=st.lists(ranges, min_size=1, max_size=3).map(tuple),
    workspace_mib=st.none() | st.integers(1, 10_000),
    opt_level=st.none() | st.integers(0, 5),
    timing_cache=st.none() | st.just(Path('a timing.cache')),
    dla_core=st.none() | st.integers(0, 1),
    refittable=st.booleans(), version_compatible=st.booleans(), hardware_compatible=st.booleans(),
    keep_fp32=st.none() | st.sampled_from(["head.*|'x' y", '^model[.]105', '-heads']),
    class_names=st.sampled_from(['auto', 'coco80', 'my names.txt']),
    anchors=st.sampled_from(['auto', 'yolov7']), keep_nms_plugin=st.booleans(),
)


@given(some_options)
def test_the_rebuild_command_gives_the_same_options(options: BuildOptions) -> None:
    manifest = dataclasses.replace(
        manifest_of(b''), precision=options.precision, profiles=options.profiles,
        options=options.to_record(),
    )
    assert BuildOptions.from_manifest(manifest) == options
    program, verb, *words = shlex.split(rebuild_command(manifest, Path('out dir/v7.plan')))
    parser = argparse.ArgumentParser()
    build_verb.add_arguments(parser)
    args = parser.parse_args(words)
    assert (program, verb, args.model) == ('yolov7_trt', 'build', 'my models/v7.onnx')
    assert args.output == Path('out dir/v7.plan')
    assert build_verb.build_options(args) == options


@pytest.mark.parametrize('text', ['', '640', '1x3x640', '1x3x640x640x1', '1x3x-640x640',
                                  '1x3x640xbig', 'images:', '1X3X640X640', '1x3x64.0x640'])
def test_shapes_that_are_none(text: str) -> None:
    with pytest.raises(SettingError, match='such as 1x3x640x640'):
        parse_shape(text)


def test_shapes() -> None:
    assert parse_shape('1x3x640x384') == parse_shape('images:1x3x640x384') == (1, 3, 640, 384)
    assert PROFILE.contains((2, 3, 384, 640))
    assert not PROFILE.contains((5, 3, 640, 640))
    assert not PROFILE.contains((1, 3, 288, 640))
    assert not PROFILE.contains((640, 640))


@pytest.mark.parametrize('shapes', [
    ((1, 3, 640, 640), (1, 3, 320, 320), (1, 3, 640, 640)),
    ((0, 3, 640, 640), (1, 3, 640, 640), (1, 3, 640, 640)),
    ((1, 1, 640, 640), (1, 1, 640, 640), (1, 1, 640, 640)),
    ((1, 3, 640), (1, 3, 640), (1, 3, 640)),
])
def test_ranges_that_are_none(shapes: Any) -> None:
    with pytest.raises(SettingError, match='got'):
        ShapeRange(*shapes)
