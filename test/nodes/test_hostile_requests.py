"""Requests that nobody in their right mind sends, in great number: each is answered."""

from __future__ import annotations

from collections.abc import Iterator
import random
from typing import Any

from lifecycle_msgs.srv import ChangeState
import pytest
from rcl_interfaces.msg import Parameter as ParameterMsg
from rcl_interfaces.msg import ParameterValue
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    ListParameters,
    SetParameters,
    SetParametersAtomically,
)
from ros_probe import DetectorProcess, fresh_probe, image_msg, Probe, start_node

from yolov7_trt_ros.nodes.detector_parameters import parameters
from yolov7_trt_ros.nodes.power import power_parameters

TOPIC = '/hostile/image_raw'
REQUESTS = 600
TEXTS = (
    '', '/a', 'a', '/**', '/**a**a**a**b', '/diagnostics', TOPIC, '~/label_info', '~', '/', '//',
    'a b', '{node}', '{x}', 'a' * 300, 'é', '\x01', '/a,/b', '/a,/a,', 'yolov7-nano', 'auto', '*',
    '/etc/passwd', '../x', 'nan', 'rebuild', '/*/x', '/hostile/detections', ',,,', '\n', '~/*',
    '/parameter_events', '/clock', 'person', '0', '-1', 'person,dog', 'x' * 70_000,
)


class Hostile:
    """Makes requests for a node with these parameters, the same ones for the same seed."""

    def __init__(self, names: list[str], seed: int) -> None:
        self._names = [*names, 'use_sim_time', 'start_type_description_service', 'none', '']
        self._random = random.Random(seed)

    def value(self) -> ParameterValue:
        chance = self._random
        return ParameterValue(
            type=chance.choice([*range(12), 200, 4, 4, 9]),
            bool_value=chance.random() < 0.5,
            integer_value=chance.choice([0, 1, -1, 2**63 - 1, -2**63, 64]),
            double_value=chance.choice([0.0, 0.5, -1.0, float('nan'), float('inf'), 1e308]),
            string_value=chance.choice(TEXTS),
            integer_array_value=[chance.randrange(-5, 5) for _ in range(chance.randrange(4))],
            string_array_value=[chance.choice(TEXTS) for _ in range(chance.randrange(4))],
        )

    def names(self) -> list[str]:
        return [self._random.choice(self._names) for _ in range(self._random.randrange(4))]

    def request(self, node: str, *, lifecycle: bool) -> tuple[Any, str, Any]:
        """Return the type of a service, its name, and a request."""
        given = [ParameterMsg(name=name, value=self.value()) for name in self.names()]
        change = ChangeState.Request()
        change.transition.id = self._random.choice([0, 1, 2, 3, 4, 1, 3, 10, 60, 99, 200])
        change.transition.label = self._random.choice(['', '', 'configure', 'on_error', 'x'])
        choices = [
            (SetParameters, 'set_parameters', SetParameters.Request(parameters=given)),
            (SetParametersAtomically, 'set_parameters_atomically',
             SetParametersAtomically.Request(parameters=given)),
            (GetParameters, 'get_parameters', GetParameters.Request(names=self.names())),
            (DescribeParameters, 'describe_parameters',
             DescribeParameters.Request(names=self.names())),
            (ListParameters, 'list_parameters',
             ListParameters.Request(prefixes=self.names(), depth=2**64 - 1)),
        ]
        if lifecycle:
            choices.append((ChangeState, 'change_state', change))
        kind, name, request = self._random.choice(choices)
        return kind, f'{node}/{name}', request


@pytest.fixture
def alone() -> Iterator[Probe]:
    """Return a probe in a graph of its own: patterns of topics find nothing of other tests."""
    with fresh_probe() as probe:
        yield probe


def test_the_detector_answers_them_all_and_works_afterwards(alone: Probe, log, photograph) -> None:
    hostile = Hostile([spec.name for spec in parameters.PARAMETERS], 15)
    start = {'image_topics': TOPIC, 'network_size': 64, 'score_threshold': 0.25}
    with DetectorProcess(log, autostart=True, **start) as process:
        alone.wait_for_state('active')
        for number in range(REQUESTS):
            kind, name, request = hostile.request('/detector', lifecycle=True)
            print(number, name, str(request)[:200])  # shown if it is never answered
            alone.call(kind, name, request)
        print('all answered')
        assert process.process.poll() is None
        for transition in ('deactivate', 'cleanup'):
            alone.change_state(transition)
        for spec in parameters.PARAMETERS:
            if not spec.start_only:
                value = start.get(spec.name, spec.default)
                assert alone.set_parameter(spec.name, value) == '', spec.name
        assert alone.set_parameter('use_sim_time', False) == ''
        assert alone.change_state('configure') and alone.change_state('activate')
        camera = alone.publisher(TOPIC)
        found = alone.detections('/hostile/detections')
        alone.ask(camera, image_msg(photograph), found)


@pytest.mark.parametrize('board', ['nano', 'orin_nano_super'])
def test_the_power_node_answers_them_all(probe: Probe, tmp_path, board: str) -> None:
    hostile = Hostile([spec.name for spec in power_parameters.PARAMETERS], 16)
    arguments = ['-p', f'emulate:={board}']
    node = start_node('power_node', arguments, tmp_path / 'log.txt')
    try:
        for _ in range(REQUESTS // 4):
            probe.call(*hostile.request('/power_manager', lifecycle=False))
        assert node.poll() is None
        node.send_signal(2)
        assert node.wait(600) == 0
    finally:
        node.kill()
    assert 'Traceback' not in (tmp_path / 'log.txt').read_text()
