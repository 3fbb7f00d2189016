"""All HTML pages: whole, needing nothing else, safe against names of others, bounded."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html
from pathlib import Path
import re
import xml.etree.ElementTree as ElementTree

import cv2
import numpy as np
import pytest

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.report.accuracy import eval_page
from yolov7_trt_ros.report.accuracy.coco import ClassPrecision
from yolov7_trt_ros.report.accuracy.confusion import Confusions, NOTHING
from yolov7_trt_ros.report.accuracy.eval_page import Evaluation
from yolov7_trt_ros.report.bench import page as bench_page
from yolov7_trt_ros.report.bench.json_file import load_bench
from yolov7_trt_ros.report.bench.markdown import as_markdown
from yolov7_trt_ros.report.bench.row import Accuracy, BatchResult, Bench, BenchRow, Data, Where
from yolov7_trt_ros.report.compare import page as compare_page
from yolov7_trt_ros.report.compare.detection_compare import RunComparison
from yolov7_trt_ros.report.compare.frame_drawing import (
    MOST_BOXES,
    MOST_JPEG_BYTES,
    shrink,
    SmallPicture,
)
from yolov7_trt_ros.report.compare.page import CompareContext
from yolov7_trt_ros.report.compare.settings import CompareLimits, CompareSettings
from yolov7_trt_ros.report.fusion import page as fusion_page
from yolov7_trt_ros.report.fusion.engine_layers import parse_layers
from yolov7_trt_ros.report.fusion.fusion_report import make_report
from yolov7_trt_ros.report.svg_parts import COLOURS

HOSTILE = '<script>alert(1)</script>"\'&\x1b[2J\u202egnp.exe\udcff</title>\x00'
SVG = '{http://www.w3.org/2000/svg}'


def boxes(count: int, shift_px: float = 0.0, seed: int = 1) -> Detections:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 900, (count, 2)).astype(np.float32)
    return Detections(
        np.concatenate([corners, corners + 60], axis=1) + np.float32(shift_px),
        np.sort(rng.uniform(0.3, 0.99, count).astype(np.float32))[::-1],
        np.zeros(count, np.int32), (0, 0),
    )


def compared(frames: int = 12, count: int = 5) -> RunComparison:
    comparison = RunComparison(CompareSettings())
    for number in range(frames):
        comparison.add(HOSTILE, number, boxes(count), boxes(count, 2.0 + 500 * (number % 2)))
    comparison.add_lone(HOSTILE, 99, in_reference=True)
    return comparison


def compare_html(pictures: dict[tuple[str, int], SmallPicture] | None = None,
                 count: int = 5) -> str:
    result = compared(count=count).result((HOSTILE,))
    return compare_page.as_html(result, CompareContext(
        HOSTILE, HOSTILE, class_names=(HOSTILE,), pictures=pictures or {},
        pictures_error=HOSTILE, versions={'numpy': '1'}, made='2026-01-01T00:00:00+00:00',
    ))


def precisions(count: int) -> tuple[ClassPrecision, ...]:
    rng = np.random.default_rng(3)
    return tuple(
        ClassPrecision(f'{number} {HOSTILE}', number + 1,
                       np.sort(rng.uniform(0, 1, (10, 101)))[:, ::-1], np.linspace(1, 0, 101))
        for number in range(count)
    )


def eval_html(count: int) -> str:
    counts = {(each, each): 5 for each in range(count)}
    counts |= {(each, (each + 1) % count): 1 for each in range(count) if count > 1}
    counts |= {(each, NOTHING): 2 for each in range(count)} | {(NOTHING, 0): 3}
    names = {each: f'{each} {HOSTILE}' for each in range(count)}
    return eval_page.as_html(Evaluation(
        HOSTILE, precisions(count), Confusions(counts, names), (('model', HOSTILE),), (HOSTILE,)))


def fusion_html() -> str:
    layers = parse_layers([
        {'Name': HOSTILE, 'LayerType': HOSTILE, 'Metadata': HOSTILE, 'TacticName': HOSTILE,
         'Inputs': [{'Name': HOSTILE, 'Dimensions': [1], 'Format/Datatype': HOSTILE}],
         'Outputs': [{'Name': 'y', 'Dimensions': [1], 'Format/Datatype': HOSTILE}]},
        {'Name': 'z', 'LayerType': 'CaskConvolution',
         'Inputs': [{'Name': 'y', 'Dimensions': [1], 'Format/Datatype': 'FP16'}]},
    ])
    return fusion_page.as_page(make_report(layers, [], {'onnx': HOSTILE, 'gpu': HOSTILE}))


def bench_html(busy: str = HOSTILE, images: int = 12) -> str:
    row = BenchRow(
        HOSTILE, HOSTILE, Where(HOSTILE, {HOSTILE: HOSTILE}, {'torch': HOSTILE}, busy=busy),
        Data(12, 'a' * 64, images, 'b' * 64), engine=HOSTILE, precision=HOSTILE,
        network_wh=(640, 640), batches=(BatchResult(1, energy_error=HOSTILE),),
        accuracy=Accuracy(0.5, 0.3, images), facts={HOSTILE: HOSTILE},
    )
    return bench_page.as_html(Bench(HOSTILE, {HOSTILE: HOSTILE}, (row,), (HOSTILE,)))


PAGES = {'compare': compare_html(), 'eval': eval_html(3), 'fusion': fusion_html(),
         'bench': bench_html()}


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest) -> str:
    return PAGES[request.param]


def parse(page: str) -> ElementTree.Element:
    page.encode()  # nothing that a file cannot hold
    return ElementTree.fromstring(page.removeprefix('<!DOCTYPE html>\n'))


def test_names_of_others_do_nothing(page: str) -> None:
    root = parse(page)
    assert '<script>alert(1)</script>' in ''.join(root.itertext())  # as text
    assert not re.search('[\x00-\x09\x0b-\x1f\u202e\udcff]', page)
    scripts = list(root.iter('script'))
    assert not any('alert' in (script.text or '') for script in scripts)
    assert not any(name.startswith('on') for each in root.iter() for name in each.attrib)


def test_nothing_is_loaded(page: str) -> None:
    root = parse(page)
    assert not re.search(r'url\(|@import', page)
    for each in root.iter():
        for name, value in each.attrib.items():
            if name.rpartition('}')[2] in ('src', 'href', 'action', 'data'):
                assert value.startswith(('#', 'data:image/jpeg;base64,'))
    ids = [each.attrib['id'] for each in root.iter() if 'id' in each.attrib]
    assert len(ids) == len(set(ids))
    links = {each.attrib['href'] for each in root.iter('a')}
    assert {link.removeprefix('#') for link in links} <= set(ids)


def test_only_the_script_of_the_page_may_run(page: str) -> None:
    policy = next(each.attrib['content'] for each in parse(page).iter('meta')
                  if each.attrib.get('http-equiv') == 'Content-Security-Policy')
    assert policy.startswith("default-src 'none'; ")
    scripts = re.findall(r'<script>(.*?)</script>', page, re.DOTALL)
    allowed = re.findall(r"'sha256-([^']+)'", policy)
    digests = [hashlib.sha256(text.encode()).digest() for text in scripts]
    assert allowed == [base64.b64encode(digest).decode() for digest in digests]


def test_light_dark_print_and_keyboard(page: str) -> None:
    root = parse(page)
    assert 'prefers-color-scheme: dark' in page and '@media print' in page
    assert root.attrib['lang'] == 'en' and len(list(root.iter('h1'))) == 1
    for each in root.iter('div'):
        if each.attrib.get('class') in ('scroll', 'picture'):
            assert each.attrib['tabindex'] == '0' and each.attrib['aria-label']
    for svg in root.iter(f'{SVG}svg'):
        assert svg.attrib['role'] == 'img' and svg.findtext(f'{SVG}title')


# ---- frames to look at


def noise(height: int, width: int) -> ImageView:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return ImageView.from_array(pixels)


@pytest.mark.parametrize('shape', [(480, 640), (4000, 6000), (1, 5000), (5000, 1), (1, 1)])
def test_pictures_are_small_whatever_they_show(shape: tuple[int, int]) -> None:
    small = shrink(noise(*shape))
    assert small is not None and len(small.jpeg) <= MOST_JPEG_BYTES
    assert small.source_wh == shape[::-1]
    decoded = cv2.imdecode(np.frombuffer(small.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert max(decoded.shape) <= 640


def test_each_frame_has_both_runs_over_one_picture() -> None:
    small = shrink(noise(1000, 1000))
    assert small is not None
    page = compare_html({(HOSTILE, number): small for number in range(12)})
    root = parse(page)
    pairs = [each for each in root.iter('div') if each.attrib.get('class') == 'pair']
    assert len(pairs) == 10
    for pair in pairs:
        first, second = pair.iter(f'{SVG}svg')
        image, use = first.find(f'{SVG}image'), second.find(f'{SVG}use')
        assert image is not None and use is not None
        assert use.attrib['href'] == '#' + image.attrib['id']
        assert first.attrib['viewBox'] == second.attrib['viewBox'] == '0 0 1000 1000'
        assert len([each for each in first.iter(f'{SVG}rect') if each.find('{*}title') is not None]
                   ) == 5
    assert len(page) < 10 * (MOST_JPEG_BYTES * 4 / 3 + 20_000)


def test_a_frame_with_many_boxes_is_bounded_and_says_so() -> None:
    page = compare_html(count=400)
    root = parse(page)
    for svg in root.iter(f'{SVG}svg'):
        assert len(list(svg.iter(f'{SVG}rect'))) <= 2 * MOST_BOXES + 60
    assert f'{MOST_BOXES} boxes shown, 340 more' in page


def test_lost_and_new_boxes_are_marked() -> None:
    comparison = RunComparison(CompareSettings())
    one = np.array([[0, 0, 50, 50]], np.float32)
    reference = Detections(np.concatenate([one, one + 200]), np.array([0.9, 0.8], np.float32),
                           np.array([0, 1], np.int32), (0, 0))
    found = Detections(np.concatenate([one, one + 400]), np.array([0.9, 0.7], np.float32),
                       np.array([0, 0], np.int32), (0, 0))
    comparison.add('/a', 5, reference, found)
    root = parse(compare_page.as_html(
        comparison.result(('cat', 'dog')), CompareContext('a', 'b', class_names=('cat', 'dog'))))
    first, second = next(each for each in root.iter('div')
                         if each.attrib.get('class') == 'pair').iter(f'{SVG}svg')
    told = [sorted(title.text or '' for title in svg.iterfind(f'{SVG}rect/{SVG}title'))
            for svg in (first, second)]
    assert told == [['cat 0.90, matched', 'dog 0.80, missed'],
                    ['cat 0.70, new', 'cat 0.90, matched']]


def test_limits_are_beside_what_was_found() -> None:
    page = compare_page.as_html(compared().result(('x',)), CompareContext(
        'a', 'b', limits=CompareLimits(max_drift=0.123, min_frames=0.5), damaged=3))
    text = html.unescape(re.sub('<[^>]+>', ' ', page))
    assert 'at most 0.123' in text and 'at least 0.5' in text and '--min-matched' in text
    assert '3 parts or messages could not be read' in text


# ---- eval


@pytest.mark.parametrize('count', [1, 8, 80, 1203])
def test_eval_is_bounded_for_any_number_of_classes(count: int) -> None:
    page = eval_html(count)
    root = parse(page)
    curves = list(root.iter(f'{SVG}polyline'))
    assert len(curves) == min(count, 100) + 1
    tables = {each.attrib['aria-label']: each for each in root.iter('div')
              if each.attrib.get('role') == 'region'}
    rows = list(tables['confusion matrix'].iter('tr'))
    side = min(count, 16) + (count > 16) + 1
    assert len(rows) == side + 1 and all(len(list(row)) == side + 1 for row in rows)
    assert len(list(tables['classes'].iter('tr'))) == count + 1
    assert len(page) < 400_000 + 1_500 * count
    coloured = [each for each in curves if 'stroke' in each.attrib]
    assert len(coloured) == min(count, len(COLOURS))


def test_the_matrix_keeps_every_count_but_mistakes_among_the_others() -> None:
    root = parse(eval_html(20))
    region = next(each for each in root.iter('div')
                  if each.attrib.get('aria-label') == 'confusion matrix')
    shown = sum(int(each.text or 0) for each in region.iter('b'))
    total = 20 * (5 + 1 + 2) + 3
    inside = 3  # of 16 to 17, 17 to 18, 18 to 19
    assert shown == total - inside


def test_bench_says_what_makes_its_numbers_doubtful() -> None:
    assert 'class="warning"' in bench_html('busy with load 34', 500)
    assert 'busy with load 34' in bench_html('busy with load 34', 500)
    assert '12 labelled images is rough' in bench_html('', 12)
    assert 'class="warning"' not in bench_html('', 500)


def test_bench_can_be_written_whatever_its_names_are(tmp_path: Path) -> None:
    bench = Bench(HOSTILE, {}, (BenchRow(HOSTILE, HOSTILE, Where(HOSTILE), Data(1, 'a')),))
    assert not re.search('[\x1b\u202e\udcff]', as_markdown(bench))
    (tmp_path / 'bench.json').write_bytes(bench.to_json())
    assert load_bench(tmp_path / 'bench.json') == bench


def test_two_machines_of_which_one_was_busy_are_told_apart() -> None:
    row = BenchRow('one', 'm', Where('A', busy='busy!'), Data(1, 'a'))
    other = dataclasses.replace(row, name='two', where=Where('B'))
    page = bench_page.as_html(Bench('t', {}, (row, other)))
    assert 'one: busy!' in page and 'two: ' not in page
