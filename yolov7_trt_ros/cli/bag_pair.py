"""BagPair: two bags of detections, read side by side for a comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from yolov7_trt_ros.cli import output
from yolov7_trt_ros.core.units import in_seconds
from yolov7_trt_ros.errors import BagError, InputError

if TYPE_CHECKING:
    from yolov7_trt_ros.replay.bags.bag_detections import DetectionFrame, DetectionReader
    from yolov7_trt_ros.report.compare.detection_compare import RunComparison


def only_frames_note(score_threshold: float) -> str:
    """Return a warning about two bags without detections, which agree in nothing."""
    return (f'no detection of either bag has a score of {score_threshold:g}: only the frames '
            'were compared')


class BagPair:
    """Two bags of detections: the frames that are compared, and what could not be read."""

    def __init__(
        self, reference: Path, new: Path, topics: Sequence[str],
        warn: Callable[[object], None] = output.warn, show: output.Show = output.progress_bar,
    ) -> None:
        from yolov7_trt_ros.replay.bags.bag_detections import DetectionReader

        self._warn, self._show = warn, show
        self.class_ids: dict[str, int] = {}
        self.damaged: list[str] = []
        self._readers = tuple(
            DetectionReader(path, self.class_ids, topics=topics) for path in (reference, new)
        )
        for reader in self._readers:
            for warning in reader.warnings:
                self._warn(warning)
        first, second = self._readers
        self.topics = tuple(topic for topic in first.topics if topic in second.topics)

    def compare(self, comparison: RunComparison) -> None:
        """
        Compare all frames.

        Raises
        ------
        InputError
            They have no frame in common.

        """
        from yolov7_trt_ros.report.compare.frame_pairs import pair_frames

        compared, spans = 0, (_Span(), _Span())
        first, second = self._readers
        count = len(first.topics) + len(second.topics) - len(self.topics)
        with self._show(f'{count} topics', None) as advance:
            for pair in pair_frames(
                spans[0].watch(self._frames(first, self.topics)),
                spans[1].watch(self._frames(second, self.topics)),
            ):
                if pair.reference is not None and pair.found is not None:
                    comparison.add(pair.topic, pair.stamp_ns, pair.reference, pair.found)
                    compared += 1
                else:
                    comparison.add_lone(
                        pair.topic, pair.stamp_ns, in_reference=pair.found is None
                    )
                advance()
        for reader in self._readers:
            self._add_others(reader, comparison, in_reference=reader is first)
        if not compared:
            raise InputError(
                f'{first.path} and {second.path} have no frame in common, by topic and stamp: '
                f'{_describe(first, spans[0])}; {_describe(second, spans[1])}. '
                'Both must come from one recording'
            )

    def _frames(
        self, reader: DetectionReader, topics: Sequence[str]
    ) -> Iterator[DetectionFrame]:
        """Yield the frames; warn of damaged parts and remember them."""
        for item in reader.frames(topics):
            if isinstance(item, BagError):
                self._warn(item)
                self.damaged.append(str(item))
            else:
                yield item

    def _add_others(
        self, reader: DetectionReader, comparison: RunComparison, *, in_reference: bool
    ) -> None:
        """Count the frames on topics that the other bag does not have."""
        others = [topic for topic in reader.topics if topic not in self.topics]
        if not others:
            return
        self._warn(f'only {reader.path} has {", ".join(others)}')
        for frame in self._frames(reader, others):
            comparison.add_lone(frame.topic, frame.stamp_ns, in_reference=in_reference)


class _Span:
    """First and last stamp of the frames that pass through."""

    def __init__(self) -> None:
        self.count = 0
        self.first_ns = self.last_ns = 0

    def watch(self, frames: Iterator[DetectionFrame]) -> Iterator[DetectionFrame]:
        for frame in frames:
            self.first_ns = frame.stamp_ns if not self.count else self.first_ns
            self.last_ns = frame.stamp_ns
            self.count += 1
            yield frame


def _describe(reader: DetectionReader, span: _Span) -> str:
    if not span.count:
        return f'{reader.path} has none on {", ".join(reader.topics)} that the other has too'
    return (f'{reader.path} has {span.count} with stamps {in_seconds(span.first_ns)} to '
            f'{in_seconds(span.last_ns)} s')
