"""Destroy the CUDA context of a running detector: what is told, and what still works."""

from __future__ import annotations

from pathlib import Path
import sys

import numpy as np
import pycuda.driver as cuda

from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.engine.device.kernel_compiler import compile_source
from yolov7_trt_ros.engine.gpu.trt_detector import TrtDetector
from yolov7_trt_ros.engine.plan.plan_file import read_manifest, read_plan
from yolov7_trt_ros.engine.trt.api import TrtApi
from yolov7_trt_ros.errors import DeviceLostError

TRAP = 'extern "C" __global__ void trap_here(int *where) { *(int *)0x10 = *where; }'


def main(path: Path) -> None:
    """Lose the context in the middle of a frame, close, try to open again."""
    api = TrtApi.load()
    manifest = read_manifest(path)
    data = read_plan(path, manifest)
    settings = DetectSettings(score_threshold=0.004)
    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    image = ImageView.from_array(picture)
    detector = TrtDetector(path, data, api=api, manifest=manifest, memory='staged')
    detector.detect(image, settings)
    with detector._device:
        code = compile_source(TRAP, detector._device.architecture)
        kernel = cuda.module_from_buffer(code).get_function('trap_here')
        kernel(np.uint64(0), block=(1, 1, 1), grid=(1, 1), stream=detector._stream)
    for _ in range(2):
        try:
            detector.detect(image, settings)
        except DeviceLostError as exc:
            print(exc)
        else:
            raise SystemExit('the frame after an illegal access must fail')
    assert isinstance(detector.status(), dict)
    detector.close()
    detector.close()
    try:
        TrtDetector(path, data, api=api, manifest=manifest, memory='staged')
    except DeviceLostError as exc:
        print(exc)
    else:
        raise SystemExit('this driver recovers in the same process: say so in the documents')
    print('alive')


if __name__ == '__main__':
    main(Path(sys.argv[1]))
