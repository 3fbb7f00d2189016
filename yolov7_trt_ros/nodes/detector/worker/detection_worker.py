"""DetectionWorker: the thread that runs the detector and publishes its detections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
import itertools
import threading
import time
from typing import Any, Protocol

from rclpy._rclpy_pybind11 import RCLError
from sensor_msgs.msg import Image

from yolov7_trt_ros.bank.bank_settings import settings_for
from yolov7_trt_ros.bank.class_map import class_names_of
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import (
    Detector,
    DetectSettings,
    FrameTimings,
    PipelinedDetector,
)
from yolov7_trt_ros.core.messages.image_message import view_message
from yolov7_trt_ros.core.messages.serialized_image import MessageHeader
from yolov7_trt_ros.core.overlay import annotated_copy, draw_zones
from yolov7_trt_ros.core.tracks.track_options import OFF
from yolov7_trt_ros.core.tracks.tracking import Moment, TrackSet
from yolov7_trt_ros.core.units import NS_PER_MS
from yolov7_trt_ros.errors import DeviceLostError, ImageError, InferenceError, InputError
from yolov7_trt_ros.nodes.conversions import header_to_msg, image_to_msg
from yolov7_trt_ros.nodes.detector.single_shot import result_text
from yolov7_trt_ros.nodes.detector.worker.answer_watch import AnswerWatch
from yolov7_trt_ros.nodes.detector.worker.flight import (
    BatchStages,
    Flight,
    in_batches,
    ViewedFrame,
)
from yolov7_trt_ros.nodes.detector.worker.overlap import Overlap
from yolov7_trt_ros.nodes.detector_parameters.settings import NodeSettings
from yolov7_trt_ros.nodes.images.annotations import annotations_to_msg, load_messages
from yolov7_trt_ros.nodes.images.image_stream import ReceivedFrame
from yolov7_trt_ros.nodes.one_line import describe_error

MOST_FRAME_ID_CHARACTERS = 1024
_RECOVERY = 'deactivate, cleanup, configure and activate'


class Wire(Protocol):
    """Makes messages in the thread of the worker: see DetectionsWire."""

    def make(self, detections: Detections, header: MessageHeader, class_id_format: str) -> Any:
        """Return the message or its bytes."""


Answered = Callable[[Sequence[tuple[str, int]], Callable[[], bool]], None]


class FrameSource(Protocol):
    """Where frames come from: `PushedImages` or `PulledImages`."""

    def take(
        self, most: int = 1, wait_ns: int = 0, until: Callable[[], bool] = lambda: False
    ) -> list[tuple[str, ReceivedFrame]]:
        """
        Wait for frames and return them with their topics; empty once closed.

        Empty also if `until` returns True; it is called first, and after each `wake`.

        """

    def wake(self) -> None:
        """Make a waiting `take` check again; from any thread."""

    def take_waiting(self, most: int = 1) -> list[tuple[str, ReceivedFrame]]:
        """Return waiting frames without blocking."""

    def close(self) -> list[ReceivedFrame]:
        """Wake the worker for good; return the waiting frames, which are dropped."""

    def has_waiting(self) -> bool:
        """Whether a frame waits to be taken; for the worker's thread."""


class DetectionWorker:
    """
    Takes the latest frames and publishes their detections.

    One frame at a time, or one each of several topics where `max_batch` and the detector allow
    it. A frame that fails for any reason is counted, and the next one is taken. When the device is
    lost, the thread ends; `fault` says why. Where a detector has `submit` and `collect`, frames
    that wait already may be begun while those before are on the GPU (`Overlap`); they are
    published in the order in which they were taken.

    Parameters
    ----------
    detector
        Used by this thread alone while it runs.
    wire
        Makes the messages of detections.
    slots
        Where frames come from.
    settings
        Called for each frame or batch.
    on_error
        Called with one line for each frame that failed, in the worker's thread.
    is_up
        Returns whether ROS is up; False after a signal has shut it down.
    on_defect
        Called with place and exception of an error that is not due to image or engine.
    on_answered
        Called after frames were published, with topic and stamp of each and a function that
        returns whether another frame waits; in the worker's thread.
    tracks
        Tracked objects; may come from an earlier worker.

    """

    def __init__(
        self,
        detector: Detector,
        wire: Wire,
        slots: FrameSource,
        settings: Callable[[], NodeSettings],
        on_error: Callable[[str], None],
        is_up: Callable[[], bool],
        on_defect: Callable[[str, Exception], None] = lambda *_: None,
        on_answered: Answered = lambda *_: None,
        tracks: TrackSet | None = None,
    ) -> None:
        self._detector, self._wire, self._slots = detector, wire, slots
        self._settings, self._on_error, self._is_up = settings, on_error, is_up
        self._on_defect, self._on_answered = on_defect, on_answered
        self._tracks = tracks or TrackSet()
        self._lost: DeviceLostError | None = None
        self._overlap = Overlap()
        self._watch = AnswerWatch()
        self._left: list[list[ReceivedFrame]] = []  # taken, with other settings
        self._pipeline = detector if isinstance(detector, PipelinedDetector) else None
        self._thread = threading.Thread(target=self._run, name='detection_worker', daemon=True)

    @property
    def fault(self) -> str:
        """Why the thread has ended without being stopped, '' while it runs."""
        if self._lost is not None:
            return f'detection has stopped, restart the node: {self._lost}'
        if self._thread.is_alive():
            return ''
        return f'the detection thread has ended: {_RECOVERY}'

    @property
    def device_lost(self) -> bool:
        """Whether the thread has ended because CUDA is lost to this process."""
        return self._lost is not None

    def status(self) -> dict[str, str]:
        """Return the values of the worker for diagnostics."""
        return {'frames in flight': self._overlap.text()} if self._pipeline is not None else {}

    @property
    def hang(self) -> str:
        """Return a warning that the engine does not answer, '' if it does."""
        return self._watch.text()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the frame in work, drop waiting ones, end the thread; streams must be closed."""
        for frame in self._slots.close():
            frame.stream.statistics.count('dropped')
        self._thread.join()

    def _run(self) -> None:
        try:
            self._work()
        except DeviceLostError as exc:
            self._lost = exc
        except RCLError:
            if self._is_up():
                raise  # otherwise a signal stopped ROS while a frame was in work
        finally:
            for frame in itertools.chain(*self._left):  # where an error has ended it
                frame.stream.statistics.count('dropped')

    def _work(self) -> None:
        """Process frames until the slots are closed, and those in flight to their end."""
        flight: Flight | None = None
        while True:
            began_ns = time.monotonic_ns()
            frames = self._take() if flight is None else self._take_beside()
            if flight is None and not frames:
                return
            following = self._begin(frames) if frames else None
            del frames  # to free the memory of their messages for the next ones
            try:
                if flight is not None:
                    self._finish(flight, time.monotonic_ns() - began_ns)
            except BaseException:
                self._drop(following)  # nobody else would
                raise
            flight = following

    def _drop(self, flight: Flight | None) -> None:
        for each in flight.viewed if flight is not None else ():
            each.frame.stream.statistics.count('dropped')

    def _take(self) -> list[ReceivedFrame]:
        """Wait for one frame, or one each of some topics; empty once the slots are closed."""
        if self._left:
            return self._left.pop(0)
        taken = self._slots.take(self._most(), self._settings().batch_max_wait_ns)
        return [frame for _, frame in taken]

    def _take_beside(self) -> list[ReceivedFrame]:
        """Return waiting frames, if it is worth starting them now."""
        if self._pipeline is None or not self._overlap.is_worth_it:
            return []
        if self._left:
            return self._left.pop(0)
        began_ns = time.monotonic_ns()
        taken = self._slots.take_waiting(self._most())
        if taken:
            self._overlap.note_take(time.monotonic_ns() - began_ns)
        return [frame for _, frame in taken]

    def _most(self) -> int:
        return min(self._settings().max_batch, self._detector.max_batch)

    def _process(self, frames: Sequence[ReceivedFrame]) -> None:
        """Detect in frames of several topics at once; a failed one does not affect the others."""
        flight = self._begin(frames)
        if flight is not None:
            self._finish(flight)

    def _begin(self, frames: Sequence[ReceivedFrame]) -> Flight | None:
        """Start frames of several topics; return None if none of the images can be used."""
        flight = self._view_all(frames)
        if flight is not None and self._pipeline is not None:
            self._watch.ask()
            try:
                flight.ticket = self._pipeline.submit(flight.images, flight.detect)
            except Exception as exc:  # as in _finish: told there, in the order of the frames
                flight.error = exc
            finally:
                self._watch.answer()
            flight.begun_ns = time.monotonic_ns()
        return flight

    def _view_all(self, frames: Sequence[ReceivedFrame]) -> Flight | None:
        """Return frames with their images, None if none can be used."""
        started_ns = time.monotonic_ns()
        settings = self._settings()
        if settings.topics and len(frames) > 1:
            frames, *self._left[:0] = in_batches(frames, settings)
        viewed = [each for frame in frames if (each := self._view(frame, settings)) is not None]
        return Flight(viewed, settings, started_ns, time.monotonic_ns()) if viewed else None

    def _finish(self, flight: Flight, beside_ns: int = 0) -> None:
        """Wait for started frames and publish them; a failed one does not affect the others."""
        try:
            found, timings = self._collect(flight, beside_ns)
        except Exception as exc:  # whatever an engine raises, MemoryError too: these frames alone
            self._process_failed([each.frame for each in flight.viewed], exc)
            return
        self._publish_found(flight, found, timings)

    def _publish_found(
        self, flight: Flight, found: Sequence[Detections], timings: FrameTimings
    ) -> None:
        """Publish what was found in the frames of a flight."""
        stages = BatchStages(
            flight.started_ns, flight.viewed_ns, time.monotonic_ns(), timings, len(flight.viewed)
        )
        published = [
            (each, chosen) for each, detections in zip(flight.viewed, found, strict=True)
            if (chosen := self._publish(each, detections, stages, flight.settings)) is not None
        ]
        for each, chosen in published:
            self._publish_drawn(each, chosen, flight.settings)
        try:
            self._report_answered([each for each, _ in published])
        except DeviceLostError:
            raise
        except Exception as exc:  # unexpected: the frames are published
            if isinstance(exc, RCLError) and not self._is_up():
                raise
            self._on_defect('after a frame', exc)

    def _report_answered(self, published: Sequence[ViewedFrame]) -> None:
        stamps = [(each.frame.stream.topic, each.header.stamp_ns) for each in published]
        self._on_answered(stamps, self._slots.has_waiting)

    def _collect(
        self, flight: Flight, beside_ns: int
    ) -> tuple[list[Detections], FrameTimings]:
        if flight.error is not None:
            raise flight.error
        self._watch.ask()
        try:
            if self._pipeline is None:
                return self._detector.detect_batch(flight.images, flight.detect)
            found, timings = self._pipeline.collect(flight.ticket)
        finally:
            self._watch.answer()
        self._overlap.note(flight.begun_ns - flight.started_ns, timings.infer_ns, beside_ns)
        return found, timings

    def _view(self, frame: ReceivedFrame, settings: NodeSettings) -> ViewedFrame | None:
        """Return a frame with its image, None if it cannot be used."""
        try:
            message = frame.message.read()
            _check_frame_id(message.header.frame_id)
            image = view_message(message, max_pixels=settings.max_image_pixels)
            frame.stream.note_picture(image, frame.received_ns)
            image = image.of_stream(frame.stream.topic)
            return ViewedFrame(frame, message.header, image)
        except Exception as exc:  # InputError, MemoryError, or unexpected
            self._fail(frame, exc)
            return None

    def _process_failed(self, frames: Sequence[ReceivedFrame], error: Exception) -> None:
        """Try the frames of a failed batch one by one: only some may be to blame."""
        if isinstance(error, DeviceLostError):
            self._lost = error  # set before the frame is reported
        elif len(frames) > 1:
            for each in frames:
                self._process([each])
            return
        for each in frames:
            self._fail(each, error)
        if self._lost is not None:
            raise self._lost

    def _fail(self, frame: ReceivedFrame, error: Exception) -> None:
        """Count a frame as failed and report why."""
        if isinstance(error, RCLError) and not self._is_up():
            raise error
        frame.stream.statistics.count('failed')
        frame.stream.gate.report(f'failed: {describe_error(error)}')
        self._report_error(frame, error, '')

    def _report_error(self, frame: ReceivedFrame, error: Exception, what: str) -> None:
        topic = frame.stream.topic
        if isinstance(error, (InputError, InferenceError)):
            self._on_error(f'{topic}: {what}{error}')
        elif isinstance(error, MemoryError):
            self._on_error(f'{topic}: {what}out of memory. {error}')
        else:
            self._on_error(f'{topic}: {what}{describe_error(error)}')
            self._on_defect(f'{what}frame of {topic}', error)

    def _publish(
        self,
        viewed: ViewedFrame,
        detections: Detections,
        stages: BatchStages,
        settings: NodeSettings,
    ) -> Detections | None:
        """Publish the selected detections of a frame and count it; None if not published."""
        frame, stream = viewed.frame, viewed.frame.stream
        try:
            detections = self._tracked(viewed, detections, settings)
            if zones := viewed.zones(settings):
                detections = zones.choose(detections)
            message = self._wire.make(detections, viewed.header, settings.class_id_format)
            if not stream.publish(message):  # its topic was removed while the frame was in work
                stream.statistics.count('dropped')
                return None
        except Exception as exc:  # MemoryError, or of ROS
            self._fail(frame, exc)
            return None
        published_ns = time.monotonic_ns()
        timings = stages.timings
        stream.statistics.add_processed((
            ('transport', frame.transport_ns),
            ('wait', stages.started_ns - frame.received_ns),
            ('preprocess', stages.viewed_ns - stages.started_ns + timings.preprocess_ns),
            ('infer', timings.infer_ns),
            ('postprocess', timings.postprocess_ns),
            ('publish', published_ns - stages.detected_ns),
            ('stamp_to_publish', stream.age_ns(viewed.header.stamp_ns)),
        ), batch=stages.images)
        if stream.gate.is_awaited:
            stream.gate.report(result_text(
                detections, self._detector.spec.class_names,
                (published_ns - stages.started_ns) / NS_PER_MS,
            ))
        return detections

    def _tracked(
        self, viewed: ViewedFrame, detections: Detections, settings: NodeSettings
    ) -> Detections:
        """Return the detections to publish, with track ids if wanted."""
        topic = viewed.frame.stream.topic
        own = settings.of(topic)
        if own.track.mode == OFF:
            self._tracks.end(topic)  # so that tracks do not continue later
            return detections
        spec = self._detector.spec
        wanted: DetectSettings = own.detect
        if spec.class_names != own.detect.class_names:  # another model, a moment ago
            wanted = settings_for(own.detect, class_names_of(spec))
        return self._tracks.of(topic).follow(
            detections, Moment(viewed.header.stamp_ns, viewed.frame.received_ns), own.track,
            wanted, spec.class_names,
        )

    def _publish_drawn(
        self, viewed: ViewedFrame, detections: Detections, settings: NodeSettings
    ) -> None:
        names, stream = self._detector.spec.class_names, viewed.frame.stream

        def draw() -> Image:
            canvas = annotated_copy(viewed.image, detections, names)
            draw_zones(canvas, viewed.zones(settings))
            return image_to_msg(canvas, header_to_msg(viewed.header))

        def annotate() -> Any:
            stamp = header_to_msg(viewed.header).stamp
            return annotations_to_msg(load_messages(), detections, names, stamp)

        if settings.publish_overlay:
            self._try_to_publish(viewed.frame, 'overlay', partial(stream.publish_overlay, draw))
        if settings.publish_annotations:
            self._try_to_publish(
                viewed.frame, 'annotations', partial(stream.publish_annotations, annotate)
            )

    def _try_to_publish(
        self, frame: ReceivedFrame, what: str, publish: Callable[[], None]
    ) -> None:
        """Publish a drawing of a frame; its detections are published already."""
        try:
            publish()
        except Exception as exc:  # MemoryError, of OpenCV or of ROS
            if isinstance(exc, RCLError) and not self._is_up():
                raise
            self._report_error(frame, exc, f'no {what}: ')


def _check_frame_id(frame_id: str) -> None:
    """Refuse a long frame_id, because it is copied into every detection."""
    if len(frame_id) > MOST_FRAME_ID_CHARACTERS:
        raise ImageError(
            f'frame_id may have {MOST_FRAME_ID_CHARACTERS} characters, got {len(frame_id)}'
        )
