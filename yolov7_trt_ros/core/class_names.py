"""Class names: the 80 of COCO, and parsing names from the metadata of a model."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable
import json
import re
from typing import Any
import warnings

from yolov7_trt_ros.errors import ModelLayoutError

COCO80 = tuple(
    'person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,'
    'stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,'
    'backpack,umbrella,handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,'
    'baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,knife,spoon,'
    'bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,'
    'potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,'
    'oven,toaster,sink,refrigerator,book,clock,vase,scissors,teddy bear,hair drier,'
    'toothbrush'.split(',')
)

COCO80_CATEGORY_IDS = tuple(
    category
    for category in range(1, 91)
    if category not in {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
)
"""COCO's sparse category id (1..90) of each of the 80 classes."""

_MOST_CHARACTERS = 1 << 19
"""More than the 21,841 names of ImageNet take."""
_INDEX = re.compile('[0-9]{1,9}')
_JOINERS = frozenset('\u00a0\u3000\u200c\u200d')


def first_names(names: Iterable[str], most: int) -> str:
    """Return the first `most` names as text, with dots if there are more."""
    texts = list(names)
    return ', '.join(texts[:most]) + (', ...' if len(texts) > most else '')


def repeated_note(names: Iterable[str]) -> str:
    """Return a warning if several classes have one name, else ''."""
    again = [name for name, count in Counter(names).items() if count > 1]
    if not again:
        return ''
    return f'several classes of the model have the same name: {first_names(again, 5)}'


def visible(text: str) -> str:
    r"""
    Return text with invisible characters escaped, as `\x1b`, so that it cannot deceive.

    Control characters move a terminal's cursor, others change the direction of reading. Blanks
    of other scripts and joiners of letters are kept.

    """
    if text.isprintable():
        return text
    return ''.join(
        each if each.isprintable() or each in _JOINERS
        else each.encode('unicode_escape').decode('ascii')
        for each in text
    )


def parse_class_names(text: str) -> tuple[str, ...]:
    """
    Read class names as exporters write them into model metadata.

    Accepts a JSON list, and a JSON object or Python dict literal from index to name. What is
    invisible in a name is escaped.

    Raises
    ------
    ModelLayoutError
        The text is none of these or too long, or its indices are not 0..n-1, each once.

    """
    if len(text) > _MOST_CHARACTERS:
        raise _unreadable(f'are longer than {_MOST_CHARACTERS} characters', text)
    value = _parse_literal(text)
    if isinstance(value, _Pairs):
        value = _in_order(value, text)
    if not isinstance(value, (list, tuple)) or not all(isinstance(name, str) for name in value):
        raise _unreadable('are not a list of texts', text)
    return tuple(visible(name) for name in value)


class _Pairs(list[tuple[Any, Any]]):
    """What a dict was written as: keys that are there twice are still there."""


def _parse_literal(text: str) -> Any:
    """Return a value of JSON or Python, dicts as pairs."""
    try:
        return json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of odd escapes, which would be printed
            tree = ast.parse(text.strip(), mode='eval').body
            if not isinstance(tree, ast.Dict):
                return ast.literal_eval(tree)
            return _Pairs(
                (_literal(key), _literal(value))
                for key, value in zip(tree.keys, tree.values, strict=True)
            )
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as exc:
        raise _unreadable('are neither a list nor a dict', text) from exc


def _literal(node: ast.expr | None) -> Any:
    if node is None:
        raise ValueError('a dict within a dict')
    return ast.literal_eval(node)


def _in_order(pairs: _Pairs, text: str) -> list[Any]:
    """Return the values of keys 0..n-1."""
    by_index = {}
    for key, name in pairs:
        if isinstance(key, str) and _INDEX.fullmatch(key.strip()):
            key = int(key)
        if not isinstance(key, int):
            raise _unreadable('have keys that are not numbers', text)
        by_index[key] = name
    if sorted(by_index) != list(range(len(pairs))):
        raise _unreadable('do not count from 0 upwards, each number once', text)
    return [by_index[index] for index in range(len(pairs))]


def _unreadable(why: str, text: str) -> ModelLayoutError:
    return ModelLayoutError(f'class names in the model metadata {why}: {text[:60]!r}')
