"""What the demo plays: photographs that come inside packages, or what it is given, checked."""

from __future__ import annotations

import importlib.util
from pathlib import Path
import shutil

from yolov7_trt_ros.errors import InputError, MissingDependencyError

PHOTOGRAPHS = ('astronaut', 'stereo_motorcycle', 'coffee', 'camera', 'grace_hopper')
"""In the order they are shown in: of scikit-image, the last one of matplotlib."""
PHOTOGRAPH_SIZE_PX, PHOTOGRAPH_SCORE = 352, 0.4
"""Network size and least score at which the model inside is right about them, as was measured."""


def check_photographs() -> None:
    """
    Check that the packages with the photographs are there.

    Raises
    ------
    MissingDependencyError
        One is not.

    """
    for module in ('skimage', 'matplotlib'):
        if importlib.util.find_spec(module) is None:
            raise MissingDependencyError(
                f'the demo shows photographs of scikit-image and matplotlib, and {module} is not '
                'here; install them with pip install scikit-image matplotlib, or give your own '
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
    Return the path of what is to be played, after one frame of it was read.

    Raises
    ------
    InputError
        It is not there, of no known kind, or none of its frames can be read.

    """
    from yolov7_trt_ros.replay.file_kinds import local_path
    from yolov7_trt_ros.replay.frames import Frame
    from yolov7_trt_ros.replay.sources import open_frames

    path = local_path(source)
    if not path.exists():
        raise InputError(f'--source {source}: no such file or folder')
    reason = 'it holds no frames'
    for item in open_frames(path):
        if isinstance(item, Frame):
            return path
        reason = str(item.error)
    raise InputError(f'--source {source} cannot be played: {reason}')
