"""Models with changed bytes: only our errors, in bounded memory and time. Runs as a script too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import subprocess
import sys
import warnings

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from damaged_files import bounded, damaged  # noqa: E402, I100  (its folder has just been added)
from export_forms import FORMS  # noqa: E402
import onnx  # noqa: E402
import onnx_models  # noqa: E402

from yolov7_trt_ros.core.detector import DetectSettings  # noqa: E402
from yolov7_trt_ros.core.image import ImageView  # noqa: E402
from yolov7_trt_ros.engine.onnx_detector import OnnxDetector  # noqa: E402
from yolov7_trt_ros.errors import Yolov7TrtError  # noqa: E402
from yolov7_trt_ros.onnx_tools.model_file import load_model  # noqa: E402

INPUTS = 250
PIECES = (b'\0', b'\xff', b'\x7f\xff\xff\xff', b'\xff\xff\xff\xff\x0f')


def weights_outside(folder: Path) -> Path:
    path = folder / 'outside.onnx'
    model = onnx.load(str(onnx_models.conv_grid(folder / 'whole.onnx')))
    onnx.save_model(
        model, str(path), save_as_external_data=True, location='weights', size_threshold=200
    )
    return path


KINDS: dict[str, Callable[[Path], Path]] = {
    'grid': lambda folder: onnx_models.brightness_grid(
        folder / 'm.onnx', num_classes=2, metadata={'names': '["a", "b"]', 'stride': '32'}
    ),
    'convolutions': lambda folder: onnx_models.conv_grid(folder / 'm.onnx'),
    'plugin': lambda folder: onnx_models.ends_in_plugin(folder / 'm.onnx'),
    'labelled': lambda folder: next(f for f in FORMS if 'DeepStream' in f.name).make(folder),
    'weights outside': weights_outside,
}


@pytest.mark.parametrize('kind', KINDS)
def test_damaged_models_raise_only_our_errors(kind: str, tmp_path: Path) -> None:
    """In a process of its own: what ONNX Runtime's native code could do, pytest must outlive."""
    done = subprocess.run(
        [sys.executable, __file__, kind, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    read, refused = map(int, done.stdout.split())
    assert read + refused == INPUTS
    assert min(read, refused) > INPUTS // 20


def run(kind: str, folder: Path) -> None:
    source = KINDS[kind](folder)
    data, random, read = source.read_bytes(), np.random.default_rng(14), 0
    image = ImageView.from_array(np.full((64, 64, 3), 200, np.uint8))
    path = source.with_name('damaged.onnx')
    warnings.simplefilter('ignore', RuntimeWarning)  # numpy on numbers that are damaged
    for _ in range(INPUTS):
        path.write_bytes(damaged(data, random, PIECES))
        try:
            with bounded():
                load_model(path)
                detector = OnnxDetector(path, network_size=64, threads=1)
                detector.detect(image, DetectSettings(score_threshold=0.1))
            read += 1
        except Yolov7TrtError as exc:
            assert len(str(exc)) < 1500, exc
    print(read, INPUTS - read)


if __name__ == '__main__':
    run(sys.argv[1], Path(sys.argv[2]))
