"""Text of others on a terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
import pytest

from yolov7_trt_ros.core.plain_text import LONGEST_QUOTE, printable, quoted


@pytest.mark.parametrize(('text', 'wanted'), [
    ('/camera/image_raw', '/camera/image_raw'), ('Köln 東京', 'Köln 東京'), ('a\nb', 'a?b'),
    ('\x1b[31mred\x1b[0m', '?[31mred?[0m'), ('bell\a', 'bell?'), ('a\u202eb\u2066', 'a?b?'),
    ('\x9b2J\x7f\t\r', '?2J???'), ('\ud800', '?'),
])
def test_what_a_terminal_would_act_upon_is_replaced(text: str, wanted: str) -> None:
    assert printable(text) == wanted


@given(st.text())
def test_nothing_else_is_left(text: str) -> None:
    shown = printable(text)
    assert len(shown) == len(text)
    assert shown.isprintable()


@given(st.text(max_size=500))
def test_a_quote_is_short_and_on_one_line(text: str) -> None:
    shown = quoted(text)
    assert len(shown) <= 2 * LONGEST_QUOTE + 8
    assert shown.isprintable()
