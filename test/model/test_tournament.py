"""The tournament: what is tried, which one wins, which convolution is told to be sensitive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper
import pytest
from quantise_networks import branching

from yolov7_trt_ros.model.quantize.calibration import calibrate, Calibration
from yolov7_trt_ros.model.quantize.sensitivity import rank_convs
from yolov7_trt_ros.model.quantize.tournament import choose_winner, Entry, run_tournament
from yolov7_trt_ros.onnx_tools.float_source import load_source
from yolov7_trt_ros.onnx_tools.graph import FloatModel

METHODS = ('kl', 'mse', 'percentile', 'minmax')
FRAGILE = 'block.conv'


def blobs(number: int) -> list[NDArray[np.float32]]:
    return [np.random.default_rng(seed).random((1, 3, 32, 32), np.float32)
            for seed in range(number)]


@pytest.fixture(scope='module')
def network(tmp_path_factory: pytest.TempPathFactory) -> FloatModel:
    """One convolution has a weight so large that the others of its channels round to nothing."""
    model = load_source(branching(tmp_path_factory.mktemp('net') / 'net.onnx'))
    stored = next(each for each in model.graph.initializer if each.name == f'{FRAGILE}.weight')
    weight = numpy_helper.to_array(stored).copy() * 20
    weight[:, 0, 0, 0] = 900
    stored.CopyFrom(numpy_helper.from_array(weight, stored.name))
    return FloatModel(model)


@pytest.fixture(scope='module')
def calibration(network: FloatModel) -> Calibration:
    return calibrate(network, blobs(2))


def quantised_convs(model: Any) -> set[str]:
    made = {name: node for node in model.graph.node for name in node.output}
    return {
        node.name for node in model.graph.node if node.op_type == 'Conv'
        and node.input[1] in made
    }


def test_the_fragile_convolution_ranks_first(
    network: FloatModel, calibration: Calibration
) -> None:
    steps: list[int] = []
    ranked = rank_convs(
        network, calibration, blobs(1), method='minmax', kept=network.heads, threads=1,
        advance=lambda: steps.append(1),
    )
    assert [name for name, _ in ranked][0] == FRAGILE
    errors = [error for _, error in ranked]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 2 * errors[1] > 0
    assert len(ranked) == len(steps) == len(network.convs) - 1


def test_all_methods_and_the_fall_back(network: FloatModel, calibration: Calibration) -> None:
    """A score that only forgives a float FRAGILE; minmax is the best of the methods."""
    scored: list[set[str]] = []
    by_turn = iter([0.5, 0.1, 0.2, 0.25, 0.3])
    lines: list[str] = []

    def score(model: Any) -> float:
        convs = quantised_convs(model)
        scored.append(convs)
        return next(by_turn, 0.5 if FRAGILE not in convs else 0.0)

    result = run_tournament(
        network, calibration, score, methods=METHODS, kept=network.heads,
        sensitivity_blobs=blobs(1), threads=1, report=lines.append,
    )
    assert result.reference == 0.5 and scored[0] == set()
    assert [entry.name for entry in result.entries] == [
        *METHODS, 'minmax, 1 float', 'minmax, 2 float', 'minmax, 4 float',
    ]
    assert all(convs == set(network.convs) - {'head'} for convs in scored[1:5])
    assert result.winner.name == 'minmax, 1 float'
    assert result.winner.extra == (FRAGILE,)
    assert quantised_convs(result.model) == set(network.convs) - {'head', FRAGILE}
    assert result.sensitivity[0][0] == FRAGILE
    assert lines[0].startswith('float: the model as it is') and lines[1].startswith('float: 0.5')
    assert 'minmax: 0.2500 (-0.2500)' not in lines and 'minmax: 0.3000 (-0.2000)' in lines
    assert 'minmax is the best, but not as good as float: each of the ' in ' '.join(lines)
    assert 'minmax, 2 float: the 2 most sensitive stay float' in lines


def test_no_fall_back_where_nothing_is_lost(
    network: FloatModel, calibration: Calibration
) -> None:
    result = run_tournament(
        network, calibration, lambda model: 0.5, methods=('mse',), kept=network.heads,
        sensitivity_blobs=blobs(1),
    )
    assert [entry.name for entry in result.entries] == ['mse']
    assert result.sensitivity == ()


def entry(method: str, extra: Sequence[str], score: float) -> Entry:
    return Entry(method, ('head', *extra), tuple(extra), score)


def test_nearly_equal_scores_go_to_the_fewest_float_convolutions() -> None:
    entries = [entry('kl', (), 0.40), entry('mse', (), 0.4994), entry('mse', 'a', 0.4995),
               entry('mse', 'abcd', 0.5)]
    assert choose_winner(entries, 0.51, 0.001) is entries[1]
    assert choose_winner(entries, 0.51, 0.0001) is entries[3]
    equal = [entry('kl', (), 0.4995), entry('mse', (), 0.4999)]
    assert choose_winner(equal, 0.51, 0.001) is equal[1]


def test_what_beats_the_float_model_by_luck_wins_nothing() -> None:
    entries = [entry('mse', (), 0.4995), entry('mse', 'ab', 0.52)]
    assert choose_winner(entries, 0.5, 0.001) is entries[0]
    assert choose_winner(entries, 0.52, 0.001) is entries[1]
