"""nvpmodel: conf files, answers, refusals and the status file."""

from pathlib import Path
import re

from hypothesis import given
from hypothesis import strategies as st
import pytest

from yolov7_trt_ros.errors import PowerFormatError
from yolov7_trt_ros.power.nvpmodel.answers import find_refusal, parse_query, parse_status_file
from yolov7_trt_ros.power.nvpmodel.conf import parse_conf, parse_modes_verbose
from yolov7_trt_ros.power.nvpmodel.values import ConfParameter, CurrentMode, UNLIMITED
from yolov7_trt_ros.power.root.tool_refusal import ToolRefusal

DATA = Path(__file__).resolve().parents[1] / 'data' / 'jetson'
ORIN = (DATA / 'nvpmodel_orin.conf').read_text()
XAVIER = (DATA / 'nvpmodel_xavier.conf').read_text()
MODES_VERBOSE = (DATA / 'nvpmodel_modes_verbose.txt').read_text()
QUERY_VERBOSE = (DATA / 'nvpmodel_query_verbose.txt').read_text()


def test_conf_of_an_orin():
    conf = parse_conf(ORIN)
    assert [(mode.mode_id, mode.name) for mode in conf.modes] == [
        (0, 'MAXN_SUPER'), (2, '15W'), (17, 'ROBOT AT REST'),
    ]
    assert [str(mode) for mode in conf.modes][1] == '15W (2)'
    assert (conf.default_id, conf.fan_default, conf.unknown) == (2, None, ())
    assert [parameter.name for parameter in conf.parameters] == [
        'CPU_ONLINE', 'TPC_POWER_GATING', 'GPU_POWER_CONTROL_ENABLE', 'CPU_A78_0', 'GPU', 'EMC',
    ]


@pytest.mark.parametrize('changed', ['\ufeff' + ORIN, ORIN.replace('\n', '\r\n')])
def test_a_conf_that_an_editor_of_another_system_has_saved(changed):
    assert parse_conf(changed) == parse_conf(ORIN)


def test_masks_that_are_the_same_in_all_modes():
    conf = parse_conf(ORIN)
    assert {name for mode in conf.modes for name in mode.masks} >= set(conf.common_masks)
    text = ORIN.replace('TPC_PG_MASK 240', 'TPC_PG_MASK 252', 1)
    assert 'TPC_PG_MASK' not in parse_conf(text).common_masks


def test_a_mode_without_caps():
    mode = parse_conf(ORIN).modes[0]
    assert mode.settings['GPU', 'MAX_FREQ'] == UNLIMITED
    assert mode.settings['GPU_POWER_CONTROL_ENABLE', 'GPU_PWR_CNTL_EN'] == 'on'
    assert (mode.cpu_max_khz, mode.gpu_max_hz, mode.emc_max_hz) == (None, None, None)
    assert mode.tpc_mask == 240 and mode.masks == {'TPC_PG_MASK': 240}
    assert mode.cores == dict.fromkeys(range(4), True)


def test_a_mode_with_caps():
    mode = parse_conf(ORIN).modes[1]
    assert (mode.cpu_max_khz, mode.gpu_max_hz, mode.emc_max_hz) == (
        1497600, 612000000, 2133000000
    )
    assert mode.tpc_mask == 0xFC
    assert mode.cores == {0: True, 1: True, 2: False, 3: False}


def test_a_mode_that_says_little():
    mode = parse_conf(ORIN).modes[2]
    assert (mode.tpc_mask, mode.cores, mode.gpu_max_hz) == (None, {}, None)
    assert mode.cpu_max_khz == 729600


def test_paths_for_newer_kernels_come_first():
    gpu = parse_conf(ORIN).find_parameter('GPU')
    assert gpu is not None
    assert gpu.candidates('MAX_FREQ') == (
        '/sys/devices/platform/17000000.gpu/devfreq_dev/max_freq',
        '/sys/devices/17000000.ga10b/devfreq/17000000.ga10b/max_freq',
    )
    assert gpu.candidates('NO_SUCH') == ()


def test_conf_of_a_xavier():
    conf = parse_conf(XAVIER)
    assert (conf.default_id, conf.fan_default) == (3, 'quiet')
    assert conf.unknown == ('< FUTURE_SECTION LEVEL=5 >', 'SOMETHING new')
    assert conf.find_parameter('INPUT_CURRENT') == ConfParameter(
        'INPUT_CURRENT', 'HWMON',
        {'WARN_LIMIT': '/sys/bus/i2c/drivers/ina3221x/7-0040'},
        {'WARN_LIMIT': 'warn_current_limit_0'},
    )
    assert conf.find_parameter('NO_SUCH') is None
    assert conf.modes[0].cpu_max_khz == 1497600


@pytest.mark.parametrize(('wanted', 'mode_id'), [
    (17, 17), ('17', 17), (' 2 ', 2), ('15W', 2), ('15w', 2), ('maxn_super', 0), ('1', None),
    ('', None), ('MAXN', None),
])
def test_modes_are_found_by_name_and_by_id(wanted, mode_id):
    mode = parse_conf(ORIN).find_mode(wanted)
    assert (mode.mode_id if mode is not None else None) == mode_id


@pytest.mark.parametrize(('text', 'message'), [
    ('', 'at least one POWER_MODEL'),
    ('< PM_CONFIG DEFAULT=0 >', 'at least one POWER_MODEL'),
    ('CPU_ONLINE CORE_0 1', 'line 1: expected a header'),
    ('\n< POWER_MODEL ID=0 NAME=A', 'line 2: expected "< SECTION'),
    ('< POWER_MODEL ID=0 >', 'expected NAME=... in the POWER_MODEL header'),
    ('< POWER_MODEL ID=x NAME=A >', 'line 1: expected the number of a power mode'),
    ('< POWER_MODEL ID=0 NAME=A >\nGPU MAX_FREQ', 'line 2: expected "PARAMETER ARGUMENT value"'),
    ('< PARAM TYPE=FILE >', 'expected NAME=... in the PARAM header'),
    ('< PARAM NAME=A >', 'expected TYPE=... in the PARAM header'),
    ('< PARAM TYPE=FILE NAME=A >\nCORE_0', 'line 2: expected "ARGUMENT path"'),
    ('< PM_CONFIG DEFAULT= >', 'expected DEFAULT=... in the PM_CONFIG header'),
    ('< FAN_CONFIG >', 'expected DEFAULT=... in the FAN_CONFIG header'),
])
def test_damaged_confs_are_refused_by_line(text, message):
    with pytest.raises(PowerFormatError, match=re.escape(message)):
        parse_conf(text)


def test_modes_verbose():
    conf = parse_modes_verbose(MODES_VERBOSE)
    assert [str(mode) for mode in conf.modes] == ['MAXN (0)', 'MODE_9W (4)']
    assert conf.default_id == 4 and conf.unknown == ()
    assert [mode.gpu_max_hz for mode in conf.modes] == [None, 640000000]
    assert [mode.tpc_mask for mode in conf.modes] == [0, 1]
    assert [parameter.kind for parameter in conf.parameters] == ['FILE', 'FILE', 'CLOCK']
    assert conf.parameters[0].paths == {'CORE_0': '/sys/devices/system/cpu/cpu0/online'}


def test_modes_verbose_keeps_what_it_does_not_know():
    text = f'{MODES_VERBOSE}NVPM ERROR: a new complaint\nNVPM VERB: A: B\n'
    assert parse_modes_verbose(text).unknown == ('NVPM ERROR: a new complaint', 'A: B')


def test_modes_verbose_without_modes():
    with pytest.raises(PowerFormatError, match='at least one POWER_MODEL in nvpmodel -p'):
        parse_modes_verbose('NVPM VERB: Config file: /etc/nvpmodel.conf\n')


def test_plain_query():
    assert parse_query('NV Power Mode: MAXN\n0\n') == CurrentMode('MAXN', 0)


def test_query_with_lines_before_between_and_behind():
    mode = parse_query(QUERY_VERBOSE)
    assert (mode.name, mode.mode_id, mode.fan_profile) == ('MODE_9W', 4, 'cool')
    assert [problem.split(':')[0] for problem in mode.problems] == [
        'NVPM WARN', 'NVPM WARN', 'NVPM ERROR', 'NVPM ERROR',
    ]


@pytest.mark.parametrize('text', [
    '', 'NVPM WARN: fan mode is not set!\n', 'NV Power Mode:\n0\n', 'NV Power Mode: MAXN\n',
    'NV Power Mode: MAXN\nzero\n', 'NV Power Mode: MAXN\n' + '9' * 5000,
])
def test_query_without_a_mode(text):
    with pytest.raises(PowerFormatError, match='expected'):
        parse_query(text)


@pytest.mark.parametrize(('text', 'mode_id'), [
    ('pmode:0002', 2), ('pmode:0012\n', 12), ('pmode:0007 fmode:quiet\n', 7),
    ('fmode:fan_mode_quiet pmode: 3', 3),
])
def test_status_file(text, mode_id):
    assert parse_status_file(text) == mode_id


@pytest.mark.parametrize('text', ['', 'pmode:', 'pmode:x', 'mode:0002', 'pmode:' + '9' * 5000])
def test_status_file_without_mode(text):
    with pytest.raises(PowerFormatError, match='pmode'):
        parse_status_file(text)


@pytest.mark.parametrize(('text', 'kind', 'line'), [
    (
        'NVPM WARN: Golden image context is already created\n'
        'NVPM WARN: Reboot required for changing to this power mode: 2\n'
        'NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:\n'
        'NVPM ERROR: bad input!\n'
        'NVPM ERROR: optMask is 1, no request for power mode\n',
        'reboot', 'NVPM WARN: Reboot required for changing to this power mode: 2',
    ),
    ('Automatically rebooting to reflect the mode change', 'reboot', None),
    ('Running in chroot, ignoring request.\n', 'chroot', None),
    ('NVPM ERROR: request for bad power mode 2', 'unknown_mode', None),
    (
        'NVPM ERROR: Error opening /sys/devices/system/cpu/cpu0/online: 13\n'
        'NVPM ERROR: failed to write PARAM CPU_ONLINE: ...\n'
        'NVPM ERROR: failed to set power mode!\n',
        'permission', 'NVPM ERROR: Error opening /sys/devices/system/cpu/cpu0/online: 13',
    ),
    ('sudo: a password is required', 'permission', None),
    ('user is not in the sudoers file.  This incident will be reported.', 'permission', None),
    ('NVPM ERROR: Error opening /sys/devices/gpu.0/tpc_pg_mask: 2', 'error', None),
    ('NVPM ERROR: something new', 'error', None),
])
def test_refusals_are_found(text, kind, line):
    assert find_refusal(text) == ToolRefusal(kind, line or text.strip())


@pytest.mark.parametrize('text', [
    '', 'NVPM WARN: fan mode is not set!', 'NVPM WARN: Golden image context is already created',
])
def test_no_refusal_in_success(text):
    assert find_refusal(text) is None


def _blocks(text: str) -> list[str]:
    return re.findall(r'^```\n(.*?)^```', text, re.DOTALL | re.MULTILINE)


def test_recorded_outputs(shared_data):
    text = (shared_data / 'jetson' / 'nvpmodel_outputs.md').read_text()
    queries, changes = text.split('## -m', 1)
    modes = [parse_query(block) for block in _blocks(queries)]
    assert [(mode.name, mode.mode_id) for mode in modes] == [
        ('MAXN', 0), ('MAXN', 0), ('MODE_15W_DESKTOP', 7),
    ]
    assert [len(mode.problems) for mode in modes] == [0, 1, 14]
    assert modes[2].fan_profile == 'quiet'
    refusals = [find_refusal(block) for block in _blocks(changes)]
    assert len(refusals) == 4
    assert {refusal.kind for refusal in refusals if refusal is not None} == {'reboot'}


def test_recorded_verbose_query(shared_data):
    (path,) = (shared_data / 'jetson').glob('q_verbose_*.txt')
    text = path.read_text()
    assert parse_query(text) == CurrentMode('25W', 1)


def test_confs_with_the_recorded_modes(shared_data):
    """The recorded tables, written as conf files, come back as they were."""
    tables = (shared_data / 'jetson' / 'modes.md').read_text().split('### ')[1:]
    assert len(tables) > 15
    for table in tables:
        default = re.search(r'default=(\d+)', table)
        rows = re.findall(
            r'^\| (\d+) \| (\S+) \| (\d+) \| (\S+) \| (\S+) \| (\S+) \| (\S+) \|', table,
            re.MULTILINE,
        )
        assert default is not None and rows
        conf = parse_conf(_conf_text(default[1], rows))
        assert conf.default_id == int(default[1]) and conf.unknown == ()
        found = [
            (str(mode.mode_id), mode.name, str(sum(mode.cores.values())),
             _cell(mode.cpu_max_khz), _cell(mode.gpu_max_hz), _cell(mode.tpc_mask))
            for mode in conf.modes
        ]
        assert found == [(*row[:5], row[6].replace('-', '-1')) for row in rows]
        assert conf.find_mode(int(default[1])) is not None


def _cell(value: int | None) -> str:
    return '-1' if value is None else str(value)


def _conf_text(default: str, rows: list[tuple[str, ...]]) -> str:
    lines = []
    for mode_id, name, cores, cpu, gpu, emc, mask in rows:
        lines += [f'< POWER_MODEL ID={mode_id} NAME={name} >']
        lines += [f'CPU_ONLINE CORE_{core} 1' for core in range(int(cores))]
        lines += [f'CPU_A57 MAX_FREQ {cpu}', f'GPU MAX_FREQ {gpu}', f'EMC MAX_FREQ {emc}']
        lines += [f'TPC_POWER_GATING TPC_PG_MASK {mask}'] if mask != '-' else []
    return '\n'.join([*lines, f'< PM_CONFIG DEFAULT={default} >'])


TEXTS = [ORIN, XAVIER, MODES_VERBOSE, QUERY_VERBOSE, 'pmode:0002 fmode:quiet']
PARSERS = [
    parse_conf, parse_modes_verbose, parse_query, parse_status_file,
    find_refusal,
]


def _raise_only_our_error(text: str) -> None:
    for parse in PARSERS:
        try:
            parse(text)
        except PowerFormatError as error:
            assert str(error)


@given(st.text())
def test_random_text_raises_only_our_error(text):
    _raise_only_our_error(text)
    _raise_only_our_error(f'< POWER_MODEL ID=1 NAME=A >\nA B {text}')
    _raise_only_our_error(f'< {text} >\nNVPM VERB: POWER_MODEL: {text}')
    _raise_only_our_error(f'NV Power Mode: A\n{text}')


@given(st.sampled_from(TEXTS), st.data())
def test_damaged_texts_raise_only_our_error(text, data):
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    _raise_only_our_error(text[:start] + data.draw(st.text(max_size=6)) + text[end:])


@given(st.lists(st.sampled_from(
    [line for text in TEXTS for line in text.splitlines()] + ['< >', '<', '9' * 5000, '٣']
), max_size=12))
def test_shuffled_lines_raise_only_our_error(lines):
    _raise_only_our_error('\n'.join(lines))
