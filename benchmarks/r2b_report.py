"""
A measurement with the keys of NVIDIA's ros2_benchmark, for comparison.

The keys and what they stand for are those of its `BasicPerformanceMetrics` with matched messages:
milliseconds and frames a second; a rate is all frames over the time from the first to the last;
jitter is the change from one gap between received frames to the next.

"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import datetime
import json
from pathlib import Path
import platform
from typing import Any

import numpy as np

from yolov7_trt_ros.core.units import MS_PER_S, NS_PER_MS

_LEAST_FRAMES = 3


def r2b_record(sent_ns: Sequence[int], arrived_ns: Mapping[int, int]) -> dict[str, float]:
    """
    Return the metrics of one camera.

    Parameters
    ----------
    sent_ns
        The stamps of all frames, in order.
    arrived_ns
        When the result of the frame of each stamp was there; lost frames are missing.

    Raises
    ------
    SystemExit
        Fewer than three frames: no jitter, no rate.

    """
    if len(sent_ns) < _LEAST_FRAMES or len(arrived_ns) < _LEAST_FRAMES:
        raise SystemExit(f'{len(arrived_ns)} frames are too few for --r2b-json')
    sent_ms = np.array(sent_ns, np.float64) / NS_PER_MS
    ended_ms = np.sort(np.array(list(arrived_ns.values()), np.float64)) / NS_PER_MS
    latencies = [(arrived_ns[ns] - ns) / NS_PER_MS for ns in sent_ns if ns in arrived_ns]
    jitter = np.abs(np.diff(np.diff(ended_ms)))
    lasted_ms = ended_ms[-1] - ended_ms[0]
    values = {
        'RECEIVED_DURATION': lasted_ms,
        'MEAN_PLAYBACK_FRAME_RATE': len(sent_ms) / (sent_ms[-1] - sent_ms[0]) * MS_PER_S,
        'MEAN_FRAME_RATE': len(ended_ms) / lasted_ms * MS_PER_S,
        'NUM_MISSED_FRAMES': len(sent_ms) - len(ended_ms),
        'NUM_FRAMES_SENT': len(sent_ms),
        'FIRST_SENT_RECEIVED_LATENCY': ended_ms[0] - sent_ms[0],
        'LAST_SENT_RECEIVED_LATENCY': ended_ms[-1] - sent_ms[-1],
        'FIRST_INPUT_LATENCY': latencies[0],
        'LAST_INPUT_LATENCY': latencies[-1],
        'MAX_LATENCY': max(latencies),
        'MIN_LATENCY': min(latencies),
        'MEAN_LATENCY': sum(latencies) / len(latencies),
        'MAX_JITTER': jitter.max(),
        'MIN_JITTER': jitter.min(),
        'MEAN_JITTER': jitter.mean(),
        'STD_DEV_JITTER': jitter.std(),
    }
    return {f'BasicPerformanceMetrics.{name}': float(value) for name, value in values.items()}


def write_r2b(path: Path, size: str, cameras: Mapping[str, Mapping[str, float]]) -> None:
    """Write the file; the metrics of one camera on top, as there, of several under their names."""
    metrics: Mapping[str, Any] = cameras
    if len(cameras) == 1:
        (metrics,) = cameras.values()
    now = datetime.datetime.now(datetime.timezone.utc)
    record = {
        **metrics,
        'custom': {'data_resolution': size.replace('x', ',')},
        'metadata': {
            'BenchmarkMetadata.NAME': 'yolov7_trt_ros detector node',
            'BenchmarkMetadata.TEST_DATETIME': now.strftime('%Y-%m-%dT%H:%M:%SZ'),
            'BenchmarkMetadata.DEVICE_ARCH': platform.machine(),
            'BenchmarkMetadata.DEVICE_OS': f'{platform.system()} {platform.release()}',
        },
    }
    path.write_text(json.dumps(record, indent=4) + '\n')
    print(f'written: {path}')
