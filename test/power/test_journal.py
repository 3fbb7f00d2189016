"""The journal: on the disk before the first change, and enough to put all back after a SIGKILL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import json
import os
from pathlib import Path
import resource
import shutil
import subprocess
import sys

from changed_boards import control_of, Make, ORIN_GPU, replace_tool, settings
from power_host import PatientRunner
import pytest

from yolov7_trt_ros.emulated_board.board import EmulatedBoard
from yolov7_trt_ros.errors import PowerError
from yolov7_trt_ros.power.changes.journal import Journal, MAX_BYTES, Owner
from yolov7_trt_ros.power.changes.records import LimitsRecord, LockRecord, ModeRecord, Record
from yolov7_trt_ros.power.clocks.clock_files import ClockLimits

JOURNAL = 'run/yolov7_trt_ros/power.json'
RECORDS: dict[str, Record] = {
    'power_mode': ModeRecord(1, (2,)),
    'gpu_max_frequency': LimitsRecord(1, {'/sys/a/max_freq': ClockLimits(1, 2)}),
    'jetson_clocks': LockRecord(False),
}


BOOT_ID = 'proc/sys/kernel/random/boot_id'
BOOTS = ('11111111-2222-3333-4444-555555555555', '99999999-8888-7777-6666-555555555555')


@pytest.fixture(autouse=True)
def booted(tmp_path: Path) -> None:
    boot(tmp_path, BOOTS[0])


def boot(root: Path, boot_id: str) -> None:
    (root / BOOT_ID).parent.mkdir(parents=True, exist_ok=True)
    (root / BOOT_ID).write_text(f'{boot_id}\n')


def journal_of(root: Path) -> Journal:
    return Journal(root, is_root=True, program='test')


def leave_behind(root: Path, *, is_root: bool = True) -> Path:
    """Write a journal and end without putting anything back; returns its path."""
    journal = Journal(root, is_root=is_root, program='test')
    journal.acquire()
    journal.write(RECORDS)
    journal.close()
    return journal.path


def written(root: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((root / JOURNAL).read_text())
    return found


# The file


def test_what_is_written_is_read_in_its_order_by_the_next(tmp_path: Path) -> None:
    journal = journal_of(tmp_path)
    assert journal.acquire() == {}
    journal.write(RECORDS)
    journal.close()
    later = journal_of(tmp_path)
    assert list(later.acquire().items()) == list(RECORDS.items())
    assert later.problem == '' and written(tmp_path)['format'] == 1
    later.write({})
    assert not (tmp_path / JOURNAL).exists()


@contextmanager
def other_process(root: Path, records: str = '{}') -> Iterator[int]:
    """Let another process have the journal, with records if given; yields its pid."""
    program = (
        'import sys; from pathlib import Path\n'
        'from yolov7_trt_ros.power.changes.journal import Journal\n'
        'from yolov7_trt_ros.power.changes.records import LockRecord\n'
        'journal = Journal(Path(sys.argv[1]), is_root=True, program="power node")\n'
        f'journal.acquire(); journal.write({records}); print(flush=True); sys.stdin.read()'
    )
    process = subprocess.Popen(
        [sys.executable, '-c', program, str(root)], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stdin is not None
    process.stdout.readline()
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_a_second_process_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    with other_process(tmp_path) as pid, pytest.raises(
        PowerError, match=rf'\(pid {pid}, power node; its journal'
    ):
        journal_of(tmp_path).acquire()
    assert journal_of(tmp_path).acquire() == {}


def test_a_deleted_lock_lets_nobody_in(tmp_path: Path) -> None:
    with other_process(tmp_path, '{"jetson_clocks": LockRecord(False)}') as pid:
        for _ in range(2):
            (tmp_path / JOURNAL).with_suffix('.lock').unlink()
            with pytest.raises(PowerError, match=rf'\(pid {pid}, power node; its journal'):
                journal_of(tmp_path).acquire()
    assert journal_of(tmp_path).acquire() == {'jetson_clocks': LockRecord(False)}


def test_whose_lock_was_deleted_takes_it_again_or_changes_nothing(tmp_path: Path) -> None:
    journal = journal_of(tmp_path)
    journal.acquire()
    shutil.rmtree(tmp_path / 'run')
    journal.write(RECORDS)
    with pytest.raises(PowerError, match=f'pid {os.getpid()}'):
        journal_of(tmp_path).acquire()
    shutil.rmtree(tmp_path / 'run')
    with other_process(tmp_path, '{"jetson_clocks": LockRecord(False)}') as pid:
        with pytest.raises(PowerError, match=f'pid {pid}'):
            journal.write({})
        assert list(written(tmp_path)['records']) == ['jetson_clocks']


GOOD = {'format': 1, 'boot': '', 'owner': {'pid': 1, 'start_ticks': 1, 'program': 'x'}}


DAMAGED = [
    '', '{', '[]', '7', 'null', '\x00\xff', '[' * MAX_BYTES, '{"format": 1}',
    'x' * (MAX_BYTES + 1), '{"format": 2, "records": {}}', '1' * 5000,
    *(json.dumps({**GOOD, 'records': records}) for records in (
        [], {'nonsense': {}}, {'power_mode': {'was': '1', 'set': [2]}},
        {'power_mode': {'was': True, 'set': [2]}}, {'power_mode': {'was': 1, 'set': [2] * 999}},
        {'power_mode': {'was': -1, 'set': []}}, {'power_mode': {'was': 10**30, 'set': []}},
        {'jetson_clocks': {'was': 'off'}}, {'fan_profile': {'was': 'x' * 999, 'set': []}},
        {'gpu_max_frequency': {'mode': 1, 'was': {'/sys/x': [2, 1]}}},
        {'gpu_max_frequency': {'mode': 1, 'was': {'/sys/x': [0, 1e9]}}},
        {'gpu_max_frequency': {'mode': 1, 'was': {'': [0, 1]}}},
    )),
]


def test_a_lock_that_cannot_be_written_is_let_go_of(tmp_path: Path) -> None:
    journal = journal_of(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))  # as on a full file system
    try:
        with pytest.raises(PowerError, match='cannot be written'):
            journal.acquire()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not journal.is_held
    assert journal.acquire() == {} and journal.is_held
    journal.close()


@pytest.mark.parametrize('text', DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_journal_is_one_message_and_moved_aside(tmp_path: Path, text: str) -> None:
    path = tmp_path / JOURNAL
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode('latin-1'))
    journal = journal_of(tmp_path)
    assert journal.acquire() == {}
    assert 'cannot be used' in journal.problem and 'power.json.damaged' in journal.problem
    assert len(journal.problem) < 700
    journal.write(RECORDS)
    journal.close()
    assert journal_of(tmp_path).acquire() == RECORDS


@pytest.mark.parametrize('kind', ['fifo', 'link', 'folder', 'writable', 'owner'])
def test_what_is_no_file_of_this_user_is_not_believed(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = journal_of(tmp_path)
    first.acquire()
    first.write(RECORDS)
    first.close()
    path = tmp_path / JOURNAL
    if kind == 'fifo':
        path.unlink()
        os.mkfifo(path)
    elif kind == 'link':
        path.rename(tmp_path / 'elsewhere')
        path.symlink_to(tmp_path / 'elsewhere')
    elif kind == 'folder':
        path.unlink()
        path.mkdir()
    elif kind == 'writable':
        path.chmod(0o666)
    else:
        if os.geteuid() != 0:
            pytest.skip('only root can give a file away')
        os.chown(path, 12345, 12345)
    journal = journal_of(tmp_path)
    assert journal.acquire() == {}
    assert 'cannot be used' in journal.problem


def test_a_folder_that_others_may_write_is_refused(tmp_path: Path) -> None:
    folder = (tmp_path / JOURNAL).parent
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    with pytest.raises(PowerError, match='nobody else may write'):
        journal_of(tmp_path).acquire()


def test_without_root_it_lies_in_the_state_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('XDG_STATE_HOME', '/home/alice/state')
    journal = Journal(tmp_path, is_root=False, program='test')
    journal.acquire()
    journal.write(RECORDS)
    path = tmp_path / 'home/alice/state/yolov7_trt_ros/power.json'
    assert journal.path == path and path.stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv('XDG_STATE_HOME', 'relative')
    monkeypatch.setenv('HOME', '/home/bob')
    other = Journal(tmp_path, is_root=False, program='test')
    assert other.path == tmp_path / 'home/bob/.local/state/yolov7_trt_ros/power.json'


def test_after_a_boot_only_what_lasts_is_left(tmp_path: Path) -> None:
    leave_behind(tmp_path)
    boot(tmp_path, BOOTS[1])
    journal = journal_of(tmp_path)
    assert list(journal.acquire()) == ['power_mode'] and journal.problem == ''


def test_journals_moved_aside_do_not_replace_each_other(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL
    path.parent.mkdir(parents=True)
    for text in ('first', 'second', 'third'):
        path.write_text(text)
        journal = journal_of(tmp_path)
        assert journal.acquire() == {}
        journal.close()
    assert {each.name: each.read_text() for each in path.parent.glob('*.damaged*')} == {
        'power.json.damaged': 'first', 'power.json.damaged2': 'second',
        'power.json.damaged3': 'third',
    }
    assert 'power.json.damaged3. ' in journal.problem


@pytest.mark.parametrize('unknown', ['', 'unsupported', BOOTS[0][:-1], None])
@pytest.mark.parametrize('when', ['then', 'now', 'then and now'])
def test_an_unknown_boot_is_not_taken_for_the_same(
    tmp_path: Path, unknown: str | None, when: str
) -> None:
    def is_known(known: bool) -> None:
        boot(tmp_path, BOOTS[0] if known or unknown is None else unknown)
        if unknown is None and not known:
            (tmp_path / BOOT_ID).unlink()

    is_known('then' not in when)
    path = leave_behind(tmp_path)
    is_known('now' not in when)
    journal = journal_of(tmp_path)
    assert journal.acquire() == {'power_mode': RECORDS['power_mode']}
    assert 'gpu_max_frequency, jetson_clocks' in journal.problem
    assert 'boot_id cannot be read' in journal.problem
    kept = json.loads(path.with_name('power.json.damaged').read_text())
    assert list(kept['records']) == list(RECORDS)
    lasting = {'power_mode': RECORDS['power_mode']}
    journal.write(lasting)
    journal.close()
    assert journal_of(tmp_path).acquire() == lasting


def test_a_journal_of_another_machine_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('XDG_STATE_HOME', '/home/alice/state')  # on a disk that machines share
    serial = tmp_path / 'proc/device-tree/serial-number'
    serial.parent.mkdir(parents=True)
    serial.write_bytes(b'1421623012345\0')
    text = leave_behind(tmp_path, is_root=False).read_text()
    serial.write_bytes(b'1421623067890\0')
    journal = Journal(tmp_path, is_root=False, program='test')
    for _ in range(2):
        with pytest.raises(PowerError, match='1421623012345; this one is 1421623067890'):
            journal.acquire()
    assert journal.path.read_text() == text and not journal.is_held
    serial.write_bytes(b'1421623012345\0')
    assert journal.acquire() == RECORDS


def test_without_a_serial_number_the_machine_is_known_by_its_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('XDG_STATE_HOME', '/home/alice/state')
    (tmp_path / 'etc').mkdir()
    (tmp_path / 'etc/machine-id').write_text('0123456789abcdef\n')
    path = leave_behind(tmp_path, is_root=False)
    assert json.loads(path.read_text())['machine'] == '0123456789abcdef'
    (tmp_path / 'etc/machine-id').unlink()
    with pytest.raises(PowerError, match='this one is without a serial number'):
        Journal(tmp_path, is_root=False, program='test').acquire()


def test_a_journal_cut_anywhere_is_one_message_or_whole(tmp_path: Path) -> None:
    path = leave_behind(tmp_path)
    text = path.read_bytes()
    for length in range(len(text)):
        path.write_bytes(text[:length])
        journal = journal_of(tmp_path)
        assert journal.acquire() == {} and 'cannot be used' in journal.problem
        journal.close()


@pytest.mark.parametrize('limits', [
    ClockLimits(-1, 2), ClockLimits(2, 1), ClockLimits(0, 10**13),
])
def test_what_could_not_be_read_again_is_not_written(
    tmp_path: Path, limits: ClockLimits
) -> None:
    journal = journal_of(tmp_path)
    journal.acquire()
    journal.write(RECORDS)
    with pytest.raises(PowerError, match='unknown form .* found gpu_max_frequency'):
        journal.write({'gpu_max_frequency': LimitsRecord(1, {'/sys/a/max_freq': limits})})
    journal.close()
    assert journal_of(tmp_path).acquire() == RECORDS


def test_a_machine_with_a_thousand_cores_has_a_journal(tmp_path: Path) -> None:
    folder = '/sys/devices/system/cpu/cpu{}/cpufreq/scaling_max_freq'
    found = {folder.format(core): ClockLimits(400_000_000, 3_800_000_000) for core in range(1024)}
    records: dict[str, Record] = {'cpu_max_frequency': LimitsRecord(None, found)}
    journal = journal_of(tmp_path)
    journal.acquire()
    journal.write(records)
    journal.close()
    assert journal_of(tmp_path).acquire() == records


@pytest.mark.skipif(os.geteuid() != 0, reason='the journal of root has to be of root')
@pytest.mark.parametrize(('alive', 'said'), [
    (True, 'as root; its journal'), (False, 'sudo yolov7_trt power restore'),
])
def test_a_user_does_not_change_what_root_has_changed(
    tmp_path: Path, alive: bool, said: str
) -> None:
    first = journal_of(tmp_path)
    first.acquire()
    first.write(RECORDS)
    if not alive:
        first.close()
        content = written(tmp_path)
        content['owner'] = {'pid': 2**22 + 1, 'start_ticks': 1, 'program': 'power node'}
        (tmp_path / JOURNAL).write_text(json.dumps(content))
    with pytest.raises(PowerError, match=said):
        Journal(tmp_path, is_root=False, program='test').acquire()


def user_s_journal(root: Path) -> Journal:
    return Journal(root, is_root=False, program='test')


@pytest.mark.skipif(os.geteuid() != 0, reason='the journal of root has to be of root')
@pytest.mark.parametrize('text', DAMAGED, ids=range(len(DAMAGED)))
def test_a_user_changes_nothing_under_a_journal_of_root_of_another_form(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('XDG_STATE_HOME', '/home/alice/state')
    path = leave_behind(tmp_path)
    path.write_bytes(text.encode('latin-1'))
    with pytest.raises(PowerError, match='is not known.*sudo yolov7_trt power restore'):
        user_s_journal(tmp_path).acquire()
    journal_of(tmp_path).acquire()  # of root: it moves the journal aside
    user_s_journal(tmp_path).acquire()


@pytest.mark.skipif(os.geteuid() != 0, reason='the journal of root has to be of root')
@pytest.mark.parametrize(('boot_id', 'is_refused'), [
    (BOOTS[0], True), ('unsupported', True), ('', True), (BOOTS[1], False),
])
def test_a_user_is_refused_unless_root_s_changes_are_of_another_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boot_id: str, is_refused: bool
) -> None:
    monkeypatch.setenv('XDG_STATE_HOME', '/home/alice/state')
    path = leave_behind(tmp_path)
    content = written(tmp_path)
    content['owner'] = {'pid': 2**22 + 1, 'start_ticks': 1, 'program': 'power node'}
    path.write_text(json.dumps(content))
    boot(tmp_path, boot_id)
    if is_refused:
        with pytest.raises(PowerError, match='sudo yolov7_trt power restore'):
            user_s_journal(tmp_path).acquire()
    else:
        user_s_journal(tmp_path).acquire()


def test_users_can_read_the_journal_of_root_whatever_its_umask(tmp_path: Path) -> None:
    mask = os.umask(0o077)
    try:
        path = leave_behind(tmp_path)
    finally:
        os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o644
    assert path.parent.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize('ticks', [0, 1])
def test_a_process_whose_start_is_not_known_may_be_alive(tmp_path: Path, ticks: int) -> None:
    assert Owner(os.getpid(), ticks, 'power node').is_alive == (ticks == 0)
    assert not Owner(2**22 + 1, ticks, 'power node').is_alive
    assert not Owner(10**30, ticks, 'power node').is_alive


# The board


def test_the_journal_is_written_before_the_first_change(make_board: Make) -> None:
    board = make_board()
    seen = board.root / 'seen'
    for tool in ('nvpmodel', 'jetson_clocks'):
        replace_tool(
            board, tool,
            f'case "$1" in -q|-p) ;; *) cat {board.root / JOURNAL} >> {seen} ;; esac\n'
            'exec $original "$@"',
        )
    control = control_of(board)
    control.set_mode('15W')
    assert '"power_mode"' in seen.read_text()
    control.set_jetson_clocks(True)
    assert '"jetson_clocks"' in seen.read_text()


def test_without_a_journal_nothing_is_changed(make_board: Make) -> None:
    board = make_board()
    before = settings(board)
    (board.root / 'run').mkdir(exist_ok=True)
    (board.root / 'run/yolov7_trt_ros').write_text('in the way')
    control = control_of(board)
    for change in (
        lambda: control.set_mode('15W'), lambda: control.set_jetson_clocks(True),
        lambda: control.set_max_frequency('gpu', 408), lambda: control.hold_frequency('gpu', 408),
        lambda: control.set_fan_profile('cool'),
    ):
        with pytest.raises(PowerError, match='journal of changed power settings cannot be'):
            change()
    (board.root / 'run/yolov7_trt_ros').unlink()
    assert settings(board) == before


def change_all(board: EmulatedBoard) -> None:
    """Change everything, and end without putting it back."""
    control = control_of(board)
    control.set_max_frequency('cpu', 1000)
    control.set_mode('15W')
    control.hold_frequency('gpu', 408)
    control.set_jetson_clocks(True)
    control.set_fan_profile('cool')
    control.close()


def test_the_next_start_knows_what_was_and_puts_it_back(make_board: Make) -> None:
    board = make_board()
    before = settings(board)
    change_all(board)
    lines: list[str] = []
    control = control_of(board, lines)
    assert control.adopt() == (
        'cpu_max_frequency', 'power_mode', 'gpu_max_frequency', 'jetson_clocks', 'fan_profile',
    )
    assert any(line.startswith('power_mode: an ended process') for line in lines)
    control.restore()
    assert settings(board) == before
    control.close()
    assert control_of(board).adopt() == ()


def test_all_is_put_back_on_a_full_disk(make_board: Make) -> None:
    board = make_board()
    before = settings(board)
    change_all(board)
    in_the_way = (board.root / JOURNAL).with_name('.power.json.new')
    in_the_way.mkdir()  # no journal can be written any more
    control = control_of(board)
    control.adopt()
    control.restore()
    assert control.changed == () and not (board.root / JOURNAL).exists()
    with pytest.raises(PowerError, match='nothing is changed'):
        control.set_mode('15W')
    in_the_way.rmdir()
    assert settings(board) == before


def test_our_own_state_is_never_taken_for_the_user_s(make_board: Make) -> None:
    board = make_board()
    before = settings(board)
    change_all(board)
    control = control_of(board)  # changes more, without a word about what was left
    control.set_mode('MAXN_SUPER')
    control.set_max_frequency('gpu', 612)
    control.set_jetson_clocks(False)
    control.set_fan_profile('quiet')
    control.restore()
    assert settings(board) == before


def test_what_is_kept_is_the_user_s(make_board: Make) -> None:
    board = make_board()
    change_all(board)
    control = control_of(board)
    control.set_mode('MAXN_SUPER')
    control.keep()
    control.close()
    later = control_of(board)
    assert later.adopt() == (
        'cpu_max_frequency', 'gpu_max_frequency', 'jetson_clocks', 'fan_profile',
    )
    later.restore()
    assert later.current_mode().name == 'MAXN_SUPER' and later.current_mode().contradiction == ''


def test_what_somebody_else_has_set_since_is_left(make_board: Make) -> None:
    board = make_board()
    control = control_of(board)
    control.set_mode('15W')
    control.hold_frequency('gpu', 408)
    control.close()
    PatientRunner(environment=board.env).run(['nvpmodel', '-m', '2'])
    lines: list[str] = []
    later = control_of(board, lines)
    assert later.adopt() == ('gpu_max_frequency',)
    assert 'power_mode was changed by another program since: left as it is' in lines
    later.restore()
    assert later.current_mode().name == 'MAXN_SUPER' and later.current_mode().contradiction == ''
    assert board.read(f'{ORIN_GPU}/min_freq') == '306000000'


def test_files_of_a_journal_that_are_no_clocks_are_not_written(make_board: Make) -> None:
    board = make_board()
    control = control_of(board)
    control.set_max_frequency('gpu', 408)
    control.close()
    content = written(board.root)
    victim = board.root / 'etc/max_freq'
    victim.write_text('1\n')
    content['records'] = {'gpu_max_frequency': {'mode': 1, 'was': {'/etc/max_freq': [5, 6]}}}
    (board.root / JOURNAL).write_text(json.dumps(content))
    later = control_of(board)
    later.adopt()
    later.restore()
    assert victim.read_text() == '1\n'


def test_two_controls_do_not_change_one_board(make_board: Make) -> None:
    board = make_board()
    control = control_of(board)
    control.set_mode('15W')
    second = control_of(board)
    with pytest.raises(PowerError, match=f'pid {os.getpid()}'):
        second.set_max_frequency('gpu', 408)
    assert second.current_mode().name == '15W'
    control.restore()
    control.close()
    assert second.set_max_frequency('gpu', 408) == 408


def test_a_dry_run_leaves_the_journal_alone(make_board: Make) -> None:
    board = make_board()
    control = control_of(board, dry_run=True)
    control.set_mode('15W')
    control.set_max_frequency('gpu', 408)
    assert not (board.root / 'run/yolov7_trt_ros').exists()
