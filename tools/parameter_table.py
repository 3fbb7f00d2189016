#!/usr/bin/env python3
"""
Print the parameters of a node as a Markdown table, or keep it current in a document.

    python tools/parameter_table.py                            print the table
    python tools/parameter_table.py --check docs/interfaces.md exit status 1 if it differs
    python tools/parameter_table.py --write docs/interfaces.md write the table into it

The node is the detector; with `--node power`, and for docs/power.md, the power node. In the
document the table lies between the lines `BEGIN` and `END`. Needs rclpy, as the modules of the
parameters do.

"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
import sys

from yolov7_trt_ros.nodes.detector_parameters import parameters
from yolov7_trt_ros.nodes.parameter_spec import ParameterSpec
from yolov7_trt_ros.nodes.power import power_parameters

NODES = {'detector': parameters.PARAMETERS, 'power': power_parameters.PARAMETERS}

BEGIN = '<!-- parameters: begin -->'
END = '<!-- parameters: end -->'
_HEAD = ('name', 'type', 'default', 'accepted', 'run time', 'meaning')


def parameter_table(node: str = 'detector') -> str:
    """Return the table, one row a parameter, with a newline at the end."""
    rows = [_HEAD, tuple('---' for _ in _HEAD), *map(_row, NODES[node])]
    return ''.join(f'| {" | ".join(row)} |\n' for row in rows)


def replace_table(text: str, node: str = 'detector') -> str:
    """
    Return a document's text with the table between its markers replaced.

    Raises
    ------
    ValueError
        The document does not have each marker once, in their order.

    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f'expected the lines {BEGIN} and {END} once each')
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f'{END} comes before {BEGIN}')
    return f'{before}{BEGIN}\n{parameter_table(node)}{END}{after}'


def _row(spec: ParameterSpec) -> tuple[str, ...]:
    default = str(spec.default).lower() if isinstance(spec.default, bool) else str(spec.default)
    accepted = ', '.join(f'`{choice}`' for choice in spec.choices)
    if spec.minimum is not None or spec.maximum is not None:
        accepted = spec.range_text()
    return (
        f'`{spec.name}`', spec.type_text(), f'`{default}`' if default else '(empty)', accepted,
        'yes' if spec.runtime else '', spec.description.replace('|', r'\|'),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(description='The parameters of the node as a table.')
    group = parser.add_mutually_exclusive_group()
    group.add_argument('--check', type=Path, metavar='FILE', help='compare the table in a file')
    group.add_argument('--write', type=Path, metavar='FILE', help='replace the table in a file')
    parser.add_argument('--node', choices=NODES, help='default: the one the file is named after')
    args = parser.parse_args(argv)
    path = args.check or args.write
    node = args.node or (path.stem if path is not None and path.stem in NODES else 'detector')
    if path is None:
        sys.stdout.write(parameter_table(node))
        return 0
    try:
        found = path.read_text(encoding='utf-8')
        wanted = replace_table(found, node)
    except (OSError, ValueError) as exc:
        print(f'{path}: {exc}', file=sys.stderr)
        return 1
    if args.write:
        path.write_text(wanted, encoding='utf-8')
    elif found != wanted:
        print(
            f'{path} is not what the table of the node says; run: '
            f'python tools/parameter_table.py --write {path}', file=sys.stderr,
        )
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
