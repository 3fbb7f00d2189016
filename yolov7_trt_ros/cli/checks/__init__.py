"""The checks of `yolov7_trt doctor`, by subject: functions from a HostProbe to Checks."""
