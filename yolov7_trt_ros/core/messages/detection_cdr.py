"""
Serialise Detection2DArray with one numpy assignment instead of an object per detection.

All that a detection does not share with others are its class text, five numbers and the id of its
track. So its bytes are those of a prepared piece, one for each class, the numbers are put in
afterwards, and the id stands at the end. The form is plain CDR, little endian; numbers lie at
multiples of their size. Gaps before them are zeros here, where Fast DDS leaves what lay in memory.

"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
import struct
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.detections import class_text, Detections, track_text
from yolov7_trt_ros.core.messages.serialized_image import MessageHeader
from yolov7_trt_ros.errors import SettingError

_REPRESENTATION = b'\0\1\0\0'
_NUMBERS = {
    'double': 'd', 'float': 'f', 'boolean': '?', 'octet': 'B',
    'int8': 'b', 'uint8': 'B', 'int16': 'h', 'uint16': 'H',
    'int32': 'i', 'uint32': 'I', 'int64': 'q', 'uint64': 'Q',
}
"""Fields by rosidl's names, as struct's letters; their size is their alignment."""
_HEADER = (
    ('header.stamp.sec', 'int32'), ('header.stamp.nanosec', 'uint32'),
    ('header.frame_id', 'string'),
)
_RESULTS, _SEQUENCE, _TEXT = 'results', 'sequence<', 'hypothesis.class_id'
_ID = ('id', 'string')
_VALUES = (
    'bbox.center.position.x', 'bbox.center.position.y', 'bbox.size_x', 'bbox.size_y',
    'results.hypothesis.score',
)
_STEP = 4  # headers, which detections begin with, lie at multiples of it
_DOUBLE = 8
_KEPT_PIECES = 4096


class Field(NamedTuple):
    """A field of a message; fields of nested messages have a dotted path."""

    path: str
    kind: str
    """By rosidl: `double`, `string`, `double[36]`, `sequence<...>`, ..."""
    default: Any


class ArrayLayout(NamedTuple):
    """The fields of the three message types, each in serialised order."""

    array: tuple[Field, ...]
    detection: tuple[Field, ...]
    result: tuple[Field, ...]


class _Piece(NamedTuple):
    """What follows the header of a detection, with the padding up to the next one."""

    octets: bytes
    padding: int
    from_end: tuple[int, ...]
    """Bytes from each of `_VALUES` to the end."""


class DetectionsToCdr:
    """
    Writes Detections as the bytes of a Detection2DArray.

    Parameters
    ----------
    class_names
        Of the model.
    layout
        Of the messages that are installed.

    Raises
    ------
    SettingError
        The layout is not one that this can write.

    """

    def __init__(self, class_names: tuple[str, ...], layout: ArrayLayout) -> None:
        _check_layout(layout)
        self._class_names, self._layout = class_names, layout
        self._piece = lru_cache(_KEPT_PIECES)(self._make_piece)
        self._end, self._padding, self._from_end = self._find_end()

    def serialize(
        self, detections: Detections, header: MessageHeader, class_id_format: str
    ) -> bytes:
        """
        Return the message.

        Parameters
        ----------
        detections
            Boxes in source pixels.
        header
            The image's; put into the array and every detection.
        class_id_format
            `name` or `index`.

        """
        count, head = len(detections), _header_octets(header)
        start = head + bytes(-len(head) % _STEP) + struct.pack('<I', count)
        if not count:
            return _REPRESENTATION + start
        phase = (self._end + len(head)) % _DOUBLE
        phases = (len(start) + len(head)) % _DOUBLE, phase
        if detections.track_ids is None:
            pieces, longer, padding = self._pieces(detections, class_id_format, *phases)
        else:
            pieces, longer, padding = self._tracked_pieces(detections, class_id_format, *phases)
        message = bytearray(head.join([_REPRESENTATION + start, *pieces]))
        ends = accumulate((len(piece) + len(head) for piece in pieces), initial=len(start))
        next(ends)
        places = (np.fromiter(ends, np.int64, count) - longer)[:, None] - self._from_end
        doubles = np.frombuffer(
            message, '<f8', (len(message) - len(_REPRESENTATION)) // _DOUBLE, len(_REPRESENTATION)
        )
        doubles[places // _DOUBLE] = _values(detections)
        return bytes(memoryview(message)[: len(message) - padding])

    def _pieces(
        self, detections: Detections, class_id_format: str, first: int, phase: int
    ) -> tuple[list[bytes], Any, int]:
        """
        Return the pieces, by how much longer they are than one without id, and the padding.

        The latter is that of the last piece. The first one begins `first` bytes behind a multiple
        of 8, all others `phase`, or that and by how much the piece before is longer.

        """
        ids = detections.class_ids.tolist()
        pieces = [self._piece(class_id, class_id_format, phase) for class_id in ids]
        pieces[0] = self._piece(ids[0], class_id_format, first)
        return pieces, 0, self._padding

    def _tracked_pieces(
        self, detections: Detections, class_id_format: str, first: int, phase: int
    ) -> tuple[list[bytes], Any, int]:
        """Return what `_pieces` does, with the ids of tracks in them."""
        assert detections.track_ids is not None  # serialize sees to that
        texts = [_id_octets(track_id) for track_id in detections.track_ids.tolist()]
        longer = np.array([len(octets) - len(_NO_ID) for octets, _ in texts])
        phases = [first, *((phase + longer[:-1]) % _DOUBLE).tolist()]
        pieces = [
            self._piece(class_id, class_id_format, each)[:-len(_NO_ID)] + octets
            for class_id, each, (octets, _) in zip(
                detections.class_ids.tolist(), phases, texts, strict=True
            )
        ]
        return pieces, longer, texts[-1][1]

    def _make_piece(self, class_id: int, class_id_format: str, phase: int) -> bytes:
        """Return the piece of a class that begins at `phase` bytes behind a multiple of 8."""
        text = class_text(self._class_names, class_id, class_id_format)
        return self._write_piece(text, phase).octets

    def _write_piece(self, text: str, phase: int) -> _Piece:
        writer = _Writer(phase)
        for field in self._layout.detection[len(_HEADER):]:
            if field.path != _RESULTS:
                writer.field(field)
                continue
            writer.number('I', 1)
            for part in self._layout.result:
                value = text if part.path == _TEXT else part.default
                writer.field(Field(f'{_RESULTS}.{part.path}', part.kind, value))
        padding = writer.align(_STEP)
        end = len(writer.octets)
        places = tuple(end - writer.places[path] for path in _VALUES)
        return _Piece(bytes(writer.octets), padding, places)

    def _find_end(self) -> tuple[int, int, NDArray[np.int64]]:
        """Return what all pieces have in common: where they end modulo 8, padding, places."""
        found = set()
        for phase in range(_DOUBLE):
            for length in range(_DOUBLE):
                piece = self._write_piece('x' * length, phase)
                end = (phase + len(piece.octets)) % _DOUBLE
                found.add((end, piece.padding, piece.from_end))
        if len(found) != 1:
            raise SettingError('detections end at places that depend on their class text')
        end, padding, from_end = found.pop()
        return end, padding, np.array(from_end)


class _Writer:
    """Writes fields one behind the other, `phase` bytes behind a multiple of 8."""

    def __init__(self, phase: int) -> None:
        self.octets = bytearray()
        self.places: dict[str, int] = {}
        """Where the fields begin."""
        self._phase = phase

    def align(self, size: int) -> int:
        """Go on to a multiple of `size`; returns by how many bytes."""
        padding = -(self._phase + len(self.octets)) % size
        self.octets += bytes(padding)
        return padding

    def number(self, letter: str, *values: Any) -> int:
        """Write numbers of one kind; returns where they begin."""
        self.align(struct.calcsize(f'={letter}'))
        begin = len(self.octets)
        self.octets += struct.pack(f'<{len(values)}{letter}', *values)
        return begin

    def field(self, field: Field) -> None:
        """Write a field's default."""
        if field.kind.startswith(_SEQUENCE):
            place = self.number('I', 0)
        elif field.kind == 'string':
            text = _text_octets(field.default)
            place = self.number('I', len(text))
            self.octets += text
        else:
            kind, _, length = field.kind.partition('[')
            place = self.number(_NUMBERS[kind], *(field.default if length else [field.default]))
        self.places[field.path] = place


def _values(detections: Detections) -> NDArray[np.float64]:
    """Return `_VALUES` of each detection, (n, 5)."""
    values = np.empty((len(detections), len(_VALUES)))
    low, high = detections.boxes_xyxy[:, :2], detections.boxes_xyxy[:, 2:]
    centres = np.add(low, high, values[:, :2], dtype=np.float64)
    centres *= 0.5
    np.subtract(high, low, values[:, 2:4], dtype=np.float64)
    values[:, 4] = detections.scores
    return values


def _header_octets(header: MessageHeader) -> bytes:
    text = _text_octets(header.frame_id)
    return struct.pack('<iII', header.sec, header.nanosec, len(text)) + text


def _id_octets(track_id: int) -> tuple[bytes, int]:
    """Return the field `id` with the padding behind it, and how much that is."""
    text = _text_octets(track_text(track_id))
    padding = -len(text) % _STEP
    return struct.pack('<I', len(text)) + text + bytes(padding), padding


def _text_octets(text: str) -> bytes:
    """Return a string as it is serialised; the C string that ROS makes of it ends at a zero."""
    return text.partition('\0')[0].encode() + b'\0'


_NO_ID = _id_octets(0)[0]


def _check_layout(layout: ArrayLayout) -> None:
    """Raise SettingError for fields that are missing or of a kind that is not written here."""
    for fields in (layout.array, layout.detection):
        if tuple((field.path, field.kind) for field in fields[: len(_HEADER)]) != _HEADER:
            raise SettingError('a message does not begin with a header')
    if [field.path for field in layout.array[len(_HEADER):]] != ['detections']:
        raise SettingError('the array has other fields than header and detections')
    fields = (*layout.detection, *(
        Field(f'{_RESULTS}.{path}', kind, default) for path, kind, default in layout.result
    ))
    if layout.detection[-1][:2] != _ID:
        raise SettingError('a detection does not end with an id')
    kinds = {field.path: field.kind for field in fields}
    wanted = {**dict.fromkeys(_VALUES, 'double'), f'{_RESULTS}.{_TEXT}': 'string'}
    missing = [path for path, kind in wanted.items() if kinds.get(path) != kind]
    if missing or not kinds.get(_RESULTS, '').startswith(_SEQUENCE):
        raise SettingError(f'a detection has no {", ".join(missing) or _RESULTS}')
    odd = [kind for kind in kinds.values() if not _is_written(kind)]
    if odd:
        raise SettingError(f'a detection has a field of kind {odd[0]}')


def _is_written(kind: str) -> bool:
    return kind == 'string' or kind.startswith(_SEQUENCE) or kind.partition('[')[0] in _NUMBERS
