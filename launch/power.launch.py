"""
Start the power node.

    ros2 launch yolov7_trt_ros power.launch.py emulate:=orin_nano_super

`--show-args` lists the arguments. Any parameter of the node can be set through `params_file`;
arguments given on the command line win over the file. At the end the node has some time to put
back what it has changed.

"""

import os

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

# Launch argument -> type and meaning; each sets the node parameter of the same name.
PARAMETER_ARGUMENTS = {
    'emulate': (str, 'board to emulate: nano, xavier_nx, agx_orin, orin_nano_super or thor'),
    'power_mode': (str, 'power mode, by name or id'),
    'jetson_clocks': (bool, 'lock every clock at the highest the mode allows'),
    'gpu_max_freq_mhz': (float, 'highest clock of the GPU, 0 for that of the mode'),
    'cpu_max_freq_mhz': (float, 'highest clock of the CPU, 0 for that of the mode'),
    'fan_profile': (str, 'profile of the fan'),
    'governor': (str, 'off, deadline or power_budget'),
    'deadline_ms': (float, 'for the governor: longest time from image to detections'),
    'power_budget_w': (float, 'for the governor: most power of the board'),
    'temperature_limit_c': (float, 'for the governor: where the clock goes down, 0 for nowhere'),
    'sample_rate_hz': (float, 'samples a second'),
    'restore_on_exit': (bool, 'put back at exit what was changed'),
    'dry_run': (bool, 'only say what would be done'),
    'detections_topics': (str, 'topics to count frames on, several with commas'),
}
RESPAWN_DELAY_S = 2.0
# What was changed is put back after SIGINT; launch would send SIGTERM and SIGKILL after 5 s each.
PUT_BACK_S = '90'


def generate_launch_description():
    """Describe the launch: arguments, and the node made from them."""
    share = get_package_share_directory('yolov7_trt_ros')
    arguments = [
        DeclareLaunchArgument(name, default_value='', description=f'{text}; empty: params_file')
        for name, (_, text) in PARAMETER_ARGUMENTS.items()
    ]
    arguments += [
        DeclareLaunchArgument(
            'params_file', default_value=os.path.join(share, 'config', 'power.yaml'),
            description='parameters of the node',
        ),
        DeclareLaunchArgument('name', default_value='power_manager', description='node name'),
        DeclareLaunchArgument('namespace', default_value='', description='node namespace'),
        DeclareLaunchArgument(
            'use_sim_time', default_value='false', description='take time from /clock'
        ),
        DeclareLaunchArgument(
            'respawn', default_value='false', description='start again when the process ends'
        ),
        DeclareLaunchArgument(
            'log_level', default_value='info', description='debug, info, warn, error or fatal'
        ),
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_make_node)])


def _make_node(context):
    """Make the node from the arguments' values; empty ones leave the file's value."""
    def value(name):
        return LaunchConfiguration(name).perform(context)

    parameters = {'use_sim_time': value('use_sim_time').lower() == 'true'}
    for name, (value_type, _) in PARAMETER_ARGUMENTS.items():
        if value(name):
            parameters[name] = ParameterValue(LaunchConfiguration(name), value_type=value_type)
    return [
        Node(
            package='yolov7_trt_ros',
            executable='power_node',
            name=value('name'),
            namespace=value('namespace'),
            parameters=[value('params_file'), parameters],
            arguments=['--ros-args', '--log-level', value('log_level')],
            respawn=value('respawn').lower() == 'true',
            respawn_delay=RESPAWN_DELAY_S,
            sigterm_timeout=PUT_BACK_S,
            sigkill_timeout=PUT_BACK_S,
            output='screen',
        )
    ]
