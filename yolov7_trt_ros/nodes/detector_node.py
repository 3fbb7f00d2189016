r"""
The detector node: image topics in, vision_msgs/Detection2DArray out.

    ros2 run yolov7_trt_ros detector_node --ros-args -p autostart:=true \
        -p image_topics:=/camera/image_raw

A lifecycle node: configure loads the model, activate subscribes. Inference runs in a thread of its
own on the latest frame of each topic; callbacks only hand frames over. Where a TensorRT plan has
to be built first, that runs in a thread of its own too. docs/interfaces.md lists topics,
parameters and diagnostics.

"""

from __future__ import annotations

from collections.abc import Mapping
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from vision_msgs.msg import VisionInfo

from yolov7_trt_ros.core.detector import Detector
from yolov7_trt_ros.core.stamps import NS_PER_S
from yolov7_trt_ros.engine.open import DetectorOptions
from yolov7_trt_ros.errors import DeviceLostError, PlanError, SettingError, Yolov7TrtError
from yolov7_trt_ros.nodes import diagnostics, parameters, qos
from yolov7_trt_ros.nodes.frame_slots import FrameSlots
from yolov7_trt_ros.nodes.image_stream import ReceivedFrame
from yolov7_trt_ros.nodes.labels import label_info_msg
from yolov7_trt_ros.nodes.parameter_spec import declare_parameters, read_parameters
from yolov7_trt_ros.nodes.plan_build import Engine, exit_over_builds, PlanBuild
from yolov7_trt_ros.nodes.running import end_process, run_node
from yolov7_trt_ros.nodes.steady_clock import steady_clock
from yolov7_trt_ros.nodes.stream_set import stream_set, StreamSet
from yolov7_trt_ros.nodes.trusted_folders import TrustedFolders
from yolov7_trt_ros.nodes.worker import DetectionWorker

_ERROR_SHOWN_NS = 5 * NS_PER_S
_WARN_PERIOD_S = 5.0
_PROGRESS_PERIOD_S = 10.0
_CANCEL_WAIT_S = 1.0
_LAST_WORDS_S = 1
DEVICE_LOST_EXIT_CODE = 3
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class DetectorNode(LifecycleNode):
    """
    The lifecycle node `detector`.

    configure: reads the parameters, loads and warms the model, creates publishers; FAILURE, with a
    reason in the log, leaves it unconfigured. Where a plan must be built first it succeeds at once
    and the model comes later. activate: starts the worker and subscribes, or does so when the
    model has come. deactivate: unsubscribes and finishes the frame in work. cleanup, shutdown:
    stop a build and free the model. On error: frees everything and goes back to unconfigured.
    With the CUDA context lost the node is of no use to a GPU any more: it stays and says so, or
    ends the process with `DEVICE_LOST_EXIT_CODE`, as `on_device_lost` tells.

    Parameters
    ----------
    engine
        Where detectors come from; tests bring others.
    node_arguments
        For LifecycleNode.

    """

    def __init__(self, *, engine: Engine | None = None, **node_arguments: Any) -> None:
        super().__init__('detector', **node_arguments)
        self._engine = engine or Engine()
        self._build: PlanBuild | None = None
        self._build_reason = ''
        self._detector: Detector | None = None
        self._settings: parameters.NodeSettings | None = None
        self._streams: StreamSet | None = None
        self._worker: DetectionWorker | None = None
        self._latched: list[Any] = []
        self._fault = ''  # what keeps it from detecting until the next transition
        self._device_lost = ''  # why CUDA cannot be used again in this process
        self._last_error = ''
        self._last_error_ns = -_ERROR_SHOWN_NS
        self._state = 'unconfigured'
        declare_parameters(self, parameters.PARAMETERS)
        self._trusted = TrustedFolders(read_parameters(self, parameters.FILE_PARAMETERS))
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._build_ended = self.create_guard_condition(self._on_build_ended)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._second_timer = self.create_timer(
            1.0, self._every_second, clock=steady_clock()
        )
        if self.get_parameter('autostart').value:
            self._autostart_timer = self.create_timer(
                0.0, self._autostart, clock=steady_clock()
            )

    # Lifecycle ---------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model, or start to build its plan; FAILURE says why in the log."""
        self._fault = self._device_lost = self._last_error = ''
        try:
            values = read_parameters(self, parameters.PARAMETERS)
            self._streams = stream_set(self, values)
            self._load_model(values)
        except Yolov7TrtError as exc:
            self._note_fault(
                f'cannot configure: {exc}', device_lost=isinstance(exc, DeviceLostError)
            )
            self._release()
            return FAILURE
        self._state = 'inactive'
        return SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker and subscribe, if the model is there."""
        self._state = 'active'
        if self._detector is not None:
            self._start_worker(self._detector)
        return SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and finish the frame in work."""
        self._note_worker_fault()
        self._stop_worker()
        self._state = 'inactive'
        return SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop a build, free the model and take the publishers down."""
        self._fault = self._device_lost
        self._release()
        return SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything, from any state."""
        self._fault = ''
        self._release()
        self._state = 'finalized'
        return SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything after a transition that raised; back to unconfigured."""
        self._note_fault(f'a transition from {state.label} failed')
        self._release()
        return SUCCESS

    def destroy_node(self) -> None:
        """Free everything and destroy the node."""
        self._release()
        super().destroy_node()

    def _autostart(self) -> None:
        self._autostart_timer.cancel()
        if self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    # Model -------------------------------------------------------------------------------------

    def _load_model(self, values: dict[str, Any]) -> None:
        """Open the detector; where it lacks its plan and may build it, start that."""
        options = parameters.detector_options(values)
        try:
            detector = self._engine.open_detector(options)
        except PlanError as exc:
            if values['on_plan_mismatch'] != parameters.REBUILD:
                raise
            self._start_build(options, exc)
        else:
            self._use_detector(detector)

    def _start_build(self, options: DetectorOptions, reason: PlanError) -> None:
        self.get_logger().warning(f'building a plan, which may take minutes: {reason}')
        self._build_reason = str(reason)
        self._build = PlanBuild(self._engine, options, self._build_ended.trigger)

    def _on_build_ended(self) -> None:
        """Take what a build gave; called in the executor's thread."""
        build = self._build
        try:
            detector = build.take() if build is not None else None
            if detector is None:
                return  # the signal of a build that was cancelled since
            self._use_detector(detector)
        except Yolov7TrtError as exc:
            self._close_detector()
            self._note_build_fault(exc)
        self._build = None

    def _note_build_fault(self, error: Yolov7TrtError) -> None:
        if isinstance(error, DeviceLostError):
            self._note_fault(f'no detector, restart the node: {error}', device_lost=True)
        else:
            self._note_fault(
                f'no detector: {error}. Mend that, then cleanup and configure '
                f'(a plan was needed: {self._build_reason})'
            )

    def _use_detector(self, detector: Detector) -> None:
        """Publish what the model is, and detect if the node is active."""
        self._detector = detector
        values = read_parameters(self, parameters.PARAMETERS)
        self._settings = parameters.node_settings(values, detector.spec.class_names)
        self._publish_labels(detector, values['model'])
        self.get_logger().info(
            f'model {values["model"]}: {detector.spec.layout.value} output, '
            f'{len(detector.spec.class_names)} class names, {detector.backend}'
        )
        for doubt in detector.spec.doubts:
            self.get_logger().warning(f'model {values["model"]}: {doubt}')
        if self._state == 'active':
            self._start_worker(detector)

    def _start_worker(self, detector: Detector) -> None:
        self._fault = self._device_lost
        assert self._streams is not None  # set by on_configure
        slots: FrameSlots[ReceivedFrame] = FrameSlots()
        self._worker = DetectionWorker(
            detector, slots, self._current_settings, self._on_frame_error, self.context.ok
        )
        self._worker.start()
        self._streams.limit_rate(self._current_settings().max_rate_hz)
        self._streams.subscribe(slots)

    def _publish_labels(self, detector: Detector, model: str) -> None:
        """Publish class names and method once, latched, for whoever comes later."""
        stamp = self.get_clock().now().to_msg()
        info = VisionInfo()
        info.header.stamp = stamp
        info.method = f'YOLOv7 ({model}), {detector.backend}'
        info.database_location = f'{self.get_fully_qualified_name()}/label_info'
        messages = [('~/vision_info', info)]
        labels = label_info_msg(
            detector.spec.class_names, stamp, self._current_settings().detect.score_threshold
        )
        if labels is not None:
            messages.append(('~/label_info', labels))
        for topic, message in messages:
            publisher = self.create_publisher(type(message), topic, qos.LATCHED)
            publisher.publish(message)
            self._latched.append(publisher)

    def _stop_worker(self) -> None:
        if self._worker is not None and self._streams is not None:
            self._streams.close()
            self._worker.stop()
            self._worker = None

    def _close_detector(self) -> None:
        if self._detector is not None:
            self._detector.close()
            self._detector = None

    def _stop_build(self) -> None:
        if self._build is not None:
            if not self._build.cancel(_CANCEL_WAIT_S):
                self.get_logger().warning('a cancelled build goes on until it can be stopped')
            self._build = None

    def _release(self) -> None:
        self._stop_build()
        self._stop_worker()
        if self._streams is not None:
            self._streams.destroy()
        for publisher in self._latched:
            self.destroy_publisher(publisher)
        self._close_detector()
        self._streams, self._latched = None, []
        self._state = 'unconfigured'

    # Parameters --------------------------------------------------------------------------------

    def _current_settings(self) -> parameters.NodeSettings:
        assert self._settings is not None  # set by on_configure
        return self._settings

    def _on_set_parameters(self, changes: list[Parameter[Any]]) -> SetParametersResult:
        """Check all, then apply all; nothing is applied when one is refused."""
        detector = self._detector
        try:
            checked = parameters.check_changes(
                {change.name: change.value for change in changes},
                configured=self._state in ('inactive', 'active'),
            )
            self._trusted.check(checked)
            values = read_parameters(self, parameters.PARAMETERS) | checked
            topics = self._changed_topics(checked, values)
            # Without a model yet, `_use_detector` reads them when it has come.
            if detector is not None:
                self._settings = parameters.node_settings(values, detector.spec.class_names)
            if self._streams is not None:
                self._streams.limit_rate(values['max_rate_hz'])
                if topics is not None:
                    self._streams.set_topics(topics)
        except SettingError as exc:
            return SetParametersResult(successful=False, reason=str(exc))
        return SetParametersResult(successful=True)

    def _changed_topics(
        self, changes: Mapping[str, Any], values: Mapping[str, Any]
    ) -> tuple[list[str], list[str]] | None:
        """Return the topics that are wanted from now on, checked; None where that stays."""
        names = ('image_topics', 'detections_topics')
        if self._streams is None or not any(name in changes for name in names):
            return None
        return self._streams.check(*(values[name] for name in names))

    # Health ------------------------------------------------------------------------------------

    def _on_frame_error(self, text: str) -> None:
        """Note an error of one frame; called in the worker's thread."""
        self._last_error, self._last_error_ns = text, time.monotonic_ns()
        self.get_logger().warning(f'frame not used: {text}', throttle_duration_sec=_WARN_PERIOD_S)

    def _note_fault(self, text: str, *, device_lost: bool = False) -> None:
        self._fault = self._last_error = text
        if device_lost:
            self._device_lost = text
        self.get_logger().error(text)

    def _note_worker_fault(self) -> None:
        if self._worker is not None and self._worker.fault and not self._fault:
            self._note_fault(self._worker.fault, device_lost=self._worker.device_lost)

    def _every_second(self) -> None:
        if self._worker is not None and self._streams is not None:
            self._streams.follow()
        self._note_worker_fault()
        message = DiagnosticArray(status=[self._node_status(), *self._topic_statuses()])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)
        if self._device_lost and self.get_parameter('on_device_lost').value == parameters.EXIT:
            self._leave()

    def _leave(self) -> None:
        """End the process, once everybody has heard the diagnostics."""
        code = DEVICE_LOST_EXIT_CODE
        self.get_logger().fatal(f'ending with exit status {code}: {self._device_lost}')
        self._diagnostics.wait_for_all_acked(Duration(seconds=_LAST_WORDS_S))
        end_process(self, code)

    def _node_status(self) -> Any:
        facts: dict[str, str] = {}
        busy = ''
        if self._detector is not None:
            model = str(self.get_parameter('model').value)
            facts = diagnostics.detector_facts(model, self._detector)
        if self._streams is not None:
            facts |= diagnostics.removed_facts(self._streams.removed_counts())
        if self._build is not None:
            busy = self._build.progress()
            self.get_logger().info(busy, throttle_duration_sec=_PROGRESS_PERIOD_S)
        recent = time.monotonic_ns() - self._last_error_ns < _ERROR_SHOWN_NS
        return diagnostics.node_status(
            self.get_fully_qualified_name(),
            self._state,
            facts | {'last error': self._last_error or 'none'},
            error=self._fault or (self._last_error if recent else ''),
            busy=busy,
        )

    def _topic_statuses(self) -> list[Any]:
        if self._worker is None or self._streams is None:
            return []
        name = self.get_fully_qualified_name()
        return [
            diagnostics.topic_status(name, topic, stream.statistics, stream.problem)
            for topic, stream in self._streams.items()
        ]


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to stop; returns the exit code."""
    return exit_over_builds(run_node('detector', DetectorNode, args))


if __name__ == '__main__':
    raise SystemExit(main())
