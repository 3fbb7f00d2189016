"""The second look through the verbs that detect: same engines, same words."""

from __future__ import annotations

import json
from pathlib import Path
import shutil

import pytest

from yolov7_trt_ros.cli import arguments, look_arguments, open_detectors
from yolov7_trt_ros.cli.main import build_parser, main
from yolov7_trt_ros.core.detector import Detector
from yolov7_trt_ros.engine.model_files import find_model


def detect(photographs: Path, out: Path, *flags: str) -> int:
    return main([
        'detect', str(photographs / 'coffee.jpg'), '-o', str(out), '--json',
        str(out.parent / f'{out.name}.json'), '--threads', '1', *flags,
    ])


def test_detect_looks_twice_and_says_so(photographs: Path, tmp_path: Path, capsys):
    assert detect(photographs, tmp_path / 'out', '--second-look', 'on', '--look', 'max_crops=3',
                  '--look', 'first_size=320', '--look', 'classes=cup,person') == 0
    told = json.loads((tmp_path / 'out.json').read_text())['second_look']
    assert (told['mode'], told['max_crops'], told['classes']) == ('on', 3, ['cup', 'person'])
    assert 'crops of 128 px an image' in told['told']
    assert json.loads((tmp_path / 'out.json').read_text())['model']['backend'].endswith(
        '(CPU), looks twice'
    )
    assert capsys.readouterr().err.count('warning') <= 1


def test_auto_says_what_it_has_measured(photographs: Path, tmp_path: Path, capsys):
    # one crop as large as the whole: that cannot pay
    assert detect(photographs, tmp_path / 'out', '--second-look', 'auto', '--look',
                  'first_size=640', '--look', 'crop_size=640') == 0
    assert 'the second look is off, for it does not pay: one look takes' in capsys.readouterr().err
    told = json.loads((tmp_path / 'out.json').read_text())['second_look']
    assert told['told'] == 'auto looks once'


def test_a_picture_that_has_no_second_look_is_told(photographs: Path, tmp_path: Path, capsys):
    assert detect(photographs, tmp_path / 'out', '--second-look', 'on', '--look',
                  'first_size=1280') == 0
    assert 'warning: images of 600x400 get no second look: the first' in capsys.readouterr().err
    told = json.loads((tmp_path / 'out.json').read_text())['second_look']['told']
    assert 'images of 600x400 get no second look' in told


def test_off_tells_nothing(photographs: Path, tmp_path: Path):
    assert detect(photographs, tmp_path / 'out') == 0
    assert 'second_look' not in json.loads((tmp_path / 'out.json').read_text())


ON = ('--second-look', 'on')


@pytest.mark.parametrize(('flags', 'words'), [
    ([*ON, '--look', 'crop_px'], '--look is NAME=VALUE with first_size, crop_px'),
    ([*ON, '--look', 'mode=on'], '--look is NAME=VALUE with first_size, crop_px'),
    ([*ON, '--look', 'max_crops=two'], "--look max_crops is a number, got 'two'"),
    ([*ON, '--look', 'min_worth=17'], 'second_look_min_worth must be within 0.0..16.0, got 17.0'),
    ([*ON, '--look', 'max_crops=17'], 'second_look_max_crops must be within 1..16, got 17'),
    ([*ON, '--look', 'object_px=120'], 'does not fit into a crop of second_look_crop_px 128'),
    ([*ON, '--look', 'classes=dogg'], "no class 'dogg'; did you mean 'dog'?"),
    ([*ON, '--look', 'first_size=100'], 'multiple of the stride'),
    (['--second-look', 'on', '--second-look-model', 'none.onnx'], "no model 'none.onnx'"),
    (['--tiles', '2x2', '--second-look', 'auto'], 'tiles and second_look exclude each other'),
    (['--tiles', '0x2'], 'tiles are columns x rows of 1 to 16, as in 2x2'),
    (['--tile-overlap', '0.3'], '--tile-overlap has no effect without --tiles'),
    (['--look', 'max_crops=2'], '--look has no effect without --second-look on or auto'),
    (['--second-look-model', 'yolov7-nano'], '--second-look-model has no effect without'),
    (['--track-lost', '2'], '--track-lost has no effect without --track iou or bytetrack'),
    (['--track', 'iou', '--track-low-score', '0.2'], 'has no effect without --track bytetrack'),
    (['--tiles', '2x2', '--tile-overlap', '0.7'], 'tile_overlap must be within 0..0.5, got 0.7'),
])
def test_what_cannot_be_is_refused(flags, words, photographs: Path, tmp_path: Path, capsys):
    assert detect(photographs, tmp_path / 'out', *flags) != 0
    assert words in capsys.readouterr().err


def test_detect_looks_at_tiles_and_says_so(photographs: Path, tmp_path: Path):
    assert detect(photographs, tmp_path / 'out', '--tiles', '2x1', '--size', '320') == 0
    record = json.loads((tmp_path / 'out.json').read_text())
    assert record['tiles'] == {
        'layout': '2x1', 'overlap': 0.2,
        'told': '2x1, overlap 0.2: 3 views of 1 image(s) in 3 pass(es)',
    }
    assert record['model']['backend'].endswith('(CPU), tiles 2x1')


def test_eval_measures_two_looks(shared_data: Path, tmp_path: Path):
    """Ten labelled pictures: the second look changes what is found, and the verb tells how."""
    vision = shared_data / 'vision'
    labels = json.loads((vision / 'val2017/instances.json').read_text())
    labels['images'] = labels['images'][:10]
    numbers = {image['id'] for image in labels['images']}
    labels['annotations'] = [each for each in labels['annotations'] if each['image_id'] in numbers]
    (tmp_path / 'labels.json').write_text(json.dumps(labels))
    found = {}
    for name, flags in (('once', ['--size', '480']), ('twice', ['--second-look', 'on'])):
        assert main([
            'eval', '-m', str(vision / 'models/yolox_nano_rows3_fp16w.onnx'), '--images',
            str(vision / 'val2017/images'), '--annotations', str(tmp_path / 'labels.json'),
            '--json', str(tmp_path / f'{name}.json'), '--rectangular', '--threads', '1', *flags,
        ]) == 0
        found[name] = json.loads((tmp_path / f'{name}.json').read_text())
    assert found['once']['ap'] != found['twice']['ap']
    assert found['twice']['ap'] > found['once']['ap'] - 0.02
    assert 'crops of 128 px an image' in found['twice']['second_look']['told']


def kept(*words: str) -> Detector:
    """Return the kept detector of a command; a Dask worker may outlive the run that opened it."""
    args = build_parser().parse_args(
        ['replay', 'in.mcap', '-o', 'out.mcap', '--size', '64', *words])
    options = arguments.detector_options(args, rectangular=True)
    return look_arguments.kept_looking(args, options)


def test_a_detector_is_opened_again_when_its_model_is_replaced(tmp_path: Path):
    model, names = tmp_path / 'model.onnx', tmp_path / 'names.txt'
    shutil.copy(find_model('yolov7-nano'), model)
    names.write_text(''.join(f'one {number}\n' for number in range(80)))
    words = ['-m', str(model), '--class-names', str(names)]
    try:
        first = kept(*words)
        assert kept(*words) is first
        shutil.copy(model, tmp_path / 'new.onnx')  # the same bytes: another file
        (tmp_path / 'new.onnx').replace(model)
        second = kept(*words)
        assert second is not first and kept(*words) is second
        names.write_text(''.join(f'other {number}\n' for number in range(80)))
        assert kept(*words).spec.class_names[0] == 'other 0'
    finally:
        open_detectors.close_all()


def test_a_detector_is_kept_for_the_same_looks_alone():
    try:
        whole, tiled = kept(), kept('--tiles', '2x1')
        assert kept() is whole and kept('--tiles', '2x1') is tiled
        assert 'tiles' in tiled.status() and 'tiles' not in whole.status()
    finally:
        open_detectors.close_all()
