"""LayerRow: a network as a table of layers, with the rows that each one reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
import dataclasses

from yolov7_trt_ros.errors import CheckpointError

IMAGE = -1
"""The source that is no row: the input image."""

KINDS = ('conv', 'rep_conv', 'max_pool', 'upsample', 'concat', 'add', 'reorg', 'down', 'pyramid',
         'detect')
ACTIVATIONS = ('silu', 'leaky_relu', 'relu', 'identity')
LEAKY_SLOPE = 0.1

_SOURCE_COUNTS = {'concat': (1, 64), 'add': (2, 2), 'detect': (1, 8)}
_LARGEST_KERNEL = 63
_KEEPING = ('conv', 'rep_conv', 'max_pool')


@dataclasses.dataclass(frozen=True)
class LayerRow:
    """
    One layer.

    Attributes
    ----------
    kind
        `conv` (convolution, batch norm, activation), `rep_conv` (a 3x3 and a 1x1 convolution and
        a bare batch norm side by side), `max_pool`, `upsample` (twice as large, nearest),
        `concat`, `add`, `reorg` (the four pixels of each 2x2 square become channels), `down`
        (DownC: a 3x3 step of two beside a pooling), `pyramid` (SPPCSPC) or `detect`.
    sources
        Rows that it reads, absolute; -1 is the image.
    channels
        Outputs; None if they follow from the weights, as in every network with weights.
    kernel, stride
        Of a convolution or pooling; the stride of `reorg` and `down` is 2.
    groups
        Of a convolution.
    activation
        One of `ACTIVATIONS`; a leaky ReLU has slope 0.1.

    """

    kind: str
    sources: tuple[int, ...]
    channels: int | None = None
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    activation: str = 'identity'

    @property
    def padding(self) -> int:
        """Pixels added on each side; poolings that step add none."""
        return 0 if self.kind == 'max_pool' and self.stride > 1 else self.kernel // 2


def check_rows(rows: Sequence[LayerRow]) -> tuple[LayerRow, ...]:
    """
    Return the rows after checking that they describe a detector.

    Raises
    ------
    CheckpointError
        A row of no known kind or activation, with impossible sources or sizes, or no single
        `detect` at the end.

    """
    for index, row in enumerate(rows):
        fault = _find_fault(index, row, len(rows) - 1)
        if fault:
            raise CheckpointError(f'layer {index} ({row.kind}) of the network {fault}')
    if not rows:
        raise CheckpointError('the table of layers is empty')
    row_strides(rows)
    return tuple(rows)


def _find_fault(index: int, row: LayerRow, last: int) -> str:
    least, most = _SOURCE_COUNTS.get(row.kind, (1, 1))
    if row.kind not in KINDS:
        return f'is none of {", ".join(KINDS)}'
    if (row.kind == 'detect') != (index == last):
        return 'is not the last, as the one detection head must be'
    if not least <= len(row.sources) <= most:
        return f'reads {len(row.sources)} layers, expected {least} to {most}'
    if not all(IMAGE <= source < index for source in row.sources):
        return f'reads {row.sources}: each must be an earlier layer'
    if row.activation not in ACTIVATIONS:
        return f'has the activation {row.activation!r}, expected one of {", ".join(ACTIVATIONS)}'
    if not (1 <= row.kernel <= _LARGEST_KERNEL and 1 <= row.stride <= 2 and row.groups >= 1):
        return f'has kernel {row.kernel}, stride {row.stride}, groups {row.groups}'
    if row.kind in _KEEPING and row.kernel % 2 == 0 and row.stride == 1:
        return f'has an even kernel of {row.kernel}, which changes the size of the map'
    return ''


def row_strides(rows: Sequence[LayerRow]) -> list[int]:
    """
    Return the network pixels per cell of each row's map; of `detect` the largest.

    Raises
    ------
    CheckpointError
        A row joins maps of different sizes, or makes a map finer than the image.

    """
    strides: list[int] = []
    for index, row in enumerate(rows):
        before = {1 if source == IMAGE else strides[source] for source in row.sources}
        if row.kind != 'detect' and len(before) > 1:
            raise CheckpointError(
                f'layer {index} ({row.kind}) joins maps of the strides {sorted(before)}'
            )
        stride = max(before)
        if row.kind == 'upsample':
            if stride % 2:
                raise CheckpointError(f'layer {index} makes a map finer than the image')
            strides.append(stride // 2)
        else:
            strides.append(stride * row.stride)
    return strides


def head_strides(rows: Sequence[LayerRow]) -> tuple[int, ...]:
    """Return the stride of each map that the detection head reads, in its order."""
    strides = row_strides(rows)
    return tuple(strides[source] for source in rows[-1].sources)


def live_rows(rows: Sequence[LayerRow]) -> list[int]:
    """Return the numbers of the rows that the last one needs, ascending."""
    needed = {len(rows) - 1}
    for index in range(len(rows) - 1, -1, -1):
        if index in needed:
            needed.update(rows[index].sources)
    return sorted(needed - {IMAGE})


def absolute(index: int, sources: Iterable[int]) -> tuple[int, ...]:
    """Return sources as row numbers, where negative ones count back from row `index`."""
    return tuple(
        source if source >= 0 else max(IMAGE, index + source) for source in sources
    )
