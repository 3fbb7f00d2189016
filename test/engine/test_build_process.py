"""A build in a process of its own: what it says, and every way in which it may end."""

from __future__ import annotations

import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import pytest

from yolov7_trt_ros.engine import build_process as build_process
from yolov7_trt_ros.engine.build_process import build_apart
from yolov7_trt_ros.engine.options import DetectorOptions
from yolov7_trt_ros.errors import BuildError, DeviceMemoryError, ModelNotFoundError

OPTIONS = DetectorOptions(backend='onnx')


def never() -> bool:
    return False


def child(script: str) -> list[str]:
    """Return the command of a process that speaks as the real one does."""
    return [sys.executable, '-c', f'import json, os, signal, sys, time\n{script}']


def run(script: str, cancelled=never):
    """Build with such a process; returns the plan and what was reported."""
    told: list[tuple[str, float | None]] = []
    plan = build_apart(
        OPTIONS, lambda *each: told.append(each), cancelled, command=child(script)
    )
    return plan, told


def test_progress_and_the_plan_come_back():
    plan, told = run(
        'options = json.load(sys.stdin)\n'
        'print(json.dumps(["progress", "tactics", 0.5]), flush=True)\n'
        'print(json.dumps(["progress", options["backend"], None]), flush=True)\n'
        'print(json.dumps(["built", "/tmp/m.plan"]), flush=True)'
    )
    assert plan == Path('/tmp/m.plan') and told == [('tactics', 0.5), ('onnx', None)]


def test_an_error_keeps_its_class_and_text():
    with pytest.raises(DeviceMemoryError, match='2 GiB more'):
        run('print(json.dumps(["failed", "DeviceMemoryError", "2 GiB more"]))')
    with pytest.raises(BuildError, match='what'):
        run('print(json.dumps(["failed", "annotations", "what"]))')


@pytest.mark.parametrize(('script', 'told'), [
    ('os.kill(os.getpid(), signal.SIGKILL)', 'killed .SIGKILL., as the kernel does'),
    ('os.kill(os.getpid(), signal.SIGABRT)', 'was ended by SIGABRT'),
    ('sys.exit(7)', 'status 7 and no result'),
    ('print(json.dumps(["progress", "open", None]), flush=True)\n'
     'os.kill(os.getpid(), signal.SIGKILL)', 'SIGKILL'),
])
def test_a_process_that_dies_is_a_build_error(script, told):
    with pytest.raises(BuildError, match=told):
        run(script)


@pytest.mark.parametrize('deaf', [False, True])
def test_cancelling_ends_it_also_where_it_does_not_listen(deaf, tmp_path, monkeypatch):
    monkeypatch.setattr('yolov7_trt_ros.engine.build_process._TERM_S', 0.2)
    mark = tmp_path / 'pid'
    script = (
        f'{"signal.signal(signal.SIGTERM, signal.SIG_IGN)" if deaf else ""}\n'
        f'open({str(mark)!r}, "w").write(str(os.getpid()))\n'
        'time.sleep(600)'
    )
    with pytest.raises(BuildError, match='cancelled'):
        run(script, lambda: mark.exists() and mark.read_text() != '')
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)


def test_a_build_that_never_ends_is_stopped_and_says_where_it_was(tmp_path, monkeypatch):
    script = (
        f'open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid()))\n'
        'print(json.dumps(["progress", "tactics", 0.43]), flush=True)\n'
        'time.sleep(600)'
    )
    told = []
    monkeypatch.setattr(build_process, '_is_over', lambda end_s: bool(told))
    with pytest.raises(BuildError, match="after 7200 s, its latest phase was 'tactics', and was"):
        build_apart(OPTIONS, lambda *each: told.append(each), never, command=child(script))
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / 'pid').read_text()), 0)
    monkeypatch.undo()
    with pytest.raises(BuildError, match="after 0 s, its latest phase was 'nothing'"):
        build_apart(OPTIONS, lambda *_: None, never, command=child(script), longest_s=0.0)


def test_the_real_process_answers_with_the_reason_of_the_builder(tmp_path):
    with pytest.raises(BuildError, match='the backend is ONNX Runtime'):
        build_apart(OPTIONS, lambda *_: None, never)
    with pytest.raises(ModelNotFoundError, match=r'none\.onnx'):
        build_apart(
            DetectorOptions(model=str(tmp_path / 'none.onnx')), lambda *_: None, never
        )


def test_it_ends_with_the_process_that_asked(tmp_path):
    mark = tmp_path / 'pid'
    script = (
        'from yolov7_trt_ros.engine.build_process import build_apart\n'
        'from yolov7_trt_ros.engine.options import DetectorOptions\n'
        'import sys\n'
        'inner = ("from yolov7_trt_ros.parent_process import end_with_starter\\n"\n'
        '         "import os, time\\nend_with_starter(os.environ, print)\\n"\n'
        f'         "open({str(mark)!r}, \'w\').write(str(os.getpid()))\\ntime.sleep(600)")\n'
        'build_apart(DetectorOptions(), print, lambda: False,\n'
        '            command=[sys.executable, "-c", inner])\n'
    )
    asker = subprocess.Popen([sys.executable, '-c', script])
    deadline = time.monotonic() + 600
    while not (mark.exists() and mark.read_text()):
        assert time.monotonic() < deadline and asker.poll() is None
        time.sleep(0.02)
    asker.send_signal(signal.SIGKILL)
    asker.wait()
    number = int(mark.read_text())
    while Path(f'/proc/{number}').exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
