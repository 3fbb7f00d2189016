"""
Entry point of the emulated tools, with ``sudo``, ``systemctl`` and ``nvfancontrol``.

``sudo`` starts the emulated tools, and of others only those that write files of the board:
``tee``, ``cat``, ``rm`` and ``install``, with paths below the board's root.

"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import os
from pathlib import Path
import signal
import sys
import time

from yolov7_trt_ros.emulated_board import kernel
from yolov7_trt_ros.emulated_board.state import (
    BoardState,
    FOLDER,
    load_state,
    ROOT_VARIABLE,
    SUDO_VARIABLE,
)
from yolov7_trt_ros.emulated_board.tool_process import is_root, on_board
from yolov7_trt_ros.emulated_board.tree import read_text, write_fan_status, write_text


def main(tool: str, arguments: list[str]) -> int:
    """Run a tool on the board in the environment variables; returns its exit status."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    root = Path(os.environ[ROOT_VARIABLE])
    try:
        state = load_state(root)
        time.sleep(state['delays_s'].get(tool, 0.0))
        return _find(tool)(root, arguments)
    except KeyboardInterrupt:
        return 130


def _find(tool: str) -> Callable[[Path, list[str]], int]:
    """Return a tool's function; imports only its module, for a fast start."""
    if tool == 'nvpmodel':
        from yolov7_trt_ros.emulated_board.nvpmodel_tool import run_nvpmodel
        return run_nvpmodel
    if tool == 'jetson_clocks':
        from yolov7_trt_ros.emulated_board.jetson_clocks_tool import run_jetson_clocks
        return run_jetson_clocks
    if tool == 'tegrastats':
        from yolov7_trt_ros.emulated_board.tegrastats_tool import run_tegrastats
        return run_tegrastats
    return {'sudo': run_sudo, 'systemctl': run_systemctl, 'nvfancontrol': run_nvfancontrol}[tool]


def run_sudo(root: Path, arguments: list[str]) -> int:
    """Emulate ``sudo -n``: start the command as root, or fail for lack of a password."""
    options = []
    while arguments and arguments[0].startswith('-'):
        options.append(arguments.pop(0))
    if not _is_allowed(root, load_state(root), arguments):
        return _refuse('-n' in options)
    if '-l' in options:
        print(' '.join(arguments))
        return 0
    if not arguments:
        return 0 if '-v' in options else 1
    return _start_as_root(root, arguments)


def _refuse(never_asks: bool) -> int:
    if never_asks:
        print('sudo: a password is required', file=sys.stderr)
    else:
        print('sudo: a terminal is required to read the password; either use the -S option to '
              'read from standard input or configure an askpass helper', file=sys.stderr)
        print('sudo: a password is required', file=sys.stderr)
    return 1


def _is_allowed(root: Path, state: BoardState, command: Sequence[str]) -> bool:
    allowed = state['sudo_allowed']
    if allowed is True or state['as_root']:
        return True
    if not command:
        return bool(allowed)
    words = [Path(command[0]).name, *command[1:]]
    if allowed and any(words[:len(item.split())] == item.split() for item in allowed):
        return True
    return any(line == command for line in _sudoers_commands(root))


def _sudoers_commands(root: Path) -> list[list[str]]:
    """Return the exact commands that the drop-ins in /etc/sudoers.d allow to anybody."""
    commands = []
    for file in sorted((root / 'etc/sudoers.d').glob('*')):
        for line in file.read_text(encoding='utf-8').splitlines():
            _, found, rest = line.partition('NOPASSWD:')
            if found and not line.startswith('#'):
                commands += [_words(part) for part in _split(rest, ',')]
    return commands


def _words(text: str) -> list[str]:
    words = [word for word in _split(text, ' ') if word]
    return words[:1] if words[1:] == ['""'] else words


def _split(text: str, separator: str) -> list[str]:
    """Split at separators without a backslash before them, and remove backslashes."""
    parts = ['']
    escaped = False
    for character in text.strip():
        if not escaped and character == '\\':
            escaped = True
            if separator == ',':
                parts[-1] += character  # the words are split again later
            continue
        if character == separator and not escaped:
            parts.append('')
        else:
            parts[-1] += character
        escaped = False
    return parts


def _start_as_root(root: Path, command: list[str]) -> int:
    name, arguments = Path(command[0]).name, command[1:]
    if name == 'visudo' and _has_visudo():
        os.execvp('visudo', ['visudo', *arguments])
    small: dict[str, Callable[[Path, list[str]], int]] = {
        'tee': _tee, 'cat': _cat, 'rm': _rm, 'install': _install,
        'true': lambda _root, _arguments: 0}
    if name in small:
        return small[name](root, arguments)
    if name not in ('nvpmodel', 'jetson_clocks', 'tegrastats', 'nvfancontrol', 'systemctl'):
        print(f'sudo: {command[0]}: command not found', file=sys.stderr)
        return 1
    os.environ[SUDO_VARIABLE] = '1'
    return main(name, arguments)


def _has_visudo() -> bool:
    import shutil  # slow to import, and rarely needed

    return shutil.which('visudo') is not None


def _tee(root: Path, arguments: list[str]) -> int:
    text = sys.stdin.read()
    status = 0
    for path in arguments:
        full = on_board(root, path)
        if not full.is_file():
            print(f'tee: {path}: No such file or directory', file=sys.stderr)
            status = 1
            continue
        write_text(full.parent, full.name, text)
        kernel.settle(root)
    sys.stdout.write(text)
    return status


def _cat(root: Path, arguments: list[str]) -> int:
    for path in arguments:
        try:
            sys.stdout.write(on_board(root, path).read_text(encoding='utf-8'))
        except OSError as exc:
            print(f'cat: {path}: {exc.strerror}', file=sys.stderr)
            return 1
    return 0


def _rm(root: Path, arguments: list[str]) -> int:
    for path in arguments:
        if not path.startswith('-'):
            on_board(root, path).unlink(missing_ok='-f' in arguments)
    return 0


def _install(root: Path, arguments: list[str]) -> int:
    mode = arguments[arguments.index('-m') + 1] if '-m' in arguments else '0755'
    source, target = arguments[-2], on_board(root, arguments[-1])
    target.write_bytes(Path(source).read_bytes())
    target.chmod(int(mode, 8))
    return 0


def run_systemctl(root: Path, arguments: list[str]) -> int:
    """Emulate ``systemctl`` for the only service here: nvfancontrol."""
    words = [word for word in arguments if not word.startswith('-')]
    verb, unit = (*words, '', '')[:2]
    if unit.removesuffix('.service') != 'nvfancontrol' or not (
            root / 'etc/nvfancontrol.conf').exists():
        print(f'Failed to {verb} {unit}: Unit {unit} not found.', file=sys.stderr)
        return 5
    mark = root / FOLDER / 'nvfancontrol_stopped'
    if verb == 'is-active':
        print('inactive' if mark.exists() else 'active')
        return 3 if mark.exists() else 0
    if not is_root(load_state(root)):
        print(f'Failed to {verb} {unit}: Interactive authentication required.', file=sys.stderr)
        return 1
    if verb in ('stop', 'restart'):
        mark.touch()
    if verb in ('start', 'restart'):
        _start_fan_service(root, mark)
    kernel.settle(root)
    return 0


def _start_fan_service(root: Path, mark: Path) -> None:
    """Start the fan service: its status file takes precedence over the configuration."""
    mark.unlink(missing_ok=True)
    if not (root / 'var/lib/nvfancontrol/status').exists():
        write_fan_status(root, fan_default(root))


def fan_default(root: Path) -> str:
    """Return the default profile of /etc/nvfancontrol.conf."""
    for line in read_text(root, 'etc/nvfancontrol.conf').splitlines():
        words = line.split()
        if words[:1] == ['FAN_DEFAULT_PROFILE'] and len(words) > 1:
            return words[1]
    return 'quiet'


def run_nvfancontrol(root: Path, arguments: list[str]) -> int:
    """Emulate ``nvfancontrol -q``."""
    if not (root / 'etc/nvfancontrol.conf').exists():
        print('nvfancontrol: command not found', file=sys.stderr)
        return 127
    if arguments[:1] == ['-q']:
        print(read_text(root, 'var/lib/nvfancontrol/status'))
        return 0
    print(f'nvfancontrol: expected -q, found {" ".join(arguments)}', file=sys.stderr)
    return 1
