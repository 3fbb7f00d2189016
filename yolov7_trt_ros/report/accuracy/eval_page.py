"""An evaluation as one HTML page: precision over recall, a confusion matrix, all classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.report.accuracy.coco import ClassPrecision
from yolov7_trt_ros.report.accuracy.confusion import Confusions, NOTHING
from yolov7_trt_ros.report.page import (
    figure,
    footer,
    heading,
    Html,
    make_page,
    paragraph,
    safe,
    table,
)
from yolov7_trt_ros.report.svg_parts import as_svg, COLOURS, line, text, upright_text

_CHART_WH, _LEFT, _TOP, _RIGHT, _BOTTOM = (900, 460), 60, 16, 640, 400
_MOST_LINES = 100
"""Classes drawn at all; those with a colour are the ones labelled most."""
_MATRIX_CLASSES = 16
_MOST_MISTAKES = 20
_LONGEST_NAME = 28
_OTHERS = -2
_STYLE = """
svg polyline { fill: none; stroke-width: 1.8; } svg .thin { stroke: var(--soft);
  stroke-width: .7; opacity: .45; } svg .all { stroke: var(--ink); stroke-width: 3.5; }
.matrix td { text-align: center; padding: .3rem .4rem; min-width: 2rem; }
.matrix td:first-child { text-align: right; white-space: nowrap; color: var(--soft);
  font-weight: 600; } .matrix th { writing-mode: vertical-rl; transform: rotate(180deg);
  text-align: left; padding: .4rem .2rem; max-height: 11rem; min-width: 0; white-space: nowrap; }
.matrix th:first-child { writing-mode: horizontal-tb; transform: none; vertical-align: bottom;
  white-space: normal; }
.matrix tbody tr:nth-child(even) { background: none; } .matrix b, .matrix i { display: block;
  font-style: normal; font-weight: 400; border-radius: 3px; padding: 0 .25rem; }
.matrix .right { background: color-mix(in srgb, #3a9e6e var(--share), transparent); }
.matrix .wrong { background: color-mix(in srgb, #d9534f var(--share), transparent); }
"""


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """
    What an evaluation found, and how.

    Attributes
    ----------
    title
        Heading of the page.
    classes
        Precision of each.
    confusions
        Which class was taken for which.
    rows
        Name and value: model, images, AP, settings.
    warnings
        What makes the numbers doubtful.
    versions, made
        Of what evaluated, and when.

    """

    title: str
    classes: tuple[ClassPrecision, ...]
    confusions: Confusions
    rows: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...] = ()
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    made: str = ''


def as_html(found: Evaluation) -> str:
    """Return the page; it is well-formed XML too."""
    confusions = found.confusions
    return make_page(found.title, [
        *(paragraph(text, 'warning') for text in found.warnings),
        table((), found.rows, kind='text', name='summary'),
        heading('Precision over recall'), _curves(found.classes),
        heading('Which class was taken for which'),
        paragraph(
            f'Detections with a score of {confusions.score_threshold:g} or more, paired with '
            f'labels that they overlap by {confusions.iou:g} or more, whatever their class. Rows '
            'are labelled classes, columns are detected classes.', 'note'),
        _matrix(confusions), _mistakes(confusions),
        heading('Classes'), _classes(found.classes),
        footer(found.made, found.versions),
    ], style=_STYLE)


# ---- curves


def _by_labels(classes: Sequence[ClassPrecision]) -> list[ClassPrecision]:
    return sorted(classes, key=lambda each: (-each.instances, each.name))


def _curves(classes: Sequence[ClassPrecision]) -> str:
    """Return the curves at IoU 0.5: the mean of all, and the classes labelled most in colour."""
    order = _by_labels(classes)[:_MOST_LINES]
    mean = np.mean([each.precision[0] for each in classes], axis=0)
    parts = _axes()
    for each in order[len(COLOURS):]:
        parts.append(_curve(each.precision[0], 'class="thin"', each.name))
    entries = [('mean of all classes', float(mean.mean()), 'var(--ink)')]
    for each, colour in zip(order, COLOURS, strict=False):
        parts.append(_curve(each.precision[0], f'stroke="{colour}"', each.name))
        entries.append((each.name, float(each.precision[0].mean()), colour))
    parts.append(_curve(mean, 'class="all"', 'mean of all classes'))
    others = len(order) - len(entries) + 1
    caption = 'IoU 0.5. The area below a curve is its AP50.'
    if others > 0:
        caption += f' Thin lines: {others} other classes, named in tooltips.'
    if len(classes) > len(order):
        caption += f' {len(classes) - len(order)} more are in the table alone.'
    svg = as_svg(*_CHART_WH, 'Precision over recall', parts + _legend(entries))
    return figure(svg, caption)


def _axes() -> list[str]:
    parts = []
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1):
        x, y = _at(tick, tick)
        parts += [line(x, _TOP, x, _BOTTOM, 'grid'), line(_LEFT, y, _RIGHT, y, 'grid'),
                  text(x, _BOTTOM + 18, f'{tick:g}', 'tick', 'middle'),
                  text(_LEFT - 8, y + 4, f'{tick:g}', 'tick', 'end')]
    middle = (_LEFT + _RIGHT) / 2
    return [*parts, text(middle, _BOTTOM + 42, 'recall: part of what is labelled that is found',
                         'axis', 'middle'),
            upright_text(16, (_TOP + _BOTTOM) / 2,
                         'precision: part of what is found that is right')]


def _at(recall: float, precision: float) -> tuple[float, float]:
    return (_LEFT + recall * (_RIGHT - _LEFT), _BOTTOM - precision * (_BOTTOM - _TOP))


def _curve(precision: NDArray[np.float64], style: str, name: str) -> str:
    """Return a curve; points between two of the same height are left out."""
    kept = [index for index in range(len(precision)) if index in (0, len(precision) - 1)
            or not precision[index - 1] == precision[index] == precision[index + 1]]
    points = ' '.join(
        '{:.1f},{:.1f}'.format(*_at(index / (len(precision) - 1), float(precision[index])))
        for index in kept
    )
    tooltip = f'{name}: AP50 {precision.mean():.3f}'
    return f'<polyline points="{points}" {style}><title>{safe(tooltip)}</title></polyline>'


def _legend(entries: Sequence[tuple[str, float, str]]) -> list[str]:
    parts, x = [], _RIGHT + 24
    for row, (name, ap50, colour) in enumerate(entries):
        y = _TOP + 14 + 24 * row
        width = 4 if row == 0 else 2.5
        parts += [f'<line x1="{x}" y1="{y - 4}" x2="{x + 22}" y2="{y - 4}" '
                  f'style="stroke:{colour};stroke-width:{width}"/>',
                  text(x + 30, y, f'{ap50:.3f} {_shortened(name, 24)}', 'name', 'start', name)]
    return parts


def _shortened(name: str, most: int = _LONGEST_NAME) -> str:
    return name if len(name) <= most else f'{name[: most - 1]}…'


# ---- confusion


def _matrix(confusions: Confusions) -> str:
    """Return the matrix of the classes labelled most; the rest is one row and one column."""
    order = sorted(confusions.names, key=lambda each: (-confusions.labelled(each), each))
    shown = order[:_MATRIX_CLASSES]
    rest = [_OTHERS] if len(order) > len(shown) else []
    known = set(shown)
    counts: dict[tuple[int, int], int] = {}
    for pair, count in confusions.counts.items():
        truth, found = (each if each in known or each == NOTHING else _OTHERS for each in pair)
        if (truth, found) == (_OTHERS, _OTHERS) and pair[0] != pair[1]:
            continue  # both are one here; the list of mistakes has them
        counts[truth, found] = counts.get((truth, found), 0) + count
    names = {**confusions.names, _OTHERS: f'{len(order) - len(shown)} other classes'}
    axis = [*shown, *rest, NOTHING]
    head = ['labelled ↓ found →', *(_shortened(names[each]) for each in axis[:-1]), 'not found']
    rows = [
        [_shortened(names.get(truth, 'nothing there')),
         *(_matrix_cell(counts, axis, truth, found) for found in axis)]
        for truth in axis
    ]
    inner = table(head, rows, kind='matrix', name='confusion matrix')
    return figure(inner, 'The stronger the colour, the larger the share of its row: green if the '
                  'class is right, red if it is wrong. The last row counts detections '
                  'without a label.')


def _matrix_cell(
    counts: Mapping[tuple[int, int], int], axis: Sequence[int], truth: int, found: int
) -> str:
    count = counts.get((truth, found), 0)
    if not count or truth == found == NOTHING:
        return ''
    share = count / sum(counts.get((truth, each), 0) for each in axis)
    kind = 'right' if truth == found else 'wrong'
    return Html(f'<b class="{kind}" style="--share:{max(8, round(85 * share))}%">{count}</b>')


def _mistakes(confusions: Confusions) -> str:
    mistakes = confusions.mistakes()
    if not mistakes:
        return paragraph('No class was taken for another.', 'soft')
    rows = [
        (confusions.names[truth], confusions.names[found], str(count),
         f'{count / confusions.labelled(truth):.1%}')
        for truth, found, count in mistakes[:_MOST_MISTAKES]
    ]
    more = len(mistakes) - len(rows)
    note = f'{more} more pairs are rarer.' if more else ''
    return '<h3>Taken for another class most often</h3>\n' + table(
        ('labelled', 'found', 'times', 'of its labels'), rows, name='mistakes',
    ) + paragraph(note, 'note')


# ---- classes


def _classes(classes: Sequence[ClassPrecision]) -> str:
    rows = [
        (each.name, str(each.instances), f'{each.precision[0].mean():.3f}',
         f'{each.precision.mean():.3f}', *_best_score(each))
        for each in _by_labels(classes)
    ]
    head = ('class', 'labelled', 'AP50', 'AP', 'best F1', 'at score', 'precision', 'recall')
    return table(head, rows, name='classes') + paragraph(
        'Best F1: the highest harmonic mean of precision and recall, and its score threshold '
        '(IoU 0.5).', 'note')


def _best_score(found: ClassPrecision) -> tuple[str, str, str, str]:
    """Return the best F1 and the score, precision and recall there."""
    precision, recall = found.precision[0], np.linspace(0, 1, found.precision.shape[1])
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    best = int(np.argmax(f1))
    if not f1[best]:
        return '-', '-', '-', '-'
    return (f'{f1[best]:.3f}', f'{found.scores[best]:.2f}', f'{precision[best]:.3f}',
            f'{recall[best]:.2f}')
