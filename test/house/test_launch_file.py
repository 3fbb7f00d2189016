"""The launch files: read with the real launch libraries where they are, else with stand-ins."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
import re
import runpy
import sys
import types

import pytest

from yolov7_trt_ros.errors import SettingError

LAUNCH = Path(__file__).resolve().parents[2] / 'launch'
# The module of each launch file's parameters, and its arguments besides those.
PARAMETER_MODULES = {
    'detect.launch.py': 'yolov7_trt_ros.nodes.detector_parameters.parameters',
    'power.launch.py': 'yolov7_trt_ros.nodes.power.power_parameters',
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


PARTS = 'yolov7_trt_ros.nodes.process.launch_parts'


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


@only_stand_ins
@pytest.mark.parametrize(
    ('given', 'reason'),
    [
        ({'use_sim_time': 'yes'}, "use_sim_time must be true or false, got 'yes'"),
        ({'respawn': '1'}, "respawn must be true or false, got '1'"),
        ({'autostart': ''}, "autostart must be true or false, got ''"),
        ({'publish_overlay': 'on'}, "publish_overlay must be true or false, got 'on'"),
        ({'score_threshold': 'abc'}, "score_threshold must be a number, got 'abc'"),
        ({'network_size': '3.5'}, "network_size must be an integer, got '3.5'"),
        ({'log_level': 'loud'}, 'log_level must be one of debug, info, warn, error, fatal'),
        ({'params_file': '/nowhere.yaml'}, 'params_file: no such file: /nowhere.yaml'),
    ],
)
def test_an_argument_of_the_wrong_kind_is_named(launch_modules, share, given, reason):
    module = runpy.run_path(str(LAUNCH / 'detect.launch.py'))
    with pytest.raises(SettingError, match=re.escape(f'launch argument {reason}')):
        module['_make_node'](declared_arguments(module) | given)


@only_stand_ins
def test_flags_may_be_written_in_whatever_case(launch_modules, share):
    module = runpy.run_path(str(LAUNCH / 'detect.launch.py'))
    given = declared_arguments(module) | {'use_sim_time': 'True', 'autostart': 'FALSE'}
    (node,) = module['_make_node'](given)
    _, parameters = node.named['parameters']
    assert parameters['use_sim_time'] is True and parameters['autostart'] is False


DETECTIONS = {
    'nothing': ('', '', 'detections'),
    'the argument': ('image_topics: /file/image_raw', '/front/image_raw', '/front/detections'),
    'the file': ('image_topics: [/a/image_raw, /b/image_raw]', '', '/a/detections,/b/detections'),
    'the file with a text': ('image_topics: /a/image_raw, /b/image_raw', '',
                             '/a/detections,/b/detections'),
    'outputs in the file': ('detections_topics: [objs]', '/front/image_raw', 'objs'),
    'a pattern': ("image_topics: ['/row/*/image_raw']", '', ''),
    'numbers': ('image_topics: [1, 2]', '', '1/detections,2/detections'),
}


@only_stand_ins
@pytest.mark.parametrize('case', DETECTIONS)
@pytest.mark.parametrize('node', ['/**', 'detector', '/robot/detector', '/*/detector'])
def test_bringup_counts_frames_where_the_detector_publishes(
    launch_modules, share, tmp_path, case, node
):
    line, argument, expected = DETECTIONS[case]
    file = tmp_path / 'mine.yaml'
    file.write_text(f"'{node}':\n  ros__parameters:\n    threads: 1\n    {line}\n"
                    'other:\n  ros__parameters:\n    image_topics: /wrong/image_raw\n')
    module = runpy.run_path(str(LAUNCH / 'bringup.launch.py'))
    given = declared_arguments(module) | {
        'image_topics': argument, 'detector_params_file': str(file),
        'namespace': 'robot' if node.count('/') == 2 and node != '/**' else '',
    }
    handed = [dict(group.positional[0][0].named['launch_arguments'])
              for group in module['_include'](given)]
    detector, power = handed
    assert detector['image_topics'] == argument
    assert power['detections_topics'] == expected


@only_stand_ins
@pytest.mark.parametrize('text', [
    'a: [', '- 1\n', 'detector: 7\n', 'detector: {ros__parameters: words}\n', 'a: 2024-13-45\n',
    f'a: {"9" * 10_000}\n', '[' * 5000, '\0', 'a pipe', None,
])
def test_bringup_names_a_parameter_file_that_cannot_be_read(
    launch_modules, share, tmp_path, text
):
    file = tmp_path / 'mine.yaml'
    if text == 'a pipe':
        os.mkfifo(file)
    elif text is not None:
        file.write_text(text)
    module = runpy.run_path(str(LAUNCH / 'bringup.launch.py'))
    given = declared_arguments(module) | {'detector_params_file': str(file)}
    with pytest.raises(SettingError, match=f'parameter file {re.escape(str(file))} cannot be'):
        module['_include'](given)


@only_stand_ins
def test_a_misspelt_argument_is_named_with_the_nearest(launch_modules, share, caplog):
    module = runpy.run_path(str(LAUNCH / 'detect.launch.py'))
    given = types.SimpleNamespace(launch_configurations={
        'score_treshold': '1', 'another_files_argument': '2', 'score_threshold': '3',
    })
    with caplog.at_level('WARNING', 'launch'):
        module['warn_of_misspelt'](given, {*module['PARAMETER_ARGUMENTS'], *module['NODE']})
    assert [each.getMessage() for each in caplog.records] == [
        "no launch argument is called 'score_treshold', did you mean 'score_threshold'?"
    ]
