"""
The common frame of all HTML pages: self-contained files, for light and dark mode.

Pages are well-formed XML too. Foreign text (class names, topics, paths) passes through `safe`;
the content security policy allows no other content and no script but the page's own.

"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
import hashlib
import html

from yolov7_trt_ros.core.plain_text import printable

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #566273; --rule: #d3d9e0;
  --ground: #fff; --stripe: #f4f6f9; --good: #1f7a4a; --bad: #b3261e; --link: #1f5fbf;
  --mark: #3b7dd8; --warn: #8a5a00; --warn-ground: #fff5dc; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #a3aebc; --rule: #39434f;
  --ground: #161b22; --stripe: #1d242d; --good: #5cc08c; --bad: #ff8a80; --link: #8ab8ff;
  --mark: #6aa2ef; --warn: #ffd479; --warn-ground: #33290f; } }
body { font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif;
  color: var(--ink); background: var(--ground); max-width: 1180px; margin: 2rem auto;
  padding: 0 1.2rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .8rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem; } h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
a { color: var(--link); } .good { color: var(--good); } .bad { color: var(--bad); }
.note, figcaption, .soft { color: var(--soft); font-size: 13.5px; max-width: 62rem; }
.warning { color: var(--warn); background: var(--warn-ground); border-left: 4px solid;
  padding: .4rem .8rem; margin: .6rem 0; max-width: 60rem; }
blockquote { margin: .6rem 0; padding: .2rem 1rem; border-left: 4px solid var(--mark); }
figure { margin: .5rem 0 1.5rem; }
.scroll { overflow-x: auto; max-width: 100%; }
:focus-visible { outline: 3px solid var(--mark); outline-offset: 2px; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; text-align: right; border-bottom: 1px solid var(--rule);
  vertical-align: top; overflow-wrap: normal; }
td { white-space: nowrap; }
th { color: var(--soft); font-weight: 600; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 8rem;
  overflow-wrap: anywhere; }
table.text th, table.text td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
tbody tr:nth-child(even) { background: var(--stripe); }
svg { display: block; width: 100%; max-width: 900px; height: auto; font-family: inherit; }
svg text { fill: var(--ink); font-size: 13px; } svg .tick, svg .axis { fill: var(--soft); }
svg .grid { stroke: var(--rule); } svg .whisker { stroke: var(--ink); stroke-width: 1.3; }
svg .leader { stroke: var(--soft); stroke-width: .7; } svg .bar { fill: var(--mark); }
footer { margin: 3rem 0 1rem; padding-top: .6rem; border-top: 1px solid var(--rule); }
@media print { :root { color-scheme: light; --ink: #000; --soft: #444; --rule: #bbb;
  --ground: #fff; --stripe: #f4f4f4; --good: #1f7a4a; --bad: #b3261e; --link: #000;
  --warn: #000; --warn-ground: #fff; }
  body { margin: 0; max-width: none; font-size: 11pt; } .scroll { overflow: visible; }
  table { font-size: 8.5pt; } td { white-space: normal; }
  figure, section, tr, h2, h3 { break-inside: avoid; } h2, h3 { break-after: avoid; } }
"""


class Html(str):
    """Text that is HTML already, and is not escaped again."""

    __slots__ = ()


def make_page(title: str, parts: Iterable[str], *, style: str = '', script: str = '') -> str:
    """
    Return a page.

    Parameters
    ----------
    title
        Heading and title, as plain text.
    parts
        Content below the heading, as HTML.
    style
        Rules that only this page needs.
    script
        What only this page needs; without `<` and `&`, which XML would not take.

    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f" script-src 'sha256-{digest}';" if script else ''
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:;{allowed}"
    body = '\n'.join(part for part in parts if part)
    tail = f'<script>{script}</script>\n' if script else ''
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f'<title>{safe(title)}</title>\n<style>{_STYLE}{style}</style>\n</head>\n'
        f'<body>\n<h1>{safe(title)}</h1>\n{body}\n{tail}</body>\n</html>\n'
    )


def safe(text: str) -> str:
    """Escape foreign text as HTML; control characters become `?`."""
    return html.escape(printable(text), quote=True)


def paragraph(text: str, kind: str = '') -> str:
    """Return a paragraph of a kind: note, soft, good, bad, warning; '' for no text."""
    return f'<p{_class(kind)}>{safe(text)}</p>' if text else ''


def heading(text: str) -> str:
    """Return a heading of a section."""
    return f'<h2>{safe(text)}</h2>'


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = '', name: str = ''
) -> str:
    """
    Return a table that scrolls if it is too wide; '' without rows.

    Parameters
    ----------
    head
        Names of the columns; none for a table without a head.
    rows
        Cells, plain text or `Html`.
    kind
        `text` if the columns are not numbers.
    name
        Label for screen readers.

    """
    lines = '\n'.join(
        '<tr>' + ''.join(f'<td>{_cell(cell)}</td>' for cell in row) + '</tr>' for row in rows
    )
    if not lines:
        return ''
    names = ''.join(f'<th scope="col">{_cell(each)}</th>' for each in head)
    top = f'<thead><tr>{names}</tr></thead>\n' if head else ''
    return scrolling(f'<table{_class(kind)}>{top}<tbody>{lines}</tbody></table>', name)


def scrolling(inner: str, name: str, kind: str = 'scroll') -> str:
    """Return a part that scrolls by itself, with the keyboard too."""
    return (f'<div class="{kind}" tabindex="0" role="region" '
            f'aria-label="{safe(name or "table")}">{inner}</div>')


def figure(inner: str, caption: str) -> str:
    """Return a picture with a caption."""
    return f'<figure>{inner}<figcaption>{safe(caption)}</figcaption></figure>'


def footer(made: str, versions: Mapping[str, str]) -> str:
    """Return when the page was made, as text, and with which versions; '' for neither."""
    listed = ', '.join(f'{name} {version}' for name, version in versions.items())
    parts = [f'Made {made}'] * bool(made) + [f'with {listed}'] * bool(listed)
    return f'<footer class="note">{safe(" ".join(parts))}</footer>' if parts else ''


def _cell(text: str) -> str:
    return text if isinstance(text, Html) else safe(text)


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ''
