"""Pictures, videos and bags without ROS: frames in, detections out."""
