"""The only room that knows inference engines. `open_detector` chooses one."""

from yolov7_trt_ros.engine.open import DetectorOptions, open_detector

__all__ = ['DetectorOptions', 'open_detector']
