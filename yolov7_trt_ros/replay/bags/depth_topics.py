"""Find the depth topics of a bag, by their first messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from yolov7_trt_ros.core.image import is_measurement
from yolov7_trt_ros.core.messages.serialized_image import read_compressed_image, read_image
from yolov7_trt_ros.core.pictures.compressed_format import parse_format
from yolov7_trt_ros.core.pictures.picture_header import read_header
from yolov7_trt_ros.errors import BagError, ImageError
from yolov7_trt_ros.replay.bags.bag_parts import BagPart
from yolov7_trt_ros.replay.bags.rosbags_adapter import COMPRESSED_TYPE, RawMessage

_DEPTH_TRANSPORT = 'compressedDepth'
_DEPTH_WORD = 'depth'


def find_depth(
    parts: Sequence[BagPart], topics: Iterable[str], *, by_name: bool
) -> dict[str, str]:
    """
    Return the encoding of each depth topic among image topics.

    Parameters
    ----------
    parts
        The files of the bag.
    topics
        The topics.
    by_name
        Treat 16-bit grey as depth too if the topic has `depth` in its name.

    """
    found = {}
    for topic in topics:
        raw = _first_message(parts, topic)
        if raw is None:
            encoding = 'no message' if topic.endswith(f'/{_DEPTH_TRANSPORT}') else ''
        else:
            encoding = _measurement(raw, by_name=by_name)
        if encoding:
            found[topic] = encoding
    return found


def _first_message(parts: Sequence[BagPart], topic: str) -> RawMessage | None:
    for part in parts:
        for item in part.messages([topic]):
            if not isinstance(item, BagError):
                return item
    return None


def _measurement(raw: RawMessage, *, by_name: bool) -> str:
    """Return the encoding of a depth message, '' for pictures and damaged messages."""
    try:
        encoding = (_measured_format(raw.data) if raw.msgtype == COMPRESSED_TYPE
                    else read_image(raw.data).encoding)
    except ImageError:
        return ''
    is_depth_16 = by_name and encoding == 'mono16' and _DEPTH_WORD in raw.topic.lower()
    return encoding if is_measurement(encoding) or is_depth_16 else ''


def _measured_format(message: bytes) -> str:
    """Return the encoding of a compressed image: that of its measurement or picture."""
    packed = read_compressed_image(message)
    form = parse_format(packed.format)
    if form.measurement:
        return '16UC1' if form.measurement == _DEPTH_TRANSPORT.lower() else form.measurement
    if not form.is_grey_16 and read_header(packed.data).is_grey_16:
        return '16UC1'
    return form.source
