"""What the emulated tools share: the command that starts one, its user, and its paths."""

from __future__ import annotations

import os
from pathlib import Path
import sys

from yolov7_trt_ros.emulated_board.state import BoardState, SUDO_VARIABLE


def tool_command(tool: str) -> tuple[str, ...]:
    """Return the command that runs one of the tools; its arguments follow."""
    package = str(Path(__file__).resolve().parents[2])
    code = (
        f'import sys; sys.path.insert(0, {package!r}); '
        'from yolov7_trt_ros.emulated_board.tools import main; '
        f'sys.exit(main({tool!r}, sys.argv[1:]))'
    )
    return (sys.executable, '-SE', '-c', code)


def is_root(state: BoardState) -> bool:
    """Whether this tool runs as root, by itself or through sudo."""
    return state['as_root'] or SUDO_VARIABLE in os.environ


def on_board(root: Path, path: str) -> Path:
    """Return a path of the board below the root; one below it already is unchanged."""
    if not path.startswith('/') or path.startswith(f'{root}/'):
        return Path(path)
    return root / path.lstrip('/')
