"""What jetson_clocks refuses and stores, of several releases."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
import pytest

from yolov7_trt_ros.errors import PowerFormatError
from yolov7_trt_ros.power.clocks.jetson_clocks import find_refusal, parse_store
from yolov7_trt_ros.power.root.tool_refusal import ToolRefusal

DATA = Path(__file__).resolve().parents[1] / 'data' / 'jetson'
SHOW_R28 = (DATA / 'jetson_clocks_show_r28.txt').read_text()
SHOW_R35 = (DATA / 'jetson_clocks_show_r35.txt').read_text()
STORE = (DATA / 'jetson_clocks_store.conf').read_text()


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
    assert find_refusal('Error: x') == ToolRefusal('error', 'Error: x')


def test_recorded_stores_are_understood(shared_data):
    paths = sorted((shared_data / 'jetson' / 'jetson_clocks').glob('l4t_dfs*.conf'))
    assert [len(parse_store(path.read_text())) for path in paths] == [21, 21]


LINES = [*SHOW_R28.splitlines(), *SHOW_R35.splitlines(), *STORE.splitlines()]


def _raise_only_our_error(text: str) -> None:
    for parse in (parse_store, find_refusal):
        try:
            parse(text)
        except PowerFormatError as error:
            assert str(error)


@given(st.text())
def test_random_text_raises_only_our_error(text):
    _raise_only_our_error(text)
    _raise_only_our_error(f'/sys/a:{text}\n{text}:1\nError: {text}')


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
