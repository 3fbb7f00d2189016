"""Open pictures, videos and bags by what they are, and yield their frames one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from yolov7_trt_ros.errors import InputError, SettingError
from yolov7_trt_ros.replay.frames import BadFrame, Frame
from yolov7_trt_ros.replay.pictures import find_pictures, PICTURE_SUFFIXES, PictureSource
from yolov7_trt_ros.replay.videos import VIDEO_SUFFIXES, VideoSource

BAG_SUFFIXES = ('.mcap', '.db3')


class FrameSource(Protocol):
    """
    Something that frames come from. Iterating starts from the beginning each time.

    Attributes
    ----------
    path
        What was opened.
    kind
        `pictures`, `video` or `bag`.
    count
        Number of items to come, where it is known beforehand; an estimate for videos.
    fps
        Frames per second of a video, with frames left out by `every` taken into account.
    warnings
        What a person should know, such as that a half-written bag was recovered.

    """

    path: Path
    kind: str
    count: int | None
    fps: float | None
    warnings: tuple[str, ...]

    def __iter__(self) -> Iterator[Frame | BadFrame]:
        """Yield frames, read as they are asked for; a `BadFrame` in place of each unusable one."""


def open_frames(
    path: str | Path, *, topics: Sequence[str] = (), every: int = 1
) -> FrameSource:
    """
    Open a picture, a folder of pictures, a video or a bag.

    Parameters
    ----------
    path
        The file or folder (`~` is expanded).
    topics
        Image topics of a bag; none given takes all.
    every
        Take only each n-th frame.

    Raises
    ------
    InputError
        No such file, of no known kind, or unusable as a whole: `ImageError`, `BagError`.
    SettingError
        `every` is less than 1.
    MissingDependencyError
        A bag, and rosbags is not installed.

    """
    if every < 1:
        raise SettingError(f'every must be at least 1, got {every}')
    path = Path(path).expanduser()
    kind = kind_of(path)
    if kind == 'bag':
        from yolov7_trt_ros.replay.bags import BagReader  # rosbags is an optional package

        return BagReader(path, topics=topics, every=every)
    if kind == 'video':
        return VideoSource(path, every=every)
    return PictureSource(path, every=every)


def kind_of(path: Path) -> str:
    """
    Return `pictures`, `video` or `bag`.

    Raises
    ------
    InputError
        Nothing there, or of no known kind.

    """
    if not path.exists():
        raise InputError(f'no such file or folder: {path}')
    if path.is_dir():
        return 'bag' if is_bag_folder(path) else 'pictures'
    suffix = path.suffix.lower()
    for kind, suffixes in (
        ('pictures', PICTURE_SUFFIXES), ('video', VIDEO_SUFFIXES), ('bag', BAG_SUFFIXES),
    ):
        if suffix in suffixes:
            return kind
    raise InputError(
        f'{path} is of no known kind: pictures {" ".join(PICTURE_SUFFIXES)}; videos '
        f'{" ".join(VIDEO_SUFFIXES)}; bags {" ".join(BAG_SUFFIXES)} or a bag folder'
    )


def is_bag_folder(folder: Path) -> bool:
    """Tell whether a folder is a bag: it has metadata.yaml, or bag files and no pictures."""
    if (folder / 'metadata.yaml').is_file():
        return True
    bag_files = any(file.suffix.lower() in BAG_SUFFIXES for file in folder.iterdir())
    return bag_files and not find_pictures(folder)
