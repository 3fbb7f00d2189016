"""The status of one image topic for /diagnostics: camera, counters and latencies."""

from __future__ import annotations

from collections.abc import Mapping
import itertools

from diagnostic_msgs.msg import DiagnosticStatus

from yolov7_trt_ros.core.cameras.state import CameraState, Verdict
from yolov7_trt_ros.core.units import NS_PER_S
from yolov7_trt_ros.core.zones import Zones
from yolov7_trt_ros.nodes.diagnostics import make_status, STATUS_PERIOD_S
from yolov7_trt_ros.nodes.images.frame_statistics import Counts
from yolov7_trt_ros.nodes.images.image_stream import ImageStream

_MOST_PASSED_OVER = 20


def topic_status(
    node_name: str, stream: ImageStream, zones: Zones, now_ns: int
) -> DiagnosticStatus:
    """
    Return the status of one image topic: its camera, rates, drops, latency percentiles per stage.

    Parameters
    ----------
    node_name, stream, zones
        The node, the stream, and the zones of its topic.
    now_ns
        Monotonic nanoseconds.

    """
    statistics, counts = stream.statistics, stream.counts()
    # Later arrivals are not known while a frame is in work.
    in_hz, out_hz = statistics.rates_hz(stream.known_until_ns())
    camera = _judge_camera(stream, counts, now_ns)
    values = {'camera': camera.state.value, 'paused': stream.gate.reason or 'no'}
    values |= camera.facts
    values |= {'rate in (Hz)': f'{in_hz:.1f}', 'rate out (Hz)': f'{out_hz:.1f}'}
    values |= {name: str(value) for name, value in vars(counts).items()}
    together = f'{statistics.mean_batch():.2f}' if counts.processed else 'unknown'
    values['images per batch'] = together
    for stage, (p50, p99) in statistics.percentiles_ms().items():
        values[f'{stage} p50 (ms)'] = f'{p50:.2f}'
        values[f'{stage} p99 (ms)'] = f'{p99:.2f}'
    outside = zones.problem(stream.size_wh) if stream.size_wh is not None else ''
    parts = [camera.text, outside]
    level = DiagnosticStatus.WARN if any(parts) else DiagnosticStatus.OK
    if stream.gate.reason:
        parts.append(f'paused: {stream.gate.reason}')
    if camera.state is not CameraState.SILENT:
        parts.append(f'{in_hz:.1f} Hz in, {out_hz:.1f} Hz out')
    text = '; '.join(filter(None, parts))
    return make_status(f'{node_name}: {stream.topic}', level, text, values)


def passed_over_statuses(
    node_name: str, passed_over: Mapping[str, str]
) -> list[DiagnosticStatus]:
    """Return a status for each topic that a pattern found and that cannot be used."""
    return [
        make_status(f'{node_name}: {topic}', DiagnosticStatus.WARN, f'passed over: {reason}', {})
        for topic, reason in itertools.islice(passed_over.items(), _MOST_PASSED_OVER)
    ]


def removed_counters(counts: Counts) -> dict[str, str]:
    """Return the counters of removed topics; nothing if none had received images."""
    if not counts.received:
        return {}
    return {f'removed topics: {name}': str(value) for name, value in vars(counts).items()}


def _judge_camera(stream: ImageStream, counts: Counts, now_ns: int) -> Verdict:
    """Return what is wrong with a camera; a silent camera is only reported as silent."""
    limits = stream.limits.watch
    silent_ns = stream.statistics.silent_ns
    if stream.gate.reason:
        stream.watch.note_pause()
    verdict = stream.watch.judge(limits, now_ns)
    text = stream.problem
    if not text and counts.received == 0:
        text = 'no image received yet'
    if not text and silent_ns > limits.silent_ns - STATUS_PERIOD_S * NS_PER_S / 2:
        text = 'images have stopped'
    if not text:
        return verdict
    stream.watch.note_silence()
    return Verdict(CameraState.SILENT, text, verdict.facts)
