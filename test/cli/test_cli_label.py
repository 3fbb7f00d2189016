"""`label`: data sets that other tools read, that are gone on with, and that are never spoilt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import errno
import json
import os
from pathlib import Path
import resource
import shutil
import subprocess
import sys
from typing import Any

import cv2
import numpy as np
import onnx
from onnx_models import fixed_rows
from pycocotools.coco import COCO
import pytest
import yaml

from yolov7_trt_ros.cli import output
from yolov7_trt_ros.cli.fleet import label_tasks
from yolov7_trt_ros.cli.fleet.drives import name_drives
from yolov7_trt_ros.cli.fleet.label_folder import LabelFolder
from yolov7_trt_ros.cli.fleet.runner import open_runner
from yolov7_trt_ros.cli.main import build_parser, main
from yolov7_trt_ros.cli.verbs import label
from yolov7_trt_ros.cli.verbs.label import FORMATS
from yolov7_trt_ros.cli.work.folder_lock import locked_folder
from yolov7_trt_ros.cli.work.frame_journal import FrameJournal
from yolov7_trt_ros.cli.work.kept_record import sealed, unsealed
from yolov7_trt_ros.cli.work.work_folder import STATE, WorkFolder
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.errors import InputError, SettingError
from yolov7_trt_ros.records import from_record
from yolov7_trt_ros.report.accuracy.class_renames import ClassRenames, parse_renames
from yolov7_trt_ros.report.accuracy.label_set import LabelledFrame

REPOSITORY = Path(__file__).resolve().parents[2]
COCO_FILE = 'annotations/instances_default.json'
SIZE = ('--size', '320')


def make(source: Path, out: Path, *words: object, form: str = 'coco') -> int:
    return main(['label', str(source), '-o', str(out), '--format', form, *SIZE, *map(str, words)])


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a data set, without what is kept of the work."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob('*') if path.is_file() and STATE not in path.parts
    }


def read_yolo(folder: Path) -> dict[str, list[tuple[str, float, float, float, float]]]:
    """Read a data set as YOLO tools document it: class, corner, sides in pixels, by picture."""
    described = yaml.safe_load((folder / 'data.yaml').read_text())
    assert len(described['names']) == described['nc']
    found = {}
    for picture in sorted((folder / described['train']).rglob('*.*')):
        height, width = cv2.imread(str(picture)).shape[:2]
        text = folder / 'labels/train' / f'{picture.stem}.txt'  # `labels` in place of `images`
        boxes = []
        for line in text.read_text().splitlines():
            number, *values = line.split()
            assert len(values) == 4 and all(0 <= float(value) <= 1 for value in values)
            x, y, w, h = map(float, values)
            boxes.append((described['names'][int(number)], (x - w / 2) * width,
                          (y - h / 2) * height, w * width, h * height))
        found[picture.name.partition('+')[2]] = boxes
    return found


def read_coco(folder: Path) -> dict[str, list[tuple[str, float, float, float, float]]]:
    """Read a data set with pycocotools; check that each picture has the stated size."""
    coco = COCO(str(folder / COCO_FILE))
    found = {}
    for image in coco.loadImgs(coco.getImgIds()):
        shape = cv2.imread(str(folder / 'images' / image['file_name'])).shape
        assert shape[:2] == (image['height'], image['width'])
        labels = coco.loadAnns(coco.getAnnIds(imgIds=image['id']))
        names = [coco.loadCats(each['category_id'])[0]['name'] for each in labels]
        found[Path(image['file_name']).name] = [
            (name, *each['bbox']) for name, each in zip(names, labels, strict=True)
        ]
    return found


def test_both_formats_tell_the_same_labels(photographs: Path, tmp_path: Path) -> None:
    coco, yolo = tmp_path / 'coco', tmp_path / 'yolo'
    assert make(photographs, coco) == 0
    assert make(photographs, yolo, form='yolo') == 0
    labels = read_coco(coco)
    assert set(labels) == {'astronaut_000000.jpg', 'chelsea_000001.jpg',
                           'coffee_000002.jpg'}
    assert 'person' in {name for name, *_ in labels['astronaut_000000.jpg']}
    others = read_yolo(yolo)
    assert set(others) == set(labels)
    for picture, boxes in labels.items():
        assert [name for name, *_ in others[picture]] == [name for name, *_ in boxes]
        np.testing.assert_allclose(
            [box for _, *box in others[picture]], [box for _, *box in boxes], atol=0.02)


def test_the_same_command_twice_changes_nothing_and_another_folder_gets_the_same(
    photographs: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / 'a', tmp_path / 'b'
    assert make(photographs, first) == 0
    before = contents(first), {path: path.stat().st_mtime_ns for path in first.rglob('*.jp*')}
    assert make(photographs, first) == 0
    assert (contents(first), {path: path.stat().st_mtime_ns for path in first.rglob('*.jp*')}
            ) == before
    assert make(photographs, second) == 0
    assert contents(second) == contents(first)


@pytest.mark.parametrize('form', FORMATS)
def test_any_name_of_a_picture_becomes_one_that_a_file_can_have(
    photographs: Path, tmp_path: Path, form: str
) -> None:
    source = tmp_path / ('s' * 250)
    names = [b'latin\xe9.jpg', b'new\nline.jpg', b'n' * 250 + b'.jpg', b'a b.jpg', b'a_b.jpg']
    for name in names:
        path = Path(os.fsdecode(os.path.join(os.fsencode(source), name)))
        path.parent.mkdir(exist_ok=True)
        shutil.copy(photographs / 'chelsea.jpg', path)
    out = tmp_path / 'set'
    assert make(source, out, form=form) == 0 == make(source, out, form=form)
    assert len((read_coco if form == 'coco' else read_yolo)(out)) == len(names)
    if form == 'coco':
        images = json.loads((out / COCO_FILE).read_text())['images']
        assert {os.fsencode(each['source']) for each in images} == set(names)


def test_labels_can_be_measured_with(photographs: Path, tmp_path: Path) -> None:
    assert make(photographs, tmp_path / 'set', '--square', '--score-threshold', '0.3') == 0
    record = tmp_path / 'eval.json'
    assert main(['eval', '--images', str(tmp_path / 'set/images'), '--annotations',
                 str(tmp_path / 'set' / COCO_FILE), *SIZE, '--json', str(record)]) == 0
    assert json.loads(record.read_text())['ap50'] > 0.8


def test_a_class_map_renames_joins_and_leaves_out(photographs: Path, tmp_path: Path) -> None:
    (tmp_path / 'map.txt').write_text('person = human\ncat = animal\ndog = animal\n* =\n')
    assert make(photographs, tmp_path / 'set', '--class-map', tmp_path / 'map.txt',
                form='yolo') == 0
    assert yaml.safe_load((tmp_path / 'set/data.yaml').read_text())['names'] == ['human', 'animal']
    names = {name for boxes in read_yolo(tmp_path / 'set').values() for name, *_ in boxes}
    assert 'human' in names <= {'human', 'animal'}


def test_joined_classes_have_no_two_boxes_of_one_object() -> None:
    found = Detections(
        np.array([[0, 0, 10, 10], [0, 0, 10, 11], [50, 50, 60, 60]], np.float32),
        np.array([0.9, 0.8, 0.7], np.float32), np.array([1, 0, 2], np.int32), (100, 100))
    renames = ClassRenames.of(('car', 'truck', 'dog'), parse_renames('car=v,truck=v'))
    kept = renames.apply(found, 0.45)
    assert renames.names == ('v', 'dog')
    assert kept.scores.tolist() == pytest.approx([0.9, 0.7]) and kept.class_ids.tolist() == [0, 1]


@pytest.mark.parametrize(('text', 'reason'), [
    ('car', 'CLASS=NAME'), ('=x', 'CLASS=NAME'), ('a=b,a=c', 'twice'), ('*=x', 'left out'),
    ('bus=x', "'bus', and the model has car"), ('*=', 'every class'),
    ('car=a\x85b', 'invisible'), ('car=a\udce9', 'invisible'),
])
def test_class_maps_that_cannot_be(text: str, reason: str) -> None:
    with pytest.raises(SettingError, match=reason.replace('*', r'\*')):
        ClassRenames.of(('car',), parse_renames(text))


@pytest.fixture(scope='module')
def weaker_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the embedded model with lower scores: it misses what the other is not sure of."""
    model = onnx.load(find_model('yolov7-nano'))
    for each in model.graph.initializer:
        if len(each.dims) == 1 and each.dims[0] % 85 == 0:
            values = onnx.numpy_helper.to_array(each).copy()
            values.reshape(-1, 85)[:, 4] -= 3
            each.CopyFrom(onnx.numpy_helper.from_array(values, each.name))
    path = tmp_path_factory.mktemp('model') / 'weaker.onnx'
    onnx.save(model, path)
    return path


def test_hard_frames_come_first(photographs: Path, weaker_model: Path, tmp_path: Path) -> None:
    out = tmp_path / 'set'
    assert make(photographs, out, '--second-model', weaker_model, '--most', 2,
                '--json', tmp_path / 'r.json') == 0
    images = json.loads((out / COCO_FILE).read_text())['images']
    lost = [each['doubt']['missed'] + each['doubt']['new'] for each in images]
    assert len(images) == 2 and lost == sorted(lost, reverse=True) and lost[0] > 0
    listed = (out / 'hardest_first.txt').read_text().splitlines()
    assert listed == [f'images/{each["file_name"]}' for each in images]
    assert sorted(listed) == sorted(
        path.relative_to(out).as_posix() for path in (out / 'images').rglob('*.jpg'))
    assert json.loads((tmp_path / 'r.json').read_text())['hard_frames'] == sum(
        each > 0 for each in lost)


def test_models_that_agree_leave_the_order(photographs: Path, tmp_path: Path) -> None:
    assert make(photographs, tmp_path / 'set', '--second-model', 'yolov7-nano') == 0
    images = json.loads((tmp_path / 'set' / COCO_FILE).read_text())['images']
    assert [each['source'] for each in images] == ['astronaut.jpg', 'chelsea.jpg', 'coffee.jpg']
    assert {each['doubt']['drift'] for each in images} == {0}


def renamed(path: Path, names: list[str] | None) -> Path:
    """Save the embedded model with other class names, or none."""
    model = onnx.load(find_model('yolov7-nano'))
    for each in list(model.metadata_props):
        if each.key == 'names':
            model.metadata_props.remove(each)
    if names is not None:
        onnx.helper.set_model_props(model, {
            each.key: each.value for each in model.metadata_props} | {'names': json.dumps(names)})
    onnx.save(model, path)
    return path


def test_a_second_model_of_other_classes_makes_no_frame_hard(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = [f'thing {number}' for number in range(80)]
    foreign = renamed(tmp_path / 'foreign.onnx', others)
    assert make(photographs, tmp_path / 'a', '--second-model', foreign) == 2
    assert 'has none of the classes of the model' in capsys.readouterr().err
    partly = renamed(tmp_path / 'partly.onnx', ['person', *others[1:]])
    assert make(photographs, tmp_path / 'b', '--second-model', partly) == 0
    assert 'the second model lacks 79 classes of the model' in capsys.readouterr().err
    rows = np.array([[0, 2, 10, 60, 60, 15, 0.9]], np.float32)
    nameless = fixed_rows(tmp_path / 'nameless.onnx', rows)
    assert make(photographs, tmp_path / 'c', '--second-model', nameless) == 0
    assert 'they are taken for those of the model' in capsys.readouterr().err


# ---- going on


@contextlib.contextmanager
def interrupted_after(frames: int) -> Iterator[Callable[[], None]]:
    seen = []

    def advance() -> None:
        seen.append(1)
        if len(seen) == frames:
            raise KeyboardInterrupt

    yield advance


def test_an_interrupted_look_goes_on_at_the_frame(photographs: Path, tmp_path: Path) -> None:
    args = build_parser().parse_args(
        ['label', str(photographs), '-o', str(tmp_path / 'set'), '--format', 'coco', *SIZE])
    args.class_map = {}
    journal = tmp_path / 'journal'
    with pytest.raises(KeyboardInterrupt):
        label_tasks.look_at(args, 'd', photographs, journal, lambda *_: interrupted_after(2))
    (first, second) = journal.read_text().splitlines()
    key, record = unsealed(first)
    record['boxes'] = []
    journal.write_text(f'{sealed([key, record])}\n{second[:40]}')  # and one line cut off
    looked = label_tasks.look_at(args, 'd', photographs, journal)
    whole = label_tasks.look_at(args, 'd', photographs)
    assert looked['frames'][0] == record != whole['frames'][0]
    assert looked['frames'][1:] == whole['frames'][1:]


def test_what_changed_before_it_was_gone_on_with_is_looked_at_anew(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = shutil.copytree(photographs, tmp_path / 'source'), tmp_path / 'set'
    words = ['label', str(source), '-o', str(out), '--format', 'coco', *SIZE]
    with monkeypatch.context() as patch:
        patch.setattr(output, 'progress_bar', lambda *_: interrupted_after(2))
        with pytest.raises(KeyboardInterrupt):
            label.run(build_parser().parse_args(words))
    shutil.copy(source / 'coffee.jpg', source / 'astronaut.jpg')
    assert main(words) == 0
    assert make(source, tmp_path / 'whole') == 0
    assert contents(out) == contents(tmp_path / 'whole')


def test_a_picture_that_is_replaced_meanwhile_has_no_labels_of_the_one_before(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = shutil.copytree(photographs, tmp_path / 'source'), tmp_path / 'set'
    args = build_parser().parse_args(
        ['label', str(source), '-o', str(out), '--format', 'coco', *SIZE])
    args.class_map = {}
    drives = {'source': source}
    with WorkFolder(out, 'label', {}) as work, open_runner(args) as run:
        record = label._look(args, drives, work, run)['source']
        shutil.copy(source / 'coffee.jpg', source / 'astronaut.jpg')
        frames = [from_record(LabelledFrame, each, 'a frame') for each in record['frames']]
        files = LabelFolder(work, 'coco')
        files.begin(frames, record['classes'], {})
        with pytest.raises(InputError, match='has changed since'):
            label._write_pictures(
                args, drives, {'source': record['facts']}, frames, work, files, run)
    assert not list(out.rglob('*.jpg'))


def test_class_names_that_changed_are_other_settings(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / 'names.txt'
    names.write_text('\n'.join(f'thing {number}' for number in range(80)))
    assert make(photographs, tmp_path / 'set', '--class-names', names) == 0
    names.write_text(names.read_text().replace('thing 7', 'cup'))
    assert make(photographs, tmp_path / 'set', '--class-names', names) == 1
    assert 'was started with class_names_read' in capsys.readouterr().err


def test_a_journal_without_a_file_keeps_nothing() -> None:
    with FrameJournal(None) as journal:
        journal.add('a', {})
        assert journal.get('a') is None


@pytest.mark.parametrize('form', FORMATS)
def test_a_full_disk_is_one_error_and_leaves_a_data_set_that_is_whole(
    photographs: Path, tmp_path: Path, form: str
) -> None:
    def limit() -> None:  # no file may grow beyond some bytes
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    words = ['label', str(photographs), '-o', 'set', '--format', form, *SIZE]
    done = subprocess.run(
        [sys.executable, '-B', '-m', 'yolov7_trt_ros', *words], cwd=tmp_path, preexec_fn=limit,
        env=os.environ | {'PYTHONPATH': str(REPOSITORY)}, capture_output=True, text=True,
    )
    out = tmp_path / 'set'
    assert done.returncode == 1
    assert done.stderr.count('\n') == 1
    assert f'File too large; 2 of 3 pictures are in {out}, which can be used' in done.stderr
    read = read_coco if form == 'coco' else read_yolo
    assert set(read(out)) == {'astronaut_000000.jpg', 'chelsea_000001.jpg'}
    assert len(list(out.rglob('*.txt'))) == 2 * (form == 'yolo')
    assert main([*words[:3], str(out), *words[4:]]) == 0
    assert len(read(out)) == 3


def test_what_a_person_corrected_stays(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    yolo, coco = tmp_path / 'yolo', tmp_path / 'coco'
    assert make(photographs, yolo, form='yolo') == 0
    corrected = next(yolo.rglob('*coffee*.txt'))
    corrected.write_text('0 0.5 0.5 0.1 0.1\n')
    next(yolo.rglob('*coffee*.jpg')).unlink()
    assert make(photographs, yolo, form='yolo') == 0
    assert corrected.read_text() == '0 0.5 0.5 0.1 0.1\n' and next(yolo.rglob('*coffee*.jpg'))
    assert make(photographs, coco) == 0
    (coco / COCO_FILE).write_text('{}')
    assert make(photographs, coco) == 1
    assert 'was edited since it was written' in capsys.readouterr().err
    assert (coco / COCO_FILE).read_text() == '{}'


# ---- what is refused


def test_folders_that_are_refused(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*words: object) -> str:
        assert make(source, out, *words) == 1
        return capsys.readouterr().err

    source = shutil.copytree(photographs, tmp_path / 'source')
    out = tmp_path / 'set'
    out.mkdir()
    (out / 'mine.txt').write_text('mine')
    assert 'not empty and was not made by this command' in refused()
    assert [path.name for path in out.iterdir()] == ['mine.txt']
    (out / 'mine.txt').unlink()
    assert make(source, out) == 0
    capsys.readouterr()
    assert "every '1', not '2'" in refused('--every', 2)
    shutil.copy(source / 'coffee.jpg', source / 'another.jpg')
    assert 'has changed since' in refused()
    with WorkFolder(tmp_path / 'used', 'label', {}), pytest.raises(
        InputError, match=rf'in use by another run \(process {os.getpid()} on '
    ):
        WorkFolder(tmp_path / 'used', 'label', {}).__enter__()


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr('fcntl.flock', without_locks)
    with WorkFolder(tmp_path / 'work', 'label', {}) as work, locked_folder(tmp_path / 'out'):
        work.keep('a', {})
        assert work.done('a') == {}


def test_what_a_killed_run_left_is_gone_on_with(photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / 'set'
    (out / STATE).mkdir(parents=True)
    (out / STATE / 'lock').write_text('process 1 on gone')
    half = out / STATE / f'.half.jpg.{"0" * 16}.tmp'
    assert make(photographs, out) == 0
    half.write_bytes(b'half')
    assert make(photographs, out) == 0
    assert not half.exists()


def test_a_recording_that_cannot_be_read_costs_itself_alone(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / 'bad.mcap'
    bad.write_bytes(b'\x89MCAP0\r\nnothing')
    out = tmp_path / 'set'
    words = ['label', str(bad), str(photographs), '-o', str(out), '--format', 'coco', *SIZE,
             '--json', str(tmp_path / 'r.json')]
    assert main(words) == 1
    assert 'bad.mcap' in capsys.readouterr().err
    assert len(read_coco(out)) == 3
    drives: Any = json.loads((tmp_path / 'r.json').read_text())['drives']
    assert len(drives['bad']['failed']) == 1
    assert make(bad, tmp_path / 'none') == 1
    assert 'error: nothing to label' in capsys.readouterr().err


@pytest.mark.parametrize('words', [
    ('--every', '0'), ('--most', '0'), ('--class-map', 'nosuch=x'), ('--class-map', 'nosuch.txt'),
])
def test_wrong_values(words: tuple[str, str], photographs: Path, tmp_path: Path) -> None:
    assert make(photographs, tmp_path / 'set', *words) == 2


def test_a_class_map_is_read_whole_or_not_at_all(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'map.txt'
    path.write_text('\n' * 2**20 + 'person=human\n')
    assert make(photographs, tmp_path / 'set', '--class-map', path) == 2
    assert 'larger than' in capsys.readouterr().err
    path.unlink()
    os.mkfifo(path)
    assert make(photographs, tmp_path / 'set', '--class-map', path) == 2
    assert 'a pipe' in capsys.readouterr().err


def test_names_of_recordings(tmp_path: Path) -> None:
    paths = [Path('a/drive.mcap'), Path('b/drive.mcap.zstd'), Path('c/drive.db3'), Path('d/x.y z')]
    assert name_drives(paths) == dict(zip(
        ('drive', 'drive-2', 'drive-3', 'x.y_z'), paths, strict=True))
