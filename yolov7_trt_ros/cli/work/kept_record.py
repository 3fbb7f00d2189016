"""Kept records: JSON on one line with its own checksum, so that a damaged one counts as none."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

from yolov7_trt_ros.errors import ModelFormatError
from yolov7_trt_ros.plain_file import read_plain_file

_FORM = '1'
"""Another one where the content of any record changes: those of before are not read then."""

_MARK_CHARACTERS = 24
_MOST_BYTES = 1 << 31
_UNREADABLE = (ValueError, LookupError, TypeError, RecursionError)


def read_kept(path: Path) -> bytes | None:
    """Return what is in a file of an earlier run; None without one, or if it is a pipe, say."""
    with contextlib.suppress(OSError, ModelFormatError):
        return read_plain_file(path, _MOST_BYTES)
    return None


def sealed(record: Any) -> str:
    """Return JSON-ready values as one line with a checksum."""
    text = json.dumps(record)
    return json.dumps({'check': _check_of(text), 'record': record})


def unsealed(text: str | bytes) -> Any:
    """Return what `sealed` got; None for any other text, as of a damaged file."""
    with contextlib.suppress(*_UNREADABLE):
        found = json.loads(text)
        if _check_of(json.dumps(found['record'])) == found['check']:
            return found['record']
    return None


def _check_of(text: str) -> str:
    return hashlib.sha256(f'{_FORM}\n{text}'.encode()).hexdigest()[:_MARK_CHARACTERS]
