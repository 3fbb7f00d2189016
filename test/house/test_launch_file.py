"""The launch files: read with the real launch libraries where they are, else with stand-ins."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
import runpy
import sys
import types

import pytest

LAUNCH = Path(__file__).resolve().parents[2] / 'launch'
# The module of each launch file's parameters, and its arguments besides those.
PARAMETER_MODULES = {
    'detect.launch.py': 'yolov7_trt_ros.nodes.parameters',
    'power.launch.py': 'yolov7_trt_ros.nodes.power_parameters',
}
COMMON = {'namespace', 'use_sim_time', 'respawn', 'log_level'}
OTHERS = {
    'detect.launch.py': {*COMMON, 'params_file', 'name', 'autostart'},
    'power.launch.py': {*COMMON, 'params_file', 'name'},
    'bringup.launch.py': {*COMMON, 'detector_params_file', 'power_params_file', 'image_topics'},
}


class Recorded:
    """Stands for any launch action: keeps what it was given."""

    def __init__(self, *positional, **named):
        self.positional, self.named = positional, named

    def perform(self, context):
        """As a LaunchConfiguration does; here the context is a dict of the arguments."""
        return context[self.positional[0]]


PARTS = 'yolov7_trt_ros.nodes.launch_parts'


@pytest.fixture
def launch_modules(monkeypatch):
    """
    Put recording stand-ins in place of launch and launch_ros where these are not installed.

    The module of ours that imports them is forgotten before and after, so that nobody else gets
    one with stand-ins in it.

    """
    if importlib.util.find_spec('launch_ros'):
        yield
        return
    sys.modules.pop(PARTS, None)
    for name, members in (
        ('launch', ['LaunchDescription']),
        ('launch.actions', [
            'DeclareLaunchArgument', 'GroupAction', 'IncludeLaunchDescription', 'OpaqueFunction',
            'SetEnvironmentVariable',
        ]),
        ('launch.launch_description_sources', ['PythonLaunchDescriptionSource']),
        ('launch.substitutions', ['LaunchConfiguration']),
        ('launch_ros', []),
        ('launch_ros.actions', ['LifecycleNode', 'Node']),
        ('launch_ros.parameter_descriptions', ['ParameterValue']),
    ):
        module = types.ModuleType(name)
        for member in members:
            setattr(module, member, type(member, (Recorded,), {}))
        monkeypatch.setitem(sys.modules, name, module)
    yield
    sys.modules.pop(PARTS, None)
    vars(importlib.import_module('yolov7_trt_ros.nodes')).pop('launch_parts', None)


@pytest.fixture
def share(monkeypatch):
    """Have the launch files find the installed package."""
    monkeypatch.setenv('AMENT_PREFIX_PATH', os.environ.get('AMENT_PREFIX_PATH') or sys.prefix)


def declared_arguments(module):
    """Return the declared arguments and their defaults, as stand-ins recorded them."""
    (entities,) = module['generate_launch_description']().positional
    return {
        each.positional[0]: each.named['default_value']
        for each in entities if type(each).__name__ == 'DeclareLaunchArgument'
    }


@pytest.mark.skipif(not importlib.util.find_spec('rclpy'), reason='parameter types need rclpy')
@pytest.mark.parametrize('file', PARAMETER_MODULES)
def test_arguments_are_parameters_of_the_node_with_the_same_type(launch_modules, file):
    table = importlib.import_module(PARAMETER_MODULES[file]).PARAMETERS
    types_of = {spec.name: type(spec.default) for spec in table}
    arguments = runpy.run_path(str(LAUNCH / file))['PARAMETER_ARGUMENTS']
    assert {name: types_of[name] for name in arguments} == {
        name: value_type for name, (value_type, _) in arguments.items()
    }


@pytest.mark.skipif(
    not importlib.util.find_spec('ament_index_python'), reason='the launch file finds share/ by it'
)
@pytest.mark.parametrize('file', OTHERS)
def test_the_description_declares_every_argument(launch_modules, share, monkeypatch, file):
    monkeypatch.delenv('FASTDDS_DEFAULT_PROFILES_FILE', raising=False)
    module = runpy.run_path(str(LAUNCH / file))
    description = module['generate_launch_description']()
    if not isinstance(description, Recorded):
        names = {argument.name for argument in description.get_launch_arguments()}
    else:
        (entities,) = description.positional
        names = set(declared_arguments(module))
        variables = [each for each in entities if type(each).__name__.startswith('SetEnv')]
        assert all(Path(each.positional[1]).is_file() for each in variables)
    assert names >= {*module.get('PARAMETER_ARGUMENTS', ()), *OTHERS[file]}


only_stand_ins = pytest.mark.skipif(
    bool(importlib.util.find_spec('launch_ros'))
    or not importlib.util.find_spec('ament_index_python'),
    reason='reads what stand-ins were given, with share/ found by ament_index_python',
)


@only_stand_ins
def test_the_power_node_gets_time_to_put_things_back(launch_modules, share):
    module = runpy.run_path(str(LAUNCH / 'power.launch.py'))
    given = declared_arguments(module) | {'power_mode': '2', 'emulate': 'thor'}
    (node,) = module['_make_node'](given)
    assert node.named['executable'] == 'power_node'
    file, parameters = node.named['parameters']
    assert Path(file).name == 'power.yaml'
    assert set(parameters) == {'use_sim_time', 'power_mode', 'emulate'}
    assert float(node.named['sigterm_timeout']) > 60
    assert float(node.named['sigkill_timeout']) > 60


@only_stand_ins
def test_bringup_hands_on_only_what_the_launch_files_declare(launch_modules, share):
    module = runpy.run_path(str(LAUNCH / 'bringup.launch.py'))
    given = declared_arguments(module) | {
        'image_topics': '/front/image_raw, /rear/image_raw', 'governor': 'deadline',
    }
    handed = {}
    for group in module['_include'](given):
        assert group.named == {'scoped': True, 'forwarding': False}
        ((include,),) = group.positional
        (source,) = include.positional
        file = Path(source.positional[0]).name
        handed[file] = dict(include.named['launch_arguments'])
        known = declared_arguments(runpy.run_path(str(LAUNCH / file)))
        assert set(handed[file]) <= set(known)
    assert Path(handed['detect.launch.py']['params_file']).name == 'detector.yaml'
    assert Path(handed['power.launch.py']['params_file']).name == 'power.yaml'
    assert handed['power.launch.py']['governor'] == 'deadline'
    assert handed['power.launch.py']['detections_topics'] == '/front/detections,/rear/detections'


@only_stand_ins
@pytest.mark.parametrize(('respawn', 'on_device_lost'), [('true', 'exit'), ('false', 'stay')])
def test_a_node_that_is_started_again_exits_when_its_device_is_lost(
    launch_modules, share, respawn, on_device_lost
):
    module = runpy.run_path(str(LAUNCH / 'detect.launch.py'))
    declared = declared_arguments(module)
    assert declared['respawn'] == 'false'
    (node,) = module['_make_node'](declared | {'respawn': respawn})
    _, parameters = node.named['parameters']
    assert parameters['on_device_lost'] == on_device_lost
    assert node.named['respawn'] is (respawn == 'true')
    assert node.named['respawn_delay'] == 2.0
