"""
Forms that exporters give a grid model, made of `onnx_models.conv_grid` by a few more nodes.

Each says what becomes of it: `taken` or `converted` with the boxes of the plain grid, or `refused`
with some words of the error. docs/models.md shows the table.

"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, TensorProto
import onnx_models

CLASSES = 3
VALUES = 5 + CLASSES
CELLS = sum(96 // s * (64 // s) for s in (8, 16, 32))


class Editor:
    """Puts nodes behind the output `output` (1, rows, 8) of a grid model."""

    def __init__(self, path: Path) -> None:
        self.model = onnx.load(str(path))
        self._count = 0

    def add(self, operator: str, inputs: list[Any], **attributes: Any) -> str:
        """Add a node; arrays among its inputs are stored. Returns the name of its output."""
        names = [each if isinstance(each, str) else self._store(each) for each in inputs]
        name = self._name()
        self.model.graph.node.append(helper.make_node(operator, names, [name], **attributes))
        return name

    def columns(self, wanted: list[int], source: str = 'output') -> str:
        """Return the tensor of some columns."""
        return self.add('Gather', [source, np.array(wanted)], axis=2)

    def corners(self) -> str:
        """Return the boxes as corners."""
        matrix = np.array(
            [[1, 0, 1, 0], [0, 1, 0, 1], [-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5]], np.float32
        )
        return self.add('MatMul', [self.columns([0, 1, 2, 3]), matrix])

    def scores(self) -> str:
        """Return the scores of all classes (1, rows, classes)."""
        return self.add('Mul', [self.columns(list(range(5, VALUES))), self.columns([4])])

    def best(self, scores: str) -> tuple[str, str]:
        """Return the best score and its class (1, rows, 1), as float32 and int64."""
        axes = {'axis': 2, 'keepdims': 1}
        return (self.add('ReduceMax', [scores], axes=[2], keepdims=1),
                self.add('ArgMax', [scores], **axes))

    def as_float(self, tensor: str) -> str:
        """Cast to float32."""
        return self.add('Cast', [tensor], to=TensorProto.FLOAT)

    def joined(self, *parts: str) -> str:
        """Put parts beside each other."""
        return self.add('Concat', list(parts), axis=2)

    def give(self, *outputs: str, names: tuple[str, ...] = ('output',)) -> None:
        """Make tensors the outputs, under new names."""
        del self.model.graph.output[:]
        for tensor, name in zip(outputs, names, strict=True):
            final = name if name != 'output' else 'result'
            self.model.graph.node.append(helper.make_node('Identity', [tensor], [final]))
            self.model.graph.output.append(onnx.ValueInfoProto(name=final))

    def _store(self, array: Any) -> str:
        name = self._name()
        self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def _name(self) -> str:
        self._count += 1
        return f'form_{self._count}'


@dataclasses.dataclass(frozen=True)
class Form:
    """A form, what its documentation says, and how to make it of a grid model."""

    name: str
    shape: str
    verdict: str
    build: Callable[[Editor], None]
    error: str = ''

    def make(self, folder: Path, *, sides: tuple[Any, Any] = (64, 96)) -> Path:
        """Build the model; returns its path."""
        grid = onnx_models.conv_grid(folder / 'plain.onnx', num_classes=CLASSES, sides=sides)
        editor = Editor(grid)
        self.build(editor)
        path = folder / 'form.onnx'
        path.write_bytes(editor.model.SerializeToString())
        return path


def _plain(editor: Editor) -> None:
    """Leave it as it is."""


def _transposed(editor: Editor) -> None:
    editor.give(editor.add('Transpose', ['output'], perm=[0, 2, 1]))


def _deepstream(editor: Editor) -> None:
    score, label = editor.best(editor.scores())
    editor.give(editor.joined(editor.corners(), score, editor.as_float(label)))


def _deepstream_centres(editor: Editor) -> None:
    score, label = editor.best(editor.scores())
    boxes = editor.columns([0, 1, 2, 3])
    editor.give(editor.joined(boxes, score, editor.as_float(label)))


def _deepstream_seven(editor: Editor) -> None:
    score, label = editor.best(editor.columns(list(range(5, VALUES))))
    boxes, objectness = editor.columns([0, 1, 2, 3]), editor.columns([4])
    editor.give(editor.joined(boxes, score, editor.as_float(label), objectness))


def _deepstream_three(editor: Editor) -> None:
    score, label = editor.best(editor.scores())
    editor.give(
        editor.columns([0, 1, 2, 3]), score, label, names=('boxes', 'scores', 'classes')
    )


def _label_first(editor: Editor) -> None:
    score, label = editor.best(editor.scores())
    editor.give(editor.joined(editor.as_float(label), score, editor.corners()))


def _labelled_transposed(editor: Editor) -> None:
    score, label = editor.best(editor.scores())
    rows = editor.joined(editor.corners(), score, editor.as_float(label))
    editor.give(editor.add('Transpose', [rows], perm=[0, 2, 1]))


def _pair_corners(editor: Editor) -> None:
    editor.give(editor.corners(), editor.scores(), names=('boxes', 'scores'))


def _pair_centres(editor: Editor) -> None:
    boxes = editor.columns([0, 1, 2, 3])
    editor.give(editor.scores(), boxes, names=('boxes', 'classes'))  # as --include-nms has them


def _finished(order: list[int]) -> Callable[[Editor], None]:
    """All rows as if NMS had left them: batch, x1, y1, x2, y2, class, score in an order."""
    def build(editor: Editor) -> None:
        score, label = editor.best(editor.scores())
        batch = editor.add('Mul', [score, np.float32(0)])
        rows = editor.joined(batch, editor.corners(), editor.as_float(label), score)
        flat = editor.add('Reshape', [editor.columns(order, rows), np.array([-1, 7])])
        editor.give(flat)
    return build


def _normalised(editor: Editor) -> None:
    scale = np.array([1 / 96, 1 / 64, 1 / 96, 1 / 64, *[1] * (VALUES - 4)], np.float32)
    editor.give(editor.add('Mul', ['output', scale]))


def _corner_grid(editor: Editor) -> None:
    editor.give(editor.joined(editor.corners(), editor.columns(list(range(4, VALUES)))))


def _top_left(editor: Editor) -> None:
    matrix = np.eye(VALUES, dtype=np.float32)
    matrix[2, 0] = matrix[3, 1] = -0.5
    editor.give(editor.add('MatMul', ['output', matrix]))


def _swapped(editor: Editor) -> None:
    editor.give(editor.columns([1, 0, 3, 2, *range(4, VALUES)]))


def _objectness_first(editor: Editor) -> None:
    editor.give(editor.columns([4, 0, 1, 2, 3, *range(5, VALUES)]))


def _logit(editor: Editor, scores: str) -> str:
    clipped = editor.add('Clip', [scores, np.float32(1e-6), np.float32(1 - 1e-6)])
    other = editor.add('Sub', [np.float32(1), clipped])
    return editor.add('Log', [editor.add('Div', [clipped, other])])


def _objectness_logits(editor: Editor) -> None:
    objectness = _logit(editor, editor.columns([4]))
    boxes, classes = editor.columns([0, 1, 2, 3]), editor.columns(list(range(5, VALUES)))
    editor.give(editor.joined(boxes, objectness, classes))


def _class_logits(editor: Editor) -> None:
    classes = _logit(editor, editor.columns(list(range(5, VALUES))))
    editor.give(editor.joined(editor.columns([0, 1, 2, 3, 4]), classes))


def _with_keypoints(count: int) -> Callable[[Editor], None]:
    """One class and `count` values in network pixels, as heads of poses and faces have them."""
    def build(editor: Editor) -> None:
        x = editor.columns([0, 1] * count)
        points = editor.columns(list(range(count)), x)
        editor.give(editor.joined(editor.columns([0, 1, 2, 3, 4, 5]), points))
    return build


def _with_masks(editor: Editor) -> None:
    """Mask coefficients within -1..1, and prototype masks beside."""
    signed = editor.add('Sub', [editor.columns([4] * 32), np.float32(0.5)])
    rows = editor.joined('output', signed)
    masks = editor.add('Resize', ['images', '', np.array([1, 1, 0.25, 0.25], np.float32)])
    editor.give(rows, masks, names=('rows', 'masks'))


def _no_objectness(editor: Editor) -> None:
    rows = editor.joined(editor.columns([0, 1, 2, 3]), editor.scores())
    editor.model.metadata_props.add(key='names', value="{0: 'a', 1: 'b', 2: 'c'}")
    editor.give(rows)


def _anchor_free(editor: Editor) -> None:
    rows = editor.add('Slice', ['output', np.array([0]), np.array([CELLS]), np.array([1])])
    editor.give(editor.add('Transpose', [rows], perm=[0, 2, 1]))


def _one_anchor(editor: Editor) -> None:
    """Of each stride the rows of its first anchor."""
    starts, rows = 0, []
    for stride in (8, 16, 32):
        cells = 96 // stride * (64 // stride)
        rows += range(starts, starts + cells)
        starts += 3 * cells
    editor.give(editor.add('Gather', ['output', np.array(rows)], axis=1))


def _one_anchor_255(editor: Editor) -> None:
    """As YOLOX's own exports: pictures within 0..255."""
    _one_anchor(editor)
    graph = editor.model.graph
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == 'images':
                node.input[index] = 'scaled'
    scaled = helper.make_node('Mul', ['images', editor._store(np.float32(1 / 255))], ['scaled'])
    graph.node.insert(0, scaled)


def _by_cell(editor: Editor) -> None:
    """Rows go by cell rather than by anchor."""
    starts, rows = 0, []
    for stride in (8, 16, 32):
        cells = 96 // stride * (64 // stride)
        rows += [starts + anchor * cells + cell for cell in range(cells) for anchor in range(3)]
        starts += 3 * cells
    editor.give(editor.add('Gather', ['output', np.array(rows)], axis=1))


def _pose_task(editor: Editor) -> None:
    editor.model.metadata_props.add(key='task', value='pose')


def _raw(activate: bool, channels: int | None = None) -> Callable[[Editor], None]:
    def build(editor: Editor) -> None:
        maps = []
        for stride in (8, 16, 32):
            raw = f'conv_{stride}'
            if channels is not None:
                raw = editor.add('Concat', [raw] * (channels // (3 * VALUES)), axis=1)
            maps.append(editor.add('Sigmoid', [raw]) if activate else raw)
        editor.model.metadata_props.add(
            key='anchors', value=str([[list(size) for size in head]
                                      for head in onnx_models.CONV_ANCHORS])
        )
        editor.give(*maps, names=('a', 'b', 'c'))
    return build


FORMS = (
    Form('YOLOv7 `--grid`', '(B, rows, 5 + C)', 'taken', _plain),
    Form('the same, rows by cell', '(B, rows, 5 + C)', 'taken', _by_cell),
    Form('the same, transposed', '(B, 5 + C, rows)', 'taken', _transposed),
    Form('YOLOv7 raw heads', '3 x (B, 3 (5 + C), h, w)', 'taken', _raw(activate=False)),
    Form('YOLOv7 `--include-nms`', '(B, rows, C), (B, rows, 4)', 'taken', _pair_centres),
    Form('boxes as corners, and scores', '(B, rows, 4), (B, rows, C)', 'taken', _pair_corners),
    Form('YOLOv7 `--end2end --max-wh`', '(n, 7)', 'taken', _finished([0, 1, 2, 3, 4, 5, 6])),
    Form('DeepStream-Yolo, x1 y1 x2 y2 score label', '(B, rows, 6)', 'taken', _deepstream),
    Form('DeepStream-Yolo of 2023, cx cy w h score label', '(B, rows, 6)', 'taken',
         _deepstream_centres),
    Form('DeepStream-Yolo of 2023, cx cy w h score label objectness', '(B, rows, 7)', 'taken',
         _deepstream_seven),
    Form('DeepStream-Yolo of 2023 and 2024, three outputs', '(B, rows, 4), 2 x (B, rows, 1)',
         'taken', _deepstream_three),
    Form('label score x1 y1 x2 y2', '(B, rows, 6)', 'taken', _label_first),
    Form('DeepStream-Yolo, transposed', '(B, 6, rows)', 'taken', _labelled_transposed),
    Form('one anchor a cell, as YOLOX', '(B, cells, 5 + C)', 'taken', _one_anchor),
    Form('boxes within 0..1', '(B, rows, 5 + C)', 'refused', _normalised, 'height in 0..1'),
    Form('boxes as corners', '(B, rows, 5 + C)', 'refused', _corner_grid,
         'boxes as x1, y1, x2, y2 in network pixels'),
    Form('boxes as left, top, width, height', '(B, rows, 5 + C)', 'refused', _top_left,
         'boxes as left, top, width, height'),
    Form('y before x', '(B, rows, 5 + C)', 'refused', _swapped, 'y before x'),
    Form('objectness first', '(B, rows, 5 + C)', 'refused', _objectness_first,
         'do not follow the cells'),
    Form('objectness as logits', '(B, rows, 5 + C)', 'refused', _objectness_logits,
         'objectness of the model lies within .*logits'),
    Form('classes as logits', '(B, rows, 5 + C)', 'refused', _class_logits,
         'not classes: .*logits'),
    Form('YOLOv7-pose', '(B, rows, 57)', 'refused', _with_keypoints(51),
         'keypoints of YOLOv7-pose'),
    Form('YOLOv7-face', '(B, rows, 21)', 'refused', _with_keypoints(15),
         'landmarks of YOLOv7-face'),
    Form('segmentation', '(B, rows, 37 + C), masks', 'refused', _with_masks, 'prototype masks'),
    Form('another task in the metadata', '(B, rows, 5 + C)', 'refused', _pose_task,
         "its task is 'pose'"),
    Form('YOLOv8 and later', '(B, 4 + C, cells)', 'refused', _anchor_free, 'anchor-free YOLO'),
    Form("one anchor a cell, pictures of 0..255, as YOLOX's own", '(B, cells, 5 + C)', 'refused',
         _one_anchor_255, 'expects pictures within 0..255'),
    Form('no objectness, and as many names', '(B, rows, 4 + C)', 'refused', _no_objectness,
         'without objectness'),
    Form('raw heads after their sigmoid', '3 x (B, 3 (5 + C), h, w)', 'refused',
         _raw(activate=True), 'the sigmoid is inside'),
    Form('raw heads of YOLOv8 and later', '3 x (B, 144, h, w)', 'refused',
         _raw(activate=False, channels=144), '64 and 80 classes of an anchor-free'),
    Form('class and score exchanged', '(n, 7)', 'refused in each frame',
         _finished([0, 1, 2, 3, 4, 6, 5]), 'columns in another order'),
    Form('the box first', '(n, 7)', 'refused in each frame', _finished([1, 2, 3, 4, 6, 5, 0]),
         'columns are in another order'),
)
