"""
Start the detector and the power node together.

    ros2 launch yolov7_trt_ros bringup.launch.py image_topics:=/camera/image_raw governor:=deadline

The power node counts frames on the detections topics that follow from the image topics. Whatever
has no argument here is set through `detector_params_file` and `power_params_file`, or by starting
detect.launch.py and power.launch.py on their own.

"""

from launch import LaunchDescription
from launch.actions import GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource

from yolov7_trt_ros.core.topics import detections_topics, split_names
from yolov7_trt_ros.nodes.launch_parts import COMMON, declare, share_file, value

# Argument -> default and meaning; handed to one of the launch files, COMMON to both.
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
    files = {
        name: (share_file('config', file), 'parameters of the node')
        for name, file in FILES.items()
    }
    return LaunchDescription([
        *declare({**COMMON, **DETECTOR, **POWER, **files}), OpaqueFunction(function=_include),
    ])


def _include(context):
    """Include both launch files, each in a scope of its own: some arguments have one name."""
    given = {name: value(context, name) for name in (*COMMON, *DETECTOR, *POWER, *FILES)}
    detector = {name: given[name] for name in (*COMMON, *DETECTOR)}
    detector['params_file'] = given['detector_params_file']
    power = {name: given[name] for name in (*COMMON, *POWER)}
    power['params_file'] = given['power_params_file']
    images = split_names(given['image_topics'])
    power['detections_topics'] = ','.join(detections_topics(images))
    return [_scoped('detect.launch.py', detector), _scoped('power.launch.py', power)]


def _scoped(file, arguments):
    source = PythonLaunchDescriptionSource(share_file('launch', file))
    return GroupAction(
        [IncludeLaunchDescription(source, launch_arguments=list(arguments.items()))],
        scoped=True, forwarding=False,
    )
