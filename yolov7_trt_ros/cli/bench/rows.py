"""Open the model of a row in its engine, and name both."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
import contextlib
import dataclasses
from pathlib import Path
import sys
from typing import TYPE_CHECKING

from yolov7_trt_ros.cli import look_arguments
from yolov7_trt_ros.cli.bench.setup import only_way, RowSpec
from yolov7_trt_ros.cli.model_steps import checkpoints
from yolov7_trt_ros.cli.model_steps.checkpoints import CheckpointOptions
from yolov7_trt_ros.errors import MissingDependencyError, ModelNotFoundError
from yolov7_trt_ros.home_folder import expand_home

if TYPE_CHECKING:
    from yolov7_trt_ros.core.detector import Detector
    from yolov7_trt_ros.engine.network_timer import NetworkTimer


@dataclasses.dataclass(frozen=True)
class OpenedRow:
    """
    An open model.

    Attributes
    ----------
    detector
        Detects in whole frames.
    open_clock
        Returns a timer of the network alone at a batch size.
    network_wh
        Network input in pixels.
    precision
        Precision of its arithmetic; '' if unknown.
    size_bytes
        Size of its file.

    """

    detector: Detector
    open_clock: Callable[[int], NetworkTimer]
    network_wh: tuple[int, int]
    precision: str
    size_bytes: int


@dataclasses.dataclass(frozen=True)
class OpenOptions:
    """Options that all rows are opened with; `args` are those of second look and so on."""

    args: argparse.Namespace
    network_size: int = 640
    threads: int = 0
    most_batch: int = 8
    naming: CheckpointOptions = CheckpointOptions()


def row_name(spec: RowSpec, precision: str = '') -> str:
    """Return the display name: the given one, else such as `TensorRT FP16 tiny`."""
    if spec.way:
        plain = dataclasses.replace(spec, way='')
        return f'{row_name(plain, precision)} + {spec.way}'
    if spec.name:
        return spec.name
    engine = {'torch': 'PyTorch', 'onnx': 'ONNX Runtime'}.get(spec.kind, 'TensorRT')
    suffix = {'cpu': 'fp32'}.get(spec.precision_or_device, spec.precision_or_device) or precision
    return ' '.join(part for part in (engine, suffix.upper(), Path(spec.model).stem) if part)


@contextlib.contextmanager
def open_row(spec: RowSpec, options: OpenOptions) -> Iterator[OpenedRow]:
    """
    Open a row's model; for an ONNX file in TensorRT the plan is built first.

    Raises
    ------
    Yolov7TrtError
        It cannot run here; the message states the reason.

    """
    with contextlib.ExitStack() as stack:
        if spec.kind == 'torch':
            yield _open_torch(spec, options, stack)
        else:
            yield _open_engine(spec, options, stack)


def _open_torch(
    spec: RowSpec, options: OpenOptions, stack: contextlib.ExitStack
) -> OpenedRow:
    try:
        import torch

        from yolov7_trt_ros.model.torch_detector import TorchDetector
    except ImportError as exc:
        raise MissingDependencyError(
            f'{Path(spec.model).name} runs in PyTorch, which cannot be imported ({exc}); install '
            'it with: pip install torch, or measure this row in another environment and join the '
            'results with --merge'
        ) from exc
    path = _existing(spec.model)
    half = spec.precision_or_device == 'fp16'
    on_gpu = half or (spec.precision_or_device != 'cpu' and torch.cuda.is_available())
    if options.threads:
        torch.set_num_threads(options.threads)
    loaded = checkpoints.load(
        path, options.naming, lambda text: print(text, file=sys.stderr, flush=True)
    )
    detector: Detector = TorchDetector(
        loaded.network,
        device='cuda' if on_gpu else 'cpu',
        half=half,
        network_size=options.network_size,
        rectangular=False,
        checkpoint_facts={fact.name: str(fact) for fact in loaded.facts},
    )
    stack.callback(detector.close)
    precision = 'fp16' if half else 'fp32'
    return _opened(detector, path, precision, options)


def _open_engine(
    spec: RowSpec, options: OpenOptions, stack: contextlib.ExitStack
) -> OpenedRow:
    from yolov7_trt_ros.engine.model_files import find_model
    from yolov7_trt_ros.engine.options import DetectorOptions
    from yolov7_trt_ros.onnx_tools.graph import onnx_precision

    path = find_model(spec.model)
    detector = look_arguments.open_looking(only_way(options.args, spec.way), DetectorOptions(
        model=spec.model,
        backend='onnx' if spec.kind == 'onnx' else 'tensorrt',
        class_names=options.naming.class_names,
        anchors=options.naming.anchors,
        network_size=options.network_size,
        rectangular=False,
        threads=options.threads,
        precision=spec.precision_or_device or 'fp16',
        max_batch=options.most_batch if spec.kind == 'built' else 1,
    ))
    stack.callback(detector.close)
    if spec.kind == 'onnx' and not spec.way:
        return _opened_onnx(detector, path, options, stack)
    if 'second look' in detector.status():
        first_size = look_arguments.look_options(options.args).first_size
        options = dataclasses.replace(options, network_size=first_size)
    precision = onnx_precision(path) if spec.kind == 'onnx' else _plan_precision(detector, spec)
    return _opened(detector, path, precision, options)


def _opened_onnx(
    detector: Detector, path: Path, options: OpenOptions, stack: contextlib.ExitStack
) -> OpenedRow:
    """Return an ONNX Runtime row; batches use a session of their own."""
    from yolov7_trt_ros.engine.network_timer import batch_timer
    from yolov7_trt_ros.engine.onnx_batches import OnnxBatches
    from yolov7_trt_ros.onnx_tools.graph import onnx_precision

    opened = _opened(detector, path, onnx_precision(path), options)

    def open_clock(batch: int) -> NetworkTimer:
        if batch == 1:
            return opened.open_clock(1)
        batches = OnnxBatches(
            path, batch, opened.network_wh, threads=options.threads, spec=detector.spec
        )
        stack.callback(batches.close)
        return batch_timer(batches)

    return dataclasses.replace(opened, open_clock=open_clock)


def _opened(
    detector: Detector, path: Path, precision: str, options: OpenOptions
) -> OpenedRow:
    from yolov7_trt_ros.engine.network_timer import network_timer
    from yolov7_trt_ros.report.bench.measure import LATENCY_SETTINGS

    size = options.network_size
    return OpenedRow(
        detector,
        lambda batch: network_timer(detector, LATENCY_SETTINGS, batch),
        detector.spec.fixed_wh or (size, size),
        precision,
        path.stat().st_size,
    )


def _plan_precision(detector: Detector, spec: RowSpec) -> str:
    """Return the precision in the plan's manifest; without one, that of the row."""
    known = detector.status().get('precision', '')
    return spec.precision_or_device if known in ('', 'as built') else known


def _existing(model: str) -> Path:
    path = expand_home(model)
    if not path.is_file():
        raise ModelNotFoundError(f'no file {path}')
    return path
