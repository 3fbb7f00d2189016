"""Anchors of raw heads: the published sets, those of a model, and those given by users."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import json
import re

import numpy as np

from yolov7_trt_ros.core.forms.model_spec import ANCHOR_SETS, Anchors, ANCHORS_PER_CELL
from yolov7_trt_ros.errors import ModelLayoutError, SettingError

_HEADS = (3, 4)
_NUMBER = re.compile(r'[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?')
_FORBIDDEN = re.compile(r'[^\d\s.,;:x\[\]()eE+-]')
_LARGEST_PX = 65536
_SHOWN = 60


@dataclasses.dataclass(frozen=True)
class ChosenAnchors:
    """Anchors, their source, and doubts about them."""

    anchors: Anchors
    origin: str
    doubts: tuple[str, ...] = ()


def choose_anchors(setting: str) -> Anchors | None:
    """
    Return the anchors of a setting: a name of `ANCHOR_SETS` or numbers; None for `auto`.

    Raises
    ------
    SettingError
        Neither.

    """
    if setting in ('', 'auto'):
        return None
    if setting in ANCHOR_SETS:
        return ANCHOR_SETS[setting]
    try:
        return parse_anchors(setting)
    except SettingError as exc:
        known = ', '.join(ANCHOR_SETS)
        raise SettingError(f'anchors must be auto or one of {known}, or numbers: {exc}') from exc


def model_anchors(
    given: Anchors | None, metadata: Mapping[str, str], strides: tuple[int, ...]
) -> ChosenAnchors:
    """
    Return the anchors of a model with raw heads.

    Raises
    ------
    ModelLayoutError
        They are unknown, or do not fit the heads.

    """
    if given is not None:
        chosen = ChosenAnchors(given, 'anchors as given')
    elif 'anchors' in metadata:
        chosen = ChosenAnchors(
            _parse_metadata(metadata['anchors']), "anchors from the model's metadata"
        )
    else:
        chosen = _published(strides)
    _check(chosen.anchors, strides)
    return chosen


def _published(strides: tuple[int, ...]) -> ChosenAnchors:
    fitting = [name for name, heads in ANCHOR_SETS.items() if len(heads) == len(strides)]
    if len(fitting) > 1:
        raise ModelLayoutError(
            'ambiguous: a model with raw heads does not say its anchors, and yolov7-tiny and '
            f'yolov7 differ; set anchors to one of {", ".join(fitting)} or to numbers, or export '
            'with --grid'
        )
    name = fitting[0]
    return ChosenAnchors(ANCHOR_SETS[name], f'anchors of {name} assumed', (
        f'the model does not tell its anchors: those of {name} are assumed; anchors (--anchors) '
        'says others',
    ))


def _check(anchors: Anchors, strides: tuple[int, ...]) -> None:
    if len(anchors) != len(strides):
        raise ModelLayoutError(
            f'the model has {len(strides)} heads, but the anchors are for {len(anchors)}'
        )
    if any(len(head) != ANCHORS_PER_CELL for head in anchors):
        counts = ', '.join(str(len(head)) for head in anchors)
        raise ModelLayoutError(f'expected {ANCHORS_PER_CELL} anchors per head, got {counts}')


def _parse_metadata(text: str) -> Anchors:
    """Read [[[w, h], ...], ...] or the flat [[w, h, w, h, ...], ...] of YOLO configurations."""
    try:
        heads = [np.array(head, float).reshape(-1, 2) for head in json.loads(text)]
    except (ValueError, TypeError, OverflowError, RecursionError) as exc:
        raise ModelLayoutError(
            f'anchors in the model metadata are unreadable: {text[:_SHOWN]!r}'
        ) from exc
    if not all(np.all(np.isfinite(head) & (head > 0)) for head in heads):
        raise ModelLayoutError(
            f'anchors in the model metadata must be positive sizes: {text[:_SHOWN]!r}'
        )
    return tuple(tuple((float(width), float(height)) for width, height in head) for head in heads)


def parse_anchors(text: str) -> Anchors:
    """
    Read anchors as people write them: `10,13 16,30 33,23  30,61 ...`, widths before heights.

    Also the `anchors:` of a YOLOv7 configuration (`cfg/*.yaml`), the `anchors =` of a Darknet one,
    and JSON lists. Heads go from the smallest stride up, three anchors each.

    Raises
    ------
    SettingError
        Not 9 or 12 pairs of positive numbers, or not from small to large.

    """
    section = _anchor_section(text)
    numbers = [float(number) for number in _NUMBER.findall(section)]
    expected = [2 * ANCHORS_PER_CELL * heads for heads in _HEADS]
    stray = _FORBIDDEN.search(section)
    if stray or len(numbers) not in expected or not all(0 < n < _LARGEST_PX for n in numbers):
        found = f'{stray.group()!r}' if stray else f'{len(numbers)} numbers'
        raise SettingError(
            'anchors are widths and heights in pixels, 3 for each of 3 or 4 heads from the '
            f'smallest stride up: "10,13 16,30 33,23 30,61 ..." ({expected[0]} or {expected[1]} '
            f'positive numbers); found {found} in {" ".join(section.split())[:_SHOWN]!r}'
        )
    heads = np.array(numbers).reshape(-1, ANCHORS_PER_CELL, 2)
    areas = heads.prod(axis=2).mean(axis=1)
    if not np.all(np.diff(areas) > 0):
        raise SettingError(
            'anchors go from the smallest stride up, so each head has larger ones than the one '
            f'before; the mean areas here are {", ".join(f"{area:.0f}" for area in areas)} pixels'
        )
    return tuple(tuple((float(w), float(h)) for w, h in head) for head in heads)


def format_anchors(anchors: Anchors) -> str:
    """Return anchors as `parse_anchors` reads them: `10,13 16,30 33,23 30,61 ...`."""
    return ' '.join(f'{width:g},{height:g}' for head in anchors for width, height in head)


def _anchor_section(text: str) -> str:
    """Return the anchors of a configuration, or the whole text; comments are left out."""
    lines = [line.split('#')[0].rstrip() for line in text.splitlines()]
    for index, line in enumerate(lines):
        name, separator, rest = line.strip().partition('=' if '=' in line else ':')
        if separator and name.strip().strip('"\'') == 'anchors':
            following = []
            for other in lines[index + 1:]:
                if other.strip() and not other.strip().startswith(('-', '[', ']')):
                    break
                following.append(other.strip().removeprefix('-'))
            return '\n'.join([rest, *following])
    return '\n'.join(lines)
