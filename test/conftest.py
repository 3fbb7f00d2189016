"""Shared fixtures, and the folders that are left out where what they need is absent."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import faulthandler
import importlib
import importlib.util
import os
from pathlib import Path
import signal
from typing import Any

from _pytest.faulthandler import fault_handler_stderr_fd_key
from hypothesis import HealthCheck, settings
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_DATA = REPOSITORY.parent / 'shared' / 'data'

# Started in the background of a script, everything below ignores Ctrl-C, which some tests press.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# So does a hangup under nohup: it is still no end of the tests, but one of what they start.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda number, frame: None)

# No property is about time: Hypothesis would fail what takes over 0.2 s once, as anything may on
# a loaded machine or an emulated one. The cases are the same in each run, so that a change is
# judged by what it changes; EXPLORE=1 tries others.
settings.register_profile(
    'any machine', deadline=None, suppress_health_check=[HealthCheck.too_slow],
    derandomize=not os.environ.get('EXPLORE'),
)
settings.load_profile('any machine')

_SHOWN_SHORT = 1500
"""Characters of what a failed test's process said last, shown once more at the end."""

# What each folder needs. REQUIRE_TESTS=nodes makes an absence fail instead of leaving it out.
_NEEDS = {'nodes': ('rclpy', 'vision_msgs'), 'gpu': ('pycuda', 'tensorrt')}
_REQUIRED = {name for name in os.environ.get('REQUIRE_TESTS', '').split(',') if name}

collect_ignore = []
for _folder, _modules in _NEEDS.items():
    _absent = [name for name in _modules if importlib.util.find_spec(name) is None]
    if _absent and _folder in _REQUIRED:
        raise pytest.UsageError(f'REQUIRE_TESTS={_folder}, but not installed: {_absent}')
    if _absent:
        collect_ignore.append(_folder)

# Files that need PyTorch have it in their names.
collect_ignore_glob = []
if importlib.util.find_spec('torch') is None:
    if 'torch' in _REQUIRED:
        raise pytest.UsageError('REQUIRE_TESTS=torch, but torch is not installed')
    collect_ignore_glob.append('*/test_torch_*.py')


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """End a process that hangs in C, which no signal of pytest-timeout ends; show its stacks."""
    hung_s = float(item.config.getini('timeout')) + 120.0
    faulthandler.dump_traceback_later(
        hung_s, exit=True, file=item.config.stash[fault_handler_stderr_fd_key]
    )
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


def pytest_report_header() -> list[str]:
    """Say what is left out."""
    lines = [f'test data: {SHARED_DATA if SHARED_DATA.is_dir() else "only what the tests make"}']
    if collect_ignore_glob:
        lines.append(f'left out (torch is not installed): {", ".join(collect_ignore_glob)}')
    if collect_ignore:
        lines.append(f'left out (their packages are not installed): {", ".join(collect_ignore)}')
    return lines


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say once more in short, at the end, where each failed test was: a log may keep only that."""
    for report in terminalreporter.getreports('failed') + terminalreporter.getreports('error'):
        entries = getattr(getattr(report.longrepr, 'reprtraceback', None), 'reprentries', ())
        found = [getattr(each, 'reprfileloc', None) for each in entries]
        places = [f'{Path(each.path).name}:{each.lineno}' for each in found if each]
        terminalreporter.section(f'in short: {report.nodeid}', '-')
        terminalreporter.line(' > '.join(places))
        for name, text in report.sections:
            said = text.partition('\nExtension modules: ')[0]  # after the stacks, and long
            terminalreporter.line(f'{name}: ...{said[-_SHOWN_SHORT:]}')


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """Folder of real images, models, videos and bags; skips the test where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip('real test data is not on this machine')
    return SHARED_DATA


@pytest.fixture(scope='session')
def rtx() -> Any:
    """Return the real builder, which needs no GPU; skips the test where it is not installed."""
    from yolov7_trt_ros.engine.trt.api import TrtApi

    for name in ('tensorrt_rtx', 'tensorrt_rtx_bindings'):
        with contextlib.suppress(ImportError):
            return TrtApi(importlib.import_module(name))
    pytest.skip('TensorRT-RTX is not installed')
