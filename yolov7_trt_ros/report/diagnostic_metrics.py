"""Map /diagnostics keys to Prometheus metrics, in one table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import math
import re
from typing import NamedTuple

from yolov7_trt_ros.report.prometheus_text import Family, Sample

_PREFIX = 'yolov7_trt_ros'
_REMOVED = 'removed topics'
_QUANTILES = {'50': '0.5', '99': '0.99'}


def _family(name: str, kind: str, about: str) -> Family:
    return Family(f'{_PREFIX}_{name}', kind, about)


_LEVEL = _family('status_level', 'gauge', 'Level of a status: 0 OK, 1 WARN, 2 ERROR, 3 STALE.')
_UPDATED = _family(
    'last_update_timestamp_seconds', 'gauge',
    'When the numbers of a node were written, in seconds since 1970.',
)
_STATE = _family('lifecycle_state', 'gauge', '1 with the label of the state that a node is in.')
_MODEL = _family('model_info', 'gauge', '1 with the labels of the model that serves.')
_CAMERA = _family('camera_state', 'gauge', '1 with the label of the state of a camera.')
_PAUSED = _family('topic_paused', 'gauge', '1 while detection on a topic is paused.')
_IMAGES = {
    name: _family(f'images_{name}_total', 'counter', about) for name, about in {
        'received': 'Images that have arrived.',
        'processed': 'Images whose detections were published.',
        'dropped': 'Images that newer ones replaced, or whose topic was removed.',
        'skipped': 'Images skipped by a rate limit or a pause.',
        'failed': 'Images that could not be used.',
        'lost': 'Images that the middleware reported as lost.',
    }.items()
} | {'renewed': _family(
    'subscriptions_renewed_total', 'counter', 'Subscriptions recreated as nothing had arrived.'
)}
_RAIL = _family('power_watts', 'gauge', 'Current power of a rail; total: of all rails.')
_FRAME_ENERGY = _family(
    'frame_energy_joules', 'gauge', 'Energy of the machine for each frame, by what is counted.')
_MEMORY = _family('memory_bytes', 'gauge', 'Memory of the machine, by use.')


class _Rule(NamedTuple):
    """Keys of diagnostics, their metric, and the factor to its base unit."""

    key: re.Pattern[str]
    family: Family
    scale: float = 1.0
    labels: Mapping[str, str] = {}
    """Beside those that groups of the key give."""


def _rule(key: str, family: Family, scale: float = 1.0, **labels: str) -> _Rule:
    return _Rule(re.compile(key), family, scale, labels)


_NODE_RULES = (
    _rule(r'callbacks failed', _family(
        'callback_failures_total', 'counter', 'Callbacks that raised an exception.')),
    _rule(r'power while (?P<doing>detecting|paused) \(W\)', _family(
        'work_power_watts', 'gauge', 'Mean power of the machine by what the detector does.')),
    _rule(r'energy per frame \(J\)', _FRAME_ENERGY, counted='machine'),
    _rule(r'energy per frame by detecting \(J\)', _FRAME_ENERGY, counted='detecting'),
    _rule(r'energy saved by pauses \(J\)', _family(
        'energy_saved_joules', 'gauge', 'Energy that pauses have saved since activation.')),
)
_TOPIC_RULES = (
    _rule(r'(?P<stage>\w+) p(?P<quantile>50|99) \(ms\)', _family(
        'stage_seconds', 'summary', 'Time of a stage, of the latest 512 images.'), 1e-3),
    _rule(r'images per batch', _family(
        'images_per_batch', 'gauge', 'Images that ran together, on average.')),
    _rule(r'behind the clock \(ms\)', _family(
        'camera_clock_offset_seconds', 'gauge', 'How far stamps are behind the clock.'), 1e-3),
    _rule(r'stamps that went back', _family(
        'camera_stamps_back_total', 'counter', 'Stamps earlier than the previous one.')),
)
_POWER_RULES = (
    *_NODE_RULES[:1],
    _rule(r'(?P<rail>(?!.* average ).+) \(mW\)', _RAIL, 1e-3),
    _rule(r'(?P<sensor>.+) temperature \(C\)', _family(
        'temperature_celsius', 'gauge', 'Temperature of a sensor.')),
    _rule(r'(?P<unit>.+) clock \(MHz\)', _family(
        'clock_hertz', 'gauge', 'Clock of a part of the machine.'), 1e6),
    _rule(r'(?P<unit>.+) load \(%\)', _family(
        'load_ratio', 'gauge', 'Load of a part of the machine, 0 to 1.'), 1e-2),
    _rule(r'fan \(%\)', _family('fan_drive_ratio', 'gauge', 'Drive of the fan, 0 to 1.'), 1e-2),
    _rule(r'fan \(rpm\)', _family('fan_speed_rpm', 'gauge', 'Revolutions of the fan per minute.')),
    _rule(r'(?P<use>RAM used|RAM available|swap used|swap free) \(MiB\)', _MEMORY, 2.0 ** 20),
    _rule(r'frames', _family(
        'detected_frames_total', 'counter', 'Frames of detectors that the power node has seen.')),
    _rule(r'joules per frame', _FRAME_ENERGY, counted='machine'),
)


def status_samples(name: str, level: int, values: Mapping[str, str]) -> Iterator[Sample]:
    """
    Return a status of a node of this package as numbers; what is `unknown` is left out.

    Parameters
    ----------
    name
        `<node>: detector`, `<node>: power`, `<node>: <topic>`, or that of another part, of which
        only the level counts: its values are those of one of these in other words.
    level
        0 to 3.
    values
        As they stand on /diagnostics.

    """
    node, _, part = name.partition(': ')
    yield Sample(_LEVEL, {'node': node, 'status': part}, float(level))
    if part.startswith('/'):
        yield from _topic_samples({'node': node, 'topic': part}, values)
    elif part == 'detector':
        yield from _detector_samples({'node': node}, values)
    elif part == 'power':
        yield from _ruled(_POWER_RULES, {'node': node}, values)


def update_sample(node: str, time_s: float) -> Sample:
    """Return when the numbers of a node were written, in seconds since 1970."""
    return Sample(_UPDATED, {'node': node}, time_s)


def _detector_samples(labels: Mapping[str, str], values: Mapping[str, str]) -> Iterator[Sample]:
    yield Sample(_STATE, {**labels, 'state': values.get('state', '')}, 1.0)
    if 'model' in values:
        names = {name: values.get(name, '') for name in ('model', 'backend')}
        yield Sample(_MODEL, {**labels, **names}, 1.0)
    removed = {
        key.removeprefix(f'{_REMOVED}: '): value for key, value in values.items()
        if key.startswith(f'{_REMOVED}: ')
    }
    yield from _counts({**labels, 'topic': _REMOVED}, removed)
    yield from _ruled(_NODE_RULES, labels, values)


def _topic_samples(labels: Mapping[str, str], values: Mapping[str, str]) -> Iterator[Sample]:
    if 'camera' in values:
        yield Sample(_CAMERA, {**labels, 'state': values['camera']}, 1.0)
    if 'paused' in values:
        yield Sample(_PAUSED, labels, float(values['paused'] != 'no'))
    yield from _counts(labels, values)
    yield from _ruled(_TOPIC_RULES, labels, values)


def _counts(labels: Mapping[str, str], values: Mapping[str, str]) -> Iterator[Sample]:
    for name, family in _IMAGES.items():
        if name in values:
            yield Sample(family, labels, float(values[name]))


def _ruled(
    rules: tuple[_Rule, ...], labels: Mapping[str, str], values: Mapping[str, str]
) -> Iterator[Sample]:
    for key, text in values.items():
        for rule in rules:
            found = rule.key.fullmatch(key)
            number = _number(text) if found is not None else None
            if found is None or number is None:
                continue
            own = found.groupdict() | dict(rule.labels)
            if 'quantile' in own:
                own['quantile'] = _QUANTILES[own['quantile']]
            yield Sample(rule.family, {**labels, **own}, number * rule.scale)


def _number(text: str) -> float | None:
    """Return a finite number; None of any other text."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
