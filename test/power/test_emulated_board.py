"""The emulated board says and does what boards were recorded to say and do."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from yolov7_trt_ros.emulated_board import BOARDS, EmulatedBoard, create_board, physics
from yolov7_trt_ros.emulated_board.clocks import round_down, round_up
from yolov7_trt_ros.errors import PowerCommandError
from yolov7_trt_ros.power.board import JETSON, read_board
from yolov7_trt_ros.power.jetson_clocks import parse_show, parse_store
from yolov7_trt_ros.power.nvpmodel import parse_conf, parse_query, parse_status_file
from yolov7_trt_ros.power.tegrastats import parse_line

GPU = '/sys/class/devfreq/17000000.gpu'
CPU0 = '/sys/devices/system/cpu/cpu0/cpufreq'
ABORTED = 234

Result = subprocess.CompletedProcess


def run(board: EmulatedBoard, *command: str, answer: str | None = None) -> Result[str]:
    """Run a tool of the board to its end, with stdin closed unless there is an answer."""
    return subprocess.run(
        command, env={**os.environ, **board.env}, capture_output=True, text=True, timeout=30,
        **({'stdin': subprocess.DEVNULL} if answer is None else {'input': answer}))


def tegrastats_lines(board: EmulatedBoard, count: int, *prefix: str) -> list[str]:
    """Return the first lines of a tegrastats that is then ended."""
    process = subprocess.Popen(
        [*prefix, 'tegrastats', '--interval', '20'], env={**os.environ, **board.env}, text=True,
        stdout=subprocess.PIPE)
    assert process.stdout is not None
    lines = [process.stdout.readline().rstrip('\n') for _ in range(count)]
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    process.stdout.close()
    return lines


def current_mode(board: EmulatedBoard) -> int:
    return int(board.read('/var/lib/nvpmodel/status').removeprefix('pmode:'))


@pytest.fixture(params=list(BOARDS))
def any_board(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmulatedBoard]:
    with create_board(request.param, tmp_path) as board:
        yield board


@pytest.fixture
def orin(tmp_path: Path) -> Iterator[EmulatedBoard]:
    with create_board('orin_nano_super', tmp_path) as board:
        yield board


@pytest.fixture
def xavier(tmp_path: Path) -> Iterator[EmulatedBoard]:
    with create_board('xavier_nx', tmp_path) as board:
        yield board


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
    parse_show(show.stdout)

    for as_root in (True, False):
        any_board.set_options(as_root=as_root)
        for line in tegrastats_lines(any_board, 2):
            sample = parse_line(line)
            assert sample.unknown == ()
            assert len(sample.cpus) == definition.cpu.count
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
])
def test_modes_are_those_of_the_table(board_name: str, conf: str, shared_data: Path) -> None:
    text = (shared_data / 'jetson/modes.md').read_text('utf-8')
    section = text.partition(f'### {conf} ')[2].partition('\n### ')[0]
    rows = [[cell.strip() for cell in line.strip('|').split('|')]
            for line in section.splitlines() if re.match(r'\| \d', line)]
    assert rows
    modes = {mode.mode_id: mode for mode in BOARDS[board_name].modes}
    for mode_id, name, cores, cpu, gpu, emc, mask, _ in rows:
        mode = modes[int(mode_id)]
        shown = [mode.name, str(mode.cores), str(mode.cpu_max_khz), str(mode.gpu_max_hz),
                 str(mode.emc_max_hz), '-' if mode.tpc_mask is None else str(mode.tpc_mask)]
        assert shown == [name, cores, cpu, gpu, emc, mask]


# nvpmodel


def test_setting_a_mode_succeeds_without_a_word_and_shows(orin: EmulatedBoard) -> None:
    result = run(orin, 'nvpmodel', '-m', '0')
    assert (result.returncode, result.stdout, result.stderr) == (0, '', '')
    assert run(orin, 'nvpmodel', '-q').stdout == 'NV Power Mode: 15W\n0\n'
    assert orin.read(f'{GPU}/max_freq') == '612000000'
    assert orin.read(f'{CPU0}/scaling_max_freq') == '1497600'
    assert orin.read('/sys/kernel/nvpmodel_clk_cap/emc') == '2133000000'


def test_no_cap_is_the_top_of_the_table(orin: EmulatedBoard) -> None:
    run(orin, 'nvpmodel', '-m', '2')
    assert orin.read(f'{GPU}/max_freq') == '1020000000'
    assert orin.read(f'{CPU0}/scaling_max_freq') == '1728000'
    verbose = run(orin, 'nvpmodel', '-q', '--verbose').stdout
    assert 'REAL_VAL: 1020000000 CONF_VAL: 9223372036854775807' in verbose


def test_cores_go_offline_and_come_back(xavier: EmulatedBoard) -> None:
    assert xavier.read('/sys/devices/system/cpu/online') == '0-3'
    assert xavier.read('/sys/devices/system/cpu/offline') == '4-5'
    run(xavier, 'nvpmodel', '-m', '8')
    assert xavier.read('/sys/devices/system/cpu/online') == '0-5'
    run(xavier, 'nvpmodel', '-m', '0')
    assert xavier.read('/sys/devices/system/cpu/online') == '0-1'
    assert 'off,off,off,off]' in tegrastats_lines(xavier, 1)[0]


def test_another_mask_needs_a_reboot_and_nobody_answers(orin: EmulatedBoard) -> None:
    result = run(orin, 'nvpmodel', '-m', '3')
    assert result.returncode == ABORTED
    assert result.stdout == (
        'NVPM WARN: Reboot required for changing to this power mode: 3\n'
        'NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:\n'
        'NVPM ERROR: bad input!\n'
        'NVPM ERROR: optMask is 1, no request for power mode\n')
    assert current_mode(orin) == 1
    assert orin.state['reboots'] == 0


def test_declining_the_reboot_changes_nothing(orin: EmulatedBoard) -> None:
    orin.set_load(gpu=0.5)
    result = run(orin, 'nvpmodel', '-m', '3', answer='no\n')
    assert result.returncode == ABORTED
    lines = result.stdout.splitlines()
    assert lines[0] == 'NVPM WARN: Golden image context is already created'
    assert 'bad input' not in result.stdout
    assert current_mode(orin) == 1


@pytest.mark.parametrize(('arguments', 'answer'), [((), 'yes\n'), (('--force',), None)])
def test_a_reboot_comes_up_in_the_new_mode(
    orin: EmulatedBoard, arguments: tuple[str, ...], answer: str | None
) -> None:
    run(orin, 'jetson_clocks')
    result = run(orin, 'nvpmodel', '-m', '3', *arguments, answer=answer)
    assert result.returncode == 0
    assert result.stdout.splitlines()[-1].startswith('NVPM WARN: rebooting')
    assert orin.state['reboots'] == 1
    assert current_mode(orin) == 3
    assert orin.read(f'{GPU}/device/tpc_pg_mask') == '252'
    assert orin.read(f'{GPU}/min_freq') == '306000000'


def test_a_stale_prompt_comes_for_the_active_mode_too_and_a_reboot_cures_it(
    orin: EmulatedBoard,
) -> None:
    orin.set_options(stale_prompt=True)
    assert run(orin, 'nvpmodel', '-m', '1').returncode == ABORTED
    assert run(orin, 'nvpmodel', '-m', '1', answer='yes\n').returncode == 0
    assert run(orin, 'nvpmodel', '-m', '1').stdout == ''


@pytest.mark.parametrize(('board_name', 'mode', 'asks'), [
    ('nano', 1, False), ('xavier_nx', 8, False), ('agx_orin', 3, True), ('agx_orin', 2, False),
    ('thor', 0, False), ('thor', 2, True), ('orin_nano_super', 2, False),
])
def test_which_change_asks_for_a_reboot(
    board_name: str, mode: int, asks: bool, tmp_path: Path
) -> None:
    with create_board(board_name, tmp_path) as board:
        result = run(board, 'nvpmodel', '-m', str(mode))
        assert ('Reboot required' in result.stdout) == asks
        assert result.returncode == (ABORTED if asks else 0)


def test_unknown_modes_are_bad(orin: EmulatedBoard) -> None:
    for mode in ('9', 'MAXN'):
        result = run(orin, 'nvpmodel', '-m', mode)
        assert result.stdout == f'NVPM ERROR: request for bad power mode {mode}\n'
        assert result.returncode != 0


def test_in_a_container_it_says_done_and_applies_nothing(orin: EmulatedBoard) -> None:
    orin.set_options(in_container=True)
    result = run(orin, 'nvpmodel', '-m', '0')
    assert (result.returncode, result.stdout) == (0, 'Running in chroot, ignoring request.\n')
    assert current_mode(orin) == 0
    assert orin.read('/var/lib/nvpmodel/conf_file_path') == '/etc/nvpmodel.conf'
    assert orin.read(f'{GPU}/max_freq') == '918000000'


def test_without_root_it_fails_with_status_0(orin: EmulatedBoard) -> None:
    orin.set_options(as_root=False)
    result = run(orin, 'nvpmodel', '-m', '0')
    assert result.returncode == 0
    assert result.stdout.splitlines()[0] == (
        'NVPM ERROR: Error opening /sys/devices/system/cpu/cpu0/online: 13')
    assert result.stdout.splitlines()[-1] == 'NVPM ERROR: failed to set power mode!'
    assert current_mode(orin) == 1


def test_without_root_a_query_complains_after_the_answer(xavier: EmulatedBoard) -> None:
    xavier.set_options(as_root=False)
    lines = run(xavier, 'nvpmodel', '-q').stdout.splitlines()
    assert lines[:3] == ['NV Fan Mode:quiet', 'NV Power Mode: MODE_10W_DESKTOP', '5']
    assert lines[3] == (
        'NVPM ERROR: Error opening /sys/kernel/nvpmodel_emc_cap/emc_iso_cap: 13')
    assert lines[-1] == 'NVPM ERROR: Fan failed to set mode:quiet'
    assert len(lines) == 17


def test_a_nano_warns_before_the_answer(tmp_path: Path) -> None:
    with create_board('nano', tmp_path) as board:
        assert run(board, 'nvpmodel', '-q').stdout == (
            'NVPM WARN: fan mode is not set!\nNV Power Mode: MAXN\n0\n')


def test_the_configuration_is_told(xavier: EmulatedBoard) -> None:
    lines = run(xavier, 'nvpmodel', '-p', '--verbose').stdout.splitlines()
    assert 'NVPM VERB: PM_CONFIG: DEFAULT=MODE_10W_DESKTOP(5)' in lines
    assert 'NVPM VERB: POWER_MODEL: ID=0 NAME=MODE_15W_2CORE' in lines
    assert 'NVPM VERB: CPU_ONLINE CORE_5 0' in lines


def test_an_edited_conf_counts(orin: EmulatedBoard) -> None:
    conf = orin.root / 'etc/nvpmodel.conf'
    text = conf.read_text('utf-8')
    conf.write_text(
        f'{text}< POWER_MODEL ID=17 NAME=MODE_17 >\nGPU MAX_FREQ 400000000\n', 'utf-8')
    assert run(orin, 'nvpmodel', '-m', '17', answer='yes\n').returncode == 0
    assert run(orin, 'nvpmodel', '-q').stdout == 'NV Power Mode: MODE_17\n17\n'
    assert orin.read(f'{GPU}/max_freq') == '408000000'


def test_f_alone_sets_the_stored_mode(orin: EmulatedBoard) -> None:
    orin.write(f'{GPU}/max_freq', 306000000)
    assert run(orin, 'nvpmodel', '-f', '/etc/nvpmodel.conf').returncode == 0
    assert orin.read(f'{GPU}/max_freq') == '918000000'


def test_the_fan_profile_goes_through_nvpmodel_on_jetpack_4_only(
    xavier: EmulatedBoard, tmp_path: Path
) -> None:
    assert run(xavier, 'nvpmodel', '-d', 'cool').returncode == 0
    assert run(xavier, 'nvpmodel', '-q').stdout.startswith('NV Fan Mode:cool\n')
    with create_board('orin_nano_super', tmp_path / 'orin') as orin:
        assert run(orin, 'nvpmodel', '-d', 'cool').returncode != 0


def test_help_and_nonsense_show_the_usage(orin: EmulatedBoard) -> None:
    assert run(orin, 'nvpmodel', '--help').returncode == 0
    for arguments in ((), ('--nonsense',), ('-m',)):
        result = run(orin, 'nvpmodel', *arguments)
        assert result.returncode != 0
        assert 'Usage: nvpmodel' in result.stdout


# jetson_clocks


def test_locked_clocks_are_put_back_from_the_store_file(any_board: EmulatedBoard) -> None:
    store = any_board.root / 'tmp/store'
    assert run(any_board, 'jetson_clocks', '--store', str(store)).returncode == 0
    before = parse_store(store.read_text('utf-8'))
    assert run(any_board, 'jetson_clocks').returncode == 0
    folder = any_board.definition.gpu.clocks[0].folder
    assert any_board.read(f'{folder}/min_freq') == any_board.read(f'{folder}/cur_freq')
    assert any_board.read(f'{CPU0}/scaling_min_freq') == any_board.read(f'{CPU0}/scaling_max_freq')
    assert 'FreqOverride=1' in run(any_board, 'jetson_clocks', '--show').stdout

    assert run(any_board, 'jetson_clocks', '--restore', str(store)).returncode == 0
    assert 'FreqOverride=0' in run(any_board, 'jetson_clocks', '--show').stdout
    after = {path: any_board.read(path) for path in before if 'pwm' not in path}
    assert after == {path: str(value) for path, value in before.items() if 'pwm' not in path}


def test_locking_holds_within_the_mode_and_costs_power(orin: EmulatedBoard) -> None:
    orin.step(5)
    idle = orin.state['rails_mw']['VDD_IN']
    run(orin, 'jetson_clocks')
    orin.step(5)
    assert orin.read(f'{GPU}/cur_freq') == '918000000'
    assert orin.state['rails_mw']['VDD_IN'] > idle + 1000


def test_store_asks_before_it_overwrites(orin: EmulatedBoard) -> None:
    assert run(orin, 'jetson_clocks', '--store').returncode == 0
    file = orin.root / 'root/l4t_dfs.conf'
    file.write_text('old', 'utf-8')
    result = run(orin, 'jetson_clocks', '--store')
    assert result.returncode == 1
    assert result.stdout == (
        f'File {file} already exists. Can I overwrite it? Y/N:\n'
        f'Error: file {file} already exists!\n')
    assert file.read_text('utf-8') == 'old'
    assert run(orin, 'jetson_clocks', '--store', answer='Y\n').returncode == 0
    assert file.read_text('utf-8') != 'old'


def test_restore_without_a_file_and_callers_without_root_are_refused(orin: EmulatedBoard) -> None:
    result = run(orin, 'jetson_clocks', '--restore', '/none')
    assert (result.returncode, result.stdout) == (1, 'Error: /none file not found !\n')
    orin.set_options(as_root=False)
    refusal = 'Error: Run this script(/usr/bin/jetson_clocks) as a root user\n'
    result = run(orin, 'jetson_clocks')
    assert (result.returncode, result.stdout) == (1, refusal)
    result = run(orin, 'jetson_clocks', '--show')
    assert result.returncode == 1
    assert result.stdout.startswith('SOC family:tegra234')
    assert result.stdout.endswith(refusal)


# tegrastats


@pytest.mark.parametrize(('board_name', 'as_root', 'pattern'), [
    ('nano', True, r'RAM .* IRAM 0/252kB\(lfb 252kB\) CPU \[.*\] EMC_FREQ 30%@800 '
                   r'GR3D_FREQ 50%@614 APE 25 PLL@.* POM_5V_IN \d+/\d+ POM_5V_GPU \d+/\d+ '
                   r'POM_5V_CPU \d+/\d+'),
    ('nano', False, r'RAM .* EMC_FREQ 30% GR3D_FREQ 50% PLL@.* POM_5V_CPU \d+/\d+'),
    ('xavier_nx', True, r'RAM .* GR3D_FREQ 50%@408 APE 150 MTS fg 0% bg 0% AO@.*'),
    ('agx_orin', True, r'[\d-]{10} [\d:]{8} RAM .* GR3D_FREQ 50%@\[420,420\] VIC_FREQ 729 APE 174 '
                       r'CV0@-256C .* NC 0mW/0mW VDDQ_VDD2_1V8AO \d+mW/\d+mW NC 0mW/0mW'),
    ('agx_orin', False, r'[\d-]{10} .* GR3D_FREQ 50% CV0@-256C .*C'),
    ('orin_nano_super', True, r'.* EMC_FREQ 30%@\d+ GR3D_FREQ 50%@\[612\] NVDEC off .* APE 200 '
                              r'cpu@.* VDD_SOC \d+mW/\d+mW'),
    ('orin_nano_super', False, r'[^E]* GR3D_FREQ 50%@612 cpu@.* VDD_SOC \d+mW/\d+mW'),
    ('thor', True, r'.* GR3D_FREQ 50%@\[945,945,945\] NVENC0_FREQ @315 .* VIC off .* APE 300 '
                   r'cpu@.* VIN \d+mW/\d+mW'),
    ('thor', False, r'.*\] cpu@.* VIN \d+mW/\d+mW'),
])
def test_lines_have_the_grammar_of_the_release(
    board_name: str, as_root: bool, pattern: str, tmp_path: Path
) -> None:
    with create_board(board_name, tmp_path, as_root=as_root) as board:
        board.set_load(gpu=0.5, cpu=0.1)
        board.step(1)
        line = tegrastats_lines(board, 1)[0]
    assert re.fullmatch(pattern, line), line


def test_an_idle_thor_shows_no_gpu_load(tmp_path: Path) -> None:
    with create_board('thor', tmp_path) as board:
        assert 'GR3D_FREQ @[315,315,315]' in tegrastats_lines(board, 1)[0]


def test_the_second_value_of_a_rail_is_its_mean(orin: EmulatedBoard) -> None:
    process = subprocess.Popen(
        ['tegrastats', '--interval', '100'], env={**os.environ, **orin.env}, text=True,
        stdout=subprocess.PIPE)
    assert process.stdout is not None
    rails = []
    for load in (0.0, 1.0, 1.0, 0.5):
        orin.set_load(gpu=load)
        orin.step(2)
        rails.append(parse_line(process.stdout.readline()).rails['VDD_IN'])
    process.terminate()
    process.wait(10)
    process.stdout.close()
    so_far = [rail.current_mw for rail in rails]
    assert max(so_far) > min(so_far) + 5000
    for count, rail in enumerate(rails, start=1):
        assert rail.average_mw == pytest.approx(sum(so_far[:count]) / count, abs=1)


def test_the_log_goes_to_a_file_from_the_background_until_stop(
    orin: EmulatedBoard, tmp_path: Path
) -> None:
    log = tmp_path / 'log'
    run(orin, 'tegrastats', '--start', '--interval', '10', '--logfile', str(log))
    deadline = time.monotonic() + 20
    while not (log.exists() and log.read_text('utf-8').count('\n') > 2):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert run(orin, 'tegrastats', '--stop').returncode == 0
    assert run(orin, 'tegrastats', '--stop').returncode == 0


def test_tegrastats_ends_when_its_board_goes(tmp_path: Path) -> None:
    board = create_board('nano', tmp_path / 'board')
    process = subprocess.Popen(
        ['tegrastats', '--interval', '10'], env={**os.environ, **board.env},
        stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline()  # it runs
    board.close()
    assert process.wait(10) == 0
    process.stdout.close()
    assert not (tmp_path / 'board').exists()


# sudo


def test_sudo_refuses_without_asking(orin: EmulatedBoard) -> None:
    orin.set_options(as_root=False, sudo_allowed=False)
    result = run(orin, 'sudo', '-n', 'nvpmodel', '-m', '0')
    assert (result.returncode, result.stderr) == (1, 'sudo: a password is required\n')
    assert current_mode(orin) == 1


def test_sudo_runs_tools_as_root(orin: EmulatedBoard) -> None:
    orin.set_options(as_root=False)
    result = run(orin, 'sudo', '-n', '/usr/sbin/nvpmodel', '-m', '0')
    assert (result.returncode, result.stdout) == (0, '')
    assert current_mode(orin) == 0
    assert parse_line(tegrastats_lines(orin, 1, 'sudo', '-n')[0]).emc is not None


def test_sudo_writes_files_and_the_kernel_rounds_them(orin: EmulatedBoard) -> None:
    orin.set_options(as_root=False)
    path = f'{orin.root}{GPU}/max_freq'
    assert run(orin, 'sudo', '-n', 'tee', path, answer='700000000').returncode == 0
    assert orin.read(f'{GPU}/max_freq') == '714000000'
    assert run(orin, 'sudo', '-n', 'cat', f'{GPU}/max_freq').stdout == '714000000\n'
    assert run(orin, 'sudo', '-n', 'tee', f'{GPU}/none', answer='1').returncode == 1


def test_sudo_may_allow_some_commands_only(orin: EmulatedBoard) -> None:
    orin.set_options(as_root=False, sudo_allowed=['nvpmodel -m 0', 'tee'])
    assert run(orin, 'sudo', '-n', 'nvpmodel', '-m', '2').returncode == 1
    assert run(orin, 'sudo', '-n', 'nvpmodel', '-m', '0').returncode == 0
    assert run(orin, 'sudo', '-n', '-l', 'jetson_clocks').returncode == 1


def test_sudo_obeys_a_drop_in_to_the_letter(orin: EmulatedBoard) -> None:
    orin.set_options(as_root=False, sudo_allowed=False)
    tool = orin.tools / 'nvpmodel'
    clocks = orin.tools / 'jetson_clocks'
    (orin.root / 'etc/sudoers.d/ours').write_text(
        f'alice ALL=(root) NOPASSWD: {tool} -m 0\n'
        f'alice ALL=(root) NOPASSWD: {clocks} ""\n', 'utf-8')
    assert run(orin, 'sudo', '-n', str(tool), '-m', '2').returncode == 1
    assert run(orin, 'sudo', '-n', str(tool), '-m', '0').returncode == 0
    assert run(orin, 'sudo', '-n', str(clocks), '--fan').returncode == 1
    assert run(orin, 'sudo', '-n', str(clocks)).returncode == 0


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
        assert milliwatt == pytest.approx(rails[name], abs=12)  # current has whole mA


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


# The fan's service


def test_the_fan_profile_of_the_conf_holds_after_a_restart(orin: EmulatedBoard) -> None:
    orin.set_heat_sink(50)
    quiet = int(orin.read('/sys/class/hwmon/hwmon0/pwm1'))
    conf = orin.root / 'etc/nvfancontrol.conf'
    conf.write_text(conf.read_text('utf-8').replace('PROFILE quiet\n', 'PROFILE cool\n'), 'utf-8')
    assert run(orin, 'systemctl', 'stop', 'nvfancontrol').returncode == 0
    assert run(orin, 'systemctl', 'is-active', 'nvfancontrol').stdout == 'inactive\n'
    (orin.root / 'var/lib/nvfancontrol/status').unlink()
    assert run(orin, 'systemctl', 'start', 'nvfancontrol').returncode == 0
    assert 'FAN1:FAN_PROFILE:cool' in run(orin, 'nvfancontrol', '-q').stdout
    assert int(orin.read('/sys/class/hwmon/hwmon0/pwm1')) > quiet


def test_the_fan_is_free_while_its_service_is_stopped(orin: EmulatedBoard) -> None:
    orin.set_options(as_root=False)
    assert run(orin, 'systemctl', 'stop', 'nvfancontrol').returncode == 1
    run(orin, 'sudo', '-n', 'systemctl', 'stop', 'nvfancontrol')
    orin.write('/sys/class/hwmon/hwmon0/pwm1', 200)
    orin.step(1)
    assert orin.read('/sys/class/hwmon/hwmon0/pwm1') == '200'


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
    reader.join(5)
    assert texts == ['']
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
    assert [process.wait(30) for process in processes] == [0, 0, 0, 0]
    assert run(orin, 'nvpmodel', '-m', '0').returncode == 0
    orin.stop()
    orin.settle()
    assert orin.read(f'{GPU}/max_freq') == '612000000'
    state = orin.root / 'run/emulated_board/state.json'
    assert json.loads(state.read_text('utf-8'))['time_s'] > 0


def test_time_passes_by_itself_between_start_and_stop(orin: EmulatedBoard) -> None:
    orin.start(0.02)
    deadline = time.monotonic() + 20
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
        timeout=30, check=True)
    assert result.stdout == 'NV Power Mode: 25W\n1\n'
