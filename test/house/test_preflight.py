"""What `make venv` says of machines that it cannot serve."""

from __future__ import annotations

from pathlib import Path
import platform
import runpy
import sys

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PREFLIGHT = REPOSITORY / 'tools' / 'preflight.py'


@pytest.mark.parametrize('machine', ['aarch64', 'armv7l', 'riscv64', ''])
def test_a_machine_that_ros_has_no_wheels_for_is_told_at_once_what_to_do(
    machine: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(platform, 'machine', lambda: machine)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(PREFLIGHT), run_name='__main__')
    said = capsys.readouterr().err
    assert ended.value.code == 1 and said.startswith('error: ')
    assert machine in said and 'x86-64' in said
    assert 'apt-get install' in said and 'colcon build' in said and "'.[tools]'" in said


def test_the_extra_that_it_names_is_there() -> None:
    setup = (REPOSITORY / 'setup.py').read_text()
    assert "'tools': [" in setup


@pytest.mark.skipif(platform.machine() != 'x86_64', reason='the wheels are for x86-64')
def test_this_machine_is_told_nothing_of_wheels() -> None:
    module = runpy.run_path(str(PREFLIGHT))
    assert module['no_wheels_for'](platform.machine()) == ''
    assert module['is_supported'](sys.version_info[:2])
