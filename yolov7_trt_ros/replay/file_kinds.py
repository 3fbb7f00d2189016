"""Kind of a file or folder: by its first bytes, else by its suffix."""

from __future__ import annotations

from pathlib import Path
import re

from yolov7_trt_ros.core.pictures.picture_header import picture_kind
from yolov7_trt_ros.core.plain_text import quoted
from yolov7_trt_ros.errors import InputError
from yolov7_trt_ros.home_folder import expand_home
from yolov7_trt_ros.plain_file import open_plain_file

PICTURE_SUFFIXES = (
    '.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.apng', '.bmp', '.dib', '.webp', '.avif', '.tif',
    '.tiff', '.gif', '.jp2', '.j2k', '.ppm', '.pgm', '.pbm', '.pnm', '.pam', '.ras', '.sr',
    '.heic', '.heif', '.jxl',
)
VIDEO_SUFFIXES = (
    '.mp4', '.m4v', '.avi', '.mkv', '.mov', '.webm', '.ts', '.m2ts', '.mts', '.mpg', '.mpeg',
    '.wmv', '.flv', '.3gp', '.ogv', '.mjpeg', '.mjpg', '.h264', '.h265', '.hevc', '.y4m', '.ivf',
)
BAG_SUFFIXES = ('.mcap', '.db3', '.mcap.zstd', '.db3.zstd')
_STREAMS_OF_PICTURES = ('.mjpeg', '.mjpg')  # they start like a picture
_HEAD_BYTES = 1024
_PART_NUMBER = re.compile(r'_\d+$')
_URL = re.compile(r'[A-Za-z][A-Za-z0-9+.-]+://')
_VIDEO_MAGICS = (
    b'\x1aE\xdf\xa3', b'OggS', b'FLV\x01', b'\x30\x26\xb2\x75\x8e\x66\xcf\x11',
    b'\0\0\x01\xba', b'\0\0\x01\xb3', b'\0\0\0\x01\x67', b'\0\0\0\x01\x09', b'\0\0\0\x01\x40',
    b'YUV4MPEG2 ', b'DKIF',
)
_VIDEO_BOXES = (b'ftyp', b'moov', b'mdat', b'wide', b'free', b'skip', b'pnot')
_BAG_MAGICS = (b'\x89MCAP0\r\n', b'SQLite format 3\0')
_TRANSPORT_SYNC = 0x47
_REFUSED = (
    (b'#ROSBAG V', 'a bag of ROS 1; convert it with: rosbags-convert (package rosbags)'),
    (b'#EXTM3U', 'a playlist, not a video; give the videos themselves'),
    (b'ffconcat', 'a playlist, not a video; give the videos themselves'),
    (b'version https://git-lfs', 'a pointer of Git LFS; fetch the file with: git lfs pull'),
)


def local_path(text: str | Path) -> Path:
    """
    Return a path as given, with `~` expanded.

    Raises
    ------
    InputError
        It is empty, or the address of a stream, which `Path` would accept as a path.

    """
    if text == '':
        raise InputError('the path is empty; is a variable not set?')
    if isinstance(text, str) and _URL.match(text):
        raise InputError(
            f'{quoted(text)} is an address, and only files and folders are read: record the '
            'stream first, or give the detector node its topic'
        )
    return expand_home(text)


def kind_of(path: Path) -> str:
    """
    Return `pictures`, `video` or `bag`.

    Raises
    ------
    InputError
        It does not exist, is unreadable, or of an unknown kind.

    """
    if path.is_dir():
        return 'bag' if is_bag_folder(path) else 'pictures'
    head = read_head(path)
    for start, reason in _REFUSED:
        if head.startswith(start):
            raise InputError(f'{path} is {reason}')
    kind = kind_of_content(head, path.name) or _kind_of_suffix(path.name)
    if not kind:
        raise InputError(
            f'{path} is of an unknown kind, by content and by name: pictures '
            f'{" ".join(PICTURE_SUFFIXES)}; videos {" ".join(VIDEO_SUFFIXES)}; bags '
            f'{" ".join(BAG_SUFFIXES)} or a bag folder'
        )
    return kind


def kind_of_content(head: bytes, name: str) -> str:
    """Return the kind of a file from its first bytes and name, '' if unknown."""
    if picture_kind(head):
        return 'video' if name.lower().endswith(_STREAMS_OF_PICTURES) else 'pictures'
    if head.startswith(_BAG_MAGICS):
        return 'bag'
    is_video = (
        head.startswith(_VIDEO_MAGICS) or head[4:8] in _VIDEO_BOXES
        or head[:4] == b'RIFF' and head[8:12] == b'AVI '
        or any(_has_sync(head, *form) for form in ((0, 188), (4, 192)))
    )
    return 'video' if is_video else ''


def read_head(path: Path) -> bytes:
    """
    Return the first bytes of a file.

    Raises
    ------
    InputError
        It does not exist, cannot be read, or is not a file.

    """
    try:
        with open_plain_file(path, InputError) as file:
            return file.read(_HEAD_BYTES)
    except FileNotFoundError as exc:
        raise InputError(f'no such file or folder: {path}') from exc
    except OSError as exc:
        raise InputError(f'cannot read {path}: {exc.strerror}') from exc


def is_bag_folder(folder: Path) -> bool:
    """Whether a folder is a bag: it has metadata.yaml, or bag files and no pictures."""
    if (folder / 'metadata.yaml').is_file():
        return True
    has_pictures = any(name.endswith(PICTURE_SUFFIXES) for name in _names(folder))
    return not has_pictures and has_bag_files(folder)


def has_bag_files(path: Path) -> bool:
    """Whether a path is a folder with bag files."""
    return path.is_dir() and any(name.endswith(BAG_SUFFIXES) for name in _names(path))


def recordings_in(path: Path) -> tuple[list[str], list[str]]:
    """
    Return what a folder without metadata.yaml holds if that may be many recordings.

    Returns
    -------
    list of str
        Bag folders in it, if it has no storage files itself.
    list of str
        Its storage files, if their names are not those of the parts of one recording.

    Raises
    ------
    InputError
        It cannot be read.

    """
    if not path.is_dir() or (path / 'metadata.yaml').exists():
        return [], []
    try:
        inside = sorted(path.iterdir(), key=natural_key)
    except OSError as exc:
        raise InputError(f'cannot read {path}: {exc.strerror}') from exc
    files = [each.name for each in inside if each.name.lower().endswith(BAG_SUFFIXES)]
    if not files:
        return [each.name for each in inside if each.is_dir() and is_bag_folder(each)], []
    stems = {_PART_NUMBER.sub('', name.partition('.')[0]) for name in files}
    return [], files if len(stems) > 1 else []


def _names(folder: Path) -> list[str]:
    """Return the names in a folder in lower case, without hidden files."""
    try:
        return [file.name.lower() for file in folder.iterdir() if file.name[0] != '.']
    except OSError as exc:
        raise InputError(f'cannot read {folder}: {exc.strerror}') from exc


def natural_key(path: Path) -> list[tuple[int, str]]:
    """Return a sort key that puts `2.jpg` before `10.jpg`."""
    return [
        (int(part), '') if part.isdecimal() else (-1, part)
        for part in re.split(r'(\d{1,18})', path.name.lower())
    ] + [(0, path.name)]


def _kind_of_suffix(name: str) -> str:
    for kind, suffixes in (
        ('pictures', PICTURE_SUFFIXES), ('video', VIDEO_SUFFIXES), ('bag', BAG_SUFFIXES),
    ):
        if name.lower().endswith(suffixes):
            return kind
    return ''


def _has_sync(head: bytes, start: int, packet_bytes: int) -> bool:
    """Whether the data has the sync bytes of an MPEG transport stream."""
    marks = head[start::packet_bytes]
    return len(marks) >= 3 and all(mark == _TRANSPORT_SYNC for mark in marks)
