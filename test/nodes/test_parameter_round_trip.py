"""Setting a parameter to the value it has is no change: what a node dumps, it loads."""

from __future__ import annotations

from typing import Any

import pytest
from rcl_interfaces.msg import ParameterValue
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    ListParameters,
    SetParameters,
    SetParametersAtomically,
)
from rclpy.parameter import Parameter
from ros_probe import DetectorProcess, Probe, start_node

from yolov7_trt_ros.nodes.detector_parameters.parameters import PARAMETERS

NODES = {
    'power_node': ('power_manager', ['-p', 'emulate:=nano', '-p', 'restore_on_exit:=false']),
    'image_player_node': ('image_player', ['-p', 'source:={folder}/picture.png']),
    'recorder_node': ('recorder', ['-p', 'bag:={folder}/bag']),
    'top_node': ('top', []),
}


def dump(probe: Probe, node: str) -> list[Any]:
    """Return the parameters of a node, as `ros2 param dump` does."""
    listed = probe.call(ListParameters, f'{node}/list_parameters', ListParameters.Request())
    names = list(listed.result.names)
    answer = probe.call(
        GetParameters, f'{node}/get_parameters', GetParameters.Request(names=names)
    )
    return [
        Parameter(name).to_parameter_msg() if value.type == 0 else parameter(name, value)
        for name, value in zip(names, answer.values, strict=True)
    ]


def parameter(name: str, value: ParameterValue) -> Any:
    message = Parameter(name).to_parameter_msg()
    message.value = value
    return message


def load(probe: Probe, node: str, parameters: list[Any]) -> list[str]:
    """Set parameters one by one, as `ros2 param load` does; returns the refusals."""
    request = SetParameters.Request(parameters=parameters)
    answer = probe.call(SetParameters, f'{node}/set_parameters', request)
    return [
        f'{each.name}: {result.reason}'
        for each, result in zip(parameters, answer.results, strict=True) if not result.successful
    ]


def test_the_detector_loads_what_it_dumps(probe: Probe, log) -> None:
    with DetectorProcess(
        log, autostart=True, image_topics='/trip/image_raw', model_folders='/tmp'
    ):
        probe.wait_for_state('active')
        parameters = dump(probe, '/detector')
        assert {each.name for each in parameters} >= {spec.name for spec in PARAMETERS}
        assert load(probe, '/detector', parameters) == []
        request = SetParametersAtomically.Request(parameters=parameters)
        name = '/detector/set_parameters_atomically'
        assert probe.call(SetParametersAtomically, name, request).result.successful
        assert dump(probe, '/detector') == parameters
        assert probe.state() == 'active'
        # other values are refused as ever
        assert 'takes effect at configure' in probe.set_parameter('network_size', 320)
        assert 'read-only' in probe.set_parameter('model_folders', '/')


@pytest.mark.parametrize('module', NODES)
def test_the_other_nodes_load_what_they_dump(probe: Probe, tmp_path, photograph, module) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / 'picture.png'), photograph)
    name, arguments = NODES[module]
    node = start_node(
        module, [each.format(folder=tmp_path) for each in arguments], tmp_path / 'log.txt'
    )
    try:
        parameters = dump(probe, f'/{name}')
        assert load(probe, f'/{name}', parameters) == []
        assert dump(probe, f'/{name}') == parameters
        node.send_signal(2)
        assert node.wait(600) == 0
    finally:
        node.kill()


def test_descriptors_say_when_a_change_takes_effect(probe: Probe, log) -> None:
    fixed = [spec.name for spec in PARAMETERS if not spec.runtime]
    assert 'backend' in fixed  # one of those with choices
    with DetectorProcess(log):
        request = DescribeParameters.Request(names=fixed)
        answer = probe.call(DescribeParameters, '/detector/describe_parameters', request)
    for descriptor in answer.descriptors:
        assert descriptor.description
        assert 'effect at the configure' in descriptor.additional_constraints
    choices = {each.name: each.additional_constraints for each in answer.descriptors}
    assert choices['backend'].startswith('one of: auto, ')
