"""The socket of the power service: who may use it, what is replaced, and hostile clients."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import dataclasses
import grp
import json
import os
from pathlib import Path
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from typing import Any

from board_tools import current_mode
from changed_boards import settings
from power_host import client_of, Log, SERVE, serving, TOOL_LIMIT_S
import pytest

from yolov7_trt_ros.emulated_board.board import create_board, EmulatedBoard
from yolov7_trt_ros.emulated_board.machine import board_host
from yolov7_trt_ros.errors import PowerError, PowerPermissionError
from yolov7_trt_ros.power.board_control import open_control
from yolov7_trt_ros.power.control import PowerControl
from yolov7_trt_ros.power.service import socket_files as service_socket
from yolov7_trt_ros.power.service.power_service import MOST_SESSIONS
from yolov7_trt_ros.power.service.socket_files import find_socket, group_id, open_listener
from yolov7_trt_ros.power.service.values import LONGEST_REQUEST_BYTES

NOBODY, GROUP, OTHER_GROUP = 54321, 54322, 54323
BEGIN = {'verb': 'begin', 'arguments': [1, 'test', False, 20]}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason='needs root to become another user')

# What another user of the machine gets: the mode, or why not.
ASK = """
import os, sys
from pathlib import Path
from yolov7_trt_ros.errors import PowerError
from yolov7_trt_ros.power.service.remote_control import RemoteControl
os.setgroups([int(number) for number in sys.argv[3:]])
os.setgid(int(sys.argv[2]))
os.setuid(54321)
try:
    control = RemoteControl(Path(sys.argv[1]), timeout_s=600.0)
    control.set_mode('15W')
    control.restore()
    print(control.current_mode().name)
except PowerError as exc:
    print(type(exc).__name__, exc)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / 'power.sock'


@dataclasses.dataclass(frozen=True)
class Host:
    board: EmulatedBoard
    path: Path
    log: Log


@contextlib.contextmanager
def service(line_timeout_s: float) -> Iterator[Host]:
    with (
        tempfile.TemporaryDirectory() as folder,
        create_board('orin_nano_super', Path(folder)) as board,
        serving(board, Path(folder) / 'power.sock', line_timeout_s=line_timeout_s) as log,
    ):
        yield Host(board, Path(folder) / 'power.sock', log)


@contextlib.contextmanager
def outlived(service: Host) -> Iterator[Host]:
    """Give the service; afterwards it lives, and its board is as it was."""
    before = settings(service.board)
    service.log.clear()
    yield service
    assert settings(service.board) == before
    assert any(serves(service.path) for _ in range(1000))


@pytest.fixture(scope='module')
def served() -> Iterator[Host]:
    """Serve hostile clients one after the other, with more patience than a busy machine needs."""
    with service(600.0) as host:
        yield host


@pytest.fixture(scope='module')
def served_in_haste() -> Iterator[Host]:
    """Serve with little patience those who are to be cut off."""
    with service(1.0) as host:
        yield host


@pytest.fixture
def host(served: Host) -> Iterator[Host]:
    with outlived(served) as host:
        yield host


@pytest.fixture
def hasty(served_in_haste: Host) -> Iterator[Host]:
    with outlived(served_in_haste) as host:
        yield host


class Raw:
    """A client that sends whatever it likes."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(str(path))
        self._file = self.socket.makefile('rb')

    def send(self, data: object) -> None:
        raw = data if isinstance(data, bytes) else json.dumps(data).encode() + b'\n'
        with contextlib.suppress(OSError):  # the service need not read to the end
            self.socket.sendall(raw)

    def reply(self) -> dict[str, Any]:
        """Return the next reply; {} at the end of the connection."""
        with contextlib.suppress(ConnectionResetError):
            line = self._file.readline()
            result: dict[str, Any] = json.loads(line) if line else {}
            return result
        return {}

    def ask(self, data: object) -> dict[str, Any]:
        self.send(data)
        return self.reply()

    def close(self) -> None:
        self._file.close()
        self.socket.close()


@contextlib.contextmanager
def client(path: Path, *, begun: bool = True) -> Iterator[Raw]:
    raw = Raw(path)
    try:
        if begun:
            assert raw.ask(BEGIN)['ok'] is True
        yield raw
    finally:
        raw.close()


def serves(path: Path) -> bool:
    """Whether a client is served; not while the threads of a crowd have yet to end."""
    try:
        control = client_of(path)
    except PowerError:
        return False
    try:
        return 'Orin' in control.board().name
    finally:
        control.close()


# Hostile clients


def _short(data: object) -> str:
    return ascii(data)[:40]


@pytest.mark.parametrize('data', [
    b'\n', b'{\n', b'[]\n', b'7\n', b'null\n', b'\x00\xff\xfe\n', b'{"verb": "state"}\n',
    b'[' * (LONGEST_REQUEST_BYTES - 1) + b'\n', b'1' * (LONGEST_REQUEST_BYTES - 1) + b'\n',
    {'verb': 'state', 'arguments': []}, {'verb': 'begin', 'arguments': []},
    {'verb': 'begin', 'arguments': [2, 'test', False, 20]},
    {'verb': 'begin', 'arguments': [1, 'evil\n\x1b[2J', False, 20]},
    {'verb': 'begin', 'arguments': [1, 'x' * 99, False, 20]},
    {'verb': 'begin', 'arguments': [1, 'test', 0, 20]},
    {'verb': 'begin', 'arguments': [1, 'test', False, 1e9]},
    {'verb': 'begin', 'arguments': [1, 'test', False, 20], 'path': '/etc/shadow'},
    b'{"verb": "begin", "arguments": [1, "test", false, NaN]}\n',
    b'x' * (LONGEST_REQUEST_BYTES + 1), b'y' * 10_000_000,
], ids=_short)
def test_what_is_no_beginning_is_answered_once_and_the_connection_ended(
    host: Host, data: object
) -> None:
    with client(host.path, begun=False) as raw:
        reply = raw.ask(data)
        assert reply == {} or reply['ok'] is False
        assert raw.reply() == {}


@pytest.mark.parametrize('data', [
    {'verb': '__class__', 'arguments': []}, {'verb': 'run', 'arguments': ['/bin/sh']},
    {'verb': 'privileged_commands', 'arguments': []}, {'verb': 'begin', 'arguments': [1]},
    {'verb': 'set_mode', 'arguments': []}, {'verb': 'set_mode', 'arguments': ['0', '2']},
    {'verb': ['set_mode'], 'arguments': ['0']}, {'verb': 'set_mode', 'arguments': '0'},
    {'verb': None, 'arguments': None}, b'\xff\n',
    b'{"verb": "set_mode", ' + b' ' * LONGEST_REQUEST_BYTES,
], ids=_short)
def test_an_unknown_verb_or_a_spoilt_line_ends_the_connection(
    host: Host, data: object
) -> None:
    with client(host.path) as raw:
        assert raw.ask(data)['ok'] is False and raw.reply() == {}


@pytest.mark.parametrize(('verb', 'arguments'), [
    ('set_mode', ['../../../etc/passwd']), ('set_mode', ['0; reboot']), ('set_mode', ['']),
    ('set_mode', ['\n']), ('set_mode', [0]), ('set_mode', [None]), ('set_mode', ['--force']),
    ('set_mode', ['x' * 500]), ('set_mode', [['0']]),
    ('set_max_frequency', ['/sys/power/state', 1.0]), ('set_max_frequency', ['gpu', '612']),
    ('set_max_frequency', ['gpu', True]), ('set_max_frequency', ['gpu', -5]),
    ('set_max_frequency', ['gpu', 0]), ('set_max_frequency', ['gpu', 10**30]),
    ('hold_frequency', ['gpu', 612, 'yes']), ('hold_frequency', [[], {}, 1]),
    ('set_jetson_clocks', ['on']), ('set_jetson_clocks', [1]), ('set_fan_profile', ['cool']),
])
def test_a_wrong_argument_is_refused_and_changes_nothing(
    host: Host, verb: str, arguments: list[object]
) -> None:
    with client(host.path) as raw:
        assert raw.ask({'verb': verb, 'arguments': arguments})['ok'] is False
        assert raw.ask({'verb': 'state', 'arguments': []})['state']['changed'] == []


@pytest.mark.parametrize('data', [b'{"verb": ', b'{"verb": "set_mode", "arguments": ["0"]'])
def test_a_slow_sender_is_cut_off(hasty: Host, data: bytes) -> None:
    with client(hasty.path, begun=False) as silent, client(hasty.path) as slow:
        slow.send(data)
        assert slow.reply()['error'] == 'PowerTimeoutError' and slow.reply() == {}
        assert silent.reply()['error'] == 'PowerTimeoutError' and silent.reply() == {}


def test_who_reads_no_replies_is_cut_off(hasty: Host) -> None:
    with client(hasty.path) as raw:
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        raw.socket.settimeout(600)
        with contextlib.suppress(ConnectionError):
            while True:
                raw.socket.sendall(b'{"verb": "modes", "arguments": []}\n')
        hasty.log.wait_for('the connection broke: timed out')


def test_several_requests_in_one_piece_are_answered_one_by_one(host: Host) -> None:
    line = json.dumps({'verb': 'state', 'arguments': []}).encode() + b'\n'
    with client(host.path) as raw:
        raw.send(line * 3 + line[:10])
        assert [raw.reply()['ok'] for _ in range(3)] == [True] * 3
        raw.send(line[10:])
        assert raw.reply()['ok'] is True


def test_a_hundred_connections_at_once_leave_the_first_client_alone(host: Host) -> None:
    for thread in threading.enumerate():
        if thread.name == 'power_session':  # of the tests before, whose clients have gone
            thread.join(TOOL_LIMIT_S)
    control = client_of(host.path)
    control.set_mode('15W')
    crowd = [Raw(host.path) for _ in range(100)]
    replies = [raw.ask(BEGIN) for raw in crowd]
    taken = sum(reply.get('ok') is True for reply in replies)
    assert taken == MOST_SESSIONS - 3
    with pytest.raises(PowerError, match=f'{MOST_SESSIONS} clients are connected already'):
        client_of(host.path)
    assert control.current_mode().name == '15W' and control.changed == ('power_mode',)
    assert len([line for line in host.log if line.startswith('refused')]) < 20
    for raw in crowd:
        raw.close()
    control.restore()
    control.close()


def test_changes_of_many_clients_at_once_come_one_after_the_other(host: Host) -> None:
    outcomes: list[str] = []

    def change(mhz: float) -> None:
        control = client_of(host.path)
        try:
            outcomes.append(f'{control.set_max_frequency("gpu", mhz):g}')
            control.restore()
        except PowerError as exc:
            outcomes.append('refused' if 'another process changes' in str(exc) else str(exc))
        control.close()

    threads = [threading.Thread(target=change, args=(mhz,)) for mhz in (408, 510, 612)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(outcomes) <= {'408', '510', '612', 'refused'} and len(outcomes) == 3
    assert set(outcomes) != {'refused'}


# Who may use it


@needs_root
def test_the_group_of_the_socket_may_use_it_and_nobody_else(
    orin: EmulatedBoard, path: Path
) -> None:
    path.parent.chmod(0o755)
    with serving(orin, path, group=GROUP) as log:
        found = path.stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, GROUP, 0o660)
        assert _ask(path, GROUP) == '25W'
        assert _ask(path, OTHER_GROUP, GROUP) == '25W'
        assert any(f'uid {NOBODY} (yolov7_trt power)' in line for line in log)
        assert _ask(path, OTHER_GROUP).startswith('PowerPermissionError')
        path.chmod(0o666)  # somebody helped
        assert 'only root and the group of the socket' in _ask(path, OTHER_GROUP)
        assert _ask(path, GROUP) == '25W'


@needs_root
def test_without_a_group_it_is_for_root_alone(orin: EmulatedBoard, path: Path) -> None:
    path.parent.chmod(0o755)
    with serving(orin, path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert _ask(path, GROUP).startswith('PowerPermissionError')
        assert serves(path)


@needs_root
def test_groups_are_told_by_the_process_where_the_kernel_cannot(
    orin: EmulatedBoard, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.chmod(0o755)
    monkeypatch.setattr(service_socket, '_SO_PEERGROUPS', 9999)
    with serving(orin, path, group=GROUP):
        assert _ask(path, OTHER_GROUP, GROUP) == '25W'
        path.chmod(0o666)
        assert 'only root and the group' in _ask(path, OTHER_GROUP)


def _ask(path: Path, *groups: int) -> str:
    done = subprocess.run(
        [sys.executable, '-c', ASK, str(path), *map(str, groups)], capture_output=True, text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# What is replaced


def listen(path: Path) -> None:
    with open_listener(path, None, {}) as listener:
        assert listener.path == str(path) and path.is_socket()


@pytest.mark.parametrize('kind', ['file', 'link', 'broken link', 'folder', 'socket', 'answering'])
def test_what_is_not_its_own_is_never_replaced(path: Path, kind: str) -> None:
    target = path.with_name('target')
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        if kind == 'file':
            path.write_text('mine')
        elif 'link' in kind:
            if kind == 'link':
                target.write_text('mine')
            path.symlink_to(target)
        elif kind == 'folder':
            path.mkdir()
        else:
            other.bind(str(path))
        if kind == 'answering':
            other.listen()
        found = os.lstat(path)
        with pytest.raises(PowerError, match='was not made by this power service'):
            listen(path)
        assert os.lstat(path) == found
    assert not path.with_name('power.sock.new').exists()


def test_its_own_stale_socket_is_replaced(path: Path, orin: EmulatedBoard) -> None:
    process = subprocess.Popen(
        [sys.executable, '-c', SERVE, str(orin.root.parent), str(path)], text=True,
        stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == f'listening at {path} for root\n'
    with pytest.raises(PowerError, match='another power service listens at'):
        listen(path)
    process.kill()
    process.communicate()
    assert path.is_socket()
    listen(path)
    assert not path.exists()
    listen(path)  # with the lock of before


def test_a_socket_that_took_the_place_of_its_own_is_left(path: Path) -> None:
    with open_listener(path, None, {}), socket.socket(socket.AF_UNIX) as other:
        path.unlink()
        other.bind(str(path))
    assert path.is_socket()


@pytest.mark.parametrize('mode', [0o777, 0o1777, 0o770])
def test_a_folder_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / 'open'
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(PowerPermissionError, match='may be written by others'):
        listen(folder / 'power.sock')
    with pytest.raises(PowerPermissionError, match='cannot listen'):
        listen(tmp_path / 'none' / 'power.sock')
    with pytest.raises(PowerPermissionError, match='cannot listen'):
        listen(tmp_path / ('x' * 200))


def test_a_lock_that_is_a_link_is_not_followed(path: Path) -> None:
    target = path.with_name('target')
    target.write_text('mine')
    path.with_name('power.sock.lock').symlink_to(target)
    with pytest.raises(PowerPermissionError):
        listen(path)
    assert target.read_text() == 'mine'


def test_a_socket_of_systemd_is_used_and_left(path: Path, orin: EmulatedBoard) -> None:
    program = f"""
import os, socket, sys
listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listening.bind(sys.argv[3])
os.chmod(sys.argv[3], 0o600)
listening.listen()
os.dup2(listening.fileno(), 3)
os.set_inheritable(3, True)
os.environ |= {{'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1'}}
os.execv(sys.executable, [sys.executable, '-c', {SERVE!r}, sys.argv[1], sys.argv[2]])
"""
    own = path.with_name('own.sock')
    process = subprocess.Popen(
        [sys.executable, '-c', program, str(orin.root.parent), str(own), str(path)],
        stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert f'listening at {path}' in process.stdout.readline()
    assert serves(path) and not own.exists()
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 0 and path.is_socket() and current_mode(orin) == 1


def test_which_socket_a_client_finds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = service_socket.SOCKET_VARIABLE
    monkeypatch.setattr(service_socket, 'DEFAULT_SOCKET', path)
    assert find_socket({}) is None
    path.write_text('')
    assert find_socket({}) is None
    path.unlink()
    with open_listener(path, None, {}):
        assert find_socket({}) == path
        assert find_socket({variable: ''}) is None


@pytest.mark.parametrize('name', ['nothing', './nothing', 'a_file', '.', '/dev/null'])
def test_a_named_socket_that_is_none_is_reported(
    name: str, orin: EmulatedBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(orin.root)
    Path('a_file').write_text('')
    lines: list[str] = []
    host, environment = board_host(orin), {service_socket.SOCKET_VARIABLE: name}
    control = open_control(
        host.root, host.runner, timeout_s=TOOL_LIMIT_S, socket=find_socket(environment),
        report=lines.append,
    )
    assert isinstance(control, PowerControl)
    control.close()
    assert len(lines) == 1 and f'nobody answers at {Path(name)} ' in lines[0]


def test_groups_by_name_and_number() -> None:
    first = grp.getgrall()[0]
    assert group_id(first.gr_name) == group_id(str(first.gr_gid)) == first.gr_gid
    with pytest.raises(PowerError, match='no group'):
        group_id('nosuchgroup')
