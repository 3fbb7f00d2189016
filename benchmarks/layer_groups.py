"""
Time of plans by groups of layers, from files of `fusion --time`.

    python benchmarks/layer_groups.py int8.json fp16.json --decoding 'decode|model[.]24/'

Prints a Markdown table, a column a file. Layers whose name --decoding finds, convolutions apart,
make the group `decoding`; the others go by their kind.

"""

from __future__ import annotations

import argparse
import collections
from pathlib import Path
import re
import sys
from typing import Any

from measured_on import save

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from yolov7_trt_ros.report.fusion.engine_layers import (  # noqa: E402  (its folder was added)
    CONVOLUTION,
    load_layers,
    parse_layers,
    QUANTISE,
    REFORMAT,
)
from yolov7_trt_ros.report.fusion.timed_layers import match_times, TimedLayer  # noqa: E402

GROUPS = (CONVOLUTION, 'decoding', REFORMAT, 'activation', QUANTISE, 'other')


def group_of(timed: TimedLayer, decoding: re.Pattern[str]) -> str:
    """Return the group of a layer."""
    kind = '' if timed.layer is None else timed.layer.kind
    if kind == CONVOLUTION:
        return kind
    if decoding.search(timed.name):
        return 'decoding'
    if kind in (REFORMAT, QUANTISE):
        return kind
    return 'activation' if 'PointWise' in timed.label else 'other'


def measure(path: Path, decoding: re.Pattern[str]) -> dict[str, Any]:
    """Return milliseconds and number of the layers of each group."""
    record = load_layers(path)
    if 'Times' not in record:
        raise SystemExit(f'{path} has no times: save it with fusion --time')
    times = match_times(record['Times'], parse_layers(record['Layers']))
    sums: dict[str, list[float]] = collections.defaultdict(list)
    for each in times.layers:
        if each.time_ms:
            sums[group_of(each, decoding)].append(each.time_ms)
    return {
        'layers': path.name, 'source': record.get('Source', {}), **times.conditions,
        'sum_ms': round(times.total_ms, 3),
        'groups': {name: {'ms': round(sum(sums[name]), 3), 'layers': len(sums[name])}
                   for name in GROUPS},
    }


def main() -> None:
    """Group, print and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('files', nargs='+', type=Path)
    parser.add_argument('--decoding', type=re.compile, default=re.compile(r'decode|model[.]24/'))
    parser.add_argument('--json', type=Path)
    args = parser.parse_args()
    rows = [measure(path, args.decoding) for path in args.files]
    print('| ms |', ' | '.join(row['layers'].removesuffix('.json') for row in rows), '|')
    print('|---|', '---|' * len(rows), sep='')
    for name in GROUPS:
        cells = (f'{row["groups"][name]["ms"]:.2f}, {row["groups"][name]["layers"]}'
                 for row in rows)
        print(f'| {name} |', ' | '.join(cells), '|')
    for name in ('sum_ms', 'network_ms'):
        print(f'| {name} |', ' | '.join(f'{row[name]:.2f}' for row in rows), '|')
    if args.json:
        save(args.json, {'rows': rows})


if __name__ == '__main__':
    main()
