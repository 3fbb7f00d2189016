"""
Start the detector.

    ros2 launch yolov7_trt_ros detect.launch.py image_topics:=/camera/image_raw

`--show-args` lists the arguments. Any parameter of the node can be set through `params_file`;
arguments given on the command line win over the file. With `respawn:=true` the node ends when the
GPU is lost to its process, and is started again whenever it ends.

"""

import os

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription
from yolov7_trt_ros.nodes.process import large_image_environment

# Launch argument -> type and meaning; each sets the node parameter of the same name.
PARAMETER_ARGUMENTS = {
    'image_topics': (str, 'image topics, several with commas'),
    'model': (str, 'model file, or the name of an embedded model'),
    'backend': (str, 'inference engine: auto, tensorrt or onnx'),
    'precision': (str, 'of a TensorRT plan built here: fp32, fp16, int8 or mixed'),
    'on_plan_mismatch': (str, 'TensorRT plan that does not fit or is not there: rebuild or fail'),
    'network_size': (int, 'longer side of the network input, pixels'),
    'score_threshold': (float, 'least score of a detection, 0..1'),
    'iou_threshold': (float, 'overlap above which the weaker box is dropped, 0..1'),
    'classes': (str, 'classes to keep, by name or index, with commas'),
    'max_rate_hz': (float, 'most images per second and topic, 0 for no limit'),
    'publish_overlay': (bool, 'publish images with boxes while somebody subscribes'),
    'class_id_format': (str, 'text in class_id: name or index'),
    'image_qos': (str, 'auto, best_effort or reliable'),
    'image_transport': (str, 'auto, raw or compressed'),
}
RESPAWN_DELAY_S = 2.0


def generate_launch_description():
    """Describe the launch: arguments, environment, and the node made from them."""
    share = get_package_share_directory('yolov7_trt_ros')
    arguments = [
        DeclareLaunchArgument(name, default_value='', description=f'{text}; empty: params_file')
        for name, (_, text) in PARAMETER_ARGUMENTS.items()
    ]
    arguments += [
        DeclareLaunchArgument(
            'params_file', default_value=os.path.join(share, 'config', 'detector.yaml'),
            description='parameters of the node',
        ),
        DeclareLaunchArgument('name', default_value='detector', description='node name'),
        DeclareLaunchArgument('namespace', default_value='', description='node namespace'),
        DeclareLaunchArgument(
            'autostart', default_value='true', description='configure and activate at start'
        ),
        DeclareLaunchArgument(
            'use_sim_time', default_value='false', description='take time from /clock'
        ),
        DeclareLaunchArgument(
            'respawn', default_value='false',
            description='start again when the process ends, as it then does when the GPU is lost',
        ),
        DeclareLaunchArgument(
            'log_level', default_value='info', description='debug, info, warn, error or fatal'
        ),
    ]
    environment = [
        SetEnvironmentVariable(name, value)
        for name, value in large_image_environment(os.environ).items()
    ]
    return LaunchDescription([*arguments, *environment, OpaqueFunction(function=_make_node)])


def _make_node(context):
    """Make the node from the arguments' values; empty ones leave the file's value."""
    def value(name):
        return LaunchConfiguration(name).perform(context)

    respawn = value('respawn').lower() == 'true'
    parameters = {
        'autostart': value('autostart').lower() == 'true',
        'use_sim_time': value('use_sim_time').lower() == 'true',
        'on_device_lost': 'exit' if respawn else 'stay',
    }
    for name, (value_type, _) in PARAMETER_ARGUMENTS.items():
        if value(name):
            parameters[name] = ParameterValue(
                LaunchConfiguration(name), value_type=value_type
            )
    return [
        LifecycleNode(
            package='yolov7_trt_ros',
            executable='detector_node',
            name=value('name'),
            namespace=value('namespace'),
            parameters=[value('params_file'), parameters],
            arguments=['--ros-args', '--log-level', value('log_level')],
            respawn=respawn,
            respawn_delay=RESPAWN_DELAY_S,
            output='screen',
        )
    ]

