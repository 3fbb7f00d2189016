"""Standard output for a node's data alone: Fast DDS 2 (Humble, Jazzy) writes its errors there."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def take_stdout() -> TextIO:
    """
    Return standard output as it was; what anybody else writes there goes to standard error.

    To be called before a node is made. Where there is none (`>&-`), the data goes nowhere.

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
