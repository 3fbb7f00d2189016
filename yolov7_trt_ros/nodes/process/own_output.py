"""Reserve standard output for a node's data: Fast DDS 2 prints its errors there."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def take_stdout() -> TextIO:
    """
    Return standard output; redirect all other writes to it to standard error.

    Call it before a node is made. Without standard output (`>&-`) the data is discarded.

    """
    if sys.stdout is None:
        return open(os.devnull, 'w', encoding='utf-8')  # noqa: SIM115 (as long as the process)
    sys.stdout.flush()
    output = os.fdopen(
        os.dup(sys.stdout.fileno()), 'w', encoding=sys.stdout.encoding, errors=sys.stdout.errors
    )
    if sys.stderr is not None:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return output
