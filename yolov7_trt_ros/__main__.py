"""`python3 -m yolov7_trt_ros VERB` is the `yolov7_trt` command."""

from yolov7_trt_ros.cli.main import main

raise SystemExit(main())
