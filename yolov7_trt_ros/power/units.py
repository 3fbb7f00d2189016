"""Factors between units of time and of power."""

from __future__ import annotations

NS_PER_S = 1_000_000_000
MS_PER_S = 1_000
MW_PER_W = 1000.0
