"""Defaults and limits of settings that command lines show too. The standard library only."""

from __future__ import annotations

DEFAULT_SCORE_THRESHOLD = 0.25
DEFAULT_IOU_THRESHOLD = 0.45
DEFAULT_MAX_DETECTIONS = 300
MAX_DETECTIONS_LIMIT = 1000
DEFAULT_TILE_OVERLAP = 0.2
MOST_TILE_OVERLAP = 0.5

MAX_PIXELS = 1 << 28
"""Largest width x height accepted (268 megapixels); beyond it a header is taken for corrupt."""

DEFAULT_MAX_DECODED_PIXELS = 1 << 26
"""
Default of the largest width x height that a file or message is decoded to (67 megapixels).

A small file can state any size. Decoding to this one takes about 400 MB, which a board of 8 GB
has; the largest sensors of today's cameras have 61 megapixels.

"""
