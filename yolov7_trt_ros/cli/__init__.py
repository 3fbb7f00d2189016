"""The `yolov7_trt` command: one module per verb, its docstring is the help. No rclpy."""
