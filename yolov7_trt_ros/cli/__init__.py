"""The `yolov7_trt` command: one file a verb, its docstring the help. Never imports rclpy."""
