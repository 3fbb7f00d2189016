"""Image and detection messages as bytes, without ROS."""
