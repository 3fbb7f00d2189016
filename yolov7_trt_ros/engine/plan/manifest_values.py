"""Values of a manifest, each of the type and in the range that the engine counts on."""

from __future__ import annotations

from collections.abc import Mapping
import math
import reprlib
from typing import Any

LARGEST = 2**31 - 1
"""Of sides, strides and counts: what TensorRT's dimensions hold."""


class Values:
    """
    An object of JSON, read by name.

    Parameters
    ----------
    record
        The object; anything else is refused.
    where
        Its name, for messages.

    Raises
    ------
    ValueError
        It is no object, or (of the methods) a value is missing, of another type or out of range.

    """

    def __init__(self, record: object, where: str) -> None:
        if not isinstance(record, Mapping):
            raise _unexpected(where, 'an object', record)
        self._record: Mapping[str, Any] = record
        self._where = where

    def __getitem__(self, name: str) -> Any:
        """Return a value as it is."""
        if name not in self._record:
            raise ValueError(f'{self._where} has no {name!r}')
        return self._record[name]

    def __contains__(self, name: str) -> bool:
        """Whether there is a value of this name; older manifests lack some."""
        return name in self._record

    def text(self, name: str) -> str:
        """Return a string."""
        return _text(self[name], name)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of strings."""
        return tuple(_text(value, name) for value in _listed(self[name], name))

    def named_texts(self, name: str) -> dict[str, str]:
        """Return an object of strings."""
        record = self.inner(name)._record
        return {_text(key, name): _text(value, f'{name}.{key}') for key, value in record.items()}

    def whole(self, name: str, least: int = 0, most: int = LARGEST) -> int:
        """Return a whole number within a range."""
        return _whole(self[name], name, least, most)

    def wholes(self, name: str, least: int = 1) -> tuple[int, ...]:
        """Return a list of whole numbers."""
        return tuple(_whole(value, name, least, LARGEST) for value in _listed(self[name], name))

    def sides(self, name: str) -> tuple[int | None, ...]:
        """Return the shape of a tensor; None where it is free."""
        return tuple(
            None if value is None else _whole(value, name, 0, LARGEST)
            for value in _listed(self[name], name)
        )

    def number(self, name: str) -> float:
        """Return a finite number, not below 0."""
        value = self[name]
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _unexpected(name, 'a number', value)
        if not 0 <= value <= LARGEST or not math.isfinite(value):
            raise _unexpected(name, 'a number not below 0', value)
        return float(value)

    def flag(self, name: str) -> bool:
        """Return true or false."""
        value = self[name]
        if not isinstance(value, bool):
            raise _unexpected(name, 'true or false', value)
        return value

    def inners(self, name: str) -> tuple[Values, ...]:
        """Return a list of objects."""
        return tuple(Values(value, name) for value in _listed(self[name], name))

    def inner(self, name: str) -> Values:
        """Return an object."""
        return Values(self[name], name)

    def options(self, name: str) -> dict[str, Any]:
        """Return an object of plain values: text, numbers, true, false and null."""
        record = self.inner(name)._record
        for option, value in record.items():
            if isinstance(value, int) and not -LARGEST <= value <= LARGEST:
                raise _unexpected(f'{name}.{option}', 'a smaller number', value)
            if isinstance(value, str):
                _text(value, f'{name}.{option}')
            elif not isinstance(value, (int, float, type(None))):
                raise _unexpected(f'{name}.{option}', 'a plain value', value)
        return dict(record)

    def pairs(self, name: str) -> tuple[tuple[tuple[float, float], ...], ...]:
        """Return lists of lists of two finite numbers above 0, as anchors are."""
        return tuple(
            tuple(_pair(pair, name) for pair in _listed(head, name))
            for head in _listed(self[name], name)
        )


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise _unexpected(name, 'text', value)
    if '\0' in value:
        raise _unexpected(name, 'text without NUL', value)
    value.encode()  # raises ValueError where a half of a surrogate pair is in it
    return value


def _whole(value: object, name: str, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _unexpected(name, f'a whole number within {least}..{most}', value)
    return value


def _listed(value: object, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise _unexpected(name, 'a list', value)
    return value


def _pair(value: object, name: str) -> tuple[float, float]:
    numbers = _listed(value, name)
    if len(numbers) != 2 or not all(
        isinstance(each, (int, float)) and not isinstance(each, bool)
        and 0 < each <= LARGEST for each in numbers
    ):
        raise _unexpected(name, 'pairs of numbers above 0', value)
    return float(numbers[0]), float(numbers[1])


def _unexpected(name: str, wanted: str, found: object) -> ValueError:
    return ValueError(f'{name}: expected {wanted}, found {reprlib.repr(found)}')
