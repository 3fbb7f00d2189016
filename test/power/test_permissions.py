"""The sudoers drop-in: exact lines, nothing more, and checked before it is installed."""

from __future__ import annotations

from pathlib import Path
import stat
import subprocess

from hypothesis import given
from hypothesis import strategies as st
from power_host import TOOL_LIMIT_S
import pytest

from yolov7_trt_ros.emulated_board.board import create_board
from yolov7_trt_ros.emulated_board.boards.catalogue import BOARDS
from yolov7_trt_ros.errors import PowerError, PowerPermissionError, SettingError
from yolov7_trt_ros.power.control import PowerControl
from yolov7_trt_ros.power.root.commands import SystemRunner, TOOL_FOLDERS
from yolov7_trt_ros.power.root.permissions import install_permissions
from yolov7_trt_ros.power.root.sudoers import (
    explain_root_needed,
    SUDOERS_FILE,
    sudoers_line,
    sudoers_text,
)

LINE = 'alice ALL=(root) NOPASSWD: /usr/sbin/nvpmodel -m 2'


def find_visudo() -> str:
    visudo = SystemRunner().find('visudo')
    if visudo is None:
        pytest.skip('visudo is not installed')
    return str(visudo)


def sudo_folder(root: Path) -> Path:
    folder = (root / SUDOERS_FILE).parent
    folder.mkdir(parents=True)
    return folder


def add_tool(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f'#!/bin/sh\n{script}\n')
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ('user', 'command', 'line'),
    [
        ('alice', ['/usr/sbin/nvpmodel', '-m', '2'], LINE),
        ('alice', ['/usr/bin/jetson_clocks'],
         'alice ALL=(root) NOPASSWD: /usr/bin/jetson_clocks ""'),
        ('#1000', ['/bin/a'], '#1000 ALL=(root) NOPASSWD: /bin/a ""'),
        ('%power', ['/bin/a'], '%power ALL=(root) NOPASSWD: /bin/a ""'),
        ('alice', ['/usr/bin/tee', '/sys/iio:device0/a,b=c'],
         'alice ALL=(root) NOPASSWD: /usr/bin/tee /sys/iio\\:device0/a\\,b\\=c'),
        ('alice', ['/bin/a', '*', '[x]?', 'two words', '!'],
         'alice ALL=(root) NOPASSWD: /bin/a \\* \\[x\\]\\? two\\ words \\!'),
    ],
)
def test_line(user: str, command: list[str], line: str) -> None:
    assert sudoers_line(user, command) == line


@pytest.mark.parametrize(
    'user', ['', 'al ice', 'alice ALL=(ALL) NOPASSWD: ALL\n#', 'a,b', '!root', 'ALL:', '-x']
)
def test_what_is_no_user(user: str) -> None:
    with pytest.raises(SettingError, match='needs a user'):
        sudoers_line(user, ['/bin/a'])


@pytest.mark.parametrize(
    'command',
    [
        ['nvpmodel'], ['./nvpmodel'], ['/bin/a', 'x\nroot ALL=(ALL) ALL'], ['/bin/a\0'],
        ['/bin/a', ''], ['/bin/a', '"'], ['/bin/a', '^.*$'],
    ],
)
def test_what_is_no_command(command: list[str]) -> None:
    with pytest.raises(SettingError, match='absolute path'):
        sudoers_line('alice', command)


@given(st.lists(st.text(max_size=20), max_size=4))
def test_no_argument_gets_out_of_its_line(arguments: list[str]) -> None:
    try:
        line = sudoers_line('alice', ['/bin/a', *arguments])
    except SettingError:
        return
    assert len(line.splitlines()) == 1
    bare = line.replace('\\\\', '')
    prefix = 'alice ALL=(root) NOPASSWD: '
    assert bare.startswith(prefix)
    for index, character in enumerate(bare[len(prefix):], len(prefix)):
        if character in ',:=*?[]!#':
            assert bare[index - 1] == '\\'


def test_text_has_each_line_once_in_order() -> None:
    text = sudoers_text('alice', [['/b', 'x'], ['/a'], ['/b', 'x']])
    lines = [line for line in text.splitlines() if not line.startswith('#')]
    assert lines == [sudoers_line('alice', ['/b', 'x']), sudoers_line('alice', ['/a'])]
    assert text.endswith('\n')


def test_message_has_what_is_needed() -> None:
    text = explain_root_needed('alice', ['/usr/sbin/nvpmodel', '-m', '2'], 'a password')
    assert f'\n    {LINE}\n' in text
    assert '/etc/sudoers.d/yolov7_trt_ros' in text and '(a password)' in text
    assert 'yolov7_trt power permissions' in text


def test_drop_in_is_not_one_that_sudo_skips() -> None:
    name = Path(SUDOERS_FILE).name
    assert '.' not in name and not name.endswith('~')


@pytest.mark.parametrize('name', sorted(BOARDS))
def test_lines_of_a_board_are_exact_and_complete(tmp_path: Path, name: str) -> None:
    with create_board(name, tmp_path) as board:
        control = PowerControl(
            board.root, SystemRunner(environment=board.env), timeout_s=TOOL_LIMIT_S)
        commands = control.privileged_commands(reboot_modes=True, fan=True)
        modes = control.modes()
    for command in commands:
        assert Path(command[0]).is_absolute()
        assert all('*' not in part for part in command)
        assert '--force' not in command
    tails = {' '.join([Path(command[0]).name, *command[1:2]]) for command in commands}
    assert {'nvpmodel -m', 'jetson_clocks', 'jetson_clocks --store'} <= tails
    mode_ids = [command[2] for command in commands if command[1:2] == ('-m',)]
    assert mode_ids == [str(mode.mode_id) for mode in modes]
    texts = [' '.join(command) for command in commands]
    for file in ('min_freq', 'max_freq', 'cpu0/cpufreq/scaling_max_freq'):
        assert any(text.endswith(file) for text in texts)


@pytest.mark.parametrize('name', sorted(BOARDS))
def test_modes_that_need_a_reboot_and_the_fan_are_left_out(tmp_path: Path, name: str) -> None:
    with create_board(name, tmp_path) as board:
        control = PowerControl(
            board.root, SystemRunner(environment=board.env), timeout_s=TOOL_LIMIT_S)
        commands = control.privileged_commands()
        now = board.definition.mode(board.definition.default_mode)
    assert now is not None
    allowed = [command[2] for command in commands if command[1:2] == ('-m',)]
    assert allowed == [
        str(mode.mode_id) for mode in board.definition.modes if mode.tpc_mask == now.tpc_mask
    ]
    words = {word for command in commands for word in command}
    assert not any('fan' in word for word in words) and '-d' not in words


@pytest.mark.parametrize('name', ['orin_nano_super', 'xavier_nx', 'nano', 'agx_orin'])
def test_of_an_unknown_mode_no_other_mode_is_reached_without_a_reboot(
    tmp_path: Path, name: str
) -> None:
    with create_board(name, tmp_path) as board:
        conf = (board.root / 'etc/nvpmodel.conf').resolve()
        default = board.definition.default_mode
        conf.write_text(
            conf.read_text().replace(f'PM_CONFIG DEFAULT={default}', 'PM_CONFIG DEFAULT=99')
        )
        (board.root / 'var/lib/nvpmodel/status').write_text('pmode:0099\n')
        tool = board.tools / 'nvpmodel'
        tool.write_text('#!/bin/sh\necho "NV Power Mode: NEW"\necho 99\n')
        for file in board.root.glob('sys/devices/system/cpu/cpu*/online'):
            file.write_text('0\n')  # as in no mode
        control = PowerControl(
            board.root, SystemRunner(environment=board.env), timeout_s=TOOL_LIMIT_S)
        commands = control.privileged_commands()
        modes = control.modes()
        differing = [control.masks_that_differ(str(mode.mode_id)) for mode in modes]
    allowed = [command for command in commands if command[1:2] == ('-m',)]
    are_alike = len({str(mode.masks) for mode in modes}) == 1
    assert len(allowed) == (len(modes) if are_alike else 0)
    assert all(('unknown -> ' in text) != are_alike for text in differing)


@pytest.mark.parametrize('name', sorted(BOARDS))
def test_visudo_accepts_the_lines_of_every_board(tmp_path: Path, name: str) -> None:
    visudo = find_visudo()
    with create_board(name, tmp_path / 'board') as board:
        control = PowerControl(
            board.root, SystemRunner(environment=board.env), timeout_s=TOOL_LIMIT_S)
        commands = control.privileged_commands(reboot_modes=True, fan=True)
        text = sudoers_text('alice', commands)
    file = tmp_path / 'sudoers'
    file.write_text(text)
    file.chmod(0o440)
    subprocess.run([visudo, '-c', '-f', file], check=True)


def test_installed_file(tmp_path: Path) -> None:
    sudo_folder(tmp_path)
    add_tool(tmp_path / 'tools', 'visudo', f'echo "$@" > {tmp_path}/asked; exit 0')
    runner = SystemRunner(f'{tmp_path}/tools:{TOOL_FOLDERS}', is_root=True)
    installed = install_permissions(runner, LINE + '\n', tmp_path)
    assert installed.checked
    assert installed.path == tmp_path / SUDOERS_FILE
    assert installed.path.read_text() == LINE + '\n'
    assert stat.S_IMODE(installed.path.stat().st_mode) == 0o440
    asked = (tmp_path / 'asked').read_text().split()
    assert asked[:2] == ['-c', '-f'] and not Path(asked[2]).exists()


def test_installed_again(tmp_path: Path) -> None:
    sudo_folder(tmp_path)
    runner = SystemRunner(TOOL_FOLDERS, is_root=True)
    for text in ('# first\n', '# second\n'):
        installed = install_permissions(runner, text, tmp_path)
    assert installed.path.read_text() == '# second\n'


def test_without_visudo_it_is_installed_unchecked(tmp_path: Path) -> None:
    sudo_folder(tmp_path)
    add_tool(tmp_path / 'tools', 'install', 'exec /usr/bin/install "$@"')
    runner = SystemRunner(str(tmp_path / 'tools'), is_root=True)
    assert not install_permissions(runner, LINE + '\n', tmp_path).checked


def test_what_visudo_rejects_is_not_installed(tmp_path: Path) -> None:
    folder = sudo_folder(tmp_path)
    add_tool(tmp_path / 'tools', 'visudo', 'echo "syntax error near line 1" >&2; exit 1')
    runner = SystemRunner(f'{tmp_path}/tools:{TOOL_FOLDERS}', is_root=True)
    with pytest.raises(PowerError, match='syntax error near line 1'):
        install_permissions(runner, 'nonsense\n', tmp_path)
    assert list(folder.iterdir()) == []


def test_where_sudo_is_not_installed(tmp_path: Path) -> None:
    with pytest.raises(PowerError, match='sudo is not installed'):
        install_permissions(SystemRunner(TOOL_FOLDERS, is_root=True), LINE, tmp_path)


def test_without_root_sudo_installs_it_or_says_no(tmp_path: Path) -> None:
    with create_board('nano', tmp_path, as_root=False, sudo_allowed=False) as board:
        (board.root / SUDOERS_FILE).parent.mkdir(parents=True, exist_ok=True)
        runner = SystemRunner(environment=board.env, is_root=False, user='alice')
        with pytest.raises(PowerPermissionError):
            install_permissions(runner, LINE + '\n', board.root)
        assert not (board.root / SUDOERS_FILE).exists()
        board.set_options(sudo_allowed=True)
        assert install_permissions(runner, LINE + '\n', board.root).path.read_text() == LINE + '\n'


def test_real_visudo_rejects_nonsense(tmp_path: Path) -> None:
    find_visudo()
    sudo_folder(tmp_path)
    with pytest.raises(PowerError, match='visudo rejects'):
        install_permissions(
            SystemRunner(is_root=True), 'alice ALL=(root NOPASSWD: /bin/a\n', tmp_path
        )
