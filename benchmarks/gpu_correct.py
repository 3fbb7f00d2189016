"""
Check the GPU path: kernels against the CPU path, and the same answers every time.

    python benchmarks/gpu_correct.py --plan yolov7-tiny_fp16.plan --pictures val2017

Letterbox on random images of every encoding, decoding and NMS on random cases (ties, no and too
many candidates, one class, NaN), and 1,000 different pictures through every combination of CUDA
graph on/off, batch 1/4 and memory strategy, twice each. The plan takes batches of 1 to 4.

"""

from __future__ import annotations

import argparse
import collections
import hashlib
import itertools
from pathlib import Path
import sys
from typing import Any

import cv2
from measured_on import save
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'test' / 'kernel_host'))

from gpu_launcher import GpuLauncher  # noqa: E402, I100
import kernel_checks as checks  # noqa: E402  (its folder has just been added)

from yolov7_trt_ros.core.detections import Detections  # noqa: E402
from yolov7_trt_ros.core.detector import DetectSettings  # noqa: E402
from yolov7_trt_ros.core.image import ENCODINGS, ImageView  # noqa: E402
from yolov7_trt_ros.engine.device.cuda_device import CudaDevice, find_target  # noqa: E402
from yolov7_trt_ros.engine.gpu.trt_detector import TrtDetector  # noqa: E402
from yolov7_trt_ros.engine.plan.plan_file import read_manifest, read_plan  # noqa: E402
from yolov7_trt_ros.engine.trt.api import TrtApi  # noqa: E402

SETTINGS = DetectSettings(score_threshold=0.05)


def check_letterbox(launcher: GpuLauncher, number: int) -> dict[str, Any]:
    """Return the largest difference by encoding, in steps of 1/255."""
    rng = np.random.default_rng(100)
    worst: dict[str, float] = {}
    for encoding in {encoding.name: encoding for encoding in ENCODINGS.values()}.values():
        errors = []
        for index in range(number):
            image = checks.random_image(rng, encoding, most=900)
            box = checks.random_letterbox(rng, image.size_wh, 640)
            dtype = ('float32', 'float16')[index % 2]
            errors.append(checks.letterbox_error(launcher, image, box, dtype))
        worst[encoding.name] = round(max(errors) * 255, 3)
    return {'images_per_encoding': number, 'largest_difference_of_255': worst}


def check_decoding(launcher: GpuLauncher, number: int) -> dict[str, Any]:
    """Return how many random cases differ from core, and what the cases were."""
    rng = np.random.default_rng(200)
    kinds: collections.Counter[str] = collections.Counter()
    different = []
    for index in range(number):
        case = checks.random_case(rng, checks.CaseSize(most_rows=1500, most_classes=80))
        problem = checks.check_decode(launcher, case)
        if problem:
            different.append(f'case {index}: {problem}')
        kinds[case.spec.layout.value] += 1
    return {'cases': number, 'different': len(different), 'first': different[:3], **kinds}


def many_pictures(folder: Path, number: int) -> list[ImageView]:
    """Return different pictures: the files of a folder, flipped, cropped and scaled."""
    files = [cv2.imread(str(path)) for path in sorted(folder.glob('**/*.jpg'))]
    rng = np.random.default_rng(300)
    pictures = []
    for index in range(number):
        picture = files[index % len(files)]
        turn = index // len(files)
        if turn % 2:
            picture = picture[:, ::-1]
        if turn >= 2:
            low = rng.integers(0, 40, 2)
            picture = picture[low[0]:, low[1]:]
        sizes = ((640, 480), (1280, 720), (1920, 1080), picture.shape[1::-1])
        scaled = cv2.resize(picture, sizes[index % len(sizes)])
        pictures.append(ImageView.from_array(np.ascontiguousarray(scaled)))
    return pictures


def digest(found: list[Detections]) -> str:
    """Return one hash of all boxes, scores and classes."""
    state = hashlib.sha256()
    for one in found:
        for array in (one.boxes_xyxy, one.scores, one.class_ids):
            state.update(array.tobytes())
    return state.hexdigest()[:16]


def run_all(detector: TrtDetector, pictures: list[ImageView], batch: int) -> list[Detections]:
    """Return the detections of all pictures, with three submissions in flight."""
    flying: list[Any] = []
    found: list[Detections] = []
    for start in range(0, len(pictures), batch):
        flying.append(detector.submit(pictures[start:start + batch], SETTINGS))
        if len(flying) > 2:
            found += detector.collect(flying.pop(0))[0]
    for ticket in flying:
        found += detector.collect(ticket)[0]
    return found


def check_repeats(path: Path, pictures: list[ImageView]) -> dict[str, Any]:
    """Return a digest of every run, and whether they agree."""
    api, manifest = TrtApi.load(), read_manifest(path)
    data = read_plan(path, manifest)
    digests: dict[str, list[str]] = {}
    total = 0
    for cuda_graph, batch, memory in itertools.product(
        (True, False), (1, 4), ('staged', 'mapped')
    ):
        # one network size for all, so that batches and single images run the same shapes
        detector = TrtDetector(
            path, data, api=api, manifest=manifest, memory=memory, cuda_graph=cuda_graph,
            rectangular=False,
        )
        name = f'graph {"on" if cuda_graph else "off"}, batch {batch}, {memory}'
        runs = [run_all(detector, pictures, batch) for _ in range(2)]
        total = sum(map(len, runs[0]))
        digests[name] = [digest(run) for run in runs]
        print(name, digests[name], detector.status(), flush=True)
        detector.close()
    by_batch = {
        batch: {d for name, ds in digests.items() if f'batch {batch}' in name for d in ds}
        for batch in (1, 4)
    }
    return {
        'pictures': len(pictures), 'detections': total, 'digests': digests,
        'identical_at_batch_1': len(by_batch[1]) == 1,
        'identical_at_batch_4': len(by_batch[4]) == 1,
        'identical_across_batches': len(by_batch[1] | by_batch[4]) == 1,
    }


def main() -> None:
    """Check, print and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--plan', type=Path, required=True)
    parser.add_argument('--pictures', type=Path, required=True, help='folder of .jpg files')
    parser.add_argument('--cases', type=int, default=10_000)
    parser.add_argument('--letterboxes', type=int, default=100, help='images an encoding')
    parser.add_argument('--repeated', type=int, default=1000, help='pictures run again and again')
    parser.add_argument(
        '-o', '--output', type=Path, default=Path(__file__).parent / 'results' / 'gpu_correct.json'
    )
    args = parser.parse_args()
    launcher = GpuLauncher(CudaDevice())
    result: dict[str, Any] = {'machine': str(find_target(TrtApi.load()))}
    result['letterbox'] = check_letterbox(launcher, args.letterboxes)
    print(result['letterbox'], flush=True)
    result['decoding_and_nms'] = check_decoding(launcher, args.cases)
    print(result['decoding_and_nms'], flush=True)
    result['repeats'] = check_repeats(args.plan, many_pictures(args.pictures, args.repeated))
    save(args.output, result)


if __name__ == '__main__':
    main()
