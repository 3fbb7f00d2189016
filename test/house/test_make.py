"""The Makefile in folders of all names: what it makes, and above all what it removes."""

from __future__ import annotations

from collections.abc import Callable
import hashlib
import os
from pathlib import Path
import shutil
import subprocess
import sys
from typing import TypeAlias

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MARK = '.made_by_yolov7_trt_ros'
STUB = r"""#!/bin/sh
# stands for python3: notes its words, and makes what `-m venv FOLDER` would
for word in "$@"; do printf '%s\n' "$word"; done >> "$STUB_LOG"
echo --- >> "$STUB_LOG"
if test "$1 $2" = '-m venv'; then
    mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; echo home > "$3/pyvenv.cfg"
fi
"""
AWKWARD = [
    'plain', 'a b/c d', "it's", 'a "q" b', 'pay $1', 'no #1', 'k\u00e4se \u00fc \U0001f600', '%d',
    '`touch ran`', '-n', 'back\\slash', 'a;touch ran', '$(touch ran)', '*',
]
Make: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.skipif(shutil.which('make') is None, reason='there is no make')


def copy_tree(checkout: Path) -> Path:
    """Copy what the Makefile looks at, with the sources that `clean` goes through."""
    checkout.mkdir(parents=True)
    for name in ('Makefile', 'setup.py', 'setup.cfg', 'package.xml'):
        shutil.copy(REPOSITORY / name, checkout)
    for folder in ('requirements', 'tools', 'launch', 'config', 'scripts', 'resource'):
        shutil.copytree(
            REPOSITORY / folder, checkout / folder, ignore=shutil.ignore_patterns('__pycache__')
        )
    for folder in ('benchmarks', 'examples', 'test', 'yolov7_trt_ros'):
        (checkout / folder / '__pycache__').mkdir(parents=True)
        (checkout / folder / '__pycache__/x.pyc').touch()
    shutil.copy(REPOSITORY / 'yolov7_trt_ros/atomic_file.py', checkout / 'yolov7_trt_ros')
    return checkout


def fill_neighbours(checkout: Path) -> list[Path]:
    """Make folders that a path cut at a blank, a quote or a dollar would name; they are ours."""
    names = {
        str(checkout)[:at] for at, sign in enumerate(str(checkout))
        if sign in ' "\'$#`;\\*(%' and at > len(str(checkout.parents[1]))
    }
    folders = [Path(name) for name in names if not name.endswith(os.sep)]
    folders += [checkout.parent / 'c', checkout.parent / f'{checkout.name}2']
    for folder in folders:
        for below in ('.venv', 'build', '__pycache__'):
            (folder / below).mkdir(parents=True, exist_ok=True)
            (folder / below / 'mine').write_text('mine')
    return folders


def fingerprint(folders: list[Path], checkout: Path) -> str:
    digest = hashlib.sha256()
    for folder in sorted(folders):
        for path in sorted(folder.rglob('*')):
            if not path.is_relative_to(checkout):
                data = path.read_bytes() if path.is_file() else b''
                digest.update(f'{path}\0'.encode() + data)
    return digest.hexdigest()


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Run make in a folder, with a stub for Python that notes in tmp_path/log."""
    stub = tmp_path / 'stub' / 'python stub'
    stub.parent.mkdir()
    stub.write_text(STUB)
    stub.chmod(0o755)
    # the stub's `tools/preflight.py` passes: tested on its own

    def run(checkout: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ['make', *words, f'PYTHON={stub}'], cwd=checkout, capture_output=True, text=True,
            check=False,
            env={'PATH': os.environ['PATH'], 'STUB_LOG': str(tmp_path / 'log'), **environment},
        )

    return run


def calls(tmp_path: Path) -> list[list[str]]:
    """Return the words of each call of the stub."""
    text = (tmp_path / 'log').read_text()
    return [call.split('\n')[:-1] for call in text.split('---\n')[:-1]]


@pytest.mark.parametrize('name', AWKWARD)
def test_make_works_in_a_folder_of_any_name_and_leaves_its_neighbours(
    tmp_path: Path, make: Make, name: str
) -> None:
    checkout = copy_tree(tmp_path / 'above' / name / 'yolov7 trt')
    neighbours = fill_neighbours(checkout)
    before = fingerprint(neighbours, checkout)
    done = make(checkout, 'demo', 'SECONDS=5')
    assert done.returncode == 0, done.stderr
    assert (checkout / '.venv' / MARK).is_file()
    assert calls(tmp_path)[-1] == ['-m', 'yolov7_trt_ros', 'demo', '--seconds=5']
    assert make(checkout, 'clean').returncode == 0
    assert not list(checkout.rglob('__pycache__')) and (checkout / '.venv/bin/python').is_file()
    done = make(checkout, 'distclean')
    assert done.returncode == 0, done.stderr
    assert not (checkout / '.venv').exists()
    assert fingerprint(neighbours, checkout) == before
    assert not list(tmp_path.rglob('ran'))


def test_the_environment_that_recipes_see(tmp_path: Path, make: Make) -> None:
    checkout = copy_tree(tmp_path / "it's $1 \u00fc" / 'a b')
    assert make(checkout, 'venv').returncode == 0
    python = checkout / '.venv/bin/python'
    shown = '"$AMENT_PREFIX_PATH" "$PATH" "$LD_LIBRARY_PATH"'
    python.write_text(f'#!/bin/sh\nprintf "%s\\n" {shown}\n')
    odd = '/opt/own $x/bin'
    done = make(checkout, 'demo', PATH=f'{odd}:{os.environ["PATH"]}',
                LD_LIBRARY_PATH="/opt/ros/kilted/lib:/it's/lib")
    prefix, path, libraries = done.stdout.splitlines()
    assert prefix == str(checkout / '.venv')
    assert path == f'{checkout / ".venv/bin"}:{odd}:{os.environ["PATH"]}'
    assert libraries == "/it's/lib"


@pytest.mark.parametrize('source', [
    "it's.jpg", 'a b.mp4', 'pay $HOME $(x.jpg', 'q"uote.png', '#1.png', '-x.jpg', 'K\u00e4fer.jpg',
    '`touch ran`', '; touch ran', '%.jpg', '\\', '$',
])
def test_file_names_pass_through_as_they_are(tmp_path: Path, make: Make, source: str) -> None:
    checkout = copy_tree(tmp_path / 'checkout')
    assert make(checkout, 'demo', f'SOURCE={source}').returncode == 0
    assert calls(tmp_path)[-1] == ['-m', 'yolov7_trt_ros', 'demo', f'--source={source}']
    assert make(checkout, 'gpubench', f'PLAN={source}', f'PICTURES={source}').returncode == 0
    assert [call[:3] for call in calls(tmp_path)[-3:-1]] == [
        [f'benchmarks/{name}.py', f'--plan={source}', f'--pictures={source}']
        for name in ('gpu_path', 'gpu_correct')
    ]
    assert f'--model={source}' in calls(tmp_path)[-1]
    assert not list(tmp_path.rglob('ran'))


def test_names_may_come_from_the_environment(tmp_path: Path, make: Make) -> None:
    checkout = copy_tree(tmp_path / 'checkout')
    assert make(checkout, 'demo', SOURCE="it's $1.jpg").returncode == 0
    assert calls(tmp_path)[-1][-1] == "--source=it's $1.jpg"


@pytest.mark.parametrize('target', ['venv', 'demo', 'distclean'])
@pytest.mark.parametrize('kind', ['folder', 'environment', 'file', 'link'])
def test_a_foreign_venv_is_left_alone(
    tmp_path: Path, make: Make, target: str, kind: str
) -> None:
    checkout = copy_tree(tmp_path / 'checkout')
    venv = checkout / '.venv'
    mine = (tmp_path / 'elsewhere') if kind == 'link' else venv
    if kind == 'file':
        mine.write_text('mine')
    else:
        (mine / 'bin').mkdir(parents=True)
        (mine / 'bin/python').write_text('mine')
    if kind == 'environment':
        (mine / 'pyvenv.cfg').write_text('mine')
    if kind == 'link':
        venv.symlink_to(mine)
    before = fingerprint([tmp_path], tmp_path / 'log')
    done = make(checkout, '-o', 'clean', target)
    assert done.returncode != 0
    assert 'error: ' in done.stderr and 'make venv' in done.stderr
    assert fingerprint([tmp_path], tmp_path / 'log') == before


def test_an_empty_folder_and_an_interrupted_start_are_taken(tmp_path: Path, make: Make) -> None:
    checkout = copy_tree(tmp_path / 'checkout')
    (checkout / '.venv').mkdir()
    assert make(checkout, 'venv').returncode == 0
    (checkout / '.venv/bin/python').unlink()
    (checkout / '.venv/half').mkdir()
    assert make(checkout, 'venv').returncode == 0
    assert (checkout / '.venv/bin/python').is_file() and not (checkout / '.venv/half').exists()
    assert (checkout / '.venv' / MARK).is_file()


def test_an_environment_from_before_there_was_a_mark_is_ours(tmp_path: Path, make: Make) -> None:
    checkout = copy_tree(tmp_path / 'checkout')
    assert make(checkout, 'venv').returncode == 0
    (checkout / '.venv' / MARK).unlink()
    assert make(checkout, 'venv').returncode == 0
    assert (checkout / '.venv' / MARK).is_file()
    (checkout / '.venv' / MARK).unlink()
    assert make(checkout, 'distclean').returncode == 0
    assert not (checkout / '.venv').exists()


def test_jazzy_has_an_environment_of_its_own(tmp_path: Path, make: Make) -> None:
    checkout = copy_tree(tmp_path / "it's $1" / 'a b')
    done = make(checkout, 'test-jazzy', 'ARGS=-k letterbox')
    assert done.returncode == 0, done.stderr
    assert (checkout / '.venv-jazzy' / MARK).is_file() and not (checkout / '.venv').exists()
    words = [word for call in calls(tmp_path) for word in call]
    assert 'requirements/ros-jazzy.txt' in words and '4.1.1+jazzy' in words
    assert not [word for word in words if 'kilted' in word]
    assert calls(tmp_path)[-1] == [
        '-m', 'pytest', '-n', 'auto', '--maxprocesses', '8', '--dist', 'loadfile',
        '-k', 'letterbox',
    ]
    python = checkout / '.venv-jazzy/bin/python'
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$AMENT_PREFIX_PATH" "$PATH"\n')
    done = make(checkout, 'test-jazzy')
    assert done.stdout.splitlines()[0] == str(python.parents[1])
    assert done.stdout.splitlines()[1].startswith(f'{python.parent}:')
    assert make(checkout, 'venv').returncode == 0
    assert make(checkout, 'distclean').returncode == 0
    assert not list(checkout.glob('.venv*'))


def test_jazzy_and_other_targets_do_not_go_together(tmp_path: Path, make: Make) -> None:
    checkout = copy_tree(tmp_path / 'checkout')
    done = make(checkout, 'check', 'test-jazzy')
    assert done.returncode != 0 and 'make check; make test-jazzy' in done.stderr
    assert not list(checkout.glob('.venv*'))


def test_a_foreign_environment_for_jazzy_is_left_alone(tmp_path: Path, make: Make) -> None:
    checkout = copy_tree(tmp_path / 'checkout')
    (checkout / '.venv-jazzy').mkdir()
    (checkout / '.venv-jazzy/mine').write_text('mine')
    done = make(checkout, 'test-jazzy')
    assert done.returncode != 0 and 'a .venv-jazzy here that make venv has not made' in done.stderr
    assert make(checkout, 'venv').returncode == 0
    done = make(checkout, 'distclean')
    assert done.returncode != 0 and 'rm -rf .venv-jazzy' in done.stderr
    assert not (checkout / '.venv').exists()
    assert (checkout / '.venv-jazzy/mine').read_text() == 'mine'


@pytest.mark.parametrize('name', ['.aarch64', '.cyclonedds', '.venv-sourced'])
def test_what_a_script_made_is_removed_only_with_its_mark(
    tmp_path: Path, make: Make, name: str
) -> None:
    checkout = copy_tree(tmp_path / 'checkout')
    system = checkout / name
    (system / 'root').mkdir(parents=True)
    assert make(checkout, 'clean').returncode == 0
    done = make(checkout, 'distclean')
    assert done.returncode != 0 and f'rm -rf {name}' in done.stderr and system.is_dir()
    (system / MARK).touch()
    assert make(checkout, 'distclean').returncode == 0 and not system.exists()


def test_clean_leaves_what_it_did_not_make(tmp_path: Path, make: Make) -> None:
    checkout = copy_tree(tmp_path / 'checkout')
    ours = ('build/lib/x', 'build/bdist.linux-x86_64/x', '.pytest_cache/x',
            'dist/yolov7_trt_ros-1.whl', 'yolov7_trt_ros.egg-info/PKG-INFO',
            '.cache/interface_wheels/x')
    others = ('build/mine', 'dist/other.whl', '.cache/mine', 'my env/__pycache__/x', 'out/x')
    for name in (*ours, *others):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text('x')
    assert make(checkout, 'clean').returncode == 0
    assert [name for name in ours if (checkout / name).exists()] == []
    assert [name for name in others if not (checkout / name).exists()] == []


def test_nothing_is_done_outside_a_checkout(tmp_path: Path, make: Make) -> None:
    (tmp_path / 'work/build').mkdir(parents=True)
    (tmp_path / 'work/dist').mkdir()
    done = make(tmp_path / 'work', '-f', str(REPOSITORY / 'Makefile'), 'clean')
    assert done.returncode != 0 and 'make -C' in done.stderr
    assert (tmp_path / 'work/build').is_dir()


def test_what_no_path_can_hold_is_said_before_anything_is_done(
    tmp_path: Path, make: Make
) -> None:
    checkout = copy_tree(tmp_path / 'a:b')
    done = make(checkout, 'venv')
    assert done.returncode != 0 and 'colon' in done.stderr
    assert not (checkout / '.venv').exists() and not (tmp_path / 'log').exists()
    assert make(checkout, 'clean').returncode == 0


def test_what_setuptools_misreads_is_said_before_anything_is_done(tmp_path: Path) -> None:
    checkout = copy_tree(tmp_path / 'pay $HOME')
    done = subprocess.run(
        ['make', 'venv', f'PYTHON={sys.executable}'], cwd=checkout, capture_output=True, text=True,
        check=False,
    )
    assert done.returncode != 0 and 'a dollar before a letter' in done.stderr
    assert not (checkout / '.venv').exists()


@pytest.mark.parametrize('name', ['a b', 'a "q" b', 'pay $1 now', '`touch ran` b', "it's b"])
def test_scripts_of_an_environment_run_from_a_folder_of_any_name(
    tmp_path: Path, name: str
) -> None:
    """The lines are those that pip 23 and 24 write where a path has blanks."""
    folder = tmp_path / name / 'bin'
    folder.mkdir(parents=True)
    (folder / 'python').symlink_to(sys.executable)
    (folder.parent / 'pyvenv.cfg').write_text(f'home = {Path(sys.executable).parent}\n')
    script = folder / 'tool'
    script.write_text(
        f"#!/bin/sh\n'''exec' \"{folder}/python\" \"$0\" \"$@\"\n' '''\n"
        'import sys\nprint("ran", sys.argv[1:])\n'
    )
    script.chmod(0o755)
    subprocess.run(
        [folder / 'python', REPOSITORY / 'tools/relative_launchers.py'], check=True, cwd=tmp_path
    )
    done = subprocess.run(
        [script, 'a b'], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout == "ran ['a b']\n"
    assert not list(tmp_path.rglob('ran'))
