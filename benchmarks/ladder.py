"""
The ladder: what each layer adds to one 1080p frame, from the network alone to topic to topic.

    python benchmarks/ladder.py

Draws docs/images/ladder.svg from results that other benchmarks have left, medians in milliseconds,
and prints each rung with the command that measured it. Rungs of one machine come from runs after
one another on it. The CPU has no transfers; what the network takes there is told by the node.

"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

from yolov7_trt_ros.report.svg_charts import Bar, bars, WIDTH_PX

HERE = Path(__file__).resolve().parent
RESULTS = HERE / 'results'
SIZE = '1920x1080'
IN_NODE = ('wait', 'preprocess', 'infer', 'postprocess', 'publish')
DETECTION = ('preprocess', 'infer', 'postprocess')
STYLE = """
svg { font-family: system-ui, sans-serif; }
text { fill: #24292f; font-size: 13px; }
.grid { stroke: #d0d7de; } .tick, .axis { fill: #57606a; font-size: 12px; }
.heading { font-size: 15px; font-weight: 600; }
"""
HEADING_PX, MARGIN_PX = 34, 12


class Rung(NamedTuple):
    """One layer: what a frame has cost up to here."""

    name: str
    median_ms: float
    command: str


def gpu_rungs(path: dict[str, Any], node: dict[str, Any]) -> list[Rung]:
    """Return the rungs on a GPU: of gpu_path and of node_latency."""
    stages = next(
        each for name, each in path['stages_rectangular'].items() if name.startswith(SIZE)
    )
    network = stages['network_graph']
    upload = path['throughput_rectangular'][SIZE]['upload_ms']
    whole = path['latency_rectangular'][SIZE]['latency_ms']['p50']
    command, node_command = (each['measured_on']['command'] for each in (path, node))
    values, topic = node_values(node)
    return [
        Rung('engine', network, command),
        Rung('+ transfers', network + upload, command),
        Rung('+ pre- and postprocessing', whole, command),
        Rung('in the node', sum(values[name] for name in IN_NODE), node_command),
        Rung('topic to topic', topic, node_command),
    ]


def cpu_rungs(node: dict[str, Any]) -> list[Rung]:
    """Return the rungs on a CPU, all of node_latency."""
    values, topic = node_values(node)
    command = node['measured_on']['command']
    return [
        Rung('engine', values['infer'], command),
        Rung('+ pre- and postprocessing', sum(values[name] for name in DETECTION), command),
        Rung('in the node', sum(values[name] for name in IN_NODE), command),
        Rung('topic to topic', topic, command),
    ]


def node_values(node: dict[str, Any]) -> tuple[dict[str, float], float]:
    """Return the median of each stage, and from topic to topic, of a C++-like camera."""
    run = node['publishers']['serialized']
    stages = run['cameras'][0]['stages_ms']
    medians = {
        name.removesuffix(' p50'): value for name, value in stages.items() if name.endswith('p50')
    }
    return medians, run['latency_ms']['p50']


def machine(record: dict[str, Any]) -> str:
    """Return where it was measured, and whether that machine was busy."""
    where = record['measured_on']
    load = where['load_before']['one_minute']
    busy = f', load {load:g} on them' if where['load_before']['busy'] else ''
    return f'{where["processor"]}, {where["cores"]} cores{busy}'


def draw(panels: list[tuple[str, list[Rung]]]) -> str:
    """Return a picture with a panel of rungs for each machine, on a light ground of its own."""
    parts, y = [], float(MARGIN_PX)
    for heading, rungs in panels:
        groups = [
            (each.name, [Bar('median', each.median_ms, told=f'{each.median_ms:.2f} ms')])
            for each in rungs
        ]
        chart = bars(groups, title=heading, unit='ms')
        height = float(chart.partition('viewBox="0 0 ')[2].partition('"')[0].split()[1])
        placed = f'<svg x="0" y="{y + HEADING_PX}" width="{WIDTH_PX}" height="{height}" '
        parts += [
            f'<text class="heading" x="20" y="{y + 20}">{heading}</text>',
            chart.replace('<svg ', placed, 1),
        ]
        y += HEADING_PX + height
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH_PX} {y:.0f}" '
        f'width="{WIDTH_PX}" height="{y:.0f}"><style>{STYLE}</style>'
        f'<rect width="{WIDTH_PX}" height="{y:.0f}" rx="8" fill="#ffffff"/>\n'
        + '\n'.join(parts) + '\n</svg>\n'
    )


def read(path: Path) -> dict[str, Any]:
    """Return a result file."""
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def main() -> None:
    """Draw and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').strip().partition('\n')[0])
    for name, default in (
        ('gpu-path', 'gpu_path_default'), ('gpu-node', 'node_latency_h200'),
        ('cpu-node', 'node_latency'),
    ):
        parser.add_argument(f'--{name}', type=Path, default=RESULTS / f'{default}.json')
    parser.add_argument(
        '-o', '--output', type=Path, default=HERE.parent / 'docs' / 'images' / 'ladder.svg'
    )
    args = parser.parse_args()
    path, gpu, cpu = read(args.gpu_path), read(args.gpu_node), read(args.cpu_node)
    gpu_name = path['machine'].partition(' on ')[2].partition(' (')[0]
    panels = [
        (f'{SIZE}, {gpu_name}, yolov7-tiny FP16', gpu_rungs(path, gpu)),
        (f'{SIZE}, CPU ({machine(cpu)}), yolov7-nano', cpu_rungs(cpu)),
    ]
    args.output.write_text(draw(panels))
    for heading, rungs in panels:
        print(heading)
        for each in rungs:
            print(f'  {each.median_ms:7.2f} ms  {each.name:28} {each.command}')
    print(f'written: {args.output}')


if __name__ == '__main__':
    main()
