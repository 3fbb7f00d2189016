"""A comparison as one self-contained HTML page, and its summary in rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses

from yolov7_trt_ros.core.units import in_seconds
from yolov7_trt_ros.report.compare.detection_match import match_detections
from yolov7_trt_ros.report.compare.frame_drawing import draw_pair, FrameBoxes, SmallPicture, STYLE
from yolov7_trt_ros.report.compare.limits import check_limits
from yolov7_trt_ros.report.compare.result import ComparisonResult, FrameDifference
from yolov7_trt_ros.report.compare.settings import CompareLimits, CompareSettings
from yolov7_trt_ros.report.page import figure, footer, heading, make_page, paragraph, safe, table
from yolov7_trt_ros.report.svg_parts import as_svg, line, text, WIDTH_PX

_CHART_H, _TOP, _FOOT = 170, 34, 40
_CLASS_HEAD = ('class', 'in A', 'matched', 'missed', 'new', 'mean drift', 'AP50')
_CHART_STYLE = """
svg .limit { stroke: var(--bad); stroke-width: 2; stroke-dasharray: 6 4; }
svg .found { stroke: var(--ink); stroke-width: 2; }
"""
Key = tuple[str, int]
"""Topic and stamp of a frame."""


@dataclasses.dataclass(frozen=True)
class CompareContext:
    """
    Context of a comparison on its page.

    Attributes
    ----------
    reference, new
        Names of A and B.
    settings, limits
        How it was compared, and the allowed limits.
    damaged
        Number of parts or messages that could not be read; with any, the limits are not met.
    class_names
        By class id.
    pictures
        Of the frames to look at, if any.
    pictures_error
        Note if some are missing.
    versions, made
        Of what compared, and when.

    """

    reference: str
    new: str
    settings: CompareSettings = dataclasses.field(default_factory=CompareSettings)
    limits: CompareLimits = dataclasses.field(default_factory=CompareLimits)
    damaged: int = 0
    class_names: tuple[str, ...] = ()
    pictures: Mapping[Key, SmallPicture] = dataclasses.field(default_factory=dict)
    pictures_error: str = ''
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    made: str = ''


def summary_rows(result: ComparisonResult) -> list[tuple[str, str]]:
    """Return the rows of the summary."""
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


def as_html(result: ComparisonResult, context: CompareContext) -> str:
    """Return the page; it is well-formed XML too."""
    return make_page(f'{context.new} against {context.reference}', [
        paragraph(f'A is {context.reference}, B is {context.new}. The detections of A count as '
                  'correct; B lacks the missed ones, A lacks the new ones.', 'note'),
        _verdict(result, context),
        table((), summary_rows(result), kind='text', name='summary'),
        heading('Limits'), _limits(result, context.limits),
        heading('Frames to look at'), *_frames(result, context), _lone(result),
        heading('Score drift of the matched detections'),
        _drift_chart(result, context.limits.max_drift),
        heading('Classes'),
        table(_CLASS_HEAD, _class_rows(result), name='classes') or _none(),
        heading('Settings'), table((), _settings(context), kind='text', name='settings'),
        footer(context.made, context.versions),
    ], style=STYLE + _CHART_STYLE)


def _none() -> str:
    return paragraph('None.', 'soft')


def _verdict(result: ComparisonResult, context: CompareContext) -> str:
    beyond = [each.exceeded.text for each in check_limits(result, context.limits)
              if not each.holds]
    lines = [paragraph(f'Limit exceeded: {text}', 'bad') for text in beyond]
    if context.damaged:
        lines.append(paragraph(f'{context.damaged} parts or messages could not be read', 'bad'))
    return '\n'.join(lines) or paragraph('Within the limits', 'good')


def _limits(result: ComparisonResult, limits: CompareLimits) -> str:
    rows = [
        (each.what, f'{each.value:.4f}', f'at {"most" if each.is_most else "least"} '
         f'{each.limit:g}', 'within' if each.holds else 'BEYOND', each.option)
        for each in check_limits(result, limits)
    ]
    return table(('what', 'found', 'limit', 'verdict', 'option'), rows, name='limits')


def _settings(context: CompareContext) -> list[tuple[str, str]]:
    settings = context.settings
    return [
        ('A', context.reference), ('B', context.new),
        ('partners', f'same class, and an overlap (IoU) of {settings.iou:g} or more'),
        ('counted', f'detections with a score of {settings.score_threshold:g} or more'),
    ]


# ---- frames


def _frames(result: ComparisonResult, context: CompareContext) -> list[str]:
    """Return the frames that differ most, worst first, with the boxes of both runs."""
    if not result.worst:
        return [paragraph('No frame differs.', 'soft')]
    parts = [paragraph(
        'Worst first; A, then B. Blue: in both runs. Red: missed by B. Orange, dashed: new '
        'in B. Rest the pointer on a box for its class and score.', 'note')]
    parts.append(paragraph(context.pictures_error, 'note'))
    for number, frame in enumerate(result.worst, 1):
        picture = context.pictures.get((frame.topic, frame.stamp_ns))
        parts.append(frame_section(
            f'{number}. ', frame, context.settings, context.class_names, picture,
            f'picture-{number}',
        ))
    return parts


def frame_section(
    before: str, frame: FrameDifference, settings: CompareSettings, class_names: Sequence[str],
    picture: SmallPicture | None, key: str,
) -> str:
    """Return one frame with the boxes of both runs; `before` begins its heading."""
    counts = frame.difference
    return '\n'.join((
        f'<section><h3>{safe(before)}{safe(frame.topic)}, '
        f'stamp {in_seconds(frame.stamp_ns)} s</h3>',
        paragraph(
            f'{counts.matched} matched, {counts.missed} missed, {counts.new} new; drift up '
            f'to {frame.largest_drift:.4f}, IoU down to {frame.least_iou:.4f}', 'note'),
        draw_pair(_boxes(frame, settings), tuple(class_names), picture, key),
        '</section>',
    ))


def _boxes(frame: FrameDifference, settings: CompareSettings) -> FrameBoxes:
    match = match_detections(frame.reference, frame.found, min_iou=settings.iou,
                             sure_score=settings.score_threshold)
    return FrameBoxes(frame.reference, frame.found, match, settings.score_threshold)


def _lone(result: ComparisonResult) -> str:
    frames = result.frames
    rows = [
        (topic, in_seconds(stamp_ns), f'only in {bag}')
        for bag, lone in (('A', frames.only_in_reference), ('B', frames.only_in_new))
        for topic, stamp_ns in lone.first
    ]
    if not rows:
        return ''
    return '<h3>Frames that one bag lacks (the first of them)</h3>\n' + table(
        ('topic', 'stamp (s)', 'where'), rows, name='frames of one bag')


# ---- classes and drift


def _class_rows(result: ComparisonResult) -> list[tuple[str, ...]]:
    return [
        (each.name, str(each.reference), str(each.difference.matched),
         str(each.difference.missed), str(each.difference.new), f'{each.mean_drift:.4f}',
         '-' if each.ap50 is None else f'{each.ap50:.4f}')
        for each in sorted(result.classes, key=lambda each: (-each.reference, each.name))
    ]


def _drift_chart(result: ComparisonResult, limit: float) -> str:
    """Return bars of detections by drift, with the limit and the 95th percentile."""
    counts = result.drift_histogram
    filled = [number for number, count in enumerate(counts) if count]
    if not filled or result.drift is None:
        return _none()
    last = max(filled[-1] + 1, 5, int(limit * len(counts)) + 1)
    shown = counts[:last]
    end, tallest = last / len(counts), max(shown)
    bottom = _CHART_H - _FOOT
    parts = [line(0, bottom, WIDTH_PX, bottom, 'grid')]
    width = WIDTH_PX / len(shown)
    for number, count in enumerate(shown):
        height = (bottom - _TOP) * count / tallest
        low, high = number / len(counts), (number + 1) / len(counts)
        parts.append(
            f'<rect class="bar" x="{number * width + 1:.1f}" y="{bottom - height:.1f}" '
            f'width="{width - 2:.1f}" height="{height:.1f}">'
            f'<title>{count} by {low:.2f} to {high:.2f}</title></rect>'
        )
    for value, kind, row in ((limit, 'limit', 12), (result.drift.p95, 'found', 27)):
        if value <= end:
            x = WIDTH_PX * value / end
            label = f'limit {value:g}' if kind == 'limit' else f'95 % within {value:.4f}'
            anchor, shift = ('start', 5) if x < WIDTH_PX * 0.7 else ('end', -5)
            parts += [line(x, row - 10, x, bottom, kind),
                      text(x + shift, row, label, 'name', anchor)]
    parts += [text(0, bottom + 17, '0', 'tick', 'start'),
              text(WIDTH_PX, bottom + 17, f'{end:.2f}', 'tick', 'end'),
              text(WIDTH_PX / 2, bottom + 34, 'change of the score', 'axis', 'middle')]
    caption = f'The highest bar is {tallest} detections.'
    return figure(as_svg(WIDTH_PX, _CHART_H, 'Score drift', parts), caption)
