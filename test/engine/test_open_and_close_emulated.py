"""What a detector on the GPU makes is destroyed when it is closed, in whichever thread."""

from __future__ import annotations

from collections.abc import Callable, Collection
import gc
import itertools
import statistics
import threading
import tracemalloc
from typing import Any
import weakref

import pytest
from test_trt_detector_emulated import Gpu, gpu, SETTINGS, view  # noqa: F401  (a fixture)

from yolov7_trt_ros.bank.update.background import BackgroundThread
from yolov7_trt_ros.bank.update.engine_bank import EngineBank
from yolov7_trt_ros.bank.update.update_machine import Phase, UpdateLimits
from yolov7_trt_ros.core.units import NS_PER_S
from yolov7_trt_ros.errors import DeviceMemoryError, InferenceError

TURNS, WARM_UP = 50, 3
MOST_GROWTH_BYTES = 4096
"""Of Python's memory in a turn; a detector takes more than 100 KiB."""


def in_a_thread(work: Callable[[], Any]) -> Any:
    """Do something in a thread of its own, which ends."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results[0]


def held(
    gpu: Gpu, others: Collection[threading.Thread] = ()  # noqa: F811
) -> dict[str, int]:
    """Return what there is of each kind, without these threads."""
    state = gpu.cuda.state
    counts = {
        'device bytes': state.used, 'graph execs': gpu.driver.alive,
        'TensorRT contexts': state.contexts, 'page locks': len(state.locked),
        'threads': len(set(threading.enumerate()) - set(others)),
    }
    return {name: count for name, count in (counts | state.alive).items() if count}


def grown(
    gpu: Gpu, turn: Callable[[], Any]  # noqa: F811
) -> tuple[dict[str, tuple[int, int]], float]:
    """Return which counts 50 turns change, and the bytes of Python that each leaves."""
    def turn_bytes() -> int:
        turn()
        gc.collect()  # ctypes makes circles in the launcher of the kernels
        return tracemalloc.get_traced_memory()[0]

    others = threading.enumerate()  # of the tests before: they may end meanwhile
    gc.disable()  # what waits for the collector is destroyed where nobody knows
    tracemalloc.start()
    try:
        for _ in range(WARM_UP):
            turn()
        before = held(gpu, others)
        sizes = [turn_bytes() for _ in range(TURNS)]
        after = held(gpu, others)
    finally:
        tracemalloc.stop()
        gc.enable()
    changed = {
        name: (before.get(name, 0), after.get(name, 0)) for name in sorted({*before, *after})
        if before.get(name, 0) != after.get(name, 0)
    }
    growth = [last - first for first, last in itertools.pairwise(sizes)]
    return changed, statistics.median(growth)  # Python's table of names may double once


@pytest.mark.parametrize('memory', ['staged', 'locked'])
def test_a_detector_leaves_nothing_in_whichever_thread_it_is_closed(
    gpu: Gpu, memory: str  # noqa: F811
) -> None:
    turns = itertools.count()

    def turn() -> None:
        detector = in_a_thread(lambda: gpu.open_detector(memory=memory))
        for size in ((80, 60), (64, 64)):
            for _ in range(3):
                detector.detect(view(1, *size), SETTINGS)
        detector.measure_stages([view(1)], SETTINGS, repeats=1)
        detector.close() if next(turns) % 2 else in_a_thread(detector.close)
        is_open = weakref.ref(detector)
        del detector
        assert is_open() is None, 'the detector waits for the collector of garbage'

    changed, grown_bytes = grown(gpu, turn)
    assert not changed
    assert grown_bytes < MOST_GROWTH_BYTES


def test_updates_of_a_bank_leave_nothing(gpu: Gpu) -> None:  # noqa: F811
    """As in the node: opened and closed in threads of their own, compared in another."""
    backgrounds: list[BackgroundThread] = []

    def new_background() -> BackgroundThread:
        backgrounds.append(BackgroundThread())
        return backgrounds[-1]

    limits = UpdateLimits(
        shadow_frames=2, shadow_share=1.0, min_detections=1, max_latency_ratio=1e6, keep_ns=0
    )
    time_ns, images = [0], [view(1)]
    bank = EngineBank(
        in_a_thread(gpu.open_detector), 'first', limits=limits, clock=lambda: time_ns[0],
        new_background=new_background,
    )
    names = itertools.count()

    def turn() -> None:
        wanted = bank.ask(f'model {next(names)}')
        assert wanted is not None and bank.opened(wanted, in_a_thread(gpu.open_detector))
        while bank.update_status().phase is Phase.SHADOW:
            bank.detect_batch(images, SETTINGS)
            bank.compare_last()
            time_ns[0] += NS_PER_S
            compared = threading.Event()
            backgrounds[0].submit(compared.set)
            while not (compared.is_set() or backgrounds[0].join(0.01)):
                pass
        bank.tick()
        for background in backgrounds:
            assert background.join(600)
        backgrounds.clear()
        assert bank.update_status().phase is Phase.STEADY and bank.serving.model == wanted

    try:
        changed, grown_bytes = grown(gpu, turn)
    finally:
        bank.close()
    assert not changed
    assert grown_bytes < MOST_GROWTH_BYTES


def test_what_was_made_until_memory_ran_out_is_destroyed(gpu: Gpu) -> None:  # noqa: F811
    """At once, not with the last trace of the error, which may be where no context is current."""
    staging, locks = gpu.modules['gpu.staging'], gpu.modules['device.page_locks'].PageLocks()
    state, size = gpu.cuda.state, 1 << 20
    device = gpu.modules['device.cuda_device'].CudaDevice()
    before, limit = held(gpu), state.limit
    state.limit = state.used + size + 4  # enough for the images, not for the cells
    try:
        with pytest.raises(DeviceMemoryError) as caught, device:
            staging.StagingSlot(size, True, 1, locks)
    finally:
        state.limit = limit
    assert held(gpu) == before, caught.value


def test_buffers_outlive_the_detector_that_made_them_and_are_freed(gpu: Gpu) -> None:  # noqa: F811
    """Staging memory is everybody's: the last detector frees what the first has made."""
    first, second = in_a_thread(gpu.open_detector), in_a_thread(gpu.open_detector)
    first.detect(view(1), SETTINGS)
    in_a_thread(first.close)
    second.detect(view(1), SETTINGS)
    in_a_thread(second.close)
    assert not gpu.cuda.state.used
    assert not gpu.cuda.state.alive['page-locked memory'] + gpu.cuda.state.alive['event']


def test_nothing_is_done_with_what_a_closed_detector_had(gpu: Gpu) -> None:  # noqa: F811
    detector = gpu.open_detector()
    ticket = detector.submit([view(1)], SETTINGS)
    detector.close()
    for use in (
        lambda: detector.collect(ticket), lambda: detector.submit([view(1)], SETTINGS),
        lambda: detector.measure_stages([view(1)], SETTINGS, 1),
        lambda: detector.time_network([view(1)], SETTINGS, 1),
    ):
        with pytest.raises(InferenceError, match='the detector is closed'):
            use()
