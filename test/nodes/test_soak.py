"""The soak's short form, every kind of fault once, and its checks one by one: each can fail."""

from __future__ import annotations

import json
from pathlib import Path
import subprocess
import sys

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / 'benchmarks'
JPEG = 'jpeg'
TOPIC = '/soak/cam0/image_raw'
FINE = {'received': 4, 'processed': 2, 'failed': 1, 'dropped': 1, 'skipped': 0}


@pytest.fixture
def soak_ledger(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from soak_parts import ledger

    return ledger


@pytest.fixture
def ledger(soak_ledger):
    """Return the ledger of a topic whose counters are to be `FINE`."""
    ledger = soak_ledger.Ledger()
    ledger.begin(TOPIC)
    for stamp_ns in range(4):
        ledger.note_sent(TOPIC, stamp_ns, usable=stamp_ns != 3)
    ledger.note_detections(TOPIC, 0)
    ledger.note_detections(TOPIC, 1)
    ledger.note_unusable(TOPIC, 1)
    return ledger


@pytest.mark.slow
def test_one_round_of_all_faults(tmp_path):
    output = tmp_path / 'soak.json'
    run = subprocess.run(
        [sys.executable, str(BENCHMARKS / 'soak.py'), '--rounds', '1', '--seed', '1',
         '-o', str(output)],
        capture_output=True, text=True, timeout=600,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    result = json.loads(output.read_text())
    assert result['violations'] == []
    assert len(result['faults']) == 15 and set(result['faults'].values()) == {1}
    details = {each['fault']: each['details'] for each in result['plan']}
    assert '/image_raw down' in details['camera_restart'] and JPEG in details['camera_restart']
    assert details['corrupt_frames'].count(' reached') == 2 and JPEG in details['corrupt_frames']
    images = result['images']
    assert images['processed'] == images['detections_heard'] > 100
    assert images['failed'] == images['corrupt_that_reached_it'] >= 2
    assert result['growth']['threads']['verdict'] == 'steady'
    assert result['growth']['file_descriptors']['verdict'] == 'steady'


def test_two_at_the_same_time_have_domains_of_their_own(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from soak_parts import soaked_node

    domains = {soaked_node.own_domain() for _ in range(3)}
    assert len(domains) == 3 and domains <= set(range(1, 20))
    while soaked_node._kept:
        soaked_node._kept.pop().close()


def test_a_seed_draws_the_same_faults_again(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from soak_parts.faults import draw_round, FAULTS

    def drawn(seed: int, number: int) -> list[tuple[str, float]]:
        return [(name, rng.random()) for name, rng in draw_round(seed, number)]

    assert drawn(1, 0) == drawn(1, 0)
    assert sorted(name for name, _ in drawn(1, 0)) == sorted(FAULTS)
    assert drawn(1, 0) != drawn(1, 1) and drawn(1, 0) != drawn(2, 0)


def test_what_adds_up_is_no_violation(ledger):
    assert ledger.check_quiet({TOPIC: FINE}, None) == []
    ledger.end_period({TOPIC: FINE}, None)
    assert ledger.check_totals() == [] and ledger.violations == []


@pytest.mark.parametrize(('stamp_ns', 'what'), [
    (0, 'a second time'), (3, 'for a corrupt image'), (99, 'for a stray image'),
])
def test_detections_of_nothing_that_was_sent_are_a_violation(ledger, stamp_ns, what):
    ledger.note_detections(TOPIC, stamp_ns)
    assert len(ledger.violations) == 1 and what in ledger.violations[0]


def test_detections_for_an_image_of_another_topic_are_a_violation(ledger):
    ledger.note_detections('/soak/cam1/image_raw', 2)
    assert len(ledger.violations) == 1


@pytest.mark.parametrize('stamp_ns', [0, 99])
def test_overlays_are_of_one_image_each(ledger, stamp_ns):
    ledger.note_overlay(TOPIC, 0)
    assert ledger.violations == []
    ledger.note_overlay(TOPIC, stamp_ns)
    assert len(ledger.violations) == 1


@pytest.mark.parametrize(('change', 'what'), [
    ({'received': 5}, 'received 5 is not processed 2'),
    ({'received': 5, 'processed': 3}, 'but 2 detections heard'),
    ({'failed': 2, 'dropped': 0}, 'but 1 were corrupt'),
])
def test_counters_that_do_not_add_up_are_told(ledger, change, what):
    wrong = ledger.check_quiet({TOPIC: FINE | change}, None)
    assert len(wrong) == 1 and what in wrong[0]
    ledger.end_period({TOPIC: FINE | change}, None)
    assert any(what in each for each in ledger.check_totals() + wrong)


def test_a_topic_that_is_missing_or_too_many_is_told(ledger):
    assert 'topics: expected' in ledger.check_quiet({}, None)[0]
    assert 'topics: expected' in ledger.check_quiet({TOPIC: FINE, '/other': FINE}, None)[0]


def test_a_removed_topic_is_accounted_for_among_the_removed(ledger):
    ledger.remove(TOPIC)
    assert ledger.check_quiet({}, FINE) == []
    assert ledger.check_quiet({}, None)  # the node has forgotten it
    ledger.note_detections(TOPIC, 2)  # was in work: not heard before
    assert ledger.check_quiet({}, FINE | {'received': 5, 'processed': 3}) == []
    ledger.begin(TOPIC)
    nothing = dict.fromkeys(FINE, 0)
    assert ledger.check_quiet({TOPIC: nothing}, FINE | {'received': 5, 'processed': 3}) == []
    assert ledger.check_quiet({TOPIC: nothing}, FINE)


def test_the_sums_of_all_periods_are_checked(ledger):
    ledger.end_period({TOPIC: FINE}, None)
    ledger.begin(TOPIC)
    ledger.note_sent(TOPIC, 10)
    ledger.note_detections(TOPIC, 10)
    second = dict.fromkeys(FINE, 0) | {'received': 1, 'processed': 1}
    assert ledger.check_quiet({TOPIC: second}, None) == []
    ledger.end_period({TOPIC: second}, None)
    assert ledger.check_totals() == []
    ledger.end_period({}, {'received': 1, 'processed': 0, 'failed': 0, 'dropped': 1, 'skipped': 0})
    assert 'received 6, but 5 were sent' in ledger.check_totals()[0]


@pytest.mark.parametrize(('values', 'verdict'), [
    ([50.0] * 30, 'steady'),
    ([50.0 + 0.4 * (index % 7) for index in range(30)], 'steady'),
    ([50.0] * 20 + [90.0] + [50.0] * 9, 'steady'),  # one peak
    ([50.0 - index for index in range(30)], 'steady'),
    ([50.0 + 0.2 * index for index in range(30)], 'grows'),
    ([50.0] * 15 + [54.0] * 15, 'grows'),
    ([50.0] * 15, 'not judged: 15 of 20 samples'),
])
def test_growth_is_that_of_the_medians_of_the_outer_thirds(soak_ledger, values, verdict):
    found, violation = soak_ledger.judge_growth(
        'memory', values, soak_ledger.Tolerance(by=3.0, least_samples=20)
    )
    assert found['verdict'] == verdict
    assert bool(violation) == (verdict == 'grows')


def test_every_way_to_spoil_an_image_makes_it_useless(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from soak_parts import cameras

    from yolov7_trt_ros.core.messages.image_message import view_message
    from yolov7_trt_ros.errors import InputError

    for encoding in cameras.ENCODINGS:
        jpeg = encoding == cameras.JPEG
        for kind in cameras.CORRUPT_JPEG if jpeg else cameras.CORRUPT_RAW:
            message = cameras.make_messages((320, 240), encoding)[0]
            assert view_message(message).size_wh == (320, 240)
            cameras.spoil(message, kind)
            with pytest.raises(InputError):
                view_message(message)


def test_what_is_present_is_known_before_diagnostics_tell(ledger):
    ledger.begin('/other')
    assert ledger.present == {TOPIC, '/other'}
    ledger.remove(TOPIC)
    assert ledger.present == {'/other'}
    ledger.begin(TOPIC)
    assert ledger.present == {TOPIC, '/other'}
