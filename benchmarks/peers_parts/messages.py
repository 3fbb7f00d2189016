"""What peers.py and a peer in another interpreter say to each other: one object of JSON a line."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any

from yolov7_trt_ros.records import Limits, to_record

NS_PER_HOUR = 3600 * 10**9

Row = tuple[float, float, float, float, float, Annotated[int, Limits(0, 2**31 - 1)]]
"""Box in pixels of the source, score, class."""


@dataclasses.dataclass(frozen=True)
class Show:
    """Question: the objects in the frames of a file of NumPy, an array (n, H, W, 3)."""

    frames: str


@dataclasses.dataclass(frozen=True)
class Time:
    """Question: the time that each of these frames takes, by their numbers."""

    order: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Ready:
    """First answer: what will run."""

    facts: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Found:
    """Answer to Show: the rows of each frame."""

    found: tuple[tuple[Row, ...], ...]


@dataclasses.dataclass(frozen=True)
class Taken:
    """Answer to Time: the nanoseconds of each frame."""

    taken_ns: tuple[Annotated[int, Limits(1, NS_PER_HOUR)], ...]


def to_line(message: Any) -> bytes:
    """Return a message as a line."""
    return json.dumps(to_record(message)).encode() + b'\n'
