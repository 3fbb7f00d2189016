"""Dataclasses as records of JSON: there and back, and all that is refused."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import enum
import json
from typing import Annotated, Any

import pytest

from yolov7_trt_ros.records import from_record, Limits, to_record, with_key


class Colour(enum.Enum):
    RED = 'red'


@dataclasses.dataclass(frozen=True)
class Part:
    name: str
    sides: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Whole:
    text: str
    number: float
    is_set: bool
    count: Annotated[int, Limits(1, 10)]
    colour: Colour
    parts: tuple[Part, ...]
    error: str = dataclasses.field(default='', metadata=with_key('why_not'))
    shares: Mapping[str, float] = dataclasses.field(default_factory=dict)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    maybe: Part | None = None
    shape: tuple[int | None, ...] = ()


FULL = Whole(
    'käse', 1.5, True, 10, Colour.RED, (Part('a', (1, 2)), Part('b', (3, 4))), 'broken',
    {'x': 2.0}, {'a': 1, 'b': None, 'c': True, 'd': 'e', 'f': 0.5}, Part('c', (0, 0)), (None, 3),
)


def test_there_and_back() -> None:
    record = json.loads(json.dumps(to_record(FULL)))
    assert from_record(Whole, record, 'the record') == FULL
    assert record['why_not'] == 'broken' and record['colour'] == 'red' and 'error' not in record


def test_what_has_a_default_may_be_missing_and_other_keys_are_ignored() -> None:
    record = {'text': '', 'number': 1, 'is_set': False, 'count': 1, 'colour': 'red', 'parts': [],
              'later': [1]}
    found = from_record(Whole, record, 'the record')
    assert found == Whole('', 1.0, False, 1, Colour.RED, ()) and type(found.number) is float


def test_keys_may_be_required_though_fields_have_defaults_and_unknown_ones_refused() -> None:
    record = json.loads(json.dumps(to_record(FULL)))
    strict = Limits(optional=frozenset({'why_not'}), refuse_unknown=True)
    assert from_record(Whole, record, 'the record', strict) == FULL
    del record['why_not']
    assert from_record(Whole, record, 'the record', strict).error == ''
    shares = record.pop('shares')
    with pytest.raises(ValueError, match="^the record has no 'shares'$"):
        from_record(Whole, record, 'the record', strict)
    record['shares'], record['maybe']['later'] = shares, 1
    with pytest.raises(ValueError, match="^maybe has an unknown key 'later'$"):
        from_record(Whole, record, 'the record', strict)


@pytest.mark.parametrize(('name', 'value', 'message'), [
    ('text', 5, 'text: expected text, found 5'),
    ('text', None, 'text: expected text, found None'),
    ('number', '1', 'number: expected a number, found'),
    ('number', True, 'number: expected a number, found True'),
    ('number', float('nan'), 'number: expected a number'),
    ('number', float('inf'), 'number: expected a number'),
    ('number', 10**400, 'number: expected a number'),
    ('is_set', 1, 'is_set: expected true or false, found 1'),
    ('count', 1.0, r'count: expected a whole number within 1\.\.10'),
    ('count', True, 'count: expected a whole number'),
    ('count', 0, r'count: expected a whole number within 1\.\.10, found 0'),
    ('colour', 'blue', "colour: expected one of red, found 'blue'"),
    ('colour', [], 'colour: expected one of red'),
    ('parts', 'ab', 'parts: expected a list'),
    ('parts', [3], 'parts: expected an object, found 3'),
    ('parts', [{'name': 'x'}], "parts has no 'sides'"),
    ('parts', [{'name': 'x', 'sides': [1]}], 'sides: expected a list of 2 values'),
    ('why_not', 1, 'why_not: expected text'),
    ('shares', [], 'shares: expected an object'),
    ('shares', {'x': 'y'}, r'shares\.x: expected a number'),
    ('options', {'x': []}, r'options\.x: expected a plain value'),
    ('maybe', 'x', 'maybe: expected an object'),
    ('shape', [None, 'x'], 'shape: expected a whole number'),
])
def test_a_value_of_another_type(name: str, value: Any, message: str) -> None:
    record = to_record(FULL) | {name: value}
    with pytest.raises(ValueError, match=message):
        from_record(Whole, record, 'the record')


@pytest.mark.parametrize('record', [None, [], 'text', 3])
def test_what_is_no_object(record: Any) -> None:
    with pytest.raises(ValueError, match='the record: expected an object'):
        from_record(Whole, record, 'the record')


def test_the_limits_themselves_are_taken() -> None:
    limits = Limits(0, 9, strict_text=True)
    assert from_record(Part, {'name': '', 'sides': [0, 9]}, 'it', limits) == Part('', (0, 9))
    with pytest.raises(ValueError, match=r'sides: .* within 0\.\.9, found 10'):
        from_record(Part, {'name': '', 'sides': [0, 10]}, 'it', limits)
    with pytest.raises(ValueError, match="it has no 'name'"):
        from_record(Part, {'sides': [0, 9]}, 'it', limits)


@pytest.mark.parametrize('text', ['\0', '\ud800'])
def test_text_that_no_file_has_is_refused_on_request(text: str) -> None:
    record = {'name': text, 'sides': [1, 2]}
    assert from_record(Part, record, 'it').name == text
    with pytest.raises(ValueError, match="NUL|'utf-8' codec"):
        from_record(Part, record, 'it', Limits(strict_text=True))


def test_a_type_that_json_has_not_is_a_fault_of_the_class() -> None:
    @dataclasses.dataclass
    class Odd:
        x: set[int]

    with pytest.raises(TypeError, match='cannot be read from JSON'):
        from_record(Odd, {'x': []}, 'it')
