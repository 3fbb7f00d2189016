"""
Start the power node.

    ros2 launch yolov7_trt_ros power.launch.py emulate:=orin_nano_super

`--show-args` lists the arguments. Any parameter of the node can be set through `params_file`;
arguments given on the command line override the file. At exit the node has some time to
restore what it has changed.

"""

from launch import LaunchDescription
from launch.actions import OpaqueFunction
from launch_ros.actions import Node

from yolov7_trt_ros.nodes.process.launch_parts import (
    declare_node,
    declare_parameters,
    NODE,
    node_settings,
    warn_of_misspelt,
)

# Launch argument -> type and meaning; each sets the node parameter of the same name.
PARAMETER_ARGUMENTS = {
    'emulate': (str, 'board to emulate: orin_nano_super, thor ..., or an nvpmodel.conf'),
    'power_mode': (str, 'power mode, by name or id'),
    'jetson_clocks': (bool, 'lock every clock at the maximum of the mode'),
    'gpu_max_freq_mhz': (float, 'maximum clock of the GPU, 0: maximum of the mode'),
    'cpu_max_freq_mhz': (float, 'maximum clock of the CPU, 0: maximum of the mode'),
    'fan_profile': (str, 'fan profile'),
    'governor': (str, 'governor: off, deadline or power_budget'),
    'deadline_ms': (float, 'for the governor: maximum time from image to detections'),
    'topic_deadlines_ms': (str, 'deadlines of single topics: topic:ms, topic:ms'),
    'power_budget_w': (float, 'for the governor: maximum power of the board'),
    'temperature_limit_c': (float, 'for the governor: temperature that lowers the clock, 0: none'),
    'sample_rate_hz': (float, 'samples per second'),
    'restore_on_exit': (bool, 'restore at exit what was changed'),
    'dry_run': (bool, 'only report what would be done'),
    'detections_topics': (str, 'topics to count frames on, several with commas'),
}
# Changes are restored after SIGINT; by default launch sends SIGTERM and SIGKILL after 5 s each.
RESTORE_S = '90'


def generate_launch_description():
    """Describe the launch: arguments, and the node made from them."""
    return LaunchDescription([
        *declare_parameters(PARAMETER_ARGUMENTS),
        *declare_node('power_manager', 'power.yaml'),
        OpaqueFunction(function=_make_node),
    ])


def _make_node(context):
    """Make the node from the arguments' values; empty ones leave the file's value."""
    warn_of_misspelt(context, {*PARAMETER_ARGUMENTS, *NODE})
    settings = node_settings(context, 'power_node', PARAMETER_ARGUMENTS)
    return [Node(**settings, sigterm_timeout=RESTORE_S, sigkill_timeout=RESTORE_S)]
