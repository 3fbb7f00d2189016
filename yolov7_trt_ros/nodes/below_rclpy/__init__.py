"""Image messages taken below rclpy, in memory of C++."""
