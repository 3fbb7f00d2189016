"""A fusion report as one SVG: layers coloured by precision, chains that came apart in red."""

from __future__ import annotations

from collections.abc import Sequence
import re
from xml.sax.saxutils import escape

from yolov7_trt_ros.report.fusion.chain_fate import FUSED
from yolov7_trt_ros.report.fusion.engine_layers import (
    CONVOLUTION,
    EngineLayer,
    names_quantisation,
    NO_OP,
    QUANTISE,
    REFORMAT,
)
from yolov7_trt_ros.report.fusion.fusion_report import (
    describe_change,
    describe_source,
    FusionReport,
)
from yolov7_trt_ros.report.fusion.layout import (
    Edge,
    lay_out,
    Layout,
    NODE_HEIGHT_PX,
    NODE_WIDTH_PX,
)
from yolov7_trt_ros.report.svg_parts import shortened

COLOURS = {
    'Int8': '#f4b942', 'FP8': '#f7dc6f', 'Int4': '#e59866', 'FP4': '#f0b27a',
    'Half': '#8ecae6', 'BFloat16': '#7fd1b9', 'Float': '#d8a7e8', '': '#d5d8dc',
}
"""By precision; '' for all others. Distinguishable with all common kinds of colour vision."""

_APART = '#c0392b'
_INK, _EDGE = '#1c2833', '#85929e'
_MARGIN_PX, _LEGEND_PX = 24, 92
_MIN_WIDTH_PX = 860
_NAME_CHARACTERS, _KIND_CHARACTERS = 31, 38


def colour_of(precision: str) -> str:
    """Return the fill of layers of a precision."""
    return COLOURS.get(precision, COLOURS[''])


def draw_svg(report: FusionReport) -> str:
    """Return the whole picture as an SVG document."""
    layout = lay_out(report.layers)
    width = max(layout.size_wh[0] + 2 * _MARGIN_PX, _MIN_WIDTH_PX)
    height = layout.size_wh[1] + 2 * _MARGIN_PX + _LEGEND_PX
    shift_x = (width - layout.size_wh[0]) / 2
    shift = f'translate({shift_x:.0f} {_MARGIN_PX + _LEGEND_PX})'
    body = [*_legend(report), f'<g transform="{shift}">']
    body += [_edge(edge) for edge in layout.edges]
    body += _nodes(report, layout)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="11">\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n{"".join(body)}</g>\n</svg>\n'
    )


def draw_layers(report: FusionReport) -> str:
    """Return the layers without legend, for a page that has its own and sets the size."""
    layout = lay_out(report.layers)
    width, height = (side + 2 * _MARGIN_PX for side in layout.size_wh)
    body = [_edge(edge) for edge in layout.edges] + _nodes(report, layout)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'role="img" data-shift="{_MARGIN_PX}"><title>Layers as they run</title>\n'
        f'<g transform="translate({_MARGIN_PX} {_MARGIN_PX})">{"".join(body)}</g>\n</svg>\n'
    )


def _nodes(report: FusionReport, layout: Layout) -> list[str]:
    apart = {number for fate in report.fates if fate.state != FUSED for number in fate.layers}
    fused = {number for fate in report.fates if fate.state == FUSED for number in fate.layers}
    return [
        _node(layer, layout.corners[layer.number], apart=layer.number in apart,
              fused=layer.number in fused)
        for layer in report.layers if layer.number in layout.corners
    ]


def _node(
    layer: EngineLayer, corner: tuple[float, float], *, apart: bool, fused: bool
) -> str:
    x, y = corner
    small = layer.kind in (REFORMAT, QUANTISE, NO_OP)
    stroke, stroke_px = (_APART, 2.4) if apart else (_INK, 2.0 if fused else 0.8)
    dash = ' stroke-dasharray="5 3"' if small else ''
    radius = 4 if layer.kind == CONVOLUTION else NODE_HEIGHT_PX / 2
    second_line = shortened(visible(_second_line(layer)), _KIND_CHARACTERS)
    name = shortened(visible(short_name(layer)), _NAME_CHARACTERS)
    return (
        f'<g id="layer-{layer.number}"><title>{escape(_tooltip(layer))}</title>'
        f'<rect class="layer{" apart" if apart else ""}" x="{x:.1f}" y="{y:.1f}" '
        f'width="{NODE_WIDTH_PX}" height="{NODE_HEIGHT_PX}" rx="{radius:g}" '
        f'fill="{colour_of(layer.precision)}" stroke="{stroke}" '
        f'stroke-width="{stroke_px}"{dash}/>'
        f'<text x="{x + NODE_WIDTH_PX / 2:.1f}" y="{y + 17:.1f}" text-anchor="middle" '
        f'font-weight="bold" fill="{_INK}">{escape(name)}</text>'
        f'<text x="{x + NODE_WIDTH_PX / 2:.1f}" y="{y + 31:.1f}" text-anchor="middle" '
        f'fill="{_INK}">{escape(second_line)}</text></g>\n'
    )


def short_name(layer: EngineLayer) -> str:
    """Return a layer's ONNX nodes if only its metadata has them, else its own name."""
    nodes = [part.partition(']')[0] for part in layer.metadata.split('[ONNX Layer: ')[1:]]
    if nodes and (layer.operations or 'ForeignNode' in layer.name):
        plain = [node for node in nodes if not names_quantisation(node)]
        return ' + '.join(plain or nodes)
    if layer.operations:
        return ' '.join(layer.operations)
    return re.sub(r'_myl\d+_\d+$', '', layer.name).replace('Reformatting CopyNode for ', 'for ')


def _second_line(layer: EngineLayer) -> str:
    kind = ' '.join(layer.operations[:4]) or layer.layer_type or layer.kind
    if layer.kind == REFORMAT:
        kind = f'reformat: {describe_change(layer)}'
    shape = 'x'.join(map(str, layer.outputs[0].shape)) if layer.outputs else ''
    return '  '.join(part for part in (f'{layer.number}', kind, shape) if part)


def _tooltip(layer: EngineLayer) -> str:
    lines = [f'{layer.number}: {layer.name}', layer.layer_type,
             f'precision {layer.precision or "unknown"}', layer.metadata[:400], layer.tactic]
    for label, tensors in (('in', layer.inputs), ('out', layer.outputs)):
        lines += [f'{label} {each.name} {each.dtype} {"x".join(map(str, each.shape))} '
                  f'{each.layout}'.rstrip() for each in tensors]
    return '\n'.join(visible(line) for line in lines if line)


def visible(text: str) -> str:
    """Remove what XML does not allow; TensorRT separates names with control characters."""
    return ''.join(character for character in text if character.isprintable())


def _edge(edge: Edge) -> str:
    (x, y), *rest = edge.points
    path = [f'M{x:.1f} {y:.1f}']
    for next_x, next_y in rest:
        middle = (y + next_y) / 2
        path.append(
            f'L{next_x:.1f} {next_y:.1f}' if abs(next_x - x) < 0.5 else
            f'C{x:.1f} {middle:.1f} {next_x:.1f} {middle:.1f} {next_x:.1f} {next_y:.1f}'
        )
        x, y = next_x, next_y
    return (f'<path d="{" ".join(path)}" fill="none" class="edge" '
            f'stroke="{_EDGE}" stroke-width="1.3">'
            f'<title>{escape(visible(edge.tensor))}</title></path>\n')


def _legend(report: FusionReport) -> list[str]:
    share = report.fused_share
    title = f'{report.source.get("onnx") or report.source.get("plan") or "engine"}: ' + (
        f'{len(report.layers)} layers' if share is None else
        f'{report.fused} of {len(report.fates)} chains fused ({share:.1%}), '
        f'{len(report.layers)} layers'
    )
    items = [_text(_MARGIN_PX, 32, title, size=17, weight='bold'),
             _text(_MARGIN_PX, 52, describe_source(report.source), size=12)]
    x = _MARGIN_PX
    for precision, count in report.precisions.items():
        fill = colour_of('' if precision == 'not told' else precision)
        items += _swatch(x, f'{precision} {count}', f'fill="{fill}" stroke="{_INK}"')
        x += 116
    for label, style, advance in (
        ('fused chain', f'fill="#ffffff" stroke="{_INK}" stroke-width="2"', 116),
        ('chain apart', f'fill="#ffffff" stroke="{_APART}" stroke-width="2.4"', 116),
        ('reformat', f'fill="#ffffff" stroke="{_INK}" stroke-dasharray="5 3"', 116),
    ):
        items += _swatch(x, label, style)
        x += advance
    return items


def _swatch(x: float, label: str, style: str) -> Sequence[str]:
    return (f'<rect x="{x:.0f}" y="66" width="22" height="14" rx="3" {style}/>\n',
            _text(x + 28, 77, label, size=12))


def _text(x: float, y: float, text: str, *, size: int, weight: str = 'normal') -> str:
    return (f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" font-weight="{weight}" '
            f'fill="{_INK}">{escape(visible(text))}</text>\n')
