"""Boards that are made from an nvpmodel.conf: whose, with which files, and every mode set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import os
from pathlib import Path

from changed_boards import control_of
import pytest

from yolov7_trt_ros.emulated_board.board import create_board, EmulatedBoard
from yolov7_trt_ros.emulated_board.conf_board import board_from_conf
from yolov7_trt_ros.errors import PowerCommandError, PowerError, PowerFormatError

CPU = '/sys/devices/system/cpu'
HOST1X = '/sys/devices/platform/bus@0/13e00000.host1x'

Make = Callable[[str, str], EmulatedBoard]


def clock(name: str, folder: str, newer: str, prefix: str = '') -> str:
    """Return the section of a clock, with the files of a newer kernel too."""
    lines = [f'< PARAM TYPE=CLOCK NAME={name} >']
    for ending, where in (('', folder), ('_KNEXT', newer)):
        lines += [f'MIN_FREQ{ending} {where}/{prefix}min_freq',
                  f'MAX_FREQ{ending} {where}/{prefix}max_freq']
    return '\n'.join(lines) + '\n'


def cores(count: int) -> str:
    lines = [f'CORE_{core} {CPU}/cpu{core}/online' for core in range(count)]
    return '\n'.join(['< PARAM TYPE=FILE NAME=CPU_ONLINE >', *lines]) + '\n'


def mode(mode_id: int, name: str, on: int, count: int, *settings: str) -> str:
    lines = [f'< POWER_MODEL ID={mode_id} NAME={name} >']
    lines += [f'CPU_ONLINE CORE_{core} {int(core < on)}' for core in range(count)]
    return '\n'.join([*lines, *settings]) + '\n'


def orin_conf() -> str:
    """Write the conf of an Orin NX of JetPack 6: a clock a core, KNEXT, an engine, an id gap."""
    params = [cores(8), '< PARAM TYPE=FILE NAME=TPC_POWER_GATING >\n'
              'TPC_PG_MASK /sys/devices/gpu.0/tpc_pg_mask\n'
              'TPC_PG_MASK_KNEXT /sys/devices/platform/gpu.0/tpc_pg_mask\n']
    params += [clock(f'CPU_A78_{core}', f'{CPU}/cpu{core}/cpufreq', f'{CPU}/cpu{core}/cpufreq',
                     'scaling_') for core in range(8)]
    params += [
        clock('GPU', '/sys/devices/17000000.ga10b/devfreq/17000000.ga10b',
              '/sys/devices/platform/17000000.gpu/devfreq_dev'),
        f'< PARAM TYPE=CLOCK NAME=DLA0_CORE >\nMAX_FREQ {HOST1X}/clk_cap/dla0_core\n',
        '<PARAM TYPE=CLOCK NAME=EMC >\nMAX_FREQ /sys/kernel/nvpmodel_emc_cap/emc_iso_cap\n'
        'MAX_FREQ_KNEXT /sys/kernel/nvpmodel_clk_cap/emc\n']

    def settings(cpu: int, gpu: int, emc: int, dla: int, mask: int) -> list[str]:
        caps = [f'CPU_A78_{core} {key}' for core in range(8)
                for key in ('MIN_FREQ 729600', f'MAX_FREQ {cpu}')]
        return [f'TPC_POWER_GATING TPC_PG_MASK {mask}', *caps, 'GPU MIN_FREQ 0',
                f'GPU MAX_FREQ {gpu}', f'DLA0_CORE MAX_FREQ {dla}', f'EMC MAX_FREQ {emc}']

    modes = [mode(0, 'MAXN_SUPER', 8, 8, *settings(-1, -1, -1, -1, 240)),
             mode(3, '25W', 8, 8, *settings(1497600, 408000000, -1, 614400000, 240)),
             mode(7, 'FIELD', 4, 8, *settings(1190400, 1173000000, 2133000000, 400000000, 240))]
    return '\n'.join([*params, *modes, '< PM_CONFIG DEFAULT=3 >\n'])


def xavier_conf() -> str:
    """Write the conf of a Xavier NX, with HWMON limits and a fan."""
    folder = '/sys/bus/i2c/drivers/ina3221x/7-0040/iio:device0'
    gpu = '/sys/devices/17000000.gv11b'
    settings = ('CPU_DENVER_0 MAX_FREQ {cpu}', 'GPU MAX_FREQ {gpu}', 'EMC MAX_FREQ 1600000000',
                'VDDIN_OC_LIMIT WARN {warn}', 'TPC_POWER_GATING TPC_PG_MASK 1')

    def filled(cpu: int, gpu_hz: int, warn: int) -> list[str]:
        return [line.format(cpu=cpu, gpu=gpu_hz, warn=warn) for line in settings]

    return '\n'.join([
        cores(6), clock('CPU_DENVER_0', f'{CPU}/cpu0/cpufreq', f'{CPU}/cpu0/cpufreq', 'scaling_'),
        clock('GPU', f'{gpu}/devfreq/17000000.gv11b', f'{gpu}/devfreq_dev'),
        '< PARAM TYPE=CLOCK NAME=EMC >\nMAX_FREQ /sys/kernel/nvpmodel_emc_cap/emc_iso_cap\n',
        '< PARAM TYPE=FILE NAME=TPC_POWER_GATING >\nTPC_PG_MASK /sys/devices/gpu.0/tpc_pg_mask\n',
        f'< PARAM TYPE=HWMON NAME=VDDIN_OC_LIMIT >\nWARN {folder} warn_current_limit_0\n',
        mode(0, '15W', 2, 6, *filled(1907200, 1109250000, 3000)),
        mode(8, '20W', 6, 6, *filled(1420800, 803250000, 4000)),
        '< PM_CONFIG DEFAULT=8 >', '< FAN_CONFIG DEFAULT=quiet >', ''])


@pytest.fixture
def make_conf_board(tmp_path: Path) -> Iterator[Make]:
    boards: list[EmulatedBoard] = []

    def make(text: str, name: str) -> EmulatedBoard:
        path = tmp_path / name
        path.write_text(text)
        boards.append(create_board(path, tmp_path / f'board{len(boards)}'))
        return boards[-1]

    yield make
    for board in boards:
        board.close()


@pytest.mark.parametrize(('conf', 'name'), [
    (orin_conf, 'orin_nx'), (xavier_conf, 'xavier_nx')])
def test_every_mode_can_be_set_and_is_read_back(
    conf: Callable[[], str], name: str, make_conf_board: Make
) -> None:
    board = make_conf_board(conf(), 'nvpmodel.conf')
    assert board.name == name
    control = control_of(board)
    assert control.current_mode().mode_id == board.definition.default_mode
    for known in control.modes():
        assert control.set_mode(str(known.mode_id)).name == known.name
        assert control.current_mode().mode_id == known.mode_id
        assert board.read(f'{CPU}/cpu0/cpufreq/scaling_max_freq') == str(
            board.definition.cpu.table_khz[-1] if known.cpu_max_khz is None else known.cpu_max_khz)
    control.close()


def test_a_mode_writes_the_files_of_the_newer_kernel_where_there_are_some(
    make_conf_board: Make
) -> None:
    board = make_conf_board(orin_conf(), 'nvpmodel.conf')
    control_of(board).set_mode('FIELD')
    assert board.read('/sys/class/devfreq/17000000.gpu/max_freq') == '1173000000'
    assert board.read('/sys/kernel/nvpmodel_clk_cap/emc') == '2133000000'
    assert board.read(f'{HOST1X}/clk_cap/dla0_core') == '400000000'
    assert board.read(f'{CPU}/online') == '0-3'
    assert not (board.root / 'sys/devices/17000000.ga10b').exists()


def test_a_hwmon_limit_is_written_where_folder_and_file_say(make_conf_board: Make) -> None:
    board = make_conf_board(xavier_conf(), 'nvpmodel.conf')
    control_of(board).set_mode('15W')
    folder = '/sys/bus/i2c/drivers/ina3221x/7-0040/iio:device0'
    assert board.read(f'{folder}/warn_current_limit_0') == '3000'


def test_tools_of_other_processes_know_the_board(make_conf_board: Make) -> None:
    board = make_conf_board(orin_conf(), 'nvpmodel.conf')
    board.set_load(gpu=1.0)
    board.step(1)
    assert board.read('/sys/class/devfreq/17000000.gpu/cur_freq') == '408000000'
    (board.root / 'etc/nvpmodel/nvpmodel.conf').write_text('')  # whoever breaks it there
    board.step(1)


@pytest.mark.parametrize(('file_name', 'board'), [
    ('nvpmodel_p3701_0004.conf', 'agx_orin_32gb'), ('nvpmodel_p3767_0003.conf', 'orin_nano_super'),
    ('nvpmodel_t194.conf', 'orin_nx'), ('nvpmodel.conf', 'orin_nx'),
])
def test_the_name_of_the_file_tells_which_board_of_a_family(file_name: str, board: str) -> None:
    assert board_from_conf(orin_conf(), file_name).name == board


def test_an_orin_of_twelve_cores_is_an_agx() -> None:
    text = f'{cores(12)}\n{orin_conf()}'
    assert board_from_conf(text, 'x.conf').name == 'agx_orin'


@pytest.mark.parametrize(('old', 'new', 'reason'), [
    ('/sys/devices/gpu.0/tpc_pg_mask', '/sys/../etc/passwd', 'below /sys only'),
    ('/sys/devices/gpu.0/tpc_pg_mask', '/run/emulated_board/state.json', 'below /sys only'),
    ('CORE_7 ', 'CORE_9999 ', 'at most 64 cores, found CORE_9999'),
    ('< PM_CONFIG', '< POWER_MODEL NAME=x >\n< PM_CONFIG', 'line .*: expected ID='),
    ('17000000.g', '18000000.g', 'no GPU of a known board'),
    (f'{HOST1X}/clk_cap/dla0_core', '/sys/kernel/nvpmodel_clk_cap/emc/x', 'cannot emulate'),
])
def test_what_is_no_conf_of_a_board_is_refused(
    old: str, new: str, reason: str, make_conf_board: Make, tmp_path: Path
) -> None:
    with pytest.raises(PowerError, match=reason):
        make_conf_board(orin_conf().replace(old, new), 'x.conf')
    assert [path.name for path in tmp_path.iterdir()] == ['x.conf']


def test_a_cap_beyond_every_clock_makes_no_large_table() -> None:
    text = orin_conf().replace('GPU MAX_FREQ 1173000000', 'GPU MAX_FREQ 999999999999999999')
    assert len(board_from_conf(text, 'x.conf').gpu.clocks[0].table_hz) < 100


def test_a_file_that_cannot_be_read_or_is_none(tmp_path: Path) -> None:
    with pytest.raises(PowerCommandError, match='No such file'):
        create_board(tmp_path / 'none.conf')
    os.mkfifo(tmp_path / 'pipe.conf')
    for name in ('.', 'pipe.conf'):
        with pytest.raises(PowerCommandError, match='no plain file'):
            create_board(tmp_path / name)
    path = tmp_path / 'x.conf'
    path.write_bytes(b'\0' * ((1 << 20) + 1))
    with pytest.raises(PowerCommandError, match='no nvpmodel.conf'):
        create_board(path)
    path.write_text('# nothing\n')
    with pytest.raises(PowerFormatError, match='at least one POWER_MODEL'):
        create_board(path)
