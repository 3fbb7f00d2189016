"""Crops and tiles of a frame: their positions, and merging their detections."""
