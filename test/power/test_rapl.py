"""Energy of an x86 processor from its counters: sums, wrapping, zones, permissions."""

from collections.abc import Iterable
import errno
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
import pytest

from yolov7_trt_ros.errors import PowerError
from yolov7_trt_ros.power.sysfs import explain_os_error, SysfsTree
from yolov7_trt_ros.power.telemetry.energy import EnergyCounter
from yolov7_trt_ros.power.telemetry.rapl import find_rapl_zones, RaplSource

FOLDER = '/sys/class/powercap'
RANGE_UJ = 262_143_328_850
S = 1_000_000_000


class Processor:
    """The powercap folder of a processor, and the time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.time_ns = 0
        self.put('intel-rapl/enabled', '1')
        self.add('intel-rapl:0', 'package-0')

    def put(self, path: str, text: str) -> None:
        file = self.root / f'{FOLDER}/{path}'.lstrip('/')
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'{text}\n')

    def add(self, zone: str, name: str, energy_uj: int = 0, range_uj: int = RANGE_UJ) -> None:
        self.put(f'{zone}/name', name)
        self.put(f'{zone}/max_energy_range_uj', str(range_uj))
        self.count(energy_uj, zone)

    def count(self, energy_uj: int, zone: str = 'intel-rapl:0') -> None:
        self.put(f'{zone}/energy_uj', str(energy_uj))

    def source(self) -> RaplSource:
        return RaplSource(SysfsTree(self.root), clock_ns=lambda: self.time_ns)


class OfRoot(SysfsTree):
    """A tree in which only root may read the counters."""

    def read_all(self, paths: Iterable[str]) -> dict[str, str | PowerError]:
        return {
            path: explain_os_error(OSError(errno.EACCES, 'Permission denied'), path, 'read')
            for path in paths
        }


@pytest.fixture
def processor(tmp_path: Path) -> Processor:
    return Processor(tmp_path)


def test_power_is_the_energy_since_the_sample_before(processor) -> None:
    processor.count(1_000_000)
    source = processor.source()
    processor.time_ns = 2 * S
    processor.count(61_000_000)
    sample = source.read()
    assert sample.total_mw == sample.rails['package-0'].current_mw == 30_000.0
    assert sample.total_energy_j == 60.0
    processor.time_ns = 3 * S
    processor.count(151_000_000)
    sample = source.read()
    assert sample.total_mw == 90_000.0
    assert sample.rails['package-0'].average_mw == 50_000.0
    assert sample.energy_j == {'package-0': 150.0}


def test_right_after_opening_there_is_no_power_yet(processor) -> None:
    source = processor.source()
    sample = source.read()
    assert (sample.rails, sample.total_mw, sample.total_energy_j) == ({}, None, 0.0)


def test_two_samples_within_a_tick_have_the_same_power(processor) -> None:
    source = processor.source()
    processor.time_ns = S
    processor.count(20_000_000)
    assert source.read().total_mw == 20_000.0
    processor.time_ns += 500_000
    processor.count(20_900_000)
    assert source.read().total_mw == 20_000.0
    processor.time_ns = 2 * S
    processor.count(50_000_000)
    assert source.read().total_energy_j == 50.0


def test_a_counter_that_starts_again_counts_on(processor) -> None:
    processor.count(RANGE_UJ - 4_000_000)
    source = processor.source()
    processor.time_ns = S
    processor.count(6_000_000)
    sample = source.read()
    assert sample.total_mw == pytest.approx(10_000.0)
    assert sample.total_energy_j == pytest.approx(10.0)


def test_without_a_known_range_a_step_back_is_left_out(processor) -> None:
    processor.add('intel-rapl:0', 'package-0', 9_000_000, range_uj=0)
    source = processor.source()
    processor.time_ns = S
    processor.count(1_000_000)
    sample = source.read()
    assert (sample.total_mw, sample.total_energy_j) == (None, 0.0)


def test_parts_are_named_after_their_package_and_only_memory_adds_to_the_total(processor) -> None:
    processor.add('intel-rapl:0:0', 'core')
    processor.add('intel-rapl:0:1', 'dram')
    processor.add('intel-rapl:1', 'psys')
    processor.add('intel-rapl-mmio:0', 'package-0')
    source = processor.source()
    processor.time_ns = S
    for zone, watts in (('0', 40), ('0:0', 30), ('0:1', 5), ('1', 60)):
        processor.count(watts * 1_000_000, f'intel-rapl:{zone}')
    processor.count(41_000_000, 'intel-rapl-mmio:0')
    sample = source.read()
    assert {name: rail.current_mw for name, rail in sample.rails.items()} == {
        'package-0': 40_000.0, 'package-0/core': 30_000.0, 'package-0/dram': 5_000.0,
        'psys': 60_000.0,
    }
    assert (sample.total_mw, sample.total_energy_j) == (45_000.0, 45.0)


def test_two_packages_are_added(processor) -> None:
    processor.add('intel-rapl:1', 'package-1')
    processor.add('intel-rapl:1:0', 'core')
    source = processor.source()
    processor.time_ns = S
    processor.count(40_000_000)
    processor.count(50_000_000, 'intel-rapl:1')
    assert source.read().total_mw == 90_000.0
    assert [zone.name for zone in find_rapl_zones(SysfsTree(processor.root))] == [
        'package-0', 'package-1', 'package-1/core']


def test_without_permission_the_sample_says_what_to_do(processor) -> None:
    source = RaplSource(OfRoot(processor.root))
    sample = source.read()
    assert not source.is_readable
    assert (sample.rails, sample.total_mw, sample.total_energy_j) == ({}, None, None)
    assert len(sample.problems) == 1
    assert 'sudo chmod a+r /sys/class/powercap/*/energy_uj' in sample.problems[0]


def test_a_counter_that_is_gone_takes_the_total_with_it(processor) -> None:
    processor.add('intel-rapl:1', 'package-1')
    source = processor.source()
    (processor.root / f'{FOLDER}/intel-rapl:1/energy_uj'.lstrip('/')).unlink()
    processor.time_ns = S
    processor.count(40_000_000)
    sample = source.read()
    assert (sample.total_mw, sample.total_energy_j) == (None, None)
    assert sample.rails['package-0'].current_mw == 40_000.0
    assert 'intel-rapl:1/energy_uj' in sample.problems[0]


def test_no_zones_at_all(tmp_path: Path) -> None:
    assert find_rapl_zones(SysfsTree(tmp_path)) == ()


@given(steps=st.lists(
    st.tuples(st.integers(2_000_001, 30 * S), st.integers(0, 9_000_000)), max_size=12))
def test_the_sum_is_exact_however_often_the_counter_starts_again(tmp_path_factory, steps) -> None:
    processor = Processor(tmp_path_factory.mktemp('root'))
    processor.add('intel-rapl:0', 'package-0', 0, range_uj=10_000_000)
    source, counter = processor.source(), EnergyCounter()
    counter.add(source.read())
    total_uj = 0
    for step_ns, step_uj in steps:
        processor.time_ns += step_ns
        total_uj += step_uj
        processor.count(total_uj % 10_000_000)
        counter.add(source.read())
    assert counter.joules == pytest.approx(total_uj / 1e6)
    assert counter.seconds == pytest.approx(sum(step_ns for step_ns, _ in steps) / S)
