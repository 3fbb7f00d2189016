"""Take image messages below rclpy, into C++ memory."""
