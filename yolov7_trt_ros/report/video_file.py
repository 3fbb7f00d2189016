"""Write videos: as H.264 if this OpenCV has an encoder for it, else as MPEG-4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

H264, MPEG4 = 'H.264', 'MPEG-4'
_CODES = {H264: 'avc1', MPEG4: 'mp4v'}
MPEG4_NOTE = (
    'MPEG-4, because this OpenCV writes no H.264: VLC and mpv play\n'
    'it, browsers do not; to convert it: ffmpeg -i IN.mp4 OUT.mp4'
)


def open_video(path: Path, fps: float, size_wh: tuple[int, int]) -> tuple[Any, str]:
    """
    Open an MP4 file for writing; return OpenCV's writer and the name of the codec.

    The writer is not opened if no codec works, for example on a full disk.

    """
    import cv2

    for codec, code in _CODES.items():
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), fps, size_wh)
        if writer.isOpened():
            return writer, codec
    return writer, MPEG4
