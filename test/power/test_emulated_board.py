"""The emulated board is and behaves as boards were recorded to."""

from __future__ import annotations

import json
import os
from pathlib import Path
import re
import subprocess
import threading
import time

from board_tools import GPU, run, tegrastats_lines
import pytest

from yolov7_trt_ros.emulated_board import physics
from yolov7_trt_ros.emulated_board.board import create_board, EmulatedBoard
from yolov7_trt_ros.emulated_board.boards.catalogue import BOARDS
from yolov7_trt_ros.emulated_board.clocks import round_down, round_up
from yolov7_trt_ros.errors import PowerCommandError
from yolov7_trt_ros.power.board.identity import JETSON, read_board
from yolov7_trt_ros.power.nvpmodel.answers import parse_query, parse_status_file
from yolov7_trt_ros.power.nvpmodel.conf import parse_conf
from yolov7_trt_ros.power.sysfs import SysfsTree
from yolov7_trt_ros.power.telemetry.sysfs_source import SysfsSource
from yolov7_trt_ros.power.telemetry.tegrastats import parse_line

# What it is


def test_our_readers_understand_every_board(any_board: EmulatedBoard) -> None:
    definition = any_board.definition
    info = read_board(any_board.root)
    assert (info.name, info.kind) == (definition.model, JETSON)
    assert f'R{info.l4t_release}' == definition.l4t_release
    assert info.soc == definition.soc_family

    conf = parse_conf((any_board.root / 'etc/nvpmodel.conf').read_text('utf-8'))
    assert [(mode.mode_id, mode.name) for mode in conf.modes] == [
        (mode.mode_id, mode.name) for mode in definition.modes]
    assert [mode.tpc_mask for mode in conf.modes] == [mode.tpc_mask for mode in definition.modes]
    assert conf.default_id == definition.default_mode
    assert parse_status_file((any_board.root / 'var/lib/nvpmodel/status').read_text('utf-8')) == (
        definition.default_mode)


def test_every_path_of_the_conf_is_a_file_of_the_board(any_board: EmulatedBoard) -> None:
    text = (any_board.root / 'etc/nvpmodel.conf').read_text('utf-8')
    paths = [line.split(maxsplit=1)[1].replace(' ', '/') for line in text.splitlines()
             if ' /sys/' in line]
    assert paths
    assert [path for path in paths if not any_board.read(path)] == []


def test_our_parsers_understand_every_tool(any_board: EmulatedBoard) -> None:
    definition = any_board.definition
    current = parse_query(run(any_board, 'nvpmodel', '-q').stdout)
    assert current.mode_id == definition.default_mode
    assert current.name == definition.mode(definition.default_mode).name

    any_board.set_load(gpu=0.5, cpu=0.25)
    any_board.step(2)
    show = run(any_board, 'jetson_clocks', '--show')
    assert show.returncode == 0
    assert 'MinFreq=' in show.stdout

    for as_root in (True, False):
        any_board.set_options(as_root=as_root)
        for line in tegrastats_lines(any_board, 2):
            sample = parse_line(line)
            assert sample.unknown == ()
            assert len(sample.cpus) == definition.cpu.core_count
            if as_root:
                assert set(sample.rails) == {rail.name for rail in definition.rails}


def test_an_unknown_board_is_refused_with_the_names_there_are(tmp_path: Path) -> None:
    with pytest.raises(PowerCommandError, match='orin_nano_super'):
        create_board('jetson_tx9', tmp_path)


def test_closing_removes_everything_and_may_be_repeated(tmp_path: Path) -> None:
    board = create_board('nano', tmp_path / 'board')
    board.start(0.01)
    board.close()
    board.close()
    assert not (tmp_path / 'board').exists()


def test_without_a_folder_it_goes_into_a_temporary_one() -> None:
    with create_board('nano') as board:
        assert board.read('/proc/device-tree/model').startswith('NVIDIA Jetson Nano')
    assert not board.root.exists()
    assert not board.root.parent.exists()


# Against the recordings, where they are


def test_verbose_query_is_the_recorded_one(orin: EmulatedBoard, shared_data: Path) -> None:
    recorded = shared_data / 'jetson/q_verbose_orin_nano_super_25W_r36.4.3.txt'
    assert run(orin, 'nvpmodel', '-q', '--verbose').stdout == recorded.read_text('utf-8')


def without_readings(text: str) -> str:
    """Blank out what depends on load and heat, and on the order in which drivers loaded."""
    text = re.sub(r'CurrentFreq=\d+', 'CurrentFreq=', text)
    return re.sub(r'(hwmon\d+_pwm1|speed)=\d+', 'fan', text).replace(' \n', '\n').rstrip()


@pytest.mark.parametrize(('board_name', 'file'), [
    ('nano', 'show_nano_r32_maxn.txt'),
    ('orin_nano_super', 'show_orin_nano_super_r36.4.3_25W.txt'),
])
def test_show_is_the_recorded_one(
    board_name: str, file: str, tmp_path: Path, shared_data: Path
) -> None:
    recorded = (shared_data / 'jetson/jetson_clocks' / file).read_text('utf-8')
    with create_board(board_name, tmp_path) as board:
        shown = run(board, 'jetson_clocks', '--show').stdout
    assert without_readings(shown) == without_readings(recorded)


def test_show_of_locked_thor_is_the_recorded_one(tmp_path: Path, shared_data: Path) -> None:
    recorded = shared_data / 'jetson/jetson_clocks/show_thor_r38_maxn_locked.txt'
    with create_board('thor', tmp_path) as board:
        run(board, 'nvpmodel', '-m', '0')
        run(board, 'jetson_clocks')
        shown = run(board, 'jetson_clocks', '--show').stdout
    text = recorded.read_text('utf-8')
    pattern = re.compile(r'hwmon\d+_pwm1(_enable)?=\d+')
    assert pattern.sub('fan', shown).rstrip() == pattern.sub('fan', text).rstrip()


def test_store_files_are_the_recorded_ones(tmp_path: Path, shared_data: Path) -> None:
    folder = shared_data / 'jetson/jetson_clocks'
    with create_board('nano', tmp_path / 'board') as board:
        board.set_heat_sink(-20)  # a fan at rest
        run(board, 'jetson_clocks', '--store', str(tmp_path / 'before'))
        run(board, 'jetson_clocks', '--fan')
        run(board, 'jetson_clocks', '--store', str(tmp_path / 'after'))
    assert (tmp_path / 'before').read_text('utf-8') == (
        folder / 'l4t_dfs_nano_before.conf').read_text('utf-8')
    assert (tmp_path / 'after').read_text('utf-8') == (
        folder / 'l4t_dfs_nano_after_jetson_clocks.conf').read_text('utf-8')


@pytest.mark.parametrize(('board_name', 'conf'), [
    ('xavier_nx', 't194_p3668.conf'), ('agx_orin', 'p3701_0000.conf'),
    ('orin_nano_super', 'p3767_0003_super.conf'), ('nano', 'nano_stock_t210_rageer.conf'),
    ('agx_orin_32gb', 'p3701_0004.conf'), ('orin_nx', 'p3767_0000.conf'),
    ('orin_nano', 'p3767_0003.conf'), ('agx_xavier', 't194.conf'), ('tx2', 't186.conf'),
])
def test_modes_are_those_of_the_table(board_name: str, conf: str, shared_data: Path) -> None:
    text = (shared_data / 'jetson/modes.md').read_text('utf-8')
    section = text.partition(f'### {conf} ')[2].partition('\n### ')[0]
    rows = [[cell.strip() for cell in line.strip('|').split('|')]
            for line in section.splitlines() if re.match(r'\| \d', line)]
    assert rows
    modes = {mode.mode_id: mode for mode in BOARDS[board_name].modes}
    unlisted = BOARDS[board_name].cpu.first_listed  # the file of the TX2 leaves out core 0
    for mode_id, name, cores, cpu, gpu, emc, mask, _ in rows:
        mode = modes[int(mode_id)]
        shown = [mode.name, str(mode.cores - unlisted), str(mode.cpu_max_khz),
                 str(mode.gpu_max_hz), str(mode.emc_max_hz),
                 '-' if mode.tpc_mask is None else str(mode.tpc_mask)]
        assert shown == [name, cores, cpu, gpu, emc, mask]


# Clock tables and modes of single boards


def test_caps_of_the_nano_round_as_recorded(tmp_path: Path) -> None:
    with create_board('nano', tmp_path) as board:
        run(board, 'nvpmodel', '-m', '1')
        assert board.read('/sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq') == '921600'
        assert board.read('/sys/class/devfreq/57000000.gpu/max_freq') == '614400000'


def test_thor_has_the_steps_and_modes_that_are_known() -> None:
    thor = BOARDS['thor']
    assert [len(clock.table_hz) for clock in thor.gpu.clocks] == [170, 183]
    assert len(thor.cpu.table_khz) == 49
    assert [(mode.name, mode.gpu_max_hz, mode.cpu_max_khz, mode.cores) for mode in thor.modes] == [
        ('MAXN', -1, -1, 14), ('120W', 1386000000, 2601000, 14),
        ('90W', 1530000000, 2601000, 12), ('70W', 1530000000, 1998000, 12)]


@pytest.mark.parametrize('name', sorted(BOARDS))
def test_every_table_is_in_order(name: str) -> None:
    board = BOARDS[name]
    for table in (board.cpu.table_khz, board.emc.table_hz,
                  *(clock.table_hz for clock in board.gpu.clocks)):
        assert list(table) == sorted(set(table))
    if name == 'thor':
        for mode in board.modes[1:]:
            assert mode.gpu_max_hz in board.gpu.clocks[0].table_hz
            assert mode.cpu_max_khz in board.cpu.table_khz


def test_a_mode_of_thor_that_gates_tpcs_takes_less_power(tmp_path: Path) -> None:
    with create_board('thor', tmp_path) as board:
        board.set_load(gpu=1.0)
        powers = []
        for mask in (64, 15873):
            board.write('/sys/devices/platform/gpu.0/tpc_pg_mask', mask)
            board.step(10)
            powers.append(board.state['rails_mw']['VDD_GPU'])
    assert powers[1] < 0.6 * powers[0]


def test_the_tx2_switches_its_denver_cores(tmp_path: Path) -> None:
    with create_board('tx2', tmp_path) as board:
        run(board, 'nvpmodel', '-m', '1')
        assert board.read('/sys/devices/system/cpu/online') == '0,3-5'
        sample = parse_line(tegrastats_lines(board, 1)[0])
    assert [cpu.on for cpu in sample.cpus] == [True, False, False, True, True, True]


# Gating and noise


def test_an_idle_gpu_is_gated_as_recorded(tmp_path: Path) -> None:
    with create_board('agx_orin', tmp_path) as board:
        board.step(10)
        line = tegrastats_lines(board, 1)[0]
        assert ' GPU@-256C ' in line and 'GR3D_FREQ 0%@[0,0]' in line
        idle = SysfsSource(SysfsTree(board.root)).read()
        assert 'GPU' not in idle.temperatures_c and idle.problems == ()
        board.set_load(gpu=0.5)
        board.step(1)
        assert 'GPU@-256C' not in tegrastats_lines(board, 1)[0]
        assert SysfsSource(SysfsTree(board.root)).read().temperatures_c['GPU'] > 20
        board.set_load(gpu=0.0)
        run(board, 'jetson_clocks')  # keeps it awake
        assert 'GPU@-256C' not in tegrastats_lines(board, 1)[0]


def test_the_idle_gpu_of_a_nano_takes_nothing(tmp_path: Path) -> None:
    with create_board('nano', tmp_path) as board:
        board.step(10)
        line = tegrastats_lines(board, 1)[0]
    assert 'POM_5V_GPU 0/0' in line and 'GR3D_FREQ 0%@76 ' in line


def test_readings_of_rails_scatter_in_the_steps_of_the_chip(orin: EmulatedBoard) -> None:
    source = SysfsSource(SysfsTree(orin.root))
    readings = []
    for _ in range(40):
        orin.step(0.5)
        readings.append(source.read().rails['VDD_IN'].current_mw)
    assert len(set(readings)) > 3
    assert all(value % 40 == 0 for value in readings)  # 8 mA at 5 V
    true_mw = orin.state['rails_mw']['VDD_IN']
    assert abs(sum(readings) / len(readings) - true_mw) < 0.02 * true_mw


# The kernel: frequencies


def test_frequencies_round_to_the_table() -> None:
    table = (306, 408, 510)
    assert [round_up(table, value) for value in (0, 306, 307, 600)] == [306, 306, 408, 510]
    assert [round_down(table, value) for value in (0, 306, 409, 600)] == [306, 306, 408, 510]


@pytest.mark.parametrize('value', ['-1', '', 'fast'])
def test_what_is_no_frequency_is_not_taken(orin: EmulatedBoard, value: str) -> None:
    orin.write(f'{GPU}/max_freq', value)
    orin.set_load(gpu=1.0)
    orin.step(1)
    assert orin.read(f'{GPU}/cur_freq') == '918000000'


def test_a_minimum_above_the_maximum_is_refused(orin: EmulatedBoard) -> None:
    orin.write(f'{GPU}/max_freq', 510000000)
    orin.write(f'{GPU}/min_freq', 612000000)
    assert orin.read(f'{GPU}/min_freq') == '306000000'
    orin.write(f'{GPU}/min_freq', 510000000)
    orin.write(f'{GPU}/max_freq', 408000000)
    assert orin.read(f'{GPU}/max_freq') == '510000000'


def test_the_clock_follows_load_and_cap(orin: EmulatedBoard) -> None:
    assert orin.read(f'{GPU}/cur_freq') == '306000000'
    orin.set_load(gpu=0.95)
    orin.step(0.1)
    assert orin.read(f'{GPU}/cur_freq') == '918000000'
    orin.write(f'{GPU}/max_freq', 510000000)
    assert orin.read(f'{GPU}/cur_freq') == '510000000'


def test_core_0_stays_online(orin: EmulatedBoard) -> None:
    orin.write('/sys/devices/system/cpu/cpu0/online', 0)
    assert orin.read('/sys/devices/system/cpu/cpu0/online') == '1'


# Power and heat


def test_power_of_the_orin_nano_super_is_as_measured(orin: EmulatedBoard) -> None:
    def settled_mw(**load: float) -> float:
        orin.set_load(**load)
        orin.step(5)
        return orin.state['rails_mw']['VDD_IN']

    assert settled_mw(gpu=0.0, cpu=0.02) == pytest.approx(4500, rel=0.06)
    run(orin, 'nvpmodel', '-m', '2')
    run(orin, 'jetson_clocks')
    assert settled_mw(gpu=0.0, cpu=0.02) == pytest.approx(6610, rel=0.06)
    assert settled_mw(gpu=0.97, cpu=0.2) == pytest.approx(21100, rel=0.06)


def test_rails_show_in_the_files_of_the_release(any_board: EmulatedBoard) -> None:
    any_board.set_load(gpu=0.8)
    any_board.step(5)
    rails = any_board.state['rails_mw']
    shown = {**iio_rails(any_board), **hwmon_rails(any_board)}
    assert shown.keys() == rails.keys() - {'VIN'}
    for name, milliwatt in shown.items():
        rail = any_board.definition.rail(name)
        assert rail is not None
        step_mw = rail.step_ma * rail.voltage_mv / 1000
        assert milliwatt == pytest.approx(rails[name], rel=0.05, abs=step_mw)


def iio_rails(board: EmulatedBoard) -> dict[str, float]:
    folders = board.root.glob('sys/bus/i2c/drivers/ina3221x/*/iio:device*')
    return {
        (folder / f'rail_name_{number}').read_text('utf-8').strip():
            int((folder / f'in_power{number}_input').read_text('utf-8'))
        for folder in folders for number in range(3)}


def hwmon_rails(board: EmulatedBoard) -> dict[str, float]:
    rails = {}
    for folder in board.root.glob('sys/class/hwmon/hwmon*'):
        if (folder / 'name').read_text('utf-8') == 'ina3221\n':
            for channel in (1, 2, 3):
                name = (folder / f'in{channel}_label').read_text('utf-8').strip()
                volts = int((folder / f'in{channel}_input').read_text('utf-8'))
                amperes = int((folder / f'curr{channel}_input').read_text('utf-8'))
                rails[name] = volts * amperes / 1000
    rails.pop('NC', None)
    return rails


def test_readings_lag_as_the_monitor_averages(orin: EmulatedBoard) -> None:
    orin.step(2)
    before = orin.state['rails_mw']['VDD_IN']
    orin.set_load(gpu=1.0)
    orin.step(0.1)
    soon = orin.state['rails_mw']['VDD_IN']
    orin.step(5)
    late = orin.state['rails_mw']['VDD_IN']
    assert before < soon < late
    assert (soon - before) / (late - before) < 0.3


def test_power_rises_with_clock_and_load() -> None:
    board = BOARDS['orin_nano_super']

    def gpu_mw(clock: float, load: float) -> float:
        activity = physics.Activity(clock, 1.0, 1.0, load, 0.0, 0.0)
        return physics.part_powers(board, activity).gpu_mw

    assert gpu_mw(0.5, 0.5) < gpu_mw(0.5, 0.9) < gpu_mw(1.0, 0.9)
    assert gpu_mw(0.5, 1.0) < 0.5 * gpu_mw(1.0, 1.0)


def test_it_warms_up_under_load_and_the_fan_follows(any_board: EmulatedBoard) -> None:
    number = next(index for index, zone in enumerate(any_board.definition.thermal.zones)
                  if zone.label.lower() == 'gpu')
    path = f'/sys/class/thermal/thermal_zone{number}/temp'
    any_board.set_load(gpu=0.01)  # an idle one may be gated
    any_board.step(1)
    cold = int(any_board.read(path))
    any_board.set_load(gpu=1.0, cpu=1.0)
    any_board.step(300)
    warm = int(any_board.read(path))
    assert warm > cold + 5000
    any_board.step(900)
    assert abs(int(any_board.read(path)) - warm) < 15000
    assert any_board.state['throttle_level'] == 0


def test_heat_throttles_even_locked_clocks_and_ends(orin: EmulatedBoard) -> None:
    run(orin, 'nvpmodel', '-m', '2')
    run(orin, 'jetson_clocks')
    orin.set_load(gpu=1.0, cpu=0.5)
    orin.set_ambient(75)
    orin.step(300)
    assert orin.read('/sys/class/thermal/cooling_device1/type') == 'gpu-throttle-alert'
    assert int(orin.read('/sys/class/thermal/cooling_device1/cur_state')) > 0
    assert int(orin.read(f'{GPU}/cur_freq')) < 1020000000
    orin.set_ambient(20)
    orin.step(300)
    assert orin.read('/sys/class/thermal/cooling_device1/cur_state') == '0'
    assert orin.read(f'{GPU}/cur_freq') == '1020000000'


def test_a_current_above_its_limit_alarms_counts_and_slows(orin: EmulatedBoard) -> None:
    orin.set_load(gpu=1.0)
    orin.step(3)
    folder = '/sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1'
    assert orin.read(f'{folder}/in1_label') == 'VDD_IN'
    assert orin.read(f'{folder}/curr1_crit_alarm') == '0'
    orin.write(f'{folder}/curr1_max', 2000)
    orin.step(0.1)
    assert orin.read(f'{folder}/curr1_max_alarm') == '1'
    assert orin.read('/sys/class/hwmon/hwmon2/oc1_event_cnt') == '0'
    orin.write(f'{folder}/curr1_crit', 3000)
    orin.step(0.2)
    assert orin.read(f'{folder}/curr1_crit_alarm') == '1'
    assert orin.read('/sys/class/hwmon/hwmon2/oc1_event_cnt') == '1'
    orin.step(0.2)
    assert orin.read(f'{GPU}/cur_freq') == '510000000'


def test_the_temperature_of_a_gated_block_cannot_be_read(tmp_path: Path) -> None:
    with create_board('agx_orin', tmp_path) as board:
        zone = board.root / 'sys/class/thermal/thermal_zone0'
        assert (zone / 'type').read_text('utf-8') == 'CV0-therm\n'
        with pytest.raises(OSError):
            (zone / 'temp').read_text('utf-8')


def test_loads_show_in_the_files_that_programs_read(orin: EmulatedBoard) -> None:
    orin.set_load(gpu=0.375, cpu=0.5)
    before = orin.read('/proc/stat').split()
    orin.step(10)
    after = orin.read('/proc/stat').split()
    busy, idle = (int(after[index]) - int(before[index]) for index in (1, 4))
    assert busy / (busy + idle) == pytest.approx(0.5, abs=0.01)
    assert orin.read('/sys/devices/platform/gpu.0/load') == '375'
    assert 'MemTotal' in orin.read('/proc/meminfo')


# Trouble on request


def test_a_read_hangs_until_it_is_released(orin: EmulatedBoard) -> None:
    orin.hang(f'{GPU}/cur_freq')
    texts: list[str] = []
    reader = threading.Thread(
        target=lambda: texts.append((orin.root / f'{GPU[1:]}/cur_freq').read_text('utf-8')),
        daemon=True)
    reader.start()
    reader.join(0.2)
    assert reader.is_alive()
    orin.step(1)  # the rest of the board lives on
    orin.release(f'{GPU}/cur_freq')
    reader.join(600)
    assert texts in ([''], ['306000000\n'])  # the latter where it began to read only now
    assert orin.read(f'{GPU}/cur_freq') == '306000000'


def test_a_tool_may_hang_or_be_missing(orin: EmulatedBoard) -> None:
    orin.delay_tool('nvpmodel', 60)
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(['nvpmodel', '-q'], env={**os.environ, **orin.env}, timeout=1, check=False)
    orin.delay_tool('nvpmodel', 0)
    assert run(orin, 'nvpmodel', '-q').returncode == 0


def test_several_processes_share_the_board(orin: EmulatedBoard) -> None:
    orin.start(0.005)
    environment = {**os.environ, **orin.env}
    processes = [
        subprocess.Popen(['nvpmodel', '-m', str(mode)], env=environment) for mode in (0, 2, 0, 2)]
    assert [process.wait(600) for process in processes] == [0, 0, 0, 0]
    assert run(orin, 'nvpmodel', '-m', '0').returncode == 0
    orin.stop()
    orin.settle()
    assert orin.read(f'{GPU}/max_freq') == '612000000'
    state = orin.root / 'run/emulated_board/state.json'
    assert json.loads(state.read_text('utf-8'))['time_s'] > 0


def test_time_passes_by_itself_between_start_and_stop(orin: EmulatedBoard) -> None:
    orin.start(0.02)
    deadline = time.monotonic() + 600
    while orin.state['time_s'] < 0.2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    orin.stop()
    before = orin.state['time_s']
    time.sleep(0.1)
    assert orin.state['time_s'] == before


def test_a_tool_knows_its_board_without_the_variable(orin: EmulatedBoard) -> None:
    environment = {key: value for key, value in os.environ.items() if key != 'EMULATED_BOARD_ROOT'}
    result = subprocess.run(
        [str(orin.tools / 'nvpmodel'), '-q'], env=environment, capture_output=True, text=True,
        timeout=600, check=True)
    assert result.stdout == 'NV Power Mode: 25W\n1\n'
