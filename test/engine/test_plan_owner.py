"""Plans that others could have written are not loaded: a plan can run code."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from yolov7_trt_ros.engine.building.builder import read_timings
from yolov7_trt_ros.engine.device import kernel_compiler
from yolov7_trt_ros.engine.plan.owner import read_own_file
from yolov7_trt_ros.engine.plan.plan_file import read_manifest, read_plan
from yolov7_trt_ros.errors import PlanError, UntrustedPlanError

OTHER_UID = 12345


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / 'v7.plan'
    path.write_bytes(b'plan')
    return path


def test_my_own_is_read(plan: Path) -> None:
    assert read_own_file(plan) == b'plan'


@pytest.mark.skipif(os.geteuid() != 0, reason='only root can make files of others')
def test_somebody_elses_is_refused_and_roots_is_not(plan: Path) -> None:
    assert read_own_file(plan, uid=OTHER_UID) == b'plan'
    os.chown(plan, OTHER_UID, -1)
    assert read_own_file(plan, uid=OTHER_UID) == b'plan'
    with pytest.raises(UntrustedPlanError, match=r'belongs to user 12345, expected 0 .* chown 0'):
        read_plan(plan, None)


def test_one_that_everybody_may_write_is_refused(plan: Path) -> None:
    plan.chmod(0o666)
    with pytest.raises(UntrustedPlanError, match='chmod o-w'):
        read_plan(plan, None)


def test_one_that_a_group_may_write_is_taken(plan: Path) -> None:
    plan.chmod(0o664)
    assert read_own_file(plan) == b'plan'


def test_a_link_does_not_hide_the_owner_of_the_file(plan: Path, tmp_path: Path) -> None:
    link = tmp_path / 'link.plan'
    link.symlink_to(plan)
    plan.chmod(0o646)
    with pytest.raises(UntrustedPlanError, match='link.plan may be written by everybody'):
        read_plan(link, None)


def test_a_manifest_of_others_is_refused(plan: Path) -> None:
    manifest = plan.with_name(f'{plan.name}.json')
    manifest.write_text('{}')
    manifest.chmod(0o666)
    with pytest.raises(UntrustedPlanError, match='the manifest .* what is built and loaded'):
        read_manifest(plan)


def test_a_kernel_of_others_is_compiled_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_compiler, 'compile_source', lambda *_: b'compiled')
    assert kernel_compiler.compiled('source', 'sm_87', tmp_path) == b'compiled'
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(b'of others')
    assert kernel_compiler.compiled('source', 'sm_87', tmp_path) == b'of others'
    kept.chmod(0o666)
    assert kernel_compiler.compiled('source', 'sm_87', tmp_path) == b'compiled'
    assert kept.read_bytes() == b'compiled' and not kept.stat().st_mode & 0o022


def test_timings_of_others_are_refused(tmp_path: Path) -> None:
    timings = tmp_path / 'timings.cache'
    timings.write_bytes(b'timings')
    assert read_timings(timings) == b'timings'
    timings.chmod(0o666)
    with pytest.raises(UntrustedPlanError, match='the timing cache .* may be written by every'):
        read_timings(timings)
    assert read_timings(tmp_path / 'none.cache') == b''


def test_it_is_not_among_the_errors_that_have_a_plan_built_again() -> None:
    assert not issubclass(UntrustedPlanError, PlanError)
