"""What people read about the parameters, in docs and in config, is what the node declares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from yolov7_trt_ros.nodes.detector_parameters.parameters import PARAMETERS

REPOSITORY = Path(__file__).resolve().parents[2]
INTERFACES = REPOSITORY / 'docs' / 'interfaces.md'


def test_the_table_in_the_docs_is_current(tool: Any) -> None:
    text = INTERFACES.read_text(encoding='utf-8')
    assert text == tool.replace_table(text), 'tools/parameter_table.py --write docs/interfaces.md'


def test_every_parameter_has_a_row(tool: Any) -> None:
    rows = tool.parameter_table().splitlines()[2:]
    assert [row.split('|')[1].strip(' `') for row in rows] == [spec.name for spec in PARAMETERS]


def test_check_tells_a_stale_table_and_write_mends_it(
    tool: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / 'interfaces.md'
    document.write_text(f'before\n{tool.BEGIN}\n| old |\n{tool.END}\nafter\n', encoding='utf-8')
    assert tool.main(['--check', str(document)]) == 1
    assert '--write' in capsys.readouterr().err
    assert tool.main(['--write', str(document)]) == 0
    assert tool.main(['--check', str(document)]) == 0
    text = document.read_text(encoding='utf-8')
    assert text.startswith('before\n') and text.endswith('\nafter\n') and '| old |' not in text


@pytest.mark.parametrize('text', ['nothing', '{END}\n{BEGIN}', '{BEGIN}\n{BEGIN}\n{END}'])
def test_a_document_without_its_markers_is_refused(tool: Any, tmp_path: Path, text: str) -> None:
    document = tmp_path / 'interfaces.md'
    document.write_text(text.format(BEGIN=tool.BEGIN, END=tool.END), encoding='utf-8')
    for option in ('--check', '--write'):
        assert tool.main([option, str(document)]) == 1


def test_the_parameter_file_holds_the_defaults() -> None:
    path = REPOSITORY / 'config' / 'detector.yaml'
    values = yaml.safe_load(path.read_text(encoding='utf-8'))['/**']['ros__parameters']
    expected = {spec.name: spec.default for spec in PARAMETERS if spec.name != 'autostart'}
    specs = {spec.name: spec for spec in PARAMETERS}
    assert {name: specs[name].check(value) for name, value in values.items()} == expected
