"""
Memory of a process that opens and closes a plan again and again on a GPU, with ours and without.

If only `detector` grows, the growth is ours; if `engine` grows as well, it is TensorRT's or the
driver's. Each runs in a process of its own and prints the figures after each turn as JSON.

"""

from __future__ import annotations

from collections.abc import Callable
import ctypes
import gc
import json
from pathlib import Path
import subprocess
import sys
import threading

import numpy as np
import pytest

TURNS, SETTLED = 30, 8
MOST_HOST_MIB, MOST_DEVICE_MIB = 6.0, 4.0
"""Of growth after the first turns; before, a turn cost 1.1 to 1.9 and 1 MiB."""


def open_detector(plan: Path) -> None:
    """Open and close all of it: in a thread of its own each, as updates do."""
    from yolov7_trt_ros.core.detector import DetectSettings
    from yolov7_trt_ros.core.image import ImageView
    from yolov7_trt_ros.engine.open import open_detector as open_one
    from yolov7_trt_ros.engine.options import DetectorOptions

    image = ImageView.from_array(np.zeros((480, 640, 3), np.uint8))
    opened = [in_a_thread(lambda: open_one(DetectorOptions(model=str(plan), memory='staged')))]
    for _ in range(3):
        opened[0].detect(image, DetectSettings())
    in_a_thread(opened.pop().close)


def open_engine(plan: Path) -> None:
    """Deserialise a plan, create an execution context, destroy both: no stream, no kernel."""
    from yolov7_trt_ros.engine.gpu.plan_facts import opened_engine

    def turn() -> None:
        with opened_engine(plan) as engine:
            engine.create_context(0, 0).close()

    in_a_thread(turn)


def in_a_thread(work: Callable[[], object]) -> object:
    """Do something in a thread of its own."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results[0]


def main(kind: str, plan: Path) -> None:
    """Print memory in MiB after each turn: resident, anonymous, and in use on the GPU."""
    import pycuda.driver as cuda

    from yolov7_trt_ros.engine.device.cuda_device import CudaDevice

    turn = {'detector': open_detector, 'engine': open_engine}[kind]
    trim = ctypes.CDLL('libc.so.6').malloc_trim
    for _ in range(TURNS):
        turn(plan)
        gc.collect()
        trim(0)
        lines = Path('/proc/self/status').read_text(encoding='utf-8').splitlines()
        status = dict(line.split(':', 1) for line in lines)
        with CudaDevice():
            free, total = cuda.mem_get_info()
        print(json.dumps({
            'rss_mib': int(status['VmRSS'].split()[0]) / 1024,
            'anonymous_mib': int(status['RssAnon'].split()[0]) / 1024,
            'device_mib': (total - free) / (1 << 20),
        }))


@pytest.mark.parametrize('kind', ['detector', 'engine'])
def test_memory_does_not_grow_with_each_detector(plan: Callable[..., Path], kind: str) -> None:
    """Nothing else may use the GPU meanwhile."""
    done = subprocess.run(
        [sys.executable, __file__, kind, str(plan())], capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr[-2000:]
    turns = [json.loads(line) for line in done.stdout.splitlines()]
    first, last = turns[SETTLED - 1], turns[-1]
    told = f'{kind}: {first} after {SETTLED} turns, {last} after {TURNS}'
    print(told)
    assert len(turns) == TURNS
    assert last['anonymous_mib'] - first['anonymous_mib'] < MOST_HOST_MIB, told
    assert last['device_mib'] - first['device_mib'] < MOST_DEVICE_MIB, told


if __name__ == '__main__':
    main(sys.argv[1], Path(sys.argv[2]))
