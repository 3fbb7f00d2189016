"""YOLOv7 object detection for ROS 2: images in, vision_msgs/Detection2DArray out."""

__version__ = '0.1.0'
