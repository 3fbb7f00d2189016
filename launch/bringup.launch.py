"""
Start the detector and the power node together.

    ros2 launch yolov7_trt_ros bringup.launch.py image_topics:=/camera/image_raw governor:=deadline

The power node counts frames on the detections topics that follow from the image topics. Whatever
has no argument here is set through `detector_params_file` and `power_params_file`, or by starting
detect.launch.py and power.launch.py on their own.

"""

import os

from ament_index_python.packages import get_package_share_directory
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from launch import LaunchDescription
from yolov7_trt_ros.core.topics import detections_topics, split_names

# Argument -> default and meaning; handed to both launch files, or to one of them.
BOTH = {
    'namespace': ('', 'namespace of both nodes'),
    'use_sim_time': ('false', 'take time from /clock'),
    'respawn': ('false', 'start a process again when it ends'),
    'log_level': ('info', 'debug, info, warn, error or fatal'),
}
DETECTOR = {
    'image_topics': ('image_raw', 'image topics, several with commas'),
    'model': ('', 'model file, or the name of an embedded model; empty: detector_params_file'),
    'backend': ('', 'auto, tensorrt or onnx; empty: detector_params_file'),
    'precision': ('', 'fp32, fp16, int8 or mixed; empty: detector_params_file'),
    'network_size': ('', 'longer side of the network input; empty: detector_params_file'),
    'score_threshold': ('', 'least score, 0..1; empty: detector_params_file'),
    'max_rate_hz': ('', 'most images per second and topic; empty: detector_params_file'),
}
POWER = {
    'emulate': ('', 'board to emulate; empty: power_params_file'),
    'power_mode': ('', 'power mode, by name or id; empty: power_params_file'),
    'jetson_clocks': ('', 'lock all clocks; empty: power_params_file'),
    'governor': ('', 'off, deadline or power_budget; empty: power_params_file'),
    'deadline_ms': ('', 'for the governor; empty: power_params_file'),
    'power_budget_w': ('', 'for the governor; empty: power_params_file'),
    'dry_run': ('', 'change nothing on the board; empty: power_params_file'),
}
FILES = {'detector_params_file': 'detector.yaml', 'power_params_file': 'power.yaml'}


def generate_launch_description():
    """Describe the launch: arguments, and the two launch files that get them."""
    config = os.path.join(get_package_share_directory('yolov7_trt_ros'), 'config')
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in {**BOTH, **DETECTOR, **POWER}.items()
    ]
    arguments += [
        DeclareLaunchArgument(
            name, default_value=os.path.join(config, file), description='parameters of the node'
        )
        for name, file in FILES.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_include)])


def _include(context):
    """Include both launch files, each in a scope of its own: some arguments have one name."""
    def values(names):
        return {name: LaunchConfiguration(name).perform(context) for name in names}

    given = values([*BOTH, *DETECTOR, *POWER, *FILES])
    images = split_names(given['image_topics'])
    detector = {name: given[name] for name in (*BOTH, *DETECTOR)}
    detector['params_file'] = given['detector_params_file']
    power = {name: given[name] for name in (*BOTH, *POWER)}
    power['params_file'] = given['power_params_file']
    power['detections_topics'] = ','.join(detections_topics(images))
    return [_scoped('detect.launch.py', detector), _scoped('power.launch.py', power)]


def _scoped(file, arguments):
    path = os.path.join(get_package_share_directory('yolov7_trt_ros'), 'launch', file)
    return GroupAction(
        [IncludeLaunchDescription(
            PythonLaunchDescriptionSource(path), launch_arguments=list(arguments.items())
        )],
        scoped=True, forwarding=False,
    )
