"""Results of many recordings as one HTML page: the worst recordings and frames first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses

from yolov7_trt_ros.report.page import heading, make_page, paragraph, table

Rows = Sequence[tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class FleetPage:
    """
    The page, as plain texts.

    Attributes
    ----------
    title, order
        Heading, and a note on the order of recordings.
    summary
        Name and value.
    columns, drives
        Of the table of recordings, the worst first.
    failed
        Why a recording has no result.
    frame_columns, frames
        Of the table of frames, the worst first.
    drawn
        The worst frames as HTML, with their headings.
    style
        Rules that those need.

    """

    title: str
    order: str
    summary: Rows
    columns: tuple[str, ...]
    drives: Rows
    failed: Mapping[str, str]
    frame_columns: tuple[str, ...] = ()
    frames: Rows = ()
    drawn: Sequence[str] = ()
    style: str = ''


def as_html(page: FleetPage) -> str:
    """Return the page; it contains no time, so that equal results give equal pages."""
    verdict = (
        paragraph(f'{len(page.failed)} recordings have no result', 'bad') if page.failed else ''
    )
    parts = [verdict, table((), page.summary, kind='text', name='summary')]
    if page.failed:
        parts += [heading('Without a result'), table(
            ('recording', 'reason'), sorted(page.failed.items()), kind='text', name='failed')]
    parts += [heading('Recordings'), paragraph(page.order, 'note'),
              table(page.columns, page.drives, name='recordings') or paragraph('None.', 'soft')]
    if page.frames or page.drawn:
        parts += [heading('Frames to look at'), paragraph('Worst first.', 'note'),
                  table(page.frame_columns, page.frames, name='frames'), *page.drawn]
    return make_page(page.title, parts, style=page.style)
