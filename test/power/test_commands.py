"""Running tools: end of stdin, time limit, sudo, and what each failure is called."""

from __future__ import annotations

import os
from pathlib import Path
import resource
import signal
import subprocess
import time

from power_host import PatientRunner
import pytest

from yolov7_trt_ros.errors import PowerCommandError, PowerPermissionError, PowerTimeoutError
from yolov7_trt_ros.power.root import tool_pipes
from yolov7_trt_ros.power.root.commands import (
    CommandResult,
    current_user,
    SystemRunner,
    TOOL_FOLDERS,
)
from yolov7_trt_ros.power.root.tool_pipes import MOST_BYTES


def add_tool(folder: Path, name: str, script: str) -> Path:
    file = folder / name
    file.write_text(f'#!/bin/sh\n{script}\n')
    file.chmod(0o755)
    return file


def runner(folder: Path, is_root: bool = True) -> PatientRunner:
    return PatientRunner(f'{folder}:{TOOL_FOLDERS}', is_root=is_root, user='alice')


def is_running(pid: int) -> bool:
    """Whether the process lives; one that is dead and not yet waited for does not."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


def test_output_errors_and_status_are_kept(tmp_path: Path) -> None:
    add_tool(tmp_path, 'tool', 'echo "out $1"; echo bad >&2; exit 7')
    result = runner(tmp_path).run(['tool', 'x y'])
    assert (result.status, result.output, result.errors) == (7, 'out x y\n', 'bad\n')
    assert result.text == 'out x y\nbad'
    assert result.last_lines == 'out x y / bad'
    assert result.command == (str(tmp_path / 'tool'), 'x y')


def test_stdin_is_at_its_end(tmp_path: Path) -> None:
    add_tool(tmp_path, 'tool', 'if read answer; then echo "got $answer"; else echo EOF; fi')
    assert runner(tmp_path).run(['tool']).output == 'EOF\n'


def test_input_is_handed_over(tmp_path: Path) -> None:
    assert runner(tmp_path).run(['cat'], input_text='612000000').output == '612000000'


def test_bytes_that_are_no_text_are_replaced(tmp_path: Path) -> None:
    add_tool(tmp_path, 'tool', "printf 'a\\377b'")
    assert runner(tmp_path).run(['tool']).output == 'a\ufffdb'


def test_environment_reaches_the_tool_and_its_path_is_searched(tmp_path: Path) -> None:
    add_tool(tmp_path, 'tool', 'echo "$BOARD $LC_ALL"')
    environment = {'PATH': f'{tmp_path}:{TOOL_FOLDERS}', 'BOARD': 'nano'}
    assert SystemRunner(environment=environment).run(['tool']).output == 'nano C\n'


def test_the_system_s_tools_come_before_those_in_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_tool(tmp_path, 'cat', 'echo impostor')
    monkeypatch.setenv('PATH', str(tmp_path))
    found = SystemRunner().find('cat')
    assert found is not None and found.parent != tmp_path


def test_missing_tool(tmp_path: Path) -> None:
    with pytest.raises(PowerCommandError, match='nvpmodel is not installed'):
        SystemRunner(str(tmp_path)).run(['nvpmodel', '-q'])


def test_tool_that_cannot_be_started(tmp_path: Path) -> None:
    (tmp_path / 'tool').write_bytes(b'\x7fELF nonsense')
    (tmp_path / 'tool').chmod(0o755)
    with pytest.raises(PowerCommandError, match='cannot start'):
        SystemRunner(str(tmp_path)).run(['tool'])


def test_tool_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    pid_file = tmp_path / 'pid'
    add_tool(tmp_path, 'tool', f'sleep 600 & echo $! > {pid_file}; wait')
    began_s = time.monotonic()
    with pytest.raises(PowerCommandError, match=r'was not done after 2 s'):
        runner(tmp_path).run(['tool'], timeout_s=2.0)
    while is_running(int(pid_file.read_text())):  # it is told to, and ends a moment later
        assert time.monotonic() - began_s < 600


def test_tool_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    add_tool(tmp_path, 'tool', 'trap "" TERM; sleep 600; sleep 600')
    began_s = time.monotonic()
    with pytest.raises(PowerCommandError):
        runner(tmp_path).run(['tool'], timeout_s=0.3)
    assert time.monotonic() - began_s < 600


def test_tool_runs_in_a_session_of_its_own(tmp_path: Path) -> None:
    add_tool(tmp_path, 'tool', 'cut -d " " -f 6 /proc/$$/stat')
    assert int(runner(tmp_path).run(['tool']).output) != os.getsid(0)


def test_root_needs_no_sudo(tmp_path: Path) -> None:
    add_tool(tmp_path, 'sudo', 'echo never >&2; exit 1')
    add_tool(tmp_path, 'tool', 'echo done')
    assert runner(tmp_path).run(['tool'], as_root=True).output == 'done\n'


def test_sudo_is_told_never_to_ask_and_the_full_path(tmp_path: Path) -> None:
    add_tool(tmp_path, 'sudo', 'printf "%s\\n" "$*"')
    tool = add_tool(tmp_path, 'tool', 'echo done')
    result = runner(tmp_path, is_root=False).run(['tool', '-m', '2'], as_root=True)
    assert result.output == f'-n {tool} -m 2\n'


@pytest.mark.parametrize(
    'line',
    [
        'sudo: a password is required',
        'sudo: a terminal is required to read the password',
        'alice is not in the sudoers file.  This incident will be reported.',
        "Sorry, user alice is not allowed to execute '/x -m 2' as root on board.",
        'sudo: The "no new privileges" flag is set, which prevents sudo from running as root.',
        'sudo: sorry, you must have a tty to run sudo',
    ],
)
def test_refusal_of_sudo_names_the_exact_line(tmp_path: Path, line: str) -> None:
    (tmp_path / 'message').write_text(f'{line}\n')
    add_tool(tmp_path, 'sudo', f'cat {tmp_path}/message >&2; exit 1')
    tool = add_tool(tmp_path, 'tool', 'echo done')
    with pytest.raises(PowerPermissionError) as caught:
        runner(tmp_path, is_root=False).run(['tool', '-m', '2'], as_root=True)
    assert f'\n    alice ALL=(root) NOPASSWD: {tool} -m 2\n' in str(caught.value)
    assert line[:40] in str(caught.value)


def test_failure_of_the_tool_is_not_taken_for_sudo_s(tmp_path: Path) -> None:
    add_tool(tmp_path, 'sudo', 'shift; exec "$@"')
    add_tool(tmp_path, 'tool', 'echo "a password is required for the vault" >&2; exit 1')
    result = runner(tmp_path, is_root=False).run(['tool'], as_root=True)
    assert result.status == 1


def test_without_sudo(tmp_path: Path) -> None:
    tool = add_tool(tmp_path, 'tool', 'echo done')
    with pytest.raises(PowerPermissionError, match='Sudo itself is not installed') as caught:
        SystemRunner(str(tmp_path), is_root=False, user='alice').run(['tool'], as_root=True)
    assert f'alice ALL=(root) NOPASSWD: {tool} ""' in str(caught.value)


def test_current_user_has_a_name_or_an_id() -> None:
    assert current_user()


@pytest.mark.parametrize(('status', 'errors', 'of_tool'), [
    (0, 'sudo: setrlimit(RLIMIT_CORE): Operation not permitted\nbad', 'out\nbad'),
    (1, 'sudo: setrlimit(RLIMIT_CORE): Operation not permitted\nbad', 'out\nbad'),
    (0, 'sudo: a new warning', 'out'),
    (1, 'sudo: a new refusal', 'out\nsudo: a new refusal'),
])
def test_warnings_of_sudo_are_not_of_the_tool(status: int, errors: str, of_tool: str) -> None:
    assert CommandResult(('tool',), status, 'out\n', errors).tool_text == of_tool


def test_a_tool_that_prints_without_end_takes_neither_memory_nor_longer(tmp_path: Path) -> None:
    add_tool(tmp_path, 'tool', 'exec yes NVPM ERROR')
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started_s = time.monotonic()
    with pytest.raises(PowerTimeoutError, match='not done after 1 s'):
        runner(tmp_path).run(['tool'], timeout_s=1.0)
    assert time.monotonic() - started_s < 600.0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 64 * 1024


def test_the_begin_of_a_long_output_is_kept(tmp_path: Path) -> None:
    add_tool(tmp_path, 'tool', 'echo first; head -c 3000000 /dev/zero; echo last >&2')
    result = runner(tmp_path).run(['tool'])
    assert result.output.startswith('first\n') and len(result.output) == MOST_BYTES
    assert result.errors == 'last\n'


def test_what_a_tool_has_said_is_read_however_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool_pipes, '_LAST_WORDS_S', 0.0)  # as if this had to wait for its turn
    process = subprocess.Popen(
        ['sh', '-c', 'echo said; echo bad >&2'], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.wait(600)
    assert tool_pipes.exchange(process, b'', 600.0) == (b'said\n', b'bad\n')


def test_a_child_that_keeps_the_output_open_is_not_waited_for(tmp_path: Path) -> None:
    add_tool(tmp_path, 'tool', 'sleep 600 & echo $!; exit 3')
    result = runner(tmp_path).run(['tool'], timeout_s=300.0)
    try:
        assert result.status == 3 and is_running(int(result.output))
    finally:
        os.kill(int(result.output), signal.SIGKILL)


@pytest.mark.parametrize('script', ['cat', 'exec <&-; cat /dev/null', 'exec >&- 2>&-; cat'])
def test_a_long_input_is_written_as_far_as_the_tool_reads(tmp_path: Path, script: str) -> None:
    add_tool(tmp_path, 'tool', script)
    text = '0123456789' * 30_000
    result = runner(tmp_path).run(['tool'], input_text=text)
    assert result.output == (text if script == 'cat' else '')
