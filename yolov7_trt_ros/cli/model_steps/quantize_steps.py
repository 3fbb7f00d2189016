"""Steps of `quantize`: calibrate, try methods, choose, write; shared with the benchmark."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import itertools
import json
import math
from pathlib import Path
from typing import Any, TYPE_CHECKING

from yolov7_trt_ros.cli import labels, output
from yolov7_trt_ros.cli.effects import model_effects
from yolov7_trt_ros.cli.model_steps.calibration_pictures import Pictures, PictureSets
from yolov7_trt_ros.cli.model_steps.model_scores import AgreementScore, LabelledScore, ModelScore
from yolov7_trt_ros.errors import CalibrationError, MissingDependencyError, ModelLayoutError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from yolov7_trt_ros.core.detector import Detector
    from yolov7_trt_ros.model.quantize.tournament import Entry, Tournament
    from yolov7_trt_ros.onnx_tools.graph import FloatModel

METHODS = ('kl', 'mse', 'percentile', 'minmax')
SENSITIVITY_PICTURES = 4


@dataclasses.dataclass(frozen=True)
class QuantizeOptions:
    """
    Options of quantisation.

    Attributes
    ----------
    method
        One of `METHODS`, or `auto`: all of them, and a fall-back by sensitivity.
    keep
        Regular expression; convolutions whose name matches stay float, besides the heads.
    weight_range
        `max` or `mse`.
    network_size
        Longer side of the network input, for models with a free input size.
    asked_size
        The same if it was asked for: a model that cannot have it is refused.
    threads
        CPU threads; 0 takes one per core.
    class_names, anchors
        As in DetectorOptions.

    """

    method: str = 'auto'
    keep: str | None = None
    weight_range: str = 'max'
    network_size: int = 640
    asked_size: int | None = None
    threads: int = 0
    class_names: str = 'auto'
    anchors: str = 'auto'

    @property
    def methods(self) -> tuple[str, ...]:
        """Return the methods to try."""
        return METHODS if self.method == 'auto' else (self.method,)


def load_model(path: Path) -> FloatModel:
    """
    Load a float32 ONNX model.

    Raises
    ------
    MissingDependencyError
        The `onnx` package, or ONNX Runtime, is not installed.
    ModelError
        It cannot be quantised: unreadable, quantised already, float16, or without convolutions.

    """
    try:
        import yolov7_trt_ros.model.quantize.qdq  # noqa: F401  (needed later; fail now)
        from yolov7_trt_ros.onnx_tools.float_source import load_source
        from yolov7_trt_ros.onnx_tools.graph import FloatModel
    except ImportError as exc:
        raise MissingDependencyError(
            f'quantising needs onnx and ONNX Runtime ({exc}); install them with: '
            'pip install onnx onnxruntime'
        ) from exc
    return FloatModel(load_source(path))


def kept_convs(model: FloatModel, keep: str | None) -> tuple[str, ...]:
    """
    Return the convolutions that stay float: the heads, and those that match `keep`.

    Raises
    ------
    SettingError
        `keep` is not a regular expression, or matches none.
    CalibrationError
        It matches all.
    ModelLayoutError
        The model has no convolutions except its heads.

    """
    found = () if keep is None else model.find_convs(keep)
    kept = tuple(dict.fromkeys((*model.heads, *found)))
    if len(model.heads) == len(model.convs):
        raise ModelLayoutError(
            f'the only Conv nodes of the model are its {len(model.heads)} heads, which stay float '
            f'({", ".join(model.heads)}): there is nothing to quantise'
        )
    if len(kept) == len(model.convs):
        raise CalibrationError(
            f'--keep {keep!r} matches so many that all {len(kept)} Conv nodes stay float: give a '
            'pattern that matches fewer'
        )
    return kept


def opener(options: QuantizeOptions, *, rectangular: bool) -> Callable[[Path], Detector]:
    """Return a function that opens an ONNX file in ONNX Runtime."""
    from yolov7_trt_ros.engine.open import open_detector
    from yolov7_trt_ros.engine.options import DetectorOptions

    warned: set[str] = set()

    def open_model(path: Path) -> Detector:
        detector = open_detector(DetectorOptions(
            model=str(path), backend='onnx', network_size=options.network_size,
            rectangular=rectangular, threads=options.threads, class_names=options.class_names,
            anchors=options.anchors,
        ))
        output.warn_of_doubts(detector.spec, warned)
        try:
            model_effects.check_size(detector.spec, str(path), options.asked_size)
        except BaseException:
            detector.close()
            raise
        return detector

    return open_model


def choose_score(
    pictures: Pictures, annotations: Path | None, options: QuantizeOptions
) -> ModelScore:
    """Return AP50, letterboxed to squares, if there are labels; else agreement."""
    if annotations is None:
        return AgreementScore(pictures, opener(options, rectangular=True))
    return LabelledScore(
        pictures, labels.open_annotations(annotations), opener(options, rectangular=False)
    )


class Blobs:
    """
    Network inputs of pictures, letterboxed like in the engine, read again each time.

    Each is a new array (1, 3, H, W) of the model's type.

    """

    def __init__(self, model: Path, pictures: Pictures, options: QuantizeOptions) -> None:
        detector: Any = opener(options, rectangular=True)(model)
        self._letterbox = detector.letterbox
        self._dtype = detector.spec.image.dtype
        self._pictures = pictures
        detector.close()

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Yield one array per decodable picture."""
        from yolov7_trt_ros.core.preprocess import Preprocessor

        preprocessor = Preprocessor()
        for _, picture in self._pictures:
            blob = preprocessor.prepare(picture, self._letterbox(picture.size_wh))
            yield blob.astype(self._dtype, copy=True)


def quantize_model(
    path: Path,
    model: FloatModel,
    pictures: PictureSets,
    score: ModelScore | None,
    options: QuantizeOptions,
    report: Callable[[str], None],
) -> Tournament:
    """
    Calibrate a model, and quantise it with its method, or the best of all.

    Without a score there is one entry, the winner, and the reference is NaN.

    Raises
    ------
    CalibrationError
        No picture can be used.

    """
    from yolov7_trt_ros.model.quantize.calibration import calibrate
    from yolov7_trt_ros.model.quantize.qdq import quantise
    from yolov7_trt_ros.model.quantize.tournament import Entry, run_tournament, Tournament

    kept = kept_convs(model, options.keep)
    blobs = Blobs(path, pictures.calibration, options)
    report(f'calibrating on {len(pictures.calibration)} pictures: value ranges of each layer')
    with output.progress_bar('calibration', len(pictures.calibration)) as advance:
        calibration = calibrate(model, blobs, threads=options.threads, advance=advance)
    if score is None:
        changed = quantise(model, calibration, method=options.method, kept=kept,
                           weight_range=options.weight_range)
        entry = Entry(options.method, kept, ())
        return Tournament(math.nan, (entry,), entry, changed, ())
    few = list(itertools.islice(blobs, SENSITIVITY_PICTURES)) if options.method == 'auto' else []
    return run_tournament(
        model, calibration, score, methods=options.methods, kept=kept, sensitivity_blobs=few,
        tolerance=score.tolerance, weight_range=options.weight_range, threads=options.threads,
        report=report, progress=output.progress_bar,
    )


def serialise_winner(tournament: Tournament, pictures: int, weight_range: str) -> bytes:
    """Return the serialised model of the winner; its metadata state how it was made."""
    from yolov7_trt_ros.model.quantize.qdq import describe

    winner = tournament.winner
    describe(tournament.model, json.dumps({
        'method': winner.method, 'weights': weight_range, 'pictures': pictures,
        'float': list(winner.kept),
    }))
    data: bytes = tournament.model.SerializeToString()
    return data


def entry_record(entry: Entry) -> dict[str, Any]:
    """Return an entry, JSON-ready, without its model."""
    return {
        'name': entry.name, 'method': entry.method, 'score': entry.score,
        'float_convs': list(entry.kept), 'added_by_sensitivity': list(entry.extra),
    }


def tournament_rows(
    tournament: Tournament, convs: int, measure: str
) -> Sequence[tuple[str, str]]:
    """Return the table rows of a tournament, the float model first."""
    reference = tournament.reference
    rows = [('float', f'{measure} {reference:.4f}')]
    for entry in tournament.entries:
        chosen = '  <- kept' if entry is tournament.winner else ''
        score = math.nan if entry.score is None else entry.score
        rows.append((
            entry.name,
            f'{measure} {score:.4f} ({score - reference:+.4f}), '
            f'{convs - len(entry.kept)} of {convs} Conv in int8{chosen}',
        ))
    return rows
