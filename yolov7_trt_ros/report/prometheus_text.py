"""
Format metrics as the Prometheus text exposition format, version 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format

"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
import dataclasses
from typing import NamedTuple


@dataclasses.dataclass(frozen=True)
class Family:
    """
    All series of one name.

    Attributes
    ----------
    name
        By the rules of Prometheus: `[a-zA-Z_:][a-zA-Z0-9_:]*`, base units in it, `_total` at the
        end of a counter.
    kind
        `counter`, `gauge`, or `summary` of samples with the label `quantile`.
    about
        What it counts or measures.

    """

    name: str
    kind: str
    about: str


class Sample(NamedTuple):
    """One number of a family."""

    family: Family
    labels: Mapping[str, str]
    """By names `[a-zA-Z_][a-zA-Z0-9_]*`; any text as values."""
    value: float


def exposition(samples: Iterable[Sample]) -> str:
    """Return samples as text, those of a family together; of equal labels the last one counts."""
    series: dict[Family, dict[str, float]] = {}
    for family, labels, value in samples:
        series.setdefault(family, {})[_labels_text(labels)] = value
    return ''.join(_family_text(family, values) for family, values in series.items())


def _family_text(family: Family, values: Mapping[str, float]) -> str:
    about = family.about.replace('\\', r'\\').replace('\n', r'\n')
    lines = [f'# HELP {family.name} {about}', f'# TYPE {family.name} {family.kind}']
    lines += [f'{family.name}{labels} {value!r}' for labels, value in values.items()]
    return '\n'.join(lines) + '\n'


def _labels_text(labels: Mapping[str, str]) -> str:
    parts = ','.join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f'{{{parts}}}' if parts else ''


def _escaped(value: str) -> str:
    return value.replace('\\', r'\\').replace('"', r'\"').replace('\n', r'\n')
