"""Source of the demo: photographs from Python packages, or a checked path."""

from __future__ import annotations

import importlib.util
from pathlib import Path
import shutil

from yolov7_trt_ros.errors import InputError, MissingDependencyError

PHOTOGRAPHS = ('astronaut', 'stereo_motorcycle', 'coffee', 'camera', 'grace_hopper')
"""In order of display: from scikit-image, the last one from matplotlib."""
PHOTOGRAPH_SIZE_PX, PHOTOGRAPH_SCORE = 352, 0.4
"""Network size and minimum score at which the embedded model detects them (measured)."""


def check_photographs() -> None:
    """
    Check that the packages with the photographs are installed.

    Raises
    ------
    MissingDependencyError
        One is missing.

    """
    for module in ('skimage', 'matplotlib'):
        if importlib.util.find_spec(module) is None:
            raise MissingDependencyError(
                f'the demo shows photographs of scikit-image and matplotlib, and {module} is not '
                'installed; run pip install scikit-image matplotlib, or give your own pictures '
                'with --source'
            )


def save_photographs(folder: Path) -> Path:
    """Save the photographs into a new folder, and return it."""
    import cv2
    import matplotlib.cbook
    import skimage.data

    folder.mkdir()
    for number, name in enumerate(PHOTOGRAPHS[:-1], start=1):
        picture = getattr(skimage.data, name)()
        picture = picture[0] if isinstance(picture, tuple) else picture  # of a stereo pair
        code = cv2.COLOR_GRAY2BGR if picture.ndim == 2 else cv2.COLOR_RGB2BGR
        cv2.imwrite(str(folder / f'{number}_{name}.png'), cv2.cvtColor(picture, code))
    sample = matplotlib.cbook.get_sample_data(f'{PHOTOGRAPHS[-1]}.jpg', asfileobj=False)
    shutil.copy(str(sample), folder / f'{len(PHOTOGRAPHS)}_{PHOTOGRAPHS[-1]}.jpg')
    return folder


def find_source(source: str) -> Path:
    """
    Return the path of the source, after reading one frame of it.

    Raises
    ------
    InputError
        It does not exist, is of an unknown kind, or no frame can be read.

    """
    from yolov7_trt_ros.replay.file_kinds import local_path
    from yolov7_trt_ros.replay.frames import Frame
    from yolov7_trt_ros.replay.sources import open_frames

    path = local_path(source)
    if not path.exists():
        raise InputError(f'--source {source}: no such file or folder')
    reason = 'it contains no frames'
    for item in open_frames(path):
        if isinstance(item, Frame):
            return path
        reason = str(item.error)
    raise InputError(f'--source {source} cannot be played: {reason}')
