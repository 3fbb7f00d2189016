"""The only module that imports rosbags and its libraries: types, YAML, QoS, errors."""

from __future__ import annotations

from collections.abc import Mapping
import functools
import struct
import sys
from typing import Any, NamedTuple

from yolov7_trt_ros.core.plain_text import printable
from yolov7_trt_ros.errors import MissingDependencyError

try:
    import apsw
    from lz4.frame import LZ4FrameDecompressor
    from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
    from rosbags.rosbag2.errors import ReaderError
    from rosbags.rosbag2.metadata import parse_qos
    from rosbags.serde import SerdeError
    from rosbags.typesys import get_types_from_msg, get_typestore, Stores, TypesysError
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
except ImportError as exc:
    raise MissingDependencyError(
        f'bags need the rosbags package ({exc}); install it with: pip install "rosbags>=0.11.7"'
    ) from exc

from yolov7_trt_ros.replay.bags.vision_msgs import DEFINITIONS

__all__ = ['DAMAGE', 'LZ4FrameDecompressor', 'RawMessage', 'StoragePlugin', 'Writer',
           'WriterError', 'apsw', 'bag_typestore', 'load_typestore', 'one_line', 'read_qos',
           'read_yaml', 'zstd']

IMAGE_TYPE = 'sensor_msgs/msg/Image'
COMPRESSED_TYPE = 'sensor_msgs/msg/CompressedImage'
IMAGE_TYPES = (IMAGE_TYPE, COMPRESSED_TYPE)

DAMAGE: tuple[type[BaseException], ...] = (
    ReaderError, SerdeError, YAMLError, apsw.Error, zstd.ZstdError, struct.error,
    OSError, EOFError, ValueError, TypeError, LookupError, AssertionError, ArithmeticError,
    RuntimeError, MemoryError,
)
"""
Errors of rosbags and its libraries for damaged files and messages.

Their parsers trust the data: a wrong length raises MemoryError or struct.error, a wrong index
KeyError, damaged lz4 and deeply nested YAML RuntimeError.
"""
_LONGEST_QOS = 1 << 16


class RawMessage(NamedTuple):
    """One recorded message: topic, type, recording time, and CDR bytes."""

    topic: str
    msgtype: str
    log_time_ns: int
    data: bytes


@functools.cache
def load_typestore() -> Any:
    """Return rosbags' message types with vision_msgs. Shared: do not register more."""
    typestore = get_typestore(Stores.ROS2_HUMBLE)
    types: dict[str, Any] = {}
    for name, text in DEFINITIONS.items():
        types.update(get_types_from_msg(text, f'vision_msgs/msg/{name}'))
    typestore.register(types)
    return typestore


def bag_typestore(definitions: Mapping[str, str], msgtype: str) -> Any:
    """
    Return the message types to read a type of a bag with.

    Parameters
    ----------
    definitions
        Definitions in the bag, by message type, from any release. Ours are used if the type is
        missing or cannot be parsed.
    msgtype
        The type.

    """
    text = definitions.get(msgtype, '')
    if not text.strip():
        return load_typestore()
    try:
        types = get_types_from_msg(text, msgtype)
        typestore = get_typestore(Stores.EMPTY)
        typestore.register(types)
        typestore.get_msgdef(msgtype)
    except (LookupError, TypesysError):
        return load_typestore()
    return typestore


def read_yaml(text: str) -> Any:
    """Return the plain values of a YAML text; raises `DAMAGE`."""
    return YAML(typ='safe', pure=True).load(text)


def read_qos(text: str) -> list[Any]:
    """Return recorded QoS profiles as rosbags has them; none if they cannot be parsed."""
    if len(text) > _LONGEST_QOS:
        return []
    try:
        return list(parse_qos(text))
    except DAMAGE:
        return []


def one_line(error: BaseException) -> str:
    """Return the message of an exception, on one short line."""
    text = printable(' '.join(str(error).split()))
    return text[:200] if text else type(error).__name__
