"""Make foreign text safe for terminals and messages: no control characters, limited length."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_QUOTE = 80
LINE_CHARACTERS = 400
"""Default limit of one line, for one reason or status."""
_ENDS = 0.75  # share of the limit that the beginning gets


def printable(text: str) -> str:
    """
    Return text with `?` in place of non-printable characters, line ends included.

    Foreign names of topics, classes and files may have escape sequences, bells, or marks that
    change the direction of writing.

    """
    if text.isprintable():
        return text
    return ''.join(each if each.isprintable() else '?' for each in text)


def quoted(text: str) -> str:
    """Return foreign text for a message: printable, quoted, at most `LONGEST_QUOTE` long."""
    short = text if len(text) <= LONGEST_QUOTE else f'{text[:LONGEST_QUOTE]}...'
    return repr(printable(short))


def listed(names: Sequence[str], most: int) -> str:
    """Return the first names with commas, and how many more there are: `a, b and 3 more`."""
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return ', '.join(names[:most]) + more


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
