from __future__ import annotations

import json
import os
from pathlib import Path
import signal
import time

import onnx
import pytest
import torch

from yolov7_trt_ros.cli.interruption import Interruption
from yolov7_trt_ros.cli.main import build_parser, main
from yolov7_trt_ros.cli.model_steps.prune_inputs import measure_latency_ms
from yolov7_trt_ros.cli.model_steps.prune_steps import Pruning
from yolov7_trt_ros.cli.verbs.prune import prune_job
from yolov7_trt_ros.engine.open import open_detector
from yolov7_trt_ros.engine.options import DetectorOptions
from yolov7_trt_ros.model.checkpoint.load import load_network, save_network
from yolov7_trt_ros.model.network.architecture import fold_batch_norms, Network
from yolov7_trt_ros.model.network.layer_table import LayerRow
from yolov7_trt_ros.model.network.network_cost import conv_costs, NetworkCost, total_cost
from yolov7_trt_ros.model.network.published import published_table
from yolov7_trt_ros.replay.picture_store import PictureStore

torch.set_num_threads(1)

SIZE = 64


def network_cost(network: Network, size_wh: tuple[int, int]) -> NetworkCost:
    return total_cost(conv_costs(network, size_wh))


def random_state(
    rows: tuple[LayerRow, ...], classes: int, width: float
) -> dict[str, torch.Tensor]:
    """Weights with batch norms for the table of yolov7-tiny, with fewer channels."""
    generator = torch.Generator().manual_seed(1)
    state, outputs = {}, []
    for index, row in enumerate(rows):
        inputs = [3 if source < 0 else outputs[source] for source in row.sources]
        channels = sum(inputs)
        if row.kind == 'conv':
            assert row.channels is not None
            channels = max(16, int(row.channels * width))
            fan = inputs[0] * row.kernel**2
            name = f'model.{index}.'
            state[f'{name}conv.weight'] = torch.randn(
                channels, inputs[0], row.kernel, row.kernel, generator=generator
            ) / fan**0.5
            state[f'{name}bn.weight'] = torch.ones(channels)
            state[f'{name}bn.bias'] = torch.randn(channels, generator=generator) * 0.1
            state[f'{name}bn.running_mean'] = torch.zeros(channels)
            state[f'{name}bn.running_var'] = torch.full((channels,), 0.5)
        elif row.kind == 'detect':
            for level, width_in in enumerate(inputs):
                values = 3 * (5 + classes)
                name = f'model.{index}.m.{level}.'
                state[f'{name}weight'] = torch.randn(
                    values, width_in, 1, 1, generator=generator
                ) / width_in**0.5
                state[f'{name}bias'] = torch.zeros(values)
        outputs.append(channels)
    return state


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = published_table('yolov7-tiny')
    state = random_state(table.rows, 80, 0.25)
    path = tmp_path_factory.mktemp('model') / 'tiny.pt'
    save_network(Network(table.rows, state, table.anchors), path)
    return path


def arguments(checkpoint: Path, photographs: Path, out: Path, *more: str) -> list[str]:
    return [
        'prune', str(checkpoint), '-o', str(out), '--images', str(photographs),
        '--size', str(SIZE), '--batch', '2', '--epochs', '3', '--device', 'cpu', *more,
    ]


def test_prune_writes_a_smaller_network_and_what_it_costs(
    checkpoint: Path, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / 'labels.json'
    labels.write_text(json.dumps({
        'images': [{'id': 1, 'file_name': 'chelsea.jpg', 'width': 451, 'height': 300},
                   {'id': 2, 'file_name': 'gone.jpg', 'width': 451, 'height': 300}],
        'annotations': [{'id': 1, 'image_id': 1, 'category_id': 17, 'bbox': [0, 20, 400, 280],
                         'area': 112000, 'iscrowd': 0}],
        'categories': [{'id': 17, 'name': 'cat'}],
    }))
    out = tmp_path / 'pruned.pt'
    status = main(arguments(
        checkpoint, photographs, out, '--flops', '0.7', '--onnx', str(tmp_path / 'p.onnx'),
        '--annotations', str(labels), '--allow-missing', '--labels', str(labels), '--json', '-',
    ))
    printed = capsys.readouterr()
    record = json.loads(printed.out)
    assert status == 0
    assert 'the labels have 1 of the 80 classes' in printed.err
    assert record['checkpoint']['table'] == {
        'value': 'yolov7-tiny', 'from': 'recorded', 'assumed': False}
    assert 'yolov7-tiny (recorded)' in printed.err
    before, after = (network_cost(load_network(p), (SIZE, SIZE)) for p in (checkpoint, out))
    assert 0.65 < after.macs / before.macs <= 0.7
    assert record['cost']['after'] == after.as_record()
    assert list(record['accuracy']) == ['original', 'cut', 'fitted', 'recovered']
    assert len(record['epochs']) == 3
    assert 'labels' in record['epochs'][0]['parts']
    model = onnx.load(str(tmp_path / 'p.onnx'))
    weights = sum(
        onnx.numpy_helper.to_array(t).size for t in model.graph.initializer if len(t.dims) == 4
    )
    assert weights < after.parameters < weights * 1.2
    detector = open_detector(DetectorOptions(model=str(tmp_path / 'p.onnx'), backend='onnx'))
    assert detector.spec.num_classes == 80
    detector.close()
    assert not list(tmp_path.glob('*.recovery'))


def test_labels_of_other_pictures_are_not_learnt(
    checkpoint: Path, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / 'labels.json'
    labels.write_text(json.dumps({
        'images': [{'id': 1, 'file_name': 'chelsea.jpg', 'width': 45, 'height': 30},
                   {'id': 2, 'file_name': 'coffee.jpg'}],
        'annotations': [{'image_id': '1', 'category_id': 17, 'bbox': [0, 2, 40, 28]}],
        'categories': [{'id': 17, 'name': 'cat'}],
    }))
    given = arguments(checkpoint, photographs, tmp_path / 'o.pt', '--flops', '0.8')
    assert main([*given, '--labels', str(labels)]) == 1
    printed = capsys.readouterr().err
    assert '1 pictures cannot be read, or have another size than labels.json states' in printed
    assert 'the labels hold no box of the pictures' in printed


def test_classes_are_named_as_the_labels_do(
    checkpoint: Path, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, names = tmp_path / 'labels.json', tmp_path / 'names.txt'
    labels.write_text(json.dumps({
        'images': [{'id': 1, 'file_name': 'chelsea.jpg', 'width': 451, 'height': 300}],
        'annotations': [{'id': 1, 'image_id': 1, 'category_id': 1, 'bbox': [0, 20, 400, 280]}],
        'categories': [{'id': 1, 'name': 'thing-79'}],
    }))
    names.write_text('\n'.join(f'thing {number}' for number in range(80)))
    given = arguments(checkpoint, photographs, tmp_path / 'o.pt', '--flops', '0.8', '--epochs',
                      '0', '--annotations', str(labels))
    assert main(given) == 1
    assert 'is a labelled category (thing-79)' in capsys.readouterr().err
    assert main([*given, '--class-names', str(names), '--json', '-']) == 0
    assert list(json.loads(capsys.readouterr().out)['accuracy']) == ['original', 'cut', 'fitted']
    assert load_network(tmp_path / 'o.pt').class_names[79] == 'thing 79'


def test_an_interrupted_run_goes_on_where_it_was(
    checkpoint: Path, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, stopped = tmp_path / 'whole.pt', tmp_path / 'stopped.pt'
    assert main(arguments(checkpoint, photographs, whole, '--size-mb', '1.0')) == 0
    given = arguments(checkpoint, photographs, stopped, '--size-mb', '1.0')
    calls = []

    def stop() -> bool:
        calls.append(1)
        return len(calls) > 2

    lines: list[str] = []
    job = prune_job(build_parser().parse_args(given))
    assert not Pruning(job, PictureStore(photographs), say=lines.append).run(stop)
    assert '--resume' in lines[-1]
    assert job.checkpoint_path.is_file()
    other = arguments(checkpoint, photographs, stopped, '--size-mb', '1.2', '--resume')
    assert main(other) == 1
    assert 'another size_mb' in capsys.readouterr().err
    assert main([*given, '--resume']) == 0
    assert not job.checkpoint_path.exists()
    states = [load_network(path).state_dict() for path in (whole, stopped)]
    for (name, one), other in zip(states[0].items(), states[1].values(), strict=True):
        assert torch.equal(one, other), name


def test_ctrl_c_is_noted_once_and_given_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interruption() as interruption:
        assert not interruption.requested
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.requested
        assert signal.getsignal(signal.SIGINT) is before, 'a second one must end the process'
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_before_the_recovery_ends_at_once(
    checkpoint: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Pruning, *_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
        pytest.fail('went on')

    monkeypatch.setattr(Pruning, '_cut', interrupted)
    before = signal.getsignal(signal.SIGINT)
    assert main(arguments(checkpoint, photographs, tmp_path / 'o.pt', '--flops', '0.8')) == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_in_the_recovery_keeps_it(
    checkpoint: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report_epoch = Pruning._report_epoch
    monkeypatch.setattr(Pruning, '_report_epoch', lambda self, epoch: (
        report_epoch(self, epoch), os.kill(os.getpid(), signal.SIGINT)
    ))
    before = signal.getsignal(signal.SIGINT)
    assert main(arguments(checkpoint, photographs, tmp_path / 'o.pt', '--flops', '0.8')) == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert sorted(path.name for path in tmp_path.iterdir()) == ['o.pt', 'o.recovery']


def test_no_epochs_ends_after_the_fit(
    checkpoint: Path, photographs: Path, tmp_path: Path
) -> None:
    out = tmp_path / 'fitted.pt'
    given = arguments(checkpoint, photographs, out, '--flops', '0.8', '--epochs', '0')
    assert main(given) == 0
    cost = network_cost(load_network(out), (SIZE, SIZE))
    assert cost.macs <= 0.8 * network_cost(load_network(checkpoint), (SIZE, SIZE)).macs


def test_latency_is_that_of_the_exported_network(checkpoint: Path) -> None:
    network = fold_batch_norms(load_network(checkpoint))
    assert 0 < measure_latency_ms(network, SIZE) < 1000


@pytest.mark.parametrize(('more', 'status', 'said'), [
    (['--flops', '0.7', '--size', '100'], 2, 'multiple of 32'),
    (['--flops', '1.5'], 2, 'above 0 and below 1'),
    (['--flops', '0.7', '--round-to', '0'], 2, '--round-to'),
    (['--flops', '0.7', '--resume'], 1, 'without --resume'),
    (['--flops', '0.7', '--epochs', '-1'], 2, '--epochs'),
    (['--flops', '0.7', '--batch', '0'], 2, 'batch'),
    (['--flops', '0.7', '--seed', '-1'], 2, '--seed'),
    (['--flops', '0.7', '--seed', str(2**64)], 2, '--seed'),
    (['--flops', '0.7', '--epochs', '0', '--resume'], 2, '--epochs 0 has none'),
    (['--flops', '0.7', '-o', 'o.recovery'], 2, '--output and --checkpoint are both'),
    (['--flops', '0.7', '--onnx', 'o.onnx', '--checkpoint', './o.onnx'], 2, '--onnx and'),
    (['--flops', '0.7', '--eval-images', '.'], 2, '--annotations'),
    (['--flops', '0.7', '--class-names', 'gone.txt'], 2, 'class_names must be'),
    (['--flops', '0.7', '--images', 'gone'], 1, 'no such file'),
])
def test_wrong_arguments_are_said(
    checkpoint: Path, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    more: list[str], status: int, said: str,
) -> None:
    assert main(arguments(checkpoint, photographs, tmp_path / 'o.pt', *more)) == status
    assert said in capsys.readouterr().err
    assert not (tmp_path / 'o.pt').exists()


def test_the_model_is_not_written_over(
    checkpoint: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = checkpoint.read_bytes()
    assert main(arguments(checkpoint, photographs, checkpoint, '--flops', '0.8')) == 2
    assert 'MODEL and --output are both' in capsys.readouterr().err
    assert checkpoint.read_bytes() == before
