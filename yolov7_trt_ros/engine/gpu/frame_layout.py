"""
Which bytes of an image are uploaded, to which address, and how the kernel samples them. No CUDA.

Only source rows that the letterbox samples are uploaded, where that saves a quarter or more: of
1080 rows scaled to 360, every third.

"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.image import Encoding, find_encoding, ImageView, PixelLayout
from yolov7_trt_ros.core.letterbox import Letterbox, sample_axis
from yolov7_trt_ros.engine.gpu.device_records import tap_records

_STRIPE_BYTES = 1 << 20
_ALIGNMENT = 256
_WORTH_CHOOSING = 0.75
_MOST_FETCHES = 32
"""Copies of one image: each takes the host some microseconds, and all less than a copy of its."""


class StripeTarget(NamedTuple):
    """
    Where some rows of an image go in a staging slot.

    `rows` (rows, pitch) and `flat` (bytes,) view the same page-locked memory; `address` is that of
    the device's copy, 0 if there is none; `chosen` are the source rows, or `start` to `stop`.

    """

    start: int
    stop: int
    chosen: NDArray[np.intp] | None
    rows: NDArray[np.uint8]
    flat: NDArray[np.uint8]
    address: int


class RowFetch(NamedTuple):
    """
    Evenly spaced runs of rows, which one copy fetches.

    Attributes
    ----------
    first_row, run, spacing, repeats
        Of the source: its first row, how many follow each other, how far it is from the start of
        such a run to the next, and how many runs there are.
    to_row, step
        Of the upload: where the first run goes, and how far it is to the next.

    """

    first_row: int
    run: int
    spacing: int
    repeats: int
    to_row: int
    step: int

    def row_by_row(self) -> list[RowFetch]:
        """Return copies of single rows that fetch the same."""
        return [
            self._replace(first_row=self.first_row + row, run=1, to_row=self.to_row + row)
            for row in range(self.run)
        ]


@dataclasses.dataclass(frozen=True, eq=False)
class UploadPart:
    """
    One image of a frame, as it is uploaded.

    Attributes
    ----------
    offset
        Where it begins in the staging memory, in bytes.
    pitch
        Bytes from one row to the next on the device.
    rows
        Rows uploaded.
    chosen
        Which source rows these are, ascending (rows,); None: all of them.
    stripes
        Row ranges [start, stop) that are copied and sent one after another.
    fetches
        What fetches these rows from an image with this pitch; nothing if they lie too unevenly.
    targets
        Of each staging slot, by its serial number: where the stripes go, worked out once.

    """

    offset: int
    pitch: int
    rows: int
    chosen: NDArray[np.intp] | None
    stripes: tuple[tuple[int, int], ...]
    fetches: tuple[RowFetch, ...]
    targets: dict[int, tuple[StripeTarget, ...]] = dataclasses.field(default_factory=dict)

    @property
    def end(self) -> int:
        """Where it ends in the staging memory, in bytes."""
        return self.offset + self.rows * self.pitch

    def fetches_from(self, pitch: int) -> tuple[RowFetch, ...]:
        """Return what fetches these rows from an image with a pitch; rows with gaps are apart."""
        if pitch == self.pitch:
            return self.fetches
        alone = tuple([row for each in self.fetches for row in each.row_by_row()])
        return alone if len(alone) <= _MOST_FETCHES else ()


def make_part(
    offset: int, row_bytes: int, rows: int, chosen: NDArray[np.intp] | None
) -> UploadPart:
    """Return the upload of an image of `rows` rows, of which only `chosen` are wanted."""
    count = rows if chosen is None else len(chosen)
    number = max(1, round(count * row_bytes / _STRIPE_BYTES))
    edges = [count * index // number for index in range(number + 1)]
    stripes = tuple(zip(edges[:-1], edges[1:], strict=True))
    return UploadPart(offset, row_bytes, count, chosen, stripes, _plan_fetches(rows, chosen))


def _plan_fetches(rows: int, chosen: NDArray[np.intp] | None) -> tuple[RowFetch, ...]:
    """Return the copies of a pattern of runs that repeats, the shortest there is."""
    if chosen is None:
        return (RowFetch(0, 1, 1, rows, 0, 1),)
    starts = np.flatnonzero(np.diff(chosen, prepend=-2) != 1)
    lengths = np.diff(starts, append=len(chosen))
    for runs in range(1, min(len(starts), _MOST_FETCHES) + 1):
        step = int(lengths[:runs].sum())
        spacings = chosen[step:] - chosen[:-step]
        spacing = int(spacings[0]) if len(spacings) else step
        if (spacings == spacing).all() and (lengths[runs:] == lengths[:-runs]).all():
            return tuple([
                RowFetch(
                    int(chosen[start]), int(length), spacing, len(starts[index::runs]),
                    int(start), step,
                )
                for index, (start, length) in enumerate(zip(starts[:runs], lengths, strict=False))
            ])
    return ()


def image_rows(image: ImageView) -> NDArray[np.uint8]:
    """View an image as rows of bytes (rows, row_bytes); only odd layouts are copied."""
    pixels = image.pixels
    if pixels.dtype.itemsize == 2:
        pixels = pixels.astype('<u2', copy=False)
    rows = pixels.reshape(pixels.shape[0], -1)
    if rows.itemsize == 1 or rows.flags.c_contiguous:
        return rows.view(np.uint8)
    if rows.strides[1] != rows.itemsize:
        return np.ascontiguousarray(rows).view(np.uint8)
    return np.asarray(_RowsOfBytes(rows))


class _RowsOfBytes:
    """Padded rows of larger items as bytes; ndarray.view refuses them until NumPy 1.23."""

    def __init__(self, rows: NDArray[Any]) -> None:
        self._rows = rows  # owns the memory
        self.__array_interface__ = rows.__array_interface__ | {
            'typestr': '|u1', 'descr': [('', '|u1')], 'strides': (rows.strides[0], 1),
            'shape': (rows.shape[0], rows.shape[1] * rows.itemsize),
        }


def find_place(image: ImageView) -> tuple[int, int] | None:
    """
    Return address and row pitch of an image that can be fetched from its block of memory.

    None if it lies elsewhere than in the block, its pixels have gaps, or their bytes are in
    the other order.

    """
    pixels, kind = image.pixels, image.encoding
    pitch, *within = pixels.strides
    row_bytes = pixels.shape[1] * kind.pixel_bytes
    if within != [kind.pixel_bytes, kind.sample_bytes] or pitch < row_bytes:
        return None
    if image.memory is None or not pixels.dtype.isnative:
        return None
    address = pixels.ctypes.data
    size_bytes = (pixels.shape[0] - 1) * pitch + row_bytes
    return (address, pitch) if image.memory.holds(address, size_bytes) else None


def stripe_targets(
    part: UploadPart, staging: NDArray[np.uint8], device_address: int
) -> tuple[StripeTarget, ...]:
    """Return where the stripes of `part` go in the bytes of a slot and in the device's copy."""
    targets = []
    for start, stop in part.stripes:
        low, high = part.offset + start * part.pitch, part.offset + stop * part.pitch
        flat = staging[low:high]
        chosen = None if part.chosen is None else part.chosen[start:stop]
        address = device_address + low if device_address else 0
        rows = flat.reshape(stop - start, part.pitch)
        targets.append(StripeTarget(start, stop, chosen, rows, flat, address))
    return tuple(targets)


def copy_rows(source: NDArray[np.uint8], target: StripeTarget) -> None:
    """Copy the rows of an image (rows, row_bytes) that belong to a stripe."""
    if target.chosen is None:
        np.copyto(target.rows, source[target.start:target.stop])
    elif source.flags.c_contiguous:
        # 'clip' writes straight into the target, the default goes through a buffer
        source.take(target.chosen, 0, target.rows, 'clip')
    else:
        np.copyto(target.rows, source[target.chosen])


class SourceKey(NamedTuple):
    """Size, encoding name and (where the GPU reads the image in place) row pitch of an image."""

    size_wh: tuple[int, int]
    encoding: str
    pitch: int | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class SourcePart:
    """One image of a bucket: how it is uploaded and sampled."""

    key: SourceKey
    encoding: Encoding
    letterbox: Letterbox
    upload: UploadPart
    columns: np.ndarray
    """TAP records (resized_w,)."""
    rows: np.ndarray
    """TAP records (resized_h,), in uploaded rows."""


def plan_source(key: SourceKey, letterbox: Letterbox, offset: int) -> SourcePart:
    """Work out which rows of an image are uploaded where, and how they are sampled."""
    encoding = find_encoding(key.encoding)
    width, height = key.size_wh
    across = sample_axis(width, letterbox.resized_wh[0])
    down = sample_axis(height, letterbox.resized_wh[1])
    chosen, numbers = None, None
    independent = encoding.layout in (PixelLayout.PACKED, PixelLayout.YUV422)
    if independent and key.pitch is None and len(down.used) <= _WORTH_CHOOSING * height:
        chosen = down.used.astype(np.intp)
        numbers = np.zeros(height, np.int32)
        numbers[chosen] = np.arange(len(chosen))
    row_bytes = key.pitch or width * encoding.pixel_bytes
    upload = make_part(offset, row_bytes, encoding.rows(height), chosen)
    return SourcePart(
        key, encoding, letterbox, upload, tap_records(across), tap_records(down, numbers)
    )


def plan_sources(
    keys: tuple[SourceKey, ...], letterboxes: list[Letterbox]
) -> tuple[SourcePart, ...]:
    """Lay several images out one after another."""
    parts: list[SourcePart] = []
    offset = 0
    for key, letterbox in zip(keys, letterboxes, strict=True):
        part = plan_source(key, letterbox, offset)
        parts.append(part)
        offset = -(-part.upload.end // _ALIGNMENT) * _ALIGNMENT
    return tuple(parts)
