"""Fixtures of the node tests: an isolated ROS domain, a probe, and detector processes."""

from __future__ import annotations

from collections.abc import Iterator
import importlib.util
import os
from pathlib import Path
from typing import Any

from power_probe import PowerProbe
import pytest
from ros_probe import DetectorProcess, photograph_bgr, Probe

from yolov7_trt_ros.emulated_board.board import create_board, EmulatedBoard

_SHOWN_LOG = 20_000
"""Characters: the stacks of all threads of a node that was ended, and what it said before."""


@pytest.fixture(scope='session', autouse=True)
def ros_domain(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the tests on a domain of their own, on this machine, logs in a temp folder."""
    worker = os.environ.get('PYTEST_XDIST_WORKER', 'gw0')  # gw1 is a child of the one session
    base = os.getppid() if 'PYTEST_XDIST_WORKER' in os.environ else os.getpid()
    os.environ['ROS_DOMAIN_ID'] = str(20 + (base + int(worker[2:])) % 80)
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    os.environ['ROS_LOG_DIR'] = str(tmp_path_factory.mktemp('ros_log'))
    from yolov7_trt_ros.nodes.process.process_setup import large_image_environment

    os.environ.update(large_image_environment(os.environ))


@pytest.fixture(scope='session')
def probe(ros_domain: None) -> Iterator[Probe]:
    """Return a node in this process that publishes, listens and calls services."""
    with Probe() as probe:
        yield probe


@pytest.fixture(scope='module')
def detector(
    request: pytest.FixtureRequest, probe: Probe, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DetectorProcess]:
    """Return an active detector on /camera/image_raw; a parameter says how it receives."""
    log = tmp_path_factory.mktemp('detector') / 'log.txt'
    topics = {'image_topics': '/camera/image_raw', 'receive': getattr(request, 'param', 'auto')}
    with DetectorProcess(log, autostart=True, **topics) as process:
        probe.wait_for_state('active')
        yield process


@pytest.fixture(params=['direct', 'rclpy'])
def receive(request: pytest.FixtureRequest) -> str:
    """Return how a detector is to receive its images: each way once."""
    return str(request.param)


@pytest.fixture
def board(tmp_path: Path) -> Iterator[EmulatedBoard]:
    """Return an emulated Jetson with something to do."""
    with create_board('orin_nano_super', tmp_path / 'board') as board:
        board.set_load(gpu=0.7, cpu=0.3)
        board.step(30)
        yield board


@pytest.fixture
def power(probe: Probe) -> Iterator[PowerProbe]:
    """Return a probe that calls the power node."""
    probe.forget_diagnostics()
    power = PowerProbe(probe)
    yield power
    power.close()


@pytest.fixture(scope='session')
def photograph():
    """Return a BGR picture (480, 640, 3) with a person in it."""
    return photograph_bgr()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return where a detector process of the test writes its log."""
    return tmp_path / 'log.txt'


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show with a failure the last lines of what the test's process has logged."""
    report = yield
    path = getattr(item, 'funcargs', {}).get('log')
    if report.failed and isinstance(path, Path) and path.is_file():
        text = path.read_text(errors='replace')
        report.sections.append(('Log of the process', text[-_SHOWN_LOG:]))
    return report


@pytest.fixture(scope='session')
def tool() -> Any:
    """Return tools/parameter_table.py as a module."""
    path = Path(__file__).resolve().parents[2] / 'tools' / 'parameter_table.py'
    spec = importlib.util.spec_from_file_location('parameter_table', path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
