"""A checkpoint in PyTorch at its best: compiled, replayed as a CUDA graph, decoded on the GPU."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from peers_parts.timed import Bgr, SETTINGS
import torch
from torch import Tensor

from yolov7_trt_ros.core.decode import Candidates, select_detections
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.letterbox import fit_letterbox
from yolov7_trt_ros.core.preprocess import BORDER_GREY
from yolov7_trt_ros.model.network.architecture import decode_maps, Network

MOST_ROWS = 1024
_SIDE, _WARM_UP = 640, 3

Forward = Callable[[Tensor], Tensor]


class CompiledTorch:
    """
    Letterbox with OpenCV into page-locked memory; the rest up to the best rows on the device.

    `torch.compile` with CUDA graphs; where it fails, a CUDA graph of the uncompiled network. The
    `MOST_ROWS` best rows come back in one copy, NMS over those that pass is core's.

    Parameters
    ----------
    network
        In deploy form; it belongs to the detector then.
    device
        `cuda`: FP16; or `cpu`: FP32, neither compiled nor a graph.

    """

    def __init__(self, network: Network, device: str) -> None:
        self._device = torch.device(device)
        on_gpu = self._device.type == 'cuda'
        self._dtype = torch.float16 if on_gpu else torch.float32
        torch.backends.cudnn.benchmark = True
        self._network = network.eval().to(self._device, self._dtype)
        self._network.to(memory_format=torch.channels_last)
        self._constants = _constants(network, self._device)
        pixels = torch.full((_SIDE, _SIDE, 3), BORDER_GREY, dtype=torch.uint8)
        self._pixels = pixels.pin_memory() if on_gpu else pixels
        self._canvas = self._pixels.numpy()
        self._placed: tuple[tuple[int, int], tuple[int, int]] | None = None
        self._input = self._pixels.to(self._device)
        with torch.no_grad():
            self._forward, how = self._fastest() if on_gpu else (self.rows, 'eager')
        name = torch.cuda.get_device_name(self._device) if on_gpu else 'CPU'
        self.backend = f'PyTorch {torch.__version__} ({name}{", half" * on_gpu}, {how})'

    def detect(self, bgr: Bgr) -> Detections:
        """Find objects in an image (H, W, 3)."""
        letterbox = fit_letterbox((bgr.shape[1], bgr.shape[0]), (_SIDE, _SIDE))
        placed = (letterbox.offset_xy, letterbox.resized_wh)
        if placed != self._placed:
            self._canvas[:] = BORDER_GREY
            self._placed = placed
        (left, top), (width, height) = placed
        self._canvas[top:top + height, left:left + width] = cv2.resize(bgr, (width, height))
        with torch.no_grad():
            self._input.copy_(self._pixels, non_blocking=True)
            rows = self._forward(self._input).cpu().numpy()
        rows = rows[rows[:, 4] > SETTINGS.score_threshold]
        candidates = Candidates(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int32))
        return select_detections(candidates, letterbox, SETTINGS)

    def rows(self, pixels: Tensor) -> Tensor:
        """Return the best of all rows, (n, 6) of corners, score, class, for pixels (H, W, 3)."""
        centres, sizes, strides = self._constants
        images = pixels.flip(-1).permute(2, 0, 1)[None].to(self._dtype) / 255
        units = torch.cat([
            raw.view(len(anchors), -1, *raw.shape[2:]).permute(0, 2, 3, 1).flatten(0, 2)
            for raw, anchors in zip(self._network(images), self._network.anchors, strict=True)
        ]).float().sigmoid()
        of_class, classes = units[:, 5:].max(1)
        is_single = self._network.num_classes == 1  # its score is objectness, as in core
        scores = units[:, 4] if is_single else units[:, 4] * of_class
        scores, best = scores.topk(min(MOST_ROWS, len(scores)))
        unit = units[best, :4] * 2
        middle = centres[best] + (unit[:, :2] - 1) * strides[best]
        half = unit[:, 2:] ** 2 * sizes[best] / 2
        return torch.cat(
            [middle - half, middle + half, scores[:, None], classes[best, None].float()], 1
        )

    def _fastest(self) -> tuple[Forward, str]:
        """Return the compiled network, or a graph of the uncompiled one."""
        try:
            compiled = torch.compile(self.rows, mode='reduce-overhead', dynamic=False)
            for _ in range(_WARM_UP):
                compiled(self._input).cpu()
            return compiled, 'torch.compile, reduce-overhead'
        except Exception as exc:  # noqa: BLE001  (a compiler may lack anything)
            first = str(exc).strip().partition('\n')[0]
        return self._captured(), f'CUDA graph; torch.compile failed: {first}'

    def _captured(self) -> Forward:
        """Return a CUDA graph of the network on its input."""
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP):
                self.rows(self._input)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = self.rows(self._input)

        def replay(pixels: Tensor) -> Tensor:
            graph.replay()
            return output

        return replay


def _constants(network: Network, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return centre (n, 2), anchor (n, 2) and stride (n, 1) of all rows, on the device."""
    depth = 5 + network.num_classes
    maps = [
        torch.zeros(1, len(anchors) * depth, _SIDE // stride, _SIDE // stride)
        for stride, anchors in zip(network.strides, network.anchors, strict=True)
    ]
    rows = decode_maps(network, maps)[0].to(device)  # of sigmoid(0) = 1/2: centres and anchors
    strides = torch.cat([
        torch.full((raw.numel() // depth, 1), float(stride))
        for raw, stride in zip(maps, network.strides, strict=True)
    ])
    return rows[:, :2].contiguous(), rows[:, 2:4].contiguous(), strides.to(device)
