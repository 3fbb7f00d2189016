"""The two hosts of benchmarks/two_hosts.py: apart but for their cable, and gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator
import os
from pathlib import Path
import subprocess
import sys

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / 'benchmarks' / 'two_hosts.py'
NAMESPACES = Path('/run/netns')
SEND = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.sendto(b'image', ('198.18.7.2', 7400))
"""
RECEIVE = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
    receiver.bind(('', 7400))
    print('ready', flush=True)
    print(receiver.recv(100).decode(), flush=True)
"""
pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='namespaces are of Linux')


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Return benchmarks/hosts.py where namespaces can be made; skips the test elsewhere."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import hosts

    try:
        with hosts.Hosts(mbit_s=100):
            pass
    except hosts.HostsError as exc:
        pytest.skip(str(exc))
    yield hosts


def test_datagrams_and_memory_of_two_hosts(module: object) -> None:
    before = set(NAMESPACES.iterdir())
    with module.Hosts(mbit_s=100) as both:
        command = both.command('detector', [sys.executable, '-c', RECEIVE])
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as receiver:
            assert receiver.stdout.readline() == 'ready\n'
            send = both.command('camera', [sys.executable, '-c', SEND])
            subprocess.run(send, check=True)
            assert receiver.stdout.readline() == 'image\n'
        assert both.received()['packets'] > 0
        subprocess.run(both.command('camera', ['touch', '/dev/shm/of_camera']), check=True)
        for host, names in (('camera', 'of_camera\n'), ('detector', '')):
            listed = subprocess.check_output(both.command(host, ['ls', '/dev/shm']), text=True)
            assert listed == names
        both.plug(plugged=False)
        done = subprocess.run(send, capture_output=True, text=True, check=False)
        assert 'unreachable' in done.stderr
    assert set(NAMESPACES.iterdir()) == before and not Path('/dev/shm/of_camera').exists()


def test_what_killed_runs_left_is_removed_and_nothing_else(module: object) -> None:
    gone = subprocess.Popen(['true'])
    gone.wait()
    left = f'{module.PREFIX}-{gone.pid}-camera'
    others = [f'{module.PREFIX}-{os.getppid()}-camera', f'of-others-{os.getpid()}']
    try:
        for name in (left, *others):
            subprocess.run(['ip', 'netns', 'add', name], check=True)
        module.remove_left_over()
        assert not (NAMESPACES / left).exists()
        assert all((NAMESPACES / name).exists() for name in others)
    finally:
        for name in (left, *others):
            subprocess.run(['ip', 'netns', 'delete', name], check=False, capture_output=True)


def test_without_the_tool_or_the_right_it_says_what_is_needed(tmp_path: Path) -> None:
    environment = {**os.environ, 'PATH': str(tmp_path)}
    for text, expected in (
        (None, 'error: no command ip here: sudo apt-get install -y iproute2\n'),
        ('#!/bin/sh\necho "Operation not permitted" >&2; exit 1\n', 'Operation not permitted'),
    ):
        if text:
            (tmp_path / 'ip').write_text(text)
            (tmp_path / 'ip').chmod(0o755)
        done = subprocess.run([sys.executable, SCRIPT, '-o', tmp_path / 'result.json'],
                              env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 1 and expected in done.stderr
        assert 'Traceback' not in done.stderr
    assert 'root' in done.stderr and not (tmp_path / 'result.json').exists()
