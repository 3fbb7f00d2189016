"""Which image topics of a bag are depth: by what their first message says of itself."""

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
    Return what the depth topics among some image topics hold, by topic.

    Parameters
    ----------
    parts
        The files of the bag.
    topics
        The topics.
    by_name
        Take 16-bit grey for depth as well where the topic has `depth` in its name.

    """
    found = {}
    for topic in topics:
        raw = _first_message(parts, topic)
        if raw is None:
            told = 'no message' if topic.endswith(f'/{_DEPTH_TRANSPORT}') else ''
        else:
            told = _measurement(raw, by_name=by_name)
        if told:
            found[topic] = told
    return found


def _first_message(parts: Sequence[BagPart], topic: str) -> RawMessage | None:
    for part in parts:
        for item in part.messages([topic]):
            if not isinstance(item, BagError):
                return item
    return None


def _measurement(raw: RawMessage, *, by_name: bool) -> str:
    """Return the encoding of a message that is depth, '' for pictures and for damaged ones."""
    try:
        encoding = (_measured_format(raw.data) if raw.msgtype == COMPRESSED_TYPE
                    else read_image(raw.data).encoding)
    except ImageError:
        return ''
    is_depth_16 = by_name and encoding == 'mono16' and _DEPTH_WORD in raw.topic.lower()
    return encoding if is_measurement(encoding) or is_depth_16 else ''


def _measured_format(message: bytes) -> str:
    """Return the encoding of a compressed image: its measurement's, or that of its picture."""
    packed = read_compressed_image(message)
    told = parse_format(packed.format)
    if told.measurement:
        return '16UC1' if told.measurement == _DEPTH_TRANSPORT.lower() else told.measurement
    if not told.is_grey_16 and read_header(packed.data).is_grey_16:
        return '16UC1'
    return told.source
