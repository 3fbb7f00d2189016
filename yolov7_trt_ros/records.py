"""Convert dataclasses to JSON records and back, checking each value against its annotation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
import enum
import functools
import reprlib
import sys
import types
import typing
from typing import Any, TypeVar

T = TypeVar('T')


@dataclasses.dataclass(frozen=True)
class Limits:
    """
    What is accepted.

    A field has limits of its own as `Annotated[int, Limits(0, 10)]`.

    Parameters
    ----------
    least, most
        Range of numbers.
    strict_text
        Refuse NUL and halves of surrogate pairs, which no file has.
    optional
        Keys that may be missing, of any dataclass inside; None: those of fields with a default.
    refuse_unknown
        Refuse keys that no field has, instead of ignoring them.

    """

    least: float = -sys.float_info.max
    most: float = sys.float_info.max
    strict_text: bool = False
    optional: frozenset[str] | None = None
    refuse_unknown: bool = False


_Reader = Callable[[Any, str, Limits], Any]


def with_key(key: str) -> dict[str, str]:
    """Return the metadata of a field whose key in the record is not its name."""
    return {'key': key}


def to_record(value: Any) -> Any:
    """Return a dataclass JSON-ready, with all dataclasses inside; `from_record` reads it."""
    if dataclasses.is_dataclass(value):
        return {
            _key_of(field): to_record(getattr(value, field.name))
            for field in dataclasses.fields(value)
        }
    if isinstance(value, (list, tuple)):
        return [to_record(each) for each in value]
    if isinstance(value, Mapping):
        return {name: to_record(each) for name, each in value.items()}
    return value.value if isinstance(value, enum.Enum) else value


def from_record(kind: type[T], record: object, name: str, limits: Limits = Limits()) -> T:
    """
    Return a dataclass from an object of JSON.

    Parameters
    ----------
    kind
        The dataclass. Its fields may be text, numbers, bool, enums, None, tuples, mappings of
        text, other dataclasses, or Any for whatever is text, a number, true, false or null.
    record, name
        The object, and what it is called in messages.
    limits
        Of all values whose field has no limits of its own.

    Raises
    ------
    ValueError
        A value is missing, unknown, of another type or out of its limits; the message names it.

    """
    made: T = _read_fields(kind, record, name, limits)
    return made


def _key_of(field: dataclasses.Field[Any]) -> str:
    return str(field.metadata.get('key', field.name))


@functools.cache
def _reader_of(annotation: Any) -> _Reader:
    """Return what reads values of a type."""
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return functools.partial(_read_fields, annotation)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return functools.partial(_read_choice, annotation)
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return functools.partial(_read_limited, _reader_of(inner[0]), inner[1])
    if origin is tuple and inner[-1] is Ellipsis:
        return functools.partial(_read_list, _reader_of(inner[0]))
    if origin is tuple:
        return functools.partial(_read_tuple, tuple(map(_reader_of, inner)))
    if origin in (dict, Mapping):
        return functools.partial(_read_mapping, _reader_of(inner[1]))
    if origin in (types.UnionType, typing.Union) and len(inner) == 2 and inner[1] is type(None):
        return functools.partial(_read_optional, _reader_of(inner[0]))
    raise TypeError(f'{annotation} cannot be read from JSON')


@functools.cache
def _fields_of(kind: Any) -> tuple[tuple[str, str, bool, _Reader], ...]:
    """Return name, key, whether it has no default, and reader of each field."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return tuple(
        (field.name, _key_of(field), _is_required(field), _reader_of(hints[field.name]))
        for field in dataclasses.fields(kind)
    )


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def _read_fields(kind: Any, record: Any, name: str, limits: Limits) -> Any:
    if not isinstance(record, Mapping):
        raise _unexpected(name, 'an object', record)
    values = {}
    for field, key, is_required, read in _fields_of(kind):
        if key in record:
            values[field] = read(record[key], key, limits)
        elif is_required or limits.optional is not None and key not in limits.optional:
            raise ValueError(f'{name} has no {key!r}')
    if limits.refuse_unknown and len(values) < len(record):
        known = {key for _, key, _, _ in _fields_of(kind)}
        unknown = next(each for each in record if each not in known)
        raise ValueError(f'{name} has an unknown key {reprlib.repr(unknown)}')
    return kind(**values)


def _read_limited(read: _Reader, limits: Limits, value: Any, name: str, _: Limits) -> Any:
    return read(value, name, limits)


def _read_optional(read: _Reader, value: Any, name: str, limits: Limits) -> Any:
    return None if value is None else read(value, name, limits)


def _read_list(read: _Reader, value: Any, name: str, limits: Limits) -> Any:
    if not isinstance(value, (list, tuple)):
        raise _unexpected(name, 'a list', value)
    return tuple([read(each, name, limits) for each in value])


def _read_tuple(readers: tuple[_Reader, ...], value: Any, name: str, limits: Limits) -> Any:
    if not isinstance(value, (list, tuple)) or len(value) != len(readers):
        raise _unexpected(name, f'a list of {len(readers)} values', value)
    return tuple([read(each, name, limits) for read, each in zip(readers, value, strict=True)])


def _read_mapping(read: _Reader, value: Any, name: str, limits: Limits) -> Any:
    if not isinstance(value, Mapping):
        raise _unexpected(name, 'an object', value)
    return {
        _read_text(each, name, limits): read(inner, f'{name}.{each}', limits)
        for each, inner in value.items()
    }


def _read_choice(kind: type[enum.Enum], value: Any, name: str, _: Limits) -> Any:
    known = {each.value: each for each in kind}
    if not isinstance(value, str) or value not in known:
        raise _unexpected(name, f'one of {", ".join(known)}', value)
    return known[value]


def _read_text(value: Any, name: str, limits: Limits) -> str:
    if not isinstance(value, str):
        raise _unexpected(name, 'text', value)
    if limits.strict_text:
        if '\0' in value:
            raise _unexpected(name, 'text without NUL', value)
        value.encode()  # raises ValueError where half of a surrogate pair is in it
    return value


def _read_flag(value: Any, name: str, _: Limits) -> bool:
    if not isinstance(value, bool):
        raise _unexpected(name, 'true or false', value)
    return value


def _read_whole(value: Any, name: str, limits: Limits) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not _is_within(value, limits):
        raise _unexpected(name, f'a whole number{_range(limits)}', value)
    return value


def _read_number(value: Any, name: str, limits: Limits) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not _is_within(value, limits):
        raise _unexpected(name, f'a number{_range(limits)}', value)
    return float(value)


def _is_within(value: float, limits: Limits) -> bool:
    return limits.least <= value <= limits.most  # refuses NaN


def _range(limits: Limits) -> str:
    is_any = (limits.least, limits.most) == (Limits.least, Limits.most)
    return '' if is_any else f' within {limits.least}..{limits.most}'


def _read_plain(value: Any, name: str, limits: Limits) -> Any:
    if value is None or isinstance(value, bool):
        return value
    read = _PLAIN.get(type(value))
    if read is None:
        raise _unexpected(name, 'a plain value', value)
    return read(value, name, limits)


_PLAIN: dict[Any, _Reader] = {
    str: _read_text, bool: _read_flag, int: _read_whole, float: _read_number, Any: _read_plain,
}


def _unexpected(name: str, wanted: str, found: object) -> ValueError:
    return ValueError(f'{name}: expected {wanted}, found {reprlib.repr(found)}')
