"""The memory strategy that `auto` takes: margin, rounds, and what is kept of it."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
import pytest

from yolov7_trt_ros.engine.device.memory_choice import (
    decide,
    KeptChoice,
    MemoryChoice,
    UploadSample,
)

MS = 1e-3
MACHINE = {'GPU': 'H200', 'driver': '13.0'}
MEASURED = MemoryChoice('mapped', {'staged': 0.4, 'mapped': 0.3}, 'mapped costs 25% less')


def uploads(*whole_ms: float, gpu_ms: float = 0.02) -> list[UploadSample]:
    return [UploadSample(ms * MS, gpu_ms * MS) for ms in whole_ms]


def test_a_coin_toss_stays_with_the_usual_one():
    choice = decide('staged', {
        'staged': uploads(0.30, 0.34, 0.31, 0.33), 'mapped': uploads(0.29, 0.30, 0.33, 0.30),
    })
    assert (choice.strategy, choice.clear) == ('staged', True)
    assert choice.medians_ms == {'staged': 0.32, 'mapped': 0.3}
    assert 'it would have to save 15%' in choice.why


def test_what_wins_clearly_is_taken():
    samples = {'staged': uploads(*[0.5] * 10), 'mapped': uploads(*[0.3] * 10)}
    assert decide('staged', samples).strategy == 'mapped'
    assert decide('mapped', samples).strategy == 'mapped'
    assert decide('mapped', {**samples, 'direct': uploads(*[0.1] * 10)}).strategy == 'direct'


def test_the_gpu_pays_for_memory_that_it_reads_across_the_bus():
    choice = decide('staged', {
        'staged': uploads(*[0.50] * 10, gpu_ms=0.02), 'mapped': uploads(*[0.40] * 10, gpu_ms=0.2),
    })
    assert choice.strategy == 'staged' and 'mapped costs 15% more' in choice.why


def test_a_spell_of_other_work_decides_nothing():
    slow, rest = [2.0] * 4, [0.30] * 6
    choice = decide('staged', {
        'staged': uploads(*slow, *rest), 'mapped': uploads(*slow, *[0.31] * 6),
    })
    assert choice.strategy == 'staged'


def test_a_win_in_some_rounds_only_is_neither_taken_nor_kept(tmp_path):
    choice = decide('staged', {
        'staged': uploads(*[0.5] * 10), 'mapped': uploads(*[0.3] * 7, *[0.6] * 3),
    })
    assert (choice.strategy, choice.clear) == ('staged', False)
    kept = KeptChoice(tmp_path, MACHINE)
    kept.save(choice)
    assert kept.load(['staged', 'mapped']) is None and not kept.path.exists()


def test_one_that_is_alone_is_taken():
    assert decide('staged', {'staged': uploads(0.3)}).strategy == 'staged'


@given(st.lists(st.floats(0.05, 20), min_size=1, max_size=30), st.floats(0.86, 5))
def test_without_the_margin_nothing_replaces_the_usual_one(whole_ms, factor):
    samples = {
        'staged': uploads(*whole_ms, gpu_ms=0),
        'mapped': uploads(*(ms * factor for ms in whole_ms), gpu_ms=0),
    }
    assert decide('staged', samples).strategy == 'staged'


def test_a_choice_is_kept_for_this_machine_alone(tmp_path):
    kept = KeptChoice(tmp_path, MACHINE)
    assert kept.load(['staged', 'mapped']) is None
    kept.save(MEASURED)
    for _ in range(2):
        found = kept.load(['staged', 'mapped'])
        assert found == dataclasses.replace(
            MEASURED, why=f'{MEASURED.why}, as measured at an earlier start'
        )
        kept.save(found)
    assert KeptChoice(tmp_path, MACHINE | {'driver': '13.1'}).load(['mapped']) is None
    assert kept.load(['staged']) is None, 'it is not possible any more'


RECORD = {'format': 2, 'machine': MACHINE, **dataclasses.asdict(MEASURED)}


@pytest.mark.parametrize('text', [
    '', '[]', '{}', '[' * 9000, json.dumps(RECORD | {'format': 1}),
    json.dumps(RECORD | {'machine': {}}), json.dumps(RECORD | {'strategy': ['mapped']}),
    json.dumps(RECORD | {'medians_ms': 3}), json.dumps(RECORD | {'medians_ms': {'a': 'b'}}),
    json.dumps(RECORD | {'why': None}), json.dumps(RECORD) + ' ' * 20000,
])
def test_a_spoilt_file_is_as_none(tmp_path, text):
    kept = KeptChoice(tmp_path, MACHINE)
    kept.path.write_text(text)
    assert kept.load(['staged', 'mapped']) is None


def test_a_file_that_others_may_write_is_not_read(tmp_path):
    kept = KeptChoice(tmp_path, MACHINE)
    kept.save(MEASURED)
    kept.path.chmod(0o666)
    assert kept.load(['staged', 'mapped']) is None


@pytest.mark.skipif(os.geteuid() == 0, reason='root writes anywhere')
def test_a_folder_that_cannot_be_written_costs_nothing_but_time(tmp_path):
    (tmp_path / 'closed').mkdir(mode=0o500)
    KeptChoice(tmp_path / 'closed', MACHINE).save(MEASURED)


def test_a_folder_that_is_a_file_costs_nothing_but_time(tmp_path):
    Path(tmp_path, 'file').write_text('')
    KeptChoice(tmp_path / 'file', MACHINE).save(MEASURED)
