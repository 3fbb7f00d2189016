"""PyTorch as a peer of benchmarks/peers.py: another process that runs a checkpoint."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
import shutil
import sys

import numpy as np
from official_checkpoints import official_model, save_official
import pytest
import torch

from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.model.checkpoint.load import load_network, save_network
from yolov7_trt_ros.model.torch_detector import TorchDetector
from yolov7_trt_ros.report.compare.agreement import measure_agreement

BENCHMARKS = Path(__file__).resolve().parents[2] / 'benchmarks'
sys.path.insert(0, str(BENCHMARKS))

import peers  # noqa: E402, I100  (its folder has just been added)
from peers_parts.other_interpreter import environment_of, PeerElsewhere  # noqa: E402
from peers_parts.timed import NotRunError  # noqa: E402

ROWS = 60


@pytest.fixture(scope='module')
def frames() -> list[np.ndarray]:
    """Return frames of noise in blocks, letterboxed above and below."""
    rng = np.random.default_rng(7)
    return [
        rng.integers(0, 256, (9, 16, 3), np.uint8).repeat(40, 0).repeat(40, 1) for _ in range(2)
    ]


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory, frames: list[np.ndarray]) -> Path:
    """Save a small network of random weights, about ROWS of whose rows pass the threshold."""
    folder = tmp_path_factory.mktemp('peers')
    network = load_network(
        save_official(official_model('yolov7-tiny', width=0.25), folder / 'random.pt', half=False)
    )
    detector = TorchDetector(network, rectangular=False)
    depth = 5 + network.num_classes
    for layer in network.head.layers:
        layer.bias.data.view(-1, depth)[:, 5] += 20  # of the first class the score is 1
    image = ImageView.from_array(frames[0])
    blob = detector._prepare([image], detector._letterboxes([image.size_wh]))
    logits = np.sort(np.concatenate([
        raw.reshape(-1, depth, *raw.shape[2:])[:, 4].ravel() for raw in detector.run(blob)
    ]))
    wanted = math.log(DetectSettings().score_threshold / (1 - DetectSettings().score_threshold))
    for layer in network.head.layers:
        layer.bias.data.view(-1, depth)[:, 4] += wanted - float(logits[-ROWS])
    save_network(network, folder / 'tuned.pt')
    return folder / 'tuned.pt'


def arguments(checkpoint: Path, python: str = '') -> argparse.Namespace:
    return argparse.Namespace(
        checkpoint=str(checkpoint), torch_python=python, torch_device='cpu'
    )


@pytest.mark.parametrize('way', ['plain', 'compiled'])
def test_a_child_finds_what_the_detector_finds_and_times_it(
    way: str, checkpoint: Path, frames: list[np.ndarray]
) -> None:
    torch.set_num_threads(1)
    detector = TorchDetector(load_network(checkpoint), rectangular=False)
    here = [
        detector.detect(ImageView.from_array(frame), DetectSettings())[0] for frame in frames
    ]
    assert len(here[0]) >= 5
    peer = peers.open_torch(arguments(checkpoint), way)
    try:
        assert str(peer.facts['backend']).startswith(f'PyTorch {torch.__version__} (CPU')
        found = peer.show(frames)
        assert measure_agreement(here, found).f1 == 1
        np.testing.assert_allclose(found[0].scores, here[0].scores, atol=1e-4)
        taken_ns = peer.time([0, 1, 0])
        assert len(taken_ns) == 3 and min(taken_ns) > 0
        assert [len(each) for each in peer.show(frames[:1])] == [len(here[0])]
        folder = peer._folder  # type: ignore[attr-defined]
        assert not list(folder.glob('*.npy'))
    finally:
        peer.close()
    peer.close()
    assert not folder.exists()
    assert peer._process.returncode == 0  # type: ignore[attr-defined]


def test_a_child_that_cannot_open_says_why(tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(NotRunError, match='ended with status 1: .*none.pt'):
        peers.open_torch(arguments(tmp_path / 'none.pt'))
    if not torch.cuda.is_available():
        args = arguments(checkpoint)
        args.torch_device = 'cuda'
        with pytest.raises(NotRunError, match='ended with status 1: .*finds 0 GPUs'):
            peers.open_torch(args)


def test_an_interpreter_without_packages_is_a_reason(tmp_path: Path, checkpoint: Path) -> None:
    """A Python with an empty environment, not this one: nothing of this one leads to packages."""
    bare = tmp_path / 'bin' / 'python'
    bare.parent.mkdir()
    bare.symlink_to(Path(shutil.which('python3', path=sys.base_prefix + '/bin') or sys.executable))
    (tmp_path / 'pyvenv.cfg').write_text(f'home = {sys.base_prefix}/bin\n')
    with pytest.raises(NotRunError, match='ended with status 1: ModuleNotFoundError'):
        peers.open_torch(arguments(checkpoint, str(bare)))
    with pytest.raises(NotRunError, match='cannot be started'):
        peers.open_torch(arguments(checkpoint, str(tmp_path / 'none')))


def test_a_child_that_is_killed_becomes_a_row_with_its_reason(
    checkpoint: Path, frames: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, 'WARM_UP', 1)
    monkeypatch.setattr(peers, 'BLOCK', 1)
    first = peers.open_torch(arguments(checkpoint))
    second = PeerElsewhere([
        sys.executable, '-m', 'peers_parts.torch_child', '--checkpoint', str(checkpoint),
        '--device', 'cpu',
    ], environment_of(sys.executable))
    time_here = second.time

    def killed_on_the_way(order: list[int]) -> list[int]:
        second._process.kill()
        return time_here(order)

    second.time = killed_on_the_way  # type: ignore[method-assign]
    try:
        rows = peers.measure_size({'ours': first, 'killed': second}, frames, 1, least_boxes=1)
        assert rows['killed'] == {
            'not_run': f'failed: {Path(sys.executable).name} ended with status -9: without a word'
        }
        assert rows['ours']['agreement_f1'] == 1 and rows['ours']['backend']
        again = peers.measure_size({'killed': second}, frames, 1, least_boxes=1)
        assert 'ended with status -9' in again['killed']['not_run']
    finally:
        first.close()
        second.close()
