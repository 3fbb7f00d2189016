"""The launch file: read with the real launch libraries where they are, else with stand-ins."""

from __future__ import annotations

import importlib.util
import os
import runpy
import sys
import types
from pathlib import Path

import pytest

LAUNCH_FILE = Path(__file__).resolve().parents[2] / 'launch' / 'detect.launch.py'


class Recorded:
    """Stands for any launch action: keeps what it was given."""

    def __init__(self, *positional, **named):
        self.positional, self.named = positional, named

    def perform(self, context):
        """As a LaunchConfiguration does; here the context is a dict of the arguments."""
        return context[self.positional[0]]


@pytest.fixture
def launch_modules(monkeypatch):
    """Put recording stand-ins in place of launch and launch_ros where these are not installed."""
    if importlib.util.find_spec('launch_ros'):
        return
    for name, members in (
        ('launch', ['LaunchDescription']),
        ('launch.actions', ['DeclareLaunchArgument', 'OpaqueFunction', 'SetEnvironmentVariable']),
        ('launch.substitutions', ['LaunchConfiguration']),
        ('launch_ros', []),
        ('launch_ros.actions', ['LifecycleNode']),
        ('launch_ros.parameter_descriptions', ['ParameterValue']),
    ):
        module = types.ModuleType(name)
        for member in members:
            setattr(module, member, type(member, (Recorded,), {}))
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.skipif(not importlib.util.find_spec('rclpy'), reason='parameter types need rclpy')
def test_arguments_are_parameters_of_the_node_with_the_same_type(launch_modules):
    from yolov7_trt_ros.nodes.parameters import PARAMETERS

    types_of = {spec.name: type(spec.default) for spec in PARAMETERS}
    arguments = runpy.run_path(str(LAUNCH_FILE))['PARAMETER_ARGUMENTS']
    assert {name: types_of[name] for name in arguments} == {
        name: value_type for name, (value_type, _) in arguments.items()
    }


@pytest.mark.skipif(
    not importlib.util.find_spec('ament_index_python'), reason='the launch file finds share/ by it'
)
def test_the_description_declares_every_argument(launch_modules, monkeypatch):
    monkeypatch.delenv('FASTDDS_DEFAULT_PROFILES_FILE', raising=False)
    monkeypatch.setenv('AMENT_PREFIX_PATH', os.environ.get('AMENT_PREFIX_PATH') or sys.prefix)
    module = runpy.run_path(str(LAUNCH_FILE))
    description = module['generate_launch_description']()
    if not isinstance(description, Recorded):
        names = {argument.name for argument in description.get_launch_arguments()}
    else:
        (entities,) = description.positional
        names = {
            each.positional[0] for each in entities if type(each).__name__.startswith('Declare')
        }
        variables = [each for each in entities if type(each).__name__.startswith('SetEnv')]
        assert all(Path(each.positional[1]).is_file() for each in variables)
    assert names >= {
        *module['PARAMETER_ARGUMENTS'], 'params_file', 'name', 'namespace', 'autostart',
        'use_sim_time', 'respawn', 'log_level',
    }


@pytest.mark.skipif(
    bool(importlib.util.find_spec('launch_ros')), reason='reads what stand-ins were given'
)
@pytest.mark.skipif(
    not importlib.util.find_spec('ament_index_python'), reason='the launch file finds share/ by it'
)
@pytest.mark.parametrize(('respawn', 'on_device_lost'), [('true', 'exit'), ('false', 'stay')])
def test_a_node_that_is_started_again_exits_when_its_device_is_lost(
    launch_modules, monkeypatch, respawn, on_device_lost
):
    monkeypatch.setenv('AMENT_PREFIX_PATH', os.environ.get('AMENT_PREFIX_PATH') or sys.prefix)
    module = runpy.run_path(str(LAUNCH_FILE))
    (entities,) = module['generate_launch_description']().positional
    declared = {
        each.positional[0]: each.named['default_value']
        for each in entities if type(each).__name__ == 'DeclareLaunchArgument'
    }
    assert declared['respawn'] == 'false'
    (node,) = module['_make_node'](declared | {'respawn': respawn})
    _, parameters = node.named['parameters']
    assert parameters['on_device_lost'] == on_device_lost
    assert node.named['respawn'] is (respawn == 'true')
    assert node.named['respawn_delay'] == 2.0
