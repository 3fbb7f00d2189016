"""The only room that knows inference engines. `open_detector` chooses one."""

from yolov7_trt_ros.engine.open import (
    build_needed_plan,
    DetectorOptions,
    open_detector,
    open_or_build,
)

__all__ = ['DetectorOptions', 'build_needed_plan', 'open_detector', 'open_or_build']
