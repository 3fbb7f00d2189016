"""What an interrupted command kept is read back whole, or counts as not there."""

from __future__ import annotations

from collections.abc import Callable
import json
import os
from pathlib import Path
from typing import Any

import pytest

from yolov7_trt_ros.cli.main import main
from yolov7_trt_ros.cli.work.frame_journal import FrameJournal
from yolov7_trt_ros.cli.work.kept_record import sealed, unsealed
from yolov7_trt_ros.cli.work.work_folder import STATE, WorkFolder
from yolov7_trt_ros.errors import InputError

RECORD = {'facts': 'a', 'frames': [{'boxes': [1.5, 2.0], 'of': None}], 'name': 'é\udce9\u2028'}


def replaced(name: str, value: Any) -> Callable[[Any], Any]:
    """Return what gives a key a value, wherever it is in a JSON value."""
    def change(found: Any) -> Any:
        if isinstance(found, dict):
            return {key: value if key == name else change(each) for key, each in found.items()}
        return [change(each) for each in found] if isinstance(found, list) else found

    return change


DAMAGES: dict[str, Callable[[Any], Any]] = {
    'empty object': lambda found: {}, 'a list': lambda found: [found], 'a number': lambda found: 1,
    'no facts': replaced('facts', None), 'frames': replaced('frames', 7),
    'boxes': replaced('boxes', 'x'), 'classes': replaced('classes', None),
    'moved labels': replaced('left', 0.0), 'sha256': replaced('sha256', 5),
    'scores': replaced('score', 0.999),
}


def test_a_kept_record_is_read_as_it_was_or_not_at_all() -> None:
    text = sealed(RECORD)
    assert '\n' not in text and unsealed(text) == RECORD
    for at in range(len(text)):
        damaged = text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1:]
        assert unsealed(damaged) in (None, RECORD)
        assert unsealed(text[:at]) is None
    for other in ('', 'null', '[]', '{}', '[' * 100_000, '{"check": 1, "record": 2}', b'\xff'):
        assert unsealed(other) is None


def test_a_damaged_line_of_a_journal_costs_one_frame(tmp_path: Path) -> None:
    path = tmp_path / 'journal'
    with FrameJournal(path) as journal:
        for key in 'abc':
            journal.add(key, {'key': key})
    first, second, third = path.read_bytes().splitlines()
    path.write_bytes(b'\n'.join([first, second[:-9] + b'\xff', b'[[1], 2]', third[:-1]]))
    with FrameJournal(path) as journal:
        assert [journal.get(key) for key in 'abc'] == [{'key': 'a'}, None, None]
        journal.add('b', {'key': 'b'})
    with FrameJournal(path) as journal:
        assert journal.get('b') == {'key': 'b'}


@pytest.mark.parametrize('damage', DAMAGES, ids=DAMAGES)
def test_damaged_records_of_label_are_made_again(
    damage: str, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'set'
    words = ['label', str(photographs), '-o', str(out), '--format', 'coco', '--size', '320']
    assert main(words) == 0
    whole = (out / 'annotations/instances_default.json').read_bytes()
    records = [path for path in (out / STATE).glob('*.json') if path.name != 'work.json']
    assert len(records) == 2
    damaged = 0
    for path in records:
        record = json.loads(path.read_text())
        damaged += DAMAGES[damage](record) != record
        path.write_text(json.dumps(DAMAGES[damage](record)))
        capsys.readouterr()
        status = main(words)
        said = capsys.readouterr().err
        assert status == 0 or 'was edited since it was written, and is not replaced' in said
        assert (out / 'annotations/instances_default.json').read_bytes() == whole
    assert damaged


def test_a_folder_in_which_nothing_was_made_takes_other_settings(
    tmp_path: Path, photographs: Path
) -> None:
    words = ['label', str(photographs), '-o', str(tmp_path / 'set'), '--format', 'coco', '--size']
    assert main([*words, '64', '--class-map', 'nosuch=thing']) == 2
    assert main([*words, '64']) == 0
    assert main([*words, '96']) == 1


@pytest.mark.parametrize('mark', ['[]', '{}', '{"settings": [1]}', '{"settings": 5}', 'null', ''])
def test_a_damaged_mark_is_an_error(
    mark: str, tmp_path: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with WorkFolder(tmp_path / 'set', 'label', {}):
        pass
    (tmp_path / 'set' / 'made').touch()
    (tmp_path / 'set' / STATE / 'work.json').write_text(mark)
    assert main(['label', str(photographs), '-o', str(tmp_path / 'set'), '--format', 'coco']) == 1
    assert 'work.json cannot be read: choose another folder' in capsys.readouterr().err


def test_a_pipe_instead_of_a_record_is_no_record(tmp_path: Path) -> None:
    with WorkFolder(tmp_path / 'set', 'label', {}) as work:
        os.mkfifo(work.state_file('a', '.json'))
        assert work.done('a') is None
        work.keep('a', {'of': 1})
        assert work.done('a') == {'of': 1}
        os.mkfifo(journal := work.state_file('b', '.jsonl'))
        with pytest.raises(InputError, match='it is no file'), FrameJournal(journal):
            pass
    (tmp_path / 'set' / STATE / 'work.json').unlink()
    os.mkfifo(tmp_path / 'set' / STATE / 'work.json')
    with pytest.raises(InputError, match=r'work\.json cannot be read'):
        WorkFolder(tmp_path / 'set', 'label', {}).__enter__()
