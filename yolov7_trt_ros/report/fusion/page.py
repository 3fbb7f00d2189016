"""A fusion report as one self-contained HTML page: numbers, reasons, picture, layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from yolov7_trt_ros.report.fusion.chain_fate import ChainFate, FUSED
from yolov7_trt_ros.report.fusion.drawing import colour_of, draw_layers, visible
from yolov7_trt_ros.report.fusion.engine_layers import EngineLayer, SYNC
from yolov7_trt_ros.report.fusion.fusion_report import (
    describe_change,
    describe_source,
    FusionReport,
)
from yolov7_trt_ros.report.fusion.timed_layers import describe_run, TimedLayers
from yolov7_trt_ros.report.page import heading, Html, make_page, paragraph, safe, scrolling, table

_MB = 1e6
_STYLE = """
.cards { display: flex; flex-wrap: wrap; gap: 12px; margin: 1rem 0; }
.card { border: 1px solid var(--rule); border-radius: 8px; padding: .5rem 1rem; }
.card b { display: block; font-size: 1.35rem; font-weight: 600; }
.card span { color: var(--soft); }
.key { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin: .5rem 0; }
.key i { display: inline-block; width: 22px; height: 12px; border-radius: 3px; margin-right: 6px;
  border: 1px solid var(--soft); } .key .fused { border: 2px solid var(--ink); }
.key .apart { border: 3px solid #d32f2f; } .key .dashed { border: 2px dashed var(--ink); }
.swatch { color: #1c2430; padding: 1px 6px; border-radius: 4px; }
.zoom { display: flex; flex-wrap: wrap; align-items: center; gap: 6px; margin: .5rem 0; }
.zoom button { font: inherit; color: inherit; background: var(--stripe); padding: .2rem .7rem;
  border: 1px solid var(--rule); border-radius: 6px; cursor: pointer; }
.picture { overflow: auto; height: 75vh; min-height: 320px; border: 1px solid var(--rule);
  border-radius: 8px; cursor: grab; } .picture svg { max-width: none; margin: 0 auto; }
.picture svg text { fill: #1c2430; font-size: 11px; } .picture .layer { stroke: var(--ink); }
.picture .apart { stroke: #d32f2f; stroke-width: 4; } .picture .edge { stroke: var(--soft); }
.picture g:target .layer { stroke: var(--mark); stroke-width: 5; }
table.text td { min-width: 4.5rem; } table.text td:nth-child(2) { min-width: 10rem; }
.zoom[hidden] { display: none; }
@media print { .zoom { display: none; } .picture { height: auto; overflow: visible; border: 0; }
  .picture svg { width: 100% !important; height: auto !important; max-height: 24cm; } }
"""
# Without < and &, for the page is XML too. The first layer starts in view, at a size to be read.
_SCRIPT = """
(function () {
  const box = document.querySelector('.picture'), svg = box.querySelector('svg');
  const whole = svg.viewBox.baseVal;
  let zoom = 1;
  function show(wanted) {
    const x = (box.scrollLeft + box.clientWidth / 2) / zoom;
    const y = (box.scrollTop + box.clientHeight / 2) / zoom;
    zoom = Math.min(3, Math.max(0.05, wanted));
    svg.style.width = whole.width * zoom + 'px';
    svg.style.height = whole.height * zoom + 'px';
    box.scrollLeft = x * zoom - box.clientWidth / 2;
    box.scrollTop = y * zoom - box.clientHeight / 2;
  }
  function centre(layer) {
    if (layer) layer.scrollIntoView({block: 'center', inline: 'center'});
  }
  const all = function () {
    return Math.min(box.clientWidth / whole.width, box.clientHeight / whole.height);
  };
  const acts = {
    larger: function () { show(zoom * 1.25); }, smaller: function () { show(zoom / 1.25); },
    whole: function () { show(all()); },
    first: function () {
      show(1);
      box.scrollTop = 0;
      let top = null;
      svg.querySelectorAll('.layer').forEach(function (rect) {
        if (top === null || top.y.baseVal.value > rect.y.baseVal.value) top = rect;
      });
      if (top) {
        box.scrollLeft = top.x.baseVal.value + top.width.baseVal.value / 2
          + Number(svg.dataset.shift) - box.clientWidth / 2;
      }
    }
  };
  const keys = {'+': 'larger', '=': 'larger', '-': 'smaller', '0': 'whole', '1': 'first'};
  document.querySelectorAll('.zoom button').forEach(function (button) {
    button.addEventListener('click', function () { acts[button.value](); });
  });
  box.addEventListener('keydown', function (event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (keys[event.key]) { acts[keys[event.key]](); event.preventDefault(); }
  });
  box.addEventListener('wheel', function (event) {
    if (!event.ctrlKey) return;
    show(event.deltaY > 0 ? zoom / 1.1 : zoom * 1.1);
    event.preventDefault();
  }, {passive: false});
  let held = null;
  box.addEventListener('pointerdown', function (event) {
    if (event.pointerType === 'mouse') {
      held = [event.clientX + box.scrollLeft, event.clientY + box.scrollTop];
    }
  });
  window.addEventListener('pointerup', function () { held = null; });
  box.addEventListener('pointermove', function (event) {
    if (held) {
      box.scrollLeft = held[0] - event.clientX;
      box.scrollTop = held[1] - event.clientY;
      event.preventDefault();
    }
  });
  window.addEventListener('hashchange', function () {
    centre(document.querySelector('g:target'));
  });
  document.querySelector('.zoom').hidden = false;
  acts.first();
  centre(document.querySelector('g:target'));
})();
"""
_WHAT = (
    'A chain is a convolution with what directly follows it: an activation, a batch '
    'normalisation, or the sum with a shortcut. Fused means that TensorRT runs the chain as one '
    'layer, without writing intermediate results to memory. A chain that came apart costs time. A '
    'reformat changes only the order or the type of numbers; it computes nothing.'
)
_BUTTONS = (('larger', '+', 'larger'), ('smaller', '−', 'smaller'),
            ('whole', 'whole picture', 'whole picture'), ('first', 'first layer', 'first layer'))


def as_page(report: FusionReport) -> str:
    """Return the page; all text from a file of layers is escaped."""
    title = report.source.get('onnx') or report.source.get('plan') or 'an engine'
    return make_page(f'How TensorRT fused {visible(title)}', [
        paragraph(visible(describe_source(report.source)), 'soft'), paragraph(_WHAT, 'note'),
        _cards(report),
        _reasons(report) if report.fates else
        paragraph('The ONNX model is unknown, so chains are not shown: name it with --onnx.'),
        '' if report.times is None else _times(report.times),
        heading('Layers as they run, from top to bottom'), _picture(report),
        _chains(report), _layers(report),
    ], style=_STYLE, script=_SCRIPT)


def _cards(report: FusionReport) -> str:
    cards = []
    share = report.fused_share
    if share is not None:
        cards.append((f'{share:.1%}', f'{report.fused} of {len(report.fates)} chains are fused'))
        cards += [
            (f'{fused} of {total}', 'of those that feed a Concat' if 'feeding' in label else
             'of the other chains')
            for label, (fused, total) in report.by_reader().items() if total
        ]
    cards.append((str(len(report.layers)), 'layers in all'))
    cards += [(str(count), f'layers compute in {name}' if name != 'not told' else
               'layers of unknown precision') for name, count in report.precisions.items()]
    cards.append((str(len(report.reformats)), 'reformats'))
    if moved := sum(report.traffic().values()):
        cards.append((f'{moved / _MB:.1f} MB', 'read and written a run, without weights'))
    body = ''.join(f'<div class="card"><b>{safe(value)}</b><span>{safe(label)}</span></div>'
                   for value, label in cards)
    return f'<div class="cards">{body}</div>'


def _picture(report: FusionReport) -> str:
    key = ''.join(
        f'<span><i style="background:{colour_of("" if name == "not told" else name)}"></i>'
        f'{count} in {safe(name)}</span>' for name, count in report.precisions.items()
    )
    key += ''.join(f'<span><i class="{kind}"></i>{safe(label)}</span>' for kind, label in (
        ('fused', 'fused chain'), ('apart', 'chain apart'), ('dashed', 'reformat')))
    buttons = ''.join(f'<button value="{act}" aria-label="{name}">{shown}</button>'
                      for act, shown, name in _BUTTONS)
    return '\n'.join([
        f'<div class="key">{key}</div>',
        f'<div class="zoom" hidden="hidden">{buttons}<span class="soft">or the keys + − 0 '
        '1 and the arrows; drag it, and rest the pointer on a layer for its details</span></div>',
        scrolling(draw_layers(report), 'layers as they run', 'picture'),
    ])


def _reasons(report: FusionReport) -> str:
    groups = report.unfused()
    if not groups:
        return heading('Every chain is fused')
    rows = [(str(len(fates)), visible(reason), _linked(fates))
            for reason, fates in groups.items()]
    return heading('Why chains came apart') + table(
        ('chains', 'reason', 'convolutions'), rows, kind='text', name='reasons')


def _linked(fates: Sequence[ChainFate]) -> Html:
    """Return the names of chains, each leading to its first layer in the picture."""
    return Html(', '.join(
        _link(fate.layers[0], fate.chain.name) if fate.layers else safe(visible(fate.chain.name))
        for fate in fates
    ))


def _link(number: int, shown: str) -> str:
    return f'<a href="#layer-{number}">{safe(visible(shown))}</a>'


def _chains(report: FusionReport) -> str:
    order = sorted(report.fates, key=lambda fate: fate.state == FUSED)
    rows = [_chain_row(fate) for fate in order]
    return (heading('Chains') if rows else '') + table(
        ('convolution', 'chain', 'became', 'precision', 'layers', 'feeds'), rows, kind='text',
        name='chains')


def _chain_row(fate: ChainFate) -> tuple[str, ...]:
    became = 'one layer' if fate.state == FUSED else f'apart: {fate.reason}'
    if fate.merged_with:
        became += f': {", ".join(fate.merged_with)}'
    if fate.detail:
        became += f' ({fate.detail})'
    kind = '' if fate.state == FUSED else ' class="bad"'
    return (
        visible(fate.chain.name), visible(fate.chain.kind),
        Html(f'<span{kind}>{safe(visible(became))}</span>'), visible(fate.precision),
        Html(', '.join(_link(number, str(number)) for number in fate.layers)),
        visible(', '.join(fate.chain.feeds)),
    )


def _times(times: TimedLayers) -> str:
    total = times.total_ms or 1.0
    rows = [
        (visible(label), str(count), f'{time_ms:.4f}', f'{time_ms / total:.1%}')
        for label, (count, time_ms) in times.by_label().items()
    ]
    return (heading('Where the time goes') + paragraph(visible(describe_run(times)), 'soft')
            + table(('kind', 'layers', 'ms', 'share'), rows, name='times'))


def _layers(report: FusionReport) -> str:
    heads: tuple[str, ...] = (
        'number', 'layer', 'type', 'kind', 'precision', 'reads', 'writes', 'kernel'
    )
    rows: Iterable[tuple[str, ...]] = map(_layer_row, report.layers)
    if report.times is not None:
        heads = (*heads, 'ms')
        times = [report.times.of(layer) for layer in report.layers]
        rows = [(*row, '' if time_ms is None else f'{time_ms:.4f}')
                for row, time_ms in zip(rows, times, strict=True)]
    return heading('All layers') + table(heads, rows, kind='text', name='all layers')


def _layer_row(layer: EngineLayer) -> tuple[str, ...]:
    kind = f'{layer.kind}: {describe_change(layer)}' if layer.kind == 'reformat' else layer.kind
    swatch = Html(f'<span class="swatch" style="background:{colour_of(layer.precision)}">'
                  f'{safe(visible(layer.precision or "unknown"))}</span>')
    tensors = [
        ', '.join(f'{each.dtype} {"x".join(map(str, each.shape))}'.strip() or each.name
                  for each in group)
        for group in (layer.inputs, layer.outputs)
    ]
    number = str(layer.number)
    return (
        number if layer.kind == SYNC else Html(_link(layer.number, number)), visible(layer.name),
        visible(layer.layer_type), visible(kind), swatch, *map(visible, tensors),
        visible(layer.tactic),
    )
