"""ModelLoading: open the model that the node starts with, and build its plan first if needed."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node

from yolov7_trt_ros.core.detector import Detector
from yolov7_trt_ros.core.looks.look_options import LookOptions
from yolov7_trt_ros.core.looks.tiles import TileOptions
from yolov7_trt_ros.engine.options import DetectorOptions
from yolov7_trt_ros.errors import PlanError
from yolov7_trt_ros.nodes.detector.look_engine import looking, tiling
from yolov7_trt_ros.nodes.detector.plan_build import Engine, PlanBuild

_CANCEL_WAIT_S = 1.0


class ModelLoading:
    """
    Opens a detector at once, or in a thread after its plan was built; for the executor's thread.

    Parameters
    ----------
    node, engine
        The node, and where detectors come from.
    on_open
        Called with a detector that was opened after a build.
    on_failure
        Called with what the build or `on_open` raised, and why a plan was needed.

    Attributes
    ----------
    look
        What `second_look: auto` chose and why, '' if there was nothing to choose.

    """

    def __init__(
        self, node: Node, engine: Engine, on_open: Callable[[Detector], None],
        on_failure: Callable[[Exception, str], None],
    ) -> None:
        self._node, self._engine = node, engine
        self._on_open, self._on_failure = on_open, on_failure
        self._build: PlanBuild | None = None
        self._build_reason = ''
        self._build_ended = node.create_guard_condition(self._on_build_ended)
        self.look = ''

    def engine_for(self, tiles: TileOptions, look: LookOptions) -> Engine:
        """Return what opens and builds detectors that look as the options say."""
        self.look = ''
        return looking(tiling(self._engine, tiles), look, self._note_look)

    def open(
        self, engine: Engine, options: DetectorOptions, *, may_build: bool
    ) -> Detector | None:
        """
        Return the detector; None if a plan is built first, and `on_open` gets it.

        Raises
        ------
        Yolov7TrtError
            The model cannot be opened; or its plan does not fit and may not be built.

        """
        try:
            return engine.open_detector(options)
        except PlanError as exc:
            if not may_build:
                raise
            self._node.get_logger().warning(f'building a plan, which may take minutes: {exc}')
            self._build_reason = str(exc)
            self._build = PlanBuild(engine, options, self._build_ended.trigger)
        return None

    def progress(self) -> str:
        """Return how far the build is, '' if none runs."""
        return self._build.progress() if self._build is not None else ''

    def stop(self) -> None:
        """Cancel the build, if one runs."""
        build, self._build = self._build, None
        if build is not None and not build.cancel(_CANCEL_WAIT_S):
            self._node.get_logger().warning('a cancelled build goes on until it can be stopped')

    def _note_look(self, text: str) -> None:
        """Note what `auto` chose; called in whichever thread opens."""
        self.look = text
        self._node.get_logger().info(text)

    def _on_build_ended(self) -> None:
        try:
            detector = self._build.take() if self._build is not None else None
            if detector is None:
                return  # the signal of a build that was cancelled since
            self._on_open(detector)
        except Exception as exc:  # of the engine or of ROS: the node reports why
            self._on_failure(exc, self._build_reason)
        self._build = None
