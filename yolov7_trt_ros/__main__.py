"""`python3 -m yolov7_trt_ros VERB` is the `yolov7_trt` command."""

from yolov7_trt_ros.cli.main import main

if __name__ == '__main__':  # and not `__mp_main__`, as a process that this one starts
    raise SystemExit(main())
