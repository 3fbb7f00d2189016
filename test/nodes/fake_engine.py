"""FakeEngine: gives the node scripted detectors, and builds that end when the test says so."""

from __future__ import annotations

from collections.abc import Callable
import copy
from pathlib import Path
import threading

from yolov7_trt_ros.core.detector import Detector
from yolov7_trt_ros.engine.options import DetectorOptions
from yolov7_trt_ros.errors import BuildError, PlanMissingError
from yolov7_trt_ros.nodes.detector.plan_build import Engine

NO_PLAN = PlanMissingError('no fp16 plan of m.onnx was built yet; it would be m_fp16.plan')


class FakeEngine:
    """
    Both functions of an `Engine`.

    Parameters
    ----------
    opened
        What successive calls of open give: a detector, or an exception to raise.
    build_error
        Raised by a build when it is let go.
    deaf
        Builds do not listen to being cancelled.

    Attributes
    ----------
    go
        Set it to let builds end.
    opened
        What was not opened yet.
    options
        Those of each build that was started.

    """

    def __init__(
        self,
        *opened: Detector | Exception,
        build_error: Exception | None = None,
        deaf: bool = False,
    ) -> None:
        self.go = threading.Event()
        self.options: list[DetectorOptions] = []
        self.seam = Engine(self._open, self._build, self._build)
        self.opened = list(opened)
        self._build_error, self._deaf = build_error, deaf

    def _open(self, options: DetectorOptions) -> Detector:
        given = self.opened.pop(0)
        if isinstance(given, Exception):
            raise copy.copy(given)  # or its traceback keeps the node alive
        return given

    def _build(
        self,
        options: DetectorOptions,
        report: Callable[[str, float | None], None],
        cancelled: Callable[[], bool],
    ) -> Path:
        self.options.append(options)
        report('tactics: head.2', 0.43)
        while not self.go.wait(0.01):
            if cancelled() and not self._deaf:
                raise BuildError('cancelled')
        if self._build_error is not None:
            raise self._build_error
        return Path(options.plan_cache) / 'm.plan'


def build_threads() -> list[threading.Thread]:
    """Return the threads that build, or were cancelled and have not ended."""
    return [thread for thread in threading.enumerate() if thread.name == 'plan_build']
