"""tegrastats lines of every generation, and lines that are none."""

import datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
import pytest

from yolov7_trt_ros.errors import PowerFormatError
from yolov7_trt_ros.power.rails import RailPower
from yolov7_trt_ros.power.telemetry.tegrastats import parse_line
from yolov7_trt_ros.power.telemetry.tegrastats_values import MemoryUse, TegrastatsSample, UnitUse

DATA = Path(__file__).resolve().parents[1] / 'data' / 'jetson'
LINES = (DATA / 'tegrastats_lines.txt').read_text().splitlines()
TX1, NANO, XAVIER, ORIN, THOR = LINES

# By file: cores, rails, engines, EMC clock, GPU (load, clocks).
SAMPLES = {
    '01_tx1': (4, 3, 1, 408, (0, (76,))),
    '02_tx2': (6, 6, 1, 1600, (0, (624,))),
    '04_nano': (4, 3, 1, 204, (0, (76,))),
    '05_nano': (4, 3, 0, None, (0, ())),
    '06_xavier': (6, 3, 1, 1600, (62, (306,))),
    '08_agx': (8, 6, 1, 2133, (95, (1377,))),
    '11_orin': (8, 3, 2, 2133, (0, (611,))),
    '13_agx': (12, 4, 2, 2133, (0, (0, 0))),
    '14_agx': (12, 3, 10, 2133, (0, (305, 305))),
    '16_orin': (6, 3, 0, None, (0, ())),
    '17_agx': (14, 4, 9, 2750, (None, (314, 314, 314))),
    '19_agx': (4, 4, 2, 4266, (87, (1574, 1574, 1574))),
    '20_agx': (12, 3, 10, 3199, (12, (1300, 1300))),
    '25_orin': (6, 3, 6, 3199, (0, (1018,))),
}


def test_tx1_of_l4t_r28_shares_one_clock_and_has_short_names():
    sample = parse_line(TX1)
    assert sample.ram == MemoryUse(1210, 3983, 4, 61)
    assert sample.swap == MemoryUse(73, 8192, cached_mib=29)
    assert [cpu.load_percent for cpu in sample.cpus] == [17, 3, None, 5]
    assert [cpu.mhz for cpu in sample.cpus] == [1734, 1734, None, 1734]
    assert [cpu.on for cpu in sample.cpus] == [True, True, False, True]
    assert sample.emc == UnitUse(load_percent=1, clocks_mhz=(1600,))
    assert sample.gpu == UnitUse(load_percent=39, clocks_mhz=(76,))
    assert sample.engines == {'APE': UnitUse(clocks_mhz=(25,))}
    assert sample.rails == {} and sample.unknown == ()


def test_nano_has_kilobytes_of_iram_and_rails_without_unit():
    sample = parse_line(NANO)
    assert sample.swap is None
    assert sample.iram == MemoryUse(16 / 1024, 252 / 1024, 236 / 1024)
    assert sample.temperatures_c['AO'] == -2.5
    assert sample.temperatures_c['thermal'] == 36.25
    assert sample.rails['POM_5V_IN'] == RailPower(1022, 1040)
    assert sample.rails['POM_5V_GPU'] == RailPower(0, 0)
    assert sample.unknown == ()


def test_xavier_has_rails_that_are_named_like_sensors_and_like_the_cores():
    sample = parse_line(XAVIER)
    assert sample.temperatures_c == {'GPU': 54.5, 'CPU': 49}
    assert sample.rails == {
        'GPU': RailPower(18401, 18525),
        'CPU': RailPower(2301, 2330),
        'SYS5V': RailPower(4632, 4620),
    }
    assert sample.mts_percent == (1, 10)
    assert len(sample.cpus) == 4 and sample.unknown == ()


def test_orin_has_a_time_clusters_gated_blocks_and_rails_without_name():
    sample = parse_line(ORIN)
    assert sample.time == datetime.datetime(2025, 4, 11, 10, 36, 27)
    assert sample.gpu == UnitUse(load_percent=3, clocks_mhz=(305, 306))
    assert sample.gpu.mhz == 306
    assert sample.engines['GR3D2'] == UnitUse(load_percent=4, clocks_mhz=(306,))
    assert sample.engines['NVENC'] == UnitUse(on=False)
    assert sample.temperatures_c == {'CV0': None, 'CPU': 44.562}
    assert sample.max_temperatures_c == {}
    assert set(sample.rails) == {'VDD_GPU_SOC', 'VDDQ_VDD2_1V8AO'}
    assert sample.rails['VDD_GPU_SOC'] == RailPower(2340, 2350)
    # It names VIC twice; the second is kept as it is.
    assert sample.engines['VIC'] == UnitUse(clocks_mhz=(729,)) and sample.unknown == ('VIC off',)


def test_thor_has_largest_values_and_tokens_of_the_future_are_kept():
    sample = parse_line(THOR)
    assert sample.ram == MemoryUse(8 * 1024, 125 * 1024, 0.5, 1)
    assert [cpu.mhz for cpu in sample.cpus] == [2601, 2601, None, 2601]
    assert sample.emc == UnitUse(clocks_mhz=(4266,))
    assert sample.gpu == UnitUse(clocks_mhz=(1574, 1574, 1574))
    assert sample.engines == {
        'NVENC0': UnitUse(clocks_mhz=(1691,)), 'PVA0': UnitUse(on=False),
    }
    assert sample.temperatures_c == {'cpu': 58.25, 'gpu': None}
    assert sample.max_temperatures_c == {'cpu': 61.75, 'gpu': 66.625}
    assert sample.rails['VDD_CPU_SOC_MSS'] == RailPower(30059, 12281, 30060)
    assert sample.rails['VIN'] == RailPower(124500, 36400, 125000)
    assert sample.rails['VIN2'] == RailPower(12)
    assert sample.unknown == ('SHINY new (thing',)


def test_a_core_of_an_unknown_form_keeps_its_place():
    sample = parse_line('CPU [1%@345,parked,0%@345] GR3D_FREQ 5%@[1000,off] NEW [a]')
    assert sample.cpus == (UnitUse(True, 1, (345,)), UnitUse(), UnitUse(True, 0, (345,)))
    assert sample.gpu == UnitUse(load_percent=5, clocks_mhz=(1000,))
    assert sample.unknown == ('parked', 'NEW [a]')


def test_a_value_that_was_cut_off_is_not_believed():
    sample = parse_line('RAM 1/2MB VDD_IN 4654mW/46')
    assert sample.rails == {} and sample.unknown == ('VDD_IN 4654mW/46',)


def test_an_impossible_date_is_unknown():
    sample = parse_line('13-45-2026 02:10:03 RAM 1/2MB')
    assert sample.time is None and sample.unknown == ('13-45-2026 02:10:03',)


@pytest.mark.parametrize('text', [
    '', '\n', 'tegrastats: command not found', 'CPU []', 'VDD_IN 1mW/1mW', 'RAM x/yMB',
    'RAM ' + '9' * 6000 + '/1MB',
])
def test_a_text_without_ram_and_cores_is_no_line(text):
    with pytest.raises(PowerFormatError, match='expected a line of tegrastats'):
        parse_line(text)


def test_a_sample_is_frozen_and_empty_by_default():
    with pytest.raises(AttributeError):
        TegrastatsSample().ram = None  # type: ignore[misc]
    assert TegrastatsSample().rails == {}


@pytest.mark.parametrize('prefix', SAMPLES)
def test_recorded_lines_are_understood_to_the_last_word(shared_data, prefix):
    (path,) = (shared_data / 'jetson' / 'tegrastats').glob(f'{prefix}*.txt')
    samples = [parse_line(line) for line in path.read_text().splitlines()]
    for sample in samples:
        assert set(sample.unknown) <= {'FUTURE_TOKEN value'}
        assert sample.ram is not None and sample.temperatures_c and sample.rails
        assert all(cpu.load_percent is not None or not cpu.on for cpu in sample.cpus)
    first = samples[0]
    cores, rails, engines, emc_mhz, (gpu_load, gpu_clocks) = SAMPLES[prefix]
    assert (len(first.cpus), len(first.rails), len(first.engines)) == (cores, rails, engines)
    assert (first.emc.mhz if first.emc is not None else None) == emc_mhz
    assert first.gpu == UnitUse(True, gpu_load, gpu_clocks)


def test_every_recorded_file_is_in_the_table(shared_data):
    names = [path.name for path in (shared_data / 'jetson' / 'tegrastats').glob('*.txt')]
    assert names
    assert not [name for name in names if not name.startswith(tuple(SAMPLES))]


def test_the_average_is_the_mean_since_the_start(shared_data):
    (path,) = (shared_data / 'jetson' / 'tegrastats').glob('25_*.txt')
    rails = [parse_line(line).rails['VDD_IN'] for line in path.read_text().splitlines()]
    for count in range(1, len(rails) + 1):
        mean_mw = sum(rail.current_mw for rail in rails[:count]) / count
        assert rails[count - 1].average_mw == pytest.approx(mean_mw, abs=1)


def _parses_or_refuses(text: str) -> None:
    try:
        sample = parse_line(text)
    except PowerFormatError:
        return
    assert sample.ram is not None or sample.cpus


@given(st.text())
def test_random_text_raises_only_our_error(text):
    _parses_or_refuses(text)
    _parses_or_refuses(f'RAM 1/2MB {text}')


@given(st.lists(st.one_of(
    st.sampled_from(sorted({word for line in LINES for word in line.split()})),
    st.sampled_from(['[', ']', '@', '%', '/', 'off', '-', '٣%', 'C', 'mW', '9' * 400, '@[,]']),
), max_size=20), st.sampled_from([' ', '', '\t', '\n']))
def test_shuffled_words_raise_only_our_error(words, space):
    _parses_or_refuses(space.join(words))


@given(st.sampled_from(LINES), st.data())
def test_damaged_lines_raise_only_our_error(line, data):
    start = data.draw(st.integers(0, len(line)))
    end = data.draw(st.integers(start, len(line)))
    _parses_or_refuses(line[:start] + data.draw(st.text(max_size=6)) + line[end:])


TOKENS = [
    '01-02-2026 03:04:05', 'RAM 1/2MB (lfb 1x4MB)', 'SWAP 3/4MB (cached 5MB)',
    'IRAM 0/252kB(lfb 252kB)', 'CPU [1%@2,off]', 'EMC_FREQ 1%@2', 'GR3D_FREQ @[3,4]', 'VIC off',
    'APE 5', 'MTS fg 1% bg 2%', 'CPU@4C', 'CPU 6/7', 'VDD_IN 1mW/2mW/3mW', 'NC 0mW/0mW', 'FUTURE',
]


@given(st.permutations(TOKENS))
def test_the_order_of_the_tokens_does_not_matter(tokens):
    sample = parse_line(' '.join(tokens))
    assert sample == parse_line(' '.join(TOKENS)) and sample.unknown == ('FUTURE',)
