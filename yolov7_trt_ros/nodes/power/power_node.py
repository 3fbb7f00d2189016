r"""
The power node: sets power mode, clocks and fan of a board by parameters; publishes telemetry.

    ros2 run yolov7_trt_ros power_node --ros-args -p emulate:=orin_nano_super
    ros2 param set /power_manager power_mode MAXN_SUPER

Changes are made in one thread, telemetry is read in another, and a callback waits only for a
limited time. `main` spins with two threads: while one waits for a change, the other continues.
docs/power.md lists topics, parameters and diagnostics.

"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
import dataclasses
from functools import partial
import math
import threading
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy._rclpy_pybind11 import RCLError
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
import rclpy.logging
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import Float32
from vision_msgs.msg import Detection2DArray

from yolov7_trt_ros.core.messages.serialized_image import read_stamp_ns
from yolov7_trt_ros.core.plain_text import one_line
from yolov7_trt_ros.core.units import MS_PER_S
from yolov7_trt_ros.errors import PowerError, SettingError
from yolov7_trt_ros.nodes.callback_net import failures_of
from yolov7_trt_ros.nodes.job_thread import Job, JobThread
from yolov7_trt_ros.nodes.parameter_spec import (
    declare_parameters,
    read_parameters,
    SteadyParameters,
)
from yolov7_trt_ros.nodes.power import power_parameters as parameters
from yolov7_trt_ros.nodes.power.board_holding import BoardHolding
from yolov7_trt_ros.nodes.power.changes import (
    AppliedParameter,
    BoardActuators,
    BoardChanges,
    find_board_change,
)
from yolov7_trt_ros.nodes.power.deadlines import find_deadlines
from yolov7_trt_ros.nodes.power.frames import EnergyPerFrame, FrameLog
from yolov7_trt_ros.nodes.power.governor_loop import GovernorLoop
from yolov7_trt_ros.nodes.power.gpu_holding import GpuHolding
from yolov7_trt_ros.nodes.power.mode_watch import ModeWatch
from yolov7_trt_ros.nodes.power.power_diagnostics import Health, part_statuses, power_status
from yolov7_trt_ros.nodes.power.power_settings import ParameterValue, PowerSettings
from yolov7_trt_ros.nodes.power.sampler import Sampler
from yolov7_trt_ros.nodes.process.namesakes import Namesakes
from yolov7_trt_ros.nodes.process.node_main import run_node
from yolov7_trt_ros.nodes.prometheus_file import PrometheusFile
from yolov7_trt_ros.nodes.steady_clock import steady_clock
from yolov7_trt_ros.nodes.topic_names import resolve_topics
from yolov7_trt_ros.power.board.identity import JETSON
from yolov7_trt_ros.power.board_control import BoardControl, open_control
from yolov7_trt_ros.power.gpu_clock import BoardGpuClock, GpuClock
from yolov7_trt_ros.power.machine import PowerHost, this_host
from yolov7_trt_ros.power.nvml.gpu import NvmlGpu
from yolov7_trt_ros.power.nvml.gpu_journal import GpuJournal
from yolov7_trt_ros.power.telemetry.sample import BoardSample, TelemetrySource
from yolov7_trt_ros.power.telemetry.source import find_source
from yolov7_trt_ros.power.units import MW_PER_W

NAME = 'power_manager'
THREADS = 2
ANSWER_FACTOR = 1.5
"""Time limit of setting a parameter, as a multiple of `tool_timeout_s`."""

STATUS_PERIOD_S = 1.0
NOTICE_PERIOD_S = 0.4
"""Period of checking for power modes set by other programs; it reads no file."""

WATCH_PERIOD_S = 5.0
"""Period of reading power mode and jetson_clocks, which starts a tool of the board."""

_BUSY_S = 1.0
_STOP_S = 2.0
_AT_ONCE_S = 5.0
_FLOATS = ('power_w', 'gpu_load', 'temperature_c', 'joules_per_frame')


class PowerNode(SteadyParameters):
    """
    The node `power_manager`.

    Parameters
    ----------
    host
        The machine to read and change; None: the one that the parameter `emulate` selects.
    status_period_s
        Period of the diagnostics.
    node_arguments
        Passed to Node.

    """

    _parts = ExitStack()  # empty until the constructor has finished
    left_changed = False

    def __init__(
        self, *, host: PowerHost | None = None, status_period_s: float = STATUS_PERIOD_S,
        **node_arguments: Any,
    ) -> None:
        super().__init__(NAME, **node_arguments)
        declare_parameters(self, parameters.PARAMETERS)
        settings = PowerSettings(**read_parameters(self, parameters.PARAMETERS))
        self._topics = resolve_topics(self, 'detections_topics', settings.detections_topics)
        deadlines_ms = find_deadlines(self, settings.topic_deadlines_ms, self._topics)
        self._settings = dataclasses.replace(settings, deadlines_ms=deadlines_ms)
        self._settings_lock = threading.Lock()  # held to replace them; not to read them
        with ExitStack() as parts:  # a signal during the start makes calls of rcl fail
            self._open_board(host, parts)
            self._start_threads(parts)
            self._create_topics(status_period_s, parts)
            self.add_on_set_parameters_callback(self._on_set_parameters)
            self._holding = self._hold_board()
            self._changes.start()
            self._sampler.start()
            self._parts = parts.pop_all()

    def destroy_node(self) -> None:
        """End the threads, restore the board, and destroy the node."""
        self._parts.close()
        super().destroy_node()

    # Start and end -----------------------------------------------------------------------------

    def _open_board(self, host: PowerHost | None, parts: ExitStack) -> None:
        self._host = _open_host(self._settings.emulate) if host is None else host
        parts.callback(self._host.close)
        self._control = open_control(
            self._host.root, self._host.runner, socket=self._host.power_socket,
            dry_run=self._settings.dry_run, report=self._log_change,
            timeout_s=self._settings.tool_timeout_s, program='power node',
        )
        parts.callback(self._control.close)
        self._board = self._control.board()
        self._gpu = self._find_gpu()
        parts.callback(self._gpu.close)
        parameters.declare_facts(self, self._find_facts())

    def _start_threads(self, parts: ExitStack) -> None:
        """Make the threads that change and watch the board; they stop in reverse order."""
        parts.callback(self._put_back)
        self._mode_watch = ModeWatch(self._control, self._host.root, self._board)
        parts.callback(self._mode_watch.close)
        self._worker = JobThread('power_changes')
        parts.callback(self._worker.close, self._settings.tool_timeout_s * ANSWER_FACTOR)
        self._watched_s = -math.inf
        self._logged: set[str] = set()
        self._namesakes = Namesakes(self)
        self._governor = GovernorLoop(self._submit_step)
        parts.callback(self._governor.stop)
        self._changes = BoardChanges(
            self._worker, BoardActuators(self._control, self._gpu, self._governor),
            settings=lambda: self._settings, before=lambda: self._holding.take_first(),
            put=self._put_parameter, on_success=self._note_change,
        )
        self._frames, self._energy = FrameLog(), EnergyPerFrame()
        self._joules_per_frame: float | None = None
        self._sampler = Sampler(
            self._open_source, lambda: 1.0 / self._settings.sample_rate_hz, self._take
        )
        parts.callback(self._sampler.stop, _STOP_S)

    def _create_topics(self, status_period_s: float, parts: ExitStack) -> None:
        self._observing = MutuallyExclusiveCallbackGroup()
        self._floats = {
            name: self.create_publisher(Float32, f'~/{name}', 10) for name in _FLOATS
        }
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._prometheus = PrometheusFile(
            self._settings.prometheus_file, self.get_logger().warning,
            self.get_fully_qualified_name(),
        )
        parts.callback(self._prometheus.close)
        self._timer = self.create_timer(
            status_period_s, self._publish_status, callback_group=self._observing,
            clock=steady_clock(),
        )
        self._notice_timer = self.create_timer(
            NOTICE_PERIOD_S, self._notice_mode, callback_group=self._observing,
            clock=steady_clock(),
        )
        quality = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
        for name in self._topics:
            self.create_subscription(
                Detection2DArray, name.asked, partial(self._on_detections, name.full), quality,
                raw=True, callback_group=self._observing,
            )

    def _find_facts(self) -> dict[str, str | Sequence[str]]:
        """Return the values of the read-only parameters."""
        try:
            modes = [f'{mode.mode_id} {mode.name}' for mode in self._control.modes()]
        except PowerError as exc:
            self.get_logger().info(str(exc))
            modes = []
        self.get_logger().info(
            f'board: {self._board.name}; power modes: {", ".join(modes) or "none"}'
        )
        return {
            'board': self._board.name,
            'l4t_release': self._board.l4t_release,
            'available_power_modes': modes or [''],
        }

    def _find_gpu(self) -> GpuClock:
        """Return the GPU of the board, or of the PC."""
        if self._board.kind == JETSON or self._host.nvml is None:
            return BoardGpuClock(self._control)
        is_root = self._host.runner.is_root
        return NvmlGpu(
            self._host.nvml, dry_run=self._settings.dry_run, report=self._log_change,
            journal=GpuJournal(self._host.root, 'power node') if is_root else None,
        )

    def _open_source(self) -> TelemetrySource:
        source = find_source(
            self._host.root, self._host.runner, environment=self._host.environment,
            nvml=self._host.nvml,
            interval_ms=lambda: max(100, round(MS_PER_S / self._settings.sample_rate_hz)),
        )
        self.get_logger().info(f'telemetry from: {source.name}')
        return source

    def _put_back(self) -> None:
        # The context may be invalid, and with it the node's log on /rosout.
        log = rclpy.logging.get_logger(f'{NAME}.exit')
        if not self._changed():
            return
        if not self._settings.restore_on_exit:
            for part in (self._gpu, self._control):
                with suppress(PowerError):  # reported when the journal was taken
                    part.keep()
            return
        log.info(f'putting back: {", ".join(self._changed())}')
        for part in (self._gpu, self._control):
            try:
                _restore(part, log.info)
            except Exception as exc:  # also a defect: the other part is put back all the same
                self.left_changed = True
                log.error(f'not everything was put back: {exc}')

    def _hold_board(self) -> BoardHolding | GpuHolding:
        """Take control of a board; on a PC only restore the GPU after an earlier process."""
        log = self.get_logger()
        if self._board.kind != JETSON:
            return GpuHolding(
                self._gpu, self._worker, restores=lambda: self._settings.restore_on_exit,
                info=log.info,
            )
        return BoardHolding(
            self._control, self._worker, restores=lambda: self._settings.restore_on_exit,
            on_follow=lambda: self._changes.restart_governor(self._settings),
            changed=self._changed, info=log.info, warning=log.warning,
        )

    def _changed(self) -> tuple[str, ...]:
        return self._control.changed + self._gpu.changed

    # Parameters --------------------------------------------------------------------------------

    def _on_set_parameters(self, changes: list[Parameter[Any]]) -> SetParametersResult:
        """Check parameters, change the board if requested, and answer within the time limit."""
        try:
            checked = self._check_changes(changes)
            settings = dataclasses.replace(self._settings, **checked)
            settings.limits()  # raises if one is not positive
        except SettingError as exc:
            return SetParametersResult(successful=False, reason=one_line(exc))
        if name := find_board_change(changes):
            timeout_s = settings.tool_timeout_s * ANSWER_FACTOR
            reason = self._changes.change(name, settings, timeout_s, self.context.ok)
            if reason:
                return SetParametersResult(successful=False, reason=reason)
        self._replace_settings(checked)
        return SetParametersResult(successful=True)

    def _check_changes(self, changes: list[Parameter[Any]]) -> dict[str, Any]:
        asked = {change.name: change.value for change in changes}
        checked: dict[str, Any] = dict(parameters.check_changes(asked, self._settings))
        if 'topic_deadlines_ms' in checked:
            text = checked['topic_deadlines_ms']
            checked['deadlines_ms'] = find_deadlines(self, text, self._topics)
        return checked

    def _replace_settings(self, changes: Mapping[str, Any]) -> None:
        with self._settings_lock:
            self._settings = dataclasses.replace(self._settings, **changes)

    def _put_parameter(self, name: str, value: ParameterValue) -> None:
        """Set a parameter to the value that the board has."""
        if value != self.get_parameter(name).value:
            applied = AppliedParameter(name, value=value)
            self.set_parameters([applied])
            applied.is_being_set = False
        self._replace_settings({name: value})

    def _note_change(self, line: str) -> None:
        """Log a change, and read the mode again."""
        self.get_logger().info(line)
        self._watch()

    def _submit_step(self, step: float | None, is_wanted: Callable[[], bool]) -> Job:
        def hold() -> str:
            if not is_wanted():
                return 'not'
            try:
                return f'{self._gpu.hold(step):g}'
            except PowerError:
                with suppress(PowerError):  # the governor ends now, and cannot release it later
                    self._gpu.hold(None)
                raise

        what = 'GPU released' if step is None else f'GPU at {step:g} {self._gpu.unit}'
        return self._worker.submit(f'governor: {what}', hold)

    def _notice_mode(self) -> None:
        """Follow a power mode set by another program; the governor restarts in it."""
        mode, failed = self._holding.notice()
        if failed:
            self.get_logger().error(failed)
        if mode:
            self._changes.follow('power_mode', mode)
            self._watch()

    # Telemetry ---------------------------------------------------------------------------------

    def _on_detections(self, topic: str, message: bytes) -> None:
        now_ns = self.get_clock().now().nanoseconds
        self._frames.add(read_stamp_ns(message), now_ns, topic)
        self._governor.step_frames(
            self._frames.take, lambda: self._settings.limits(), self._sampler.newest
        )

    def _take(self, sample: BoardSample) -> None:
        """Publish a sample, and pass it to the governor; called in the sampling thread."""
        self._governor.step(sample, self._frames.take(), self._settings.limits())
        self._joules_per_frame = self._energy.add(sample, self._frames.count)
        hottest = sample.hottest_c
        numbers = {
            'power_w': None if sample.total_mw is None else sample.total_mw / MW_PER_W,
            'gpu_load': sample.loads_percent.get('gpu'),
            'temperature_c': None if hottest is None else hottest[1],
            'joules_per_frame': self._joules_per_frame,
        }
        try:
            for name, number in numbers.items():
                if number is not None:
                    self._floats[name].publish(Float32(data=float(number)))
        except RCLError:
            if self.context.ok():
                raise

    # Health ------------------------------------------------------------------------------------

    def _publish_status(self) -> None:
        for failed in self._changes.follow_up():
            self.get_logger().error(failed)
        if time.monotonic() - self._watched_s >= WATCH_PERIOD_S:
            self._watch()
        status = power_status(
            self.get_fully_qualified_name(), self._sampler.newest,
            Health(self._facts(), self._find_error(), self._find_warning()),
        )
        parts = part_statuses(self.get_fully_qualified_name(), self._sampler.newest)
        message = DiagnosticArray(status=[status, *parts])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)
        self._prometheus.put(message.status)

    def _watch(self) -> None:
        """Read the mode, and try again to take what another process had."""
        self._watched_s = time.monotonic()
        self._holding.ask_again()
        self._mode_watch.read_again()

    def _facts(self) -> dict[str, str]:
        joules = self._joules_per_frame
        return {
            'board': self._board.name,
            'L4T': self._board.l4t_release or 'none',
            **self._mode_watch.newest.facts,
            'source': self._sampler.source_name,
            'governor': '; '.join(filter(None, (self._governor.describe(), self._gpu.note))),
            'last change': self._changes.last_change,
            'changed here': ', '.join(self._changed()) or 'nothing',
            'dry run': str(self._control.dry_run).lower(),
            'frames': str(self._frames.count),
            'frames without a latency': str(self._frames.unknown_count),
            'joules per frame': 'unknown' if joules is None else f'{joules:.3f}',
            **failures_of(self).status(),
        }

    def _find_error(self) -> str:
        return (
            self._worker.fault or self._governor.fault or self._changes.error
            or self._holding.error
        )

    def _find_warning(self) -> str:
        if problem := self._namesakes.problem():
            return problem
        job = self._worker.current
        if job is not None and job.age_s > _BUSY_S:
            return f'{job.what}: in work for {job.age_s:.0f} s'
        problem = self._control.journal_problem or self._gpu.journal_problem
        if problem := problem or self._mode_watch.newest.contradiction:
            return problem
        if self._governor.problem:
            self._log_once(self._governor.problem)
            return self._governor.problem
        if self._sampler.problem:
            idle = 'idle: ' if self._sampler.is_idle else ''
            self.get_logger().warning(f'{idle}{self._sampler.problem}', once=True)
            return f'{idle}{self._sampler.problem}'
        return failures_of(self).warning() or self._prometheus.problem

    def _log_once(self, line: str) -> None:
        if line not in self._logged:
            self._logged.add(line)
            self.get_logger().warning(line)

    def _log_change(self, line: str) -> None:
        """Log a change of the board; also at the end, without a valid context."""
        if self.context.ok():
            self.get_logger().info(line)
        else:
            rclpy.logging.get_logger(f'{NAME}.exit').info(line)


def _restore(part: GpuClock | BoardControl, report: Callable[[str], object]) -> None:
    """
    Restore the changes of a part; raises PowerError if that fails.

    A fast failure is tried once more: systemd ends a service with SIGTERM to all its processes,
    and again when its main one has ended, which hits the tools that restore the board.

    """
    started_s = time.monotonic()
    try:
        part.restore()
        return
    except PowerError:
        if time.monotonic() - started_s > _AT_ONCE_S:
            raise
    report('trying once more')
    part.restore()
    report('put back at the second try')


def _open_host(emulate: str) -> PowerHost:
    if not emulate:
        return this_host()
    from yolov7_trt_ros.emulated_board.machine import emulate_host  # not needed on a robot

    return emulate_host(emulate)


def main(args: list[str] | None = None, host: PowerHost | None = None) -> int:
    """Run the node until it is stopped; exit code 1 if not everything was restored."""
    nodes: list[PowerNode] = []

    def make() -> PowerNode:
        nodes.append(PowerNode(host=host))
        return nodes[-1]

    code = run_node(
        NAME, make, args, threads=THREADS, about=__doc__, table=parameters.PARAMETERS
    )
    return code or int(any(node.left_changed for node in nodes))


if __name__ == '__main__':
    raise SystemExit(main())
