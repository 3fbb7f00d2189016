"""The diagnostic status of the power node."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses

from diagnostic_msgs.msg import DiagnosticStatus

from yolov7_trt_ros.nodes.diagnostics import make_status
from yolov7_trt_ros.power.rails import MW_PER_W
from yolov7_trt_ros.power.sample import BoardSample


@dataclasses.dataclass(frozen=True)
class Health:
    """
    What there is to say beside the sample.

    Attributes
    ----------
    facts
        Board, mode, jetson_clocks, governor...
    error
        What has failed and still holds (ERROR), '' for nothing.
    warning
        What keeps it from working in full (WARN), '' for nothing.

    """

    facts: Mapping[str, str]
    error: str = ''
    warning: str = ''


def power_status(
    node_name: str, sample: BoardSample | None, health: Health
) -> DiagnosticStatus:
    """Return the status `<node>: power`; alarms and unreadable parts make it WARN."""
    warnings = [health.warning] if health.warning else []
    values = dict(health.facts)
    message = values.get('mode', '')
    if sample is not None:
        values |= sample_values(sample)
        warnings += [*sample.alarms, *sample.problems]
        message = ', '.join(part for part in (message, summary(sample)) if part)
    level = DiagnosticStatus.WARN if warnings else DiagnosticStatus.OK
    if health.error:
        level = DiagnosticStatus.ERROR
    said = health.error or '; '.join(warnings) or message or 'no sample yet'
    return make_status(f'{node_name}: power', level, said, values)


def summary(sample: BoardSample) -> str:
    """Return `12.3 W, tj 51.5 C`, as far as it is known."""
    parts = [] if sample.total_mw is None else [f'{sample.total_mw / MW_PER_W:.1f} W']
    hottest = sample.hottest_c
    if hottest is not None:
        parts.append(f'{hottest[0]} {hottest[1]:.1f} C')
    return ', '.join(parts)


def sample_values(sample: BoardSample) -> dict[str, str]:
    """Return everything a sample holds, its units in the keys."""
    values = {}
    if sample.total_mw is not None:
        values['total (mW)'] = f'{sample.total_mw:.0f}'
    for name, rail in sample.rails.items():
        values[f'{name} (mW)'] = f'{rail.current_mw:.0f}'
        if rail.average_mw is not None:
            values[f'{name} average (mW)'] = f'{rail.average_mw:.0f}'
    for kind, unit, numbers in (
        ('temperature', 'C', sample.temperatures_c),
        ('clock', 'MHz', sample.clocks_mhz),
        ('load', '%', sample.loads_percent),
    ):
        values |= {f'{name} {kind} ({unit})': f'{number:.1f}' for name, number in numbers.items()}
    if sample.fan_percent is not None:
        values['fan (%)'] = f'{sample.fan_percent:.0f}'
    values['alarms'] = '; '.join(sample.alarms) or 'none'
    values['not readable'] = '; '.join(sample.problems) or 'none'
    return values
