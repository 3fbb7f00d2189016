"""Memory of a board: what the kernel and tegrastats tell, and the warning before it runs out."""

from __future__ import annotations

import resource

from changed_boards import Make
import pytest

from yolov7_trt_ros.power.board.identity import BoardInfo
from yolov7_trt_ros.power.board.machine_facts import machine_facts, read_disk, read_uptime
from yolov7_trt_ros.power.board.names import jetpack_name, module_name
from yolov7_trt_ros.power.sysfs import SysfsTree
from yolov7_trt_ros.power.telemetry.memory import BoardMemory, parse_memory
from yolov7_trt_ros.power.telemetry.sample import BoardSample, merge_samples
from yolov7_trt_ros.power.telemetry.sysfs_source import SysfsSource
from yolov7_trt_ros.power.telemetry.tegrastats import parse_line
from yolov7_trt_ros.power.telemetry.tegrastats_source import sample_from_tegrastats

MEMINFO = (
    'MemTotal:        8192000 kB\nMemFree:          102400 kB\nMemAvailable:    2048000 kB\n'
    'SwapTotal:       4096000 kB\nSwapFree:        1024000 kB\n')
BUDDYINFO = (
    'Node 0, zone      DMA      1      0      0      2\n'
    'Node 0, zone   Normal    903    411      3      0\n')


def test_what_the_kernel_tells() -> None:
    memory = parse_memory(MEMINFO, BUDDYINFO)
    assert memory == BoardMemory(8000.0, 2000.0, 4000.0, 1000.0,
                                 8 * resource.getpagesize() / 2**20, 2)
    assert (memory.used_mib, memory.swap_used_mib, memory.warning) == (6000.0, 3000.0, '')


@pytest.mark.parametrize('meminfo', ['', 'MemTotal: 1 kB', 'MemAvailable: 1 kB', 'MemTotal: x kB'])
def test_memory_that_is_not_told_is_not_known(meminfo: str) -> None:
    assert parse_memory(meminfo, BUDDYINFO) is None


@pytest.mark.parametrize('buddyinfo', ['', 'nonsense', 'Node 0, zone DMA 0 0 0'])
def test_free_blocks_that_are_not_told_are_not_known(buddyinfo: str) -> None:
    memory = parse_memory(MEMINFO, buddyinfo)
    assert memory is not None and memory.largest_free_mib is None


@pytest.mark.parametrize(('available', 'swap_free', 'is_low'), [
    (2000, 0, False), (500, 4000, False), (390, 4000, True),  # what the GPU holds does not swap
    (500, 200, True), (0, 0, True),
])
def test_the_warning_comes_before_the_end(available: int, swap_free: int, is_low: bool) -> None:
    memory = BoardMemory(8000, available, 4000, swap_free)
    assert bool(memory.warning) == is_low
    assert not is_low or f'{available} of 8000 MiB RAM' in memory.warning
    assert BoardSample(0, memory=memory).warnings == ((memory.warning,) if is_low else ())


def test_a_board_whose_memory_fills_up_says_so(make_board: Make) -> None:
    board = make_board('xavier_nx')
    source = SysfsSource(SysfsTree(board.root))
    assert source.read().warnings == ()
    board.set_memory(0.97)
    sample = source.read()
    assert 'nearly full' in sample.warnings[0]
    assert sample.memory is not None and sample.memory.swap_used_mib > 3000


def test_a_line_of_tegrastats_tells_memory() -> None:
    line = 'RAM 7400/7607MB (lfb 3x2MB) SWAP 3700/3803MB (cached 2MB) CPU [1%@729]'
    sample = sample_from_tegrastats(parse_line(line), 0)
    assert sample.memory == BoardMemory(7607.0, 207.0, 3803.0, 103.0, 2.0, 3)
    assert 'nearly full' in sample.warnings[0]


def test_merged_samples_keep_memory_and_fan() -> None:
    memory = BoardMemory(8000, 4000)
    merged = merge_samples([BoardSample(0)], [BoardSample(0, memory=memory, fan_rpm=0.0)])
    assert (merged.memory, merged.fan_rpm, merged.fan_percent) == (memory, 0.0, None)


# Module, JetPack, time since boot, disk


@pytest.mark.parametrize(('compatible', 'name'), [
    ('nvidia,p3737-0000+p3701-0004', 'Jetson AGX Orin 32GB'),
    ('nvidia,p3449-0000+p3668-0001', 'Jetson Xavier NX'),
    ('nvidia,p3768-0000+p3767-0000-super', 'Jetson Orin NX 16GB'),
    ('nvidia,tegra234', ''), ('', ''),
])
def test_the_module(compatible: str, name: str) -> None:
    assert module_name([compatible, 'nvidia,tegra']) == name


@pytest.mark.parametrize(('release', 'name'), [
    ('36.4.3', '6.2'), ('35.5.0', '5.1.3'), ('32.7.1', '4.6.1'), ('36.99', '6.x'), ('50.1', ''),
])
def test_the_jetpack(release: str, name: str) -> None:
    assert jetpack_name(release) == name


def test_every_emulated_board_has_a_module_and_a_jetpack(any_board) -> None:
    definition = any_board.definition
    assert module_name(definition.compatible).startswith('Jetson ')
    assert jetpack_name(definition.l4t_release.removeprefix('R'))[0] in '4567'


def test_the_time_since_boot(tmp_path) -> None:
    assert read_uptime(tmp_path) == ''
    (tmp_path / 'proc').mkdir()
    for text, told in (('266705.12 1.0\n', '3 d 02:05'), ('soon', ''), ('\udcff'.encode(
            'utf-8', 'surrogateescape').decode('latin-1'), '')):
        (tmp_path / 'proc/uptime').write_text(text)
        assert read_uptime(tmp_path) == told


def test_what_a_machine_does_not_tell_is_left_out(tmp_path) -> None:
    assert read_disk(tmp_path / 'nowhere') == ''
    assert set(machine_facts(tmp_path, BoardInfo('a PC'))) == {'disk'}
