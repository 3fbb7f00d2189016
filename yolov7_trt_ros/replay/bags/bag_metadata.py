"""Read metadata.yaml of a bag folder; its content is only a hint, the files decide."""

from __future__ import annotations

import dataclasses
from pathlib import Path, PurePosixPath
from typing import Any

from yolov7_trt_ros.errors import BagError
from yolov7_trt_ros.plain_file import read_plain_file
from yolov7_trt_ros.replay.bags.rosbags_adapter import DAMAGE, one_line, read_yaml

NAME = 'metadata.yaml'
_DAMAGE: tuple[type[BaseException], ...] = (*DAMAGE, AttributeError)
_LARGEST_BYTES = 1 << 21
"""Size limit: 200 topics take about 300 kB, and YAML is slow to read."""


@dataclasses.dataclass(frozen=True)
class BagMetadata:
    """
    Contents of metadata.yaml.

    Attributes
    ----------
    files
        Names of the storage files, without folders, so that none is outside the bag.
    topics
        Message type by topic.
    counts
        Messages by topic.

    """

    files: tuple[str, ...]
    topics: dict[str, str]
    counts: dict[str, int]


def read_metadata(folder: Path) -> BagMetadata:
    """
    Read the metadata.yaml of a bag folder.

    Raises
    ------
    BagError
        It is missing, too large, or not in the form that rosbag2 writes.

    """
    path = folder / NAME
    try:
        data = read_plain_file(path, _LARGEST_BYTES, BagError)
        record = read_yaml(data.decode('utf-8-sig'))['rosbag2_bagfile_information']
        names = record['relative_file_paths'] or []
        topics = [_topic(entry) for entry in record.get('topics_with_message_count') or []]
        files = tuple(dict.fromkeys(PurePosixPath(str(name)).name for name in names))
    except FileNotFoundError as exc:
        raise BagError(
            f'{folder} has no {NAME}: the recorder did not close the bag'
        ) from exc
    except _DAMAGE as exc:
        other = isinstance(exc, (LookupError, TypeError, AttributeError))
        reason = 'it is not in the form that rosbag2 writes' if other else one_line(exc)
        raise BagError(f'cannot parse {path}: {reason}') from exc
    counts: dict[str, int] = {}
    for name, _, count in topics:
        counts[name] = counts.get(name, 0) + count
    return BagMetadata(files, {name: kind for name, kind, _ in topics}, counts)


def _topic(entry: Any) -> tuple[str, str, int]:
    """Return name, type and number of messages of one entry."""
    metadata = entry['topic_metadata']
    return str(metadata['name']), str(metadata['type']), max(0, int(entry['message_count']))
