from __future__ import annotations

import dataclasses
import json
from pathlib import Path
import re
import xml.etree.ElementTree as ElementTree

import pytest

from yolov7_trt_ros.core.latency import Percentiles
from yolov7_trt_ros.errors import InputError
from yolov7_trt_ros.report.bench.json_file import load_bench, merge_benches
from yolov7_trt_ros.report.bench.markdown import as_markdown
from yolov7_trt_ros.report.bench.page import as_html
from yolov7_trt_ros.report.bench.row import (
    Accuracy,
    BatchResult,
    Bench,
    BenchRow,
    Data,
    Energy,
    Speed,
    Where,
)

HERE = Where('GPU A', {'processor': 'P', 'driver': '1.2'}, {'torch': '2.0'}, {'gpu': 900.0}, 60.0)
DATA = Data(12, 'a' * 64, 326, 'b' * 64)
SETTINGS = {'letterbox': 'square', 'accuracy settings': 'score 0.001', 'seconds': 5.0}


def speed(p50_ms: float, batch: int = 1) -> Speed:
    return Speed(100, Percentiles(p50_ms, p50_ms * 1.1, p50_ms * 1.5, p50_ms * 2),
                 round(1e3 * batch / p50_ms, 2), 'CUDA events')


def row(name: str, ms: float, ap50: float, *, model: str = 'tiny.onnx', joules: float | None = 0.2,
        where: Where = HERE, data: Data = DATA) -> BenchRow:
    energy = None if joules is None else Energy(
        'nvml', ('gpu',), 5.0, 100.0, joules, {'gpu': 1755.0}, 51.0)
    why = '' if energy else 'no power source: none of <NVML> | RAPL'
    return BenchRow(
        name, model, where, data, engine='TensorRT', precision='fp16', size_bytes=12_400_000,
        network_wh=(640, 640),
        batches=(
            BatchResult(1, speed(ms), speed(ms + 1), energy, energy_error=why),
            BatchResult(8, speed(ms * 4, 8), end_to_end_error='one image at a time',
                        energy_error='one image at a time'),
        ),
        gpu_memory_mb=812.0, accuracy=Accuracy(ap50, ap50 / 2, 326),
        measured='2025-01-01T00:00:00+00:00',
    )


def failed(name: str, why: str, model: str = 'tiny.onnx') -> BenchRow:
    return BenchRow(name, model, HERE, DATA, error=why)


def bench(*rows: BenchRow, title: str = 'Tiny & <fast>') -> Bench:
    return Bench(title, SETTINGS, rows, ('INT8 is slower because <so>.',))


FULL = bench(
    row('PyTorch', 8.0, 0.2498), row('TensorRT FP16', 2.0, 0.2493, joules=0.05),
    failed('INT8 | plan', 'no <GPU> here'),
)


def cells(markdown: str, heading: str) -> dict[str, dict[str, str]]:
    """Return the cells of a table of the Markdown by row and column."""
    section = markdown.partition(f'## {heading}\n')[2].partition('\n## ')[0]
    lines = [re.split(r'(?<!\\)\|', line)[1:-1] for line in section.splitlines()
             if line.startswith('|')]
    header, _, *rows = [[cell.strip() for cell in line] for line in lines]
    return {line[0]: dict(zip(header, line, strict=True)) for line in rows}


def test_markdown_compares_with_the_first_row() -> None:
    table = cells(as_markdown(FULL), 'Summary')
    assert table['PyTorch']['speed-up'] == '1.00×'
    assert table['PyTorch']['ΔAP50'] == '—'
    fp16 = table['TensorRT FP16']
    assert fp16['speed-up'] == '4.00×'
    assert fp16['ΔAP50'] == '-0.0005'
    assert (fp16['AP50'], fp16['AP50-95']) == ('0.2493', '0.1246')
    assert (fp16['network p50 ms'], fp16['end to end p50 ms']) == ('2.000', '3.000')
    assert fp16['fps at batch 8'] == '1000'
    assert (fp16['W'], fp16['mJ a frame'], fp16['GPU MB']) == ('100.0', '50.0', '812')
    assert fp16['size MB'] == '12.4'


def test_int8_is_compared_with_fp16_of_the_same_machine() -> None:
    int8 = dataclasses.replace(row('INT8 kl', 1.6, 0.24), precision='int8')
    slow = dataclasses.replace(row('INT8 slow', 9.0, 0.24), precision='mixed')
    other = dataclasses.replace(int8, name='elsewhere', where=Where('GPU B'))
    markdown = as_markdown(bench(row('FP16', 2.0, 0.25), slow, int8, other))
    assert 'GPU A, batch 8: INT8 kl runs at 1.25 times the rate of FP16.' in markdown
    assert markdown.count('times the rate') == 1


def test_markdown_says_what_was_not_measured() -> None:
    missing = cells(as_markdown(FULL), 'Not measured')
    assert missing['INT8 \\| plan']['why'] == 'no &lt;GPU> here'
    together = missing['PyTorch, TensorRT FP16']
    assert together['what'] == 'end to end, batch 8'
    assert 'INT8' not in cells(as_markdown(FULL), 'Summary')


def test_markdown_without_power_or_labels() -> None:
    bare = dataclasses.replace(row('CPU', 50.0, 0.2, joules=None), accuracy=None,
                               accuracy_error='no labels were given')
    markdown = as_markdown(bench(bare))
    assert cells(markdown, 'Summary')['CPU']['W'] == '—'
    whys = re.findall(r'no power source: none of &lt;NVML> \\\| RAPL|no labels were given',
                      markdown)
    assert len(whys) == 2


def parse(page: str) -> ElementTree.Element:
    return ElementTree.fromstring(page.removeprefix('<!DOCTYPE html>\n'))


def test_page_is_well_formed_and_needs_nothing_else() -> None:
    page = as_html(FULL)
    root = parse(page)
    assert not re.search(r'(?:src|href)=|url\(|@import', page)
    assert root.findtext('.//h1') == 'Tiny & <fast>'
    assert 'INT8 is slower because <so>.' in ''.join(root.itertext())
    titles = {svg.findtext('{*}title') for svg in root.iter('{http://www.w3.org/2000/svg}svg')}
    assert titles == {
        'Latency, AP50 and joules a frame', 'Latency at batch 1', 'Images a second at batch 1',
        'Images a second at batch 8', 'Energy a frame',
    }


def test_area_of_a_circle_is_joules_and_faster_is_left() -> None:
    root = parse(as_html(FULL))
    svg = next(root.iter('{http://www.w3.org/2000/svg}svg'))
    found = {}
    for circle in svg.iter('{http://www.w3.org/2000/svg}circle'):
        told = circle.findtext('{*}title')
        if told:
            found[told.partition(':')[0]] = circle
    slow, fast = found['PyTorch'], found['TensorRT FP16']
    assert float(fast.attrib['r']) / float(slow.attrib['r']) == pytest.approx(0.5, abs=0.01)
    assert float(fast.attrib['cx']) < float(slow.attrib['cx'])
    assert float(fast.attrib['cy']) > float(slow.attrib['cy'])  # lower AP50 is further down


@pytest.mark.parametrize('rows', [
    (), (failed('a', 'why'),), (row('one', 1.0, 0.0),), (row('x', 3.0, 0.5, joules=None),),
    tuple(row(f'{n} ' + 'long name ' * 6, 2.0, 0.25) for n in range(12)),
])
def test_any_rows_make_pages(rows: tuple[BenchRow, ...]) -> None:
    root = parse(as_html(bench(*rows)))
    shapes = [element for element in root.iter() if element.tag.endswith(('rect', 'circle'))]
    assert all('nan' not in ''.join(shape.attrib.values()) for shape in shapes)
    assert bool(shapes) == any(not one.error for one in rows)
    assert as_markdown(bench(*rows)).startswith('# Tiny &amp; &lt;fast>\n')


def test_json_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / 'bench.json'
    path.write_bytes(FULL.to_json())
    assert load_bench(path) == FULL


@pytest.mark.parametrize('text', [
    '', '{', '[]', '{"format": 1}', '{"format": 7, "title": "", "settings": {}, "rows": []}',
    '{"format": 1, "title": "", "settings": {}, "notes": [], "rows": [{"name": "x"}]}',
])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / 'other.json'
    path.write_text(text)
    with pytest.raises(InputError, match=r'other\.json'):
        load_bench(path)


def test_damaged_fields_are_refused(tmp_path: Path) -> None:
    """Each field in turn holds something else."""
    record = json.loads(FULL.to_json())
    path = tmp_path / 'bench.json'
    for name in list(record['rows'][0]):
        broken = json.loads(json.dumps(record))
        broken['rows'][0][name] = [7]
        path.write_text(json.dumps(broken))
        with pytest.raises(InputError, match='bench'):
            load_bench(path)


@pytest.mark.parametrize(('text', 'other'), [
    ('"p50": 8.0', '"p50": NaN'), ('"p50": 8.0', '"p50": Infinity'),
    pytest.param('"p50": 8.0', f'"p50": {10 ** 400}', id='huge'),
    ('"fps": 125.0', '"fps": "many"'), ('"gpu": 1755.0', '"gpu": "fast"'),
    ('"rails": [\n       "gpu"', '"rails": [\n       7'), ('"driver": "1.2"', '"driver": 1.2'),
])
def test_numbers_that_cannot_be_shown_are_refused(
    tmp_path: Path, text: str, other: str
) -> None:
    written = FULL.to_json().decode()
    assert text in written
    path = tmp_path / 'bench.json'
    path.write_text(written.replace(text, other, 1))
    with pytest.raises(InputError, match='is not the JSON of a benchmark'):
        load_bench(path)


def test_merge_keeps_places_and_drops_what_ran_elsewhere() -> None:
    there = Where('Orin', {'processor': 'Q'}, {'tensorrt': '8.6.0'})
    left = bench(row('PyTorch', 8.0, 0.25), failed('TensorRT tiny', 'no GPU', 'tiny.plan'),
                 failed('DLA', 'no DLA', 'dla.plan'))
    right = bench(row('TensorRT FP16 tiny', 2.0, 0.25, model='tiny.plan', where=there))
    merged = merge_benches([('a.json', left), ('b.json', right)], 'Joined', ['seen'])
    assert [one.name for one in merged.rows] == ['PyTorch', 'DLA', 'TensorRT FP16 tiny']
    assert merged.title == 'Joined'
    assert merged.notes == ('INT8 is slower because <so>.', 'seen')
    table = cells(as_markdown(merged), 'Summary')
    assert table['TensorRT FP16 tiny (Orin)']['speed-up'] == '4.00× †'
    assert {'PyTorch, DLA', 'TensorRT FP16 tiny'} == set(cells(as_markdown(merged), 'Where'))


@pytest.mark.parametrize(('change', 'what'), [
    ({'data': dataclasses.replace(DATA, labelled=300, labels_sha256='c' * 64)}, 'labelled images'),
    ({'data': dataclasses.replace(DATA, pictures_sha256='d' * 64)}, 'pictures'),
    ({'network_wh': (320, 320)}, 'network sizes'),
])
def test_rows_of_different_data_are_not_joined(change: dict[str, object], what: str) -> None:
    other = dataclasses.replace(row('x', 1.0, 0.2), **change)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=rf'different {what}.*a\.json.*b\.json'):
        merge_benches([('a.json', FULL), ('b.json', bench(other))])


def test_rows_without_labels_may_join() -> None:
    bare = dataclasses.replace(
        row('x', 1.0, 0.2, data=Data(12, 'a' * 64)), accuracy=None, accuracy_error='none given'
    )
    assert len(merge_benches([('a', FULL), ('b', bench(bare))]).rows) == 4


def test_results_of_other_settings_are_not_joined() -> None:
    other = dataclasses.replace(FULL, settings={**SETTINGS, 'letterbox': 'rectangle'})
    with pytest.raises(InputError, match='different letterbox'):
        merge_benches([('a', FULL), ('b', other)])


def test_a_file_without_end_is_refused() -> None:
    with pytest.raises(InputError, match='larger than 67108864 bytes'):
        load_bench(Path('/dev/zero'))
