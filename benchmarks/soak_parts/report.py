"""The result of a soak: JSON, table, and whether the detector has grown."""

from __future__ import annotations

import time
from typing import Any

from soak_parts.detector import PATIENCE_S
from soak_parts.faults import FAULTS
from soak_parts.ledger import judge_growth, TOLERANCES
from soak_parts.soaked_node import Soak

SERIES_POINTS = 200
MOST_WARM_UP_SAMPLES = 120


def report(soak: Soak) -> dict[str, Any]:
    """Return the whole result, with growth judged."""
    growth = judge(soak)
    return {
        'violations': soak.ledger.violations,
        'seconds': round(time.monotonic() - soak.started, 1),
        'images': {
            'sent': soak.ledger.sent, 'detections_heard': sum(soak.ledger.heard.values()),
            'corrupt_that_reached_it': soak.ledger.unusable, **soak.ledger.totals,
        },
        'faults': {
            name: sum(each['fault'] == name for each in soak.events) for name in FAULTS
        },
        'quiet_checks': soak.quiet_checks,
        'slowest_answer_s': round(soak.detector.slowest_answer_s, 3),
        'slowest_recovery_s': round(soak.slowest_recovery_s, 3),
        'patience_s': PATIENCE_S,
        'gpu': soak.meter.gpu,
        'growth': growth,
        'plan': soak.events,
        'series': soak.series[:: max(1, len(soak.series) // SERIES_POINTS)],
    }


def judge(soak: Soak) -> dict[str, Any]:
    """Return what has grown, a tenth of the samples left out as warm-up; adds violations."""
    warm_up = min(len(soak.series) // 10, MOST_WARM_UP_SAMPLES)
    growth: dict[str, Any] = {'warm_up_samples_left_out': warm_up}
    for name, tolerance in TOLERANCES.items():
        values = [each[name] for each in soak.series[warm_up:] if name in each]
        if not values:
            growth[name] = {'verdict': soak.meter.gpu}
            continue
        growth[name], violation = judge_growth(name, values, tolerance)
        soak.ledger.violations += [violation] if violation else []
    return growth


def show(result: dict[str, Any]) -> None:
    """Print the result as a short table."""
    for name in ('images', 'faults'):
        print(f'{name}:', ', '.join(f'{key} {value}' for key, value in result[name].items()))
    for name in ('seconds', 'quiet_checks', 'slowest_answer_s', 'slowest_recovery_s', 'gpu'):
        print(f'{name}: {result[name]}')
    for name in TOLERANCES:
        found = result['growth'][name].items()
        print(f'growth of {name}:', ', '.join(f'{key} {value}' for key, value in found))
    for violation in result['violations']:
        print(f'VIOLATION {violation}')
    print('failed' if result['violations'] else 'no violation')
