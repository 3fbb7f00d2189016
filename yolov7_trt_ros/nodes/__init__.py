"""The ROS 2 nodes; the only folder that knows rclpy and messages."""

import sys

from yolov7_trt_ros.nodes.process.early_signals import end_on_sigint
from yolov7_trt_ros.nodes.process.shared_memory import end_without_room

if sys.argv[:1] == ['-m']:  # Python is about to import and run a module of this folder
    end_on_sigint()
    end_without_room()
