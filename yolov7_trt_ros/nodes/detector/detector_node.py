r"""
The detector node: image topics in, vision_msgs/Detection2DArray out.

    ros2 run yolov7_trt_ros detector_node --ros-args -p autostart:=true \
        -p image_topics:=/camera/image_raw

A lifecycle node: configure loads the model, activate subscribes. Inference runs in a worker
thread on the latest frame of each topic; callbacks do not wait for it. If a TensorRT plan has to
be built first, that runs in a separate thread too. docs/interfaces.md lists topics, parameters
and diagnostics.

"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import contextlib
from functools import partial
import traceback
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from yolov7_trt_ros.bank.update.engine_bank import OpenModel
from yolov7_trt_ros.core.detector import Detector
from yolov7_trt_ros.core.plain_text import one_line
from yolov7_trt_ros.core.tracks.tracking import TrackSet
from yolov7_trt_ros.errors import DeviceLostError, SettingError
from yolov7_trt_ros.nodes.below_rclpy.direct_take import AUTO, choose_receive
from yolov7_trt_ros.nodes.callback_net import failures_of
from yolov7_trt_ros.nodes.detector.configured import Configured, LoadedModel
from yolov7_trt_ros.nodes.detector.detector_status import log_model, node_status, unused_size
from yolov7_trt_ros.nodes.detector.faults import Faults
from yolov7_trt_ros.nodes.detector.labels import LatchedLabels
from yolov7_trt_ros.nodes.detector.model_loading import ModelLoading
from yolov7_trt_ros.nodes.detector.model_update import ModelUpdates
from yolov7_trt_ros.nodes.detector.more_engines import MoreEngines
from yolov7_trt_ros.nodes.detector.parameter_changes import ParameterChanges
from yolov7_trt_ros.nodes.detector.pause_energy import PauseEnergy
from yolov7_trt_ros.nodes.detector.plan_build import Engine, exit_despite_builds
from yolov7_trt_ros.nodes.detector.single_shot import SingleShot
from yolov7_trt_ros.nodes.detector.worker.detection_worker import DetectionWorker, FrameSource
from yolov7_trt_ros.nodes.detector_parameters import parameters
from yolov7_trt_ros.nodes.detector_parameters.settings import (
    node_settings,
    NodeSettings,
    update_limits,
)
from yolov7_trt_ros.nodes.detector_parameters.topic import (
    declare_given,
    describe_new,
    held_values,
    is_of_topic,
    warn_of_idle_topics,
)
from yolov7_trt_ros.nodes.detector_parameters.trusted_folders import TrustedFolders
from yolov7_trt_ros.nodes.images.image_stream import ImageStream
from yolov7_trt_ros.nodes.images.stream_set import stream_set
from yolov7_trt_ros.nodes.parameter_spec import (
    declare_parameters,
    held_parameters,
    read_parameters,
    SteadyParameters,
)
from yolov7_trt_ros.nodes.process.namesakes import Namesakes
from yolov7_trt_ros.nodes.process.node_main import end_process, run_node
from yolov7_trt_ros.nodes.process.process_setup import malloc_text
from yolov7_trt_ros.nodes.prometheus_file import PROMETHEUS_FILE, PrometheusFile
from yolov7_trt_ros.nodes.steady_clock import steady_clock
from yolov7_trt_ros.nodes.topic_names import resolve_names
from yolov7_trt_ros.power.telemetry.sample import TelemetrySource
from yolov7_trt_ros.power.telemetry.source import find_source

_PROGRESS_PERIOD_S = 10.0
_LAST_WORDS_S = 1
_REASON_CHARACTERS = 2000
_ACTIVE = ('activating', 'active')  # labels of rclpy's
DEVICE_LOST_EXIT_CODE = 3
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
ERROR = TransitionCallbackReturn.ERROR


class DetectorNode(SteadyParameters, LifecycleNode):
    """
    The lifecycle node `detector`.

    configure: reads the parameters, loads and warms the model, creates publishers; FAILURE, with a
    reason in the log, leaves it unconfigured. If a plan must be built first, it succeeds at once
    and the model is opened later. activate: starts the worker and subscribes, at the latest when
    the model is open. deactivate: unsubscribes and finishes the frame in work. cleanup, shutdown:
    stop a build and free the model. On error: frees everything and returns to unconfigured.
    After the CUDA context is lost, the node cannot use a GPU any more: depending on
    `on_device_lost` it stays and reports that, or ends with `DEVICE_LOST_EXIT_CODE`.

    Parameters
    ----------
    engine
        Opens detectors and builds plans; replaced in tests.
    power
        Opens the power telemetry of the machine, to measure what pauses save.
    node_arguments
        For LifecycleNode.

    """

    _at_end = contextlib.ExitStack()  # empty until there is something to free

    def __init__(
        self, *, engine: Engine | None = None,
        power: Callable[[], TelemetrySource] = find_source, **node_arguments: Any,
    ) -> None:
        # `may_have` refuses undeclared parameters other than those of topics.
        super().__init__('detector', allow_undeclared_parameters=True, **node_arguments)
        engine = engine or Engine()
        self._configured: Configured | None = None
        self._labels = LatchedLabels(self)
        self._tracks = TrackSet()  # kept for the node's life, so that ids are unique
        self._faults = Faults(self.get_logger())
        self._unfit = ''  # why settings are not those of the serving model's classes
        self._pause_energy = PauseEnergy(power)
        self._single_shot = SingleShot(self, self._begin_single_shot, self._end_single_shot)
        self._updates = ModelUpdates(self, engine, self._on_serving)
        self._more = MoreEngines(self, engine)
        self._loading = ModelLoading(self, engine, self._updates.expect, self._on_load_failure)
        self._namesakes = Namesakes(self)
        self._at_end = contextlib.ExitStack()
        self._at_end.callback(self._release)
        declare_parameters(self, parameters.PARAMETERS)
        self._trusted = TrustedFolders(read_parameters(self, parameters.FILE_PARAMETERS))
        self._changes = ParameterChanges(self, self._updates, self._more, self._trusted)
        self._prometheus = PrometheusFile(
            read_parameters(self, [PROMETHEUS_FILE])[PROMETHEUS_FILE.name],
            self.get_logger().warning, self.get_fully_qualified_name(),
        )
        self._at_end.callback(self._prometheus.close)
        for spec in parameters.TOPIC_PARAMETERS:
            resolve_names(self, spec.name, str(spec.check(self.get_parameter(spec.name).value)))
        declare_given(self)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._second_timer = self.create_timer(1.0, self._every_second, clock=steady_clock())
        if self.get_parameter('autostart').value:
            self._autostart_timer = self.create_timer(0.0, self._autostart, clock=steady_clock())
        else:
            self._log_how_to_start()

    # Lifecycle ---------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model, or start to build its plan; on FAILURE the log says why."""
        self._faults.forget()
        answer = self._run_transition('configure', self._configure, FAILURE)
        if answer != SUCCESS:
            self._release()
        return answer

    def _configure(self) -> None:
        values = read_parameters(self, parameters.PARAMETERS)
        direct, receive = choose_receive(self, values['receive'])
        if values['receive'] == AUTO and direct is None:
            self.get_logger().info(f'images are received through rclpy, {receive}')
        self._configured = Configured(
            self, stream_set(self, values, self._faults.note_frame_error), direct, receive,
            new_worker=self._new_worker,
            pause_reason=lambda: '' if self._is_active else self._state,
        )
        self._loading.load(
            values | self._trusted.files_to_open(values),
            partial(self._use_detector, self._configured),
        )

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker and subscribe, if the model is open."""
        answer = self._run_transition('activate', self._start_if_loaded, FAILURE)
        if answer != SUCCESS and self._configured is not None:
            self._configured.stop()
        return answer

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and finish the frame in work."""
        return self._run_transition('deactivate', self._deactivate, ERROR)

    def _deactivate(self) -> None:
        if self._configured is not None:
            self._faults.note_worker(self._configured.worker)
            self._configured.stop()

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop a build, free the model and destroy the publishers."""
        self._faults.forget_passing()
        self._updates.give_up()
        self._release()
        return SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything, from any state."""
        self._faults.fault = ''
        self._release()
        return SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything after a transition that raised; back to unconfigured."""
        if not self._faults.fault:
            self._faults.note(f'a transition from {state.label} failed')
        self._free({'the update': self._updates.give_up})
        self._release()
        return SUCCESS

    def destroy_node(self) -> None:
        """Free everything, destroy the node and take it off the graph."""
        self._at_end.close()
        super().destroy_node()
        # It holds the node in C: rclpy keeps that on the graph, and its name's place on /rosout,
        # until Python collects a cycle at some later time.
        vars(self).pop('_state_machine', None)

    def _run_transition(
        self, what: str, work: Callable[[], None], otherwise: TransitionCallbackReturn
    ) -> TransitionCallbackReturn:
        """Do the work of a transition; if that fails, log why and return `otherwise`."""
        try:
            work()
        except Exception as exc:  # rclpy would drop it, and the reason with it
            if not self.context.ok():
                return otherwise  # a signal has shut the context down
            self._faults.note_failure(f'cannot {what}', exc)
            self.get_logger().debug(traceback.format_exc())
            return otherwise
        return SUCCESS

    def _autostart(self) -> None:
        self._autostart_timer.cancel()
        if self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    def _log_how_to_start(self) -> None:
        name = self.get_fully_qualified_name()
        self.get_logger().info(
            f'lifecycle node, unconfigured: detects nothing until `ros2 lifecycle set {name} '
            'configure` and then `activate`; to do both at start: -p autostart:=true'
        )

    @property
    def _state(self) -> str:
        """Return the label of rclpy's lifecycle state, or of the transition under way."""
        return str(self._state_machine.current_state[1])

    @property
    def _is_active(self) -> bool:
        return self._state in _ACTIVE

    # Model -------------------------------------------------------------------------------------

    def _on_load_failure(self, error: Exception, plan_reason: str) -> None:
        """Note why there is no detector after a build; stop a worker that was just started."""
        configured = self._configured
        worker = {} if configured is None else {'the worker': configured.stop}
        self._free(worker | {'the model': partial(self._close_model, configured)})
        if isinstance(error, DeviceLostError):
            self._faults.note_failure('no detector, restart the node', error)
        else:
            self._faults.note_failure(
                'no detector', error,
                f'. Fix that, then cleanup and configure (a plan was needed: {plan_reason})',
            )

    def _use_detector(self, configured: Configured, detector: Detector) -> None:
        """Use a newly opened detector, and start to detect if the node is active."""
        with contextlib.ExitStack() as opened:  # closed if a step fails
            opened.callback(detector.close)
            values = read_parameters(self, parameters.PARAMETERS)
            of_topics = held_values(self)
            settings = node_settings(values, detector.spec.class_names, of_topics)
            warn_of_idle_topics(self, of_topics, values['image_topics'])
            bank = self._updates.use(detector, values['model'], update_limits(values))
            opened.pop_all()
            opened.callback(bank.close)  # which closes the detector
            named = values | self._trusted.files_to_open(values)
            whole = self._more.join(bank, named, self._trusted)
            configured.model = LoadedModel(whole, settings)
            opened.pop_all()
        if self._is_active:
            self._start_if_loaded()

    def _start_if_loaded(self) -> None:
        """Start to detect, if the model is open."""
        configured = self._configured
        if configured is not None and configured.model is not None:
            self._faults.forget_passing()
            configured.start(configured.model)

    def _on_serving(self, model: OpenModel) -> None:
        """Report the model that serves from now on, and adapt the settings to its classes."""
        values = held_parameters(self, parameters.PARAMETERS)
        self._fit_settings(model, values)
        if self._unfit:
            self.get_logger().warning(self._unfit)
        self._labels.publish(model, values['score_threshold'])
        log_model(self.get_logger(), model, self._updates.wire)
        if note := unused_size(model.detector.spec, values):
            self.get_logger().warning(note)

    def _fit_settings(self, model: OpenModel, values: dict[str, Any]) -> None:
        """Use the settings for the classes of a model; where they do not fit, note why."""
        loaded = self._configured.model if self._configured is not None else None
        self._unfit = ''
        if loaded is None:  # the first model: its settings are made with it
            return
        try:
            names = model.detector.spec.class_names
            loaded.settings = node_settings(values, names, held_values(self))
        except SettingError as exc:  # they were set while the model was opened
            self._unfit = one_line(
                f'{model.model.name} serves, but parameters do not fit it, and classes that only '
                f'the former model has are not detected: {exc}', _REASON_CHARACTERS,
            )

    def _new_worker(
        self, detector: Detector, images: FrameSource,
        settings: Callable[[], NodeSettings],
    ) -> DetectionWorker:
        return self._more.new_worker(
            detector, self._updates, images, settings, self._faults.note_frame_error,
            self.context.ok, failures_of(self).note, self._updates.answered, self._tracks,
        )

    def _begin_single_shot(self) -> Mapping[str, ImageStream] | str:
        """Prepare to detect and return the streams, or return why that is not possible."""
        configured = self._configured
        if configured is not None:
            self._faults.note_worker(configured.worker)
        if configured is None or configured.model is None:
            reason = self._faults.fault or self._loading.progress()
            return reason or f'no model is loaded: the node is {self._state}'
        if self._faults.fault:
            return self._faults.fault
        if configured.worker is None:
            self._start_if_loaded()
            configured.streams.sync_with_graph()  # topics of patterns
        return dict(configured.streams) or 'there is no image topic at present'

    def _end_single_shot(self) -> None:
        if self._configured is not None and not self._is_active:
            self._configured.stop()

    def _close_model(self, configured: Configured | None) -> None:
        self._more.forget()
        if configured is not None and configured.model is not None:
            detector, configured.model = configured.model.detector, None
            detector.close()
        self._updates.close()

    def _release(self) -> None:
        """Free everything, in any state."""
        configured, self._configured = self._configured, None
        self._unfit = ''
        steps: dict[str, Callable[[], None]] = {'the build': self._loading.stop}
        if configured is not None:
            steps |= {'the worker': configured.stop, 'topics': configured.streams.destroy}
        steps |= {
            'labels': self._labels.destroy,
            'the model': partial(self._close_model, configured),
            'the power meter': self._pause_energy.stop,
        }
        self._free(steps)

    def _free(self, steps: Mapping[str, Callable[[], None]]) -> None:
        """Do all steps; a failed one is noted and does not stop the next ones."""
        for what, free in steps.items():
            try:
                free()
            except Exception as exc:  # of the engine or of ROS
                failures_of(self).note(f'freeing {what}', exc)

    # Parameters --------------------------------------------------------------------------------

    def set_parameters_atomically(
        self, parameter_list: list[Parameter[Any]]
    ) -> SetParametersResult:
        """Set all or nothing; see `rclpy.node.Node`."""
        result = super().set_parameters_atomically(parameter_list)
        if result.successful:
            describe_new(self, parameter_list)
        return result

    def may_have(self, name: str) -> bool:
        """Whether a parameter may be set: it exists, or is one of a topic."""
        return is_of_topic(name) or super().may_have(name)

    def _on_set_parameters(self, changes: list[Parameter[Any]]) -> SetParametersResult:
        """Check all, then apply all; if one is refused, nothing is applied."""
        values = {change.name: change.value for change in changes}
        if self._updates.is_own(values):
            return SetParametersResult(successful=True)
        try:
            self._changes.apply(values, self._configured, active=self._is_active)
        except SettingError as exc:
            return SetParametersResult(successful=False, reason=one_line(exc, _REASON_CHARACTERS))
        return SetParametersResult(successful=True)

    # Health ------------------------------------------------------------------------------------

    def _sync_with_graph(self, configured: Configured) -> None:
        try:
            configured.sync_with_graph()
            if configured.worker is not None:
                self._updates.keep_topics(list(configured.streams))
        except Exception as exc:  # of the middleware: diagnostics must continue
            failures_of(self).note('looking for publishers', exc)

    def _every_second(self) -> None:
        configured = self._configured
        if configured is not None:
            self._sync_with_graph(configured)
        self._updates.tick()
        if self._unfit and self._updates.bank is not None:  # parameters may fit by now
            values = held_parameters(self, parameters.PARAMETERS)
            self._fit_settings(self._updates.bank.serving, values)
        if configured is not None:
            self._faults.note_worker(configured.worker)
            works = configured.worker is not None and self._is_active
            streams = list(configured.streams.values()) if works else []
            self._pause_energy.tick(streams, may_pause=configured.may_pause)
        message = DiagnosticArray(status=[
            self._node_status(), *self._updates.diagnostics(), *self._more.diagnostics(),
            *(configured.topic_statuses() if configured is not None else ()),
        ])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)
        self._prometheus.put(message.status)
        ends = self.get_parameter('on_device_lost').value == parameters.EXIT
        if self._faults.device_lost and ends:
            self._leave()

    def _leave(self) -> None:
        """End the process after the last diagnostics have been received."""
        code = DEVICE_LOST_EXIT_CODE
        self.get_logger().fatal(f'ending with exit status {code}: {self._faults.device_lost}')
        self._diagnostics.wait_for_all_acked(Duration(seconds=_LAST_WORDS_S))
        end_process(self, code)

    def _node_status(self) -> DiagnosticStatus:
        configured = self._configured
        values = self._updates.status()
        busy = (
            self._namesakes.problem() or failures_of(self).warning() or self._prometheus.problem
        )
        busy = busy or self._unfit
        worker = configured.worker if configured is not None else None
        if worker is not None:
            values |= worker.status()
            busy = worker.hang or busy
        serving = self._updates.bank
        if serving is not None and (look := self._loading.look_of(serving.serving.detector)):
            values.setdefault('second look', look)
        if configured is not None:
            values |= configured.status() | self._pause_energy.status()
        if progress := self._loading.progress():
            busy = progress
            self.get_logger().info(busy, throttle_duration_sec=_PROGRESS_PERIOD_S)
        return node_status(
            self.get_fully_qualified_name(),
            self._state,
            values | {
                'malloc': malloc_text(), 'last error': self._faults.last_error or 'none',
            } | failures_of(self).status(),
            error=self._faults.text(),
            busy=busy,
        )


def main(args: list[str] | None = None) -> int:
    """Run the node until it is stopped; return the exit code."""
    return exit_despite_builds(run_node(
        'detector', DetectorNode, args, about=__doc__, table=parameters.PARAMETERS
    ))


if __name__ == '__main__':
    raise SystemExit(main())
