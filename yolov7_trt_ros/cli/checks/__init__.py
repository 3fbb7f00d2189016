"""What `yolov7_trt doctor` looks at, by subject. Each function takes a Machine, returns Checks."""
