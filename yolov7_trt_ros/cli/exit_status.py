"""Exit statuses of the `yolov7_trt` command."""

from __future__ import annotations

FAILURE = 1
USAGE = 2
INTERRUPTED = 130
"""As shells report a command that SIGINT ended."""

BROKEN_PIPE = 141
"""As shells report a command that SIGPIPE ended."""
