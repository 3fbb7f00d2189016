"""BoardChanges: applies parameters to the board, one after the other, and follows them up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
import dataclasses
from typing import Any

from rclpy.parameter import Parameter

from yolov7_trt_ros.nodes.job_thread import Job, JobThread
from yolov7_trt_ros.nodes.power import power_parameters as parameters
from yolov7_trt_ros.nodes.power.governor_loop import GovernorLoop
from yolov7_trt_ros.nodes.power.power_settings import ParameterValue, PowerSettings
from yolov7_trt_ros.power.board_control import BoardControl
from yolov7_trt_ros.power.gpu_clock import GpuClock


class AppliedParameter(Parameter):  # type: ignore[type-arg]  # Humble's takes no type argument
    """
    A parameter that the node sets itself, to the value that the board already has.

    Attributes
    ----------
    is_being_set
        Until the node has set it; `get_parameter` returns the same object later.

    """

    is_being_set = True


def find_board_change(changes: Iterable[Parameter[Any]]) -> str:
    """Return the name of the first parameter that is to change the board, '' for none."""
    return next((
        change.name for change in changes
        if change.name in parameters.BOARD_PARAMETERS
        and not (isinstance(change, AppliedParameter) and change.is_being_set)
    ), '')


@dataclasses.dataclass(frozen=True)
class BoardActuators:
    """
    What changes the board.

    Attributes
    ----------
    control
        Changes the power mode, the fan, and the clocks of a Jetson.
    gpu
        Changes the clock of the GPU.
    governor
        Is started and stopped here; a change of the GPU's limits restarts it.

    """

    control: BoardControl
    gpu: GpuClock
    governor: GovernorLoop


class BoardChanges:
    """
    Applies parameters in the thread of a worker, and keeps the parameters equal to the board.

    Nobody waits for a value given at start, or for one whose answer took too long: `follow_up`
    sets its parameter to the result.

    Parameters
    ----------
    worker
        Its thread makes the changes: the tools of the board may be slow, or hang.
    actuators
        Change the board.
    settings
        Returns the current parameters.
    before
        Called before each change, in the thread of the worker.
    put
        Sets a parameter, by name, to the value that the board has.
    on_success
        Called with a line about each change that succeeded.

    """

    def __init__(
        self,
        worker: JobThread,
        actuators: BoardActuators,
        *,
        settings: Callable[[], PowerSettings],
        before: Callable[[], None],
        put: Callable[[str, ParameterValue], None],
        on_success: Callable[[str], None],
    ) -> None:
        self._worker, self._actuators, self._settings = worker, actuators, settings
        self._before, self._put, self._on_success = before, put, on_success
        self._start_jobs: dict[str, Job] = {}
        self._late_jobs: list[tuple[Job, str, ParameterValue]] = []
        self._failed: tuple[str, str] | None = None
        self._last_change = 'none'

    @property
    def error(self) -> str:
        """Return the failure that no answer reported and that still holds, '' for none."""
        return '' if self._failed is None else self._failed[1]

    @property
    def last_change(self) -> str:
        """Return the last change that succeeded, and its result."""
        return self._last_change

    def follow(self, name: str, value: ParameterValue) -> None:
        """Set a parameter to a value that another program has given the board."""
        current = self._current(name)
        if current and current != value:
            self._put(name, value)

    def start(self) -> None:
        """Have the values applied that are not the defaults."""
        settings = self._settings()
        for name in parameters.BOARD_PARAMETERS:
            if getattr(settings, name) != parameters.BY_NAME[name].default:
                self._start_jobs[name] = self._submit(name, settings)

    def change(
        self, name: str, settings: PowerSettings, timeout_s: float, goes_on: Callable[[], bool]
    ) -> str:
        """
        Apply a parameter, and wait for it while `goes_on`, but not longer than the time limit.

        Parameters
        ----------
        name
            One of `power_parameters.BOARD_PARAMETERS`.
        settings
            All parameters, with the new value of this one.
        timeout_s
            The longest time to wait.
        goes_on
            Returns whether to wait any longer.

        Returns
        -------
        str
            Why it failed, '' if it succeeded.

        """
        job = self._submit(name, settings)
        if not job.wait(timeout_s, goes_on):
            self._late_jobs.append((job, name, getattr(settings, name)))
            return self._explain_late(job, timeout_s)
        if job.error:
            return job.error
        # the result of an earlier job for this parameter no longer counts
        self._start_jobs.pop(name, None)
        self._late_jobs = [entry for entry in self._late_jobs if name != entry[1]]
        self._note_success(name, job)
        return ''

    def follow_up(self) -> list[str]:
        """Set parameters to the results of jobs that nobody waited for; returns the failures."""
        failed = []
        for name, job in list(self._start_jobs.items()):
            if job.is_done and self._start_jobs.pop(name, None) is job:
                default = parameters.BY_NAME[name].default
                failed.append(self._settle(job, name, default if job.error
                                           else self._current(name)))
        for entry in list(self._late_jobs):
            job, name, value = entry
            if job.is_done and entry in self._late_jobs:
                self._late_jobs.remove(entry)
                failed.append(self._settle(job, name, self._current(name) if job.error
                                           else value))
        return list(filter(None, failed))

    def restart_governor(self, settings: PowerSettings) -> None:
        """Start the governor again if it is on; to be called in the thread of the worker."""
        if settings.has_governor:
            self._set_gpu(settings)

    def _current(self, name: str) -> ParameterValue:
        value: ParameterValue = getattr(self._settings(), name)
        return value

    def _submit(self, name: str, settings: PowerSettings) -> Job:
        return self._worker.submit(
            f'{name} = {getattr(settings, name)}', lambda: self._apply(name, settings)
        )

    def _explain_late(self, job: Job, timeout_s: float) -> str:
        ahead = self._worker.current
        return (
            f'{job.what}: no answer within {timeout_s:g} s, running is '
            f'{job.what if ahead is None else ahead.what}. It goes on; /diagnostics and the log '
            'will show its result, and the parameter follows'
        )

    def _note_success(self, name: str, job: Job) -> None:
        """Report the result, which the answer to a success cannot carry."""
        self._last_change = f'{job.what}: {job.result}'
        if self._failed is not None and self._failed[0] == name:
            self._failed = None
        self._on_success(self._last_change)

    def _settle(self, job: Job, name: str, value: ParameterValue) -> str:
        """Set the parameter to the value the board has; returns the failure, '' for none."""
        if job.error:
            self._failed = (name, f'{job.what} failed: {job.error}')
        else:
            self._note_success(name, job)
        self._put(name, value)
        return self.error if job.error else ''

    # In the thread of the worker; each returns a line about the result -----------------------

    def _apply(self, name: str, settings: PowerSettings) -> str:
        self._before()
        control = self._actuators.control
        if name == 'power_mode':
            return self._set_mode(settings)
        if name == 'fan_profile':
            profile = settings.fan_profile
            return control.set_fan_profile(profile) if profile else 'left as it is'
        if name == 'jetson_clocks':
            return f'clocks locked: {control.set_jetson_clocks(settings.jetson_clocks)}'
        if name == 'cpu_max_freq_mhz':
            highest = control.set_max_frequency('cpu', settings.cpu_max_freq_mhz or None)
            return f'CPU at most {highest:g} MHz'
        return self._set_gpu(settings)

    def _set_mode(self, settings: PowerSettings) -> str:
        if not settings.power_mode:
            return 'left as it is'
        now = self._actuators.control.set_mode(settings.power_mode)
        self.restart_governor(settings)
        return f'{now.name} ({now.mode_id})'

    def _set_gpu(self, settings: PowerSettings) -> str:
        """Cap the clock, and leave the clocks below the cap to the governor if it is on."""
        gpu, governor = self._actuators.gpu, self._actuators.governor
        governor.stop()
        gpu.hold(None)
        highest = gpu.set_cap(settings.gpu_max_freq_mhz or None)
        if not settings.has_governor:
            return f'GPU at most {highest:g} {gpu.unit}'
        steps = gpu.steps()
        allowed = [step for step in steps if step <= highest] or list(steps[:1])
        for step in allowed[-1:]:  # shows whether this user may
            gpu.hold(step)
        governor.start(allowed, gpu.unit)
        return f'{settings.governor}, from {allowed[0]:g} to {allowed[-1]:g} {gpu.unit}'
