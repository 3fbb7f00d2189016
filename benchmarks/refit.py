"""
Refit on a GPU: duration, correctness of the outputs, and service meanwhile.

    python benchmarks/refit.py --models yolov7-nano yolov7-tiny.onnx --precisions fp32 fp16

For each model and precision a refittable plan is built (and one that is not, to compare what a
frame takes), its weights are changed by up to a tenth each, and `yolov7_trt refit` runs in a
process of its own while this one detects 100 times a second. `error` is what refit judges by: of
the right result, of the plan that was left as it was, and of one that kept a single former bias,
in standard deviations of the output. A model with Q/DQ nodes is built as int8.

"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
import dataclasses
import json
from pathlib import Path
import re
import statistics
import sys
import tempfile
import time
from typing import Any

from beside import run_beside
from measured_on import save
import numpy as np
import onnx
from photographs import load_photographs

from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.engine.building import refit
from yolov7_trt_ros.engine.building.build_options import BuildOptions
from yolov7_trt_ros.engine.building.builder import build_plan
from yolov7_trt_ros.engine.building.prepared_model import prepare_model, PreparedModel
from yolov7_trt_ros.engine.device.find_gpu import find_target
from yolov7_trt_ros.engine.gpu.trt_detector import TrtDetector
from yolov7_trt_ros.engine.model_files import find_onnx_model
from yolov7_trt_ros.engine.plan.plan_file import PlanManifest, read_manifest, read_plan
from yolov7_trt_ros.engine.plan.shape_range import ShapeRange
from yolov7_trt_ros.engine.plan.weight_table import changed_weights, stored_arrays
from yolov7_trt_ros.engine.trt.api import TrtApi
from yolov7_trt_ros.engine.trt.build_progress import BuildProgress

PERIOD_S = 0.01
FRAMES = 300
QUIET_S = 5.0
SIZE_WH = (1280, 720)
CHANGE = 0.1
WEIGHTS = re.compile(r'\.(weight|bias)(\.half)?$')
SETTINGS = DetectSettings()
Json = dict[str, Any]


def finetuned(onnx_path: Path, path: Path) -> Path:
    """Write a model whose layers have other weights and biases, its scales as they are."""
    model = onnx.load(str(onnx_path))
    rng = np.random.default_rng(0)
    for each in model.graph.initializer:
        if WEIGHTS.search(each.name):
            values = onnx.numpy_helper.to_array(each)
            other = values * rng.uniform(1 - CHANGE, 1, values.shape)
            each.CopyFrom(onnx.numpy_helper.from_array(other.astype(values.dtype), each.name))
    path.write_bytes(model.SerializeToString())
    return path


class Case:
    """One model in one precision."""

    def __init__(self, onnx_path: Path, precision: str, folder: Path, args: Any) -> None:
        self.api = TrtApi.load()
        self.machine = find_target(self.api)
        self.onnx, self.precision, self.folder = onnx_path, precision, folder
        self.level = args.opt_level
        self.images = [
            ImageView.from_array(each)
            for each in load_photographs(args.pictures, *SIZE_WH, tiles=args.tiles)
        ]
        self.new = finetuned(onnx_path, folder / 'finetuned.onnx')

    def build(self, name: str, *, refittable: bool) -> tuple[Path, PlanManifest]:
        """Build a plan of batch 1 up to 640."""
        plan = self.folder / f'{name}.plan'
        options = BuildOptions(
            self.precision, (ShapeRange((1, 3, 32, 32), (1, 3, 640, 640), (1, 3, 640, 640)),),
            bind_profiles=True, opt_level=self.level, refittable=refittable,
            timing_cache=self.folder / 'timings.cache',
        )
        manifest = build_plan(
            self.onnx, plan, options, api=self.api, machine=self.machine,
            report=lambda *_: None, cancelled=lambda: False,
        )
        return plan, manifest

    def open_plan(self, plan: Path) -> TrtDetector:
        """Open a plan."""
        manifest = read_manifest(plan)
        return TrtDetector(plan, read_plan(plan, manifest), api=self.api, manifest=manifest)

    def run(self) -> Json:
        """Build, refit, compare."""
        plan, manifest = self.build('refittable', refittable=True)
        plain, plain_manifest = self.build('plain', refittable=False)
        found: Json = {
            'model': self.onnx.name, 'precision': self.precision, 'opt_level': self.level,
            'build_seconds': manifest.build_seconds, 'plan_bytes': manifest.plan_size_bytes,
            'plain_build_seconds': plain_manifest.build_seconds,
            'plain_plan_bytes': plain_manifest.plan_size_bytes,
            'frame_ms': self.compare_speed(plan, plain),
            'error': self.errors(plan, manifest),
        }
        found['serving'] = self.serve_and_refit(plan, found)
        return found

    def compare_speed(self, plan: Path, plain: Path) -> Json:
        """Return the median time of a frame of both plans, in turns."""
        detectors = {'refittable': self.open_plan(plan), 'plain': self.open_plan(plain)}
        times: dict[str, list[int]] = {name: [] for name in detectors}
        for index in range(FRAMES):
            for name, detector in detectors.items():
                image = self.images[index % len(self.images)]
                times[name].append(detector.detect(image, SETTINGS)[1].total_ns)
        for detector in detectors.values():
            detector.close()
        return {
            name: round(statistics.median(each[20:]) / 1e6, 3) for name, each in times.items()
        }

    def errors(self, plan: Path, manifest: PlanManifest) -> Json:
        """Return what refit judges by, of results that are right and wrong."""
        model = self.prepare(self.new, manifest)
        assert manifest.weights is not None  # it was built so
        changed = changed_weights(manifest.weights, model.edit.model)
        biases = sorted(name for name, values in changed.items() if values.ndim == 1)
        data = read_plan(plan, manifest)
        blobs = refit._blobs(manifest.profiles[0], model.spec, self.images)
        wanted = refit._run_on_cpu(model, model.spec, blobs)

        def error_of(of_plan: bytes) -> float:
            found = refit._run_on_gpu(of_plan, blobs, self.api)
            return round(refit._largest_error(model.spec.outputs, wanted, found), 5)

        told: Json = {
            'weights': len(changed), 'not_refitted': error_of(data),
            'refitted': error_of(refit._refit(data, model, changed, self.api)[0]),
        }
        former = stored_arrays(self.prepare(self.onnx, manifest).edit.model)
        for name in (biases[0], biases[len(biases) // 2], biases[-1]) if biases else ():
            stored = next(
                each for each in model.edit.model.graph.initializer if each.name == name
            )
            stored.CopyFrom(onnx.numpy_helper.from_array(former[name], name))
            rest = {each: values for each, values in changed.items() if each != name}
            told[f'without {name}'] = error_of(refit._refit(data, model, rest, self.api)[0])
            stored.CopyFrom(onnx.numpy_helper.from_array(changed[name], name))
        return told

    def prepare(self, onnx_path: Path, manifest: PlanManifest) -> PreparedModel:
        """Return a model as it is parsed."""
        return prepare_model(
            onnx_path, BuildOptions.from_manifest(manifest), self.api,
            BuildProgress(lambda *_: None, lambda: False), with_session=True,
        )

    def serve_and_refit(self, plan: Path, found: Json) -> Json:
        """Detect at a steady rate, alone and while another process refits."""
        detector = self.open_plan(plan)
        for image in self.images:
            detector.detect(image, SETTINGS)
        told: Json = {'alone': self.serve(detector, lambda: QUIET_S)}
        output = self.folder / 'refitted.plan'
        began = time.monotonic()
        told['beside_refit'], status, said = run_beside(
            [sys.executable, '-m', 'yolov7_trt_ros', 'refit', str(plan), str(self.new), '-o',
             str(output), '--json', str(self.folder / 'refit.json')],
            lambda runs: self.serve(detector, lambda: 1e9 if runs() else 0.0),
        )
        told['process_seconds'] = round(time.monotonic() - began, 2)
        detector.close()
        if status:
            return {**told, 'failed': said[-2000:]}
        record = json.loads((self.folder / 'refit.json').read_text())
        found['refit'] = {
            name: record[name] for name in ('build_seconds', 'changed_weights', 'largest_error')
        }
        after = self.open_plan(output)
        found['detections_after'] = [
            len(after.detect(image, SETTINGS)[0]) for image in self.images
        ]
        after.close()
        return told

    def serve(self, detector: TrtDetector, left_s: Callable[[], float]) -> Json:
        """Detect at a steady rate; returns how late answers were, and how long frames took."""
        began, index = time.monotonic(), 0
        answers: list[float] = []
        took: list[float] = []
        while time.monotonic() - began < left_s():
            due = began + index * PERIOD_S
            time.sleep(max(0.0, due - time.monotonic()))
            start = time.monotonic()
            detector.detect(self.images[index % len(self.images)], SETTINGS)
            answers.append(time.monotonic())
            took.append(answers[-1] - start)
            index += 1
        gaps = np.diff(answers) * 1e3
        return {
            'frames': len(answers), 'frame_ms': percentiles(np.array(took) * 1e3),
            'gap_ms': percentiles(gaps),
        }


def percentiles(values: Any) -> Json:
    """Return median, 99th percentile and largest."""
    return {
        'p50': round(float(np.median(values)), 3),
        'p99': round(float(np.percentile(values, 99)), 3),
        'largest': round(float(values.max()), 3),
    }


def precisions_of(onnx_path: Path, wanted: Sequence[str]) -> Sequence[str]:
    """Return the precisions that a model can be built in."""
    nodes = onnx.load(str(onnx_path), load_external_data=False).graph.node
    return ('int8',) if any(each.op_type == 'QuantizeLinear' for each in nodes) else wanted


def main() -> int:
    """Run all; returns 1 where a refit failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--models', nargs='+', default=['yolov7-nano'])
    parser.add_argument('--precisions', nargs='+', default=['fp32', 'fp16'])
    parser.add_argument('--opt-level', type=int, default=0)
    parser.add_argument('--pictures', type=Path)
    parser.add_argument('--tiles', type=int)
    parser.add_argument(
        '-o', '--output', type=Path,
        default=Path(__file__).resolve().parent / 'results' / 'refit.json',
    )
    args = parser.parse_args()
    cases = []
    for name in args.models:
        onnx_path = find_onnx_model(name)
        for precision in precisions_of(onnx_path, args.precisions):
            with tempfile.TemporaryDirectory() as folder:
                cases.append(Case(onnx_path, precision, Path(folder), args).run())
            print(json.dumps(cases[-1], indent=1), flush=True)
            save(args.output, {
                'machine': dataclasses.asdict(find_target(TrtApi.load())), 'cases': cases,
            })
    return 1 if any('failed' in each['serving'] for each in cases) else 0


if __name__ == '__main__':
    raise SystemExit(main())
