"""ament_flake8 and ament_pep257 find nothing: their linters, with their settings (setup.cfg)."""

from __future__ import annotations

from pathlib import Path
import subprocess
import sys

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SETTINGS = REPOSITORY / 'setup.cfg'
PYTHON_FILES = ('yolov7_trt_ros', 'launch', 'test', 'benchmarks', 'tools', 'setup.py')
# those that ament_flake8 depends on; flake8 fails where one is missing
PLUGINS = (
    'flake8-blind-except', 'flake8-builtins', 'flake8-class-newline', 'flake8-comprehensions',
    'flake8-deprecated', 'flake8-docstrings', 'flake8-import-order', 'flake8-quotes',
)
FLAKE8 = ('flake8', '--config', SETTINGS, '--require-plugins', ','.join(PLUGINS))
# as ament_pep257 calls it, to which a property is a method like any other
PYDOCSTYLE = ('pydocstyle', '--config', SETTINGS, '--property-decorators=')
SLOPPY = '''\
import sys
import os
class Sloppy:
    def open(self):
        """Opens "it"."""
        return [os, sys, "text"]

    @property
    def text(self):
        """The text."""
'''


def findings(linter: tuple[str | Path, ...], *paths: str | Path) -> list[str]:
    """Return the lines that a linter writes about files and folders."""
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-m', *linter, *paths], cwd=REPOSITORY, check=False,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    lines = done.stdout.splitlines()
    assert (done.returncode == 0) == (not lines), f'exit status {done.returncode}: {done.stdout}'
    return lines


@pytest.mark.slow
@pytest.mark.parametrize('linter', [FLAKE8, PYDOCSTYLE], ids=['flake8', 'pep257'])
def test_ament_linters_find_nothing(linter: tuple[str | Path, ...]) -> None:
    found = findings(linter, *PYTHON_FILES)
    assert found == [], '\n'.join(found)


@pytest.mark.parametrize(('linter', 'wanted'), [
    (FLAKE8, ('A003', 'CNL100', 'D401', 'E302', 'I100', 'Q000')),
    (PYDOCSTYLE, ('`open`', '`text`', 'D401')),
], ids=['flake8', 'pep257'])
def test_they_would_find_something(
    linter: tuple[str | Path, ...], wanted: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / 'test_sloppy.py'
    path.write_text(SLOPPY, encoding='utf-8')
    text = '\n'.join(findings(linter, path))
    assert [each for each in wanted if each not in text] == [], text
    assert 'D102' not in text and 'D101' not in text, text
