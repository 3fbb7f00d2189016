"""Topic names: lists of them in one text, and the topics of detections. Text only."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
import re

_TRANSPORTS = ('compressed', 'theora', 'ffmpeg', 'zstd')


def detections_topic(image_topic: str) -> str:
    """
    Return the detections topic of one image topic: `detections` in its namespace.

    The name of an image transport at the end is not part of the namespace.

        /camera/image_raw             /camera/detections
        /camera/image_raw/compressed  /camera/detections
        image_raw                     detections

    """
    namespace, slash, _ = _base_topic(image_topic).rpartition('/')
    return f'{namespace}{slash}detections'


def detections_topics(image_topics: Sequence[str]) -> list[str]:
    """
    Return a distinct detections topic for each of several distinct image topics, in their order.

    If two would share one, `detections` is put below each of their names instead:

        /camera/left_raw   /camera/left_raw/detections
        /camera/right_raw  /camera/right_raw/detections

    and, if they are one image in two transports, below the transport.

    """
    choices = [_choices(topic) for topic in image_topics]
    lengths = [0] * len(choices)
    while True:
        chosen = [names[length] for names, length in zip(choices, lengths, strict=True)]
        count = collections.Counter(chosen)
        shared = [
            index
            for index, name in enumerate(chosen)
            if lengths[index] < 2 and count[name] > 1
        ]
        if not shared:
            return chosen
        for index in shared:
            lengths[index] += 1


def engine_topic(topic: str) -> str:
    """Return the topic that names the engine of each message of a detections topic."""
    return f'{topic}/engine'


def images_of_detections(topic: str, image_topics: Sequence[str]) -> list[str]:
    """
    Return the image topics whose detections a topic carries: the transports of one image.

    As `detections_topics` names them where all image topics were detected in; else by any of the
    names that it may give. Empty where none fits, or more than one image does.

    """
    together = dict(zip(detections_topics(image_topics), image_topics, strict=True))
    if topic in together:
        return [together[topic]]
    found = [image for image in image_topics if topic in _choices(image)]
    return found if len({_base_topic(image) for image in found}) == 1 else []


def _choices(image_topic: str) -> tuple[str, str, str]:
    """Return the names that the detections of an image topic may have, the shortest first."""
    return (detections_topic(image_topic), f'{_base_topic(image_topic)}/detections',
            f'{image_topic}/detections')


def _base_topic(image_topic: str) -> str:
    """Drop an image transport's name from the end."""
    base, _, last = image_topic.rpartition('/')
    return base if base and last in _TRANSPORTS else image_topic


def is_pattern(name: str) -> bool:
    """Whether a name is a pattern."""
    return '*' in name


def matching_topics(pattern: str, topics: Iterable[str]) -> list[str]:
    """
    Return the topics that a pattern matches, in alphabetical order.

    `*` stands for any text without a slash, `**` for any text. The time is linear in the length
    of a topic, whatever the pattern: other nodes choose the names of their topics.

        /*/image_raw    /front/image_raw
        /robot/**/raw   /robot/raw/raw, /robot/arm/left/raw

    """
    matches = _Pattern(pattern).matches
    return sorted(topic for topic in topics if matches(topic))


class _Pattern:
    """
    A pattern with the set of positions that the text read so far may have reached.

    The set is a number: bit i is the position before part i; a part is one character or one run
    of stars.

    """

    def __init__(self, pattern: str) -> None:
        parts = re.findall(r'\*+|[^*]', pattern, re.DOTALL)
        self._end = 1 << len(parts)
        self._letters: dict[str, int] = {}
        self._within = self._across = 0  # stars that end at a slash, and those that do not
        for place, part in enumerate(parts):
            if part == '*':
                self._within |= 1 << place
            elif part.startswith('*'):
                self._across |= 1 << place
            else:
                self._letters[part] = self._letters.get(part, 0) | 1 << place

    def matches(self, text: str) -> bool:
        """Whether the pattern matches the whole text."""
        places = self._skip_stars(1)
        for letter in text:
            stars = self._across if letter == '/' else self._across | self._within
            places = (places & self._letters.get(letter, 0)) << 1 | places & stars
            places = self._skip_stars(places)
        return bool(places & self._end)

    def _skip_stars(self, places: int) -> int:
        """Add the positions behind stars, which may match nothing; no two stars are adjacent."""
        return places | (places & (self._within | self._across)) << 1


def split_names(text: str) -> list[str]:
    """Split `a, b` at the commas; empty parts are dropped."""
    return [part.strip() for part in text.split(',') if part.strip()]
