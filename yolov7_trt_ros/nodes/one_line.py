"""Texts from outside as one printable line of limited length, for logs and answers."""

from __future__ import annotations

import re

from yolov7_trt_ros.core.plain_text import LINE_CHARACTERS, one_line

_SOURCE_PLACES = re.compile(r', at /[^,\s]{1,200}\.(?:c|cc|cpp|h|hpp):\d+')


def error_text(error: BaseException) -> str:
    """Return the text of an error, without the places in the sources of rcl that it names."""
    return _SOURCE_PLACES.sub('', str(error))


def describe_error(error: BaseException, most: int = LINE_CHARACTERS) -> str:
    """Return `ValueError: its text`, or the name of the class alone."""
    text, kind = error_text(error), type(error).__name__
    return one_line(f'{kind}: {text}' if text else kind, most)
