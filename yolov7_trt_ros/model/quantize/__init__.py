"""Calibration, and Q/DQ pairs where they cost least."""
