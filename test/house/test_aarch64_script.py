"""tools/test_aarch64.sh: what it lacks, and which folders it fills. Nothing is emulated here."""

from __future__ import annotations

import os
from pathlib import Path
import shutil
import signal
import subprocess

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / 'tools' / 'test_aarch64.sh'
MARK = '.made_by_yolov7_trt_ros'
USED = ('bash', 'dirname', 'grep', 'ls', 'mkdir')
READY = 'enabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: F\n'


class Host:
    """A machine of stubs: whose user it is, what is installed, what the kernel can start."""

    def __init__(self, folder: Path) -> None:
        self.programs = folder / 'bin'
        self.programs.mkdir()
        for name in USED:
            (self.programs / name).symlink_to(str(shutil.which(name)))
        self.binfmt = folder / 'binfmt_misc'
        self.binfmt.mkdir()
        self.target = folder / "it's a place" / 'arm'
        self.install('id', 'echo 0')
        self.install('uname', 'echo x86_64')
        self.install('debootstrap')
        self.install('unshare')
        self.install('setpriv', f'printf "%s\\n" "$@" > "{folder}/unshared"')
        self.unshared = folder / 'unshared'
        (self.binfmt / 'qemu-aarch64').write_text(READY)

    def install(self, name: str, does: str = 'true') -> None:
        (self.programs / name).write_text(f'#!{shutil.which("sh")}\n{does}\n')
        (self.programs / name).chmod(0o755)

    def run(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(SCRIPT)], capture_output=True, text=True, check=False,
            env={'PATH': str(self.programs), 'AARCH64_FOLDER': str(self.target),
                 'BINFMT': str(self.binfmt)},
        )


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_all_that_is_lacking_is_said_before_anything_is_done(host: Host) -> None:
    host.install('id', 'echo 1000')
    (host.programs / 'debootstrap').unlink()
    (host.binfmt / 'qemu-aarch64').unlink()
    done = host.run()
    assert done.returncode == 1 and done.stdout == ''
    for said in ("root's rights", 'apt-get install -y debootstrap', 'qemu-user-static',
                 'mount -t binfmt_misc', 'update-binfmts --enable qemu-aarch64'):
        assert said in done.stderr
    assert not host.target.parent.exists() and not host.unshared.exists()


@pytest.mark.parametrize('registered', [
    READY.replace('enabled', 'disabled'), READY.replace('flags: F', 'flags: P'), '',
])
def test_an_emulator_that_does_not_reach_into_the_folder_is_lacking(
    host: Host, registered: str
) -> None:
    (host.binfmt / 'qemu-aarch64').write_text(registered)
    done = host.run()
    assert done.returncode == 1 and 'programs of aarch64 do not start' in done.stderr
    assert "root's" not in done.stderr and 'apt-get install -y debootstrap' not in done.stderr
    assert not host.target.parent.exists()


def test_an_aarch64_machine_needs_no_emulator(host: Host) -> None:
    (host.binfmt / 'qemu-aarch64').unlink()
    host.install('uname', 'echo aarch64')
    assert host.run().returncode == 0


def test_it_works_in_a_namespace_of_its_own_and_marks_its_folder(host: Host) -> None:
    assert host.run().returncode == 0
    assert (host.target / MARK).is_file()
    words = host.unshared.read_text().splitlines()
    assert words[:-2] == ['--pdeathsig', 'KILL', 'unshare', '--mount', '--propagation', 'private',
                          '--pid', '--fork', '--kill-child', '--mount-proc']
    assert host.run().returncode == 0  # the folder is taken again


@pytest.mark.parametrize('content', ['root', '.hidden', 'system.stamp'])
def test_a_folder_of_somebody_else_is_left_alone(host: Host, content: str) -> None:
    (host.target / content).mkdir(parents=True)
    done = host.run()
    assert done.returncode == 1 and 'AARCH64_FOLDER=' in done.stderr
    assert os.listdir(host.target) == [content] and not host.unshared.exists()


NAMESPACE = ('unshare', '--mount', '--pid', '--fork', 'true')
CANNOT = subprocess.run(NAMESPACE, capture_output=True, check=False).returncode


@pytest.mark.skipif(CANNOT != 0, reason='no namespace can be made here')
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_what_it_has_started_ends_with_it_and_no_mount_stays(
    host: Host, number: signal.Signals
) -> None:
    (host.programs / 'unshare').unlink()
    (host.programs / 'setpriv').unlink()
    here = '"$(dirname "$0")"'
    made = 'case "$6" in *[[:space:]]*) exit 1;; esac; touch "$6/made"'
    host.install('debootstrap', f'{made}; mount -t tmpfs tmpfs {here}; echo begun >&2; sleep 600')
    script = subprocess.Popen(
        [str(SCRIPT)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={'PATH': f'{host.programs}:{os.environ["PATH"]}', 'AARCH64_FOLDER': str(host.target),
             'BINFMT': str(host.binfmt), 'PLACE': str(host.programs / 'place')},
    )
    assert script.stderr is not None and script.stderr.readline() == 'begun\n'
    script.send_signal(number)
    script.stderr.read()  # ends when nobody has it open any more
    assert script.wait() == -number
    assert (host.target / 'root' / 'made').is_file()
    assert str(host.programs) not in Path('/proc/mounts').read_text()
