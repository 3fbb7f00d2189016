"""Crops and tiles of a frame: where they lie, and one result of all."""
