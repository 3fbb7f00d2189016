"""Explain detection heads that are not supported, by layer kind or by weight name."""

from __future__ import annotations

import re

# Heads that are not decoded, by the kind of the pickled layer.
_HEADS = {
    'IBin': 'its boxes are decoded from bins, which no exporter of YOLOv7 supports',
    'IKeypoint': 'it is a pose or face model with key points, not a plain detector',
    'MT': 'it is a multi-task model, not a plain detector',
    'Segment': 'it is a segmentation model, not a plain detector',
    'ISegment': 'it is a segmentation model, not a plain detector',
    'IRSegment': 'it is a segmentation model, not a plain detector',
    'Merge': 'it is a segmentation model, not a plain detector',
    'Pose': 'it is a pose model, not a plain detector',
    'OBB': 'its boxes are turned, which is not decoded here',
    'Classify': 'it is a classifier, which finds no boxes',
}

# The same, by the weights that only such a head has.
_HEAD_WEIGHTS = (
    (r'(m_kpt|kpt|cv_kpt|m2_kpt)\.', 'IKeypoint'),
    (r'([wh]_bin_sigma|.*bins$)', 'IBin'),
    (r'(proto|p3_m|seg|mask|cv_mask)', 'ISegment'),
    (r'(landm|m_landm)', 'IKeypoint'),
)


def describe_head(kind: str) -> str | None:
    """Return the reason for refusing a head of this kind; None if the kind is unknown."""
    if kind in _HEADS:
        return f'the head of the model is {kind}: {_HEADS[kind]}'
    return None


def describe_head_weight(name: str) -> str | None:
    """Return the reason for refusing a head with a weight of this name; None if unknown."""
    for pattern, kind in _HEAD_WEIGHTS:
        if re.match(pattern, name):
            return describe_head(kind)
    return None
