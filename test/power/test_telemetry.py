"""Telemetry of whole boards: every layout below /sys, tegrastats, the choice, and energy."""

from collections.abc import Iterator
import os
from pathlib import Path
import resource
import shlex
import stat
import sys
import time
from types import ModuleType, SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
import pytest

from yolov7_trt_ros.emulated_board.board import create_board
from yolov7_trt_ros.emulated_board.boards.catalogue import BOARDS
from yolov7_trt_ros.errors import (
    MissingDependencyError,
    PowerCommandError,
    PowerError,
    PowerFormatError,
)
from yolov7_trt_ros.power.rails import RailPower
from yolov7_trt_ros.power.sysfs import SysfsTree
from yolov7_trt_ros.power.telemetry.cpu_load import cpu_loads_percent, parse_cpu_ticks
from yolov7_trt_ros.power.telemetry.energy import EnergyCounter
from yolov7_trt_ros.power.telemetry.lost_sensors import LostSensors
from yolov7_trt_ros.power.telemetry.memory import BoardMemory
from yolov7_trt_ros.power.telemetry.rail_totals import RAIL_TREES, RailTotals
from yolov7_trt_ros.power.telemetry.sample import BoardSample, merge_samples
from yolov7_trt_ros.power.telemetry.source import CombinedSource, find_source, NullSource
from yolov7_trt_ros.power.telemetry.sysfs_source import SysfsSource
from yolov7_trt_ros.power.telemetry.tegrastats import parse_line
from yolov7_trt_ros.power.telemetry.tegrastats_source import (
    sample_from_tegrastats,
    TegrastatsSource,
)

S = 1_000_000_000
JP4_CHIP = '/sys/bus/i2c/drivers/ina3221x/1-0040/iio:device0'
JP6_CHIP = '/sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3'
GPU = '/sys/class/devfreq/17000000.gpu'


class Board:
    """Files below a root folder, put there one by one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.time_ns = 0
        self.timeout_s = 600.0

    def put(self, path: str, value: object) -> None:
        file = self.root / path.lstrip('/')
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'{value}\n')

    def put_all(self, folder: str, **values: object) -> None:
        for name, value in values.items():
            self.put(f'{folder}/{name}', value)

    def source(self, **options) -> SysfsSource:
        tree = SysfsTree(self.root, self.timeout_s)
        return SysfsSource(tree, clock_ns=lambda: self.time_ns, **options)

    def read(self) -> BoardSample:
        return self.source().read()


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


@pytest.fixture
def orin(board: Board) -> Board:
    """Make the files of an Orin Nano with JetPack 6, as far as they are read."""
    board.put_all(
        JP6_CHIP, in1_label='VDD_IN', in2_label='VDD_CPU_GPU_CV', in3_label='VDD_SOC',
        in7_label='sum of shunt voltages', in1_input=4968, in2_input=4960, in3_input=4968,
        curr1_input=1000, curr2_input=400, curr3_input=200, in7_input=4000, curr7_input=1600,
        curr1_crit_alarm=0, curr1_max_alarm=0, curr2_max=3000, curr2_crit=4000,
        update_interval=430,
    )
    board.put_all(GPU, cur_freq=612000000, min_freq=306000000)
    board.put_all(f'{GPU}/device', load=657)
    board.put(f'{GPU}/device/of_node/name', 'gpu\0')
    board.put('/sys/class/devfreq/15340000.vic/cur_freq', 115200000)
    for number, (name, temp) in enumerate((
        ('cpu-thermal', 48500), ('gpu-thermal', 50031), ('cv0-thermal', -256000),
        ('tj-thermal', 50031),
    )):
        board.put_all(f'/sys/class/thermal/thermal_zone{number}', type=name, temp=temp)
    board.put('/sys/class/hwmon/hwmon0/name', 'pwmfan')
    board.put('/sys/class/hwmon/hwmon0/pwm1', 51)
    for core in range(6):
        board.put(f'/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq', 1510400)
    put_ticks(board, busy=0, idle=0)
    return board


def put_ticks(board: Board, busy: int, idle: int, cores: int = 4) -> None:
    lines = [f'cpu  {busy * cores} 0 0 {idle * cores} 0 0 0 0 0 0']
    lines += [f'cpu{core} {busy} 0 0 {idle} 0 0 0 0 0 0' for core in range(cores)]
    board.put('/proc/stat', '\n'.join([*lines, 'intr 1 2 3', 'ctxt 4']))


def currents(sample: BoardSample) -> dict[str, float]:
    return {name: rail.current_mw for name, rail in sample.rails.items()}


# --- rails


def test_rails_of_jetpack_5_and_later(orin) -> None:
    source = orin.source()
    sample = source.read()
    assert currents(sample) == {'VDD_IN': 4968.0, 'VDD_CPU_GPU_CV': 1984.0, 'VDD_SOC': 993.6}
    assert sample.total_mw == 4968.0
    assert source.rail_window_ms == 430
    assert sample.problems == ()


def test_clocks_of_the_engines(orin) -> None:
    orin.put('/sys/class/devfreq/154c0000.nvenc/cur_freq', 793600000)
    orin.put('/sys/class/devfreq/15380000.nvjpg/cur_freq', 499200000)
    orin.put('/sys/class/devfreq/15540000.nvjpg/cur_freq', 230400000)
    orin.put('/sys/class/devfreq/15880000.nvdla0/cur_freq', 1600000000)
    orin.put('/sys/class/devfreq/15480000.nvdec/governor', 'nvhost_podgov')  # and no clock
    orin.put('/sys/class/devfreq/somebodys.service/cur_freq', 1)
    sample = orin.source().read()
    engines = {name: mhz for name, mhz in sample.clocks_mhz.items()
               if not name.startswith(('cpu', 'gpu', 'emc'))}
    assert engines == pytest.approx({
        'vic': 115.2, 'nvenc': 793.6, 'nvjpg': 499.2, 'nvjpg_2': 230.4, 'nvdla0': 1600})
    assert sample.clocks_mhz['gpu'] == 612 and sample.problems == ()


def test_rails_of_jetpack_4(board) -> None:
    board.put_all(
        JP4_CHIP, rail_name_0='GPU', rail_name_1='CPU', rail_name_2='SOC',
        in_power0_input=18400, in_power1_input=900, in_voltage2_input=19000, in_current2_input=100,
    )
    other = JP4_CHIP.replace('1-0040/iio:device0', '1-0041/iio:device1')
    board.put_all(other, rail_name_0='CV', in_power0_input=0, rail_name_1='VDDRQ',
                  in_power1_input=600, rail_name_2='SYS5V', in_power2_input=2000)
    third = JP4_CHIP.replace('1-0040/iio:device0', '1-0042/iio:device2')
    board.put_all(third, rail_name_0='NC', in_power0_input=5)
    sample = board.read()
    assert currents(sample) == {
        'GPU': 18400.0, 'CPU': 900.0, 'SOC': 1900.0, 'CV': 0.0, 'VDDRQ': 600.0, 'SYS5V': 2000.0}
    assert sample.total_mw == 23800.0  # AGX Xavier has no rail that feeds the others


def test_rails_of_thor_with_its_board_input(board) -> None:
    chip = '/sys/bus/i2c/drivers/ina3221/2-0040/hwmon/hwmon1'
    board.put_all(chip, in1_label='VDD_GPU', in1_input=9000, curr1_input=220)
    board.put_all('/sys/class/hwmon/hwmon5', name='ina238', power1_input=19780000)
    sample = board.read()
    assert currents(sample) == {'VDD_GPU': 1980.0, 'VIN': 19780.0}
    assert sample.total_mw == 19780.0


def test_rails_are_found_by_the_name_of_the_chip_too(board) -> None:
    board.put_all('/sys/class/hwmon/hwmon7', name='ina3221', in1_label='VDD_IN', in1_input=5000,
                  curr1_input=800)
    assert board.read().total_mw == 4000.0


@pytest.mark.parametrize('label', ['NC', 'NC1', '', 'sum of shunt voltages'])
def test_channels_that_are_not_connected_are_left_out(board, label: str) -> None:
    board.put_all(JP6_CHIP, in1_label=label, in1_input=5000, curr1_input=800)
    board.put_all(JP6_CHIP, in2_label='VDD_NCORE', in2_input=5000, curr2_input=100)
    assert currents(board.read()) == {'VDD_NCORE': 500.0}


def test_means_and_largest_values_run_along(orin) -> None:
    source = orin.source()
    source.read()
    orin.put(f'{JP6_CHIP}/curr1_input', 3000)
    source.read()
    orin.put(f'{JP6_CHIP}/curr1_input', 2000)
    assert source.read().rails['VDD_IN'] == RailPower(9936.0, 9936.0, 14904.0)


def test_a_rail_that_cannot_be_read_is_a_problem_and_leaves_no_wrong_total(orin) -> None:
    source = orin.source()
    (orin.root / f'{JP6_CHIP}/curr1_input'.lstrip('/')).unlink()
    orin.put(f'{JP6_CHIP}/curr3_input', 'ERROR')
    sample = source.read()
    assert currents(sample) == {'VDD_CPU_GPU_CV': 1984.0}
    assert sample.total_mw is None
    assert f'{JP6_CHIP}/curr1_input' in sample.problems[0]
    assert "'ERROR'" in sample.problems[1]


@pytest.mark.parametrize(('names', 'known', 'total'), [
    (('VDD_IN', 'VDD_SOC'), (), 1.0),
    (('VDD_GPU', 'VIN'), (), 2.0),
    (('GPU', 'CPU', 'SOC', 'CV', 'VDDRQ', 'SYS5V'), (), 21.0),
    (('VDD_GPU_SOC', 'VDD_CPU_CV', 'VIN_SYS_5V0', 'VDDQ_VDD2_1V8AO'), (), 6.0),
    (('VDD_GPU_SOC', 'VDD_CPU_CV', 'VIN_SYS_5V0'), ('VDDQ_VDD2_1V8AO',), 6.0),
    (('VDD_MUX', 'VDD_IN', 'VDD_SYS_GPU'), (), 2.0),
    (('GPU',), ('CPU',), None),
    (('VDD_SOC',), ('VDD_IN',), None),
    (('VDD_CPU_GPU_CV', 'VDD_SOC'), (), None),  # the table knows what feeds them
    (('VDD_GPU_SOC', 'VDD_CPU_CV'), (), None),
    (('VIN_SYS_5V0',), (), None),  # of an AGX Orin or a Thor
    (('IN_12V', 'FAN'), (), None),
    ((), (), None),
])
def test_the_total(names, known, total) -> None:
    rails = {name: RailPower(float(index + 1)) for index, name in enumerate(names)}
    found = RailTotals(known).total(rails)
    assert found.milliwatt == total
    assert bool(found.reason) == (total is None and bool(names))


@pytest.mark.parametrize('milliwatt', [0.0, -5.0, float('nan'), float('inf')])
def test_a_board_that_takes_no_power_has_a_dead_sensor(milliwatt: float) -> None:
    found = RailTotals().total({'VDD_IN': RailPower(milliwatt)})
    assert found.milliwatt is None and 'VDD_IN is' in found.reason


def test_every_rail_of_the_table_is_of_one_kind() -> None:
    for tree in RAIL_TREES.values():
        assert not set(tree.inputs) & set(tree.fed)


# --- clocks, loads, temperatures, fan


def test_clocks_loads_temperatures_and_fan(orin) -> None:
    source = orin.source()
    put_ticks(orin, busy=30, idle=70)
    orin.time_ns = 5
    sample = source.read()
    assert sample.time_ns == 5
    assert sample.clocks_mhz == {
        'gpu': 612.0, 'vic': 115.2,
        **{f'cpu{core}': 1510.4 for core in range(4)}}  # cpu4 and cpu5 are off
    assert sample.loads_percent == {
        'gpu': 65.7, 'cpu': 30.0, **{f'cpu{core}': 30.0 for core in range(4)}}
    assert sample.temperatures_c == {'cpu': 48.5, 'gpu': 50.031, 'tj': 50.031}
    assert sample.hottest_c == ('gpu', 50.031)
    assert sample.fan_percent == 20.0


def test_a_sensor_of_a_part_that_is_off_is_left_out_without_a_word(orin) -> None:
    zone = orin.root / 'sys/class/thermal/thermal_zone1/temp'
    source = orin.source()
    zone.unlink()
    zone.mkdir()  # reading it fails, as on JetPack 6
    sample = source.read()
    assert 'gpu' not in sample.temperatures_c
    assert sample.problems == ()


def test_a_sensor_that_is_lost_is_named(orin) -> None:
    source = orin.source()
    assert source.read().problems == ()
    for number in (1, 3):  # that of the GPU may be gated, that of the hottest may not
        (orin.root / f'sys/class/thermal/thermal_zone{number}/temp').unlink()
    sample = source.read()
    assert set(sample.temperatures_c) == {'cpu'}
    assert sample.problems == ('no temperature any more from tj',)


def test_the_pmic_of_jetpack_4_is_not_the_hottest(board) -> None:
    for number, (name, temp) in enumerate((('PMIC-Die', 100000), ('GPU-therm', 41000))):
        board.put_all(f'/sys/class/thermal/thermal_zone{number}', type=name, temp=temp)
    sample = board.read()
    assert sample.temperatures_c == {'PMIC-Die': 100.0, 'GPU': 41.0}
    assert sample.hottest_c == ('GPU', 41.0)
    assert BoardSample(0).hottest_c is None


def test_sensors_of_one_name_are_told_apart(board) -> None:
    for number in range(3):
        board.put_all(f'/sys/class/thermal/thermal_zone{number}', type='acpitz', temp=30000)
    assert list(board.read().temperatures_c) == ['acpitz', 'acpitz_2', 'acpitz_3']


@pytest.mark.parametrize('folder, load', [
    ('/sys/devices/gpu.0/devfreq/57000000.gpu', '/sys/devices/gpu.0/load'),
    ('/sys/devices/17000000.gv11b/devfreq/17000000.gv11b', '/sys/devices/17000000.gv11b/load'),
    ('/sys/devices/17000000.ga10b/devfreq_dev', '/sys/devices/17000000.ga10b/load'),
    ('/sys/devices/platform/17000000.gpu/devfreq_dev', '/sys/devices/platform/17000000.gpu/load'),
    ('/sys/class/devfreq/17000000.gpu', '/sys/devices/platform/bus@0/17000000.gpu/load'),
    ('/sys/class/devfreq/17000000.gp10b', '/sys/devices/gpu.0/load'),
])
def test_the_gpu_in_every_place(board, folder: str, load: str) -> None:
    board.put(f'{folder}/cur_freq', 510000000)
    board.put(load, 420)
    sample = board.read()
    assert sample.clocks_mhz == {'gpu': 510.0}
    assert sample.loads_percent == {'gpu': 42.0}


def test_the_clocks_of_thor(board) -> None:
    board.put('/sys/class/devfreq/bwmgr/cur_freq', 4266000000)
    board.put('/sys/class/devfreq/gpu-gpc-0/cur_freq', 1575000000)
    board.put('/sys/class/devfreq/gpu-nvd-0/cur_freq', 1692000000)
    assert board.read().clocks_mhz == {'gpu': 1575.0, 'gpu_nvd': 1692.0, 'emc': 4266.0}


def test_the_load_of_the_memory_is_its_activity_by_its_clock(board) -> None:
    board.put('/sys/kernel/debug/bpmp/debug/clk/emc/rate', 2133000000)
    board.put('/sys/kernel/actmon_avg_activity/mc_all', 533250)
    sample = board.read()
    assert sample.clocks_mhz == {'emc': 2133.0}
    assert sample.loads_percent['emc'] == pytest.approx(25.0)


def test_the_fan_of_jetpack_4(board) -> None:
    board.put('/sys/devices/pwm-fan/target_pwm', 255)
    assert board.read().fan_percent == 100.0


def test_loads_are_kept_while_no_tick_has_passed(orin) -> None:
    source = orin.source()
    put_ticks(orin, busy=10, idle=10)
    assert source.read().loads_percent['cpu'] == 50.0
    assert source.read().loads_percent['cpu'] == 50.0
    put_ticks(orin, busy=20, idle=10)
    assert source.read().loads_percent['cpu'] == 100.0


def test_a_machine_without_proc_stat_has_no_loads(orin) -> None:
    orin.put('/proc/stat', 'cpu? 1 2 3')
    sample = orin.read()
    assert set(sample.loads_percent) == {'gpu'}
    assert 'cpu5' in sample.clocks_mhz


def test_ticks_of_a_guest_are_not_counted_twice() -> None:
    before = parse_cpu_ticks('cpu  0 0 0 0 0 0 0 0 0 0')
    now = parse_cpu_ticks('cpu  40 10 20 100 5 10 10 5 40 0\ncpu0 1 1 1 1\nbtime 1')
    assert cpu_loads_percent(before, now) == {'cpu': pytest.approx(100.0 * 95 / 200)}


@pytest.mark.parametrize('text', ['', 'cpu', 'cpu 1 2 3', 'cpu a b c d', 'intr 1 2 3 4 5'])
def test_what_is_no_proc_stat(text: str) -> None:
    with pytest.raises(PowerFormatError, match='cpu user nice'):
        parse_cpu_ticks(text)


ticks_texts = st.lists(
    st.lists(st.integers(0, 10**15), min_size=4, max_size=10), min_size=1, max_size=4,
).map(lambda rows: '\n'.join(
    f'cpu{index} {" ".join(map(str, row))}' for index, row in enumerate(rows)))


@given(ticks_texts, ticks_texts)
def test_loads_are_always_between_0_and_100(before: str, now: str) -> None:
    loads = cpu_loads_percent(parse_cpu_ticks(before), parse_cpu_ticks(now))
    assert all(0.0 <= load <= 100.0 for load in loads.values())


# --- alarms


def test_alarms_of_the_power_monitor(orin) -> None:
    source = orin.source()
    assert source.read().alarms == ()
    orin.put(f'{JP6_CHIP}/curr1_max_alarm', 1)
    assert source.read().alarms == ('over-current (warning) on VDD_IN',)
    orin.put(f'{JP6_CHIP}/curr1_crit_alarm', 1)
    orin.put(f'{JP6_CHIP}/curr2_input', 3500)  # above curr2_max; it has no flag of its own
    assert source.read().alarms == (
        'over-current (critical) on VDD_IN', 'over-current (warning) on VDD_IN',
        'over-current (warning) on VDD_CPU_GPU_CV',
    )


def test_limits_of_jetpack_4(board) -> None:
    board.put_all(
        JP4_CHIP, rail_name_0='VDD_IN', in_power0_input=10000, in_current0_input=2100,
        warn_current_limit_0=2000, crit_current_limit_0=0,
    )
    assert board.read().alarms == ('over-current (warning) on VDD_IN',)


@pytest.mark.parametrize('name', ['curr1_crit_alarm', 'curr2_crit'])
def test_an_alarm_that_cannot_be_read_is_a_problem(orin, name: str) -> None:
    source = orin.source()
    (orin.root / f'{JP6_CHIP}/{name}'.lstrip('/')).unlink()
    sample = source.read()
    assert sample.alarms == ()
    assert len(sample.problems) == 1 and name in sample.problems[0]


def test_over_current_events_are_alarms_when_they_happen(orin) -> None:
    counter = '/sys/class/hwmon/hwmon9/oc1_event_cnt'
    orin.put(counter, 12)
    source = orin.source()
    assert source.read().alarms == ()
    orin.put(counter, 14)
    assert source.read().alarms == ('over-current throttling by oc1',)
    assert source.read().alarms == ()


def test_throttling_for_heat(orin) -> None:
    for number, (name, state) in enumerate((
        ('pwm-fan', 3), ('gpu-throttle-alert', 1), ('cpu-throttle-alert', 0), ('Processor', 2),
    )):
        orin.put_all(f'/sys/class/thermal/cooling_device{number}', type=name, cur_state=state)
    assert orin.read().alarms == ('throttling for heat: gpu-throttle-alert',)


# --- reads that hang


def test_a_hanging_clock_is_reported_and_the_rest_is_read(orin) -> None:
    clock = orin.root / f'{GPU}/cur_freq'.lstrip('/')
    clock.unlink()
    os.mkfifo(clock)
    orin.timeout_s = 1.0
    source = orin.source()
    for _ in range(2):
        sample = source.read()
        assert sample.total_mw == 4968.0
        assert 'gpu' not in sample.clocks_mhz
        assert len(sample.problems) == 1
        assert f'{GPU}/cur_freq' in sample.problems[0]
    os.close(os.open(clock, os.O_WRONLY | os.O_NONBLOCK))
    source.close()


# --- emulated boards


@pytest.fixture(params=sorted(BOARDS))
def emulated(request, tmp_path: Path) -> Iterator:
    board = create_board(request.param, tmp_path / 'board')
    with board:
        board.set_load(gpu=0.8, cpu=0.4)
        board.step(5)
        yield board


def test_every_emulated_board_is_read_completely(emulated) -> None:
    source = find_source(emulated.root)
    emulated.step(2)
    sample = source.read()
    source.close()
    assert source.name == 'sysfs'
    assert sample.problems == ()
    assert sample.total_mw is not None
    assert 1_000.0 < sample.total_mw < 150_000.0
    assert {'gpu', 'emc', 'cpu0'} <= set(sample.clocks_mhz)
    assert sample.loads_percent['cpu'] == pytest.approx(40.0, abs=2.0)
    assert 20.0 < sample.hottest_c[1] < 90.0
    assert sample.fan_percent is not None
    if emulated.name != 'thor':  # the only one without that file
        assert sample.loads_percent['gpu'] == pytest.approx(80.0, abs=2.0)


def test_sysfs_and_tegrastats_of_an_emulated_board_agree(emulated) -> None:
    by_files = find_source(emulated.root).read()
    tool = TegrastatsSource(
        (str(emulated.tools / 'tegrastats'),), interval_ms=100, environment=emulated.env,
        first_line_s=PATIENT_S)
    by_tool = tool.read()
    tool.close()
    assert set(by_tool.rails) == set(by_files.rails)
    assert by_tool.total_mw == pytest.approx(by_files.total_mw, rel=0.1)
    for name in {'gpu', 'cpu0'} & set(by_tool.clocks_mhz):
        assert by_tool.clocks_mhz[name] == pytest.approx(by_files.clocks_mhz[name], abs=1.0)
    assert by_tool.hottest_c[1] == pytest.approx(by_files.hottest_c[1], abs=2.0)


# --- tegrastats


PATIENT_S = 600.0
"""Time limit of a first line that is to come."""


def tool_that(folder: Path, *lines: str) -> tuple[str, ...]:
    """Make an executable `tegrastats` that runs these lines of Python."""
    tool = folder / 'tegrastats'
    # not with Python behind #!, whose path may hold a blank
    program = '\n'.join(('import sys, time', *lines))
    tool.write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(program)} "$@"\n'
    )
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    return (str(tool),)


def wait_for(file: Path) -> str:
    """Return a line of Python that waits until a file is there."""
    return f'import os\nwhile not os.path.exists({str(file)!r}): time.sleep(0.01)'


LINE = ('RAM 1/2MB CPU [10%@1190,off] EMC_FREQ 3%@2133 GR3D_FREQ 12%@[611,611] VIC off '
        'CPU@43.5C CV0@-256C VDD_IN 4541mW/4600mW')


def test_a_line_becomes_a_sample() -> None:
    sample = sample_from_tegrastats(parse_line(LINE), 7)
    assert sample == BoardSample(
        time_ns=7, rails={'VDD_IN': RailPower(4541.0, 4600.0)}, total_mw=4541.0,
        temperatures_c={'CPU': 43.5}, clocks_mhz={'gpu': 611.0, 'emc': 2133.0, 'cpu0': 1190.0},
        loads_percent={'gpu': 12.0, 'emc': 3.0, 'cpu0': 10.0, 'cpu': 10.0},
        memory=BoardMemory(2.0, 1.0),
    )


def test_every_recorded_line_becomes_a_sample(shared_data: Path) -> None:
    for file in sorted((shared_data / 'jetson' / 'tegrastats').glob('*.txt')):
        for line in file.read_text().splitlines():
            sample = sample_from_tegrastats(parse_line(line), 0)
            assert sample.temperatures_c
            assert all(value > -200.0 for value in sample.temperatures_c.values())
            assert (sample.total_mw is None) == bool(sample.problems)


AGX_ORIN_LINE = (
    'RAM 4000/62801MB CPU [3%@729] VDD_GPU_SOC 2400mW/2400mW VDD_CPU_CV 400mW/400mW '
    'VIN_SYS_5V0 4000mW/4000mW NC 0mW/0mW VDDQ_VDD2_1V8AO 300mW/300mW NC 0mW/0mW')
ORIN_LINE = 'RAM 1/2MB VDD_IN 9000mW/9000mW VDD_CPU_GPU_CV 3000mW/3000mW VDD_SOC 2000mW/2000mW'
ORIN_LINE_WITHOUT_INPUT = 'RAM 1/2MB VDD_CPU_GPU_CV 3000mW/3000mW VDD_SOC 2000mW/2000mW'


def test_a_rail_behind_another_is_not_counted_twice() -> None:
    sample = sample_from_tegrastats(parse_line(AGX_ORIN_LINE), 0)
    assert (sample.total_mw, sample.problems) == (6800.0, ())
    assert sample.rails['VDDQ_VDD2_1V8AO'].current_mw == 300.0


def test_a_line_without_an_end_takes_no_memory(tmp_path: Path) -> None:
    command = tool_that(tmp_path, 'while True: sys.stdout.write("7" * (1 << 20))')
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    source = TegrastatsSource(command, interval_ms=100, first_line_s=0.9)
    told, end_s = '', time.monotonic() + 600.0
    while '777' not in told:  # before, the tool is being started
        assert time.monotonic() < end_s, told
        with pytest.raises(PowerCommandError) as caught:
            source.read()
        told = str(caught.value)
    source.close()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 64 * 1024


def test_a_rail_that_vanishes_from_the_lines_leaves_no_wrong_total(tmp_path: Path) -> None:
    command = tool_that(
        tmp_path, f'print({ORIN_LINE!r}, flush=True)', wait_for(tmp_path / 'go on'),
        f'print({ORIN_LINE_WITHOUT_INPUT!r}, flush=True)', 'time.sleep(600)')
    source = TegrastatsSource(command, interval_ms=100, first_line_s=PATIENT_S)
    assert source.read().total_mw == 9000.0
    (tmp_path / 'go on').touch()
    end_s = time.monotonic() + 600.0
    while (sample := source.read()).total_mw is not None:
        assert time.monotonic() < end_s and sample.total_mw == 9000.0
        time.sleep(0.02)
    assert currents(sample) == {'VDD_CPU_GPU_CV': 3000.0, 'VDD_SOC': 2000.0}
    assert 'VDD_IN is missing' in sample.problems[0]
    source.close()


def test_a_board_without_a_line_of_rails_after_one_says_which() -> None:
    totals = RailTotals()
    sample_from_tegrastats(parse_line(ORIN_LINE), 0, totals)
    sample = sample_from_tegrastats(parse_line('RAM 1/2MB'), 1, totals)
    assert 'VDD_IN is missing' in sample.problems[0]


def test_the_newest_line_is_handed_out(tmp_path: Path) -> None:
    command = tool_that(
        tmp_path, 'print("starting up")',
        f'print({LINE!r}, flush=True)', wait_for(tmp_path / 'go on'),
        f'print({LINE.replace("4541", "9999")!r}, flush=True)', 'time.sleep(600)')
    source = TegrastatsSource(command, interval_ms=100, first_line_s=PATIENT_S)
    first = source.read()
    assert (first.total_mw, source.read()) == (4541.0, first)
    (tmp_path / 'go on').touch()
    end_s = time.monotonic() + 600.0
    while source.read().total_mw != 9999.0:
        assert time.monotonic() < end_s
        time.sleep(0.02)
    assert source.read().time_ns > first.time_ns
    source.close()
    source.close()


def test_the_interval_goes_to_the_tool_and_stdin_is_at_its_end(tmp_path: Path) -> None:
    command = tool_that(
        tmp_path, 'assert sys.argv[1:] == ["--interval", "250"], sys.argv',
        'assert sys.stdin.read() == ""', f'print({LINE!r}, flush=True)', 'time.sleep(600)')
    source = TegrastatsSource(command, interval_ms=250, first_line_s=PATIENT_S)
    assert source.read().total_mw == 4541.0
    source.close()


def test_another_interval_goes_to_a_tool_that_is_started_again(tmp_path: Path) -> None:
    command = tool_that(
        tmp_path, f'print({LINE!r}.replace("4541", sys.argv[2]), flush=True)', 'time.sleep(600)')
    interval_ms = 250
    source = TegrastatsSource(
        command, interval_ms=lambda: interval_ms, first_line_s=PATIENT_S)
    first = source.read()
    assert first.total_mw == 250.0
    interval_ms = 100
    end_s = time.monotonic() + 600.0
    while (sample := source.read()).total_mw != 100.0:
        assert time.monotonic() < end_s and sample == first  # the old one until there is a new one
        time.sleep(0.02)
    assert source.read() == sample
    source.close()


def test_a_tool_that_is_not_there_for_another_interval_is_an_error(tmp_path: Path) -> None:
    command = tool_that(tmp_path, f'print({LINE!r}, flush=True)', 'time.sleep(600)')
    interval_ms = 250
    source = TegrastatsSource(
        command, interval_ms=lambda: interval_ms, first_line_s=PATIENT_S)
    source.read()
    interval_ms = 100
    Path(command[0]).rename(tmp_path / 'elsewhere')
    for _ in range(2):
        with pytest.raises(PowerCommandError, match='cannot start .*tegrastats'):
            source.read()
    source.close()


@pytest.mark.parametrize('later', [
    'tj@?C', 'tj@C', 'tj 61', 'tj@unsupported', '', 'tj@1e9C', 'tj@nanC', 'tj@\u0661\u0662C',
])
def test_a_sensor_that_vanishes_from_the_lines_is_lost(later: str) -> None:
    lost = LostSensors()
    first = f'{LINE} tj@61.5C GPU@50C'
    sample = sample_from_tegrastats(parse_line(first), 0, lost_sensors=lost)
    assert (sample.lost_sensors, sample.hottest_c) == ((), ('tj', 61.5))
    sample = sample_from_tegrastats(parse_line(f'{LINE} {later}'), 0, lost_sensors=lost)
    assert sample.lost_sensors == ('tj',) and sample.hottest_c == ('CPU', 43.5)
    assert sample.problems == ('no temperature any more from tj',)
    sample = sample_from_tegrastats(parse_line(first), 0, lost_sensors=lost)
    assert sample.lost_sensors == ()


def test_a_part_without_power_is_not_lost() -> None:
    lost = LostSensors()
    for line in (f'{LINE} ISP@40C', f'{LINE} ISP@-256C'):
        sample = sample_from_tegrastats(parse_line(line), 0, lost_sensors=lost)
        assert sample.lost_sensors == ()


def test_what_one_source_has_lost_and_another_reads_is_not_lost() -> None:
    one = BoardSample(0, temperatures_c={'CPU': 43.5}, lost_sensors=('tj', 'SOC'))
    other = BoardSample(0, temperatures_c={'tj': 61.5}, lost_sensors=('SOC',))
    assert merge_samples([one], [other]).lost_sensors == ('SOC',)


def test_a_load_is_at_most_all_of_it() -> None:
    sample = sample_from_tegrastats(parse_line('RAM 1/2MB CPU [250%@9] GR3D_FREQ 7000%@611'), 0)
    assert sample.loads_percent == {'gpu': 100.0, 'cpu0': 100.0, 'cpu': 100.0}


def test_a_tool_that_ends_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    command = tool_that(tmp_path, 'sys.exit("cannot open /dev/x")')
    source = TegrastatsSource(command, first_line_s=PATIENT_S)
    for _ in range(2):  # and is not started again at once
        with pytest.raises(PowerCommandError, match='ended with status 1; .*cannot open /dev/x'):
            source.read()
    source.close()


def test_a_tool_that_says_nothing_is_an_error_in_time(tmp_path: Path) -> None:
    source = TegrastatsSource(
        tool_that(tmp_path, 'time.sleep(600)'), interval_ms=100, first_line_s=0.3)
    with pytest.raises(PowerCommandError, match='gave none'):
        source.read()
    source.close()


def test_a_tool_that_falls_silent_is_an_error(tmp_path: Path) -> None:
    command = tool_that(tmp_path, f'print({LINE!r}, flush=True)', 'time.sleep(600)')
    source = TegrastatsSource(command, interval_ms=10, first_line_s=PATIENT_S)
    source.read()
    source._first_line_s = 0.1
    with pytest.raises(PowerCommandError, match='no line for [0-9]+ s; it hangs'):
        for _ in range(60_000):
            source.read()
            time.sleep(0.01)
    source.close()


def test_a_tool_that_is_not_there() -> None:
    with pytest.raises(PowerCommandError, match='cannot start /nowhere/tegrastats'):
        TegrastatsSource(('/nowhere/tegrastats',)).read()


def test_a_line_without_rails_says_why() -> None:
    assert 'for root only' in sample_from_tegrastats(parse_line('RAM 1/2MB'), 0).problems[0]


# --- the choice


class Tools:
    """A runner that has the tools of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, tool: str) -> Path | None:
        path = self.folder / tool
        return path if path.exists() else None


class PcGpu(ModuleType):
    """pynvml with a GPU that tells its power and load only."""

    class NVMLError(Exception):
        value = 999

    NVML_TEMPERATURE_GPU = NVML_CLOCK_GRAPHICS = NVML_CLOCK_MEM = 0

    def __init__(self) -> None:
        super().__init__('pynvml')

    def nvmlInit(self) -> None: ...

    def nvmlShutdown(self) -> None: ...

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return 200_000

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(gpu=77, memory=5)


def no_nvml() -> ModuleType:
    raise MissingDependencyError('pynvml is not installed; pip install nvidia-ml-py')


def put_rapl(board: Board, energy_uj: int = 0) -> None:
    board.put_all('/sys/class/powercap/intel-rapl:0', name='package-0', energy_uj=energy_uj,
                  max_energy_range_uj=10**12)


def test_a_jetson_with_rails_is_read_from_its_files(orin, tmp_path) -> None:
    tool_that(tmp_path, 'sys.exit(1)')
    source = find_source(orin.root, Tools(tmp_path), nvml=PcGpu)
    assert source.name == 'sysfs'
    source.close()


def test_thor_asks_nvml_for_the_load_that_its_files_lack(board) -> None:
    board.put_all(JP6_CHIP, in1_label='VIN', in1_input=5000, curr1_input=800)
    board.put('/sys/class/devfreq/gpu-gpc-0/cur_freq', 1575000000)
    source = find_source(board.root, nvml=PcGpu)
    sample = source.read()
    source.close()
    assert source.name == 'sysfs+nvml'
    assert (sample.total_mw, sample.loads_percent['gpu']) == (4000.0, 77.0)
    assert (currents(sample), sample.problems) == ({'VIN': 4000.0}, ())
    assert find_source(board.root, nvml=no_nvml).name == 'sysfs'


def test_a_jetson_without_rails_in_its_files_runs_tegrastats(board, tmp_path) -> None:
    tools = tmp_path / 'tools'
    tools.mkdir()
    tool_that(tools, f'print({LINE!r}, flush=True)', 'time.sleep(600)')
    board.put('/sys/devices/pwm-fan/target_pwm', 51)
    source = find_source(board.root, Tools(tools), nvml=no_nvml)
    sample = source.read()
    source.close()
    assert source.name == 'tegrastats+sysfs'
    assert (sample.total_mw, sample.fan_percent, sample.problems) == (4541.0, 20.0, ())


def test_a_jetson_without_rails_and_tegrastats_still_tells_the_rest(board) -> None:
    board.put(f'{GPU}/cur_freq', 306000000)
    sample = find_source(board.root).read()
    assert sample.clocks_mhz == {'gpu': 306.0}
    assert sample.total_mw is None
    assert 'no power rail found' in sample.problems[0]


def test_a_pc_adds_its_gpu_and_its_processor(board) -> None:
    put_rapl(board)
    board.put_all('/sys/class/thermal/thermal_zone0', type='x86_pkg_temp', temp=55000)
    times_ns = iter(range(0, 100 * S, S))
    source = find_source(board.root, nvml=PcGpu, clock_ns=lambda: next(times_ns))
    put_rapl(board, 100_000_000)
    sample = source.read()
    source.close()
    assert source.name == 'nvml+rapl+sysfs'
    assert set(sample.rails) == {'gpu', 'package-0'}
    assert sample.total_mw == 200_000 + sample.rails['package-0'].current_mw
    assert sample.temperatures_c == {'x86_pkg_temp': 55.0}
    assert sample.problems == (
        'NVML does not report whether this GPU is slowed down by heat or its supply',)
    assert sample.total_energy_j is None  # this GPU does not count its own


def test_a_pc_with_a_gpu_and_without_pynvml_says_what_is_missing(board) -> None:
    put_rapl(board)
    board.put('/proc/driver/nvidia/version', 'NVRM version: ...')
    source = find_source(board.root, nvml=no_nvml)
    assert source.name == 'rapl+sysfs'
    assert any('pip install nvidia-ml-py' in problem for problem in source.read().problems)


def test_another_root_folder_is_not_asked_about_the_gpu_of_this_machine(board) -> None:
    put_rapl(board)
    source = find_source(board.root)
    assert source.name == 'rapl+sysfs'
    assert source.read().problems == ()


def test_a_machine_that_tells_nothing_says_what_was_looked_for(board) -> None:
    source = find_source(board.root, nvml=no_nvml)
    assert isinstance(source, NullSource)
    assert source.name == 'none'
    with pytest.raises(PowerError) as caught:
        source.read()
    for word in ('INA3221', 'tegrastats', 'NVML', 'pip install nvidia-ml-py', 'RAPL'):
        assert word in str(caught.value)
    source.close()


class Fixed:
    """A source with fixed answers."""

    def __init__(self, answer: BoardSample | PowerError) -> None:
        self.answer = answer
        self.name = 'fixed'
        self.is_open = True

    def read(self) -> BoardSample:
        if isinstance(self.answer, PowerError):
            raise self.answer
        return self.answer

    def close(self) -> None:
        self.is_open = False


def test_while_one_power_source_fails_there_is_no_total() -> None:
    good = Fixed(BoardSample(1, rails={'gpu': RailPower(5.0)}, total_mw=5.0))
    bad = Fixed(PowerError('the GPU is lost'))
    sample = CombinedSource([good, bad], clock_ns=lambda: 1).read()
    assert (sample.total_mw, currents(sample)) == (None, {'gpu': 5.0})
    assert sample.problems == ('the GPU is lost',)
    assert CombinedSource([good], [bad], clock_ns=lambda: 1).read().total_mw == 5.0


def test_when_all_sources_fail_the_first_reason_is_raised() -> None:
    parts = [Fixed(PowerError('first')), Fixed(PowerError('second'))]
    source = CombinedSource(parts)
    with pytest.raises(PowerError, match='first'):
        source.read()
    source.close()
    assert [part.is_open for part in parts] == [False, False]


def test_of_two_values_of_one_name_the_earlier_counts() -> None:
    merged = merge_samples(
        [BoardSample(3, clocks_mhz={'gpu': 1.0}, alarms=('a',), total_mw=1.0)],
        [BoardSample(4, clocks_mhz={'gpu': 2.0, 'emc': 3.0}, alarms=('b',), total_mw=9.0,
                     fan_percent=0.0)])
    assert merged.clocks_mhz == {'gpu': 1.0, 'emc': 3.0}
    assert (merged.time_ns, merged.total_mw, merged.fan_percent) == (3, 1.0, 0.0)
    assert merged.alarms == ('a', 'b')


# --- energy


def test_energy_is_the_area_below_the_power() -> None:
    counter = EnergyCounter()
    for second, power_mw in ((0, 4_000.0), (1, 8_000.0), (3, 8_000.0)):
        counter.add(BoardSample(second * S, total_mw=power_mw))
    assert (counter.joules, counter.seconds) == (22.0, 3.0)
    assert counter.mean_w == pytest.approx(22.0 / 3.0)
    assert counter.joules_per_frame(44) == 0.5


def test_a_sample_that_comes_twice_counts_once() -> None:
    counter = EnergyCounter()
    for second in (0, 1, 1, 0, 2):
        counter.add(BoardSample(second * S, total_mw=1_000.0))
    assert (counter.joules, counter.seconds) == (2.0, 2.0)


def test_gaps_are_filled_with_the_mean_power_for_the_frames_in_them() -> None:
    counter = EnergyCounter(max_gap_s=2.0)
    for second, power_mw in ((0, 5e3), (1, 5e3), (2, None), (3, 5e3), (13, 5e3), (14, 5e3)):
        counter.add(BoardSample(second * S, total_mw=power_mw))
    assert (counter.joules, counter.seconds) == (10.0, 2.0)
    assert counter.joules_per_frame(140) == 0.5


def test_a_counter_of_the_hardware_counts_over_any_gap() -> None:
    counter = EnergyCounter(max_gap_s=2.0)
    counter.add(BoardSample(0, total_mw=1.0, total_energy_j=10.0))
    counter.add(BoardSample(100 * S, total_mw=1.0, total_energy_j=510.0))
    assert (counter.joules, counter.mean_w) == (500.0, 5.0)
    counter.add(BoardSample(101 * S, total_mw=3_000.0, total_energy_j=0.0))  # opened anew
    assert counter.joules == pytest.approx(501.5005)


def test_without_power_or_frames_there_is_no_energy_per_frame() -> None:
    counter = EnergyCounter()
    assert (counter.mean_w, counter.joules_per_frame(1)) == (None, None)
    counter.add(BoardSample(0, total_mw=2_000.0))
    counter.add(BoardSample(S, total_mw=2_000.0))
    assert (counter.joules, counter.joules_per_frame(0)) == (2.0, None)


@given(
    steps=st.lists(st.tuples(st.integers(1, 5 * S), st.floats(0, 1e5)), min_size=1, max_size=20),
    first_mw=st.floats(0, 1e5), cut=st.integers(0, 20),
)
def test_energy_is_additive_and_between_least_and_most_power(steps, first_mw, cut) -> None:
    whole, parts, part_sum_j, time_ns = EnergyCounter(), EnergyCounter(), 0.0, 0
    samples = [BoardSample(0, total_mw=first_mw)]
    for step_ns, power_mw in steps:
        time_ns += step_ns
        samples.append(BoardSample(time_ns, total_mw=power_mw))
    for index, sample in enumerate(samples):
        whole.add(sample)
        parts.add(sample)
        if index == cut:
            part_sum_j = parts.joules
            parts = EnergyCounter()
            parts.add(sample)
    powers_w = [sample.total_mw / 1e3 for sample in samples]
    assert part_sum_j + parts.joules == pytest.approx(whole.joules, abs=1e-9)
    assert min(powers_w) - 1e-6 <= whole.mean_w <= max(powers_w) + 1e-6
