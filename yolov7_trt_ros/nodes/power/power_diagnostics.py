"""The diagnostic statuses of the power node: one for the whole, and one for each part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses

from diagnostic_msgs.msg import DiagnosticStatus

from yolov7_trt_ros.nodes.diagnostics import make_status
from yolov7_trt_ros.power.telemetry.sample import BoardSample
from yolov7_trt_ros.power.units import MW_PER_W


@dataclasses.dataclass(frozen=True)
class Health:
    """
    The content of the status in addition to the sample.

    Attributes
    ----------
    facts
        Values: board, mode, jetson_clocks, governor...
    error
        A failure that still holds (ERROR), '' for none.
    warning
        A restriction of its function (WARN), '' for none.

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
        warnings += [*sample.alarms, *sample.warnings, *sample.problems]
        message = ', '.join(part for part in (message, summary(sample)) if part)
    text = health.error or '; '.join(warnings) or message or 'no sample yet'
    status = _status(f'{node_name}: power', text, values, is_warning=bool(warnings))
    if health.error:
        status.level = DiagnosticStatus.ERROR
    return status


def part_statuses(node_name: str, sample: BoardSample | None) -> list[DiagnosticStatus]:
    """
    Return a status for each part in the sample, for monitors that show a tree.

    A part is WARN only by its own alarms: `memory` if it is nearly full, `supply` for
    over-current, `temperatures` for throttling.
    """
    if sample is None:
        return []
    hot = [alarm for alarm in sample.alarms if 'over-current' not in alarm]
    current = [alarm for alarm in sample.alarms if 'over-current' in alarm]
    hottest = sample.hottest_c
    parts: tuple[tuple[str, dict[str, str], str, Sequence[str]], ...] = (
        ('supply', rail_values(sample), power_text(sample), current),
        ('temperatures', _numbers('temperature', 'C', sample.temperatures_c),
         '' if hottest is None else f'{hottest[0]} {hottest[1]:.1f} C', hot),
        ('cpu', _unit_values(sample, 'cpu'), load_text(sample, 'cpu'), ()),
        ('gpu', _unit_values(sample, 'gpu') | sample.gpu_processes, load_text(sample, 'gpu'),
         ()),
        ('engines', _engine_values(sample), '', ()),
        ('memory', memory_values(sample) | _unit_values(sample, 'emc'), memory_text(sample),
         sample.warnings),
        ('fan', fan_values(sample), '', ()),
    )
    return [
        _status(f'{node_name}: {name}', '; '.join(warnings) or text or 'OK', values,
                is_warning=bool(warnings))
        for name, values, text, warnings in parts if values or warnings
    ]


def _status(
    name: str, message: str, values: Mapping[str, str], *, is_warning: bool
) -> DiagnosticStatus:
    level = DiagnosticStatus.WARN if is_warning else DiagnosticStatus.OK
    return make_status(name, level, message, values)


def summary(sample: BoardSample) -> str:
    """Return `12.3 W, tj 51.5 C`, as far as known."""
    hottest = sample.hottest_c
    heat = '' if hottest is None else f'{hottest[0]} {hottest[1]:.1f} C'
    return ', '.join(filter(None, (power_text(sample), heat)))


def power_text(sample: BoardSample) -> str:
    """Return `12.3 W`; '' if the power is unknown."""
    return '' if sample.total_mw is None else f'{sample.total_mw / MW_PER_W:.1f} W'


def load_text(sample: BoardSample, unit: str) -> str:
    """Return `62 %`; '' if the load is unknown."""
    load = sample.loads_percent.get(unit)
    return '' if load is None else f'{load:.0f} %'


def memory_text(sample: BoardSample) -> str:
    """Return the available RAM; '' if unknown."""
    memory = sample.memory
    if memory is None:
        return ''
    return f'{memory.available_mib:.0f} of {memory.total_mib:.0f} MiB available'


def sample_values(sample: BoardSample) -> dict[str, str]:
    """Return all values of a sample, with units in the keys."""
    return {
        **rail_values(sample),
        **_numbers('temperature', 'C', sample.temperatures_c),
        **_numbers('clock', 'MHz', sample.clocks_mhz),
        **_numbers('load', '%', sample.loads_percent),
        **fan_values(sample),
        **memory_values(sample),
        **sample.gpu_processes,
        'alarms': '; '.join(sample.alarms) or 'none',
        'not readable': '; '.join(sample.problems) or 'none',
    }


def rail_values(sample: BoardSample) -> dict[str, str]:
    """Return the total power and that of each rail."""
    values = {}
    if sample.total_mw is not None:
        values['total (mW)'] = f'{sample.total_mw:.0f}'
    for name, rail in sample.rails.items():
        values[f'{name} (mW)'] = f'{rail.current_mw:.0f}'
        if rail.average_mw is not None:
            values[f'{name} average (mW)'] = f'{rail.average_mw:.0f}'
    return values


def fan_values(sample: BoardSample) -> dict[str, str]:
    """Return drive and speed of the fan."""
    numbers = {'fan (%)': sample.fan_percent, 'fan (rpm)': sample.fan_rpm}
    return {name: f'{number:.0f}' for name, number in numbers.items() if number is not None}


def memory_values(sample: BoardSample) -> dict[str, str]:
    """Return RAM, swap and the largest free block."""
    memory = sample.memory
    if memory is None:
        return {}
    numbers = {
        'RAM used (MiB)': memory.used_mib, 'RAM available (MiB)': memory.available_mib,
        'swap used (MiB)': memory.swap_used_mib, 'swap free (MiB)': memory.swap_free_mib,
        'largest free block (MiB)': memory.largest_free_mib,
        'largest free blocks': memory.largest_free_count,
    }
    return {name: f'{number:.0f}' for name, number in numbers.items() if number is not None}


def _unit_values(sample: BoardSample, unit: str) -> dict[str, str]:
    """Return clocks and loads of a unit: of all cores for 'cpu'."""
    texts = _clocks_and_loads(sample)
    return {name: text for name, text in texts.items() if name.startswith(unit)}


def _engine_values(sample: BoardSample) -> dict[str, str]:
    """Return clocks and loads of the other engines: neither CPU, GPU nor memory."""
    others = ('cpu', 'gpu', 'emc')
    texts = _clocks_and_loads(sample)
    return {name: text for name, text in texts.items() if not name.startswith(others)}


def _clocks_and_loads(sample: BoardSample) -> dict[str, str]:
    return {
        **_numbers('clock', 'MHz', sample.clocks_mhz),
        **_numbers('load', '%', sample.loads_percent),
    }


def _numbers(kind: str, unit: str, numbers: Mapping[str, float]) -> dict[str, str]:
    return {f'{name} {kind} ({unit})': f'{number:.1f}' for name, number in numbers.items()}
