"""Frame and BadFrame: the items that every source of images yields."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.errors import InferenceError, InputError


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
    """
    One image of a picture, video or bag.

    Attributes
    ----------
    image
        The pixels; of a bag's raw image, a view of the message.
    stamp_ns
        Header stamp of a bag message, position in a video, 0 for a picture.
    frame_id
        That of a bag message, else empty.
    source
        Topic of a bag, else the file name.
    index
        Number within the source from 0, bad frames included.
    path
        The file it comes from.
    log_time_ns
        Recording time of a bag message; equal to `stamp_ns` for others.
    message
        The recorded bag message (CDR), else empty.

    """

    image: ImageView
    stamp_ns: int
    frame_id: str
    source: str
    index: int
    path: Path
    log_time_ns: int = 0
    message: bytes = b''


@dataclasses.dataclass(frozen=True, eq=False)
class BadFrame:
    """
    Yielded instead of a frame that cannot be used; later frames follow.

    Attributes
    ----------
    error
        The reason. `BagError`: a part of the bag cannot be read.
    source, index, path, log_time_ns, message
        As in `Frame`.

    """

    error: InputError | InferenceError
    source: str
    index: int
    path: Path
    log_time_ns: int = 0
    message: bytes = b''
