"""
Start the detector and the power node together.

    ros2 launch yolov7_trt_ros bringup.launch.py image_topics:=/camera/image_raw governor:=deadline

The power node counts frames on the detections topics that follow from the image topics, those of
the argument or of `detector_params_file`; if these are patterns, on those of
`power_params_file`. Other parameters are set through `detector_params_file` and
`power_params_file`, or by starting detect.launch.py and power.launch.py on their own.

"""

from launch import LaunchDescription
from launch.actions import GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource

from yolov7_trt_ros.core.topics import detections_topics, is_pattern, split_names
from yolov7_trt_ros.nodes.process.launch_parts import (
    COMMON,
    declare,
    file_parameters,
    share_file,
    value,
    warn_of_misspelt,
)

# Argument -> default and meaning; passed to one of the launch files, COMMON to both.
DETECTOR = {
    'image_topics': ('', 'image topics, several with commas; empty: detector_params_file'),
    'model': ('', 'model file, or the name of an embedded model; empty: detector_params_file'),
    'backend': ('', 'auto, tensorrt or onnx; empty: detector_params_file'),
    'precision': ('', 'fp32, fp16, int8 or mixed; empty: detector_params_file'),
    'network_size': ('', 'longer side of the network input; empty: detector_params_file'),
    'score_threshold': ('', 'minimum score, 0..1; empty: detector_params_file'),
    'max_rate_hz': ('', 'maximum images per second and topic; empty: detector_params_file'),
}
POWER = {
    'emulate': ('', 'board to emulate; empty: power_params_file'),
    'power_mode': ('', 'power mode, by name or id; empty: power_params_file'),
    'jetson_clocks': ('', 'lock all clocks; empty: power_params_file'),
    'governor': ('', 'governor: off, deadline or power_budget; empty: power_params_file'),
    'deadline_ms': ('', 'deadline of the governor; empty: power_params_file'),
    'power_budget_w': ('', 'power budget of the governor; empty: power_params_file'),
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
    """Include both launch files, each in its own scope: some arguments have the same name."""
    given = {name: value(context, name) for name in (*COMMON, *DETECTOR, *POWER, *FILES)}
    detector = {name: given[name] for name in (*COMMON, *DETECTOR)}
    detector['params_file'] = given['detector_params_file']
    power = {name: given[name] for name in (*COMMON, *POWER)}
    power['params_file'] = given['power_params_file']
    power['detections_topics'] = ','.join(_detections(given))
    warn_of_misspelt(context, given)
    return [_scoped('detect.launch.py', detector), _scoped('power.launch.py', power)]


def _detections(given):
    """Return the detections topics of the detector; none if its image topics are patterns."""
    held = file_parameters(given['detector_params_file'], 'detector', given['namespace'])
    images = _names(given['image_topics'] or held.get('image_topics', 'image_raw'))
    if any(is_pattern(image) for image in images):
        return []
    return _names(held.get('detections_topics', '')) or detections_topics(images)


def _names(value):
    """Return the names in a list or in a text with commas, as the node takes both."""
    return split_names(','.join(map(str, value)) if isinstance(value, list) else str(value))


def _scoped(file, arguments):
    source = PythonLaunchDescriptionSource(share_file('launch', file))
    return GroupAction(
        [IncludeLaunchDescription(source, launch_arguments=list(arguments.items()))],
        scoped=True, forwarding=False,
    )
