"""Facts about a checkpoint: what was found, from which source, and what was assumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

from torch import Tensor

from yolov7_trt_ros.core.class_names import first_names
from yolov7_trt_ros.core.forms.model_spec import ANCHOR_SETS, Anchors
from yolov7_trt_ros.errors import CheckpointError
from yolov7_trt_ros.model.network.fold import SourceModel

_SHOWN_NAMES = 4
_SAME = 0.01


@dataclasses.dataclass(frozen=True)
class Fact:
    """
    One fact about a checkpoint.

    Attributes
    ----------
    name, value
        Such as `activation` and `leaky_relu`.
    source
        How it is known.
    is_assumed
        It is not known; `source` has the reason for this value.

    """

    name: str
    value: str
    source: str
    is_assumed: bool = False

    def __str__(self) -> str:
        """Return value and source."""
        return f'{self.value} ({"assumed: " * self.is_assumed}{self.source})'

    def as_record(self) -> dict[str, Any]:
        """Return it JSON-ready, without its name."""
        return {'value': self.value, 'from': self.source, 'assumed': self.is_assumed}


@dataclasses.dataclass(frozen=True)
class Overrides:
    """
    Values that override a checkpoint or an assumption; None: no override.

    Attributes
    ----------
    table
        Name of the published table that a plain state_dict belongs to.
    activation
        Of a plain state_dict.
    anchors
        Width and height in network pixels, per map.
    class_names
        One per class.

    """

    table: str | None = None
    activation: str | None = None
    anchors: Anchors | None = None
    class_names: Sequence[str] | None = None


@dataclasses.dataclass(frozen=True)
class FoundModel:
    """
    A model in a checkpoint, and the facts about it.

    Attributes
    ----------
    source
        Its table and weights; without class names.
    facts
        Facts about it, without classes and strides.
    names
        The class names as the file has them; None if it has none.
    num_classes
        Number of classes stated in the file; None if it states none.

    """

    source: SourceModel
    facts: tuple[Fact, ...]
    names: object = None
    num_classes: int | None = None


def read_class_names(names: object) -> tuple[str, ...] | None:
    """
    Return class names as a checkpoint has them: a list, or a table by numbers; None for none.

    Raises
    ------
    CheckpointError
        They are neither, are not numbered from 0 upwards, or are no texts.

    """
    if isinstance(names, dict) and names:
        numbers = [_number(key) for key in names]
        if sorted(numbers) != list(range(len(names))):
            raise CheckpointError(
                f'the class names are numbered {first_names(map(str, sorted(numbers)), 4)}; '
                'expected 0, 1, 2, ...: give them with --class-names'
            )
        names = [name for _, name in sorted(zip(numbers, names.values(), strict=True),
                                            key=lambda pair: pair[0])]
    if names is None or names == [] or names == () or names == {}:
        return None
    if not isinstance(names, (list, tuple)) or not all(
        isinstance(name, (str, int, float)) for name in names
    ):
        raise CheckpointError(
            'the class names in it are not a list of texts: give them with --class-names'
        )
    # half a surrogate pair cannot be encoded in UTF-8, so neither in ONNX nor in a message
    return tuple(str(name).encode('utf-8', 'replace').decode() for name in names)


def _number(key: object) -> int:
    return int(key) if isinstance(key, (int, str)) and str(key).isdecimal() else -1


def names_fact(given: bool, names: Sequence[str] | None, network_names: Sequence[str]) -> Fact:
    """Return how the class names are known: given, from the file, or assumed."""
    value = f'{len(network_names)}: {first_names(network_names, _SHOWN_NAMES)}'
    if given:
        return Fact('class names', value, 'given; the checkpoint was not asked')
    if names is not None:
        return Fact('class names', value, 'from the checkpoint')
    return Fact('class names', value, 'the checkpoint has none; --class-names gives them', True)


def anchors_fact(anchors: Anchors, source: str, *, is_assumed: bool = False) -> Fact:
    """Return which anchors there are, by name if they are published ones."""
    for name, published in ANCHOR_SETS.items():
        if anchors == published:
            return Fact('anchors', f'those published for {name}', source, is_assumed)
    shown = ' '.join(
        f'{width:g},{height:g}' for sizes in anchors for width, height in sizes
    )
    return Fact('anchors', f'its own: {shown}', source, is_assumed)


def read_anchors(buffers: Mapping[str, Tensor], strides: Sequence[int]) -> tuple[Anchors, str]:
    """
    Return the anchors in network pixels that a head holds, and from which buffer.

    Parameters
    ----------
    buffers
        `anchor_grid`, (maps, 1, anchors, 1, 1, 2) in network pixels, which the original decodes
        by, or `anchors`, (maps, anchors, 2) in cells; or neither.
    strides
        Network pixels a cell, per map that has anchors.

    Returns
    -------
    anchors
        Empty if there are none.

    Raises
    ------
    CheckpointError
        They are of another shape, or no sizes.

    """
    maps = {
        name: _sizes(name, buffers[name], len(strides))
        for name in ('anchor_grid', 'anchors') if name in buffers
    }
    if 'anchors' in maps:
        cells = zip(maps['anchors'], strides, strict=True)
        maps['anchors'] = tuple(
            tuple((width * stride, height * stride) for width, height in sizes)
            for sizes, stride in cells
        )
    if not maps:
        return (), ''
    if 'anchor_grid' not in maps:
        return maps['anchors'], 'its buffer anchors, times the strides'
    source = 'its buffer anchor_grid'
    if 'anchors' in maps and not _are_alike(maps['anchor_grid'], maps['anchors']):
        source += ', which the original decodes by; its buffer anchors has others'
    return maps['anchor_grid'], source


def _sizes(name: str, buffer: Tensor, maps: int) -> Anchors:
    if buffer.ndim < 3 or buffer.shape[-1] != 2 or len(buffer) != maps or not buffer.numel():
        raise CheckpointError(
            f'the head holds {name} of the shape {tuple(buffer.shape)}, expected {maps} maps of '
            'anchors with a width and a height each'
        )
    listed = buffer.double().reshape(maps, -1, 2).tolist()
    anchors = tuple(tuple((width, height) for width, height in sizes) for sizes in listed)
    if not all(0 < side < 1e6 for sizes in anchors for pair in sizes for side in pair):
        raise CheckpointError(f'the head holds {name} that are no sizes: {anchors[0]}, ...')
    return anchors


def _are_alike(one: Anchors, other: Anchors) -> bool:
    return [len(sizes) for sizes in one] == [len(sizes) for sizes in other] and all(
        abs(first - second) <= _SAME * first
        for sizes, others in zip(one, other, strict=True)
        for pair, beside in zip(sizes, others, strict=True)
        for first, second in zip(pair, beside, strict=True)
    )
