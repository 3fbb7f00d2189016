"""
The emulated ``nvpmodel``: reads the board's nvpmodel.conf and answers as the real one does.

Recorded: the lines of -q and -m, the reboot prompt and its exit status 234, the refusal in a
container, exit status 0 despite NVPM ERROR lines for callers without root. Assumed: the exit
status for an unknown mode (also 234), and that all output goes to stdout.

"""

from __future__ import annotations

from pathlib import Path
import sys
from typing import NamedTuple

from yolov7_trt_ros.emulated_board import kernel
from yolov7_trt_ros.emulated_board.conf_board import board_of
from yolov7_trt_ros.emulated_board.conf_reader import Conf, ConfMode, read_conf
from yolov7_trt_ros.emulated_board.jetson_clocks_tool import release_clocks
from yolov7_trt_ros.emulated_board.power_modes import (
    CONF_FILE,
    current_mode,
    int_max,
    STATUS_FILE,
    stored_mode,
    write_settings,
)
from yolov7_trt_ros.emulated_board.state import BoardState, changing_state, load_state
from yolov7_trt_ros.emulated_board.tool_process import is_root, on_board
from yolov7_trt_ros.emulated_board.tree import read_text, write_text, write_value

ABORTED = 234
"""Exit status after a prompt without answer: -EINVAL as a byte."""

_USAGE = """\
Usage: nvpmodel [-h] [--verbose] [-q] [-p] [-m ID] [-f FILE] [-d PROFILE] [--force]
  -h, --help          this text
      --verbose       tell more
  -q, --query         show the mode
  -p, --parse         show the configuration
  -m, --mode ID       set a mode
  -f, --conf FILE     another configuration; alone: set the stored or default mode
  -d PROFILE          fan profile: quiet or cool
      --force         reboot without asking"""


class _Options(NamedTuple):
    verbose: bool
    query: bool
    parse: bool
    force: bool
    mode: str | None
    conf: str
    conf_given: bool
    fan: str | None


def run_nvpmodel(root: Path, arguments: list[str]) -> int:
    """Carry out the arguments; returns the exit status."""
    options = _read_options(arguments)
    if options is None:
        print(_USAGE)
        return 0 if arguments[:1] in (['-h'], ['--help']) else 255
    path = on_board(root, options.conf)
    if not path.is_file():
        print(f'NVPM ERROR: failed to open {options.conf}')
        return 255
    conf = read_conf(path.read_text(encoding='utf-8'))
    return _Nvpmodel(root, conf, options).run()


def _read_options(arguments: list[str]) -> _Options | None:
    """Return the options; None if help is requested or needed."""
    flags = {'--verbose': False, '-q': False, '-p': False, '--force': False}
    values: dict[str, str] = {}
    names = {'--query': '-q', '--parse': '-p', '--mode': '-m', '--conf': '-f'}
    words = list(arguments)
    while words:
        word = words.pop(0)
        word = names.get(word, word)
        if word in flags:
            flags[word] = True
        elif word in ('-m', '-f', '-d') and words:
            values[word] = words.pop(0)
        else:
            return None
    if not arguments:
        return None
    return _Options(flags['--verbose'], flags['-q'], flags['-p'], flags['--force'],
                    values.get('-m'), values.get('-f', CONF_FILE), '-f' in values,
                    values.get('-d'))


class _Nvpmodel:
    """One run of the tool."""

    def __init__(self, root: Path, conf: Conf, options: _Options) -> None:
        self._root = root
        self._conf = conf
        self._options = options
        self._state = load_state(root)
        self._board = board_of(root, self._state)

    def run(self) -> int:
        options = self._options
        if options.verbose:
            print(f'NVPM VERB: Config file: {options.conf}')
            print(f'NVPM VERB: parsing done for {options.conf}')
        if options.parse:
            return self._parse()
        if options.query:
            return self._query()
        if options.fan is not None:
            return self._set_fan(options.fan)
        if options.mode is not None:
            return self._set_mode(options.mode)
        if options.conf_given:
            return self._set_mode(str(stored_mode(self._root, self._conf)))
        return 0

    def _parse(self) -> int:
        prefix = 'NVPM VERB: ' if self._options.verbose else ''
        default = self._conf.mode(self._conf.default)
        name = default.name if default is not None else '?'
        print(f'{prefix}PM_CONFIG: DEFAULT={name}({self._conf.default})')
        for mode in self._conf.modes:
            print(f'{prefix}POWER_MODEL: ID={mode.mode_id} NAME={mode.name}')
            for param, argument, value in mode.settings:
                print(f'{prefix}{param} {argument} {self._conf_value(param, argument, value)}')
        return 0

    def _query(self) -> int:
        self._say_fan()
        mode_id, name = current_mode(self._root)
        verb = 'NVPM VERB: Current mode: ' if self._options.verbose else ''
        print(f'{verb}NV Power Mode: {name}')
        print(mode_id)
        if not is_root(self._state):
            self._say_unreadable()
        elif self._options.verbose:
            mode = self._conf.mode(mode_id)
            for setting in mode.settings if mode is not None else []:
                self._say_setting(*setting)
        return 0

    def _say_fan(self) -> None:
        if self._conf.fan is not None:
            profile = read_text(self._root, 'sys/devices/pwm-fan/fan_profile')
            print(f'NV Fan Mode:{profile or self._conf.fan}')
        elif self._board.name == 'nano':
            print('NVPM WARN: fan mode is not set!')

    def _say_unreadable(self) -> None:
        """Print errors for the files that only root may read."""
        for item in self._conf.arguments.values():
            if item.path.startswith('/sys/kernel/'):
                print(f'NVPM ERROR: Error opening {item.path}: 13')
                print(f'NVPM ERROR: failed to read PARAM {item.param}: ARG {item.argument}: '
                      f'PATH {item.path}')
        if self._conf.fan is not None:
            print('NVPM ERROR: Error opening /sys/bus/platform/devices/pwm-fan/fan_profile: 13')
            print(f'NVPM ERROR: Fan failed to set mode:{self._conf.fan}')

    def _say_setting(self, param: str, argument: str, value: str) -> None:
        item = self._conf.find_argument(self._root, param, argument)
        if item is None:
            return
        real = read_text(self._root, item.file)
        print(f'NVPM VERB: PARAM {param}: ARG {argument}: PATH {item.path}: REAL_VAL: {real} '
              f'CONF_VAL: {self._conf_value(param, argument, value)}')

    def _conf_value(self, param: str, argument: str, value: str) -> str:
        known = self._conf.candidates(param, argument)
        is_clock = bool(known) and known[0].kind == 'CLOCK'
        return str(int_max(self._board)) if is_clock and value == '-1' else value

    def _set_fan(self, profile: str) -> int:
        if self._conf.fan is None:
            print("nvpmodel: invalid option -- 'd'")
            return 255
        if not is_root(self._state):
            print('NVPM ERROR: Error opening /sys/bus/platform/devices/pwm-fan/fan_profile: 13')
            print(f'NVPM ERROR: Fan failed to set mode:{profile}')
            return 0
        if profile not in ('quiet', 'cool'):
            print(f'NVPM ERROR: request for bad fan mode {profile}')
            return ABORTED
        write_value(self._root, 'sys/devices/pwm-fan/fan_profile', profile)
        kernel.settle(self._root)
        return 0

    def _set_mode(self, wanted: str) -> int:
        mode = self._conf.mode(int(wanted)) if wanted.isdecimal() else None
        if mode is None:
            print(f'NVPM ERROR: request for bad power mode {wanted}')
            return ABORTED
        if self._state['in_container']:
            print('Running in chroot, ignoring request.')
            self._store(mode)
            return 0
        if not is_root(self._state):
            return self._fail_to_write(mode)
        if self._needs_reboot(mode):
            return self._ask(mode)
        self._apply(mode)
        return 0

    def _store(self, mode: ConfMode) -> None:
        write_text(self._root, STATUS_FILE, f'pmode:{mode.mode_id:04d}\n')
        write_text(self._root, 'var/lib/nvpmodel/conf_file_path', self._options.conf)

    def _fail_to_write(self, mode: ConfMode) -> int:
        param, argument, _ = mode.settings[0]
        item = self._conf.find_argument(self._root, param, argument)
        path = '' if item is None else item.path
        print(f'NVPM ERROR: Error opening {path}: 13')
        print(f'NVPM ERROR: failed to write PARAM {param}: ARG {argument}: PATH {path}')
        print('NVPM ERROR: failed to set power mode!')
        return 0

    def _needs_reboot(self, mode: ConfMode) -> bool:
        if self._state['stale_prompt']:
            return True
        now = self._conf.mode(stored_mode(self._root, self._conf))
        if now is None or now.mode_id == mode.mode_id or self._board.reboot_rule == 'never':
            return False
        return self._board.reboot_rule == 'always' or (
            now.value('TPC_PG_MASK') != mode.value('TPC_PG_MASK'))

    def _ask(self, mode: ConfMode) -> int:
        """Ask for the reboot, or reboot at once when forced."""
        if self._state['gpu_used']:
            print('NVPM WARN: Golden image context is already created')
        if self._options.force:
            print('Automatically rebooting to reflect the mode change')
            print('NVPM WARN: rebooting..')
            return self._reboot(mode)
        print(f'NVPM WARN: Reboot required for changing to this power mode: {mode.mode_id}')
        print('NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:', flush=True)
        answer = sys.stdin.readline()
        if answer.strip() in ('yes', 'YES'):
            print('NVPM WARN: rebooting')
            return self._reboot(mode)
        if not answer:
            print('NVPM ERROR: bad input!')
        print('NVPM ERROR: optMask is 1, no request for power mode')
        return ABORTED

    def _reboot(self, mode: ConfMode) -> int:
        """Restart in the new mode, with everything else as after switching on."""
        release_clocks(self._root, self._board)
        self._apply(mode)
        with changing_state(self._root) as state:
            _forget_before_boot(state)
        return 0

    def _apply(self, mode: ConfMode) -> None:
        write_settings(self._root, self._conf, mode)
        self._store(mode)
        kernel.settle(self._root)


def _forget_before_boot(state: BoardState) -> None:
    state['reboots'] += 1
    state['gpu_used'] = False
    state['stale_prompt'] = False
