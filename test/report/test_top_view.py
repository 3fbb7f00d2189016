"""What `top` shows, from made-up messages on a made-up clock."""

from __future__ import annotations

import pytest

from yolov7_trt_ros.report.top_model import SPARK_S, TopModel, TopSnapshot
from yolov7_trt_ros.report.top_view import ASCII_BLOCKS, Line, render, sparkline

S, MS = 1_000_000_000, 1_000_000
NOW = 1000 * S
CAMERA = {
    'rate in (Hz)': '29.9', 'rate out (Hz)': '16.1', 'received': '500', 'processed': '300',
    'dropped': '199', 'failed': '1', 'lost': '0', 'skipped': '0',
    'stamp_to_publish p50 (ms)': '9.62', 'stamp_to_publish p99 (ms)': '10.94',
}


def texts(lines: list[Line]) -> str:
    return '\n'.join(line.text for line in lines)


def line_with(lines: list[Line], words: str) -> Line:
    return next(line for line in lines if words in line.text)


def busy_model() -> TopModel:
    """Return a detector at 20 Hz of which each tenth frame is late, and a power node."""
    model = TopModel()
    for number in range(20 * 12):
        at_ns = NOW - 12 * S + (number + 1) * 50 * MS
        late = number % 10 == 0
        names = ['person', 'person', 'car'] if late else ['person']
        model.add_detections(at_ns, '/front/detections', 40.0 if late else 8.0, names)
    for age_s in range(12):
        model.add_number(NOW - age_s * S, '/power_manager', 'power_w', 10.0 + age_s)
    model.add_number(NOW, '/power_manager', 'power_w', 10.0)
    model.add_number(NOW, '/power_manager', 'gpu_load', 43.6)
    model.add_status(NOW, '/detector: detector', 0, 'active', {'state': 'active'})
    model.add_status(NOW, '/detector: /front/image_raw', 0, 'fine', CAMERA)
    model.add_status(NOW, '/power_manager: power', 1, '25W, 9.7 W', {})
    return model


def test_rate_latency_and_classes_of_detections() -> None:
    row, = busy_model().snapshot(NOW).detections
    assert row.topic == '/front/detections'
    assert row.rate_hz == pytest.approx(20, abs=0.3)
    assert row.latency_ms == 8.0
    assert row.classes[0] == ('person', pytest.approx(1.1, abs=0.01))
    assert row.classes[1] == ('car', pytest.approx(0.1, abs=0.01))
    assert row.history_ms == (None,) * (SPARK_S - 12) + (40.0,) * 12


def test_a_rate_is_right_from_the_second_frame_on_and_sinks_to_nothing() -> None:
    model = TopModel()
    rates = []
    for number in range(4):
        now_ns = NOW + number * 100 * MS
        model.add_detections(now_ns, '/a', None, [])
        rates.append(model.snapshot(now_ns).detections[0].rate_hz)
    assert rates == [0.0, pytest.approx(10), pytest.approx(10), pytest.approx(10)]
    row, = model.snapshot(NOW + 7 * S).detections
    assert (row.rate_hz, row.latency_ms, row.classes) == (0.0, None, ())
    assert model.snapshot(NOW + 70 * S).is_empty


def test_counters_of_a_camera_come_from_its_detector() -> None:
    row, = busy_model().snapshot(NOW).cameras
    assert (row.topic, row.in_hz, row.out_hz, row.p50_ms, row.p99_ms) == (
        '/front/image_raw', 29.9, 16.1, 9.62, 10.94)
    assert (row.counts['processed'], row.counts['dropped']) == (300, 199)


def test_values_that_are_no_numbers_are_left_out() -> None:
    model = TopModel()
    strange = {'rate in (Hz)': 'many', 'received': '1e400', 'processed': '', 'lost': 'nan'}
    model.add_status(NOW, '/detector: /a', 0, '', strange)
    row, = model.snapshot(NOW).cameras
    assert (row.in_hz, row.p50_ms, dict(row.counts)) == (None, None, {})
    assert '-' in line_with(render(model.snapshot(NOW), 'top'), '/a').text


def test_watts_of_each_second() -> None:
    row, = busy_model().snapshot(NOW).power
    assert row.numbers == {'power_w': 10.0, 'gpu_load': 43.6}
    assert row.history_w[-3:] == (12.0, 11.0, 10.0)
    assert row.history_w[: SPARK_S - 12] == (None,) * (SPARK_S - 12)
    assert dict(busy_model().snapshot(NOW + 10 * S).power[0].numbers) == {}


def test_the_lines() -> None:
    lines = render(busy_model().snapshot(NOW), 'top at noon', width=200)
    assert lines[0] == Line('top at noon', 'title')
    assert line_with(lines, '/detector ').text.split() == ['/detector', 'ok', 'active']
    assert line_with(lines, '/power_manager  WARN').kind == 'warn'
    assert line_with(lines, '/front/image_raw').text.split() == [
        '/front/image_raw', '29.9', '16.1', '300', '199', '1', '0', '9.6', '10.9']
    detections = line_with(lines, '/front/detections').text
    assert '████████████  person 1.1, car 0.1' in detections and ' 8.0 ' in detections
    power = lines[-1].text
    assert power.split()[:5] == ['/power_manager', '10.0', '44', '-', '-']
    heads = [line for line in lines if line.kind == 'head']
    assert [line.text.split()[0] for line in heads] == ['node', 'image', 'detections', 'power']


def test_numbers_stand_below_their_heads() -> None:
    lines = render(busy_model().snapshot(NOW), 'top', width=200)
    for head, row in (('in Hz', '/front/image_raw'), ('latency ms', '/front/detections'),
                      ('GPU %', '/power_manager ')):
        title = line_with(lines, head).text
        values = [line for line in lines if line.text.startswith(row)][-1].text
        end = title.index(head) + len(head)
        assert values[end - 1].isdigit() and values[end:end + 1] in ('', ' '), (title, values)


def test_errors_and_silence_are_marked() -> None:
    model = TopModel()
    model.add_status(NOW, '/a: detector', 2, 'no model', {})
    model.add_status(NOW - 10 * S, '/b: detector', 0, 'active', {})
    model.add_status(NOW, '/b: /cam', 1, 'images have stopped', {})
    lines = render(model.snapshot(NOW), 'top')
    assert (line_with(lines, 'no model').kind, line_with(lines, 'stopped').kind) == (
        'error', 'warn')
    silent = line_with(lines, '/b ')
    assert silent.kind == 'warn' and 'WARN   silent for 10 s; last: active' in silent.text
    assert 'WARN: images have stopped' in line_with(lines, '/cam').text


def test_a_class_that_is_rare_is_not_none() -> None:
    model = TopModel()
    for number in range(40):
        model.add_detections(NOW, '/a', None, ['kite'] if number == 0 else [])
    assert line_with(render(model.snapshot(NOW), 'top'), '/a').text.endswith('  kite <0.1')


def test_nothing_heard() -> None:
    assert 'Nothing heard yet' in texts(render(TopSnapshot(), 'top'))
    assert texts(render(busy_model().snapshot(NOW), 'top')).count('Nothing') == 0


def test_what_others_publish_cannot_move_the_cursor() -> None:
    model = TopModel()
    model.add_status(NOW, '/a: detector', 0, 'red \x1b[31m\r\nline', {})
    model.add_detections(NOW, '/d', 1.0, ['per\x1b]0;title\x07son'])
    text = texts(render(model.snapshot(NOW), 'top'))
    assert 'red ?[31m??line' in text and 'per?]0;title?son 1.0' in text


@pytest.mark.parametrize('width', [1, 40, 80])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    model = busy_model()
    model.add_status(NOW, '/detector: /' + 'long/' * 30, 2, 'words ' * 50, CAMERA)
    lines = render(model.snapshot(NOW), 'top', width=width)
    assert max(len(line.text) for line in lines) == max(width, 40)


def test_of_long_names_the_end_is_shown() -> None:
    model = TopModel()
    for name in ('front', 'rear'):
        model.add_topic(f'/robot/with/a/very/long/namespace/of/cameras/{name}/detections')
    lines = render(model.snapshot(NOW), 'top')
    assert line_with(lines, 'front/detections').text.startswith('…')
    assert line_with(lines, 'rear/detections')


def test_sparklines() -> None:
    assert sparkline([0, 1, 2, 4, 8, None, float('nan')]) == '▁▂▃▅█  '
    assert sparkline([0, 0]) == '▁▁'
    assert sparkline([]) == ''
    assert sparkline([1, 8], ASCII_BLOCKS) == ':@'


def test_memory_is_bounded_at_any_rate() -> None:
    model = TopModel()
    for number in range(20_000):
        model.add_detections(NOW + number, '/a', 1.0, ['person'])
        model.add_number(NOW + number, '/p', 'power_w', 1.0)
    assert len(model._frames['/a']) < 10_000 and len(model._watts['/p']) < 10_000


def test_what_is_kept_and_shown_does_not_grow_with_what_others_send() -> None:
    model = TopModel()
    for number in range(100):
        names = [f'{number} {each}' for each in range(1000)] + ['car'] * 5
        model.add_detections(NOW + number * S, '/front/detections', 1.0, names)
    model.add_status(NOW + 100 * S, '/n: detector', 0, 'm' * 5_000_000, {})
    assert len(model._frames['/front/detections']) == SPARK_S + 1
    snapshot = model.snapshot(NOW + 100 * S)
    row, = snapshot.detections
    assert row.classes[0] == ('car', 5.0) and len(row.classes) <= 10 * 50
    assert len(snapshot.nodes[0].message) < 1000


def test_a_topic_that_is_gone_is_not_shown() -> None:
    model = busy_model()
    model.add_topic('/silent')
    for topic in ('/silent', '/front/detections', '/unknown'):
        model.forget_topic(topic)
    assert model.snapshot(NOW).detections == ()
