"""Make foreign text safe for terminals and messages: no control characters, limited length."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_QUOTE = 80


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
