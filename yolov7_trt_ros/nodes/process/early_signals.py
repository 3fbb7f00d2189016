"""End quietly on Ctrl-C during imports; nothing heavy may be imported here."""

from __future__ import annotations

import os
import signal


def end_on_sigint() -> None:
    """Make SIGINT end the process with exit status 0, until `run_node` handles it."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
