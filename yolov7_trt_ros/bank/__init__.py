"""Several engines behind one Detector; no ROS, no files."""
