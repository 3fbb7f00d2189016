"""SecondLook: a fast Detector for whole frames combined with a precise one for crops."""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
import dataclasses
import time
from typing import Any

from yolov7_trt_ros.bank.looks.crop_budget import CropBudget, share
from yolov7_trt_ros.bank.looks.in_parts import detect_in_parts
from yolov7_trt_ros.bank.looks.left_out import LeftOut
from yolov7_trt_ros.bank.looks.look_settings import crop_classes, LookSettings
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import (
    BatchDetector,
    Detector,
    DetectSettings,
    FrameTimings,
    PipelinedDetector,
)
from yolov7_trt_ros.core.forms.model_spec import ModelSpec
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.looks.crops import choose_crops, Crop, CropShape, cut
from yolov7_trt_ros.core.looks.look_memory import LookMemory
from yolov7_trt_ros.core.looks.look_options import LookOptions
from yolov7_trt_ros.core.looks.merge_looks import Look, merge_looks

_MOST_STREAMS = 64
_AS_LARGE = 'the first look shows them at least as large as a crop would'
_NO_TIME = FrameTimings(0, 0, 0)
_FoundInBatch = tuple[list[Detections], FrameTimings]


class SecondLook(BatchDetector):
    """
    Detects in whole frames with one engine, and in crops of them with another.

    It owns both. An error of either is an error of the frame.

    Parameters
    ----------
    first, second
        The engines. The class ids of detections are those of `first`; detections of `second` of
        other classes are dropped.
    options
        Which objects get a second look, and how often.
    crop_ns
        Measured time of a crop, or 0.
    reason
        Why two looks were chosen, as text.
    clock
        Monotonic nanoseconds.
    warn
        Called once with each thing that gets no crops, and why; from `detect` too.

    Attributes
    ----------
    looked_at
        The crops of each image of the last `detect_batch`.

    Raises
    ------
    SettingError
        As `crop_classes`.

    """

    def __init__(
        self, first: Detector, second: Detector, options: LookOptions, *, crop_ns: int = 0,
        reason: str = '', clock: Callable[[], int] = time.perf_counter_ns,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._first, self._second, self._options = first, second, options
        self._reason, self._clock = reason, clock
        self._class_ids, lacking = crop_classes(first.spec, second.spec, options)
        self._settings = LookSettings(first.spec, second.spec, options)
        self._shape = CropShape(options.crop_px, options.margin_px)
        self._budget = CropBudget(options.budget_ms, crop_ns)
        self._memories: collections.OrderedDict[str, LookMemory] = collections.OrderedDict()
        self.looked_at: Sequence[Sequence[Crop]] = ()
        self._turn = self._images = self._crops = self._cut_short = 0
        self._left_out = LeftOut(warn)
        if lacking:
            self._left_out.note(
                f'objects of the classes {lacking} get no crop, for the model of the second look '
                'lacks these'
            )

    # ---- the Detector

    @property
    def spec(self) -> ModelSpec:
        """Return what the model of the first look is."""
        return self._first.spec

    @property
    def backend(self) -> str:
        """Return what runs both."""
        first, second = self._first.backend, self._second.backend
        return f'{first}, looks twice' if first == second else f'{first}, crops: {second}'

    @property
    def max_batch(self) -> int:
        """Return how many whole frames are looked at at once."""
        return self._first.max_batch

    def detect_batch(
        self, images: Sequence[ImageView], settings: DetectSettings
    ) -> _FoundInBatch:
        """
        Find objects in several images.

        Raises
        ------
        SettingError
            No image, or more than `max_batch`.
        InferenceError
            As `Detector.detect`, in either look.

        """
        found, timings = self._first.detect_batch(images, self._settings.of_first(settings))
        return self._look_again(images, settings, found, timings)

    def detect_at(
        self, images: Sequence[ImageView], settings: DetectSettings,
        crops: Sequence[Sequence[Crop]],
    ) -> _FoundInBatch:
        """
        Find objects as `detect_batch`, with given crops of each image; nothing is remembered.

        For comparing models: which crops a stream has depends on the frames before, and another
        model may not have seen these.

        """
        found, timings = self._first.detect_batch(images, self._settings.of_first(settings))
        began_ns = self._clock()
        merged, took = self._merge(images, settings, found, crops)
        return merged, self._times(timings, took, began_ns)

    def status(self) -> dict[str, str]:
        """Return the status of both engines, the number of crops, and what gets none."""
        images = max(1, self._images)
        status = dict(self._first.status())
        status |= {f'second look: {key}': value for key, value in self._second.status().items()}
        status['second look'] = (
            f'{self._crops / images:.2f} crops of {self._options.crop_px} px an image'
            + (f', {self._budget.crop_ms:.1f} ms each' if self._budget.crop_ms else '')
            + (f', {self._cut_short} images of {self._images} had no time for more'
               if self._cut_short else '')
            + (f'; {self._reason}' if self._reason else '')
        )
        return status | self._left_out.status()

    def close(self) -> None:
        """Close both engines; calling it twice is harmless."""
        try:
            self._first.close()
        finally:
            self._second.close()

    # ---- the second look

    def _look_again(
        self, images: Sequence[ImageView], settings: DetectSettings, found: list[Detections],
        timings: FrameTimings,
    ) -> _FoundInBatch:
        """Look at crops of whole frames that were looked at, and merge what both show."""
        began_ns = self._clock()
        memories = [self._memory_of(image) for image in images]
        self.looked_at = crops = self._choose(memories, found)
        merged, took = self._merge(images, settings, found, crops)
        for image, memory, each, chosen in zip(images, memories, merged, crops, strict=True):
            if image.stream:
                memory.remember(each, chosen)
        return merged, self._times(timings, took, began_ns)

    def _merge(
        self, images: Sequence[ImageView], settings: DetectSettings, found: Sequence[Detections],
        crops: Sequence[Sequence[Crop]],
    ) -> _FoundInBatch:
        """Return what both looks show, and the times of the second one."""
        seen, took = self._look_at([
            cut(image, crop) for image, chosen in zip(images, crops, strict=True)
            for crop in chosen
        ], settings)
        return [
            merge_looks(
                first, [Look(crop, seen.popleft()) for crop in chosen], settings,
                self._options.max_score,
            )
            for first, chosen in zip(found, crops, strict=True)
        ], took

    def _times(self, timings: FrameTimings, took: FrameTimings, began_ns: int) -> FrameTimings:
        """Return the times of both looks, and in `postprocess` what was done between them."""
        rest_ns = self._clock() - began_ns - took.total_ns
        return FrameTimings(
            timings.preprocess_ns + took.preprocess_ns,
            timings.infer_ns + took.infer_ns,
            timings.postprocess_ns + took.postprocess_ns + max(0, rest_ns),
        )

    def _choose(
        self, memories: Sequence[LookMemory], found: Sequence[Detections]
    ) -> list[list[Crop]]:
        """Return the crops of each image that there is time for."""
        wanted = [
            self._wanted(memory, first) for memory, first in zip(memories, found, strict=True)
        ]
        crops = share(wanted, self._budget.most(), self._turn)
        self._turn += 1
        if any(wanted) and not any(crops):
            self._budget.forget_a_little()
            self._left_out.note(
                f'second_look_budget_ms {self._options.budget_ms:g} left no time for a crop in '
                'some images'
            )
        for memory, asked, given in zip(memories, wanted, crops, strict=True):
            memory.looked_at(given)
            self._cut_short += len(given) < len(asked)
        self._images += len(found)
        self._crops += sum(map(len, crops))
        return crops

    def _wanted(self, memory: LookMemory, first: Detections) -> list[Crop]:
        """Return the crops of an image, the most worthwhile first."""
        targets = memory.targets(first)
        if not self._shows_more(first.source_wh):
            self._left_out.note_size('second look', first.source_wh, _AS_LARGE)
            return []
        due = memory.due_tile(self._shape)
        most = self._options.max_crops
        crops = [] if due is None else [due]
        return crops + choose_crops(
            targets.boxes, targets.weights, first.source_wh, self._shape, most - len(crops),
            self._options.min_worth,
        )

    def _shows_more(self, source_wh: tuple[int, int]) -> bool:
        """Whether a crop is scaled up more than the whole frame: else there is nothing to see."""
        fixed_wh = self._first.spec.fixed_wh or (self._options.first_size,) * 2
        whole = min(side / source for side, source in zip(fixed_wh, source_wh, strict=True))
        fixed_wh = self._second.spec.fixed_wh or (self._options.crop_size,) * 2
        crop_wh = self._shape.size_in(source_wh)
        crop = min(side / source for side, source in zip(fixed_wh, crop_wh, strict=True))
        return crop > whole

    def _look_at(
        self, views: Sequence[ImageView], settings: DetectSettings
    ) -> tuple[collections.deque[Detections], FrameTimings]:
        """Return what crops show, with the class ids of the first look."""
        if not views:
            return collections.deque(), _NO_TIME
        found, took = detect_in_parts(self._second, views, self._settings.of_second(settings))
        self._budget.learn(len(views), took.total_ns)
        return collections.deque(map(self._settings.in_first, found)), took

    def _memory_of(self, image: ImageView) -> LookMemory:
        """Return what is remembered of the stream of an image; nothing of one on its own."""
        memory = self._memories.pop(image.stream, None) if image.stream else None
        if memory is None:
            memory = LookMemory(self._options, self._class_ids, is_stream=bool(image.stream))
        if image.stream:
            self._memories[image.stream] = memory
            if len(self._memories) > _MOST_STREAMS:
                self._memories.popitem(last=False)
        return memory


@dataclasses.dataclass(frozen=True, eq=False)
class _Begun:
    """Whole frames that the first engine works on."""

    images: Sequence[ImageView]
    settings: DetectSettings
    ticket: Any


class PipelinedSecondLook(SecondLook):
    """
    A SecondLook whose first engine works on one frame while the next is begun.

    The crops of a frame are chosen when it is collected, so frames of a stream keep their order.

    """

    def submit(self, images: Sequence[ImageView], settings: DetectSettings) -> _Begun:
        """Start on whole frames; their images live until they are collected."""
        first = self._first
        assert isinstance(first, PipelinedDetector)  # look_twice sees to that
        return _Begun(images, settings, first.submit(images, self._settings.of_first(settings)))

    def collect(self, ticket: _Begun) -> _FoundInBatch:
        """Wait for whole frames, the oldest first, and look at crops of them."""
        first = self._first
        assert isinstance(first, PipelinedDetector)  # it gave the ticket
        found, timings = first.collect(ticket.ticket)
        return self._look_again(ticket.images, ticket.settings, found, timings)


def look_twice(
    first: Detector, second: Detector, options: LookOptions, **named: Any
) -> SecondLook:
    """Return a SecondLook, one that overlaps frames if its first engine does."""
    kind = PipelinedSecondLook if isinstance(first, PipelinedDetector) else SecondLook
    return kind(first, second, options, **named)
