"""A comparison as one HTML page that needs nothing else, and its summary in rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
import html

from yolov7_trt_ros.core.stamps import NS_PER_S
from yolov7_trt_ros.report.compare_result import ComparisonResult

_CHART_W, _CHART_H = 900, 150
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --rule: #d9dee5;
  --ground: #fff; --good: #2c8a5b; --bad: #c23b3b; --bar: #3b7dd8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #9aa6b5; --rule: #343d49;
  --ground: #161b22; --good: #55b985; --bad: #ef7676; --bar: #6aa2ef; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground);
  max-width: 980px; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.good { color: var(--good); } .bad { color: var(--bad); } .soft { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px; }
th, td { padding: .3rem .8rem; text-align: right; border-bottom: 1px solid var(--rule); }
th { color: var(--soft); font-weight: 600; }
th:first-child, td:first-child, .text td { text-align: left; }
svg { width: 100%; height: auto; } svg rect { fill: var(--bar); }
svg line { stroke: var(--rule); } svg text { fill: var(--soft); font-size: 12px; }
"""


def summary_rows(result: ComparisonResult) -> list[tuple[str, str]]:
    """Return the rows that tell of a comparison as a whole."""
    frames, total, iou, drift = result.frames, result.total, result.iou, result.drift
    rows = [
        ('frames', f'{frames.compared} compared, {frames.only_in_reference.count} only in A, '
         f'{frames.only_in_new.count} only in B'),
        ('detections', f'{total.matched} matched, {total.missed} missed, {total.new} new '
         f'({100 * total.matched_share:.2f} % matched)'),
    ]
    if iou is not None:
        rows.append(('IoU', f'mean {iou.mean:.4f}, p95 {iou.p95:.4f}, 95 % reach {iou.p5:.4f}, '
                     f'least {iou.least:.4f}'))
    if drift is not None:
        rows.append(('score drift', f'mean {drift.mean:.4f} (bias {drift.bias:+.4f}), '
                     f'p95 {drift.p95:.4f}, max {drift.largest:.4f}'))
    return [*rows, ('AP50', f'{result.ap50:.4f} of B against A')]


def as_html(
    result: ComparisonResult, *, reference: str, new: str, exceeded: Sequence[str],
    damaged: int = 0,
) -> str:
    """
    Return the page; it is well-formed XML too.

    Parameters
    ----------
    result
        What was found.
    reference, new
        What A and B are called.
    exceeded
        The limits that it is beyond, in words.
    damaged
        How many parts or messages could not be read: a comparison with some is not within.

    """
    title = f'{new} against {reference}'
    verdict = ''.join(f'<p class="bad">Beyond the limit: {_safe(text)}</p>' for text in exceeded)
    if damaged:
        verdict += f'<p class="bad">{damaged} parts or messages could not be read</p>'
    body = '\n'.join([
        f'<h1>{_safe(title)}</h1>',
        f'<p class="soft">A is {_safe(reference)}, B is {_safe(new)}.</p>',
        verdict or '<p class="good">Within the limits</p>',
        _table(('', ''), summary_rows(result), kind='text'),
        '<h2>Score drift of the matched detections</h2>', _drift_chart(result.drift_histogram),
        '<h2>Classes</h2>', _table(_CLASS_HEAD, _class_rows(result)),
        '<h2>Frames to look at</h2>', _table(_FRAME_HEAD, _frame_rows(result)),
    ])
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f'<title>{_safe(title)}</title>\n<style>{_STYLE}</style>\n</head>\n'
        f'<body>\n{body}\n</body>\n</html>\n'
    )


_CLASS_HEAD = ('class', 'in A', 'matched', 'missed', 'new', 'mean drift', 'AP50')
_FRAME_HEAD = ('topic', 'stamp (s)', 'matched', 'missed', 'new', 'largest drift', 'least IoU')


def _class_rows(result: ComparisonResult) -> list[tuple[str, ...]]:
    return [
        (each.name, str(each.reference), str(each.difference.matched),
         str(each.difference.missed), str(each.difference.new), f'{each.mean_drift:.4f}',
         '-' if each.ap50 is None else f'{each.ap50:.4f}')
        for each in sorted(result.classes, key=lambda each: (-each.reference, each.name))
    ]


def _frame_rows(result: ComparisonResult) -> list[tuple[str, ...]]:
    return _lone_rows(result) + [
        (each.topic, _seconds(each.stamp_ns),
         str(each.difference.matched), str(each.difference.missed), str(each.difference.new),
         f'{each.largest_drift:.4f}', f'{each.least_iou:.4f}')
        for each in result.worst
    ]


def _lone_rows(result: ComparisonResult) -> list[tuple[str, ...]]:
    frames = result.frames
    return [
        (topic, _seconds(stamp_ns), f'only in {bag}', '', '', '', '')
        for bag, lone in (('A', frames.only_in_reference), ('B', frames.only_in_new))
        for topic, stamp_ns in lone.first
    ]


def _seconds(stamp_ns: int) -> str:
    return '{}.{:09d}'.format(*divmod(stamp_ns, NS_PER_S))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = '') -> str:
    lines = '\n'.join(
        '<tr>' + ''.join(f'<td>{_safe(cell)}</td>' for cell in row) + '</tr>' for row in rows
    )
    if not lines:
        return '<p class="soft">None.</p>'
    names = ''.join(f'<th>{_safe(name)}</th>' for name in head) if any(head) else ''
    top = f'<thead><tr>{names}</tr></thead>' if names else ''
    return f'<div class="scroll"><table class="{kind}">{top}<tbody>{lines}</tbody></table></div>'


def _drift_chart(counts: Sequence[int]) -> str:
    """Return bars of detections by drift, up to the last that is not empty."""
    filled = [number for number, count in enumerate(counts) if count]
    if not filled:
        return '<p class="soft">None.</p>'
    shown = counts[: max(filled[-1] + 1, 5)]
    width, tallest = _CHART_W / len(shown), max(shown)
    bars = []
    for number, count in enumerate(shown):
        height = (_CHART_H - 40) * count / tallest
        low, high = number / len(counts), (number + 1) / len(counts)
        bars.append(
            f'<rect x="{number * width + 1:.1f}" y="{_CHART_H - 20 - height:.1f}" '
            f'width="{width - 2:.1f}" height="{height:.1f}">'
            f'<title>{count} by {low:.2f} to {high:.2f}</title></rect>'
        )
    labels = (
        f'<text x="0" y="{_CHART_H - 4}">0</text>'
        f'<text x="{_CHART_W}" y="{_CHART_H - 4}" text-anchor="end">'
        f'{len(shown) / len(counts):.2f}</text><text x="0" y="12">{tallest} detections</text>'
    )
    return (f'<svg viewBox="0 0 {_CHART_W} {_CHART_H}" role="img" '
            f'xmlns="http://www.w3.org/2000/svg"><title>Score drift</title>'
            f'<line x1="0" y1="{_CHART_H - 20}" x2="{_CHART_W}" y2="{_CHART_H - 20}"/>'
            f'{"".join(bars)}{labels}</svg>')


def _safe(text: str) -> str:
    return html.escape(text, quote=True)
