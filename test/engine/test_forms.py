"""Every form that exporters give a model: taken with the boxes of the plain grid, or refused."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from export_forms import CLASSES, Form, FORMS
import numpy as np
import onnx_models
import pytest
from test_export_forms import assert_same

from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.forms.model_spec import OutputLayout
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.engine.onnx_detector import OnnxDetector
from yolov7_trt_ros.errors import InferenceError, ModelLayoutError

SETTINGS = DetectSettings(score_threshold=0.3, max_detections=1000)
DOCS = Path(__file__).parents[2] / 'docs' / 'models.md'
START, END = '<!-- forms: made by test/engine/test_forms.py -->', '<!-- end of forms -->'
NAMES = [f'name {index}' for index in range(CLASSES)]


def pictures() -> list[ImageView]:
    rng = np.random.default_rng(5)
    return [ImageView.from_array(rng.integers(0, 256, (64, 96, 3), np.uint8)) for _ in range(4)]


def by_id(form: Form) -> str:
    return form.name


@pytest.mark.parametrize('keep_grid', [False, True], ids=['cut', 'kept'])
@pytest.mark.parametrize('form', [f for f in FORMS if f.verdict == 'taken'], ids=by_id)
def test_taken_forms_find_what_the_plain_grid_finds(
    form: Form, keep_grid: bool, tmp_path: Path
) -> None:
    detector = OnnxDetector(form.make(tmp_path), class_names=NAMES, keep_grid=keep_grid)
    plain = OnnxDetector(tmp_path / 'plain.onnx', class_names=NAMES, keep_grid=True)
    fewer = 'one anchor' in form.name
    # what stands for NMS inside keeps every box
    settings = dataclasses.replace(SETTINGS, iou_threshold=1.0 if 'end2end' in form.name else 0.45)
    assert detector.spec.num_classes == CLASSES
    assert detector.spec.evidence and not detector.spec.doubts
    for image in pictures():
        found, wanted = (each.detect(image, settings)[0] for each in (detector, plain))
        assert len(found) > 3
        if fewer:  # a third of the boxes: the plain grid has them, but for those it suppressed
            assert len(found) < len(wanted)
        else:
            assert_same(found, wanted)


@pytest.mark.parametrize('form', [f for f in FORMS if f.verdict == 'refused'], ids=by_id)
def test_refused_forms_are_named_with_what_to_do(form: Form, tmp_path: Path) -> None:
    with pytest.raises(ModelLayoutError, match=form.error) as info:
        OnnxDetector(form.make(tmp_path))
    assert any(word in str(info.value) for word in ('export', 'use a model', 'detects boxes',
                                                    '--class-names', 'does not read'))


@pytest.mark.parametrize('form', [f for f in FORMS if 'frame' in f.verdict], ids=by_id)
def test_forms_that_only_a_frame_tells_fail_each_frame(form: Form, tmp_path: Path) -> None:
    detector = OnnxDetector(form.make(tmp_path))
    for image in pictures():
        with pytest.raises(InferenceError, match=form.error):
            detector.detect(image, SETTINGS)


def test_the_decoding_of_deepstreams_forms_is_cut_and_gives_the_classes(tmp_path: Path) -> None:
    """Only the convolutions tell how many classes a model with labels has."""
    deepstream = [form for form in FORMS if 'DeepStream' in form.name]
    assert len(deepstream) == 5
    for form in deepstream:
        path = form.make(tmp_path)
        detector = OnnxDetector(path)
        assert detector.status() == {'decoding': 'ours'}, form.name
        assert detector.spec.class_names == ('class_0', 'class_1', 'class_2')
        assert detector.spec.doubts == ()
        with pytest.raises(ModelLayoutError, match='3 classes, but the given class names count 2'):
            OnnxDetector(path, class_names=['a', 'b'])
        kept = OnnxDetector(path, keep_grid=True)
        assert kept.spec.num_classes is None
        assert 'does not tell its class names' in kept.spec.doubts[0]


def test_too_few_names_are_told_where_nothing_else_tells_the_classes(tmp_path: Path) -> None:
    form = next(form for form in FORMS if form.name.startswith('DeepStream-Yolo, x1'))
    detector = OnnxDetector(form.make(tmp_path), class_names=['a'], keep_grid=True)
    with pytest.raises(InferenceError, match='class names are too few'):
        detector.detect(pictures()[0], SETTINGS)


def test_a_model_says_what_it_was_told_by_and_what_was_assumed(tmp_path: Path) -> None:
    path = onnx_models.conv_grid(tmp_path / 'grid.onnx', num_classes=CLASSES)
    spec = OnnxDetector(path, keep_grid=True).spec
    assert spec.evidence == (
        '378 rows: 3 anchors a cell, strides 8, 16, 32',
        'boxes are centre x, centre y, width, height in network pixels: 100% of the centres lie '
        'in their cells',
        'objectness and classes lie within 0..1',
        '3 classes by the number of values',
    )
    assert len(spec.doubts) == 1 and 'nothing confirms the number of classes' in spec.doubts[0]
    assert OnnxDetector(path, class_names=NAMES).spec.doubts == ()


def test_one_class_without_names_may_be_two_without_objectness(tmp_path: Path) -> None:
    path = onnx_models.conv_grid(tmp_path / 'grid.onnx', num_classes=1)
    doubt, = OnnxDetector(path).spec.doubts
    assert 'If they are 2 classes without objectness' in doubt


@pytest.mark.parametrize('num_classes', [79, 52])
def test_as_many_values_as_another_forms_need_names(tmp_path: Path, num_classes: int) -> None:
    path = onnx_models.conv_grid(tmp_path / 'grid.onnx', num_classes=num_classes)
    with pytest.raises(ModelLayoutError, match='say so with their names'):
        OnnxDetector(path)
    names = [str(index) for index in range(num_classes)]
    assert OnnxDetector(path, class_names=names).spec.num_classes == num_classes


def test_given_anchors_of_a_model_that_decodes_itself_are_said_to_be_unused(
    tmp_path: Path
) -> None:
    path = onnx_models.conv_grid(tmp_path / 'grid.onnx', num_classes=80)
    spec = OnnxDetector(path, anchors=onnx_models.CONV_ANCHORS).spec
    assert spec.doubts == (
        'the given anchors are not used: the boxes of this model are decoded inside',
    )


def test_the_documented_table_is_that_of_this_file() -> None:
    """`WRITE_DOCS=1` writes it."""
    rows = [
        '| form | outputs | |', '|---|---|---|',
        *(f'| {form.name} | {form.shape} | {form.verdict} |' for form in FORMS),
    ]
    text = DOCS.read_text(encoding='utf-8')
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    wanted = f'{before}{START}\n\n' + '\n'.join(rows) + f'\n\n{END}{after}'
    if os.environ.get('WRITE_DOCS'):
        DOCS.write_text(wanted, encoding='utf-8')
    assert text == wanted or os.environ.get('WRITE_DOCS')


@pytest.mark.parametrize(('names', 'layout'), [
    (['one'], OutputLayout.GRID), (['one', 'two'], OutputLayout.LABELLED),
])
def test_names_tell_labels_of_1_from_a_class_that_is_always_1(
    tmp_path: Path, names: list[str], layout: OutputLayout
) -> None:
    rows = np.full((1, 252, 6), 0.5, np.float32)
    rows[0, :, :4], rows[0, :, 5] = onnx_models.grid_centres(), 1
    path = onnx_models.fixed_rows(tmp_path / 'ones.onnx', rows)
    with pytest.raises(ModelLayoutError, match='a column is 1 throughout'):
        OnnxDetector(path)
    assert OnnxDetector(path, class_names=names).spec.layout is layout


def test_a_class_above_1_fails_the_frame(tmp_path: Path) -> None:
    """Labels that were all 0 in the probe, under scores that were too, look like one class."""
    rows = np.zeros((1, 252, 6), np.float32)
    rows[0, :, :4] = onnx_models.grid_centres()
    moving = np.zeros_like(rows)
    moving[0, 5, 4:] = 0.75, 3
    path = onnx_models.fixed_rows(tmp_path / 'blank.onnx', rows, bright=moving)
    detector = OnnxDetector(path)
    assert detector.spec.doubts
    white = ImageView.from_array(np.full((64, 64, 3), 255, np.uint8))
    with pytest.raises(InferenceError, match='above 1'):
        detector.detect(white, SETTINGS)
