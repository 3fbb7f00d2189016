"""Telemetry and limits of a GPU in a PC, on a stand-in for pynvml with NVML's codes."""

from collections.abc import Callable
import os
from pathlib import Path
import time
from types import SimpleNamespace

from fake_nvml import (
    boot_pc,
    DRIVER_NOT_LOADED,
    FakeNvml,
    GPU_IS_LOST,
    LIBRARY_NOT_FOUND,
    NO_PERMISSION,
    NOT_SUPPORTED,
    UNKNOWN,
)
import pytest

from yolov7_trt_ros.errors import (
    MissingDependencyError,
    PowerCommandError,
    PowerError,
    PowerPermissionError,
    SettingError,
)
from yolov7_trt_ros.power.nvml.gpu import NvmlGpu, STEPS
from yolov7_trt_ros.power.nvml.gpu_journal import GpuJournal
from yolov7_trt_ros.power.nvml.library import NvmlDevice
from yolov7_trt_ros.power.nvml.limits import NvmlLimits
from yolov7_trt_ros.power.telemetry.energy import EnergyCounter
from yolov7_trt_ros.power.telemetry.nvml_source import NvmlSource

POWER_CAP, THERMAL = 0x04, 0x20
HASTE_S = 1.0
"""Where a driver hangs; else it answers much sooner, on a busy machine too."""


@pytest.fixture
def nvml() -> FakeNvml:
    return FakeNvml()


def open_source(nvml: FakeNvml, **options) -> NvmlSource:
    return NvmlSource(NvmlDevice(nvml, timeout_s=600.0), **options)


def test_a_sample_has_all_that_a_gpu_tells(nvml) -> None:
    source = open_source(nvml, clock_ns=lambda: 17)
    sample = source.read()
    assert sample.time_ns == 17
    assert sample.total_mw == sample.rails['gpu'].current_mw == 250_000
    assert sample.temperatures_c == {'gpu': 61.0}
    assert sample.clocks_mhz == {'gpu': 1755.0, 'gpu_memory': 2619.0}
    assert sample.loads_percent == {'gpu': 83.0, 'gpu_memory': 21.0}
    assert sample.fan_percent == 45.0
    assert (sample.alarms, sample.problems) == ((), ())
    assert sample.hottest_c == ('gpu', 61.0)


def test_energy_is_counted_from_the_first_sample_on(nvml) -> None:
    times_ns = iter((0, 2_000_000_000))
    source = open_source(nvml, clock_ns=lambda: next(times_ns))
    counter = EnergyCounter()
    counter.add(source.read())
    nvml.energy_mj += 600_000
    sample = source.read()
    counter.add(sample)
    assert sample.total_energy_j == sample.energy_j['gpu'] == 600.0
    assert (counter.joules, counter.mean_w) == (600.0, 300.0)


def test_without_a_counter_the_power_is_integrated(nvml) -> None:
    nvml.fails['nvmlDeviceGetTotalEnergyConsumption'] = NOT_SUPPORTED  # before Volta
    times_ns = iter((0, 2_000_000_000))
    source = open_source(nvml, clock_ns=lambda: next(times_ns))
    counter = EnergyCounter()
    counter.add(source.read())
    nvml.power_mw = 350_000
    counter.add(source.read())
    assert counter.joules == pytest.approx(600.0)


def test_mean_power_runs_along(nvml) -> None:
    source = open_source(nvml)
    source.read()
    nvml.power_mw = 350_000
    rail = source.read().rails['gpu']
    assert (rail.current_mw, rail.average_mw, rail.max_mw) == (350_000, 300_000, 350_000)


def test_what_a_gpu_does_not_have_is_left_out(nvml) -> None:
    for function in (
        'nvmlDeviceGetPowerUsage', 'nvmlDeviceGetTotalEnergyConsumption', 'nvmlDeviceGetFanSpeed',
        'nvmlDeviceGetUtilizationRates', 'nvmlDeviceGetClockInfo',
        'nvmlDeviceGetCurrentClocksThrottleReasons',
    ):
        nvml.fails[function] = NOT_SUPPORTED
    sample = open_source(nvml).read()
    assert (sample.total_mw, sample.rails, sample.energy_j) == (None, {}, {})
    assert (sample.clocks_mhz, sample.loads_percent, sample.fan_percent) == ({}, {}, None)
    assert sample.temperatures_c == {'gpu': 61.0}
    assert 'does not report the power' in sample.problems[0]
    assert sample.alarms == () and 'whether this GPU is slowed down' in sample.problems[1]


def test_programs_on_the_gpu_are_told_with_their_memory(nvml) -> None:
    mib = 1024**2
    nvml.processes = [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in (
        (os.getpid(), 300 * mib), (2**31 - 1, 5000 * mib), (2**31 - 2, None),
        (2**31 - 3, 2**64 - 1))]
    sample = open_source(nvml).read()
    own = f'{os.getpid()} {Path("/proc/self/comm").read_text().strip()}'
    assert list(sample.gpu_processes_mib.items()) == [
        ('2147483647', 5000.0), (own, 300.0), ('2147483646', None), ('2147483645', None)]
    assert sample.gpu_processes['GPU process 2147483646'] == 'unknown'
    nvml.processes = [
        SimpleNamespace(pid=2**30 + number, usedGpuMemory=1) for number in range(99)]
    assert len(open_source(nvml).read().gpu_processes_mib) == 32
    nvml.fails['nvmlDeviceGetComputeRunningProcesses'] = NOT_SUPPORTED
    assert open_source(nvml).read().gpu_processes_mib == {}


def test_beside_other_sensors_only_the_rest_is_told(nvml) -> None:
    sample = open_source(nvml, with_power=False).read()
    assert (sample.total_mw, sample.rails, sample.total_energy_j) == (None, {}, None)
    assert sample.loads_percent['gpu'] == 83.0
    assert sample.problems == ()


def test_slowing_down_for_heat_is_an_alarm_and_keeping_to_the_power_limit_is_none(nvml) -> None:
    source = open_source(nvml)
    nvml.reasons = POWER_CAP
    assert source.read().alarms == ()
    nvml.reasons = POWER_CAP | THERMAL
    assert source.read().alarms == ('the GPU slows down for heat (driver)',)


def test_the_newer_name_of_a_function_is_used_where_it_is_there(nvml) -> None:
    nvml.nvmlDeviceGetCurrentClocksEventReasons = lambda handle: THERMAL
    assert open_source(nvml).read().alarms != ()


def test_a_lost_gpu_is_an_error_and_the_source_can_be_closed(nvml) -> None:
    source = open_source(nvml)
    nvml.fails['nvmlDeviceGetPowerUsage'] = GPU_IS_LOST
    nvml.fails['nvmlShutdown'] = GPU_IS_LOST
    with pytest.raises(PowerError, match=r'GPU is lost \(15\); .* restart'):
        source.read()
    source.close()
    source.close()


def test_a_driver_that_hangs_does_not_block(nvml) -> None:
    source = NvmlSource(NvmlDevice(nvml, timeout_s=HASTE_S))
    nvml.answers.clear()
    with pytest.raises(PowerError, match='no answer within'):
        source.read()
    begun_s = time.monotonic()
    for _ in range(50):
        with pytest.raises(PowerError, match='has not answered'):
            source.read()
    assert time.monotonic() - begun_s < 50 * HASTE_S
    nvml.answers.set()
    while True:  # until the call that hung has returned
        try:
            assert source.read().total_mw == 250_000
            break
        except PowerError:
            assert time.monotonic() - begun_s < 600


@pytest.mark.parametrize('function, code, words', [
    ('nvmlInit', LIBRARY_NOT_FOUND, 'driver is not installed'),
    ('nvmlInit', DRIVER_NOT_LOADED, 'driver is not loaded'),
    ('nvmlDeviceGetHandleByIndex', UNKNOWN, 'nvidia-smi shows'),
    ('nvmlDeviceGetHandleByIndex', NO_PERMISSION, 'only root'),
])
def test_opening_says_what_is_missing(nvml, function: str, code: int, words: str) -> None:
    nvml.fails[function] = code
    with pytest.raises(PowerError, match=words):
        NvmlDevice(nvml)
    assert nvml.opened == 0


def test_a_gpu_that_is_not_there(nvml) -> None:
    with pytest.raises(PowerError, match='no GPU of this number'):
        NvmlDevice(nvml, 3)
    assert nvml.opened == 0


def test_closing_lets_go_of_the_library(nvml) -> None:
    source = open_source(nvml)
    assert nvml.opened == 1
    source.close()
    source.close()
    assert nvml.opened == 0


def test_limits_are_set_and_taken_away(nvml) -> None:
    device = NvmlDevice(nvml)
    limits = NvmlLimits(device)
    limits.set_max_clock(1410)
    assert nvml.clocks == (0, 1410)
    limits.reset_clocks()
    assert nvml.clocks is None
    limits.set_power_limit(200_000)
    assert limits.power_limit_mw() == 200_000


def test_a_power_limit_that_does_not_hold_is_an_error(nvml) -> None:
    nvml.keeps_limit = True
    with pytest.raises(PowerCommandError, match='now it is 350000 mW'):
        NvmlLimits(NvmlDevice(nvml)).set_power_limit(300_000)


def test_a_power_limit_out_of_range_is_no_missing_gpu(nvml) -> None:
    with pytest.raises(PowerError, match=r'\(2\); this GPU does not take that value'):
        NvmlLimits(NvmlDevice(nvml)).set_power_limit(900_000)


def test_limits_need_root_and_a_gpu_that_has_them(nvml) -> None:
    limits = NvmlLimits(NvmlDevice(nvml))
    nvml.fails['nvmlDeviceSetGpuLockedClocks'] = NO_PERMISSION
    with pytest.raises(PowerPermissionError, match='only root'):
        limits.set_max_clock(1410)
    nvml.fails['nvmlDeviceSetGpuLockedClocks'] = NOT_SUPPORTED
    with pytest.raises(PowerCommandError, match='Not Supported'):
        limits.set_max_clock(1410)
    nvml.fails['nvmlDeviceGetPowerManagementLimit'] = NOT_SUPPORTED
    assert limits.power_limit_mw() is None


def test_the_clock_is_capped_held_below_the_cap_and_freed(nvml) -> None:
    lines: list[str] = []
    gpu = NvmlGpu(lambda: nvml, report=lines.append)
    assert nvml.opened == 0
    table = gpu.steps()
    assert len(table) == STEPS and (table[0], table[-1]) == (345, 1980)
    assert gpu.set_cap(None) == 1980 and nvml.clocks is None and gpu.changed == ()
    assert gpu.set_cap(1414) == 1410 and nvml.clocks == (345, 1410)
    assert gpu.hold(1100) == 1095 and nvml.clocks == (1095, 1095)
    assert gpu.hold(1900) == 1410 and nvml.clocks == (1410, 1410)
    assert gpu.hold(1) == 345 and nvml.clocks == (345, 345)
    assert gpu.hold(None) == 1410 and nvml.clocks == (345, 1410)
    assert gpu.changed == ('gpu_locked_clocks',)
    gpu.restore()
    assert nvml.clocks is None and gpu.changed == ()
    assert lines[0] == 'did as nvidia-smi -i 0 -lgc 345,1410'
    assert lines[-1] == 'did as nvidia-smi -i 0 -rgc'
    with pytest.raises(SettingError):
        gpu.set_cap(-1)
    gpu.close()
    assert nvml.opened == 0


def test_a_clock_that_may_not_be_locked_says_what_to_run(nvml) -> None:
    nvml.fails['nvmlDeviceSetGpuLockedClocks'] = NO_PERMISSION
    gpu = NvmlGpu(lambda: nvml)
    with pytest.raises(PowerPermissionError, match='sudo nvidia-smi -i 0 -lgc 345,1410 '):
        gpu.set_cap(1410)
    assert gpu.changed == () and gpu.set_cap(None) == 1980
    nvml.fails['nvmlDeviceSetGpuLockedClocks'] = NOT_SUPPORTED
    with pytest.raises(PowerCommandError, match='not with this GPU or driver'):
        gpu.hold(1410)
    assert gpu.changed == ()


def test_a_lock_that_hung_and_came_late_is_freed_all_the_same(nvml) -> None:
    gpu = NvmlGpu(lambda: nvml, timeout_s=HASTE_S)
    gpu.steps()
    nvml.answers.clear()
    with pytest.raises(PowerError, match='no answer within'):
        gpu.hold(1410)
    nvml.answers.set()
    while nvml.clocks is None:  # the call comes to its end after all
        time.sleep(0.01)
    assert gpu.changed == ('gpu_locked_clocks',)
    gpu.restore()
    assert nvml.clocks is None and gpu.changed == ()


# ---- a GPU that cannot lock its clock


@pytest.fixture
def pascal(nvml: FakeNvml) -> FakeNvml:
    nvml.capability = [6, 1]
    nvml.limit_mw = 250_000
    return nvml


def test_before_volta_the_power_is_limited_and_put_back(pascal: FakeNvml) -> None:
    lines: list[str] = []
    gpu = NvmlGpu(lambda: pascal, report=lines.append)
    steps = gpu.steps()
    assert len(steps) == STEPS and (steps[0], steps[-1]) == (100.0, 250.0)
    assert gpu.unit == 'W' and 'power is limited instead' in gpu.note
    assert gpu.set_cap(None) == 250 and gpu.changed == ()
    assert gpu.hold(180) == 180 and pascal.limit_mw == 180_000
    assert gpu.hold(1) == 100 and pascal.limit_mw == 100_000
    assert gpu.hold(400) == 250, 'never above what was found'
    assert gpu.hold(120) == 120 and gpu.changed == ('gpu_power_limit',)
    assert gpu.hold(None) == 250 and pascal.limit_mw == 250_000 and gpu.changed == ()
    gpu.hold(150)
    gpu.restore()
    assert pascal.limit_mw == 250_000 and gpu.changed == ()
    assert lines[0] == 'did as nvidia-smi -i 0 -pl 180' and lines[-1].endswith('-pl 250')
    assert pascal.clocks is None


def test_before_volta_a_cap_of_the_clock_says_what_there_is(pascal: FakeNvml) -> None:
    with pytest.raises(PowerCommandError, match='from Volta on: leave gpu_max_freq_mhz at 0'):
        NvmlGpu(lambda: pascal).set_cap(1000)


def test_a_power_limit_that_may_not_be_set_says_what_to_run(pascal: FakeNvml) -> None:
    pascal.fails['nvmlDeviceSetPowerManagementLimit'] = NO_PERMISSION
    gpu = NvmlGpu(lambda: pascal)
    with pytest.raises(
        PowerPermissionError, match=r'sudo nvidia-smi -i 0 -pl 150 \(-i 0 -pl 250 takes it away'
    ):
        gpu.hold(150)
    assert gpu.changed == ()


def test_a_power_limit_that_did_not_hold_is_put_back(pascal: FakeNvml) -> None:
    gpu = NvmlGpu(lambda: pascal)
    pascal.keeps_limit = True
    with pytest.raises(PowerCommandError, match='now it is 250000 mW'):
        gpu.hold(150)
    assert gpu.changed == ('gpu_power_limit',)
    gpu.restore()
    assert gpu.changed == ()


@pytest.mark.parametrize('function', [
    'nvmlDeviceGetPowerManagementLimit', 'nvmlDeviceGetPowerManagementLimitConstraints',
])
def test_a_gpu_that_can_neither_says_so(pascal: FakeNvml, function: str) -> None:
    pascal.fails[function] = NOT_SUPPORTED
    with pytest.raises(PowerCommandError, match='can neither lock its clock'):
        NvmlGpu(lambda: pascal).steps()


def test_a_driver_that_does_not_tell_the_generation_is_asked_to_lock(pascal: FakeNvml) -> None:
    pascal.fails['nvmlDeviceGetCudaComputeCapability'] = NOT_SUPPORTED
    assert NvmlGpu(lambda: pascal).steps()[-1] == 1980


def test_a_gpu_that_does_not_tell_its_clocks(nvml) -> None:
    nvml.nvmlDeviceGetSupportedMemoryClocks = lambda handle: []
    with pytest.raises(PowerError, match='does not list its clocks'):
        NvmlGpu(lambda: nvml).hold(1000)


def test_a_dry_run_locks_nothing(nvml) -> None:
    lines: list[str] = []
    gpu = NvmlGpu(lambda: nvml, dry_run=True, report=lines.append)
    assert gpu.hold(1410) == 1410
    gpu.restore()
    assert nvml.clocks is None and lines == ['would do as nvidia-smi -i 0 -lgc 1410,1410']


def test_an_older_pynvml_without_a_function(nvml) -> None:
    class Older(FakeNvml):
        nvmlDeviceResetGpuLockedClocks = None

    with pytest.raises(PowerCommandError, match='update nvidia-ml-py'):
        NvmlLimits(NvmlDevice(Older())).reset_clocks()


def test_the_real_library_is_asked_for_by_the_name_of_its_package() -> None:
    from yolov7_trt_ros.power.nvml.library import load_nvml

    try:
        library = load_nvml()
    except MissingDependencyError as exc:
        assert 'pip install nvidia-ml-py' in str(exc)
        return
    for name in ('NVMLError', 'NVML_CLOCK_MEM', 'nvmlDeviceGetTotalEnergyConsumption'):
        assert hasattr(library, name)


# ---- after a SIGKILL


def gpu_with_journal(nvml: FakeNvml, root: Path, **options: object) -> NvmlGpu:
    return NvmlGpu(lambda: nvml, journal=GpuJournal(boot_pc(root), 'test'), **options)


def test_locked_clocks_of_a_killed_process_are_freed(nvml: FakeNvml, tmp_path: Path) -> None:
    assert gpu_with_journal(nvml, tmp_path).adopt() == ()
    assert nvml.opened == 0 and not (tmp_path / 'run').exists()
    killed = gpu_with_journal(nvml, tmp_path)
    killed.hold(1095)
    killed.close()  # the kernel does this
    assert nvml.clocks == (1095, 1095)
    later = gpu_with_journal(nvml, tmp_path)
    assert later.changed == () and later.adopt() == ('gpu_locked_clocks',)
    later.restore()
    assert nvml.clocks is None and later.changed == ()
    assert not (tmp_path / 'run/yolov7_trt_ros/gpu.json').exists()
    later.close()
    assert gpu_with_journal(nvml, tmp_path).adopt() == ()


def test_a_power_limit_of_a_killed_process_is_not_taken_for_the_one_found(
    pascal: FakeNvml, tmp_path: Path
) -> None:
    killed = gpu_with_journal(pascal, tmp_path)
    killed.hold(150)
    killed.hold(120)
    killed.close()
    later = gpu_with_journal(pascal, tmp_path)
    assert later.steps()[-1] == 250 and later.changed == ('gpu_power_limit',)
    assert later.hold(130) == 130
    later.restore()
    assert pascal.limit_mw == 250_000
    later.close()


def test_the_journal_is_written_before_the_change(nvml: FakeNvml, tmp_path: Path) -> None:
    gpu, seen = gpu_with_journal(nvml, tmp_path), []
    change = nvml.nvmlDeviceSetGpuLockedClocks

    def look(*arguments: object) -> None:
        seen.append((tmp_path / 'run/yolov7_trt_ros/gpu.json').read_text())
        change(*arguments)

    nvml.nvmlDeviceSetGpuLockedClocks = look
    gpu.hold(1095)
    assert 'gpu_locked_clocks' in seen[0]
    gpu.hold(None)
    assert nvml.clocks is None and not (tmp_path / 'run/yolov7_trt_ros/gpu.json').exists()
    nvml.nvmlDeviceSetGpuLockedClocks = change
    nvml.fails['nvmlDeviceSetGpuLockedClocks'] = NO_PERMISSION
    with pytest.raises(PowerPermissionError):
        gpu.hold(1095)
    assert not (tmp_path / 'run/yolov7_trt_ros/gpu.json').exists()
    gpu.close()


def test_a_second_process_is_refused_and_a_dry_run_writes_nothing(
    nvml: FakeNvml, tmp_path: Path
) -> None:
    gpu_with_journal(nvml, tmp_path, dry_run=True).hold(1095)
    assert not (tmp_path / 'run').exists()
    first, second = gpu_with_journal(nvml, tmp_path), gpu_with_journal(nvml, tmp_path)
    first.hold(1095)
    for ask in (second.adopt, second.steps, lambda: second.hold(1410)):
        with pytest.raises(PowerError, match=f'another process .*pid {os.getpid()}, test'):
            ask()
    assert nvml.clocks == (1095, 1095)
    first.restore()
    first.close()
    assert second.hold(1410) == 1410
    second.restore()
    second.close()


def test_without_a_place_for_the_journal_nothing_is_changed(
    nvml: FakeNvml, tmp_path: Path
) -> None:
    (tmp_path / 'run').write_text('')
    with pytest.raises(PowerError, match='so nothing is changed'):
        gpu_with_journal(nvml, tmp_path).hold(1095)
    assert nvml.clocks is None


def leave_locked(nvml: FakeNvml, root: Path) -> Path:
    killed = gpu_with_journal(nvml, root)
    killed.hold(1095)
    killed.close()
    return root / 'run/yolov7_trt_ros/gpu.json'


@pytest.mark.parametrize('damage', [
    lambda text: text[:-3], lambda text: text.replace('"format": 1', '"format": 2'),
    lambda text: text.replace('gpu_locked_clocks', 'gpu_power_limit'),
    lambda text: text.replace('"was": null', '"was": 0'),
], ids=['cut', 'of a later version', 'without a limit', 'with a limit'])
def test_a_journal_that_cannot_be_used_is_told(
    nvml: FakeNvml, tmp_path: Path, damage: Callable[[str], str]
) -> None:
    path = leave_locked(nvml, tmp_path)
    path.write_text(damage(path.read_text()))
    lines: list[str] = []
    later = gpu_with_journal(nvml, tmp_path, report=lines.append)
    assert later.journal_problem == ''
    assert later.adopt() == () and later.changed == ()
    assert 'cannot be used' in later.journal_problem and lines == [later.journal_problem]
    later.close()


def test_a_change_that_this_gpu_cannot_make_is_told_and_kept(
    pascal: FakeNvml, tmp_path: Path
) -> None:
    path = leave_locked(FakeNvml(), tmp_path)
    lines: list[str] = []
    later = gpu_with_journal(pascal, tmp_path, report=lines.append)
    assert later.adopt() == ()
    assert any('gpu_locked_clocks of an ended process is kept' in line for line in lines)
    later.close()
    assert 'gpu_locked_clocks' in path.read_text()
