"""tools/test_sourced_ros.sh: what it lacks, what folder it fills, what it runs. Python is fake."""

from __future__ import annotations

import os
from pathlib import Path
import shutil
import subprocess
import sys

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / 'tools' / 'test_sourced_ros.sh'
MARK = '.made_by_yolov7_trt_ros'
USED = ('bash', 'cat', 'cp', 'dirname', 'ls', 'mkdir', 'rm')
STUB = """#!{shell}
echo "$@" >> "{log}"
case "$1 $2" in
"- "*) {check} ;;
"-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
"-c import numpy"*) echo 'numpy<2' ;;
esac
"""


class Shell:
    """A shell that has sourced a ROS 2, with a Python that notes what it is to do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.target = folder / "it's a place" / 'venv'
        self.log = folder / 'calls.txt'
        self.programs = folder / 'bin'
        self.programs.mkdir()
        for name in USED:
            (self.programs / name).symlink_to(str(shutil.which(name)))
        self.environment = {
            'PATH': str(self.programs), 'SOURCED_FOLDER': str(self.target),
            'AMENT_PREFIX_PATH': '/opt/ros/humble', 'ROS_DISTRO': 'humble',
        }
        self.install_python('exit 0')

    def install_python(self, check: str) -> None:
        program = self.programs / 'python3'
        program.write_text(STUB.format(shell=shutil.which('sh'), log=self.log, check=check))
        program.chmod(0o755)

    def run(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(SCRIPT)], capture_output=True, text=True, check=False,
            env=self.environment | environment,
        )

    def calls(self) -> list[str]:
        """Return what the stub was called with, and forget it."""
        lines = self.log.read_text().splitlines()
        self.log.unlink()
        return lines


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_a_shell_without_ros_is_refused(shell: Shell) -> None:
    done = shell.run(AMENT_PREFIX_PATH='')
    assert done.returncode == 1 and 'source /opt/ros/humble/setup.bash' in done.stderr
    assert not shell.target.parent.exists() and not shell.log.exists()


def test_a_python_that_is_not_there_is_named(shell: Shell) -> None:
    done = shell.run(PYTHON='python3.99')
    assert done.returncode == 1 and 'python3.99: name the Python' in done.stderr
    assert not shell.target.parent.exists()


def test_each_package_that_is_lacking_is_named(shell: Shell) -> None:
    shell.install_python(f'exec "{sys.executable}" -I -S "$@"')  # which finds no packages
    done = shell.run()
    assert done.returncode == 1 and not shell.target.parent.exists()
    for name in ('rclpy', 'vision-msgs', 'launch-ros'):
        assert f'apt-get install -y ros-humble-{name} (' in done.stderr


@pytest.mark.parametrize('content', ['venv', '.hidden', 'made_for.txt'])
def test_a_folder_of_somebody_else_is_left_alone(shell: Shell, content: str) -> None:
    (shell.target / content).mkdir(parents=True)
    done = shell.run()
    assert done.returncode == 1 and 'SOURCED_FOLDER=' in done.stderr
    assert os.listdir(shell.target) == [content]


def test_it_marks_its_folder_and_fills_it_once(shell: Shell) -> None:
    done = shell.run()
    assert done.returncode == 0, done.stderr
    assert (shell.target / MARK).is_file()
    requirements = f'-r {SCRIPT.parents[1]}/requirements/dev.txt'
    calls = shell.calls()
    assert any(requirements in each and 'constraints.txt' in each for each in calls)
    assert (shell.target / 'constraints.txt').read_text() == 'numpy<2\n'
    assert calls[-1].startswith('-m pytest ') and ' test/nodes test/replay ' in calls[-1]
    assert shell.run(ARGS='test/nodes -x').returncode == 0
    calls = shell.calls()
    assert not any(requirements in each for each in calls)
    assert calls[-1] == '-m pytest -p no:cacheprovider test/nodes -x'


def test_another_ros_gets_a_new_environment(shell: Shell) -> None:
    assert shell.run().returncode == 0
    shell.calls()
    assert shell.run(AMENT_PREFIX_PATH='/opt/ros/jazzy').returncode == 0
    assert any('requirements/dev.txt' in each for each in shell.calls())
