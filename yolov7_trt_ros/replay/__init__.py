"""Pictures, videos, streams and bags without ROS: read frames, write detections."""
