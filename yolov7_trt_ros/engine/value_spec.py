"""ValueSpec: a setting with a name, a default and what is accepted for it. No ROS."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from typing import Any

from yolov7_trt_ros.core.plain_text import one_line
from yolov7_trt_ros.errors import SettingError

MOST_CHARACTERS = 65536
"""Maximum length of a text."""


@dataclasses.dataclass(frozen=True)
class ValueSpec:
    """
    One setting; its type is that of its default.

    Attributes
    ----------
    name, default, description
        As `ros2 param describe` shows them; the description names the unit.
    minimum, maximum
        Inclusive range of numbers.
    choices
        Accepted texts; empty accepts any.
    reads
        Function that must accept a value, if range and choices are not enough: raises
        SettingError otherwise.
    separator
        Joins the items of a list of strings.

    """

    name: str
    default: float | int | bool | str
    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    reads: Callable[[Any], object] | None = None
    separator: str = ','

    def check(self, value: Any) -> float | int | bool | str:
        """
        Return `value` in the type of the default.

        Integers are accepted for doubles; integers and lists of strings or integers (joined by
        the separator) for strings; false and true for `off` and `on`, as YAML reads them.

        Raises
        ------
        SettingError
            Wrong type or out of range; says what was expected and found.

        """
        if isinstance(self.default, str):
            return self._check_text(value)
        if isinstance(self.default, bool) or isinstance(value, bool):
            if type(value) is not type(self.default):
                raise self._wrong_type(value)
            self._try_to_read(value)
            return bool(value)
        if isinstance(self.default, float) and isinstance(value, int):
            value = float(value)
        if type(value) is not type(self.default):
            raise self._wrong_type(value)
        return self._check_range(value)

    def _check_text(self, value: Any) -> str:
        if isinstance(value, bool) and _OFF_ON[value] in self.choices:
            return _OFF_ON[value]
        items = value if isinstance(value, (list, tuple)) else [value]
        if any(isinstance(item, bool) or not isinstance(item, (str, int)) for item in items):
            raise self._wrong_type(value)
        text = self.separator.join(map(str, items))
        if len(text) > MOST_CHARACTERS:
            raise SettingError(
                f'{self.name} may have {MOST_CHARACTERS} characters, got {len(text)}'
            )
        if self.choices and text not in self.choices:
            raise SettingError(
                f'{self.name} must be one of {", ".join(self.choices)}, '
                f'got {one_line(repr(text), 100)}'
            )
        self._try_to_read(text)
        return text

    def _try_to_read(self, value: float | int | str) -> None:
        if self.reads is None:
            return
        try:
            self.reads(value)
        except SettingError as exc:
            if self.name in str(exc):
                raise
            raise SettingError(f'{self.name}: {exc}') from exc

    def _check_range(self, value: float | int) -> float | int:
        low, high = self.minimum, self.maximum
        # written so that NaN fails
        if not ((low is None or value >= low) and (high is None or value <= high)):
            raise SettingError(f'{self.name} must be within {self.range_text()}, got {value}')
        self._try_to_read(value)
        return value

    def range_text(self) -> str:
        """Return `0.0..1.0`, open if there is no limit."""
        ends = ('' if end is None else _shortest(end) for end in (self.minimum, self.maximum))
        return '..'.join(ends)

    def type_text(self) -> str:
        """Return the ROS type: double, integer, bool or string."""
        return {float: 'double', int: 'integer', bool: 'bool', str: 'string'}[type(self.default)]

    def _wrong_type(self, value: Any) -> SettingError:
        article = 'an' if self.type_text() == 'integer' else 'a'
        found = f'{type(value).__name__} {one_line(repr(value), 100)}'
        if value is None:  # what ROS 2 makes of []
            found = "no value, as of an empty list; an empty text is ''"
        return SettingError(f'{self.name} must be {article} {self.type_text()}, got {found}')


_OFF_ON = ('off', 'on')


def _shortest(number: float | int) -> str:
    return str(number) if isinstance(number, int) else f'{number:g}'
