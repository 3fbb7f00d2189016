"""The tools of an emulated board say and do what those of boards were recorded to do."""

from __future__ import annotations

import os
from pathlib import Path
import re
import subprocess
import time

from board_tools import ABORTED, CPU0, current_mode, GPU, run, tegrastats_lines
import pytest

from yolov7_trt_ros.emulated_board.board import create_board, EmulatedBoard
from yolov7_trt_ros.power.clocks.jetson_clocks import parse_store
from yolov7_trt_ros.power.telemetry.tegrastats import parse_line

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
    ('thor', True, r'.* GR3D_FREQ 50%@\[873,873,873\] NVENC0_FREQ @315 .* VIC off .* APE 300 '
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
    process.wait(600)
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
    deadline = time.monotonic() + 600
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
    assert process.wait(600) == 0
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
