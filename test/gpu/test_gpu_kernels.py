"""The CUDA kernels on a GPU against core, on many random cases."""

from __future__ import annotations

import dataclasses
from typing import Any

import kernel_checks as checks
import numpy as np
import pytest

from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.forms.model_spec import OutputLayout
from yolov7_trt_ros.core.image import ENCODINGS
from yolov7_trt_ros.engine.device.cuda_device import CudaDevice
from yolov7_trt_ros.engine.device.kernel_compiler import (
    compile_with_nvcc,
    compile_with_nvrtc,
    read_source,
    SOURCES,
)
from yolov7_trt_ros.errors import MissingDependencyError

NAMES = sorted({encoding.name for encoding in ENCODINGS.values()})


@pytest.mark.parametrize('encoding', NAMES)
@pytest.mark.parametrize('dtype', ['float32', 'float16'])
def test_gpu_letterbox_equals_the_cpu_path(launcher: Any, encoding: str, dtype: str) -> None:
    rng = np.random.default_rng(NAMES.index(encoding))
    for _ in range(25):
        image = checks.random_image(rng, ENCODINGS[encoding], most=700)
        box = checks.random_letterbox(rng, image.size_wh, 400)
        error = checks.letterbox_error(launcher, image, box, dtype)
        assert error <= checks.LETTERBOX_TOLERANCE, (image.size_wh, box)


def test_gpu_decoding_and_nms_equal_core_on_random_cases(launcher: Any) -> None:
    rng = np.random.default_rng(11)
    for number in range(1500):
        case = checks.random_case(rng, checks.CaseSize())
        assert not checks.check_decode(launcher, case), f'case {number}'


@pytest.mark.parametrize('packed', [False, True])
def test_gpu_raw_heads_decode_as_core_does(launcher: Any, packed: bool) -> None:
    rng = np.random.default_rng(12)
    for number in range(40):
        case = checks.random_heads_case(rng, packed)
        assert not checks.check_decode(launcher, case, tolerance=2e-3), f'case {number}'


def test_gpu_sorts_and_selects_among_very_many_candidates(launcher: Any) -> None:
    import kernel_checks as checks
    rng = np.random.default_rng(13)
    rows, classes = 25_200, 80
    for multi_label in (False, True):
        grid = np.concatenate(
            [checks.random_boxes(rng, rows, 640), rng.random((rows, 1 + classes))], axis=1
        )
        settings = DetectSettings(
            score_threshold=0.001, iou_threshold=0.65, max_candidates=30_000,
            multi_label=multi_label,
        )
        case = checks.DecodeCase(
            checks.spec_of(OutputLayout.GRID, classes), [grid[None].astype(np.float32)],
            [checks.fit_letterbox((640, 480), (640, 640))], settings,
        )
        assert not checks.check_decode(launcher, case)
        fewer = dataclasses.replace(settings, max_candidates=5000)
        assert not checks.check_decode(launcher, dataclasses.replace(case, settings=fewer))


def test_each_compiler_that_is_here_compiles_the_kernels(device: CudaDevice) -> None:
    worked = 0
    for compiler in (compile_with_nvrtc, compile_with_nvcc):
        try:
            code = [compiler(read_source(name), device.architecture) for name in SOURCES]
        except MissingDependencyError as exc:
            print(f'{compiler.__name__}: {exc}')
        else:
            assert all(part.startswith(b'\x7fELF') for part in code)
            worked += 1
    assert worked
