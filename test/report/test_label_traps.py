"""Annotation files as other tools write them: right precision, or one line that says why not."""

from __future__ import annotations

from collections.abc import Callable
import copy
import json
from pathlib import Path
from typing import Any

from damaged_files import bounded, damaged
import numpy as np
import pytest

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.errors import InputError, ModelLayoutError
from yolov7_trt_ros.report.accuracy.coco import coco_records, CocoAnnotations, evaluate_coco
from yolov7_trt_ros.report.accuracy.label_file import read_label_file

CLASSES = ('red', 'blue')
SIZE_WH = (128, 100)
# what is to be seen in each file: class and x, y, width, height
SEEN = {
    'a.png': [(0, (28, 30, 40, 36)), (1, (92, 62, 36, 30))],
    'b.png': [(0, (5, 6, 50, 40)), (0, (60, 6, 50, 40))],
}
GOOD: dict[str, Any] = {
    'images': [{'id': number, 'file_name': name, 'width': 128, 'height': 100}
               for number, name in enumerate(SEEN, 1)],
    'annotations': [
        {'id': 10 * image + number, 'image_id': image, 'category_id': class_id + 1,
         'bbox': list(box), 'area': box[2] * box[3], 'iscrowd': 0}
        for image, objects in enumerate(SEEN.values(), 1)
        for number, (class_id, box) in enumerate(objects)
    ],
    'categories': [{'id': 1, 'name': 'red'}, {'id': 2, 'name': 'blue'}],
}
Change = Callable[[dict[str, Any]], None]


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding='utf-8')
    return path


def changed(path: Path, change: Change) -> Path:
    content = copy.deepcopy(GOOD)
    change(content)
    return write(path, content)


def perfect(name: str) -> Detections:
    corners = [(x, y, x + width, y + height) for _, (x, y, width, height) in SEEN[name]]
    return Detections(
        np.array(corners, np.float32), np.full(len(corners), 0.9, np.float32),
        np.array([class_id for class_id, _ in SEEN[name]], np.int32), SIZE_WH,
    )


def measure(path: Path, class_names: tuple[str, ...] = CLASSES) -> tuple[dict[str, Any], str]:
    """Return the precision of a detector that finds everything, and all that was said."""
    annotations = CocoAnnotations(path)
    categories = annotations.categories_of(class_names)
    records = [
        record
        for image in annotations.images
        for record in coco_records(image.image_id, perfect(image.file_name), categories)
    ]
    result = evaluate_coco(records, annotations, annotations.images, categories)
    return result, '\n'.join([*annotations.warnings, *categories.warnings()])


def set_all(kind: str, name: str, value: Callable[[Any], Any]) -> Change:
    def change(content: dict[str, Any]) -> None:
        for entry in content[kind]:
            entry[name] = value(entry[name])

    return change


def drop_all(kind: str, *names: str) -> Change:
    def change(content: dict[str, Any]) -> None:
        for entry in content[kind]:
            for name in names:
                del entry[name]

    return change


def both(*changes: Change) -> Change:
    def change(content: dict[str, Any]) -> None:
        for each in changes:
            each(content)

    return change


def image_ids(value: Callable[[Any], Any]) -> Change:
    return both(set_all('images', 'id', value), set_all('annotations', 'image_id', value))


def category_ids(value: Callable[[Any], Any]) -> Change:
    return both(set_all('categories', 'id', value), set_all('annotations', 'category_id', value))


RIGHT_AND_NOTHING_TO_SAY = {
    'as it should be': lambda content: None,
    'annotations count from 0': set_all('annotations', 'id', lambda number: number - 10),
    'all annotations have one id': set_all('annotations', 'id', lambda _: 7),
    'annotations have no id': drop_all('annotations', 'id'),
    'annotation ids are null': set_all('annotations', 'id', lambda _: None),
    'image ids are text': image_ids(str),
    'image ids are text on one side': set_all('images', 'id', str),
    'image ids are floats': image_ids(float),
    'image ids are floats in text': set_all('annotations', 'image_id', lambda n: f'{n}.0'),
    'image ids are padded text': image_ids(lambda n: f'{n:012d}'),
    'image ids are names': image_ids(lambda n: f'scene/{n}-x'),
    'image ids are huge': image_ids(lambda n: 10**30 + n),
    'image ids need 64 bits': image_ids(lambda n: 2**63 + n),
    'image ids are negative': image_ids(lambda n: -n),
    'image ids count from 0': image_ids(lambda n: n - 1),
    'category ids are text': category_ids(str),
    'category ids are floats': category_ids(float),
    'category ids are names': category_ids(lambda n: f'c{n}'),
    'category ids count from 0': category_ids(lambda n: n - 1),
    'category ids are huge': category_ids(lambda n: 2**64 + n),
    'no iscrowd': drop_all('annotations', 'iscrowd'),
    'iscrowd is text': set_all('annotations', 'iscrowd', str),
    'iscrowd is false': set_all('annotations', 'iscrowd', bool),
    'iscrowd is null': set_all('annotations', 'iscrowd', lambda _: None),
    'no area': drop_all('annotations', 'area'),
    'area is negative': set_all('annotations', 'area', lambda _: -5),
    'area is huge': set_all('annotations', 'area', lambda _: 1e30),
    'area is text': set_all('annotations', 'area', str),
    'area is not a number': set_all('annotations', 'area', lambda _: float('nan')),
    'names have blanks around them': set_all('categories', 'name', lambda name: f' {name}\n'),
    'sizes are text': set_all('images', 'width', str),
    'sizes are floats': set_all('images', 'height', float),
    'nothing but what is needed': lambda content: content.update(info=float('nan'), licenses=[]),
}


@pytest.mark.parametrize('name', RIGHT_AND_NOTHING_TO_SAY)
def test_what_is_right_without_a_word(tmp_path: Path, name: str) -> None:
    result, said = measure(changed(tmp_path / 'l.json', RIGHT_AND_NOTHING_TO_SAY[name]))
    assert (result['ap'], result['ap50'], said) == (1.0, 1.0, '')
    assert [each['instances'] for each in result['per_class'].values()] == [3, 1]


def roots(content: dict[str, Any]) -> None:
    """Add a root category called like a class, as Roboflow does."""
    category_ids(lambda number: number)(content)
    content['categories'].insert(0, {'id': 0, 'name': 'red', 'supercategory': 'none'})


def two_reds(content: dict[str, Any]) -> None:
    content['categories'].append({'id': 9, 'name': 'Red '})
    content['annotations'][-1]['category_id'] = 9


def an_entry_for_each_label(content: dict[str, Any]) -> None:
    """List each image once for each of its labels, under another id."""
    names = {image['id']: image['file_name'] for image in content['images']}
    content['images'] = []
    for number, label in enumerate(content['annotations'], 100):
        content['images'].append({'id': number, 'file_name': names[label['image_id']],
                                  'width': 128, 'height': 100})
        label['image_id'] = number


def strange_labels(**values: Any) -> Change:
    def change(content: dict[str, Any]) -> None:
        content['annotations'].insert(0, {**content['annotations'][0], **values})

    return change


RIGHT_AND_SAID = {
    'a root category called like a class':
        (roots, r"categories 0 'red', 1 'red': 1 'red' has the labels and is taken"),
    'a class under two numbers': (two_reds, r"1 'red', 9 'Red': they count as one"),
    'an entry for each label': (an_entry_for_each_label, '2 of 4 images are listed more than'),
    'an image twice': (lambda content: content['images'].append(content['images'][0]),
                       '1 of 3 images are listed more than once'),
    'a file written in two ways':
        (lambda content: content['images'].append(
            {**content['images'][0], 'id': 50, 'file_name': './a.png'}), 'more than once'),
    'labels twice':
        (lambda content: content['annotations'].extend(content['annotations'][:]),
         '4 of 8 annotations occur twice in the same place and count once'),
    'labels of unknown images':
        (strange_labels(image_id=77), '1 of 5 annotations belong to images that the file does'),
    'labels of unknown categories':
        (strange_labels(category_id=77), '1 of 5 annotations belong to categories that the file'),
    'labels of nothing':
        (strange_labels(bbox=[5, 5, 0, 9]), '1 of 5 annotations have a box without width'),
    'no sizes': (drop_all('images', 'width'), '2 of 2 images have no width and height'),
    'sizes of 0': (set_all('images', 'width', lambda _: 0), '2 of 2 images have no width'),
}


@pytest.mark.parametrize('name', RIGHT_AND_SAID)
def test_what_is_right_and_said(tmp_path: Path, name: str) -> None:
    change, what = RIGHT_AND_SAID[name]
    result, said = measure(changed(tmp_path / 'l.json', change))
    assert (result['ap'], result['ap50']) == (1.0, 1.0)
    assert what in said and said.count('\n') == 0
    assert 'not measured' not in said
    assert [each['instances'] for each in result['per_class'].values()] == [3, 1]


def test_labels_marked_ignore_are_objects_and_that_is_said(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content['annotations'][0]['ignore'] = 1

    result, said = measure(changed(tmp_path / 'l.json', change))
    assert result['ap50'] == 1.0
    assert "1 of 4 annotations are marked 'ignore'" in said


def test_crowds_are_no_objects(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content['annotations'][0]['iscrowd'] = '1'

    result, _ = measure(changed(tmp_path / 'l.json', change))
    assert result['per_class']['red'] == {'ap': 1.0, 'ap50': 1.0, 'instances': 2}


def test_images_without_labels_are_told_where_they_are_most(tmp_path: Path) -> None:
    path = changed(tmp_path / 'l.json', lambda content: content['images'].extend(
        {'id': 100 + n, 'file_name': f'{n}.png', 'width': 9, 'height': 9} for n in range(3)
    ))
    assert '3 of 5 images have no labels' in CocoAnnotations(path).warnings[0]


@pytest.mark.parametrize('encoding', [
    'utf-8-sig', 'utf-16', 'utf-16-le', 'utf-16-be', 'utf-32',
])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / 'l.json'
    path.write_text(json.dumps(GOOD, ensure_ascii=False), encoding=encoding)
    assert measure(path)[0]['ap50'] == 1.0


def as_corners(box: list[float]) -> list[float]:
    x, y, width, height = box
    return [x, y, x + width, y + height]


def as_shares(box: list[float]) -> list[float]:
    return [side / whole for side, whole in zip(box, SIZE_WH * 2, strict=True)]


def as_centres(box: list[float]) -> list[float]:
    x, y, width, height = box
    return [x + width / 2, y + height / 2, width, height]


def with_y_first(box: list[float]) -> list[float]:
    return [box[1], box[0], box[3], box[2]]


REFUSED = {
    'corners': (set_all('annotations', 'bbox', as_corners), r'two corners \[x1, y1, x2, y2\]'),
    'centres': (set_all('annotations', 'bbox', as_centres), 'read as centre and size'),
    'y first': (both(
        set_all('annotations', 'bbox', with_y_first), set_all('images', 'height', lambda _: 60),
        ), 'boxes extend beyond their pictures'),
    'labels of larger pictures':
        (set_all('annotations', 'bbox', lambda box: [3 * side for side in box]),
         '4 of 4 boxes extend beyond their pictures; COCO has'),
    'shares': (set_all('annotations', 'bbox', as_shares), 'within 0..1'),
    'no boxes': (drop_all('annotations', 'bbox'), 'annotation 1 of 4: it has no bbox; COCO has'),
    'segmentations': (
        both(drop_all('annotations', 'bbox'),
             lambda content: content['annotations'][0].update(segmentation=[[1, 2, 3, 4]])),
        'annotation 1 of 4: it has no bbox, only a segmentation'),
    'a negative size': (strange_labels(bbox=[9, 9, -5, 5]), 'annotation 1 of 5: .*negative size'),
    'no number': (strange_labels(bbox=[9, 9, float('nan'), 5]), 'four finite numbers, got .*nan'),
    'no end': (strange_labels(bbox=[9, 9, float('inf'), 5]), 'four finite numbers'),
    'too much': (strange_labels(bbox=[9, 9, 10**400, 5]), 'four finite numbers'),
    'a box of texts': (strange_labels(bbox=['1', '2', '3', '4']), 'four finite numbers'),
    'a box of truths': (strange_labels(bbox=[True, 2, 3, 4]), 'four finite numbers'),
    'an empty box': (strange_labels(bbox=[]), 'four finite numbers'),
    'iscrowd': (strange_labels(iscrowd=2), 'iscrowd must be 0 or 1, got 2'),
    'a list as iscrowd': (strange_labels(iscrowd=[]), 'iscrowd must be 0 or 1'),
    'half an id': (strange_labels(image_id=1.5), 'image_id must be a number or a text, got 1.5'),
    'a list as id': (strange_labels(category_id=[1]), 'category_id must be a number or a text'),
    'no image id': (drop_all('annotations', 'image_id'), 'annotation 1 of 4: it has no image_id'),
    'one id for two files': (set_all('images', 'id', lambda _: 1), "'a.png' and of 'b.png'"),
    'one id for two classes': (set_all('categories', 'id', lambda _: 1), "'red' and of 'blue'"),
    'no file name': (drop_all('images', 'file_name'), 'image 1 of 2: file_name must be a text'),
    'a width in words': (set_all('images', 'width', lambda _: 'wide'), 'a number of pixels'),
    'a width without end': (set_all('images', 'width', lambda _: 10**400), 'a number of pixels'),
    'a name of lists': (set_all('categories', 'name', lambda _: [1]), 'name must be a text'),
    'ids that meet nowhere': (set_all('annotations', 'image_id', lambda n: n + 50),
                              'none of its 4 annotations .* 4 of 4 annotations belong to images'),
    'no labels': (lambda content: content.update(annotations=[]), 'it lists no annotations'),
    'no images': (lambda content: content.update(images=[]), 'it lists no images'),
    'no categories': (lambda content: content.pop('categories'), "expected a list 'categories'"),
    'images by id': (lambda content: content.update(images={'1': {}}), "expected a list 'images'"),
    'images as names': (lambda content: content.update(images=['a.png']), 'images, entry 1'),
}


@pytest.mark.parametrize('name', REFUSED)
def test_what_is_refused(tmp_path: Path, name: str) -> None:
    change, what = REFUSED[name]
    with pytest.raises(InputError, match=f'l.json is not an annotation file.*{what}') as caught:
        CocoAnnotations(changed(tmp_path / 'l.json', change))
    assert '\n' not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize(('text', 'what'), [
    pytest.param('[' * 200_000, 'nested too deeply', id='nested'),
    pytest.param(f'{{"images": {"9" * 10_000}}}', 'Exceeds the limit|expected a list', id='huge'),
    ('{"images": [], "images": []}', "'images' is there twice"),
    ('{"annotations": [{"bbox": [1, 2, 3, 4], "bbox": [0, 0, 9, 9]}]}', "'bbox' is there twice"),
    ('[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]',
     r'a list of detections \(COCO results\)'),
    ('[1, 2]', r'expected an object with images, annotations and categories, found \[1, 2\]'),
    ('null', 'found None'),
    ('a,b\n1,2\n', 'no JSON'),
])
def test_other_contents(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / 'l.json'
    path.write_text(text)
    with pytest.raises(InputError, match=what) as caught:
        CocoAnnotations(path)
    assert len(str(caught.value)) < 600


def test_what_is_no_text_and_what_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / 'l.json'
    path.write_bytes('{"images": "Käfer"}'.encode('latin-1'))
    with pytest.raises(InputError, match='no text in utf-8 .byte 13 is 0xe4.; save it as UTF-8'):
        CocoAnnotations(path)
    with pytest.raises(InputError, match='cannot be read: Is a directory'):
        CocoAnnotations(tmp_path)
    with pytest.raises(InputError, match='cannot be read'):
        CocoAnnotations(tmp_path / 'a\0b')
    with pytest.raises(InputError, match='larger than the limit of 10 bytes'):
        read_label_file(write(path, GOOD), 10)
    with pytest.raises(InputError, match='larger than the limit of 1000 bytes'):
        read_label_file(Path('/dev/zero'), 1000)


def test_names_cannot_move_the_cursor(tmp_path: Path) -> None:
    path = changed(tmp_path / 'l.json', lambda content: content['categories'].append(
        {'id': 7, 'name': 'evil\x1b[2J\u202e'}
    ))
    assert CocoAnnotations(path).name_of(7) == 'evil\\x1b[2J\\u202e'


def test_some_labels_that_leave_their_pictures_are_told(tmp_path: Path) -> None:
    path = changed(tmp_path / 'l.json', strange_labels(bbox=[100, 10, 80, 20]))
    assert '1 of 5 labels extend beyond their pictures' in CocoAnnotations(path).warnings[0]
    path = changed(tmp_path / 'l.json', strange_labels(bbox=[0.1, 0.2, 0.5, 0.5]))
    assert '1 of 5 labels are smaller than a pixel' in CocoAnnotations(path).warnings[0]


def test_letters_of_both_cases_are_two_classes(tmp_path: Path) -> None:
    """The classes of a reader of letters differ in case alone."""
    def change(content: dict[str, Any]) -> None:
        for entry, name in zip(content['categories'], ('A', 'a'), strict=True):
            entry['name'] = name

    path = changed(tmp_path / 'l.json', change)
    result, said = measure(path, ('A', 'a'))
    assert (result['ap50'], said) == (1.0, '')
    assert {name: each['instances'] for name, each in result['per_class'].items()} == {
        'A': 3, 'a': 1
    }


def test_two_classes_of_one_name_are_told(tmp_path: Path) -> None:
    result, said = measure(write(tmp_path / 'l.json', GOOD), ('red', 'blue', 'red'))
    assert result['ap50'] == 1.0
    assert "2 classes of the model are called 'red' and are measured as one" in said


def test_names_of_files_with_and_without_folder(tmp_path: Path) -> None:
    path = changed(tmp_path / 'l.json', both(
        set_all('images', 'file_name', lambda name: f'train/{name}'),
        lambda content: content['images'].extend([
            {'id': 8, 'file_name': 'x/c.png'}, {'id': 9, 'file_name': 'y/c.png'}
        ]),
    ))
    annotations = CocoAnnotations(path)
    for name in ('a.png', 'train/a.png'):
        found = annotations.image_of(name)
        assert found is not None and found.image_id == 1
    assert annotations.image_of('c.png') is None  # which of the two it is cannot be told


PIECES = (
    b'null', b'NaN', b'-Infinity', b'1e400', b'-1', b'0', b'[]', b'{}', b'"x"', b'true', b'9' * 40,
    b'"\\ud800"', b'\\u0000', b'[[[[[[', b'"id":', b'\xff\xfe', b'\xef\xbb\xbf', b'.5',
)


def test_damaged_files_raise_only_our_errors(tmp_path: Path) -> None:
    random = np.random.default_rng(14)
    data = json.dumps(GOOD).encode()
    path = tmp_path / 'l.json'
    outcomes = set()
    for _ in range(2000):
        path.write_bytes(damaged(data, random, PIECES))
        try:
            with bounded():
                annotations = CocoAnnotations(path)
                categories = annotations.categories_of(CLASSES)
                evaluate_coco([], annotations, annotations.images, categories)
            outcomes.add('measured')
        except (InputError, ModelLayoutError) as exc:
            assert '\n' not in str(exc) and 'memory' not in str(exc)
            outcomes.add(type(exc).__name__)
    assert {'measured', 'InputError'} <= outcomes
