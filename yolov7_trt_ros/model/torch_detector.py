"""TorchDetector: runs a checkpoint in PyTorch, as the reference for exports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
import torch

from yolov7_trt_ros.core.decode import decode_outputs, select_detections
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import DetectSettings, FrameTimings
from yolov7_trt_ros.core.forms.model_spec import ModelSpec, OutputLayout, TensorInfo
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.letterbox import fit_letterbox, fit_rectangle, Letterbox
from yolov7_trt_ros.core.preprocess import Preprocessor
from yolov7_trt_ros.errors import DeviceMemoryError, InferenceError, SettingError
from yolov7_trt_ros.model.network.architecture import Network

_MOST_IMAGES = 64


class TorchDetector:
    """
    A detector in PyTorch.

    Parameters
    ----------
    network
        In deploy form; it is moved to the device and belongs to the detector then.
    device
        `cpu`, or `cuda` with a number where there are several GPUs.
    half
        Compute in float16; on a GPU only.
    network_size
        Longer side of the network input in pixels.
    rectangular
        Letterbox to the smallest rectangle of stride multiples instead of a square.
    checkpoint_facts
        Facts found in the checkpoint, for `facts`.

    Raises
    ------
    SettingError
        The size is no multiple of the stride, the device is not there, or half on the CPU.

    """

    def __init__(
        self,
        network: Network,
        *,
        device: str = 'cpu',
        half: bool = False,
        network_size: int = 640,
        rectangular: bool = True,
        checkpoint_facts: Mapping[str, str] | None = None,
    ) -> None:
        self._device = _find_device(device, half)
        fit_rectangle((1, 1), network_size, network.stride)  # refuses sizes off the stride
        self._dtype = torch.float16 if half else torch.float32
        self._network: Network | None = network.eval().to(self._device, self._dtype)
        self._network_size, self._rectangular = network_size, rectangular
        self._checkpoint_facts = dict(checkpoint_facts or {})
        self._preprocessor = Preprocessor('float16' if half else 'float32')
        self.spec: ModelSpec = _spec_of(network, half)
        self.backend = f'PyTorch {torch.__version__} ({_name(self._device)}{", half" * half})'

    def detect(
        self, image: ImageView, settings: DetectSettings
    ) -> tuple[Detections, FrameTimings]:
        """
        Find objects in one image.

        Raises
        ------
        InferenceError
            PyTorch failed, or the network gave NaN; the detector stays usable.

        """
        found, timings = self.detect_batch((image,), settings)
        return found[0], timings

    @property
    def max_batch(self) -> int:
        """Most images that `detect_batch` takes at once."""
        return _MOST_IMAGES

    def detect_batch(
        self, images: Sequence[ImageView], settings: DetectSettings
    ) -> tuple[list[Detections], FrameTimings]:
        """
        Find objects in several images in one run of the network.

        Images of different sizes share the smallest network size that all of them fit.

        Raises
        ------
        SettingError
            No image, or more than `max_batch`.
        InferenceError
            As for `detect`.

        """
        if not 1 <= len(images) <= self.max_batch:
            raise SettingError(f'expected 1 to {self.max_batch} images, got {len(images)}')
        start = time.perf_counter_ns()
        letterboxes = self._letterboxes([image.size_wh for image in images])
        blob = self._prepare(images, letterboxes)
        prepared = time.perf_counter_ns()
        maps = self.run(blob)
        inferred = time.perf_counter_ns()
        found = [
            self._select([raw[index:index + 1] for raw in maps], letterbox, settings)
            for index, letterbox in enumerate(letterboxes)
        ]
        done = time.perf_counter_ns()
        return found, FrameTimings(prepared - start, inferred - prepared, done - inferred)

    def run(self, images: NDArray[Any]) -> list[NDArray[Any]]:
        """
        Run the network alone: images (B, 3, H, W), RGB, 0..1, to raw maps in host memory.

        Raises
        ------
        InferenceError
            PyTorch failed; the detector stays usable.

        """
        if self._network is None:
            raise InferenceError('the detector is closed')
        try:
            with torch.inference_mode():
                maps = self._network(torch.from_numpy(images).to(self._device, self._dtype))
                return [raw.cpu().numpy() for raw in maps]
        except torch.cuda.OutOfMemoryError as exc:
            raise DeviceMemoryError(f'PyTorch has too little GPU memory: {exc}') from exc
        except RuntimeError as exc:
            raise InferenceError(f'PyTorch failed: {exc}') from exc

    def status(self) -> dict[str, str]:
        """Return the precision, the number of CPU threads, and what the checkpoint is."""
        facts = {'precision': 'fp16' if self._dtype is torch.float16 else 'fp32'}
        if self._device.type == 'cpu':
            facts['threads'] = str(torch.get_num_threads())
        return facts | self._checkpoint_facts

    def close(self) -> None:
        """Free the network; calling it twice is harmless."""
        self._network = None
        if self._device.type == 'cuda':
            torch.cuda.empty_cache()

    def _prepare(
        self, images: Sequence[ImageView], letterboxes: Sequence[Letterbox]
    ) -> NDArray[Any]:
        """Return the network input (B, 3, H, W)."""
        if len(images) == 1:
            return self._preprocessor.prepare(images[0], letterboxes[0])
        width, height = letterboxes[0].network_wh
        dtype = np.float16 if self._dtype is torch.float16 else np.float32
        blob = np.empty((len(images), 3, height, width), dtype)
        for index, (image, letterbox) in enumerate(zip(images, letterboxes, strict=True)):
            blob[index] = self._preprocessor.prepare(image, letterbox)[0]  # which it keeps
        return blob

    def _letterboxes(self, sizes_wh: Sequence[tuple[int, int]]) -> list[Letterbox]:
        size, stride = self._network_size, self.spec.stride
        if not self._rectangular:
            return [fit_letterbox(source_wh, (size, size)) for source_wh in sizes_wh]
        alone = [fit_rectangle(source_wh, size, stride) for source_wh in sizes_wh]
        widths, heights = zip(*(letterbox.network_wh for letterbox in alone), strict=True)
        common_wh = (max(widths), max(heights))
        return [
            letterbox if letterbox.network_wh == common_wh
            else fit_letterbox(letterbox.source_wh, common_wh)
            for letterbox in alone
        ]

    def _select(
        self, maps: list[NDArray[Any]], letterbox: Letterbox, settings: DetectSettings
    ) -> Detections:
        return select_detections(decode_outputs(self.spec, maps, settings), letterbox, settings)


def _find_device(name: str, half: bool) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as exc:
        raise SettingError(f'device must be cpu or cuda, got {name!r}') from exc
    if device.type not in ('cpu', 'cuda'):
        raise SettingError(f'device must be cpu or cuda, got {name!r}')
    if device.type == 'cuda' and (device.index or 0) >= torch.cuda.device_count():
        raise SettingError(
            f'device is {name}, but PyTorch {torch.__version__} finds '
            f'{torch.cuda.device_count()} GPUs; take cpu, or a PyTorch built for CUDA'
        )
    if half and device.type == 'cpu':
        raise SettingError('half needs device cuda: on the CPU float16 is slower than float32')
    return device


def _name(device: torch.device) -> str:
    return 'CPU' if device.type == 'cpu' else torch.cuda.get_device_name(device)


def _spec_of(network: Network, half: bool) -> ModelSpec:
    return ModelSpec(
        image=TensorInfo('images', (None, 3, None, None), 'float16' if half else 'float32'),
        layout=OutputLayout.RAW_HEADS,
        outputs=tuple(f'raw_{stride}' for stride in network.strides),
        class_names=network.class_names,
        num_classes=network.num_classes,
        strides=network.strides,
        anchors=network.anchors,
    )
