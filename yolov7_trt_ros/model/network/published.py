"""The published layer tables of YOLOv7: tiny, yolov7, x, w6, e6, d6 and e6e."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses

from yolov7_trt_ros.core.forms.model_spec import ANCHOR_SETS, Anchors
from yolov7_trt_ros.model.network.layer_table import absolute, LayerRow


@dataclasses.dataclass(frozen=True)
class PublishedTable:
    """Rows, and the anchors in network pixels; maps beyond those with anchors are auxiliary."""

    name: str
    rows: tuple[LayerRow, ...]
    anchors: Anchors


class _Rows:
    """Rows under construction; sources below zero count back from the row they belong to."""

    def __init__(self, activation: str) -> None:
        self.rows: list[LayerRow] = []
        self._activation = activation

    @property
    def last(self) -> int:
        """Return the number of the row added last."""
        return len(self.rows) - 1

    def add(self, kind: str, *sources: int, channels: int | None = None, kernel: int = 1,
            stride: int = 1) -> int:
        """Add a row and return its number."""
        weighted = kind in ('conv', 'rep_conv', 'down', 'pyramid')
        activation = self._activation if weighted else 'identity'
        resolved = absolute(len(self.rows), sources or (-1,))
        self.rows.append(LayerRow(kind, resolved, channels, kernel, stride, activation=activation))
        return self.last

    def conv(self, channels: int, kernel: int = 1, stride: int = 1, source: int = -1) -> int:
        """Add a convolution."""
        return self.add('conv', source, channels=channels, kernel=kernel, stride=stride)

    def elan(self, hidden: int, step: int, depth: int, every: int, channels: int,
             source: int = -1) -> int:
        """
        Add an ELAN block: two 1x1 branches, `depth` 3x3 steps on the second, some of them joined.

        With `every` 2 each second step is joined, with 1 all are; the branches always.

        """
        self.conv(hidden, source=source)
        self.conv(hidden, source=source - 1 if source < 0 else source)
        for _ in range(depth):
            self.conv(step, 3)
        joined = [-back for back in range(1, depth + 1, every)]
        self.add('concat', *joined, -depth - 1, -depth - 2)
        return self.conv(channels)

    def pooled_down(self, channels: int, *beside: int) -> int:
        """Halve the map by a pooling and by a 3x3 step, joined with the rows `beside`."""
        self.add('max_pool', kernel=2, stride=2)
        self.conv(channels)
        self.conv(channels, source=-3)
        self.conv(channels, 3, 2)
        return self.add('concat', -1, -3, *beside)

    def lateral(self, channels: int, finer: int) -> int:
        """Enlarge the map and join it with that of the finer row."""
        self.conv(channels)
        self.add('upsample')
        self.conv(channels, source=finer)
        return self.add('concat', -1, -2)


def _tiny(activation: str) -> tuple[LayerRow, ...]:
    table = _Rows(activation)
    table.conv(32, 3, 2)
    table.conv(64, 3, 2)
    stages = [table.elan(32, 32, 2, 1, 64)]
    for hidden in (64, 128, 256):
        table.add('max_pool', kernel=2, stride=2)
        stages.append(table.elan(hidden, hidden, 2, 1, 2 * hidden))
    table.conv(256)
    table.conv(256, source=-2)
    for back, kernel in ((-1, 5), (-2, 9), (-3, 13)):
        table.add('max_pool', back, kernel=kernel)
    table.add('concat', -1, -2, -3, -4)
    table.conv(256)
    table.add('concat', -1, -7)
    coarse = table.conv(256)
    table.lateral(128, stages[2])
    middle = table.elan(64, 64, 2, 1, 128)
    table.lateral(64, stages[1])
    maps = [table.elan(32, 32, 2, 1, 64)]
    for channels, beside in ((128, middle), (256, coarse)):
        table.conv(channels, 3, 2)
        table.add('concat', -1, beside)
        maps.append(table.elan(channels // 2, channels // 2, 2, 1, channels))
    _finish(table, 'conv', (128, 256, 512), maps)
    return tuple(table.rows)


def _p5(stem: int, depth: int, last: str) -> tuple[LayerRow, ...]:
    """yolov7 (stem 32, four steps a block) and yolov7x (stem 40, six)."""
    table = _Rows('silu')
    neck_every = 1 if depth == 4 else 2
    table.conv(stem, 3)
    table.conv(2 * stem, 3, 2)
    table.conv(2 * stem, 3)
    table.conv(4 * stem, 3, 2)
    stages = [table.elan(64, 64, depth, 2, 8 * stem)]
    for hidden, scale in ((128, 16), (256, 32), (256, 32)):
        table.pooled_down((table.rows[-1].channels or 0) // 2)
        stages.append(table.elan(hidden, hidden, depth, 2, scale * stem))
    coarse = table.add('pyramid', channels=16 * stem)

    def neck(hidden: int, channels: int) -> int:
        step = hidden // 2 if depth == 4 else hidden
        return table.elan(hidden, step, depth, neck_every, channels)

    table.lateral(8 * stem, stages[2])
    middle = neck(256, 8 * stem)
    table.lateral(4 * stem, stages[1])
    maps = [neck(128, 4 * stem)]
    for hidden, scale, beside in ((256, 4, middle), (512, 8, coarse)):
        table.pooled_down(scale * stem, beside)
        maps.append(neck(hidden, 2 * scale * stem))
    _finish(table, last, (8 * stem, 16 * stem, 32 * stem), maps)
    return tuple(table.rows)


@dataclasses.dataclass(frozen=True)
class _P6:
    """What differs between the networks of four strides."""

    stem: int
    stages: tuple[int, int, int, int, int]
    laterals: tuple[int, int, int]
    depth: int
    plain_down: bool = False
    doubled: bool = False
    aux: tuple[int, int, int, int] = (320, 640, 960, 1280)

    def down(self, table: _Rows, channels: int) -> None:
        """Halve the map."""
        if self.plain_down:
            table.conv(channels, 3, 2)
        else:
            table.add('down', channels=channels, stride=2)

    def block(self, table: _Rows, hidden: int, step: int, every: int, channels: int) -> int:
        """Add an ELAN block; in e6e two of them on one source, added."""
        source = table.last
        first = table.elan(hidden, step, self.depth, every, channels)
        if not self.doubled:
            return first
        table.elan(hidden, step, self.depth, every, channels, source=source)
        return table.add('add', -1, first)


def _p6(form: _P6, aux: bool) -> tuple[LayerRow, ...]:
    table = _Rows('silu')
    table.add('reorg', stride=2)
    table.conv(form.stem, 3)
    stages = []
    for hidden, channels in zip((64, 128, 256, 384, 512), form.stages, strict=True):
        form.down(table, channels)
        stages.append(form.block(table, hidden, hidden, 2, channels))
    path = [table.add('pyramid', channels=form.stages[4] // 2)]
    hiddens = (384, 256, 128)
    for hidden, channels, finer in zip(hiddens, form.laterals, stages[3:0:-1], strict=True):
        table.lateral(channels, finer)
        path.append(form.block(table, hidden, hidden // 2, 1, channels))
    maps = [path[3]]
    widths = (*form.laterals[1::-1], form.stages[4] // 2)
    for hidden, channels, beside in zip((256, 384, 512), widths, path[2::-1], strict=True):
        form.down(table, channels)
        table.add('concat', -1, beside)
        maps.append(form.block(table, hidden, hidden // 2, 1, channels))
    heads = [2 * width for width in (form.laterals[2], *widths)]
    extra = [] if not aux else [
        # e6e's auxiliary maps are taken before its blocks are added
        (source - 1 if form.doubled and source != path[0] else source, channels)
        for source, channels in zip(path[::-1], form.aux, strict=True)
    ]
    _finish(table, 'conv', heads, maps, extra)
    return tuple(table.rows)


def _finish(
    table: _Rows, kind: str, channels: tuple[int, ...] | list[int], maps: list[int],
    extra: list[tuple[int, int]] | None = None,
) -> None:
    """Add the last convolution of each map, then the head."""
    wanted = [(kind, source, width) for source, width in zip(maps, channels, strict=True)]
    wanted += [('conv', source, width) for source, width in extra or ()]
    last = [table.add(kind, source, channels=width, kernel=3) for kind, source, width in wanted]
    table.add('detect', *last)


_W6 = _P6(64, (128, 256, 512, 768, 1024), (384, 256, 128), 4, plain_down=True)
_E6 = _P6(80, (160, 320, 640, 960, 1280), (480, 320, 160), 6)
_D6 = _P6(96, (192, 384, 768, 1152, 1536), (576, 384, 192), 8, aux=(384, 768, 1152, 1536))
_E6E = dataclasses.replace(_E6, doubled=True)

_TABLES: dict[str, tuple[Callable[[], tuple[LayerRow, ...]], str]] = {
    'yolov7-tiny': (lambda: _tiny('leaky_relu'), 'yolov7-tiny'),
    'yolov7-tiny-silu': (lambda: _tiny('silu'), 'yolov7-tiny'),
    'yolov7': (lambda: _p5(32, 4, 'rep_conv'), 'yolov7'),
    'yolov7x': (lambda: _p5(40, 6, 'conv'), 'yolov7'),
    'yolov7-w6': (lambda: _p6(_W6, aux=False), 'yolov7-p6'),
    'yolov7-w6-training': (lambda: _p6(_W6, aux=True), 'yolov7-p6'),
    'yolov7-e6': (lambda: _p6(_E6, aux=False), 'yolov7-p6'),
    'yolov7-e6-training': (lambda: _p6(_E6, aux=True), 'yolov7-p6'),
    'yolov7-d6': (lambda: _p6(_D6, aux=False), 'yolov7-p6'),
    'yolov7-d6-training': (lambda: _p6(_D6, aux=True), 'yolov7-p6'),
    'yolov7-e6e': (lambda: _p6(_E6E, aux=False), 'yolov7-p6'),
    'yolov7-e6e-training': (lambda: _p6(_E6E, aux=True), 'yolov7-p6'),
}

PUBLISHED = tuple(_TABLES)
"""Names of the tables; the training forms that have auxiliary maps are tables of their own."""


def published_table(name: str) -> PublishedTable:
    """Return the table of one of `PUBLISHED`."""
    build, anchors = _TABLES[name]
    return PublishedTable(name, build(), ANCHOR_SETS[anchors])
