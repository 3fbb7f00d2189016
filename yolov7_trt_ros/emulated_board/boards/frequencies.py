"""Frequency tables in a short form."""

from __future__ import annotations


def steps(first: int, last: int, step: int) -> tuple[int, ...]:
    """Return first, first + step, ... and last."""
    return (*range(first, last, step), last)


def mhz(*values: float) -> tuple[int, ...]:
    """Return values in MHz as whole Hz."""
    return tuple(round(value * 1e6) for value in values)
