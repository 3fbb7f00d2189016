"""Window: shows the frames with their detections, on a display."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from yolov7_trt_ros.errors import MissingDependencyError, SettingError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TITLE = 'yolov7_trt detect (q ends)'
_LONGEST_SIDE_PX = 1280
_END_KEYS = (ord('q'), ord('Q'), 27)


class Window:
    """
    Shows frames; `q`, Esc or closing it requests the end.

    Raises
    ------
    SettingError
        There is no display.
    MissingDependencyError
        This OpenCV has no windows.

    """

    def __init__(self) -> None:
        import cv2

        if not os.environ.get('DISPLAY') and not os.environ.get('WAYLAND_DISPLAY'):
            raise SettingError(
                '--show needs a display, and neither DISPLAY nor WAYLAND_DISPLAY is set here; '
                'leave it out and use -o DIR'
            )
        self.closed = False
        self._sized = False
        try:
            cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL)
        except cv2.error as exc:
            raise MissingDependencyError(
                '--show needs an OpenCV with window support, which this one lacks: pip uninstall '
                'opencv-python-headless, then pip install opencv-python'
            ) from exc

    def show(self, pixels: NDArray[np.uint8]) -> None:
        """Show a frame, and read keys."""
        import cv2

        if not self._sized:
            height, width = pixels.shape[:2]
            scale = min(1.0, _LONGEST_SIDE_PX / max(height, width))
            cv2.resizeWindow(TITLE, round(width * scale), round(height * scale))
            self._sized = True
        cv2.imshow(TITLE, pixels)
        key = cv2.waitKey(1) & 0xff
        visible = cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) >= 1
        self.closed = self.closed or key in _END_KEYS or not visible

    def close(self) -> None:
        """Close the window."""
        import cv2

        cv2.destroyAllWindows()
