"""
Read and change the power of the board: modes, clocks, telemetry.

A change counts only when it was read back, and nothing is ever rebooted. If root is needed it uses
`sudo -n`; `permissions` prints the sudoers lines for that. With --emulate it uses a board that is
emulated while the command runs, and does not touch this machine.

Examples
--------
  yolov7_trt power status
  yolov7_trt power set MAXN
  yolov7_trt power restore
  yolov7_trt power --emulate orin_nano_super watch
  yolov7_trt power --emulate ./nvpmodel.conf modes
  yolov7_trt power record -o drive.csv --seconds 60
  yolov7_trt power plot drive.csv -o drive.png
  yolov7_trt power permissions --install
  sudo yolov7_trt power serve --group robot

"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
import contextlib
import os
from pathlib import Path
import sys
from typing import Any, TYPE_CHECKING

from yolov7_trt_ros.cli import interruption, output_paths
from yolov7_trt_ros.cli.arguments import add_json_argument
from yolov7_trt_ros.cli.effects.given_options import refuse_without_effect
from yolov7_trt_ros.cli.output import format_table, report_stream, warn, write_json
from yolov7_trt_ros.cli.verb_parser import finite_number
from yolov7_trt_ros.core.plain_text import quoted
from yolov7_trt_ros.errors import PowerError, SettingError
from yolov7_trt_ros.power.defaults import (
    COMMAND_TIMEOUT_S,
    DEFAULT_SOCKET,
    LONGEST_TIMEOUT_S,
    SHORTEST_TIMEOUT_S,
)

if TYPE_CHECKING:
    from yolov7_trt_ros.power.board_control import BoardControl
    from yolov7_trt_ros.power.machine import PowerHost

DEFAULT_PERIOD_S = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions, and their common arguments."""
    _add_board_arguments(parser, '', COMMAND_TIMEOUT_S, dry_run=False)
    actions = parser.add_subparsers(title='actions', metavar='ACTION', required=True)

    def add(name: str, act: Callable[[argparse.Namespace], int], text: str) -> Any:
        action = actions.add_parser(name, help=text, description=text)
        missing = argparse.SUPPRESS  # an option before the action stays
        _add_board_arguments(action, missing, missing, dry_run=missing)
        action.set_defaults(act=act)
        return action

    add_json_argument(add('status', _status, 'show board, mode, clocks and a sample'))
    add_json_argument(add('modes', _modes, 'list the power modes, with the current one marked'))
    add('set', _set, 'change the power mode').add_argument(
        'mode', metavar='MODE', help='name or id'
    )
    add('clocks', _clocks, 'lock all clocks with jetson_clocks, or unlock them').add_argument(
        'state', choices=('on', 'off', 'restore'),
        help='off and restore are the same: they restore the state before on',
    )
    add('restore', _restore, 'restore what a killed process has left changed')
    watch = add('watch', _watch, 'show the telemetry until q or Ctrl-C')
    watch.add_argument(
        '--plain', action='store_true',
        help='one table after another, as without a terminal or without rich',
    )
    _add_period(watch)
    record = add('record', _record, 'write the telemetry to a CSV file')
    record.add_argument('-o', '--output', required=True, type=Path, metavar='CSV')
    _add_period(record)
    plot = add('plot', _plot, 'draw a recorded CSV file (needs matplotlib)')
    plot.add_argument('csv', type=Path, metavar='CSV')
    plot.add_argument('-o', '--output', required=True, type=Path, metavar='PNG')
    permissions = add(
        'permissions', _permissions, 'print the sudoers lines to change power without root'
    )
    permissions.add_argument(
        '--install', action='store_true',
        help='check them with visudo and put them into /etc/sudoers.d (run with sudo)',
    )
    permissions.add_argument(
        '--reboot-modes', action='store_true',
        help='also for power modes that need a reboot: that user can then reboot the board',
    )
    permissions.add_argument(
        '--fan', action='store_true',
        help="also for the fan: that user can then rewrite the fan's configuration",
    )
    _add_serve(add('serve', _serve, 'change this host for containers, through a socket'))


def _add_serve(serve: argparse.ArgumentParser) -> None:
    serve.add_argument(
        '--socket', type=Path, default=DEFAULT_SOCKET, metavar='PATH',
        help='where to listen (default: %(default)s; a socket of systemd takes precedence)',
    )
    serve.add_argument(
        '--group', metavar='NAME', help='the group that may use it (default: root only)'
    )
    serve.add_argument(
        '--reboot-modes', action='store_true',
        help='also power modes that need a reboot: nvpmodel itself then refuses them',
    )
    serve.add_argument('--fan', action='store_true', help='also the fan profile')


def run(args: argparse.Namespace) -> int:
    """Do one action; returns the exit status."""
    if args.act in (_status, _modes, _watch, _record, _plot):
        refuse_without_effect(args, ['--dry-run'], 'on what only reads')
    if args.act is _plot:
        refuse_without_effect(args, ['--emulate', '--timeout'], 'on a recorded file')
    status: int = args.act(args)
    return status


def _add_board_arguments(
    parser: argparse.ArgumentParser, emulate: str, timeout_s: Any, *, dry_run: Any
) -> None:
    parser.add_argument(
        '--emulate', default=emulate, metavar='BOARD',
        help='instead of this machine: nano, tx2, xavier_nx, agx_xavier, agx_orin, agx_orin_32gb, '
        'orin_nx, orin_nano, orin_nano_super, thor, or the path of an nvpmodel.conf',
    )
    parser.add_argument(
        '--timeout', type=_timeout_s, default=timeout_s, metavar='S',
        help='time limit of one tool, '
        f'{SHORTEST_TIMEOUT_S:g}..{LONGEST_TIMEOUT_S:g} (default: {COMMAND_TIMEOUT_S:g})',
    )
    parser.add_argument(
        '--dry-run', action='store_true', default=dry_run, help='only print what would be done'
    )


def _timeout_s(text: str) -> float:
    """Return a time limit of the tools, within that of the node's parameter."""
    value = finite_number(text)
    if not SHORTEST_TIMEOUT_S <= value <= LONGEST_TIMEOUT_S:
        raise argparse.ArgumentTypeError(
            f'must be within {SHORTEST_TIMEOUT_S:g}..{LONGEST_TIMEOUT_S:g} s, got {quoted(text)}'
        )
    return value


def _add_period(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--period', type=float, default=DEFAULT_PERIOD_S, metavar='S',
        help='seconds between samples (default: %(default)s; rails are averages over about 0.4 s)',
    )
    parser.add_argument(
        '--seconds', type=float, default=None, metavar='N', help='end after N seconds'
    )


@contextlib.contextmanager
def _opened(args: argparse.Namespace) -> Iterator[tuple[PowerHost, BoardControl]]:
    """Open the control of this machine, or of an emulated one that is deleted at the end."""
    from yolov7_trt_ros.power.board_control import open_control

    stream = report_stream(getattr(args, 'json', None))
    with _host(args) as host:
        control = open_control(
            host.root, host.runner, socket=host.power_socket, dry_run=args.dry_run,
            timeout_s=args.timeout, report=lambda line: print(f'  {line}', file=stream),
        )
        with contextlib.closing(control):
            yield host, control


@contextlib.contextmanager
def _host(args: argparse.Namespace) -> Iterator[PowerHost]:
    with contextlib.closing(_open_host(args.emulate)) as host:
        yield host


def _open_host(emulate: str) -> PowerHost:
    if emulate:
        from yolov7_trt_ros.emulated_board.machine import emulate_host

        return emulate_host(emulate)
    from yolov7_trt_ros.power.machine import this_host

    return this_host()


def _status(args: argparse.Namespace) -> int:
    from yolov7_trt_ros.cli.power.telemetry import open_source, sample_record, sample_rows
    from yolov7_trt_ros.power.board.machine_facts import machine_facts

    output_paths.check_json(args.json)
    with _opened(args) as (host, control):
        board = control.board()
        record: dict[str, Any] = {
            'board': board.name,
            'l4t_release': board.l4t_release,
            'power_mode': _text_or_error(lambda: _mode_text(control)),
            'jetson_clocks': _text_or_error(control.jetson_clocks_state),
            'fan_profile': _text_or_error(lambda: control.fan_profile() or 'none can be set'),
            **machine_facts(host.root, board),
        }
        rows = [(name.replace('_', ' '), str(value)) for name, value in record.items()]
        try:
            with open_source(host) as source:
                sample = source.read()
                record |= {'source': source.name, **sample_record(sample)}
                rows += [('source', source.name), *sample_rows(sample)]
        except PowerError as exc:
            warn(exc)
    print(format_table(rows), file=report_stream(args.json))
    if args.json:
        write_json(args.json, record)
    return 0


def _mode_text(control: BoardControl) -> str:
    mode = control.current_mode()
    doubt = f'; {mode.contradiction}' if mode.contradiction else ''
    return f'{mode.name} ({mode.mode_id}){doubt}'


def _text_or_error(look: Callable[[], str]) -> str:
    """Return the text of `look`, or its error; a PC has none of these."""
    try:
        return look()
    except PowerError as exc:
        return f'unknown ({exc})'


def _modes(args: argparse.Namespace) -> int:
    from yolov7_trt_ros.cli.power.modes import mode_lines, modes_record

    output_paths.check_json(args.json)
    with _opened(args) as (_, control):
        modes, default_id = control.modes(), control.default_mode_id()
        try:
            current_id = control.current_mode().mode_id
        except PowerError as exc:
            warn(exc)
            current_id = None
    current = next((mode for mode in modes if mode.mode_id == current_id), None)
    for line in mode_lines(modes, current, default_id):
        print(line, file=report_stream(args.json))
    if args.json:
        write_json(args.json, modes_record(modes, current, default_id))
    return 0


def _set(args: argparse.Namespace) -> int:
    with _opened(args) as (_, control):
        mode = control.set_mode(args.mode)
        control.keep()
    print(f'power mode: {mode.name} ({mode.mode_id}){", dry run" if args.dry_run else ""}')
    return 0


def _clocks(args: argparse.Namespace) -> int:
    with _opened(args) as (_, control):
        print(f'jetson_clocks: {control.set_jetson_clocks(args.state == "on")}')
        control.keep()
    return 0


def _restore(args: argparse.Namespace) -> int:
    """Restore; exit status 1 if something cannot be restored, which stays in the journal."""
    with _opened(args) as (host, control):
        left = control.adopt()
        control.restore()
        left_on_gpu, problem = _restore_gpu(host, dry_run=args.dry_run)
        left += left_on_gpu
        if control.journal_problem or problem:
            return 1
    print(f'put back: {", ".join(left)}' if left else 'nothing to put back')
    return 0


def _restore_gpu(host: PowerHost, *, dry_run: bool) -> tuple[tuple[str, ...], str]:
    """
    Restore a PC's GPU after an earlier process; opens the GPU only if needed.

    Returns what was restored, and the defect of the journal.
    """
    from yolov7_trt_ros.power.nvml.gpu import NvmlGpu
    from yolov7_trt_ros.power.nvml.gpu_journal import GpuJournal

    if host.nvml is None or not host.runner.is_root:
        return (), ''
    journal = GpuJournal(host.root, 'yolov7_trt power')
    gpu = NvmlGpu(
        host.nvml, dry_run=dry_run, journal=journal, report=lambda line: print(f'  {line}')
    )
    with contextlib.closing(gpu):
        left = gpu.adopt()
        gpu.restore()
    return left, gpu.journal_problem


def _watch(args: argparse.Namespace) -> int:
    from yolov7_trt_ros.cli.power.telemetry import check_times, open_source, samples, show
    from yolov7_trt_ros.cli.power.watch import BoardFacts, can_draw, watch

    check_times(args.period, args.seconds)
    if args.plain or not can_draw(sys.stdout):
        if sys.stdout.isatty() and not args.plain:
            warn('for the whole terminal rich is needed, which is not installed: pip install rich')
        with _host(args) as host, open_source(host) as source:
            show(source.name, samples(source, args.period, args.seconds))
        return 0
    with _opened(args) as (host, control), open_source(host) as source:
        facts = BoardFacts(control, host.root, source.name)
        with contextlib.closing(facts):
            watch(source, lambda: facts.now, args.period, args.seconds)
    return 0


def _record(args: argparse.Namespace) -> int:
    from yolov7_trt_ros.cli.power.telemetry import open_source, samples, write_csv

    output_paths.check_file('--output', args.output, 'CSV')
    with (
        interruption.explain(), _host(args) as host, open_source(host) as source,
    ):
        recorded = write_csv(args.output, samples(source, args.period, args.seconds))
    mean = '' if recorded.mean_w is None else f', mean {recorded.mean_w:.2f} W'
    print(f'{recorded.rows} samples over {recorded.seconds:.1f} s{mean}: {args.output}')
    return 0


def _plot(args: argparse.Namespace) -> int:
    from yolov7_trt_ros.cli.power.telemetry import plot_csv

    form = 'picture' if args.output.suffix.lower() == '.png' else ''
    output_paths.check_file('--output', args.output, form, [args.csv])
    plot_csv(args.csv, args.output)
    print(args.output)
    return 0


def _permissions(args: argparse.Namespace) -> int:
    from yolov7_trt_ros.power.control import PowerControl
    from yolov7_trt_ros.power.root.permissions import install_permissions
    from yolov7_trt_ros.power.root.sudoers import sudoers_text

    with (
        _host(args) as host,
        contextlib.closing(
            PowerControl(host.root, host.runner, timeout_s=args.timeout)
        ) as control,
    ):
        user = _calling_user(host)
        text = sudoers_text(user, control.privileged_commands(
            reboot_modes=args.reboot_modes, fan=args.fan
        ))
        sys.stdout.write(text)
        if args.install and not args.dry_run:
            done = install_permissions(host.runner, text, host.root)
            how = 'checked by visudo' if done.checked else 'not checked: visudo is not installed'
            print(f'# installed for {user} as {done.path} ({how})')
    return 0


def _calling_user(host: PowerHost) -> str:
    """Return the user of the lines: the one who called sudo, if it was called."""
    return os.environ.get('SUDO_USER') or host.runner.user


def _serve(args: argparse.Namespace) -> int:
    from yolov7_trt_ros.cli.power.serve import serve
    from yolov7_trt_ros.power.service.verbs import Grants

    if args.dry_run:
        raise SettingError(
            'power serve has no --dry-run: it changes what its clients ask for; start the client '
            'with it, the node with dry_run:=true'
        )
    with _host(args) as host:
        grants = Grants(args.reboot_modes, args.fan)
        serve(host, args.socket, args.group, grants, args.timeout)
    return 0
