r"""
The power node: power mode, clocks and fan of a board through parameters, and its telemetry.

    ros2 run yolov7_trt_ros power_node --ros-args -p emulate:=orin_nano_super
    ros2 param set /power_manager power_mode MAXN_SUPER

Changes are made in one thread, telemetry is read in another, and what a callback waits for has a
time limit. `main` spins with two threads: while one waits for a change, the other goes on.
docs/power.md lists topics, parameters and diagnostics.

"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import rclpy.logging
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy._rclpy_pybind11 import RCLError
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import Float32
from vision_msgs.msg import Detection2DArray

from yolov7_trt_ros.core.topics import split_names
from yolov7_trt_ros.emulated_board.machine import Machine, open_machine
from yolov7_trt_ros.errors import PowerError, SettingError, Yolov7TrtError
from yolov7_trt_ros.nodes import power_parameters as parameters
from yolov7_trt_ros.nodes.parameter_spec import declare_parameters, read_parameters
from yolov7_trt_ros.nodes.power_diagnostics import Health, power_status
from yolov7_trt_ros.nodes.power_frames import EnergyPerFrame, FrameLog, stamp_of_serialized
from yolov7_trt_ros.nodes.power_governor import GovernorLoop
from yolov7_trt_ros.nodes.power_settings import BoardSettings
from yolov7_trt_ros.nodes.power_worker import Job, PowerWorker, Sampler
from yolov7_trt_ros.nodes.running import run_node
from yolov7_trt_ros.power.board import JETSON
from yolov7_trt_ros.power.control import PowerControl
from yolov7_trt_ros.power.gpu_clock import BoardGpuClock, GpuClock
from yolov7_trt_ros.power.nvml_clock import NvmlGpuClock
from yolov7_trt_ros.power.policy import Limits
from yolov7_trt_ros.power.sample import BoardSample, TelemetrySource
from yolov7_trt_ros.power.telemetry import find_source

NAME = 'power_manager'
THREADS = 2
ANSWER_FACTOR = 1.5
"""Setting a parameter is answered after this many times `tool_timeout_s` at the latest."""

_WATCH_TICKS = 5
_BUSY_S = 1.0
_STOP_S = 2.0
_MS_PER_S = 1000
_MW_PER_W = 1000.0
_FLOATS = ('power_w', 'gpu_load', 'temperature_c', 'joules_per_frame')


class PowerNode(Node):
    """
    The node `power_manager`.

    Parameters
    ----------
    machine
        What to read and change; None: as the parameter `emulate` says.
    node_arguments
        For Node.

    """

    _closed = True  # nothing to put back until the end of the constructor

    def __init__(self, *, machine: Machine | None = None, **node_arguments: Any) -> None:
        super().__init__(NAME, **node_arguments)
        declare_parameters(self, parameters.PARAMETERS)
        self._values = read_parameters(self, parameters.PARAMETERS)
        self._machine = open_machine(self._values['emulate']) if machine is None else machine
        self._control = PowerControl(
            self._machine.root, self._machine.runner, dry_run=self._values['dry_run'],
            report=self._log_change, timeout_s=self._values['tool_timeout_s'],
        )
        self._board = self._control.board()
        parameters.declare_facts(self, self._find_facts())
        self._worker, self._watcher = PowerWorker('power_changes'), PowerWorker('power_watch')
        self._governor, self._gpu = GovernorLoop(self._submit_clock), self._find_gpu()
        self._settings = BoardSettings(self._control, self._gpu, self._governor)
        self._start_jobs: dict[str, Job] = {}
        self._late_jobs: list[tuple[Job, dict[str, Any]]] = []
        self._accepted: dict[str, Any] = {}  # put into parameters without touching the board
        self._mode = {'mode': 'not known yet', 'jetson_clocks': 'not known yet'}
        self._error = ''
        self._last_change = 'none'
        self._ticks = 0
        self._frames, self._energy = FrameLog(), EnergyPerFrame()
        self._joules_per_frame: float | None = None
        self._create_topics()
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._apply_start_values()
        self._sampler = Sampler(
            self._open_source, lambda: 1.0 / float(self._values['sample_rate_hz']), self._take
        )
        self._sampler.start()
        self._closed = False

    def destroy_node(self) -> None:
        """End the threads, put back what was changed, and destroy the node."""
        if not self._closed:
            self._closed = True
            self._close()
        super().destroy_node()

    # Start and end -----------------------------------------------------------------------------

    def _create_topics(self) -> None:
        self._observing = MutuallyExclusiveCallbackGroup()
        self._floats = {
            name: self.create_publisher(Float32, f'~/{name}', 10) for name in _FLOATS
        }
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._timer = self.create_timer(1.0, self._every_second, callback_group=self._observing)
        quality = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
        for topic in split_names(self._values['detections_topics']):
            self.create_subscription(
                Detection2DArray, topic, partial(self._on_detections, topic), quality, raw=True,
                callback_group=self._observing,
            )

    def _find_facts(self) -> dict[str, str | Sequence[str]]:
        """Return the read-only parameters; a machine without power modes has none to tell."""
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
        if self._board.kind == JETSON or self._machine.nvml is None:
            return BoardGpuClock(self._control)
        return NvmlGpuClock(
            self._machine.nvml, dry_run=self._values['dry_run'], report=self._log_change
        )

    def _open_source(self) -> TelemetrySource:
        source = find_source(
            self._machine.root, self._machine.runner, environment=self._machine.environment,
            nvml=self._machine.nvml,
            interval_ms=max(100, round(_MS_PER_S / float(self._values['sample_rate_hz']))),
        )
        self.get_logger().info(f'telemetry from: {source.name}')
        return source

    def _apply_start_values(self) -> None:
        """Have the values of the command line and file applied that are not the defaults."""
        for name in parameters.BOARD_PARAMETERS:
            if self._values[name] != parameters.BY_NAME[name].default:
                self._start_jobs[name] = self._submit(name, dict(self._values))

    def _close(self) -> None:
        self._sampler.stop(_STOP_S)
        self._governor.stop()
        self._worker.close(self._values['tool_timeout_s'] * ANSWER_FACTOR)
        self._watcher.close(0.0)
        # The context may be gone, and with it the way of a node's log to /rosout.
        log = rclpy.logging.get_logger(f'{NAME}.exit')
        if self._values['restore_on_exit'] and self._changed():
            log.info(f'putting back: {", ".join(self._changed())}')
            for part in (self._gpu, self._control):
                try:
                    part.restore()
                except PowerError as exc:
                    log.error(f'not everything was put back: {exc}')
        self._gpu.close()
        self._control.close()
        self._machine.close()

    def _changed(self) -> tuple[str, ...]:
        return self._control.changed + self._gpu.changed

    # Parameters --------------------------------------------------------------------------------

    def _on_set_parameters(self, changes: list[Parameter[Any]]) -> SetParametersResult:
        """Answer with what was read back, within the time limit."""
        asked = {change.name: change.value for change in changes}
        try:
            checked = parameters.check_changes(asked)
            parameters.policy_limits(self._values | checked)
        except SettingError as exc:
            return SetParametersResult(successful=False, reason=str(exc))
        name = next((name for name in checked if name in parameters.BOARD_PARAMETERS), '')
        if name and self._accepted.get(name) != checked[name]:
            return self._change_board(name, checked)
        self._values |= checked
        return SetParametersResult(successful=True)

    def _change_board(self, name: str, checked: dict[str, Any]) -> SetParametersResult:
        job = self._submit(name, self._values | checked)
        timeout_s = self._values['tool_timeout_s'] * ANSWER_FACTOR
        if not job.wait(timeout_s, self.context.ok):
            self._late_jobs.append((job, checked))
            ahead = self._worker.current
            return SetParametersResult(successful=False, reason=(
                f'{job.what}: no answer within {timeout_s:g} s, in work is '
                f'{job.what if ahead is None else ahead.what}. It goes on; /diagnostics and the '
                'log will say how it ends, and the parameter follows'
            ))
        if job.error:
            return SetParametersResult(successful=False, reason=job.error)
        self._forget_earlier(name)
        self._values |= checked
        self._note_success(name, job)
        return SetParametersResult(successful=True)

    def _forget_earlier(self, name: str) -> None:
        """Let what an earlier job about this parameter came to no longer touch it."""
        self._start_jobs.pop(name, None)
        self._late_jobs = [entry for entry in self._late_jobs if name not in entry[1]]

    def _note_success(self, name: str, job: Job) -> None:
        """Tell what holds now, which the answer to a success cannot, and look at it anew."""
        self._last_change = f'{job.what}: {job.result}'
        self.get_logger().info(self._last_change)
        if self._error.startswith(f'{name} '):
            self._error = ''
        self._watch()

    def _submit(self, name: str, values: dict[str, Any]) -> Job:
        return self._worker.submit(
            f'{name} = {values[name]}', lambda: self._settings.apply(name, values)
        )

    def _submit_clock(self, mhz: float, is_wanted: Callable[[], bool]) -> Job:
        def hold() -> str:
            return f'{self._gpu.hold(mhz):g}' if is_wanted() else 'not'

        return self._worker.submit(f'governor: GPU at {mhz:g} MHz', hold)

    def _follow_up(self) -> None:
        """Bring the parameters of jobs that were not waited for in line with what came of them."""
        for name, job in list(self._start_jobs.items()):
            if job.is_done and self._start_jobs.pop(name, None) is job:
                default = parameters.BY_NAME[name].default
                self._settle(job, name, self._values[name] if not job.error else default)
        for entry in list(self._late_jobs):
            job, checked = entry
            if job.is_done and entry in self._late_jobs:
                self._late_jobs.remove(entry)
                (name,) = (name for name in checked if name in parameters.BOARD_PARAMETERS)
                self._settle(job, name, self._values[name] if job.error else checked[name])

    def _settle(self, job: Job, name: str, value: Any) -> None:
        if job.error:
            self._error = f'{job.what} failed: {job.error}'
            self.get_logger().error(self._error)
        else:
            self._note_success(name, job)
        if value != self.get_parameter(name).value:
            self._accepted = {name: value}
            self.set_parameters([Parameter(name, value=value)])
            self._accepted = {}
        self._values[name] = value

    # Telemetry ---------------------------------------------------------------------------------

    def _on_detections(self, topic: str, message: bytes) -> None:
        now_ns = self.get_clock().now().nanoseconds
        self._frames.add(stamp_of_serialized(message), now_ns, topic)
        self._governor.step_frames(self._frames.take, self._limits)

    def _limits(self) -> Limits:
        return parameters.policy_limits(self._values)

    def _take(self, sample: BoardSample) -> None:
        """Publish a sample, and let the governor look at it; called in the sampling thread."""
        self._governor.step(sample, self._frames.take(), self._limits())
        self._joules_per_frame = self._energy.add(sample, self._frames.count)
        hottest = sample.hottest_c
        numbers = {
            'power_w': None if sample.total_mw is None else sample.total_mw / _MW_PER_W,
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

    def _every_second(self) -> None:
        self._follow_up()
        if self._ticks % _WATCH_TICKS == 0:
            self._watch()
        self._ticks += 1
        status = power_status(
            self.get_fully_qualified_name(), self._sampler.newest,
            Health(self._facts(), self._find_error(), self._find_warning()),
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def _watch(self) -> None:
        """Have the mode looked at, unless the look before still hangs."""
        if self._board.kind == JETSON and self._watcher.current is None:
            self._watcher.submit('looking at the mode', self._look)

    def _look(self) -> str:
        self._mode = {
            'mode': _said(lambda: self._control.current_mode().name),
            'jetson_clocks': _said(self._control.jetson_clocks_state),
        }
        return ''

    def _facts(self) -> dict[str, str]:
        joules = self._joules_per_frame
        return {
            'board': self._board.name,
            'L4T': self._board.l4t_release or 'none',
            **(self._mode if self._board.kind == JETSON else {}),
            'source': self._sampler.source_name,
            'governor': '; '.join(filter(None, (self._governor.describe(), self._gpu.note))),
            'last change': self._last_change,
            'changed here': ', '.join(self._changed()) or 'nothing',
            'dry run': str(self._control.dry_run).lower(),
            'frames': str(self._frames.count),
            'joules per frame': 'unknown' if joules is None else f'{joules:.3f}',
        }

    def _find_error(self) -> str:
        return self._worker.fault or self._governor.fault or self._error

    def _find_warning(self) -> str:
        job = self._worker.current
        if job is not None and job.age_s > _BUSY_S:
            return f'{job.what}: in work for {job.age_s:.0f} s'
        if self._sampler.problem:
            idle = 'idle: ' if self._sampler.is_idle else ''
            self.get_logger().warning(f'{idle}{self._sampler.problem}', once=True)
            return f'{idle}{self._sampler.problem}'
        return ''

    def _log_change(self, line: str) -> None:
        """Log what PowerControl does; also at the end, when there is no context any more."""
        if self.context.ok():
            self.get_logger().info(line)
        else:
            rclpy.logging.get_logger(f'{NAME}.exit').info(line)


def _said(look: Callable[[], str]) -> str:
    try:
        return look()
    except Yolov7TrtError as exc:
        return f'unknown: {exc}'


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to stop; returns the exit code."""
    return run_node(NAME, PowerNode, args, threads=THREADS)


if __name__ == '__main__':
    raise SystemExit(main())
