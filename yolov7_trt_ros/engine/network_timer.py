"""
Time the network alone, with one interface for every engine.

TensorRT is timed between CUDA events around the network as it runs in a frame (as a graph where
there are graphs), on the input that the letterbox made of a picture. Everything else is timed by
the host's clock around a run that is over when it returns, by the detector itself.

"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import dataclasses
from typing import cast, Protocol, TYPE_CHECKING

from yolov7_trt_ros.core.detector import Detector, DetectSettings
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.errors import SettingError

if TYPE_CHECKING:
    from yolov7_trt_ros.engine.gpu.trt_detector import TrtDetector

HOST_CLOCK = 'host clock'
CUDA_EVENTS = 'CUDA events'


class BatchTimer(Protocol):
    """Runs batches of one size and returns the network time, as OnnxBatches does."""

    def infer_ns(self, images: Sequence[ImageView]) -> int:
        """Run a batch; return the nanoseconds of the network alone."""


@dataclasses.dataclass(frozen=True)
class NetworkTimer:
    """
    Times the network alone.

    Attributes
    ----------
    clock
        `host clock` or `CUDA events`.
    sample
        Takes images and returns the nanoseconds of one or more runs on them.
    by_detector
        It is no more than `infer_ns` of each frame: whoever times frames has it already.

    """

    clock: str
    sample: Callable[[Sequence[ImageView]], list[int]]
    by_detector: bool = False


def network_timer(detector: Detector, settings: DetectSettings, batch: int) -> NetworkTimer:
    """
    Return what times the network of a detector on batches of a size.

    Raises
    ------
    SettingError
        The detector does not take as many images at once.

    """
    if batch > detector.max_batch:
        raise SettingError(
            f'{detector.backend} takes at most {detector.max_batch} '
            f'{"image" if detector.max_batch == 1 else "images"} at once here'
        )
    if is_on_tensorrt(detector):
        on_gpu = cast('TrtDetector', detector)
        return NetworkTimer(CUDA_EVENTS, lambda images: on_gpu.time_network(images, settings))
    return NetworkTimer(
        HOST_CLOCK, lambda images: [detector.detect_batch(images, settings)[1].infer_ns],
        by_detector=True,
    )


def batch_timer(batches: BatchTimer) -> NetworkTimer:
    """Return what times batches that no detector takes."""
    return NetworkTimer(HOST_CLOCK, lambda images: [batches.infer_ns(images)])


def time_network(
    detector: Detector, batch: Sequence[ImageView], settings: DetectSettings | None = None
) -> list[int]:
    """Return the nanoseconds of one or more runs of the network on a batch of images."""
    timer = network_timer(detector, settings or DetectSettings(), len(batch))
    return timer.sample(batch)


def is_on_tensorrt(detector: Detector) -> bool:
    """Whether a detector is a TrtDetector; without PyCUDA there is none."""
    try:
        from yolov7_trt_ros.engine.gpu.trt_detector import TrtDetector
    except ImportError:
        return False
    return isinstance(detector, TrtDetector)
