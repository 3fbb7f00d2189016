"""Random inputs for the kernels, and the comparison with their twins in core."""

from __future__ import annotations

import dataclasses

from kernel_cases import DecodeCase, Decoded, Launcher, run_decode, run_letterbox, spec_of
import numpy as np

from yolov7_trt_ros.core.decode import decode_outputs, select_detections
from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.forms.model_spec import LabelledColumns, OutputLayout
from yolov7_trt_ros.core.image import Encoding, ImageView, PixelLayout
from yolov7_trt_ros.core.letterbox import fit_letterbox, fit_rectangle, Letterbox
from yolov7_trt_ros.core.preprocess import IS_X86, Preprocessor
from yolov7_trt_ros.errors import InferenceError

LETTERBOX_TOLERANCE = (1 if IS_X86 else 2) / 255
"""OpenCV scales otherwise on aarch64: `preprocess.RESIZE_LEVELS`."""


# ---- letterbox ------------------------------------------------------------------------------


def random_image(rng: np.random.Generator, encoding: Encoding, most: int = 200) -> ImageView:
    """Return an image of random size, padding and content: noise, or a smooth picture."""
    width, height = (int(side) for side in rng.integers(3, most, 2))
    if encoding.layout in (PixelLayout.YUV422, PixelLayout.YUV420_SEMI_PLANAR):
        width, height = width & ~1 or 2, height & ~1 or 2
    row_bytes = width * encoding.pixel_bytes
    step = row_bytes + encoding.sample_bytes * int(rng.integers(0, 9)) * int(rng.integers(0, 2))
    rows = encoding.rows(height)
    data = rng.integers(0, 256, (rows, step), np.uint8)
    if rng.random() < 0.3:
        data[:] = (np.arange(rows)[:, None] * 2 + np.arange(step) // encoding.pixel_bytes) & 255
    return ImageView.from_buffer(
        data.tobytes(), width=width, height=height, encoding=encoding.name, step=step,
        big_endian=bool(rng.integers(0, 2)),
    )


def random_letterbox(rng: np.random.Generator, size_wh: tuple[int, int], most: int) -> Letterbox:
    """Return a rectangle, or a box of any size, smaller or larger than the image."""
    if rng.random() < 0.5:
        return fit_rectangle(size_wh, int(rng.integers(1, most // 32 + 1)) * 32, 32)
    return fit_letterbox(size_wh, (int(rng.integers(1, most)), int(rng.integers(1, most))))


def letterbox_error(
    launcher: Launcher, image: ImageView, box: Letterbox, dtype: str, *, choose_rows: bool = True
) -> float:
    """Return the largest difference between the kernel and the CPU path; NaN is infinite."""
    found = run_letterbox(launcher, image, box, dtype, choose_rows=choose_rows)
    wanted = Preprocessor(dtype).prepare(image, box)[0]
    difference = np.abs(found.astype(np.float64) - wanted.astype(np.float64))
    return float(np.nan_to_num(difference, nan=np.inf).max())


# ---- decoding and NMS -----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class CaseSize:
    """Bounds of random decode cases."""

    most_rows: int = 600
    most_classes: int = 20


def random_settings(rng: np.random.Generator, classes: int) -> DetectSettings:
    """Return settings over the whole range that users may set."""
    some = frozenset(int(c) for c in rng.integers(0, classes, 1 + classes // 2))
    return DetectSettings(
        score_threshold=float(rng.choice([0.0, 0.001, 0.25, 0.5, 0.9, 1.0, rng.random()])),
        iou_threshold=float(rng.choice([0.0, 0.45, 0.65, 1.0, rng.random()])),
        max_detections=int(rng.choice([1, 3, 100, 300, 1000])),
        class_ids=some if rng.random() < 0.3 else None,
        class_agnostic=bool(rng.random() < 0.3),
        multi_label=bool(rng.random() < 0.3),
        max_candidates=int(rng.choice([1, 7, 64, 300, 4096, 30000])),
        class_thresholds=random_thresholds(rng, classes),
    )


def random_thresholds(
    rng: np.random.Generator, classes: int
) -> tuple[tuple[int, float], ...]:
    """Return thresholds of some classes, for half of the cases."""
    if rng.random() < 0.5:
        return ()
    some = sorted({int(c) for c in rng.integers(0, classes, 1 + classes // 3)})
    return tuple((c, float(rng.choice([0.0, 0.2, 0.75, 1.0, rng.random()]))) for c in some)


def random_boxes(rng: np.random.Generator, rows: int, extent: int) -> np.ndarray:
    """Return centre boxes (rows, 4) in crowds, some degenerate, some outside the image."""
    crowds = rng.uniform(-20, extent + 20, (max(1, rows // int(rng.integers(1, 30))), 2))
    centres = crowds[rng.integers(0, len(crowds), rows)] + rng.normal(0, extent / 60, (rows, 2))
    sizes = rng.uniform(0, extent / 3, (rows, 2))
    sizes[rng.random(rows) < 0.02] = 0
    boxes = np.concatenate([centres, sizes], axis=1)
    if rng.random() < 0.3:
        boxes = np.round(boxes / 8) * 8  # equal boxes, IoU exactly at thresholds
    return boxes.astype(np.float32)


def random_scores(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return scores: few levels (ties), mostly low, or all equal."""
    kind = rng.integers(0, 4)
    if kind == 0:
        return (rng.integers(0, 5, shape) / 4).astype(np.float32)
    if kind == 1:
        return np.full(shape, rng.choice([0.0, 0.3, 1.0]), np.float32)
    return (rng.random(shape) ** (1 if kind == 2 else 6)).astype(np.float32)


def poison(rng: np.random.Generator, array: np.ndarray, chance: float = 0.15) -> None:
    """Sometimes put NaN or an infinity somewhere."""
    if array.size and rng.random() < chance:
        places = rng.integers(0, array.size, int(rng.integers(1, 4)))
        array.reshape(-1)[places] = rng.choice([np.nan, np.inf, -np.inf])


def overshoot(rng: np.random.Generator, array: np.ndarray, chance: float = 0.05) -> None:
    """Sometimes put a number somewhere that is no score and no class."""
    if array.size and rng.random() < chance:
        array.reshape(-1)[rng.integers(0, array.size)] = rng.choice([1.5, 0.25, -3.0])


def random_case(rng: np.random.Generator, size: CaseSize) -> DecodeCase:
    """Return a case of any layout, batch and dtype."""
    layout = rng.choice([
        OutputLayout.GRID, OutputLayout.BOXES_AND_SCORES, OutputLayout.LABELLED,
        OutputLayout.END2END_TRT,
    ])
    batch = int(rng.choice([1, 1, 3]))
    classes = int(rng.choice([1, 2, size.most_classes]))
    rows = int(rng.integers(1, size.most_rows))
    dtype = rng.choice(['float32', 'float32', 'float16'])
    extent = 320
    boxes = np.stack([random_boxes(rng, rows, extent) for _ in range(batch)])
    letterboxes = [
        fit_letterbox((int(w), int(h)), (extent, extent))
        for w, h in rng.integers(20, 900, (batch, 2))
    ]
    centres = bool(rng.integers(0, 2))
    transposed, columns = False, None
    if layout is OutputLayout.GRID:
        scores = random_scores(rng, (batch, rows, 1 + classes))
        outputs = [np.concatenate([boxes, scores], axis=2).astype(dtype)]
        transposed = bool(rng.random() < 0.3)
    elif layout is OutputLayout.LABELLED:
        outputs, columns = random_labelled(rng, boxes, classes, dtype)
        transposed = columns is not None and bool(rng.random() < 0.3)
    elif layout is OutputLayout.BOXES_AND_SCORES:
        outputs = [boxes.astype(dtype), random_scores(rng, (batch, rows, classes)).astype(dtype)]
    else:
        corners = np.concatenate([boxes[..., :2] - boxes[..., 2:] / 2,
                                  boxes[..., :2] + boxes[..., 2:] / 2], axis=2)
        outputs = [
            rng.integers(0, rows + 1, (batch, 1)).astype(np.int32),
            corners.astype(dtype), random_scores(rng, (batch, rows)).astype(dtype),
            rng.integers(0, classes, (batch, rows)).astype(np.int32),
        ]
    for array in outputs:
        if array.dtype.kind == 'f':
            poison(rng, array)
            overshoot(rng, array)
    if transposed:
        outputs = [np.ascontiguousarray(array.transpose(0, 2, 1)) for array in outputs]
    settings = random_settings(rng, classes)
    if dtype == 'float16':  # numpy compares float16 with thresholds in float16
        settings = dataclasses.replace(
            settings, score_threshold=float(np.float16(settings.score_threshold)),
            class_thresholds=tuple(
                (index, float(np.float16(score))) for index, score in settings.class_thresholds
            ),
        )
    spec = spec_of(layout, classes, centres=centres)
    spec = dataclasses.replace(spec, transposed=transposed, columns=columns)
    return DecodeCase(spec, outputs, letterboxes, settings)


def random_labelled(
    rng: np.random.Generator, boxes: np.ndarray, classes: int, dtype: str
) -> tuple[list[np.ndarray], LabelledColumns | None]:
    """Return boxes with a score and a label a row: three tensors, or one of 6 or 7 columns."""
    shape = (*boxes.shape[:2], 1)
    scores = random_scores(rng, shape).astype(dtype)
    labels = rng.integers(0, classes, shape)
    if rng.random() < 0.1:  # some that are no classes
        labels.reshape(-1)[rng.integers(0, labels.size, 2)] = rng.choice([-1, classes, 30000])
    if rng.random() < 0.3:
        kind = rng.choice([dtype, 'int32', 'int64'])
        return [boxes.astype(dtype), scores, labels.astype(kind)], None
    parts = [boxes, scores, labels]
    columns = LabelledColumns(0, 4, 5)
    if rng.random() < 0.3:  # the older form: class score, label, objectness
        parts.append(random_scores(rng, shape))
        columns = LabelledColumns(0, 4, 5, 6)
    elif rng.random() < 0.3:  # label, score, box
        parts, columns = [labels, scores, boxes], LabelledColumns(2, 1, 0)
    return [np.concatenate(parts, axis=2).astype(dtype)], columns


def random_heads_case(rng: np.random.Generator, packed: bool) -> DecodeCase:
    """Return a case of three raw heads, five- or four-dimensional."""
    classes, batch, width, height = int(rng.choice([1, 3, 9])), int(rng.choice([1, 2])), 64, 96
    outputs = []
    for stride in (8, 16, 32):
        shape = (batch, 3, height // stride, width // stride, 5 + classes)
        head = rng.normal(-1, 2, shape).astype(rng.choice(['float32', 'float16']))
        if packed:
            head = np.ascontiguousarray(
                head.transpose(0, 1, 4, 2, 3).reshape(batch, -1, *shape[2:4])
            )
        outputs.append(head)
    letterboxes = [fit_letterbox((400, 500), (width, height))] * batch
    settings = dataclasses.replace(
        random_settings(rng, classes), score_threshold=float(rng.uniform(0.05, 0.6))
    )
    return DecodeCase(spec_of(OutputLayout.RAW_HEADS, classes), outputs, letterboxes, settings)


def check_decode(launcher: Launcher, case: DecodeCase, *, tolerance: float = 0.0) -> str:
    """
    Compare the kernels with core; returns '' or what differs.

    With `tolerance` 0 all must be equal to the last bit, order included. Where core refuses the
    numbers of an image, the kernels must have counted unusable values too, and only there.

    """
    decoded = run_decode(launcher, case)
    for image, (found, box) in enumerate(zip(decoded, case.letterboxes, strict=True)):
        outputs = [array[image:image + 1] for array in case.outputs]
        try:
            candidates = decode_outputs(case.spec, outputs, case.settings)
        except InferenceError as exc:
            if not any(found.bad):
                return f'image {image}: core says {exc}, the kernels nothing'
            continue
        if any(found.bad):
            return f'image {image}: the kernels count {found.bad} unusable values, core none'
        wanted = select_detections(candidates, box, case.settings)
        problem = _compare(found, wanted, tolerance)
        if problem:
            return f'image {image}: {problem}; {case.spec.layout}, {case.settings}'
    return ''


def _compare(found: Decoded, wanted: object, tolerance: float) -> str:
    detections = found.detections
    for name in ('boxes_xyxy', 'scores', 'class_ids'):
        ours, theirs = getattr(detections, name), getattr(wanted, name)
        if ours.shape != theirs.shape:
            return f'{name} has shape {ours.shape}, core {theirs.shape}'
        different = ~np.isclose(ours, theirs, rtol=0, atol=tolerance)
        if different.any():
            where = int(np.argwhere(different)[0][0])
            return f'{name}[{where}] is {ours[where]}, core {theirs[where]}'
    return ''
