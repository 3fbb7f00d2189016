from __future__ import annotations

from collections.abc import Callable
import json
import os
from pathlib import Path
import re
import signal
import subprocess
import sys
import time
from typing import Any
import xml.etree.ElementTree as ElementTree

import pytest

from yolov7_trt_ros.cli.bench import machine_facts
from yolov7_trt_ros.cli.bench import power as bench_power
from yolov7_trt_ros.cli.bench import process as bench_process
from yolov7_trt_ros.cli.bench import setup as bench_setup
from yolov7_trt_ros.cli.bench.run import publishable
from yolov7_trt_ros.cli.main import main
from yolov7_trt_ros.emulated_board.machine import emulate_host
from yolov7_trt_ros.errors import PowerError, SettingError
from yolov7_trt_ros.parent_process import ENDS_WITH, ends_with_this_process
from yolov7_trt_ros.power.rails import RailPower
from yolov7_trt_ros.power.telemetry.sample import BoardSample
from yolov7_trt_ros.power.telemetry.source import find_source
from yolov7_trt_ros.report.bench.row import BenchRow, Data, Where

REPOSITORY = Path(__file__).resolve().parents[2]
QUICK = ['--seconds', '0.1', '--size', '320', '--threads', '1', '--power', 'none']


@pytest.fixture
def annotated(photographs: Path, tmp_path: Path) -> Path:
    """Labels of two of the photographs."""
    path = tmp_path / 'labels.json'
    path.write_text(json.dumps({
        'images': [{'id': 1, 'file_name': 'chelsea.jpg'}, {'id': 2, 'file_name': 'coffee.jpg'}],
        'annotations': [{'id': 1, 'image_id': 1, 'category_id': 17, 'bbox': [0, 20, 400, 280],
                         'area': 112000, 'iscrowd': 0}],
        'categories': [{'id': 17, 'name': 'cat'}],
    }))
    return path


def rows_of(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((folder / 'bench.json').read_text())['rows']
    return rows


def test_a_table_of_what_runs_and_what_does_not(
    photographs: Path, annotated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'deep' / 'report'
    status = main([
        'bench', '--model', 'yolov7-nano', '--row', f'gone={tmp_path}/gone.plan', '--images',
        str(photographs), '--annotations', str(annotated), '-o', str(out), '--batch', '1,2',
        '--title', 'Small', '--note', 'Seen.', *QUICK,
    ])
    printed = capsys.readouterr()
    assert status == 0
    nano, gone = rows_of(out)
    assert nano['name'] == 'ONNX Runtime FP32 yolov7-nano'
    assert nano['network_wh'] == [320, 320]
    assert nano['size_bytes'] > 3_000_000
    assert nano['accuracy']['images'] == 2
    assert nano['accuracy']['ap50'] > 0.9
    one, two = nano['batches']
    assert 0 < one['network']['latency_ms']['p50'] < one['end_to_end']['latency_ms']['p50']
    assert one['network']['runs'] >= 10
    assert one['energy'] is None
    assert 'no power source' in one['why_no_energy']
    assert two['network']['fps'] > 0
    assert two['end_to_end'] is None
    assert 'one image at a time' in two['why_no_end_to_end']
    assert nano['where']['facts']['processor']
    assert {'onnxruntime', 'numpy', 'python'} <= set(nano['where']['versions'])
    assert 'gone.plan' in gone['why_not']
    assert 'gone.plan' in printed.err
    text = ''.join((out / f'bench.{kind}').read_text() for kind in ('json', 'md', 'html'))
    assert str(tmp_path) not in text
    assert str(photographs) not in text
    assert '| ONNX Runtime FP32 yolov7-nano | fp32 | 3.3 |' in printed.out
    rough = 'the average precision of 2 labelled images is rough'
    assert printed.err.count(rough) == 1
    assert all(rough in (out / f'bench.{kind}').read_text() for kind in ('md', 'html'))
    assert printed.err.count('2 of 2 images have no width and height') == 1
    page = ElementTree.fromstring((out / 'bench.html').read_text().partition('\n')[2])
    assert page.findtext('.//h1') == 'Small'
    assert page.findtext('.//blockquote') == 'Seen.'


def test_images_that_are_missing(
    photographs: Path, annotated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = json.loads(annotated.read_text())
    labels['images'].append({'id': 3, 'file_name': 'gone.jpg'})
    annotated.write_text(json.dumps(labels))
    command = ['bench', '-m', 'yolov7-nano', '--images', str(photographs), '--annotations',
               str(annotated), '-o', str(tmp_path / 'out'), '--batch', '1', *QUICK]
    assert main(command) == 1
    assert re.search('1 of 3 images .*gone.jpg; --allow-missing', capsys.readouterr().err)
    assert main([*command, '--allow-missing']) == 0
    assert rows_of(tmp_path / 'out')[0]['accuracy']['images'] == 2


def test_each_row_has_a_process_and_a_crash_takes_no_other_with_it(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = bench_process.child_command

    def crashing(args: Any, spec: bench_setup.RowSpec, folder: Path) -> list[str]:
        if spec.name == 'crash':
            return [sys.executable, '-c', 'import os; os.kill(os.getpid(), 11)']
        return command(args, spec, folder)

    monkeypatch.setattr(bench_process, 'child_command', crashing)
    status = main(['bench', '--row', 'crash=yolov7-nano', '--row', 'good=yolov7-nano', '--images',
                   str(photographs), '-o', str(tmp_path / 'out'), '--batch', '1', *QUICK])
    assert status == 0
    crashed, good = rows_of(tmp_path / 'out')
    assert 'signal 11' in crashed['why_not']
    assert good['why_not'] == ''
    assert 'crash: its process ended' in capsys.readouterr().err
    assert good['where'] == crashed['where']


def test_a_process_of_a_row_ends_with_the_command(tmp_path: Path) -> None:
    code = 'import os, sys; open(sys.argv[1], "w").write(os.environ[sys.argv[2]])'
    command = [sys.executable, '-c', code, str(tmp_path / 'said'), ENDS_WITH]
    assert bench_process._run(command) == 0
    assert (tmp_path / 'said').read_text() == ends_with_this_process()[ENDS_WITH]


def test_merging_results(
    photographs: Path, annotated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nano = ['yolov7-nano', '--images', str(photographs), '--batch', '1', '--in-process', *QUICK]
    main(['bench', '--annotations', str(annotated), '-o', str(tmp_path / 'a'), '-m', *nano])
    main(['bench', '--annotations', str(annotated), '--limit', '1', '-o', str(tmp_path / 'b'),
          '-m', *nano])
    main(['bench', '-o', str(tmp_path / 'c'), '--row', f'again={nano[0]}', *nano[1:]])
    capsys.readouterr()
    results = [str(tmp_path / name / 'bench.json') for name in 'abc']
    assert main(['bench', '--merge', *results[:2], '-o', str(tmp_path / 'no')]) == 1
    assert re.search('different labelled images.*2 labelled.*1 labelled', capsys.readouterr().err)
    assert not (tmp_path / 'no').exists()
    assert main(['bench', '--merge', results[0], results[2], '-o', str(tmp_path / 'all')]) == 0
    names = [row['name'] for row in rows_of(tmp_path / 'all')]
    assert names == ['ONNX Runtime FP32 yolov7-nano', 'again']
    assert (tmp_path / 'all' / 'bench.html').is_file()


def test_nothing_that_runs_is_a_failure(photographs: Path, tmp_path: Path) -> None:
    assert main(['bench', '-m', 'a.plan', '-m', 'b.pt', '--images', str(photographs), '-o',
                 str(tmp_path / 'out'), *QUICK]) == 1
    assert all(row['why_not'] for row in rows_of(tmp_path / 'out'))
    assert 'a.plan' in (tmp_path / 'out' / 'bench.html').read_text()


@pytest.mark.parametrize(('arguments', 'said'), [
    (['--images', '.'], '--model'),
    (['-m', 'a.onnx'], '--images'),
    (['--row', 'a.onnx', '--images', '.'], 'NAME=FILE'),
    (['-m', 'a.pt:int8', '--images', '.'], 'a.pt can be followed by'),
    (['-m', 'a.onnx', '--images', '.', '--batch', '0'], 'batch sizes'),
    (['-m', 'a.onnx', '--images', '.', '--batch', '1,x'], 'batch sizes'),
    (['-m', 'a.onnx', '--images', '.', '--seconds', '0'], '--seconds'),
    (['-m', 'a.onnx', '--images', '.', '--limit', '0'], '--limit'),
    (['--merge', 'a.json', '-m', 'a.onnx'], '--merge'),
])
def test_wrong_usage(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['bench', *arguments, '-o', str(tmp_path / 'out')]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_an_output_that_is_a_file_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'file'
    path.write_text('mine')
    for arguments in (['-m', 'a.onnx', '--images', 'gone'], ['--merge', 'gone.json']):
        assert main(['bench', *arguments, '-o', str(path)]) == 2
        assert '-o must be a folder' in capsys.readouterr().err
    assert path.read_text() == 'mine'


def test_folders_without_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / 'bad.jpg').write_text('no picture')
    for folder in (tmp_path, tmp_path / 'gone'):
        assert main(['bench', '-m', 'yolov7-nano', '--images', str(folder), '-o',
                     str(tmp_path / 'out'), *QUICK]) == 1
    assert 'no pictures that can be read' in capsys.readouterr().err


def test_ctrl_c_keeps_the_rows_that_are_done(photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    process = subprocess.Popen(
        [sys.executable, '-m', 'yolov7_trt_ros', 'bench', '--row', 'first=yolov7-nano', '--row',
         'second=yolov7-nano', '--images', str(photographs), '-o', str(out), '--batch', '1',
         '--seconds', '1', '--size', '320', '--power', 'none'],
        env=os.environ | {'PYTHONPATH': str(REPOSITORY)}, stderr=subprocess.PIPE, text=True,
        stdout=subprocess.DEVNULL,
    )
    end_s = time.monotonic() + 600
    while not (out / 'bench.html').exists():
        assert process.poll() is None and time.monotonic() < end_s
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=600)
    assert process.returncode == 130, printed
    assert 'interrupted after 1 of 2 rows' in printed
    assert 'Traceback' not in printed
    assert [row['name'] for row in rows_of(out)] == ['first']


def test_pytorch_rows(
    photographs: Path, shared_data: Path, tmp_path: Path
) -> None:
    pytest.importorskip('torch')
    checkpoint = shared_data.parent / 'model' / 'yolov7-nano.pt'
    assert main(['bench', '-m', f'{checkpoint}:cpu', '-m', 'yolov7-nano', '--images',
                 str(photographs), '-o', str(tmp_path / 'out'), '--batch', '1,2', *QUICK]) == 0
    torch_row, onnx_row = rows_of(tmp_path / 'out')
    assert torch_row['why_not'] == ''
    assert torch_row['name'] == 'PyTorch FP32 yolov7-nano'
    assert 'PyTorch' in torch_row['engine']
    assert torch_row['batches'][1]['end_to_end']['fps'] > 0
    assert torch_row['gpu_memory_mb'] is None
    assert torch_row['facts']['activation'].startswith('leaky_relu (assumed: ')
    assert onnx_row['why_not'] == ''


# ---- parts


@pytest.mark.parametrize(('text', 'kind', 'word'), [
    ('a.pt', 'torch', ''), ('a.PT:fp16', 'torch', 'fp16'), ('a.onnx', 'onnx', ''),
    ('a.onnx:INT8', 'built', 'int8'), ('dir:x/a.plan', 'plan', ''), ('a.engine', 'plan', ''),
    ('yolov7-nano:mixed', 'built', 'mixed'),
])
def test_rows_as_they_are_written(text: str, kind: str, word: str) -> None:
    row = bench_setup.parse_row(text, named=False)
    assert (row.kind, row.precision_or_device) == (kind, word)
    assert bench_setup.parse_row(f'A=b={text}', named=True).model.startswith('b=')


def test_batch_sizes_are_sorted_and_once() -> None:
    assert bench_setup.parse_batches('8,1,8') == (1, 8)
    with pytest.raises(SettingError):
        bench_setup.parse_batches('65')


def test_rows_name_files_without_their_folders() -> None:
    told = ("the plan /home/someone/x/a.plan does not fit; build: yolov7_trt build '~/m/a.onnx' "
            '-o ../out/a.plan; looked below /sys/class/powercap/x and 1/2')
    row = publishable(BenchRow('n', 'm', Where('w'), Data(1, ''), error=told))
    assert row.error == (
        "the plan a.plan does not fit; build: yolov7_trt build 'a.onnx' -o a.plan; looked below "
        '/sys/class/powercap/x and 1/2'
    )


def test_power_of_an_emulated_board() -> None:
    host = emulate_host('orin_nano_super')
    try:
        source = find_source(host.root, host.runner, environment=host.environment)
        try:
            meter = bench_power.SourceMeter(source, interval_s=0.05)
            energy = meter.measure(lambda: (time.sleep(0.5), 10)[1])
            where = machine_facts.read_where(source, idle_watts=3.0, root=host.root)
        finally:
            source.close()
    finally:
        host.close()
    assert 3.0 < energy.watts < 40.0
    assert energy.joules_per_frame > 0.99 * energy.watts * 0.5 / 10
    assert energy.clocks_mhz['gpu'] > 100.0
    assert 'VDD_IN' in energy.rails
    assert energy.hottest_c is not None
    assert where.machine.startswith('NVIDIA Jetson Orin Nano')
    assert where.facts['power mode'].startswith('nvpmodel ')
    assert where.facts['L4T']
    assert where.clocks_mhz['gpu'] > 100.0


class CountingSource:
    """A GPU that counts energy: 50 W; or tells nothing."""

    name = 'fake'

    def __init__(self, *, counts: bool = True) -> None:
        self._counts = counts
        self.read_s: list[float] = []

    def read(self) -> BoardSample:
        now_ns = time.monotonic_ns()
        self.read_s.append(now_ns / 1e9)
        if not self._counts:
            return BoardSample(now_ns, problems=('the driver is silent',))
        return BoardSample(now_ns, {'gpu': RailPower(50_000.0)}, 50_000.0,
                           total_energy_j=50.0 * now_ns / 1e9)

    def close(self) -> None:
        pass


def test_energy_counters_are_shared_out_among_the_frames() -> None:
    source = CountingSource()
    energy = bench_power.SourceMeter(source).measure(lambda: (time.sleep(0.3), 3)[1])
    assert energy.watts == pytest.approx(50.0, rel=0.01)
    took_s = source.read_s[-1] - source.read_s[0]
    assert took_s >= 0.3 and energy.joules_per_frame == pytest.approx(50.0 * took_s / 3, rel=0.01)


def test_without_power_the_reason_is_told() -> None:
    work: Callable[[], int] = lambda: 1  # noqa: E731
    with pytest.raises(PowerError, match='not asked for'):
        bench_power.SourceMeter(None, error='not asked for').measure(work)
    with pytest.raises(PowerError, match='no power source.*the driver is silent'):
        bench_power.SourceMeter(CountingSource(counts=False)).measure(work)


def test_broken_work_ends_the_sampling() -> None:
    def broken() -> int:
        raise PowerError('broken')

    with pytest.raises(PowerError, match='broken'):
        bench_power.SourceMeter(CountingSource()).measure(broken)
    import threading

    assert not [thread for thread in threading.enumerate() if thread.name == 'bench power']
