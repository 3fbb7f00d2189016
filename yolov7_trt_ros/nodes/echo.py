"""Texts of others, fit to be told again: in one line, printable, and not longer than a limit."""

from __future__ import annotations

import re

_SOURCE_PLACES = re.compile(r', at /[^,\s]{1,200}\.(?:c|cc|cpp|h|hpp):\d+')
LINE_CHARACTERS = 400
"""Of what is said about one thing: a reason, a status."""
_ENDS = 0.75  # share of the limit that the beginning gets


def said(error: BaseException) -> str:
    """Return what an error says, without the places in the sources of rcl that it names."""
    return _SOURCE_PLACES.sub('', str(error))


def echo(text: object, most: int = LINE_CHARACTERS) -> str:
    """
    Return a text in one line of at most `most` characters, 40 or more.

    White space becomes single spaces, what cannot be printed `?`; of a long text the beginning
    and the end stay, with the number of characters left out between them. The time depends on
    `most`, not on the length of the text.

    """
    line = str(text)
    left_out = len(line) - most
    if left_out > 0:
        tail = int(most * (1 - _ENDS))
        mark = f' ... ({left_out} characters) ... '
        line = line[: most - tail - len(mark)] + mark + line[-tail:]
    return ''.join(each if each.isprintable() else '?' for each in ' '.join(line.split()))


def describe_error(error: BaseException, most: int = LINE_CHARACTERS) -> str:
    """Return `ValueError: what it says`, or the name of the class alone."""
    text, kind = said(error), type(error).__name__
    return echo(f'{kind}: {text}' if text else kind, most)
