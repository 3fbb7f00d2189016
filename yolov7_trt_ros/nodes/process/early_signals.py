"""Ctrl-C while a node is still importing ends it quietly; nothing heavy may be imported here."""

from __future__ import annotations

import os
import signal


def end_on_sigint() -> None:
    """Have SIGINT end the process with exit status 0, until `run_node` takes it over."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
