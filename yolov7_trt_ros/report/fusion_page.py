"""A fusion report as one HTML page that needs nothing else: numbers, reasons, picture, layers."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from yolov7_trt_ros.report.chain_fate import ChainFate, FUSED
from yolov7_trt_ros.report.engine_layers import EngineLayer
from yolov7_trt_ros.report.fusion import describe_change, describe_source, FusionReport
from yolov7_trt_ros.report.fusion_drawing import colour_of, draw_svg, printable
from yolov7_trt_ros.report.timed_layers import describe_run, TimedLayers

_MB = 1e6
_STYLE = """
body{font:14px/1.45 Helvetica,Arial,sans-serif;color:#1c2833;margin:0 auto;max-width:1360px;
padding:24px}
h1{font-size:22px;margin:0 0 2px}h2{font-size:17px;margin:30px 0 8px}
p.source{color:#566573;margin:0 0 16px}
.cards{display:flex;flex-wrap:wrap;gap:12px}
.card{border:1px solid #d5d8dc;border-radius:8px;padding:10px 16px;min-width:130px}
.card b{display:block;font-size:22px}
.card span{color:#566573}
table{border-collapse:collapse;width:100%;font-size:12.5px}
th,td{border-bottom:1px solid #e5e8e8;padding:4px 8px;text-align:left;vertical-align:top}
th{background:#f4f6f7;position:sticky;top:0}
td.name{font-family:Menlo,Consolas,monospace;font-size:11.5px;word-break:break-all}
td.precision{white-space:nowrap}
tr.apart td:first-child{border-left:4px solid #c0392b}
tr.fused td:first-child{border-left:4px solid #1c2833}
.picture{overflow:auto;border:1px solid #d5d8dc;border-radius:8px;max-height:85vh}
"""


def make_page(report: FusionReport) -> str:
    """Return the page; everything that a file of layers says in it is escaped."""
    title = report.source.get('onnx') or report.source.get('plan') or 'engine'
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        f'<title>Fusion of {escape(title)}</title><style>{_STYLE}</style></head><body>',
        f'<h1>Fusion of {escape(title)}</h1>',
        f'<p class="source">{escape(describe_source(report.source))}</p>',
        _cards(report),
    ]
    if report.fates:
        parts.append(_reasons(report))
    else:
        parts.append('<p>The ONNX model is not known, so no chains are told.</p>')
    if report.times is not None:
        parts.append(_times(report.times))
    parts += ['<h2>Layers as they run</h2><div class="picture">', draw_svg(report), '</div>']
    if report.fates:
        parts.append(_chains(report))
    parts += [_layers(report), '</body></html>\n']
    return '\n'.join(parts)


def _cards(report: FusionReport) -> str:
    cards = []
    share = report.fused_share
    if share is not None:
        cards.append((f'{share:.1%}', f'{report.fused} of {len(report.fates)} chains fused'))
        cards += [
            (f'{fused} of {total}', f'fused of those {label}' if 'feeding' in label else
             'fused of the others')
            for label, (fused, total) in report.by_reader().items() if total
        ]
    cards.append((str(len(report.layers)), 'layers'))
    cards += [(str(count), f'compute in {name}' if name != 'not told' else 'of unknown precision')
              for name, count in report.precisions.items()]
    cards.append((str(len(report.reformats)), 'reformats'))
    if moved := sum(report.traffic().values()):
        cards.append((f'{moved / _MB:.1f} MB', 'read and written'))
    body = ''.join(f'<div class="card"><b>{escape(value)}</b><span>{escape(label)}</span></div>'
                   for value, label in cards)
    return f'<div class="cards">{body}</div>'


def _reasons(report: FusionReport) -> str:
    groups = report.unfused()
    if not groups:
        return '<h2>Every chain is fused</h2>'
    rows = [
        (str(len(fates)), escape(reason), ', '.join(escape(fate.chain.name) for fate in fates))
        for reason, fates in groups.items()
    ]
    return ('<h2>What is seen where chains are not fused</h2>'
            + _table(('chains', 'seen', 'convolutions'), ((row, '') for row in rows)))


def _chains(report: FusionReport) -> str:
    order = sorted(report.fates, key=lambda fate: fate.state == FUSED)
    return '<h2>Chains</h2>' + _table(
        ('convolution', 'chain', 'became', 'precision', 'layers', 'feeds'),
        ((_chain_row(fate), 'fused' if fate.state == FUSED else 'apart') for fate in order),
    )


def _chain_row(fate: ChainFate) -> tuple[str, ...]:
    became = 'one layer' if fate.state == FUSED else fate.reason
    if fate.merged_with:
        became += f': {", ".join(fate.merged_with)}'
    if fate.detail:
        became += f' ({fate.detail})'
    return (
        escape(fate.chain.name), escape(fate.chain.kind), escape(became),
        escape(fate.precision), ', '.join(map(str, fate.layers)),
        escape(', '.join(fate.chain.feeds)),
    )


def _times(times: TimedLayers) -> str:
    total = times.total_ms or 1.0
    rows = (
        ((escape(printable(label)), str(count), f'{time_ms:.4f}', f'{time_ms / total:.1%}'), '')
        for label, (count, time_ms) in times.by_label().items()
    )
    return (f'<h2>Where the time goes</h2><p class="source">{escape(describe_run(times))}</p>'
            + _table(('sort', 'layers', 'ms', 'share'), rows))


def _layers(report: FusionReport) -> str:
    heads: tuple[str, ...] = (
        'number', 'layer', 'type', 'kind', 'precision', 'reads', 'writes', 'kernel'
    )
    if report.times is None:
        rows = [(_layer_row(layer), '') for layer in report.layers]
    else:
        heads = (*heads, 'ms')
        times = [report.times.of(layer) for layer in report.layers]
        rows = [((*_layer_row(layer), '' if time_ms is None else f'{time_ms:.4f}'), '')
                for layer, time_ms in zip(report.layers, times, strict=True)]
    return '<h2>All layers</h2>' + _table(heads, rows)


def _layer_row(layer: EngineLayer) -> tuple[str, ...]:
    kind = f'{layer.kind}: {describe_change(layer)}' if layer.kind == 'reformat' else layer.kind
    swatch = (f'<span style="background:{colour_of(layer.precision)};padding:1px 6px;'
              f'border-radius:4px">{escape(layer.precision or "not told")}</span>')
    tensors = [
        ', '.join(f'{each.dtype} {"x".join(map(str, each.shape))}'.strip() or each.name
                  for each in group)
        for group in (layer.inputs, layer.outputs)
    ]
    return (
        str(layer.number), escape(printable(layer.name)), escape(layer.layer_type),
        escape(kind), swatch, *(escape(printable(text)) for text in tensors),
        escape(printable(layer.tactic)),
    )


def _table(heads: Iterable[str], rows: Iterable[tuple[tuple[str, ...], str]]) -> str:
    """Return a table; cells are HTML, each row comes with its class."""
    names = {'layer', 'convolutions', 'convolution', 'kernel'}
    heads = tuple(heads)
    classes = ['name' if head in names else head for head in heads]
    body = ''.join(
        f'<tr class="{kind}">' + ''.join(
            f'<td class="{css}">{cell}</td>' for css, cell in zip(classes, cells, strict=True)
        ) + '</tr>\n'
        for cells, kind in rows
    )
    head = ''.join(f'<th>{name}</th>' for name in heads)
    return f'<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>'
