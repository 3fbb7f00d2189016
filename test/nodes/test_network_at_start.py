"""A node that starts before the network is up says so: it will never find other hosts."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from yolov7_trt_ros.nodes.process.network_at_start import looks_for_other_hosts, network_problem

WITHOUT_NETWORK = ('unshare', '--net')
CANNOT = subprocess.run([*WITHOUT_NETWORK, 'true'], capture_output=True, check=False).returncode


@pytest.mark.parametrize(('environment', 'looks'), [
    ({}, True),
    ({'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SUBNET'}, True),
    ({'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}, False),
    ({'ROS_AUTOMATIC_DISCOVERY_RANGE': 'OFF'}, False),
    ({'ROS_LOCALHOST_ONLY': '1'}, False),
    ({'ROS_LOCALHOST_ONLY': '0'}, True),
    ({'ROS_LOCALHOST_ONLY': '1', 'ROS_STATIC_PEERS': '10.0.0.2'}, True),
])
def test_only_a_node_that_looks_for_other_hosts_is_warned(
    environment: dict[str, str], looks: bool
) -> None:
    assert looks_for_other_hosts(environment) is looks
    assert bool(network_problem(environment, network=False)) is looks
    assert network_problem(environment, network=True) == ''


@pytest.mark.parametrize(('environment', 'looks'), [
    ({'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}, True),
    ({'ROS_LOCALHOST_ONLY': '1'}, False),
    ({'ROS_LOCALHOST_ONLY': '1', 'ROS_STATIC_PEERS': '10.0.0.2'}, False),
])
def test_humble_knows_no_discovery_range(environment: dict[str, str], looks: bool) -> None:
    assert looks_for_other_hosts(environment, has_range=False) is looks
    said = network_problem(environment, network=False, has_range=False)
    assert ('ROS_LOCALHOST_ONLY=1' in said) is looks


@pytest.mark.parametrize(('middleware', 'warned'), [
    ('rmw_fastrtps_cpp', True), ('rmw_fastrtps_dynamic_cpp', True), ('rmw_cyclonedds_cpp', False),
])
def test_only_fast_dds_is_known_to_look_once(middleware: str, warned: bool) -> None:
    said = network_problem({'RMW_IMPLEMENTATION': middleware}, network=False)
    assert bool(said) is warned


@pytest.mark.skipif(CANNOT != 0, reason='no network namespace can be made here')
@pytest.mark.parametrize('prepare', ['true', 'ip link set lo up'])
def test_a_real_start_without_a_network_is_told(prepare: str) -> None:
    node = f'"{sys.executable}" -m yolov7_trt_ros.nodes.detector.detector_node'
    ended = subprocess.run(
        [*WITHOUT_NETWORK, 'sh', '-c', f'{prepare}; {node} --ros-args -p image_topics:="/a b"'],
        env=os.environ | {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SUBNET'},
        capture_output=True, text=True, check=False,
    )
    assert ended.stderr.count('[WARN]') == 1 and 'no network is up' in ended.stderr
