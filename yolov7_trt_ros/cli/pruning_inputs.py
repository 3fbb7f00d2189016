"""What `prune` reads and measures: pictures, labels, average precision, time of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import functools
from pathlib import Path
import statistics
import tempfile
import threading
from typing import Any, TYPE_CHECKING

from yolov7_trt_ros.cli import output
from yolov7_trt_ros.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from yolov7_trt_ros.core.detector import Detector
    from yolov7_trt_ros.model.architecture import Network
    from yolov7_trt_ros.model.distill import LabelledLoss
    from yolov7_trt_ros.model.training_batches import ImageCache
    from yolov7_trt_ros.replay.picture_store import PictureStore

_LATENCY_RUNS = 15
_GREY = 114

Evaluate = Callable[['Network'], dict[str, Any]]


def letterbox_loader(
    store: PictureStore, size: int
) -> Callable[[int], NDArray[np.uint8]]:
    """Return what reads a picture letterboxed: (3, size, size) RGB; for any number of threads."""
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
    Return what measures the average precision of a network, exported and run on the CPU.

    Raises
    ------
    InputError
        The annotations or the pictures cannot be used.
    MissingDependencyError
        pycocotools is not installed.

    """
    from yolov7_trt_ros.report.accuracy import find_images
    from yolov7_trt_ros.report.coco import CocoAnnotations

    labels = CocoAnnotations(annotations)
    images = find_images(labels, folder, allow_missing=allow_missing)
    categories_of = functools.cache(functools.partial(output.labelled_categories, labels))

    def evaluate(network: Network) -> dict[str, Any]:
        from yolov7_trt_ros.replay.pictures import load_picture
        from yolov7_trt_ros.report import accuracy, coco

        with tempfile.TemporaryDirectory(prefix='yolov7_trt_') as temporary:
            detector = open_exported(network, Path(temporary), size)
            try:
                categories = categories_of(detector.spec.class_names)
                with output.progress_bar('average precision', len(images)) as advance:
                    records = accuracy.detect_labelled(
                        images, folder, detector, accuracy.accuracy_settings(), categories,
                        load=load_picture, found=lambda *_: None, failed=output.warn,
                        advance=advance,
                    )
            finally:
                detector.close()
        found = coco.evaluate_coco(
            records, labels, [image.image_id for image in images], categories
        )
        return {'ap': found['ap'], 'ap50': found['ap50'], 'images': len(images)}

    return evaluate


def open_exported(network: Network, folder: Path, size: int) -> Detector:
    """Export a network and open it with ONNX Runtime, letterboxing to a square."""
    from yolov7_trt_ros.engine import DetectorOptions
    from yolov7_trt_ros.engine.open import open_detector
    from yolov7_trt_ros.model.export import export_onnx

    path = folder / 'network.onnx'
    export_onnx(network, path)
    return open_detector(DetectorOptions(
        model=str(path), backend='onnx', network_size=size, rectangular=False
    ))


def measure_latency_ms(network: Network, size: int) -> float:
    """Return the median time of the network in ONNX Runtime here, one square image."""
    import numpy as np

    from yolov7_trt_ros.core.detector import DetectSettings
    from yolov7_trt_ros.core.image import ImageView

    image = ImageView.from_array(np.full((size, size, 3), _GREY, np.uint8))
    with tempfile.TemporaryDirectory(prefix='yolov7_trt_') as temporary:
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
    Return what makes the labelled loss of the pictures of a folder, labels in COCO's format.

    Classes and categories are matched by name. Pictures that the file does not list have no part
    in the loss; those that it lists without a box show nothing.

    Raises
    ------
    InputError
        The pictures are no files with names, or the file has no box for any of them.
    ModelLayoutError
        None of the network's classes is a category of the file.

    """
    import numpy as np

    from yolov7_trt_ros.report.coco import CocoAnnotations

    if store.kind != 'pictures':
        raise InputError(f'--labels needs a folder of pictures, --images is a {store.kind}')
    annotations = CocoAnnotations(path)
    coco = annotations.coco
    by_name = {image['file_name']: image for image in coco.dataset['images']}

    def boxes_of(index: int, known: Mapping[int, int]) -> NDArray[np.float32] | None:
        image = by_name.get(store.files[index].name)
        if image is None:
            return None
        rows = [
            [known[item['category_id']], *_in_square(item['bbox'], image, size)]
            for item in coco.loadAnns(coco.getAnnIds(imgIds=[image['id']], iscrowd=False))
            if item['category_id'] in known
        ]
        return np.array(rows, np.float32).reshape(-1, 5)

    def make(network: Network, cache: ImageCache) -> LabelledLoss:
        from yolov7_trt_ros.model.labelled_loss import BoxLabels

        ids = annotations.categories_of(network.class_names).ids
        known = {category: number for number, category in enumerate(ids) if category is not None}
        if len(known) < len(ids):
            output.warn(
                f'the labels have {len(known)} of the {len(ids)} classes: the others are taught '
                'to be nothing wherever a labelled picture shows them'
            )
        boxes = [boxes_of(int(index), known) for index in cache.indices]
        return BoxLabels(boxes, network.anchors, network.strides)

    return make


def _in_square(
    box: list[float], image: dict[str, Any], size: int
) -> tuple[float, float, float, float]:
    """Return centre and size of a COCO box (x, y, w, h) as shares of the letterboxed square."""
    from yolov7_trt_ros.core.letterbox import fit_letterbox

    placed = fit_letterbox((image['width'], image['height']), (size, size))
    x, y, width, height = box
    scale, offset = placed.scale_xy, placed.offset_xy
    return (
        ((x + width / 2) * scale[0] + offset[0]) / size,
        ((y + height / 2) * scale[1] + offset[1]) / size,
        width * scale[0] / size,
        height * scale[1] / size,
    )
