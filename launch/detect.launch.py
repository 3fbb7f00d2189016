"""
Start the detector.

    ros2 launch yolov7_trt_ros detect.launch.py image_topics:=/camera/image_raw

`--show-args` lists the arguments. Any parameter of the node can be set through `params_file`;
arguments given on the command line override the file. With `respawn:=true` the node ends when the
process loses the GPU, and is restarted whenever it ends.

"""

import os

from launch import LaunchDescription
from launch.actions import OpaqueFunction, SetEnvironmentVariable
from launch_ros.actions import LifecycleNode

from yolov7_trt_ros.nodes.process.launch_parts import (
    declare,
    declare_node,
    declare_parameters,
    is_true,
    NODE,
    node_settings,
    warn_of_misspelt,
)
from yolov7_trt_ros.nodes.process.process_setup import large_image_environment

# Launch argument -> type and meaning; each sets the node parameter of the same name.
PARAMETER_ARGUMENTS = {
    'image_topics': (str, 'image topics, several with commas'),
    'model': (str, 'model file, or the name of an embedded model'),
    'backend': (str, 'inference engine: auto, tensorrt or onnx'),
    'precision': (str, 'precision of a TensorRT plan built here: fp32, fp16, int8 or mixed'),
    'on_plan_mismatch': (str, 'if the TensorRT plan is missing or does not fit: rebuild or fail'),
    'network_size': (int, 'longer side of the network input, pixels'),
    'score_threshold': (float, 'minimum score of a detection, 0..1'),
    'iou_threshold': (float, 'overlap above which the weaker box is dropped, 0..1'),
    'classes': (str, 'classes to keep, by name or index, with commas'),
    'max_rate_hz': (float, 'maximum images per second and topic, 0: no limit'),
    'publish_overlay': (bool, 'publish images with boxes while there are subscribers'),
    'class_id_format': (str, 'content of class_id: name or index'),
    'image_qos': (str, 'QoS reliability: auto, best_effort or reliable'),
    'receive': (str, 'how images are received: auto, direct (below rclpy) or rclpy'),
    'image_transport': (str, 'message type of images: auto, raw or compressed'),
}


def generate_launch_description():
    """Describe the launch: arguments, environment, and the node made from them."""
    environment = [
        SetEnvironmentVariable(name, value)
        for name, value in large_image_environment(os.environ).items()
    ]
    return LaunchDescription([
        *declare_parameters(PARAMETER_ARGUMENTS),
        *declare_node('detector', 'detector.yaml'),
        *declare({'autostart': ('true', 'configure and activate at start')}),
        *environment,
        OpaqueFunction(function=_make_node),
    ])


def _make_node(context):
    """Make the node from the arguments' values; empty ones leave the file's value."""
    warn_of_misspelt(context, {*PARAMETER_ARGUMENTS, *NODE, 'autostart'})
    return [LifecycleNode(**node_settings(
        context, 'detector_node', PARAMETER_ARGUMENTS,
        autostart=is_true(context, 'autostart'),
        on_device_lost='exit' if is_true(context, 'respawn') else 'stay',
    ))]
