"""Arrays in, arrays out: no ROS, no CUDA, no files, no clock."""
