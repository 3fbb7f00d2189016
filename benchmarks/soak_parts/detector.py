"""The detector process of a soak: its services, diagnostics and resource use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
import ctypes
from functools import partial
import importlib
import os
from pathlib import Path
import resource
import signal
import struct
import subprocess
import sys
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import GetParameters, SetParameters
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from soak_parts.ledger import COUNTERS, Ledger
from vision_msgs.msg import Detection2DArray

from yolov7_trt_ros.core.units import NS_PER_S

PATIENCE_S = 120.0
"""
Within this whatever is waited for must happen, on a busy machine too: an answer, detections after
a fault, counters that add up, the end of a process. How long it took is in the result.
"""
TRANSITIONS = {'configure': 1, 'cleanup': 2, 'activate': 3, 'deactivate': 4}
_STATUS = '/detector: '
_REMOVED = 'removed topics: '
_MIB = 1 << 20
_PR_SET_PDEATHSIG = 1
_PRCTL = ctypes.CDLL(None).prctl  # looked up before a fork, not after it
_LISTEN = QoSProfile(depth=1000)  # reliable: nothing that the detector says gets lost here


class Stuck(Exception):
    """Something did not happen in its time: the soak cannot go on."""


class Detector:
    """
    The detector node as a process, and a node that calls and listens to it.

    Parameters
    ----------
    folder, parameters
        Folder of the log, and the parameters of the node.
    ledger
        Gets all received detections.
    idle
        Called often while waiting: the cameras.
    command
        Command of the node, if it is not the package's own.

    """

    def __init__(
        self, folder: Path, parameters: dict[str, Any], ledger: Ledger, idle: Callable[[], None],
        command: Sequence[str] = (),
    ) -> None:
        self.log = folder / 'detector.txt'
        self.process = start_node('detector_node', parameters, self.log, command=command)
        self.statuses: dict[str, dict[str, str]] = {}
        self.statuses_ns = 0
        self.slowest_answer_s = 0.0
        self.last_stamp_ns: dict[str, int] = {}
        self._last: dict[str, bytes] = {}
        self._ledger, self._idle = ledger, idle
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self.node = rclpy.create_node('soak', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)
        self._services = {
            name: self.node.create_client(kind, f'/detector/{name}') for name, kind in {
                'get_state': GetState, 'change_state': ChangeState,
                'get_parameters': GetParameters, 'set_parameters': SetParameters,
            }.items()
        }

    def listen(self, topic: str, detections_topic: str, *, overlay: bool) -> None:
        """Take the detections of an image topic, and its overlay, into the ledger."""
        self.node.create_subscription(
            Detection2DArray, detections_topic, partial(self._on_detections, topic), _LISTEN,
            raw=True,
        )
        if overlay:
            self.node.create_subscription(
                Image, f'{detections_topic}/overlay', partial(self._on_overlay, topic), 1,
                raw=True,
            )

    # ---- waiting

    def spin_until(self, condition: Callable[[], Any], limit_s: float, what: str) -> None:
        """Send and listen until the condition is true; raise Stuck after `limit_s`."""
        deadline = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > deadline:
                raise Stuck(f'waited {limit_s} s for {what}')
            if self.process.poll() is not None:
                raise Stuck(f'the detector has ended with status {self.process.poll()}')
            self._idle()
            self._executor.spin_once(timeout_sec=0.01)

    def spin(self, seconds: float) -> None:
        """Send and hear for a time."""
        end = time.monotonic() + seconds
        self.spin_until(lambda: time.monotonic() >= end, seconds + 1, 'the time to pass')

    # ---- services

    def wait_until_up(self, limit_s: float) -> None:
        """Wait until the node answers and has its model."""
        for client in self._services.values():
            self.spin_until(client.service_is_ready, PATIENCE_S, client.srv_name)
        self.spin(0.5)  # both sides have to know each other
        self.wait_for_model(limit_s)

    def wait_for_model(self, limit_s: float) -> None:
        """Wait until it reports, from now on, that it is active with its model."""
        since_ns = time.monotonic_ns()
        self.spin_until(
            lambda: self.statuses_ns > since_ns and 'backend' in self.values(),
            limit_s, 'the model',
        )

    def change_state(self, transition: str) -> bool:
        """Ask for a transition; whether it succeeded."""
        request = ChangeState.Request()
        request.transition.id = TRANSITIONS[transition]
        return bool(self.ask('change_state', request).success)

    def set_parameter(self, name: str, value: Any) -> str:
        """Set a parameter; returns the reason of a refusal, '' on success."""
        message = Parameter(name, value=value).to_parameter_msg()
        request = SetParameters.Request(parameters=[message])
        result = self.ask('set_parameters', request).results[0]
        return '' if result.successful else result.reason or 'refused'

    def get(self, name: str) -> Any:
        """Return the value of a parameter."""
        values = self.ask('get_parameters', GetParameters.Request(names=[name])).values
        return parameter_value_to_python(values[0])

    def ask(self, name: str, request: Any) -> Any:
        """Call a service; returns its answer."""
        started = time.monotonic()
        future = self._services[name].call_async(request)
        self.spin_until(future.done, PATIENCE_S, f'an answer of {name}')
        self.slowest_answer_s = max(self.slowest_answer_s, time.monotonic() - started)
        return future.result()

    # ---- what it says

    def values(self, name: str = 'detector') -> dict[str, str]:
        """Return the latest diagnostics of the node, or of a topic."""
        return self.statuses.get(f'{_STATUS}{name}', {})

    def counters(self) -> dict[str, dict[str, int]]:
        """Return the latest counters by topic."""
        return {
            name.removeprefix(_STATUS): {each: int(values[each]) for each in COUNTERS}
            for name, values in self.statuses.items() if 'received' in values
        }

    def removed(self) -> dict[str, int] | None:
        """Return the latest counters of removed topics, None if there are none."""
        values = self.values()
        if f'{_REMOVED}received' not in values:
            return None
        return {each: int(values[f'{_REMOVED}{each}']) for each in COUNTERS}

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        if not message.status or not message.status[0].name.startswith(_STATUS):
            return
        self.statuses = {
            each.name: {pair.key: pair.value for pair in each.values} | {'message': each.message}
            for each in message.status
        }
        self.statuses_ns = time.monotonic_ns()

    def _on_detections(self, topic: str, data: bytes) -> None:
        self.last_stamp_ns[topic], self._last[topic] = stamp_ns(data), data
        self._ledger.note_detections(topic, stamp_ns(data))

    def _on_overlay(self, topic: str, data: bytes) -> None:
        self._ledger.note_overlay(topic, stamp_ns(data))

    def finds(self, name: str, topics: Iterable[str]) -> bool:
        """Whether the latest detections of any of the topics have a class whose name begins so."""
        return any(name.encode() in self._last[topic] for topic in topics)

    # ---- the end

    def stop(self) -> list[str]:
        """Stop it as Ctrl-C does; returns what was wrong with that, and in its log."""
        wrong = []
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                wrong.append(f'the detector did not end within {PATIENCE_S} s')
        if self.process.returncode:
            wrong.append(f'the detector ended with status {self.process.returncode}')
        if 'Traceback' in self.log.read_text():
            wrong.append('the log of the detector has a traceback')
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)
        return wrong


def stamp_ns(data: bytes) -> int:
    """Return the stamp of a serialised message that begins with a header."""
    seconds, nanoseconds = struct.unpack_from('<iI', data, 4)
    return int(seconds * NS_PER_S + nanoseconds)


def start_node(
    module: str, parameters: dict[str, Any], log: Path, *, file_limit_bytes: int | None = None,
    command: Sequence[str] = (),
) -> subprocess.Popen[bytes]:
    """Start a node of the package with its output in a file; it may write so much into one."""
    folder = 'detector' if module == 'detector_node' else 'tools'
    own = (sys.executable, '-m', f'yolov7_trt_ros.nodes.{folder}.{module}')
    arguments = [*(command or own), '--ros-args']
    for name, value in parameters.items():
        arguments += ['-p', f'{name}:={str(value).lower() if isinstance(value, bool) else value}']
    with log.open('wb') as file:
        return subprocess.Popen(
            arguments, stdout=file, stderr=subprocess.STDOUT,
            preexec_fn=partial(_before_start, file_limit_bytes),
        )


def _before_start(file_limit_bytes: int | None) -> None:
    """End with the parent process; let writes beyond a size fail, as on a full disk."""
    _PRCTL(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if file_limit_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit_bytes, file_limit_bytes))


class Meter:
    """Resources of a process: memory, threads, file descriptors, and GPU memory."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._nvml = load_nvml()

    @property
    def gpu(self) -> str:
        """Return what is measured of a GPU."""
        return 'no GPU' if self._nvml is None else 'memory used on GPU 0 (NVML)'

    def read(self) -> dict[str, float]:
        """Return the figures of now."""
        lines = Path(f'/proc/{self._pid}/status').read_text().splitlines()
        status = dict(line.split(':', 1) for line in lines)
        figures = {
            f'{key}_mib': round(int(status[name].split()[0]) / 1024, 2)
            for key, name in (('rss', 'VmRSS'), ('anonymous', 'RssAnon'), ('shared', 'RssShmem'))
        }
        figures['threads'] = int(status['Threads'])
        figures['file_descriptors'] = len(os.listdir(f'/proc/{self._pid}/fd'))
        if self._nvml is not None:
            figures |= self._read_gpu(self._nvml)
        return figures

    def _read_gpu(self, nvml: Any) -> dict[str, float]:
        """Return the memory in use on GPU 0, and the node's of it if the driver lists it here."""
        handle = nvml.nvmlDeviceGetHandleByIndex(0)
        figures = {'device_mib': nvml.nvmlDeviceGetMemoryInfo(handle).used / _MIB}
        try:
            processes = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        except nvml.NVMLError:  # not with this driver
            processes = ()
        for process in processes:
            if process.pid == self._pid and process.usedGpuMemory is not None:
                figures['node_device_mib'] = process.usedGpuMemory / _MIB
        return figures


def load_nvml() -> Any:
    """Return pynvml, initialised; None without that library or a GPU."""
    try:
        nvml = importlib.import_module('pynvml')
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
        return nvml if nvml.nvmlDeviceGetCount() else None
    except nvml.NVMLError:
        return None
