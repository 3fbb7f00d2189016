"""Score a changed model: AP50 with labels, else agreement with the original."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
import contextlib
import functools
from pathlib import Path
from typing import Any, Protocol, TYPE_CHECKING, TypeAlias

from yolov7_trt_ros.cli import labels, output
from yolov7_trt_ros.cli.model_steps.calibration_pictures import FilePictures
from yolov7_trt_ros.core.class_names import visible
from yolov7_trt_ros.errors import CalibrationError, InferenceError
from yolov7_trt_ros.temporary_folder import TemporaryFolder

if TYPE_CHECKING:
    from yolov7_trt_ros.core.detections import Detections
    from yolov7_trt_ros.core.detector import Detector, DetectSettings
    from yolov7_trt_ros.core.image import ImageView
    from yolov7_trt_ros.report.accuracy.coco import CocoAnnotations

OpenModel = Callable[[Path], 'Detector']
Named: TypeAlias = 'Iterable[tuple[str, ImageView]]'


class ModelScore(Protocol):
    """
    Returns the score of a ModelProto.

    Attributes
    ----------
    measure
        Display name: `AP50` or `agreement`.
    tolerance
        Scores that differ by no more count as equal.
    used
        Number of pictures of the last score.

    """

    measure: str
    tolerance: float
    used: int

    def __call__(self, model: Any) -> float:
        """Return the score, 0..1."""


class LabelledScore:
    """
    AP50 on labelled pictures, as COCO defines it.

    Parameters
    ----------
    pictures
        Name, as in the annotations, and pixels.
    annotations
        Their labels.
    open_model
        Opens an ONNX file as a detector.

    Raises
    ------
    CalibrationError
        No picture is in the annotations.

    """

    measure = 'AP50'
    tolerance = 0.001

    def __init__(
        self, pictures: Named, annotations: CocoAnnotations, open_model: OpenModel
    ) -> None:
        self._pictures = pictures
        self._annotations = annotations
        self._open_model = open_model
        self._categories_of = functools.cache(  # warns once for all models
            functools.partial(labels.labelled_categories, annotations)
        )
        self.used = 0
        self._reader = labels.labelled_pictures(annotations)
        if isinstance(pictures, FilePictures):
            pictures.read_with(self._read)
        self._warn_once = functools.cache(self._warn_of_notes)

    def __call__(self, model: Any) -> float:
        """Return AP50."""
        from yolov7_trt_ros.report.accuracy.coco import coco_records, evaluate_coco

        with _opened(model, self._open_model) as detector:
            categories = self._categories_of(detector.spec.class_names)
            found = _detect(detector, self._labelled(), self._pictures)
        records, images = [], []
        for name, detections in found:
            image = self._annotations.image_of(name)
            if image is not None:
                images.append(image)
                records += coco_records(image.image_id, detections, categories)
        self.used = len(images)
        if not images:
            raise CalibrationError(
                f'none of the pictures for scores is in {self._annotations.path}, whose first is '
                + visible(self._annotations.images[0].file_name)
            )
        self._warn_once()
        return float(evaluate_coco(records, self._annotations, images, categories)['ap50'])

    def _read(self, path: Path) -> ImageView:
        from yolov7_trt_ros.replay.pictures import load_picture

        image = self._annotations.image_of(path.name)
        return load_picture(path) if image is None else self._reader.read(image, path)

    def _warn_of_notes(self) -> None:
        labels.warn_of_notes(self._reader)
        labels.warn_of_few(self.used)

    def _labelled(self) -> Named:
        return (
            (name, image) for name, image in self._pictures
            if self._annotations.image_of(name) is not None
        )


class AgreementScore:
    """
    Agreement with the detections of a reference, weighted by their scores.

    The first scored model is the reference. Pictures in which it finds nothing prove nothing.

    Raises
    ------
    CalibrationError
        No picture can be used, or the reference finds nothing in any.

    """

    measure = 'agreement'
    tolerance = 0.005

    def __init__(self, pictures: Named, open_model: OpenModel) -> None:
        self._pictures = pictures
        self._open_model = open_model
        self.used = 0
        self._reference: list[Detections] | None = None

    def __call__(self, model: Any) -> float:
        """Return the agreement."""
        from yolov7_trt_ros.report.compare.agreement import measure_agreement

        with _opened(model, self._open_model) as detector:
            found = [each for _, each in _detect(detector, self._pictures, self._pictures)]
        self.used = len(found)
        if not found:
            raise CalibrationError('none of the pictures for scores can be used')
        if self._reference is None:
            _check_found(found)
            self._reference = found
        return measure_agreement(self._reference, found).weighted


def _check_found(reference: Sequence[Detections]) -> None:
    """Check that the reference finds something: whoever finds nothing agrees with anything."""
    from yolov7_trt_ros.report.compare.agreement import COUNTED_SCORE, SURE_SCORE

    best = max((float(each.scores.max(initial=0.0)) for each in reference), default=0.0)
    found = f'in the {len(reference)} pictures for scores the model as it is finds nothing'
    if best < COUNTED_SCORE:
        raise CalibrationError(
            f'{found}, so any model would agree with it: give pictures with its objects, as the '
            'robot sees them (an .npy file: RGB, uint8 or 0..1); --score-count 0 with one '
            '--method quantises without scores'
        )
    if best < SURE_SCORE:
        output.warn(f'{found} with a score of {SURE_SCORE:g} or more, so the agreement says '
                    'little: give pictures with its objects')


def detect_all(
    detector: Detector, pictures: Named, settings: DetectSettings,
    failed: Callable[[InferenceError], None],
) -> Iterable[tuple[str, Detections]]:
    """Yield name and detections of each picture; none, and `failed`, if the engine fails on it."""
    from yolov7_trt_ros.core.detections import Detections

    for name, picture in pictures:
        try:
            yield name, detector.detect(picture, settings)[0]
        except InferenceError as exc:
            failed(exc)
            yield name, Detections.empty(picture.size_wh)


@contextlib.contextmanager
def _opened(model: Any, open_model: OpenModel) -> Iterator[Detector]:
    """Open a ModelProto."""
    with TemporaryFolder('yolov7_trt_model_') as folder:
        path = Path(folder) / 'model.onnx'
        path.write_bytes(model.SerializeToString())
        detector = open_model(path)
    try:
        yield detector
    finally:
        detector.close()


def _detect(
    detector: Detector, pictures: Named, most: Named
) -> Sequence[tuple[str, Detections]]:
    """Return the detections of pictures; `most` is the larger set, for the progress bar."""
    from yolov7_trt_ros.report.accuracy.average_precision import accuracy_settings

    found: list[tuple[str, Detections]] = []
    failures: list[InferenceError] = []
    count = len(most) if isinstance(most, Sized) else None
    with output.progress_bar('scoring', count) as advance:
        for each in detect_all(detector, pictures, accuracy_settings(), failures.append):
            found.append(each)
            advance()
    if failures:
        output.warn(f'{len(failures)} of {len(found)} pictures for scores failed, and count as '
                    f'without detections; the first: {failures[0]}')
    return found
