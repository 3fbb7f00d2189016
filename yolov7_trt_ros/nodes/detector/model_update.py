"""ModelUpdates: replace the model while the node detects; see docs/bank.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import threading
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from yolov7_trt_ros.bank.update.engine_bank import EngineBank, OpenModel
from yolov7_trt_ros.bank.update.pipelined_bank import PipelinedBank
from yolov7_trt_ros.bank.update.update_machine import ModelId, Phase, UpdateLimits, UpdateStatus
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import Detector, PipelinedDetector
from yolov7_trt_ros.core.messages.serialized_image import MessageHeader
from yolov7_trt_ros.core.plain_text import one_line
from yolov7_trt_ros.core.units import NS_PER_S
from yolov7_trt_ros.engine.model_files import ModelFile
from yolov7_trt_ros.engine.options import DetectorOptions
from yolov7_trt_ros.errors import SettingError, Yolov7TrtError
from yolov7_trt_ros.nodes import qos
from yolov7_trt_ros.nodes.detector.detector_status import model_values
from yolov7_trt_ros.nodes.detector.plan_build import CandidateOpening, Engine
from yolov7_trt_ros.nodes.detector.worker.detections_wire import DetectionsWire
from yolov7_trt_ros.nodes.diagnostics import make_status
from yolov7_trt_ros.nodes.process.process_setup import returning_freed_memory

_CANCEL_WAIT_S = 1.0
_WARN_PERIOD_S = 5.0
_NO_MODEL = 'there is no model yet: wait until the node is configured and its plan is built'


class ModelUpdates:
    """
    Opens new models and reports their state on `~/update`, in services and in diagnostics.

    Everything but `answered` and `make` is for the executor's thread.

    Parameters
    ----------
    node, engine
        The node, and what opens detectors.
    on_serving
        Called with the model that serves, when it changes.

    Attributes
    ----------
    engine
        What opens the next model.

    """

    def __init__(
        self, node: Node, engine: Engine, on_serving: Callable[[OpenModel], None]
    ) -> None:
        self._node, self.engine, self._on_serving = node, engine, on_serving
        self.bank: EngineBank | None = None
        self._file: ModelFile | None = None
        self._opening: tuple[ModelId, CandidateOpening] | None = None
        self._serving: ModelId | None = None
        self._wires: Mapping[tuple[str, ...], DetectionsWire] = {}
        self._lock = threading.Lock()  # of `_since`, which two threads use
        self._since: dict[str, tuple[int, int]] = {}
        self._published: dict[str, str] = {}
        self._held: str | None = None
        self._publisher = node.create_publisher(DiagnosticStatus, '~/update', qos.LATCHED)
        self._changed = node.create_guard_condition(self._process_changes)
        for name, act in (('promote', EngineBank.promote), ('roll_back', EngineBank.roll_back)):
            node.create_service(Trigger, f'~/{name}', self._service(act))

    # ---- the models

    def expect(self, engine: Engine, model: str) -> None:
        """Note which engine opens the first model, and the state of its file before that."""
        self.engine, self._file = engine, ModelFile(model)

    def use(self, detector: Detector, model: str, limits: UpdateLimits) -> EngineBank:
        """Take the first detector; return the bank to detect with."""
        kind = PipelinedBank if isinstance(detector, PipelinedDetector) else EngineBank
        sha256 = self._file.sha256() if self._file is not None else ''
        self.bank = kind(
            detector, model, sha256, limits, on_change=self._changed.trigger,
            close_engine=_close_engine,
        )
        self._prepare(detector)
        self._process_changes()
        return self.bank

    def check(self, model: str, limits: UpdateLimits) -> None:
        """Raise SettingError if another model cannot be requested now, with these limits."""
        if self.bank is None:
            raise SettingError(_NO_MODEL)
        self.bank.check(model, limits)

    def is_open(self, model: object) -> bool:
        """Whether this is the name of a model that serves or is kept: no file is opened for it."""
        if self.bank is None:
            return False
        status = self.bank.update_status()
        kept = status.other if status.phase is Phase.KEPT else None
        return model in [each.name for each in (status.serving, kept) if each is not None]

    def is_own(self, changes: Mapping[str, Any]) -> bool:
        """Whether these changes of parameters only say what serves, or is requested, already."""
        return self._held is not None and dict(changes) == {'model': self._held}

    @property
    def serving(self) -> str:
        """Return the name of the model that serves, '' before there is one."""
        return self.bank.serving.model.name if self.bank is not None else ''

    def limit(self, limits: UpdateLimits) -> None:
        """Use other limits."""
        if self.bank is not None:
            self.bank.limit(limits)

    def may_become(self, model: object, active: bool) -> bool:
        """Whether the parameter may be set; on an inactive node only to the serving model."""
        return self.bank is not None and (active or self.bank.serving.model.name == model)

    def ask(
        self, model: str, options: DetectorOptions | None, limits: UpdateLimits, *,
        may_build: bool, fits: Callable[[tuple[str, ...]], object],
    ) -> None:
        """
        Begin an update, or end one by naming the model that serves.

        Parameters
        ----------
        model
            Its path or name, as requested.
        options
            Options to open it with; None if its file may not be opened.
        limits
            How this update goes.
        may_build
            Whether its plan may be built.
        fits
            Raises SettingError if the settings do not fit these classes; in any thread.

        Raises
        ------
        SettingError
            As `check`.

        """
        if self.bank is None:
            raise SettingError(_NO_MODEL)
        wanted = self.bank.ask(model, limits)
        if wanted is not None and options is None:  # a moment ago it was open
            self.bank.failed(wanted, 'its file may not be opened')
        elif wanted is not None and options is not None:
            self._stop_opening()
            names = self.bank.serving.detector.spec.class_names
            self._wires = {names: self._wires[names]}
            self._node.get_logger().info(f'update: opening {one_line(model)}')

            def prepare(detector: Detector) -> None:
                fits(detector.spec.class_names)
                self._prepare(detector)

            self._opening = wanted, CandidateOpening(
                self.engine, options, self._changed.trigger, may_build=may_build,
                prepare=prepare,
            )
        self._changed.trigger()  # not at once: the parameter is not set yet

    def give_up(self) -> None:
        """Drop a candidate, if there is one."""
        bank = self.bank
        if bank is not None and bank.update_status().phase in (Phase.OPENING, Phase.SHADOW):
            bank.roll_back()
            self._process_changes()

    def close(self) -> None:
        """Stop opening, and close all engines."""
        self._stop_opening()
        bank, self.bank, self._serving = self.bank, None, None
        with self._lock:
            self._since.clear()
        if bank is not None:
            bank.close()
            if self._node.context.ok():
                self._publish_none()

    def tick(self) -> None:
        """Do what is due; once a second."""
        if self.bank is not None:
            self.bank.tick()
            self._process_changes()

    # ---- for the thread that detects

    def make(self, detections: Detections, header: MessageHeader, class_id_format: str) -> Any:
        """Return the message of detections, with the classes of the model that found them."""
        assert self.bank is not None  # it has found them
        return self._wire_of(self.bank.spec.class_names).make(
            detections, header, class_id_format
        )

    def answered(
        self, frames: Sequence[tuple[str, int]], has_waiting: Callable[[], bool]
    ) -> None:
        """Note which model processed frames (topic, stamp); use the time until the next frame."""
        bank = self.bank
        assert bank is not None  # it has answered them
        number = bank.answered.model.number
        with self._lock:
            first = {
                topic: (number, stamp_ns) for topic, stamp_ns in frames
                if self._since.get(topic, (0, 0))[0] != number
            }
            self._since.update(first)
        if first:
            self._changed.trigger()
        bank.compare_last(has_waiting)

    # ---- for diagnostics

    @property
    def wire(self) -> DetectionsWire | None:
        """Return what makes the messages of the serving model."""
        if self.bank is None:
            return None
        return self._wire_of(self.bank.serving.detector.spec.class_names)

    def status(self) -> dict[str, str]:
        """Return the values of the serving model for diagnostics, none before there is one."""
        if self.bank is None:
            return {}
        serving = self.bank.serving
        wire = self._wire_of(serving.detector.spec.class_names)
        return model_values(serving.model.name, serving.detector) | {'published as': wire.form}

    def diagnostics(self) -> list[DiagnosticStatus]:
        """Return the status for /diagnostics, none before the first update."""
        if self.bank is None:
            return []
        status = self.bank.update_status()
        untouched = status.phase is Phase.STEADY and not status.last
        return [] if untouched else [self._status(self.bank, status)]

    def keep_topics(self, topics: Sequence[str]) -> None:
        """Forget all other topics."""
        with self._lock:
            self._since = {name: self._since[name] for name in topics if name in self._since}

    # ---- changes

    def _service(self, act: Callable[[EngineBank], str]) -> Callable[[Any, Any], Any]:
        def answer(_: Any, response: Any) -> Any:
            try:
                if self.bank is None:
                    raise SettingError(_NO_MODEL)
                response.success, response.message = True, one_line(act(self.bank))
            except SettingError as exc:
                response.success, response.message = False, one_line(exc)
            self._process_changes()
            return response

        return answer

    def _process_changes(self) -> None:
        """Take an opened model, and report what has changed."""
        bank = self.bank
        if bank is None:
            return
        self._take_opened(bank)
        status = bank.update_status()
        if self._opening is not None and status.other != self._opening[0]:
            self._stop_opening()
        if status.serving != self._serving:
            self._serving = status.serving
            self._on_serving(bank.serving)
        candidate = None if status.phase is Phase.KEPT else status.other
        self._hold_model((candidate or status.serving).name)
        message = self._status(bank, status)
        values = {each.key: each.value for each in message.values}
        if values != self._published:
            if values['last'] != self._published.get('last', ''):
                self._log(f'update: {values["last"]}', failed=status.last_failed)
            self._published = values
            self._publisher.publish(message)

    def _publish_none(self) -> None:
        """Say that no model serves any more: what is latched would be believed."""
        self._published = {'state': 'none'}
        self._publisher.publish(make_status(
            self._status_name, DiagnosticStatus.OK, 'there is no model', self._published
        ))

    @property
    def _status_name(self) -> str:
        return f'{self._node.get_fully_qualified_name()}: update'

    def _hold_model(self, model: str) -> None:
        """Set the parameter to the model that was asked for or, after a failed update, serves."""
        if self._node.get_parameter('model').value != model:
            self._held = model  # no file is opened for it, and nothing else depends on it
            try:
                result = self._node.set_parameters([Parameter('model', value=model)])[0]
            finally:
                self._held = None
            if not result.successful:
                self._node.get_logger().warning(
                    f'the parameter model differs from the model that serves: {result.reason}',
                    throttle_duration_sec=_WARN_PERIOD_S,
                )

    def _log(self, text: str, *, failed: bool) -> None:
        log = self._node.get_logger()
        if failed:  # rclpy needs a separate line of code for each severity
            log.warning(text)
        else:
            log.info(text)

    def _take_opened(self, bank: EngineBank) -> None:
        if self._opening is None:
            return
        model, opening = self._opening
        try:
            detector = opening.take()
        except Yolov7TrtError as exc:
            self._opening = None
            bank.failed(model, str(exc))
            return
        if detector is not None:
            self._opening = None
            bank.opened(model, detector, opening.sha256)

    def _prepare(self, detector: Detector) -> None:
        """Prepare the messages of a model before its first detections."""
        names = detector.spec.class_names
        if names not in self._wires:
            self._wires = {**self._wires, names: DetectionsWire(names)}

    def _wire_of(self, names: tuple[str, ...]) -> DetectionsWire:
        return self._wires.get(names) or DetectionsWire(names)

    def _stop_opening(self) -> None:
        opening, self._opening = self._opening, None
        if opening is not None and not opening[1].cancel(_CANCEL_WAIT_S):
            self._node.get_logger().warning('a cancelled build continues until it can be stopped')

    # ---- texts

    def _status(self, bank: EngineBank, status: UpdateStatus) -> DiagnosticStatus:
        progress = self._opening[1].progress() if self._opening is not None else ''
        with self._lock:
            since = dict(self._since)
        failed = status.last_failed and status.phase is Phase.STEADY
        return make_status(
            self._status_name,
            DiagnosticStatus.WARN if failed else DiagnosticStatus.OK,
            message_of(status, progress),
            values_of(status, bank.serving, progress, since),
        )


def _close_engine(detector: Detector) -> None:
    with returning_freed_memory():
        detector.close()


def message_of(status: UpdateStatus, progress: str) -> str:
    """Return the state of an update in one sentence; `progress` is that of opening."""
    other = status.other.name if status.other is not None else ''
    if status.phase is Phase.OPENING:
        return f'{other}: {progress or "open"}; {status.serving.name} serves'
    if status.phase is Phase.SHADOW:
        if status.agreement is None:
            return f'{other} is not compared yet: this needs frames, and time between them'
        return (
            f'{other} is compared: {status.frames} of {status.wanted_frames} frames, '
            f'{status.detections} of {status.wanted_detections} detections, agreement '
            f'{status.agreement:.4f}'
        )
    if status.phase is Phase.KEPT:
        return (
            f'{status.serving.name} serves, {other} is kept for '
            f'{status.keep_left_ns / NS_PER_S:.0f} s'
        )
    return status.last or f'{status.serving.name} serves'


def values_of(
    status: UpdateStatus, serving: OpenModel, progress: str, since: Mapping[str, tuple[int, int]]
) -> dict[str, str]:
    """
    Return the values of an update for diagnostics.

    Parameters
    ----------
    status, progress
        As for `message_of`.
    serving
        The model that serves.
    since
        By image topic: the model that was used last, and the stamp (ns) of its first image.

    """
    values = {
        'state': status.phase.value, 'serving': serving.model.name,
        'number': str(serving.model.number), 'sha256': serving.sha256 or 'unknown',
    }
    if status.other is not None:
        kind = 'kept' if status.phase is Phase.KEPT else 'candidate'
        values[kind] = status.other.name
        values[f'{kind} number'] = str(status.other.number)
    if progress:
        values['progress'] = progress
    if status.agreement is not None:
        values |= {
            'frames compared': f'{status.frames} of {status.wanted_frames}',
            'detections compared': f'{status.detections} of {status.wanted_detections}',
            'agreement': f'{status.agreement:.4f}',
            'score drift (p95)': f'{status.drift_p95:.4f}',
            'latency ratio': f'{status.latency_ratio:.2f}',
        }
    if status.phase is Phase.KEPT:
        values['kept for (s)'] = f'{status.keep_left_ns / NS_PER_S:.0f}'
    values['last'] = status.last
    for topic, (number, stamp_ns) in sorted(since.items()):
        seconds, rest_ns = divmod(stamp_ns, NS_PER_S)
        values[f'since {topic}'] = f'model {number}, {seconds}.{rest_ns:09d}'
    return values
