"""What the node tests talk to the detector with: a probe node, and processes to start and stop."""

from __future__ import annotations

import array
from collections.abc import Callable, Iterator, Sequence
import contextlib
import os
from pathlib import Path
import signal
import subprocess
import sys
import time
from typing import Any

import cv2
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState, GetState
import numpy as np
from rcl_interfaces.srv import GetParameters, SetParameters, SetParametersAtomically
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
import skimage.data
from vision_msgs.msg import Detection2DArray

from yolov7_trt_ros.nodes.detector.detector_node import DetectorNode
from yolov7_trt_ros.nodes.detector.plan_build import Engine
from yolov7_trt_ros.power.telemetry.sample import TelemetrySource
from yolov7_trt_ros.power.telemetry.source import find_source

TIMEOUT_S = 600.0
LEASE_S = 30.0
"""A killed process has left the graph by then: Fast DDS gives it 20 s."""

TRANSITIONS = {
    'configure': 1, 'cleanup': 2, 'activate': 3, 'deactivate': 4,
    'shutdown_unconfigured': 5, 'shutdown_inactive': 6, 'shutdown_active': 7,
}
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def photograph_bgr() -> np.ndarray:
    """Return a photograph of a person, 640 x 480."""
    picture = skimage.data.astronaut()[:384]
    return cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), (640, 480))


def image_msg(pixels: np.ndarray, encoding: str = 'bgr8', **fields: Any) -> Image:
    """Return an Image of an array (H, W[, C]); `fields` overwrite what the array tells."""
    height, width = pixels.shape[:2]
    message = Image(height=height, width=width, encoding=encoding, step=pixels.nbytes // height)
    message.data = array.array('B', pixels.tobytes())
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def jpeg_msg(pixels: np.ndarray) -> CompressedImage:
    """Return a CompressedImage of a BGR array."""
    _, data = cv2.imencode('.jpg', pixels)
    return CompressedImage(format='jpeg', data=array.array('B', data.tobytes()))


class DetectorProcess:
    """The real node in a process of its own; leaving the context stops and checks it."""

    def __init__(
        self,
        log: Path,
        *ros_arguments: str,
        command: Sequence[str] = (),
        **parameters: Any,
    ) -> None:
        self.log = log
        arguments = list(ros_arguments)
        for name, value in ({'threads': 1} | parameters).items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            arguments += ['-p', f'{name}:={text}']
        self.process = start_node('detector_node', arguments, log, command)

    def __enter__(self) -> DetectorProcess:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is not None:  # its stacks in its log tell what it was doing
            self.stop(signal.SIGABRT)
            return
        code = self.stop()
        assert code == 0, self.text()
        assert 'Traceback' not in self.text(), self.text()

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send a signal and return the exit code; a node that hangs is killed and fails."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def text(self) -> str:
        """Return what the node has logged."""
        return self.log.read_text()


def node_module(name: str) -> str:
    """Return the module that runs a node: `detector_node`, `power_node`, `top_node`, ...."""
    folder = {'detector_node': 'detector', 'power_node': 'power'}.get(name, 'tools')
    return f'yolov7_trt_ros.nodes.{folder}.{name}'


def start_node(
    module: str, ros_arguments: list[str], log: Path, command: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    """Start a node by the name of its module, or a command, with its output in a file."""
    node = command or [sys.executable, '-m', node_module(module)]
    with log.open('wb') as file:
        return subprocess.Popen(
            [*node, '--ros-args', *ros_arguments],
            stdout=file, stderr=subprocess.STDOUT, env=os.environ | {'PYTHONFAULTHANDLER': '1'},
        )


class Probe:
    """A node in this process with a context of its own; it is spun only while waiting."""

    def __enter__(self) -> Probe:
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self.node = Node('probe', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._clients: dict[tuple[Any, str], list[Any]] = {}
        self._asked: dict[tuple[Any, str], tuple[Any, ...]] = {}  # who offers what they ask for
        self._waited_for: set[tuple[Any, ...]] = set()  # offered together for a whole lease
        self._subscriptions: list[Any] = []
        self._hosted: dict[str, int] = {}  # names of nodes that run in this process now, and which
        self._hostings = 0
        self._statuses: dict[str, tuple[str, dict[str, str], bytes]] = {}
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)
        return self

    def __exit__(self, *_: Any) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    def wait_until(self, condition: Callable[[], Any], what: str = 'condition') -> Any:
        """Spin until the condition holds and return its value."""
        deadline = time.monotonic() + TIMEOUT_S
        while not (value := condition()):
            assert time.monotonic() < deadline, f'waited {TIMEOUT_S} s for {what}'
            self._executor.spin_once(timeout_sec=0.02)
        return value

    def spin(self, seconds: float) -> None:
        """Spin for a time: to see that something does not happen."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._executor.spin_once(timeout_sec=0.02)

    @contextlib.contextmanager
    def host(
        self, engine: Engine, power: Callable[[], TelemetrySource] = find_source,
        **parameters: Any,
    ) -> Iterator[DetectorNode]:
        """
        Run a detector in this process, with an engine of the test's.

        The probe's executor spins it too: what blocks the one blocks the other.

        """
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        node = DetectorNode(
            engine=engine, power=power, context=self._context, parameter_overrides=overrides
        )
        self.forget_diagnostics()
        self._executor.add_node(node)
        try:
            with self.hosting('detector'):
                yield node
        finally:
            self._executor.remove_node(node)
            node.destroy_node()

    @contextlib.contextmanager
    def hosting(self, name: str) -> Iterator[None]:
        """Know that a node of this name runs in this process now, in the probe's context."""
        self._hostings += 1
        self._hosted[name] = self._hostings
        try:
            yield
        finally:
            del self._hosted[name]

    # ---- services

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """
        Call a service of the detector and return the response.

        A request sent while the service of a former process is still in the graph is never
        answered, so that has to be gone, or its lease over. Each process is asked by a client of
        its own: with Fast DDS an old one may not reach a service of the same name that came after
        many requests to its predecessor. Without an answer (the middleware gives it up if it has
        not matched both sides in 0.1 s) a new client asks again: what only reads after three
        seconds, what sets after a minute, a transition after a minute in which nothing happened.

        """
        client = self._client(kind, name)
        before = self.state(name.rpartition('/')[0]) if kind is ChangeState else ''
        futures = [client.call_async(request)]
        pause_s = 3 if kind in (GetState, GetParameters) else 60
        due = time.monotonic() + pause_s

        def answer() -> Any:
            nonlocal due
            late = time.monotonic() > due
            is_done = late and before and self.state(name.rpartition('/')[0]) != before
            found = next((each.result() for each in futures if each.done()), None)
            if found is not None or not late:
                return found
            if is_done:  # and the answer was lost
                return ChangeState.Response(success=True)
            fresh = self._renew(kind, name)
            if fresh.wait_for_service(timeout_sec=1.0):
                futures.append(fresh.call_async(request))
            due = time.monotonic() + pause_s
            return None

        return self.wait_until(answer, f'answer of {name}')

    def _client(self, kind: Any, name: str) -> Any:
        """Return a client of a service that is ready, and of the process that offers it now."""
        leased_until = time.monotonic() + LEASE_S

        def offering() -> tuple[Any, ...]:
            found = self._offering(name)
            is_over = time.monotonic() > leased_until or found in self._waited_for
            return found if len(found) == 1 or is_over else ()

        while True:
            by = self.wait_until(offering, f'{name} to be offered once')
            if len(by) > 1 and by not in self._waited_for:  # once, not for each of many requests
                print(f'{name} is offered {len(by)} times, longer than any lease')
                self._waited_for.add(by)
            if self._asked.get((kind, name)) != by:
                for former in self._clients.pop((kind, name), ()):
                    self.node.destroy_client(former)
                self._renew(kind, name)
                self._asked[kind, name] = by
            client = self._clients[kind, name][-1]
            self.wait_until(client.service_is_ready, f'service {name}')
            if self._offering(name) == by:
                return client

    def _renew(self, kind: Any, name: str) -> Any:
        """Return a new client; those before it may still be answered."""
        client = self.node.create_client(kind, name)
        self._clients.setdefault((kind, name), []).append(client)
        return client

    def _offering(self, name: str) -> tuple[Any, ...]:
        """Return who offers a service: the ids of other processes' endpoints, or of one here."""
        node = name.split('/')[1]
        if node in self._hosted:
            return (self._hosted[node],)
        requests = self.node.get_subscriptions_info_by_topic(f'rq{name}Request', no_mangle=True)
        # Not those of /rosout, where only one node of a name publishes.
        own = self.node.get_subscriptions_info_by_topic('/diagnostics')
        here = {bytes(each.endpoint_gid[:12]) for each in own if each.node_name == 'probe'}
        ids = [bytes(each.endpoint_gid) for each in requests]
        return tuple(sorted(each for each in ids if each[:12] not in here))

    def state(self, node: str = '/detector') -> str:
        """Return the lifecycle state's label."""
        answer = self.call(GetState, f'{node}/get_state', GetState.Request())
        return str(answer.current_state.label)

    def wait_for_state(self, state: str) -> None:
        """Wait until the detector is in a state."""
        self.wait_until(lambda: self.state() == state, f'state {state}')

    def change_state(self, transition: str) -> bool:
        """Ask for a transition; returns whether it succeeded."""
        request = ChangeState.Request()
        request.transition.id = TRANSITIONS[transition]
        return bool(self.call(ChangeState, '/detector/change_state', request).success)

    def set_parameter(self, name: str, value: Any) -> str:
        """Set a parameter of the detector; returns the reason of a refusal, '' on success."""
        message = Parameter(name, value=value).to_parameter_msg()
        request = SetParameters.Request(parameters=[message])
        result = self.call(SetParameters, '/detector/set_parameters', request).results[0]
        return '' if result.successful else result.reason or 'refused'

    def set_together(self, **values: Any) -> str:
        """Set several parameters as one; returns the reason of a refusal, '' on success."""
        request = SetParametersAtomically.Request(parameters=[
            Parameter(name, value=value).to_parameter_msg() for name, value in values.items()
        ])
        name = '/detector/set_parameters_atomically'
        result = self.call(SetParametersAtomically, name, request).result
        return '' if result.successful else result.reason or 'refused'

    # ---- topics

    def publisher(
        self, topic: str = '/camera/image_raw', *, reliable: bool = False, kind: Any = Image
    ) -> Any:
        """Return a publisher that a detector subscribes to already."""
        reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        publisher = self.node.create_publisher(
            kind, topic, QoSProfile(depth=5, reliability=reliability)
        )
        self.wait_until(publisher.get_subscription_count, f'a subscription to {topic}')
        return publisher

    def listen(self, kind: Any, topic: str, qos: Any = 10) -> list[Any]:
        """Return a list that fills with the messages of a topic, once matched with a publisher."""
        messages: list[Any] = []
        subscription = self.node.create_subscription(kind, topic, messages.append, qos)
        self.wait_until(lambda: self.node.count_publishers(topic), f'a publisher of {topic}')
        self._subscriptions.append(subscription)
        return messages

    def detections(self, topic: str = '/camera/detections') -> list[Any]:
        """Listen to detections, with a queue so deep that none is replaced before it is read."""
        return self.listen(Detection2DArray, topic, 1000)

    def stamp(self, message: Any, frame_id: str = 'camera') -> Any:
        """Put the present time into a message's header and return the message."""
        message.header.stamp = self.node.get_clock().now().to_msg()
        message.header.frame_id = frame_id
        return message

    def ask(self, publisher: Any, message: Any, answers: list[Any]) -> Any:
        """
        Publish one image and return its detections (told by the stamp).

        Published again every five seconds: best effort loses what is sent before both sides match.

        """
        sent = self.stamp(message).header.stamp
        due = 0.0

        def answer() -> Any:
            nonlocal due
            if time.monotonic() >= due:
                publisher.publish(message)
                due = time.monotonic() + 5
            return next((each for each in answers if each.header.stamp == sent), None)

        return self.wait_until(answer, f'the detections of one image, of {len(answers)}')

    # ---- diagnostics

    def values(self, name: str = 'detector') -> dict[str, str]:
        """Return the latest diagnostic values of `/detector: <name>`."""
        return self._statuses.get(f'/detector: {name}', ('', {}, b''))[1]

    def summary(self, name: str = 'detector') -> tuple[str, bytes]:
        """Return the latest diagnostic message and level of `/detector: <name>`."""
        message, _, level = self._statuses.get(f'/detector: {name}', ('', {}, b''))
        return message, level

    def forget_diagnostics(self) -> None:
        """Forget what was heard, so that the next values are fresh."""
        self._statuses.clear()

    def counts(self, topic: str = '/camera/image_raw') -> dict[str, int]:
        """Return fresh counters of a topic."""
        self.forget_diagnostics()
        values = self.wait_until(lambda: self.values(topic), f'diagnostics of {topic}')
        names = ('received', 'processed', 'dropped', 'skipped', 'failed', 'lost')
        return {name: int(values[name]) for name in names}

    def settled_counts(self, topic: str) -> dict[str, int]:
        """Return the counters of a topic, once they tell what became of each image."""
        def settled() -> dict[str, int] | None:
            counts = self.counts(topic)
            became = ('processed', 'dropped', 'skipped', 'failed')
            return counts if counts['received'] == sum(counts[each] for each in became) else None

        return self.wait_until(settled, f'what became of each image of {topic}')

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            self._statuses[status.name] = (status.message, values, status.level)


def domain_apart(distance: int) -> str:
    """Return a ROS domain of the tests that is so far from their present one."""
    return str(20 + (int(os.environ['ROS_DOMAIN_ID']) + distance) % 80)


@contextlib.contextmanager
def fresh_probe() -> Iterator[Probe]:
    """
    Give a probe on another domain, which what is started meanwhile uses too.

    For tests that look at the graph: nothing of the tests before is in it.

    """
    former = os.environ['ROS_DOMAIN_ID']
    os.environ['ROS_DOMAIN_ID'] = domain_apart(20)
    try:
        with Probe() as probe:
            yield probe
    finally:
        os.environ['ROS_DOMAIN_ID'] = former
