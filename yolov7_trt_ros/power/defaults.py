"""Defaults that the command line shows: in a module that is fast to import."""

from __future__ import annotations

from pathlib import Path

COMMAND_TIMEOUT_S = 20.0
"""Time limit of one tool; `nvpmodel` on a busy board takes several seconds."""
SHORTEST_TIMEOUT_S, LONGEST_TIMEOUT_S = 0.1, 3600.0
"""Limits of this time limit."""
DEFAULT_SOCKET = Path('/run/yolov7_trt_power.sock')
"""Socket of the power service."""
