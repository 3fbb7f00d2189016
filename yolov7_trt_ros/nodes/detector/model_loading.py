"""ModelLoading: open the first model of the node, and build its plan if needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
import weakref

from rclpy.node import Node

from yolov7_trt_ros.core.detector import Detector
from yolov7_trt_ros.engine.options import DetectorOptions
from yolov7_trt_ros.errors import PlanError
from yolov7_trt_ros.nodes.detector.look_engine import with_look, with_tiles
from yolov7_trt_ros.nodes.detector.plan_build import Engine, PlanBuild
from yolov7_trt_ros.nodes.detector_parameters.look import look_options
from yolov7_trt_ros.nodes.detector_parameters.parameters import REBUILD
from yolov7_trt_ros.nodes.detector_parameters.settings import detector_options
from yolov7_trt_ros.nodes.detector_parameters.tile import tile_options

_CANCEL_WAIT_S = 1.0


class ModelLoading:
    """
    Opens a detector at once, or in a thread after its plan was built; for the executor's thread.

    Parameters
    ----------
    node, engine
        The node, and where detectors come from.
    on_engine
        Called before a model is opened, with what opens it, and its path or name.
    on_failure
        Called with what a build, or using its detector, raised; and why a plan was needed.

    """

    def __init__(
        self, node: Node, engine: Engine, on_engine: Callable[[Engine, str], None],
        on_failure: Callable[[Exception, str], None],
    ) -> None:
        self._node, self._engine = node, engine
        self._on_engine, self._on_failure = on_engine, on_failure
        self._use: Callable[[Detector], None] = _close
        self._build: PlanBuild | None = None
        self._build_reason = ''
        self._build_ended = node.create_guard_condition(self._on_build_ended)
        self._looks: weakref.WeakKeyDictionary[Detector, str] = weakref.WeakKeyDictionary()

    def load(self, values: Mapping[str, Any], use: Callable[[Detector], None]) -> None:
        """
        Open the model, or begin to build its plan if that is missing or does not fit.

        Parameters
        ----------
        values
            Of the node's parameters, with paths to open.
        use
            Called with the detector, at once or after the build.

        Raises
        ------
        Yolov7TrtError
            The model cannot be opened; or its plan does not fit and may not be built.

        """
        options = detector_options(values)
        self._use = use
        tiled = with_tiles(self._engine, tile_options(values), self._warn)
        engine = with_look(tiled, look_options(values), self._note_look, self._warn)
        self._on_engine(engine, options.model)
        try:
            detector = engine.open_detector(options)
        except PlanError as exc:
            if values['on_plan_mismatch'] != REBUILD:
                raise
            self._start_build(engine, options, str(exc))
        else:
            use(detector)

    def _start_build(self, engine: Engine, options: DetectorOptions, reason: str) -> None:
        self._node.get_logger().warning(f'building a plan, which may take minutes: {reason}')
        self._build_reason = reason
        self._build = PlanBuild(engine, options, self._build_ended.trigger)

    def progress(self) -> str:
        """Return how far the build is, '' if none runs."""
        return self._build.progress() if self._build is not None else ''

    def stop(self) -> None:
        """Cancel the build, if one runs."""
        build, self._build, self._use = self._build, None, _close
        if build is not None and not build.cancel(_CANCEL_WAIT_S):
            self._node.get_logger().warning('a cancelled build continues until it can be stopped')

    def look_of(self, detector: Detector) -> str:
        """Return what `second_look: auto` chose for a detector and why, '' if nothing."""
        return self._looks.get(detector, '')

    def _note_look(self, detector: Detector, text: str) -> None:
        """Note the choice of `auto`; called in the thread that opens."""
        self._looks[detector] = text
        self._node.get_logger().info(text)

    def _warn(self, text: str) -> None:
        """Log what is left out; in any thread."""
        self._node.get_logger().warning(text)

    def _on_build_ended(self) -> None:
        try:
            detector = self._build.take() if self._build is not None else None
            if detector is None:
                return  # a late signal of a cancelled build
            self._use(detector)
        except Exception as exc:  # of the engine or of ROS: the node reports why
            self._on_failure(exc, self._build_reason)
        self._build = None


def _close(detector: Detector) -> None:
    """Close a detector that is not needed any more."""
    detector.close()
