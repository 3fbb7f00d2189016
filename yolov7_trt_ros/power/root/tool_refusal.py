"""ToolRefusal: why a tool of the board refused a request."""

from __future__ import annotations

import dataclasses
from typing import Literal

RefusalKind = Literal[
    'permission', 'error', 'chroot', 'reboot', 'unknown_mode', 'file_exists', 'file_missing'
]


@dataclasses.dataclass(frozen=True)
class ToolRefusal:
    """
    Why nvpmodel or jetson_clocks refused.

    Attributes
    ----------
    kind
        Of nvpmodel: `chroot` (in a container: ignored, although the exit status is 0), `reboot`,
        `unknown_mode`. Of jetson_clocks: `file_exists`, `file_missing`. Of both: `permission`,
        and `error` for any other.
    line
        The line of its output that shows this.

    """

    kind: RefusalKind
    line: str
