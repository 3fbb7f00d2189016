"""Histograms, the ranges found in them, and what calibration refuses."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
from numpy.typing import NDArray
import pytest
from quantise_networks import branching, NetworkWriter

from yolov7_trt_ros.errors import CalibrationError
from yolov7_trt_ros.model.quantize.calibration import calibrate
from yolov7_trt_ros.model.quantize.calibration_histogram import (
    BINS,
    find_range,
    Histogram,
    METHODS,
    percentile_range,
)
from yolov7_trt_ros.model.quantize.placement import place
from yolov7_trt_ros.onnx_tools.float_source import load_source
from yolov7_trt_ros.onnx_tools.graph import FloatModel
from yolov7_trt_ros.onnx_tools.tensor_session import TensorSession


def histogram_of(*batches: NDArray[np.float32]) -> Histogram:
    histogram = Histogram()
    for batch in batches:
        histogram.add(batch)
    return histogram


def normal(number: int, scale: float = 1.0, seed: int = 0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).normal(0, scale, number)).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=60), st.integers(0, 59))
def test_growing_and_merging_lose_nothing(values: list[float], cut: int) -> None:
    array = np.array(values, np.float32)
    at_once = histogram_of(array)
    grown = histogram_of(np.sort(np.abs(array))[: cut + 1], np.sort(np.abs(array))[cut + 1:])
    merged = Histogram.merged([histogram_of(array[:cut]), histogram_of(array[cut:])])
    for other in (grown, merged):
        assert other.bin_width == at_once.bin_width
        assert np.array_equal(other.counts, at_once.counts)
        assert other.largest == at_once.largest == np.abs(array).max()
    assert at_once.counts.sum() == len(array)


def test_bins_hold_what_lies_in_them() -> None:
    values = np.abs(normal(5000))
    histogram = histogram_of(values)
    edges = np.arange(BINS + 1) * histogram.bin_width
    assert np.array_equal(histogram.counts, np.histogram(values.astype(np.float64), edges)[0])
    assert edges[-1] / 2 <= histogram.largest <= edges[-1]


def test_minmax_keeps_everything_and_percentile_drops_outliers() -> None:
    values = np.append(normal(99_999), np.float32(-50))
    histogram = histogram_of(values)
    assert find_range(histogram, 'minmax') == 50
    wanted = np.percentile(np.abs(values), 99.99)
    assert find_range(histogram, 'percentile') == pytest.approx(wanted, abs=0.1)
    assert percentile_range(histogram, 50) == pytest.approx(
        np.median(np.abs(values)), abs=2 * histogram.bin_width
    )


def squared_error(values: NDArray[np.float32], largest: float) -> float:
    step = largest / 127
    rounded = np.clip(np.rint(values / step), -127, 127) * step
    return float(np.mean(np.square(values - rounded)))


@pytest.mark.parametrize('outlier', [4.0, 12.0, 60.0])
def test_mse_is_the_best_of_a_brute_force_search(outlier: float) -> None:
    values = np.append(normal(20_000), np.float32(outlier))
    found = find_range(histogram_of(values), 'mse')
    best = min(squared_error(values, largest) for largest in np.linspace(1, outlier, 300))
    assert squared_error(values, found) <= 1.05 * best


def test_kl_clips_outliers_and_leaves_a_full_range_alone() -> None:
    lonely = histogram_of(normal(100_000), np.array([40.0], np.float32))
    assert 2 < find_range(lonely, 'kl') < 10
    uniform = np.random.default_rng(0).random(200_000, np.float32)
    assert find_range(histogram_of(uniform), 'kl') > 0.95


@pytest.mark.parametrize('method', METHODS)
def test_ranges_never_exceed_what_was_seen(method: str) -> None:
    for values in (normal(1000), np.zeros(10, np.float32), np.full(9, 3e-30, np.float32),
                   np.array([7.0], np.float32), np.full((2, 3), 1e30, np.float32)):
        histogram = histogram_of(values)
        found = find_range(histogram, method)
        assert 0 <= found <= histogram.largest == np.abs(values).max()


@pytest.fixture
def network(tmp_path: Path) -> FloatModel:
    return FloatModel(load_source(branching(tmp_path / 'net.onnx')))


def pictures(number: int, side: int = 32) -> list[NDArray[np.float32]]:
    return [np.random.default_rng(seed).random((1, 3, side, side), np.float32)
            for seed in range(number)]


def test_calibration_sees_every_value_of_every_picture(network: FloatModel) -> None:
    blobs = [*pictures(2), *pictures(1, side=64)]
    steps: list[int] = []
    found = calibrate(network, iter(blobs), advance=lambda: steps.append(1))
    assert (found.pictures, len(steps)) == (3, 3)
    session = TensorSession(network.model, ['merged', 'images'])
    runs = [session.run(blob) for blob in blobs]
    for name in ('merged', 'images'):
        assert np.array_equal(
            found.histograms[name].counts,
            histogram_of(*[run[name] for run in runs]).counts,
        )


def test_a_group_shares_the_range_of_all_its_sources(network: FloatModel) -> None:
    found = calibrate(network, pictures(2))
    ranges = found.ranges(place(network, network.heads), 'minmax')
    assert ranges['left'] == ranges['right'] == ranges['joined'] == max(
        found.histograms[name].largest for name in ('left', 'right')
    )


def test_no_picture_is_an_error(network: FloatModel) -> None:
    with pytest.raises(CalibrationError, match='no calibration pictures'):
        calibrate(network, [])


def test_nan_is_an_error(tmp_path: Path) -> None:
    net = NetworkWriter()
    first = net.leaky('images', 'first', (3, 4))
    broken = net.node('Log', [first], 'broken')
    net.conv(broken, 'head', (4, 4))
    model = FloatModel(load_source(net.save(tmp_path / 'nan.onnx', 'head')))
    with pytest.raises(CalibrationError, match='picture 1 gives NaN or infinity in broken'):
        calibrate(model, pictures(1))


def test_a_fixed_batch_is_filled(tmp_path: Path) -> None:
    import onnx

    path = branching(tmp_path / 'net.onnx')
    baked = onnx.load(str(path))
    baked.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(baked, str(path))
    found = calibrate(FloatModel(load_source(path)), pictures(1))
    assert found.histograms['images'].counts.sum() == 2 * 3 * 32 * 32
