"""Models that expect pixels of 0..255 are told apart by how they react to light."""

from __future__ import annotations

from pathlib import Path

from export_forms import CLASSES, Form, FORMS
import numpy as np
import onnx
from onnx import helper, numpy_helper
import pytest

from yolov7_trt_ros.cli.main import main
from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.engine.onnx_probe import ProbedModel
from yolov7_trt_ros.errors import ModelLayoutError


def prepared(model: onnx.ModelProto, *steps: tuple[str, object]) -> onnx.ModelProto:
    """Return a model that first does steps to its pictures: an operator and its number(s)."""
    graph = model.graph
    for node in graph.node if steps else ():
        for index, name in enumerate(node.input):
            if name == 'images':
                node.input[index] = f'step{len(steps)}'
    for number, (operator, value) in enumerate(steps):
        source = f'step{number}' if number else 'images'
        names, attributes = [source, f'value{number}'], {}
        if operator == 'Cast':
            names, attributes = [source], {'to': value}
        else:
            values = np.array(value, np.float32)
            values = values.reshape(1, 3, 1, 1) if values.ndim else values
            graph.initializer.append(numpy_helper.from_array(values, names[1]))
        graph.node.insert(
            number, helper.make_node(operator, names, [f'step{number + 1}'], **attributes)
        )
    return model


def with_division(path: Path) -> Path:
    """Save the embedded model with the division by 255 inside."""
    model = prepared(onnx.load(find_model('yolov7-nano')), ('Div', 255))
    path.write_bytes(model.SerializeToString())
    return path


NAMES = [f'name {index}' for index in range(CLASSES)]
MEAN, DEVIATION = ('Sub', (0.485, 0.456, 0.406)), ('Div', (0.229, 0.224, 0.225))
OF_255 = ('Sub', (123.7, 116.3, 103.5)), ('Div', (58.4, 57.1, 57.4))


@pytest.mark.parametrize('half', [False, True])
@pytest.mark.parametrize(('steps', 'words'), [
    ((), ''), ((MEAN, DEVIATION), ''),
    ((('Div', 255), MEAN, DEVIATION), 'times as much to a picture of 4 times the light'),
    (OF_255, 'times as much to a picture of 4 times the light'),
])
def test_normalisation_inside_a_model_is_told_apart(
    steps: tuple[tuple[str, object], ...], words: str, half: bool, tmp_path: Path
) -> None:
    model = onnx.load(find_model('yolov7-nano'))
    if half:
        model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
        steps = (('Cast', onnx.TensorProto.FLOAT), *steps)
    path = tmp_path / 'model.onnx'
    onnx.save(prepared(model, *steps), path)
    doubts = '; '.join(ProbedModel(path, network_size=320).spec.doubts)
    assert words in doubts and bool(words) == ('0..255' in doubts)


@pytest.mark.parametrize('form', [
    each for each in FORMS if each.verdict == 'taken' and each.shape != '(n, 7)'
], ids=lambda form: form.name)
def test_pictures_of_255_are_told_in_each_form(form: Form, tmp_path: Path) -> None:
    path = form.make(tmp_path)
    assert ProbedModel(path, class_names=NAMES).spec.doubts == ()
    onnx.save(prepared(onnx.load(path), ('Div', 255)), path)
    try:
        said = str(ProbedModel(path, class_names=NAMES).spec.doubts)
    except ModelLayoutError as exc:  # one anchor a cell
        said = str(exc)
    assert 'expect' in said and 'pictures within 0..255' in said


def test_a_division_by_255_inside_a_model_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = with_division(tmp_path / 'model.onnx')
    assert main(['info', str(model), '--size', '320']) == 0
    said = capsys.readouterr()
    assert 'so it may expect pictures within 0..255, and then finds nothing' in said.out + said.err
    assert main(['info', 'yolov7-nano', '--size', '320']) == 0
    said = capsys.readouterr()
    assert 'may expect' not in said.out + said.err
