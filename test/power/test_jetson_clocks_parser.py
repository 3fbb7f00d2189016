"""What jetson_clocks shows and stores, of several releases."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
import pytest

from yolov7_trt_ros.errors import PowerFormatError
from yolov7_trt_ros.power.clocks.jetson_clocks import find_refusal, parse_show, parse_store
from yolov7_trt_ros.power.clocks.jetson_clocks_values import (
    ClockRange,
    CpuClock,
    FanState,
    Refusal,
)

DATA = Path(__file__).resolve().parents[1] / 'data' / 'jetson'
SHOW_R28 = (DATA / 'jetson_clocks_show_r28.txt').read_text()
SHOW_R35 = (DATA / 'jetson_clocks_show_r35.txt').read_text()
STORE = (DATA / 'jetson_clocks_store.conf').read_text()


def test_r28_misspells_governor_and_leaves_values_empty():
    show = parse_show(SHOW_R28)
    assert (show.soc_family, show.machine) == ('tegra186', 'quill')
    assert show.online_cpus == (0, 3, 4, 5)
    assert show.cluster_switching == 'Disabled'
    assert show.cpus == (
        CpuClock(0, True, 'schedutil', 345600, 2035200, 499200), CpuClock(1, False),
    )
    assert show.gpu == ClockRange(114750000, 1300500000, 114750000)
    assert show.emc == ClockRange(40800000, 1866000000, 665600000, override=False)
    assert show.fan == FanState() and show.fan.pwm is None
    assert show.power_mode == 'MAXP_CORE_ARM'
    assert show.locked is False and show.unknown == ()


def test_r35_locked_keeps_what_is_new():
    show = parse_show(SHOW_R35)
    assert show.cpus[0].idle_states == {'WFI': False, 'c7': False}
    assert [cpu.online for cpu in show.cpus] == [True, False]
    assert show.active_gpu_tpcs == 8
    assert show.emc is not None and show.emc.override
    assert show.clocks['DLA0_CORE'] == ClockRange(0, 1600000000, 1600000000, online=True)
    assert show.fan == FanState('active', {'hwmon2_pwm1': 55}) and show.fan.pwm == 55
    assert show.locked is True
    assert show.unknown == ('cpu1: Boost=1', 'Something of a later release')


def test_thor_names_its_gpu_clusters_and_takes_online_from_the_list():
    show = parse_show(
        'Online CPUs: 0-1, Offline CPUs: 2\n'
        'cpu0:  Governor=schedutil MinFreq=5 MaxFreq=5 CurrentFreq=5 IdleStates: WFI=0\n'
        'cpu2:  Governor=schedutil MinFreq=1 MaxFreq=5 CurrentFreq=1 IdleStates: WFI=1\n'
        'gpu-gpc-0 MinFreq=7 MaxFreq=7 CurrentFreq=7\n'
        'gpu-nvd-0 MinFreq=6 MaxFreq=8 CurrentFreq=6\n'
        'FAN Dynamic Speed Control=nvfancontrol hwmon1_pwm1=73\n'
        'FAN Dynamic Speed Control=nvfancontrol hwmon1_pwm1_enable=1\n'
    )
    assert show.offline_cpus == (2,)
    assert [cpu.online for cpu in show.cpus] == [True, False]
    assert show.gpu == ClockRange(7, 7, 7)
    assert show.locked is False  # for gpu-nvd-0
    assert show.fan == FanState('nvfancontrol', {'hwmon1_pwm1': 73, 'hwmon1_pwm1_enable': 1})
    assert show.unknown == ()


def test_locked_is_unknown_where_no_range_is_printed():
    assert parse_show('EMC MinFreq=1 MaxFreq=2 CurrentFreq=2 FreqOverride=0').locked is None


@pytest.mark.parametrize('line', [
    'Online CPUs: 0-99999', 'Online CPUs: x', 'cpu0: MinFreq=fast', 'cpu0: words',
    'Fan: words', 'EMC MinFreq=low', 'Active GPU TPCs: all',
])
def test_odd_lines_are_kept(line):
    assert parse_show(f'GPU MinFreq=1 MaxFreq=1\n{line}').unknown == (line,)


@pytest.mark.parametrize('text', [
    '', 'SOC family:tegra210  Machine:jetson-nano\n'
    'Error: Run this script(/usr/bin/jetson_clocks) as a root user',
])
def test_show_without_clocks_says_that_it_needs_root(text):
    with pytest.raises(PowerFormatError, match='needs root'):
        parse_show(text)


def test_store_keeps_order_and_colons_in_paths():
    values = parse_store(STORE)
    assert list(values.items()) == [
        ('/sys/devices/system/cpu/cpu0/online', '1'),
        ('/sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq', '729600'),
        ('/sys/bus/i2c/devices/1-0040/iio:device0/example', '7'),
        ('/sys/class/devfreq/17000000.gpu/governor', 'nvhost_podgov'),
        ('/sys/devices/pwm-fan/target_pwm', '0'),
    ]


@pytest.mark.parametrize('text', ['', '\n \n', '/sys/a:1\n/sys/b', '/sys/a:', ':1', 'a b:1'])
def test_store_that_is_damaged_is_refused(text):
    with pytest.raises(PowerFormatError, match='store it again'):
        parse_store(text)


@pytest.mark.parametrize(('text', 'kind'), [
    ('Error: Run this script(/usr/bin/jetson_clocks) as a root user', 'permission'),
    ('sudo: a password is required', 'permission'),
    ('File /root/l4t_dfs.conf already exists. Can I overwrite it? Y/N:', 'file_exists'),
    ('Error: file /root/l4t_dfs.conf already exists!', 'file_exists'),
    ('Error: /root/l4t_dfs.conf file not found!', 'file_missing'),
    ('\x1b[0;31mError: file /root/l4t_dfs.conf not found !\x1b[0m', 'file_missing'),
    ('Error! Current frequency can not be read', 'error'),
])
def test_refusals_are_found(text, kind):
    refusal = find_refusal(f'SOC family:tegra210\n{text}\n')
    assert refusal is not None and refusal.kind == kind and '\x1b' not in refusal.line


def test_no_refusal_in_a_plain_answer():
    assert find_refusal('') is None and find_refusal(SHOW_R35) is None
    assert find_refusal('Error: x') == Refusal('error', 'Error: x')


@pytest.mark.parametrize(('name', 'cores', 'clocks', 'locked', 'mode'), [
    ('show_nano_r32_maxn.txt', 4, 2, False, 'MAXN'),
    ('show_orin_nano_super_r36.4.3_25W.txt', 6, 2, False, '25W'),
    ('show_thor_r38_maxn_locked.txt', 14, 5, True, 'MAXN'),
])
def test_recorded_shows_are_understood_to_the_last_word(
    shared_data, name, cores, clocks, locked, mode
):
    show = parse_show((shared_data / 'jetson' / 'jetson_clocks' / name).read_text())
    assert (len(show.cpus), len(show.clocks), show.locked, show.power_mode) == (
        cores, clocks, locked, mode
    )
    assert all(cpu.online and cpu.max_khz and cpu.idle_states for cpu in show.cpus)
    assert show.fan is not None and show.fan.pwm is not None
    assert show.soc_family.startswith('tegra') and show.machine
    assert show.unknown == ()


def test_recorded_stores_are_understood(shared_data):
    paths = sorted((shared_data / 'jetson' / 'jetson_clocks').glob('l4t_dfs*.conf'))
    assert [len(parse_store(path.read_text())) for path in paths] == [21, 21]


LINES = [*SHOW_R28.splitlines(), *SHOW_R35.splitlines(), *STORE.splitlines()]


def _raise_only_our_error(text: str) -> None:
    for parse in (parse_show, parse_store, find_refusal):
        try:
            parse(text)
        except PowerFormatError as error:
            assert str(error)


@given(st.text())
def test_random_text_raises_only_our_error(text):
    _raise_only_our_error(text)
    _raise_only_our_error(f'cpu0: {text}\nFan: {text}\nGPU {text}\nOnline CPUs:{text}')


@given(st.lists(st.sampled_from(LINES), max_size=12), st.data())
def test_damaged_lines_raise_only_our_error(lines, data):
    text = '\n'.join(lines)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    _raise_only_our_error(text[:start] + data.draw(st.text(max_size=6)) + text[end:])


@given(st.lists(st.sampled_from(
    [word for line in LINES for word in line.split()] + ['cpu0:', '=', 'MinFreq=٣', '9' * 5000]
), max_size=15))
def test_shuffled_words_raise_only_our_error(words):
    _raise_only_our_error(' '.join(words))
