"""Texts from outside as one printable line of limited length, for logs and answers."""

from __future__ import annotations

import re

_SOURCE_PLACES = re.compile(r', at /[^,\s]{1,200}\.(?:c|cc|cpp|h|hpp):\d+')
LINE_CHARACTERS = 400
"""Default limit, for one reason or status."""
_ENDS = 0.75  # share of the limit that the beginning gets


def error_text(error: BaseException) -> str:
    """Return the text of an error, without the places in the sources of rcl that it names."""
    return _SOURCE_PLACES.sub('', str(error))


def one_line(text: object, most: int = LINE_CHARACTERS) -> str:
    """
    Return a text as one line of at most `most` characters, 40 or more.

    White space becomes single spaces, unprintable characters become `?`. A long text keeps its
    beginning and end, with the number of characters left out between them. The time needed
    depends on `most`, not on the length of the text.

    """
    line = str(text)
    left_out = len(line) - most
    if left_out > 0:
        tail = int(most * (1 - _ENDS))
        mark = f' ... ({left_out} characters) ... '
        line = line[: most - tail - len(mark)] + mark + line[-tail:]
    return ''.join(each if each.isprintable() else '?' for each in ' '.join(line.split()))


def describe_error(error: BaseException, most: int = LINE_CHARACTERS) -> str:
    """Return `ValueError: its text`, or the name of the class alone."""
    text, kind = error_text(error), type(error).__name__
    return one_line(f'{kind}: {text}' if text else kind, most)
