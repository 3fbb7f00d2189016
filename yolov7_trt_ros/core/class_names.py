"""Class names: the 80 of COCO, and reading names out of a model's metadata text."""

from __future__ import annotations

import ast
from collections.abc import Iterable
import json

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


def first_names(names: Iterable[str], most: int) -> str:
    """Return the first `most` names for people, with dots where there are more."""
    texts = list(names)
    return ', '.join(texts[:most]) + (', ...' if len(texts) > most else '')


def parse_class_names(text: str) -> tuple[str, ...]:
    """
    Read class names as exporters write them into model metadata.

    Accepts a JSON list, and a JSON object or Python dict literal from index to name.

    Raises
    ------
    ModelLayoutError
        The text is none of these, or its indices are not 0..n-1.

    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as exc:
            raise ModelLayoutError(
                f'class names in the model metadata are neither a list nor a dict: {text[:60]!r}'
            ) from exc
    if isinstance(value, dict):
        try:
            by_index = {int(index): name for index, name in value.items()}
        except (TypeError, ValueError, OverflowError) as exc:
            raise ModelLayoutError(
                f'class names in the model metadata have keys that are not numbers: {text[:60]!r}'
            ) from exc
        if sorted(by_index) != list(range(len(by_index))):
            raise ModelLayoutError('class names in the model metadata do not count from 0 upwards')
        value = [by_index[index] for index in range(len(by_index))]
    if not isinstance(value, (list, tuple)) or not all(isinstance(name, str) for name in value):
        raise ModelLayoutError(
            f'class names in the model metadata are not a list of texts: {text[:60]!r}'
        )
    return tuple(value)
