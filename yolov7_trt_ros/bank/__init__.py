"""Several engines behind the one Detector that a node knows; no ROS, no files."""
