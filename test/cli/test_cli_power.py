from __future__ import annotations

import argparse
from collections.abc import Callable
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time
from typing import Any

from damaged_files import full_disk
import pytest

from yolov7_trt_ros.cli import main
from yolov7_trt_ros.cli.power import telemetry as power_telemetry
from yolov7_trt_ros.cli.power.modes import mode_lines
from yolov7_trt_ros.cli.verbs import power
from yolov7_trt_ros.emulated_board.boards.catalogue import BOARDS
from yolov7_trt_ros.emulated_board.machine import emulate_host
from yolov7_trt_ros.errors import InputError, SettingError
from yolov7_trt_ros.power.defaults import COMMAND_TIMEOUT_S
from yolov7_trt_ros.power.nvpmodel.values import PowerMode
from yolov7_trt_ros.power.rails import RailPower
from yolov7_trt_ros.power.telemetry.energy import EnergyCounter
from yolov7_trt_ros.power.telemetry.sample import BoardSample

Command = Callable[..., subprocess.CompletedProcess[str]]
ORIN = ('--emulate', 'orin_nano_super')


def run(*arguments: object) -> int:
    """Run `yolov7_trt power` in this process."""
    return main.main(['power', *map(str, arguments)])


def test_without_a_known_mode_any_may_need_a_reboot() -> None:
    modes = [PowerMode(0, '15W', {('TPC_POWER_GATING', 'TPC_PG_MASK'): 240}), PowerMode(1, 'MAXN')]
    lines = list(mode_lines(modes, None, None))
    assert 'may need a reboot' in lines[0] and 'reboot' not in lines[1]
    assert 'reboot' not in ''.join(mode_lines(modes[:1], modes[0], None))


def test_a_service_has_no_dry_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run('serve', *ORIN, '--dry-run', '--socket', tmp_path / 'power.sock') != 0
    assert 'power serve has no --dry-run' in capsys.readouterr().err


def test_a_service_that_does_not_answer_leaves_the_json_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv('YOLOV7_TRT_POWER_SOCKET', str(tmp_path / 'nothing.sock'))
    assert run('status', '--json', '-') == 0
    printed = capsys.readouterr()
    assert 'power_mode' in json.loads(printed.out)
    assert 'nobody answers at' in printed.err


def test_help_is_enough(command: Command) -> None:
    done = command('power', '-h')
    assert done.returncode == 0 and 'examples:\n  yolov7_trt power status' in done.stdout
    for action in ('status', 'modes', 'set', 'clocks', 'restore', 'watch', 'record', 'plot',
                   'permissions'):
        assert f'\n    {action} ' in done.stdout


def test_the_default_time_limit_is_that_of_the_tools() -> None:
    parser = argparse.ArgumentParser()
    power.add_arguments(parser)
    assert parser.get_default('timeout') == COMMAND_TIMEOUT_S


@pytest.mark.parametrize('board', sorted(BOARDS))
def test_status_tells_board_mode_and_power(
    board: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run('status', '--emulate', board, '--json', '-') == 0
    printed = capsys.readouterr()
    record = json.loads(printed.out)
    assert 'Jetson' in record['board']
    assert record['jetson_clocks'] == 'off'
    mode = BOARDS[board].mode(BOARDS[board].default_mode)
    assert record['power_mode'] == f'{mode.name} ({mode.mode_id})'
    assert record['sample']['total (W)'] > 1
    assert 'power mode' in printed.err


def test_modes_marks_the_one_in_force(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*ORIN, 'modes') == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith('*')] == [lines[1]]
    assert '25W' in lines[1] and 'GPU 918 MHz' in lines[1]


def test_the_modes_of_a_conf_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf = tmp_path / 'nvpmodel.conf'
    conf.write_text(
        '< PARAM TYPE=CLOCK NAME=GPU >\n'
        'MAX_FREQ /sys/devices/57000000.gpu/devfreq/57000000.gpu/max_freq\n'
        '< POWER_MODEL ID=4 NAME=FIELD >\nGPU MAX_FREQ 460800000\n'
        '< POWER_MODEL ID=9 NAME=YARD >\nGPU MAX_FREQ -1\n< PM_CONFIG DEFAULT=4 >\n')
    assert run('--emulate', conf, 'modes') == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ['*  4  FIELD          GPU 461 MHz, default', '   9  YARD']
    assert run('--emulate', conf, 'set', 'YARD') == 0
    assert run('--emulate', tmp_path / 'none.conf', 'modes') == 1
    assert 'No such file' in capsys.readouterr().err


def test_set_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run('set', 'MAXN_SUPER', *ORIN) == 0
    assert capsys.readouterr().out.endswith('power mode: MAXN_SUPER (2)\n')


@pytest.mark.parametrize(('mode', 'reason'), [
    ('7W', 'TPC_PG_MASK 240 -> 252'), ('MAXN', 'MAXN_SUPER'),
])
def test_a_mode_that_cannot_be_set(
    mode: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*ORIN, 'set', mode) == 1
    assert reason in capsys.readouterr().err


def test_a_dry_run_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run('--dry-run', *ORIN, 'set', '0') == 0
    printed = capsys.readouterr().out
    assert 'would run' in printed and 'dry run' in printed


@pytest.mark.parametrize(('state', 'now'), [('on', 'on'), ('off', 'off'), ('restore', 'off')])
def test_clocks(state: str, now: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*ORIN, 'clocks', state) == 0
    assert capsys.readouterr().out.endswith(f'jetson_clocks: {now}\n')


def test_permissions_are_exact_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*ORIN, 'permissions', '--install') == 0
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if 'NOPASSWD' in line]
    assert any(line.endswith('/nvpmodel -m 2') for line in lines)
    assert not any('*' in line for line in lines)
    assert '# installed for' in printed and 'answer yes' in printed
    assert not any('-m 3' in line or 'nvfancontrol' in line for line in lines)
    assert run(*ORIN, 'permissions', '--reboot-modes', '--fan') == 0
    printed = capsys.readouterr().out
    assert '/nvpmodel -m 3\n' in printed and 'nvfancontrol' in printed


def test_recorded_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip('matplotlib')
    csv, png = tmp_path / 'a' / 'x.csv', tmp_path / 'b' / 'x.png'
    assert run(*ORIN, 'record', '-o', csv, '--seconds', 0.3, '--period', 0.1) == 0
    assert '4 samples over ' in capsys.readouterr().out
    columns = power_telemetry.read_csv(csv)
    assert len(columns['total (W)']) == 4 and min(columns['total (W)']) > 1
    assert run('plot', csv, '-o', png) == 0
    assert png.read_bytes().startswith(b'\x89PNG')


def test_watch_shows_energy(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*ORIN, 'watch', '--seconds', 0.2, '--period', 0.1) == 0
    printed = capsys.readouterr().out
    assert printed.count('total (W)') == 3 and 'energy (J)' in printed and '\x1b' not in printed


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_recording_that_is_interrupted_is_whole(tmp_path: Path, number: int) -> None:
    csv, boards = tmp_path / 'x.csv', tmp_path / 'boards'
    boards.mkdir()
    recording = subprocess.Popen(
        [sys.executable, '-m', 'yolov7_trt_ros', 'power', *ORIN, 'record', '-o', str(csv),
         '--period', '0.05'],
        stdout=subprocess.PIPE, text=True, env={**os.environ, 'TMPDIR': str(boards)},
    )
    end_s = time.monotonic() + 600
    while not (csv.exists() and csv.read_text().count('\n') > 3) and time.monotonic() < end_s:
        assert recording.poll() is None
    assert list(boards.iterdir())
    recording.send_signal(number)
    printed, _ = recording.communicate(timeout=600)
    assert recording.returncode == 0 and 'samples over' in printed
    assert power_telemetry.read_csv(csv)['total (W)']
    assert not list(boards.iterdir())


@pytest.mark.parametrize('arguments', [
    ('watch', '--period', 0), ('record', '-o', 'x.csv', '--seconds', -1),
    ('--emulate', 'tx9', 'status'),
])
def test_wrong_values(
    arguments: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*(() if '--emulate' in arguments else ORIN), *arguments) == 2
    assert not list(tmp_path.iterdir())


def test_an_unknown_board_lists_those_there_are() -> None:
    with pytest.raises(SettingError, match='orin_nano_super, thor, or give'):
        emulate_host('tx9')


@pytest.mark.parametrize(('text', 'reason'), [
    ('', 'an empty file'), ('a,b\n1,2\n', 'found a, b'),
    ('time (s),total (W)\n0,1\n1,much\n', 'line 3: total'),
])
def test_files_that_are_no_recording(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / 'x.csv'
    path.write_text(text)
    with pytest.raises(InputError, match=reason):
        power_telemetry.read_csv(path)


def test_columns_are_those_of_the_first_sample(tmp_path: Path) -> None:
    first = BoardSample(0, {'IN': RailPower(5000.0, None, None)}, total_mw=5000.0)
    later = BoardSample(10**9, temperatures_c={'tj': 50.0}, alarms=('hot', 'hotter'))
    recorded = power_telemetry.write_csv(tmp_path / 'x.csv', [first, later])
    assert (recorded.rows, recorded.seconds, recorded.mean_w) == (2, 1.0, None)
    lines = [line.split(',') for line in (tmp_path / 'x.csv').read_text().splitlines()]
    assert lines[0] == ['time (s)', 'unix time (s)', 'total (W)', 'IN (W)', 'alarms']
    assert [(line[0], *line[2:]) for line in lines[1:]] == [
        ('0.000', '5.000', '5.000', ''), ('1.000', '', '', 'hot; hotter')]
    assert float(lines[2][1]) - float(lines[1][1]) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize('is_written', [False, True])
def test_a_signal_beside_the_last_row_does_not_change_the_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_written: bool
) -> None:
    samples = [
        BoardSample(number * 10**9, {'IN': RailPower(5000.0, None, None)}, total_mw=5000.0)
        for number in range(3)
    ]
    where = (EnergyCounter, 'add') if is_written else (power_telemetry, '_csv_row')
    usual = getattr(*where)

    def interrupted(*arguments: Any) -> Any:
        if samples[2] in arguments and not told:
            told.append('interrupted')
            raise KeyboardInterrupt
        return usual(*arguments)

    told: list[str] = []
    monkeypatch.setattr(*where, interrupted)
    recorded = power_telemetry.write_csv(tmp_path / 'x.csv', samples)
    rows = len(power_telemetry.read_csv(tmp_path / 'x.csv')['time (s)'])
    assert (told, recorded.rows) == (['interrupted'], rows) and rows == 2 + is_written
    assert (recorded.seconds, recorded.mean_w) == (1.0 + is_written, 5.0)


@pytest.mark.parametrize(('words', 'told'), [
    (['status', '--dry-run'], '--dry-run has no effect on what only reads'),
    (['--dry-run', 'modes'], '--dry-run has no effect on what only reads'),
    (['--emulate', 'nano', 'plot', 'x.csv', '-o', 'x.png'], '--emulate has no effect on a rec'),
    (['plot', 'x.csv', '-o', 'x.png', '--timeout', '5'], '--timeout has no effect on a recorded'),
])
def test_options_without_effect_are_refused(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    assert told in capsys.readouterr().err


def test_a_recording_on_a_full_disk_names_its_file(tmp_path: Path) -> None:
    first = BoardSample(0, {'IN': RailPower(5000.0, None, None)}, total_mw=5000.0)
    with full_disk(), pytest.raises(OSError, match='File too large') as caught:
        power_telemetry.write_csv(tmp_path / 'x.csv', [first] * 100)
    assert caught.value.filename == str(tmp_path / 'x.csv')


def test_a_recording_lies_beside_a_bag(tmp_path: Path) -> None:
    before_s = time.time()
    assert run(*ORIN, 'record', '-o', tmp_path / 'x.csv', '--seconds', 0.2, '--period', 0.1) == 0
    stamps = power_telemetry.read_csv(tmp_path / 'x.csv')['unix time (s)']
    assert before_s < min(stamps) <= max(stamps) < time.time()
    assert stamps == sorted(set(stamps))


def test_memory_in_status_and_recording(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*ORIN, 'status', '--json', '-') == 0
    record = json.loads(capsys.readouterr().out)
    sample = record['sample']
    assert sample['RAM used (MiB)'] + sample['RAM available (MiB)'] == 7607
    assert sample['largest free block (MiB)'] == 4.0 and record['warnings'] == []
    assert sample['fan (rpm)'] > 0 and sample['emc (MHz)'] > 0
    assert record['module'] == 'Jetson Orin Nano 8GB' and record['JetPack'] == '6.2.1'
    assert record['uptime'] == '0 d 00:01' and 'GiB free' in record['disk']


def test_modes_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*ORIN, 'modes', '--json', '-') == 0
    record = json.loads(capsys.readouterr().out)
    assert (record['current'], record['default']) == (1, 1)
    modes = {mode['name']: mode for mode in record['modes']}
    assert modes['7W'] == {
        'id': 3, 'name': '7W', 'cores': [0, 1, 2, 3], 'cores_off': [4, 5],
        'cpu_max_khz': 960000, 'gpu_max_hz': 408000000, 'emc_max_hz': 2133000000,
        'masks': {'FBP_PG_MASK': 2, 'TPC_PG_MASK': 252}, 'is_default': False,
        'needs_reboot': True}
    assert modes['MAXN_SUPER']['gpu_max_hz'] is None
    assert [modes[name]['needs_reboot'] for name in ('15W', '25W')] == [False, False]
    assert modes['25W']['is_default'] is True
