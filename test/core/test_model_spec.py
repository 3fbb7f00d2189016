"""Which models are taken for YOLOv7 exports, as what, and how the others are refused."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from yolov7_trt_ros.core.class_names import (
    COCO80,
    COCO80_CATEGORY_IDS,
    parse_class_names,
    repeated_note,
    visible,
)
from yolov7_trt_ros.core.forms.model_spec import (
    ANCHOR_SETS,
    check_input,
    ModelSpec,
    OutputLayout,
    TensorInfo,
)
from yolov7_trt_ros.core.forms.recognise import recognise_model
from yolov7_trt_ros.errors import ModelLayoutError

WH = (640, 640)
ROWS, P6_ROWS = 25_200, 25_500
IMAGE = TensorInfo('images', (1, 3, 640, 640), 'float32')
TINY = ANCHOR_SETS['yolov7-tiny']


def tensor(name: str, *shape: int, dtype: str = 'float32') -> TensorInfo:
    return TensorInfo(name, shape, dtype)


def heads(values: int = 85, strides: tuple[int, ...] = (8, 16, 32)) -> list[TensorInfo]:
    return [tensor(f'h{s}', 1, 3, 640 // s, 640 // s, values) for s in strides]


def plugin(most: int = 100, names: str = 'num_dets boxes scores det_classes') -> list[TensorInfo]:
    count, boxes, scores, classes = names.split()
    return [
        tensor(count, 1, 1, dtype='int32'), tensor(boxes, 1, most, 4),
        tensor(scores, 1, most), tensor(classes, 1, most, dtype='int32'),
    ]


def recognise(*outputs: TensorInfo, **options: Any) -> ModelSpec:
    options = {'metadata': {}, 'probe_wh': WH, 'values': None, **options}
    return recognise_model([IMAGE], outputs, options.pop('metadata'), **options)


# ---- accepted


@pytest.mark.parametrize(('outputs', 'options', 'layout', 'order', 'num_classes', 'strides'), [
    ([tensor('output', 1, ROWS, 85)], {}, 'GRID', 'output', 80, 3),
    ([tensor('x', 1, ROWS, 6)], {}, 'GRID', 'x', 1, 3),
    ([tensor('x', 1, ROWS, 7, dtype='float16')], {}, 'GRID', 'x', 2, 3),
    ([tensor('x', 1, P6_ROWS, 85)], {}, 'GRID', 'x', 80, 4),
    ([tensor('x', 1, 15_120, 85)], {'probe_wh': (640, 384)}, 'GRID', 'x', 80, 3),
    ([*heads(), tensor('output', 1, ROWS, 85)], {}, 'GRID', 'output', 80, 3),
    (heads(), {'anchors': TINY}, 'RAW_HEADS', 'h8 h16 h32', 80, 3),
    (heads()[::-1], {'anchors': TINY}, 'RAW_HEADS', 'h8 h16 h32', 80, 3),
    ([tensor('b', 1, 255, 20, 20), tensor('c', 1, 255, 80, 80), tensor('a', 1, 255, 40, 40)],
     {'anchors': TINY}, 'RAW_HEADS', 'c a b', 80, 3),
    (heads(6, (8, 16, 32, 64)), {}, 'RAW_HEADS', 'h8 h16 h32 h64', 1, 4),
    (plugin(), {}, 'END2END_TRT', 'num_dets boxes scores det_classes', None, 3),
    (plugin()[::-1], {}, 'END2END_TRT', 'num_dets boxes scores det_classes', None, 3),
    (plugin(1), {}, 'END2END_TRT', 'num_dets boxes scores det_classes', None, 3),
    ([tensor('boxes', 1, ROWS, 4), tensor('scores', 1, ROWS, 80)], {},
     'BOXES_AND_SCORES', 'boxes scores', 80, 3),
    ([tensor('boxes', 1, ROWS, 80), tensor('classes', 1, ROWS, 4)], {},
     'BOXES_AND_SCORES', 'classes boxes', 80, 3),
    ([tensor('b', 1, ROWS, 4), tensor('s', 1, ROWS, 4)], {'boxes_name': 'b'},
     'BOXES_AND_SCORES', 'b s', 4, 3),
    ([tensor('s', 1, ROWS, 4), tensor('b', 1, ROWS, 4)], {'boxes_name': 'b'},
     'BOXES_AND_SCORES', 'b s', 4, 3),
    ([tensor('output', 0, 7)], {}, 'END2END_ORT', 'output', None, 3),
    ([tensor('output', 12, 7)], {}, 'END2END_ORT', 'output', None, 3),
])
def test_accepted(
    outputs: list[TensorInfo], options: dict[str, Any], layout: str, order: str,
    num_classes: int | None, strides: int,
) -> None:
    spec = recognise(*outputs, **options)
    assert spec.layout is OutputLayout[layout]
    assert spec.outputs == tuple(order.split())
    assert spec.num_classes == num_classes
    assert len(spec.strides) == strides
    assert spec.stride == {3: 32, 4: 64}[strides]
    assert (spec.anchors is not None) == (layout == 'RAW_HEADS')
    assert len(spec.class_names) == (num_classes or 0)


def test_the_network_size() -> None:
    def fixed(*shape: int | None) -> tuple[int, int] | None:
        image = TensorInfo('images', shape, 'float32')
        outputs = [tensor('x', 1, ROWS, 85)]
        return recognise_model([image], outputs, {}, probe_wh=WH, values=None).fixed_wh

    assert fixed(1, 3, 384, 640) == (640, 384)
    assert fixed(None, 3, None, None) is None
    assert fixed(1, 3, None, 640) is None


# ---- refused


@pytest.mark.parametrize(('inputs', 'message'), [
    ([], 'this model has 0: none'),
    ([IMAGE, IMAGE], 'this model has 2'),
    ([tensor('images', 1, 640, 640, 3)], r'expected an image input \(batch, 3, height, width\)'),
    ([tensor('images', 1, 1, 640, 640)], 'expected an image input'),
    ([tensor('images', 3, 640, 640)], 'expected an image input'),
    ([tensor('images', 1, 3, 640, 640, dtype='uint8')], 'float32 or float16.*uint8'),
])
def test_refused_inputs(inputs: list[TensorInfo], message: str) -> None:
    with pytest.raises(ModelLayoutError, match=message):
        check_input(inputs)


@pytest.mark.parametrize(('outputs', 'message'), [
    ([], 'none. Accepted'),
    ([tensor('output0', 1, 84, 8400)], 'anchor-free YOLO'),
    ([tensor('output0', 1, ROWS, 5)], 'has 25200 rows'),
    ([tensor('output0', 1, ROWS, 85, dtype='int64')], 'not those of a YOLOv7'),
    ([tensor('output0', 1, 15_120, 85)], 'At 640x640 a YOLOv7 grid has 25200 rows'),
    ([tensor('logits', 1, 1000)], r'logits float32\[1, 1000\]'),
    ([tensor('output', 12, 6)], 'not those of a YOLOv7'),
    ([tensor('b', 1, ROWS, 4), tensor('s', 1, ROWS, 4)], 'ambiguous.*--grid'),
    ([tensor('b', 1, ROWS, 4), tensor('s', 1, 8400, 80)], 'not those of a YOLOv7'),
    ([tensor('b', 1, ROWS, 5), tensor('s', 1, ROWS, 80)], 'not those of a YOLOv7'),
    (plugin(1, 'a b c d'), 'ambiguous end2end outputs'),
    (plugin(1, 'num_a b c num_class'), 'ambiguous end2end outputs'),
    (plugin()[:3], 'not those of a YOLOv7'),
    ([*plugin()[:3], tensor('classes', 1, 50, dtype='int32')], 'not those of a YOLOv7'),
    (heads()[:2], 'not those of a YOLOv7'),
    ([heads()[0]] * 3, 'not those of a YOLOv7'),
    ([*heads()[:2], tensor('h', 1, 3, 20, 20, 84)], 'not those of a YOLOv7'),
    ([*heads()[:2], tensor('h', 1, 3, 20, 40, 85)], 'not those of a YOLOv7'),
    ([*heads()[:2], tensor('h', 1, 3, 0, 0, 85)], 'not those of a YOLOv7'),
    ([*heads()[:2], tensor('h', 1, 3, 21, 21, 85)], 'not those of a YOLOv7'),
    ([tensor(f'h{s}', 1, 5, 640 // s, 640 // s, 85) for s in (8, 16, 32)], 'not those of'),
    ([tensor(f'h{s}', 1, 256, 640 // s, 640 // s) for s in (8, 16, 32)], 'not those of'),
    ([tensor(f'h{s}', 1, 15, 640 // s, 640 // s) for s in (8, 16, 32)], 'not those of'),
    (heads(5), 'not those of a YOLOv7'),
    (heads(), 'ambiguous.*yolov7-tiny, yolov7.*--grid'),
])
def test_refused_outputs(outputs: list[TensorInfo], message: str) -> None:
    with pytest.raises(ModelLayoutError, match=message):
        recognise(*outputs)


dims = st.one_of(st.none(), st.sampled_from([0, 1, 3, 4, 7, 20, 40, 80, 85, 255, ROWS, 8400]))
tensors = st.builds(
    TensorInfo, st.sampled_from(['output', 'num_dets', 'boxes', 'classes']),
    st.lists(dims, max_size=6).map(tuple),
    st.sampled_from(['float32', 'float16', 'int32', 'bool']),
)


@given(st.lists(tensors, max_size=5))
@settings(max_examples=600)
def test_random_signatures_raise_model_layout_error_only(outputs: list[TensorInfo]) -> None:
    try:
        spec = recognise(*outputs)
    except ModelLayoutError:
        return
    assert set(spec.outputs) <= {output.name for output in outputs}


# ---- anchors


def raw(metadata: str | None = None, **options: Any) -> ModelSpec:
    given_metadata = {} if metadata is None else {'anchors': metadata}
    return recognise(*heads(), metadata=given_metadata, **options)


@pytest.mark.parametrize('nested', [
    TINY, [[value for pair in head for value in pair] for head in TINY],
])
def test_anchors_from_metadata(nested: Any) -> None:
    assert raw(json.dumps(nested)).anchors == TINY


def test_given_anchors_win_over_metadata() -> None:
    assert raw(json.dumps(TINY), anchors=ANCHOR_SETS['yolov7']).anchors == ANCHOR_SETS['yolov7']


def test_p6_models_need_no_anchors() -> None:
    assert recognise(*heads(85, (8, 16, 32, 64))).anchors == ANCHOR_SETS['yolov7-p6']


@pytest.mark.parametrize(('text', 'message'), [
    ('', 'unreadable'), ('nonsense', 'unreadable'), ('5', 'unreadable'), ('null', 'unreadable'),
    ('[["a"]]', 'unreadable'), ('[[1, 2, 3]]', 'unreadable'), ('[[[1, 2], 3]]', 'unreadable'),
    ('[' * 100_000, 'unreadable'), ('[[[1, 2], [3]]]', 'unreadable'),
    ('[]', '3 heads, but the anchors are for 0'),
    ('[[1, 2, 3, 4, 5, 6]]', '3 heads, but the anchors are for 1'),
    ('[[1, 2], [3, 4], [5, 6]]', 'expected 3 anchors per head, got 1, 1, 1'),
    ('[[1, 2, 3, 4, 5, -6], [], []]', 'positive'), ('[[NaN, 2], [], []]', 'positive'),
    ('[[1e999, 2], [], []]', 'positive'),
])
def test_useless_anchors_are_refused(text: str, message: str) -> None:
    with pytest.raises(ModelLayoutError, match=message):
        raw(text)


@pytest.mark.parametrize('anchors', [TINY[:2], ANCHOR_SETS['yolov7-p6'], (TINY[0][:2],) * 3])
def test_given_anchors_must_fit(anchors: Any) -> None:
    with pytest.raises(ModelLayoutError, match='anchors'):
        raw(anchors=anchors)


def test_anchors_are_ignored_where_nothing_needs_them() -> None:
    grid = tensor('output', 1, ROWS, 85)
    assert recognise(grid, metadata={'anchors': 'nonsense'}).anchors is None


# ---- class names


@pytest.mark.parametrize('text', [
    '["cat", "dog"]', "['cat', 'dog']", "('cat', 'dog')",
    '{"0": "cat", "1": "dog"}', "{0: 'cat', 1: 'dog'}", "{1: 'dog', 0: 'cat'}",
])
def test_names_in_metadata(text: str) -> None:
    assert parse_class_names(text) == ('cat', 'dog')
    spec = recognise(tensor('output', 1, ROWS, 7), metadata={'names': text})
    assert spec.class_names == ('cat', 'dog')


@pytest.mark.parametrize('text', [
    '', 'cat, dog', '5', 'null', '"cat"', '[1, 2]', '{"a": "cat"}', '{"0": "cat", "2": "dog"}',
    '{"1": "cat"}', '{"0": 5}', '{[]: 1}', '{1e999: "cat"}', '{"0": "cat", 0: "dog"', '\0',
    '{"0": "cat", "0": "dog"}', "{0: 'cat', 0: 'dog'}", '{"0": "cat", "00": "dog"}', '{0.5: "a"}',
    "{0: 'cat', **{1: 'dog'}}", '{0: {1: "a"}}', '-' * 100_000 + '1', '["a",' * 100_000,
    '["' + 'x' * 600_000 + '"]', '1+' * 50_000 + '1', '{"0": "cat"',
    '[' * 100_000, '9' * 10_000, '__import__("os").system("true")', '{None: "cat"}', '[["cat"]]',
], ids=lambda text: text[:30])
def test_useless_names_are_refused_in_a_short_message(text: str) -> None:
    with pytest.raises(ModelLayoutError, match='class names in the model metadata') as info:
        parse_class_names(text)
    assert len(str(info.value)) < 300


@given(st.text(max_size=40))
@settings(max_examples=1000)
def test_random_names_raise_model_layout_error_only(text: str) -> None:
    try:
        names = parse_class_names(text)
    except ModelLayoutError:
        return
    assert all(isinstance(name, str) for name in names)


@given(st.lists(st.text(max_size=10), max_size=10))
def test_names_written_as_json_or_python_come_back(names: list[str]) -> None:
    shown = tuple(map(visible, names))
    assert parse_class_names(json.dumps(names)) == shown
    assert parse_class_names(json.dumps(dict(enumerate(names)))) == shown
    assert parse_class_names(repr(dict(enumerate(names)))) == shown


def test_what_is_invisible_in_names_is_escaped(capfd: pytest.CaptureFixture[str]) -> None:
    text = '["red\\u001b[2J", "b\\u202elue", "\\ud800", "\u0645\u06cc\u200c\u062e", "a b"]'
    assert parse_class_names(text) == (
        'red\\x1b[2J', 'b\\u202elue', '\\ud800', '\u0645\u06cc\u200c\u062e', 'a b'
    )
    assert parse_class_names(r"['a\d']") == ('a\\d',)
    assert capfd.readouterr() == ('', '')  # Python warns of such escapes


def test_long_lists_of_names() -> None:
    names = [f'class number {index}' for index in range(20_000)]
    assert len(parse_class_names(json.dumps(names))) == 20_000
    assert len(parse_class_names(repr(dict(enumerate(names[:15_000]))))) == 15_000


def test_names_of_several_classes_are_told() -> None:
    assert repeated_note(('a', 'b')) == ''
    assert repeated_note(('a', 'b', 'a', 'c', 'c')).endswith('have the same name: a, c')


def test_where_names_come_from() -> None:
    two, coco = tensor('output', 1, ROWS, 7), tensor('output', 1, ROWS, 85)
    assert recognise(two).class_names == ('class_0', 'class_1')
    assert recognise(coco).class_names == COCO80
    assert recognise(two, class_names=['a', 'b']).class_names == ('a', 'b')
    in_model = {'names': '["c", "d"]'}
    assert recognise(two, class_names=['a', 'b'], metadata=in_model).class_names == ('a', 'b')


def test_an_end2end_model_has_as_many_classes_as_names() -> None:
    spec = recognise(*plugin(), class_names=['a', 'b', 'c'])
    assert spec.num_classes == 3


@pytest.mark.parametrize(('options', 'origin'), [
    ({'class_names': ['a']}, 'the given class names count 1'),
    ({'metadata': {'names': '["a", "b", "c"]'}}, "the model's metadata count 3"),
])
def test_a_wrong_number_of_names_is_refused(options: dict[str, Any], origin: str) -> None:
    with pytest.raises(ModelLayoutError, match=f'the model has 2 classes, but {origin}'):
        recognise(tensor('output', 1, ROWS, 7), **options)


def test_coco_tables() -> None:
    assert len(COCO80) == len(set(COCO80)) == len(COCO80_CATEGORY_IDS) == 80
    assert (COCO80[0], COCO80[11], COCO80[79]) == ('person', 'stop sign', 'toothbrush')
    known = dict(zip(COCO80_CATEGORY_IDS, COCO80, strict=True))
    assert known[13] == 'stop sign' and known[90] == 'toothbrush' and known[44] == 'bottle'
