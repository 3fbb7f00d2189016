"""The net under every callback: what one raises is logged, counted and answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
import pytest
from rcl_interfaces.msg import Parameter as ParameterMsg
from rcl_interfaces.msg import ParameterValue
from rcl_interfaces.srv import ListParameters, SetParameters, SetParametersAtomically
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from ros_probe import DetectorProcess, image_msg, Probe, start_node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import String
from std_srvs.srv import Trigger

from yolov7_trt_ros.nodes.callback_net import failures_of, OneThreadExecutor

UNKNOWN = ParameterMsg(name='max_rate_hz', value=ParameterValue(type=200))


class Hosted:
    """A node spun by the executor under test, and a client of it in the probe's context."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.node = Node('netted', context=probe.node.context)
        self.executor = OneThreadExecutor(context=probe.node.context)
        self.executor.add_node(self.node)
        self.lines: list[str] = []
        failures = failures_of(self.node)
        failures._logger = self
        self.error = self.debug = self.lines.append

    def wait_until(self, condition: Any, what: str) -> Any:
        def spun() -> Any:
            self.executor.spin_once(timeout_sec=0)
            return condition()

        return self.probe.wait_until(spun, what)

    def ask(self, kind: Any, name: str, request: Any) -> Any:
        """Call a service of the node and return its answer."""
        client = self.probe.node.create_client(kind, name)
        self.wait_until(client.service_is_ready, name)
        future = client.call_async(request)
        self.wait_until(future.done, f'an answer of {name}')
        self.probe.node.destroy_client(client)
        return future.result()

    @property
    def failed(self) -> int:
        return failures_of(self.node).count


@pytest.fixture
def hosted(probe: Probe) -> Iterator[Hosted]:
    """Return a node in the net."""
    hosted = Hosted(probe)
    yield hosted
    hosted.executor.shutdown()
    hosted.node.destroy_node()


def fail(*_: Any) -> Any:
    raise ValueError('from a callback')


def test_each_kind_is_logged_once_with_its_traceback_and_counted(hosted: Hosted) -> None:
    hosted.node.create_timer(0.001, fail)
    hosted.wait_until(lambda: hosted.failed > 5, 'failures')
    text = '\n'.join(hosted.lines)
    assert text.count('Traceback') == text.count('callback failed') == 1
    assert 'timer: ValueError: from a callback' in text
    assert failures_of(hosted.node).warning().startswith(f'callbacks failed: {hosted.failed}, ')
    assert failures_of(hosted.node).status() == {'callbacks failed': str(hosted.failed)}


def test_other_callbacks_of_the_group_go_on(hosted: Hosted) -> None:
    ticks: list[int] = []
    hosted.node.create_timer(0.001, fail)
    hosted.node.create_timer(0.001, lambda: ticks.append(1))
    hosted.wait_until(lambda: len(ticks) > 5 and hosted.failed > 5, 'both')


def test_a_message_that_cannot_be_taken_leaves_its_topic_alive(
    hosted: Hosted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In rclpy itself the callback group is locked from then on."""
    heard: list[str] = []
    subscription = hosted.node.create_subscription(
        String, '/net/text', lambda each: heard.append(each.data), 10
    )
    publisher = hosted.probe.node.create_publisher(String, '/net/text', 10)
    hosted.wait_until(publisher.get_subscription_count, 'the subscription')
    take = hosted.executor._take_subscription

    def take_none(entity: Any) -> Any:
        call = take(entity)
        if entity is subscription and not hosted.failed:
            raise MemoryError
        return call

    monkeypatch.setattr(hosted.executor, '_take_subscription', take_none)
    for text in ('lost', 'after'):
        publisher.publish(String(data=text))
    hosted.wait_until(lambda: heard == ['after'], 'the next message')
    assert hosted.failed == 1
    assert 'subscription /net/text: MemoryError' in hosted.lines[0]
    hosted.probe.node.destroy_publisher(publisher)


@pytest.mark.parametrize('kind', [Trigger, ListParameters])
def test_a_service_that_raises_answers(hosted: Hosted, kind: Any) -> None:
    hosted.node.create_service(kind, '/net/service', fail)
    assert hosted.ask(kind, '/net/service', kind.Request()) == kind.Response()
    assert hosted.failed == 1


def test_a_parameter_of_no_type_is_refused_alone(hosted: Hosted) -> None:
    hosted.node.declare_parameter('level', 1)
    level = Parameter('level', value=2).to_parameter_msg()
    request = SetParameters.Request(parameters=[UNKNOWN, level, UNKNOWN])
    answer = hosted.ask(SetParameters, '/netted/set_parameters', request)
    assert [each.successful for each in answer.results] == [False, True, False]
    assert answer.results[0].reason
    assert hosted.node.get_parameter('level').value == 2
    request = SetParametersAtomically.Request(parameters=[level, UNKNOWN])
    answer = hosted.ask(
        SetParametersAtomically, '/netted/set_parameters_atomically', request
    )
    assert not answer.result.successful and answer.result.reason
    assert 'set_parameters' in hosted.lines[0] and hosted.failed == 3


def test_a_parameter_without_a_name_is_refused_alone(hosted: Hosted) -> None:
    """Plain rclpy calls it set."""
    hosted.node.declare_parameter('level', 1)
    level, nameless = (Parameter(name, value=2).to_parameter_msg() for name in ('level', ''))
    request = SetParametersAtomically.Request(parameters=[level, nameless])
    answer = hosted.ask(SetParametersAtomically, '/netted/set_parameters_atomically', request)
    assert not answer.result.successful and 'needs a name' in answer.result.reason
    assert hosted.node.get_parameter('level').value == 1
    request = SetParameters.Request(parameters=[nameless, level])
    answer = hosted.ask(SetParameters, '/netted/set_parameters', request)
    assert [each.successful for each in answer.results] == [False, True]
    assert hosted.failed == 0


@pytest.mark.parametrize('ending', [ExternalShutdownException, SystemExit, KeyboardInterrupt])
def test_what_is_to_end_the_node_passes(hosted: Hosted, ending: type[BaseException]) -> None:
    def end() -> None:
        raise ending

    hosted.node.create_timer(0.001, end)
    with pytest.raises(ending):
        hosted.wait_until(lambda: False, 'its end')
    assert hosted.failed == 0


def test_waiting_that_fails_is_tried_again_and_given_up_at_last(
    hosted: Hosted, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks: list[int] = []
    hosted.node.create_timer(0.001, lambda: ticks.append(1))
    fails = [2]
    wait = hosted.executor.wait_for_ready_callbacks

    def waiting(timeout_sec: float | None = None) -> Any:
        if fails[0]:
            fails[0] -= 1
            raise RuntimeError('rcl')
        return wait(timeout_sec=timeout_sec)

    monkeypatch.setattr(hosted.executor, 'wait_for_ready_callbacks', waiting)
    hosted.wait_until(lambda: ticks, 'a tick')
    assert hosted.failed == 2 and 'waiting for callbacks: RuntimeError' in hosted.lines[0]
    fails[0] = 100
    with pytest.raises(RuntimeError, match='rcl'):
        hosted.wait_until(lambda: False, 'its end')


def test_the_detector_outlives_what_rclpy_raises(probe: Probe, log, photograph) -> None:
    """Over the wire: a transition of another state, a parameter of no type, early clocks."""
    with DetectorProcess(log, autostart=True, image_topics='/net/image_raw') as process:
        camera = probe.publisher('/net/image_raw')
        answers = probe.detections('/net/detections')
        probe.wait_for_state('active')
        assert not probe.change_state('cleanup') and probe.state() == 'active'
        assert 'transition' in process.text() and 'Traceback' not in process.text()
        request = SetParameters.Request(parameters=[UNKNOWN])
        answer = probe.call(SetParameters, '/detector/set_parameters', request)
        assert not answer.results[0].successful
        probe.wait_until(
            lambda: probe.values().get('callbacks failed') == '1'
            and 'callbacks failed: 1' in probe.summary()[0], 'the count'
        )
        assert probe.set_parameter('use_sim_time', True) == ''
        clock = probe.node.create_publisher(Clock, '/clock', qos_profile_sensor_data)
        probe.wait_until(clock.get_subscription_count, 'who takes the time')
        message = Clock()
        message.clock.sec = -5

        def counted() -> bool:
            clock.publish(message)
            return int(probe.values().get('callbacks failed', 0)) > 1

        probe.wait_until(counted, 'the second kind')
        assert probe.set_parameter('use_sim_time', False) == ''
        assert probe.ask(camera, image_msg(photograph), answers).detections
        assert 'callback failed, the node goes on' in process.text()
    for publisher in (camera, clock):
        probe.node.destroy_publisher(publisher)


NODES = {
    'power_node': ('power_manager', ['-p', 'emulate:=nano']),
    'image_player_node': ('image_player', ['-p', 'source:={picture}']),
    'recorder_node': ('recorder', ['-p', 'bag:={bag}']),
    'top_node': ('top', []),
}


@pytest.mark.parametrize('module', NODES)
def test_the_other_nodes_outlive_it_too(probe: Probe, tmp_path, photograph, module) -> None:
    import cv2

    name, arguments = NODES[module]
    picture = tmp_path / 'picture.png'
    cv2.imwrite(str(picture), photograph)
    given = [each.format(picture=picture, bag=tmp_path / 'bag') for each in arguments]
    process = start_node(module, given, tmp_path / 'log.txt')
    try:
        for _ in range(2):
            request = SetParameters.Request(parameters=[UNKNOWN])
            answer = probe.call(SetParameters, f'/{name}/set_parameters', request)
            assert not answer.results[0].successful
        assert process.poll() is None
        subject = f'/{name}: {"power" if module == "power_node" else "callbacks"}'

        def told() -> bool:
            message, values, level = probe._statuses.get(subject, ('', {}, b''))
            return 'callbacks failed: 2, ' in message and level == DiagnosticStatus.WARN and (
                values['callbacks failed'] == '2')

        probe.wait_until(told, 'diagnostics')
        process.send_signal(2)
        assert process.wait(600) == 0
    finally:
        process.kill()
    text = (tmp_path / 'log.txt').read_text()
    assert 'callback failed, the node goes on' in text and 'Traceback' not in text


def test_an_image_on_a_topic_of_the_wrong_kind_is_no_exception(probe: Probe, log) -> None:
    with DetectorProcess(log, autostart=True, image_topics='/odd/image_raw'):
        odd = probe.node.create_publisher(String, '/odd/image_raw', 10)
        probe.wait_until(
            lambda: 'carries std_msgs/msg/String' in probe.summary('/odd/image_raw')[0], 'status'
        )
        probe.node.destroy_publisher(odd)
        camera = probe.node.create_publisher(Image, '/odd/image_raw', qos_profile_sensor_data)
        probe.wait_until(camera.get_subscription_count, 'the subscription')
        probe.node.destroy_publisher(camera)
