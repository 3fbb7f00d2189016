"""
The ladder: what each layer adds to one 1080p frame, from the network alone to topic to topic.

    python benchmarks/ladder.py

Draws docs/images/ladder.svg from results that other benchmarks have left, medians in milliseconds,
and prints each rung with the command that measured it. Rungs of one machine come from runs on
machines of one kind, with plans built alike. On a GPU an image has two ways: copied by the host,
and fetched from where it was received (memory strategies staged and locked). The CPU has no
transfers; what the network takes there is told by the node.

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


STAGED, LOCKED = 'image copied by the host', 'image fetched in place'


class Rung(NamedTuple):
    """One layer: what a frame has cost up to here, and on which way."""

    name: str
    median_ms: float
    command: str
    way: str = STAGED


def gpu_rungs(path: dict[str, Any], nodes: dict[str, dict[str, Any]]) -> list[Rung]:
    """Return the rungs on a GPU: of gpu_path, and of node_latency by memory strategy."""
    stages = next(
        each for name, each in path['stages_rectangular'].items() if name.startswith(SIZE)
    )
    network = stages['network_graph']
    upload = path['throughput_rectangular'][SIZE]['upload_ms']
    whole = path['latency_rectangular_in_turns'][SIZE]
    command = path['measured_on']['command']
    rungs = [
        Rung('engine', network, command),
        Rung('engine', network, command, LOCKED),
        Rung('+ transfers', network + upload, command),
        Rung('+ pre- and postprocessing', whole['staged']['p50'], command),
        Rung('+ pre- and postprocessing', whole['locked']['p50'], command, LOCKED),
    ]
    for memory, way in (('staged', STAGED), ('locked', LOCKED)):
        node = nodes[memory]
        values, topic = node_values(node)
        in_node = sum(values[name] for name in IN_NODE)
        node_command = node['measured_on']['command']
        rungs += [
            Rung('in the node', in_node, node_command, way),
            Rung('topic to topic', topic, node_command, way),
        ]
    return rungs


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
            (name, [
                Bar(each.way, each.median_ms, label=f'{each.median_ms:.2f} ms')
                for each in rungs if each.name == name
            ])
            for name in dict.fromkeys(each.name for each in rungs)
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
        ('gpu-path', 'gpu_path_default'), ('gpu-staged', 'node_latency_h200'),
        ('gpu-locked', 'node_locked_h200'), ('cpu-node', 'node_latency'),
    ):
        parser.add_argument(f'--{name}', type=Path, default=RESULTS / f'{default}.json')
    parser.add_argument(
        '-o', '--output', type=Path, default=HERE.parent / 'docs' / 'images' / 'ladder.svg'
    )
    args = parser.parse_args()
    path, cpu = read(args.gpu_path), read(args.cpu_node)
    nodes = {'staged': read(args.gpu_staged), 'locked': read(args.gpu_locked)}
    gpu_name = path['machine'].partition(' on ')[2].partition(' (')[0]
    panels = [
        (f'{SIZE}, {gpu_name}, yolov7-tiny FP16', gpu_rungs(path, nodes)),
        (f'{SIZE}, CPU ({machine(cpu)}), yolov7-nano', cpu_rungs(cpu)),
    ]
    args.output.write_text(draw(panels))
    for heading, rungs in panels:
        print(heading)
        for each in rungs:
            print(f'  {each.median_ms:7.2f} ms  {each.name:26} {each.way:26} {each.command}')
    print(f'written: {args.output}')


if __name__ == '__main__':
    main()
