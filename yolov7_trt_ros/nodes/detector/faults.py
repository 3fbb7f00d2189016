"""Faults: why the detector node does not detect, and its last error."""

from __future__ import annotations

import time
from typing import Any

from yolov7_trt_ros.core.plain_text import one_line
from yolov7_trt_ros.core.units import NS_PER_S
from yolov7_trt_ros.errors import DeviceLostError, Yolov7TrtError
from yolov7_trt_ros.nodes.detector.worker.detection_worker import DetectionWorker
from yolov7_trt_ros.nodes.one_line import describe_error

_ERROR_SHOWN_NS = 5 * NS_PER_S
_WARN_PERIOD_S = 5.0
_MOST_CHARACTERS = 2000


class Faults:
    """
    Logs errors and keeps them for diagnostics; for the executor's thread, if not said otherwise.

    Parameters
    ----------
    logger
        Of the node.

    Attributes
    ----------
    fault
        Why the node does not detect until the next transition, '' if nothing prevents it.
    device_lost
        Why CUDA cannot be used again in this process, '' if it can.
    last_error
        The last fault or error of a frame, '' before the first.

    """

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self.fault = self.device_lost = self.last_error = ''
        self._frame_error_ns = -_ERROR_SHOWN_NS

    def note(self, text: str, *, device_lost: bool = False) -> None:
        """Note and log a fault."""
        line = one_line(text, _MOST_CHARACTERS)
        self.fault = self.last_error = line
        if device_lost:
            self.device_lost = line
        self._logger.error(line)

    def note_failure(self, what: str, error: BaseException, hint: str = '') -> None:
        """Note that something failed, and what it raised."""
        reason = str(error) if isinstance(error, Yolov7TrtError) else describe_error(error)
        self.note(f'{what}: {reason}{hint}', device_lost=isinstance(error, DeviceLostError))

    def note_worker(self, worker: DetectionWorker | None) -> None:
        """Note the fault of a worker, if it has one and no other is known."""
        if worker is not None and worker.fault and not self.fault:
            self.note(worker.fault, device_lost=worker.device_lost)

    def note_frame_error(self, text: str) -> None:
        """Note and log an error of one frame; for any thread."""
        line = one_line(text)
        self.last_error, self._frame_error_ns = line, time.monotonic_ns()
        self._logger.warning(f'frame not used: {line}', throttle_duration_sec=_WARN_PERIOD_S)

    def forget(self) -> None:
        """Forget all."""
        self.fault = self.device_lost = self.last_error = ''

    def forget_passing(self) -> None:
        """Forget the fault, unless the device is lost."""
        self.fault = self.device_lost

    def text(self) -> str:
        """Return the present fault or a recent error of a frame, '' if there is none."""
        recent = time.monotonic_ns() - self._frame_error_ns < _ERROR_SHOWN_NS
        return self.fault or (self.last_error if recent else '')
