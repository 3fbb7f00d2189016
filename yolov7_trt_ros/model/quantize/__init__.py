"""Calibrate a model, and insert Q/DQ pairs."""
