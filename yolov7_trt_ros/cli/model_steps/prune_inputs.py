"""Inputs and measurements of `prune`: pictures, labels, average precision, latency."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import functools
from pathlib import Path
import statistics
import threading
from typing import Any, TYPE_CHECKING

from yolov7_trt_ros.cli import labels, output
from yolov7_trt_ros.errors import ImageError, InputError
from yolov7_trt_ros.temporary_folder import TemporaryFolder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from yolov7_trt_ros.core.detector import Detector
    from yolov7_trt_ros.model.network.architecture import Network
    from yolov7_trt_ros.model.prune.distill import LabelledLoss
    from yolov7_trt_ros.model.prune.training_batches import ImageCache
    from yolov7_trt_ros.replay.picture_store import PictureStore
    from yolov7_trt_ros.report.accuracy.categories import Categories
    from yolov7_trt_ros.report.accuracy.coco import CocoAnnotations
    from yolov7_trt_ros.report.accuracy.labels import Label

_LATENCY_RUNS = 15
_GREY = 114

Evaluate = Callable[['Network'], dict[str, Any]]


def letterbox_loader(
    store: PictureStore, size: int
) -> Callable[[int], NDArray[np.uint8]]:
    """Return a thread-safe loader of letterboxed pictures: (3, size, size) RGB."""
    import numpy as np

    from yolov7_trt_ros.core.letterbox import fit_letterbox
    from yolov7_trt_ros.core.preprocess import Preprocessor

    own = threading.local()

    def load(index: int) -> NDArray[np.uint8]:
        if not hasattr(own, 'preprocessor'):
            own.preprocessor = Preprocessor()
        image = store[index]
        blob = own.preprocessor.prepare(image, fit_letterbox(image.size_wh, (size, size)))
        pixels: NDArray[np.uint8] = np.rint(blob[0] * 255).astype(np.uint8)
        return pixels

    return load


def make_evaluation(
    annotations: Path, folder: Path, size: int, *, allow_missing: bool = False
) -> Evaluate:
    """
    Return a function that measures a network's average precision, exported, on the CPU.

    Raises
    ------
    InputError
        The annotations or the pictures cannot be used.
    MissingDependencyError
        pycocotools is not installed.

    """
    found = labels.open_annotations(annotations)
    images = labels.find_labelled(found, folder, allow_missing=allow_missing)
    categories_of = functools.cache(functools.partial(labels.labelled_categories, found))

    def evaluate(network: Network) -> dict[str, Any]:
        from yolov7_trt_ros.report.accuracy import average_precision as accuracy
        from yolov7_trt_ros.report.accuracy import coco

        with TemporaryFolder('yolov7_trt_exported_') as temporary:
            detector = open_exported(network, Path(temporary), size)
            try:
                categories = categories_of(detector.spec.class_names)
                pictures = labels.labelled_pictures(found)
                with output.progress_bar('average precision', len(images)) as advance:
                    records = accuracy.detect_labelled(
                        images, folder, detector, accuracy.accuracy_settings(), categories,
                        pictures=pictures, failed=output.warn, advance=advance,
                    )
            finally:
                detector.close()
        labels.warn_of_notes(pictures)
        result = coco.evaluate_coco(records, found, images, categories)
        return {'ap': result['ap'], 'ap50': result['ap50'], 'images': len(images)}

    return evaluate


def open_exported(network: Network, folder: Path, size: int) -> Detector:
    """Export a network and open it with ONNX Runtime, letterboxing to a square."""
    from yolov7_trt_ros.engine.open import open_detector
    from yolov7_trt_ros.engine.options import DetectorOptions
    from yolov7_trt_ros.model.export.exporter import export_onnx

    path = folder / 'network.onnx'
    export_onnx(network, path)
    return open_detector(DetectorOptions(
        model=str(path), backend='onnx', network_size=size, rectangular=False
    ))


def measure_latency_ms(network: Network, size: int) -> float:
    """Return the median time of the network in ONNX Runtime for one square image."""
    import numpy as np

    from yolov7_trt_ros.core.detector import DetectSettings
    from yolov7_trt_ros.core.image import ImageView

    image = ImageView.from_array(np.full((size, size, 3), _GREY, np.uint8))
    with TemporaryFolder('yolov7_trt_exported_') as temporary:
        detector = open_exported(network, Path(temporary), size)
        try:
            runs = [
                detector.detect(image, DetectSettings())[1].infer_ns
                for _ in range(_LATENCY_RUNS)
            ]
        finally:
            detector.close()
    return statistics.median(runs) / 1e6


def load_labels(
    path: Path, store: PictureStore, size: int
) -> Callable[[Network, ImageCache], LabelledLoss]:
    """
    Return a function that makes the labelled loss of a folder's pictures, from COCO labels.

    Classes and categories are matched by name. Pictures that are not in the file, or have another
    size there, are not in the loss; listed pictures without a box have no objects.

    Raises
    ------
    InputError
        The source is not a folder of pictures, or the file has no box for any of them.
    ModelLayoutError
        No class of the network is a category of the file.

    """
    if store.kind != 'pictures':
        raise InputError(f'--labels needs a folder of pictures, --images is a {store.kind}')
    annotations = labels.open_annotations(path)

    def make(network: Network, cache: ImageCache) -> LabelledLoss:
        from yolov7_trt_ros.model.prune.labelled_loss import BoxLabels

        categories = annotations.categories_of(network.class_names)
        for note in categories.assumed:
            output.warn(note)
        if len(categories.measured) < len(categories.ids):
            output.warn(
                f'the labels have {len(categories.measured)} of the {len(categories.ids)} '
                'classes: labelled pictures teach that there are no objects of the '
                'others'
            )
        boxes = _boxes_of(annotations, store, [int(index) for index in cache.indices], categories,
                          size)
        return BoxLabels(boxes, network.anchors, network.strides)

    return make


def _boxes_of(
    annotations: CocoAnnotations, store: PictureStore, indices: Sequence[int],
    categories: Categories, size: int,
) -> list[NDArray[np.float32] | None]:
    """Return the boxes of each picture, None without usable labels; warn of those."""
    found: list[NDArray[np.float32] | None] = []
    unfit = 0
    for index in indices:
        image = annotations.image_of(store.files[index].name)
        size_wh = None if image is None else _size_of(store, index)
        if image is None or size_wh is None or image.size_wh not in (None, size_wh):
            unfit += image is not None
            found.append(None)
        else:
            found.append(_rows(annotations.labels[image.image_id], categories, size_wh, size))
    if unfit:
        output.warn(
            f'{unfit} pictures cannot be read, or have another size than {annotations.path.name} '
            'states: their labels are not used'
        )
    return found


def _rows(
    found: Sequence[Label], categories: Categories, size_wh: tuple[int, int], size: int
) -> NDArray[np.float32]:
    """Return class and box in the letterboxed square of each labelled object (n, 5)."""
    import numpy as np

    classes = {category: number for number, category in enumerate(categories.ids)}
    rows = [
        [classes[category], *_in_square(label.box_xywh, size_wh, size)]
        for label in found
        if not label.is_crowd
        and (category := categories.category_of(label.category_id)) is not None
    ]
    return np.array(rows, np.float32).reshape(-1, 5)


def _size_of(store: PictureStore, index: int) -> tuple[int, int] | None:
    """Return the size of a picture as used in training, None if it cannot be read."""
    try:
        return store[index].size_wh
    except ImageError:
        return None


def _in_square(
    box: tuple[float, float, float, float], size_wh: tuple[int, int], size: int
) -> tuple[float, float, float, float]:
    """Return centre and size of a COCO box (x, y, w, h) as shares of the letterboxed square."""
    from yolov7_trt_ros.core.letterbox import fit_letterbox

    placed = fit_letterbox(size_wh, (size, size))
    x, y, width, height = box
    scale, offset = placed.scale_xy, placed.offset_xy
    return (
        ((x + width / 2) * scale[0] + offset[0]) / size,
        ((y + height / 2) * scale[1] + offset[1]) / size,
        width * scale[0] / size,
        height * scale[1] / size,
    )
