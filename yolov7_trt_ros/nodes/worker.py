"""DetectionWorker: the thread that runs the detector and publishes what it finds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from rclpy._rclpy_pybind11 import RCLError

from yolov7_trt_ros.core.detector import Detector
from yolov7_trt_ros.core.image_message import view_message
from yolov7_trt_ros.errors import DeviceLostError, InferenceError, InputError
from yolov7_trt_ros.nodes.conversions import DetectionsToMsg, image_to_msg
from yolov7_trt_ros.nodes.frame_slots import FrameSlots
from yolov7_trt_ros.nodes.image_stream import ImageStream, ReceivedFrame
from yolov7_trt_ros.nodes.parameters import NodeSettings
from yolov7_trt_ros.report.overlay import annotated_copy

_RECOVERY = 'deactivate, cleanup, configure and activate'


class DetectionWorker:
    """
    Takes the latest frames, one at a time, and publishes their detections.

    A frame that fails is counted and the next one taken. With the device lost the thread ends, as
    it does by a defect; `fault` says why.

    Parameters
    ----------
    detector
        Used by this thread alone while it runs.
    slots, streams
        Where frames come from; streams by topic.
    settings
        Called once per frame.
    on_error
        Called with one line for each frame that failed, in the worker's thread.

    """

    def __init__(
        self,
        detector: Detector,
        slots: FrameSlots[ReceivedFrame],
        streams: Mapping[str, ImageStream],
        settings: Callable[[], NodeSettings],
        on_error: Callable[[str], None],
    ) -> None:
        self._detector, self._slots, self._streams = detector, slots, streams
        self._settings, self._on_error = settings, on_error
        self._lost: DeviceLostError | None = None
        self._to_msg = DetectionsToMsg(detector.spec.class_names)
        self._thread = threading.Thread(target=self._run, name='detection_worker', daemon=True)

    @property
    def fault(self) -> str:
        """Why the thread has ended though nobody stopped it, '' while it runs."""
        if self._thread.is_alive():
            return ''
        if self._lost is not None:
            return f'detection has stopped, restart the node: {self._lost}'
        return f'the detection thread has ended: {_RECOVERY}'

    @property
    def device_lost(self) -> bool:
        """Whether the thread has ended because CUDA is lost to this process."""
        return self._lost is not None

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the frame in work, drop what waits, end the thread."""
        for stream in self._streams.values():
            stream.close()
        for topic in self._slots.close():
            self._streams[topic].statistics.count('dropped')
        self._thread.join()

    def _run(self) -> None:
        while (taken := self._slots.take()) is not None:
            topic, frame = taken
            stream = self._streams[topic]
            try:
                self._process(stream, frame)
            except (InputError, InferenceError) as exc:
                stream.statistics.count('failed')
                self._on_error(f'{topic}: {exc}')
                if isinstance(exc, DeviceLostError):
                    self._lost = exc
                    return
            except RCLError:
                if stream.context_ok():
                    raise
                return  # told to stop by a signal while this frame was in work

    def _process(self, stream: ImageStream, frame: ReceivedFrame) -> None:
        started_ns = time.monotonic_ns()
        settings, header = self._settings(), frame.message.header
        image = view_message(frame.message)
        decoded_ns = time.monotonic_ns()
        detections, timings = self._detector.detect(image, settings.detect)
        detected_ns = time.monotonic_ns()
        stream.detections.publish(
            self._to_msg.convert(detections, header, settings.class_id_format)
        )
        published_ns = time.monotonic_ns()
        stream.statistics.add_processed((
            ('transport', frame.transport_ns),
            ('wait', started_ns - frame.received_ns),
            ('preprocess', decoded_ns - started_ns + timings.preprocess_ns),
            ('infer', timings.infer_ns),
            ('postprocess', timings.postprocess_ns),
            ('publish', published_ns - detected_ns),
            ('stamp_to_publish', stream.age_ns(header.stamp)),
        ))
        if settings.publish_overlay and stream.overlay.get_subscription_count():
            canvas = annotated_copy(image, detections, self._detector.spec.class_names)
            stream.overlay.publish(image_to_msg(canvas, header))
