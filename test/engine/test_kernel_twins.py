"""The CUDA kernels against core, run by the host emulation: the very same sources as on a GPU."""

from __future__ import annotations

from pathlib import Path
import re
import sys
from typing import Any

import numpy as np
import pytest

from yolov7_trt_ros.core.image import ENCODINGS, ImageView
from yolov7_trt_ros.core.letterbox import fit_letterbox, fit_rectangle

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'test' / 'kernel_host'))

from host_kernels import HostKernels  # noqa: E402, I100
import kernel_checks as checks  # noqa: E402  (its folder has just been added)

KERNELS = ROOT / 'yolov7_trt_ros' / 'engine' / 'device' / 'kernels'
NAMES = sorted({encoding.name for encoding in ENCODINGS.values()})


class HostLauncher:
    """Launches the kernels of all three files; other seeds make other interleavings."""

    def __init__(self, cache: Path) -> None:
        self._of: dict[str, HostKernels] = {}
        self.seed = 0
        self._alive: list[Any] = []
        for name in ('letterbox', 'collect', 'suppress'):
            source = KERNELS / f'{name}.cu'
            kernels = kernel_names(source.read_text(encoding='utf-8'))
            host = HostKernels(source, kernels, {'CUDA_ON_HOST': '1'}, cache=cache)
            self._of.update(dict.fromkeys(kernels, host))

    def launch(self, name: str, grid: Any, block: Any, *arguments: Any) -> None:
        """Run a kernel to its end."""
        self._of[name].launch(name, grid, block, *arguments, seed=self.seed)

    def cells(self, arrays: list[np.ndarray]) -> np.ndarray:
        """Return the addresses of the arrays."""
        self._alive = arrays
        return np.array([array.ctypes.data for array in arrays], np.uint64)


def kernel_names(text: str) -> list[str]:
    """Read the names off the lines that make kernels from macros, and off plain ones."""
    both = [f'letterbox_{name}_{kind}' for name in re.findall(r'^BOTH\((\w+),', text, re.M)
            for kind in ('float32', 'float16')]
    collect = [f'collect_{kind.lower()}_{name}'
               for kind, name in re.findall(r'^COLLECT_(\w+)\((\w+),', text, re.M)]
    plain = re.findall(r'(?:^    |__global__ void )(suppress|collect_heads)\(', text, re.M)
    return both + collect + plain


@pytest.fixture(scope='session')
def launcher(tmp_path_factory: pytest.TempPathFactory) -> HostLauncher:
    return HostLauncher(ROOT / '.cache' / 'host_kernels')


@pytest.mark.parametrize('encoding', NAMES)
@pytest.mark.parametrize('dtype', ['float32', 'float16'])
def test_letterbox_equals_the_cpu_path_on_random_images(
    launcher: HostLauncher, encoding: str, dtype: str
) -> None:
    rng = np.random.default_rng(NAMES.index(encoding))
    for _ in range(6):
        image = checks.random_image(rng, ENCODINGS[encoding], most=90)
        box = checks.random_letterbox(rng, image.size_wh, 128)
        error = checks.letterbox_error(launcher, image, box, dtype)
        assert error <= checks.LETTERBOX_TOLERANCE, (image.size_wh, box)


@pytest.mark.parametrize('encoding', ['bgr8', 'mono16', 'uyvy'])
def test_rows_without_weight_are_neither_uploaded_nor_read(
    launcher: HostLauncher, encoding: str
) -> None:
    from yolov7_trt_ros.engine.gpu.frame_layout import plan_source, SourceKey

    rng = np.random.default_rng(1)
    kind = ENCODINGS[encoding]
    data = rng.integers(0, 256, 192 * 108 * kind.pixel_bytes, np.uint8).tobytes()
    image = ImageView.from_buffer(data, width=192, height=108, encoding=encoding)
    box = fit_rectangle((192, 108), 64, 32)
    part = plan_source(SourceKey((192, 108), encoding), box, 0)
    assert part.upload.rows == 36, 'scaled by exactly 3, one source row in three has weight'
    assert checks.letterbox_error(launcher, image, box, 'float32') <= checks.LETTERBOX_TOLERANCE


def test_in_place_images_are_read_with_their_own_pitch(launcher: HostLauncher) -> None:
    rng = np.random.default_rng(2)
    image = ImageView.from_buffer(
        rng.integers(0, 256, 50 * 200, np.uint8), width=60, height=50, encoding='bgr8', step=200
    )
    box = fit_letterbox((60, 50), (32, 32))
    error = checks.letterbox_error(launcher, image, box, 'float32', choose_rows=False)
    assert error <= checks.LETTERBOX_TOLERANCE


def test_random_cases_decode_and_suppress_as_core_does(launcher: HostLauncher) -> None:
    rng = np.random.default_rng(3)
    for number in range(120):
        launcher.seed = number % 3
        case = checks.random_case(rng, checks.CaseSize(most_rows=300, most_classes=12))
        assert not checks.check_decode(launcher, case), f'case {number}'


@pytest.mark.parametrize('packed', [False, True])
def test_raw_heads_decode_as_core_does(launcher: HostLauncher, packed: bool) -> None:
    rng = np.random.default_rng(4)
    for number in range(12):
        case = checks.random_heads_case(rng, packed)
        assert not checks.check_decode(launcher, case, tolerance=2e-3), f'case {number}'


def test_more_candidates_than_shared_memory_holds_are_sorted(launcher: HostLauncher) -> None:
    rng = np.random.default_rng(5)
    size = checks.CaseSize(most_rows=6000, most_classes=2)
    done = 0
    while done < 2:
        case = checks.random_case(rng, size)
        if case.outputs[0].shape[1] > 4500 and case.settings.max_candidates > 4096:
            settings = checks.dataclasses.replace(case.settings, score_threshold=0.0)
            case = checks.dataclasses.replace(case, settings=settings)
            assert not checks.check_decode(launcher, case)
            done += 1
