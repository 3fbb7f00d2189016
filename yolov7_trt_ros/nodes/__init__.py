"""The only room that knows rclpy and messages; thin."""
