"""Open pictures, videos and bags by their kind, as sources of frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from yolov7_trt_ros.core.defaults import DEFAULT_MAX_DECODED_PIXELS
from yolov7_trt_ros.errors import ImageError, InputError, SettingError
from yolov7_trt_ros.replay.file_kinds import has_bag_files, kind_of, local_path, recordings_in
from yolov7_trt_ros.replay.frames import BadFrame, Frame
from yolov7_trt_ros.replay.pictures import list_folder, PictureSource
from yolov7_trt_ros.replay.videos import VideoSource


class FrameSource(Protocol):
    """
    A source of frames. Each iteration starts from the beginning.

    Attributes
    ----------
    path
        The opened file or folder.
    kind
        `pictures`, `video` or `bag`.
    count
        Number of items, if known beforehand; an estimate for videos.
    fps
        Frames per second of a video, reduced by `every`.
    warnings
        Notes for the user, such as that an incomplete bag was recovered. It may grow while
        frames are read.

    """

    path: Path
    kind: str
    count: int | None
    fps: float | None

    @property
    def warnings(self) -> Sequence[str]:
        """See above."""

    def __iter__(self) -> Iterator[Frame | BadFrame]:
        """Yield frames, read as they are asked for; a `BadFrame` in place of each unusable one."""


def open_frames(
    path: str | Path,
    *,
    topics: Sequence[str] = (),
    every: int = 1,
    recursive: bool = False,
    outside: Path | None = None,
    max_pixels: int = DEFAULT_MAX_DECODED_PIXELS,
) -> FrameSource:
    """
    Open a picture, a folder of pictures, a video or a bag, by its content.

    Parameters
    ----------
    path
        The file or folder (`~` is expanded).
    topics
        Image topics of a bag; empty for all except depth.
    every
        Use every n-th frame.
    recursive
        Also enter subfolders of a folder of pictures.
    outside
        A folder that is not entered.
    max_pixels
        Maximum width x height of a decoded frame.

    Raises
    ------
    InputError
        No such file, an unknown kind, or unusable as a whole: `ImageError`, `BagError`.
    SettingError
        `every` is less than 1.
    MissingDependencyError
        It is a bag, and rosbags is not installed.

    """
    if every < 1:
        raise SettingError(f'every must be at least 1, got {every}')
    path = local_path(path)
    kind = kind_of(path)
    if kind == 'bag':
        from yolov7_trt_ros.replay.bags.bag_reader import (
            BagReader,  # rosbags is an optional package
        )

        return BagReader(path, topics=topics, every=every, max_pixels=max_pixels)
    if kind == 'video':
        return VideoSource(path, every=every, max_pixels=max_pixels)
    try:
        return PictureSource(
            path, every=every, recursive=recursive, outside=outside, max_pixels=max_pixels
        )
    except ImageError as exc:
        if bags := _inner_bags(path):
            raise InputError(f'{path} is {bags}') from exc
        raise


def check_kind(path: str | Path, wanted: str, verb: str) -> Path:
    """
    Return a path, if it is of the kind that a verb accepts.

    Parameters
    ----------
    path
        The file or folder.
    wanted
        `pictures`, `video` or `bag`.
    verb
        The verb.

    Raises
    ------
    InputError
        It is of another kind; the message names the verb for that.

    """
    local = local_path(path)
    kind = kind_of(local)
    if wanted == 'bag' and has_bag_files(local):
        return local  # whatever else the folder contains
    if kind != wanted:
        if bags := _inner_bags(local):
            raise InputError(f'{local} is {bags}')
        others = 'yolov7_trt detect' + (' and replay take' if kind == 'bag' else ' takes')
        picture = 'folder of pictures' if local.is_dir() else 'picture'
        name = picture if kind == 'pictures' else kind
        raise InputError(f'{local} is a {name}, and {verb} takes {_TAKEN[wanted]}: {others} it')
    return local


def _inner_bags(path: Path) -> str:
    """Return what a folder is that holds bags and no pictures, '' for any other."""
    bags, _ = recordings_in(path)
    has_pictures = bool(bags) and bool(list_folder(path, recursive=False, outside=None).pictures)
    return '' if has_pictures or not bags else (
        f'a folder of bags: give them one by one, such as {path / bags[0]}'
    )


_TAKEN = {'pictures': 'pictures', 'video': 'a video', 'bag': 'a bag (folder, .mcap or .db3)'}
