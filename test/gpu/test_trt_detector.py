"""TrtDetector on a GPU: against the CPU detector, with every memory strategy, and under stress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import ctypes
import dataclasses
import os
from pathlib import Path
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import onnx_models
import pycuda.driver as cuda
import pytest

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.forms.model_spec import OutputLayout
from yolov7_trt_ros.core.image import ENCODINGS, ImageView
from yolov7_trt_ros.core.stable_memory import StableMemory
from yolov7_trt_ros.engine.gpu.trt_detector import TrtDetector
from yolov7_trt_ros.engine.onnx_detector import OnnxDetector
from yolov7_trt_ros.engine.plan.plan_file import read_manifest, read_plan
from yolov7_trt_ros.engine.plan.shape_range import ShapeRange
from yolov7_trt_ros.engine.trt.api import TrtApi
from yolov7_trt_ros.errors import (
    DeviceMemoryError,
    InferenceError,
    ModelLayoutError,
    PlanError,
    SettingError,
)
from yolov7_trt_ros.testing import encoded_view

NANO = Path(__file__).parents[2] / 'yolov7_trt_ros' / 'models' / 'yolov7-nano_fp16w.onnx'
SETTINGS = DetectSettings(score_threshold=0.1)
PlanMaker = Callable[..., Path]


def open_plan(api: TrtApi, path: Path, **options: Any) -> TrtDetector:
    manifest = read_manifest(path)
    return TrtDetector(path, read_plan(path, manifest), api=api, manifest=manifest, **options)


def street(seed: int, width: int = 640, height: int = 480) -> np.ndarray:
    """Return a picture that makes the small model find something: bright blobs on noise."""
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 80, (height, width, 3), np.uint8)
    for _ in range(12):
        x, y = rng.integers(0, width - 40), rng.integers(0, height - 60)
        w, h = rng.integers(15, 200), rng.integers(30, 260)
        picture[y:y + h, x:x + w] = rng.integers(0, 256, 3)
    return picture


def same(left: Detections, right: Detections) -> bool:
    return (
        np.array_equal(left.boxes_xyxy, right.boxes_xyxy)
        and np.array_equal(left.scores, right.scores)
        and np.array_equal(left.class_ids, right.class_ids)
    )


@pytest.fixture(scope='module')
def nano(api: TrtApi, plan: PlanMaker) -> Iterator[TrtDetector]:
    detector = open_plan(api, plan(), memory='staged')
    yield detector
    detector.close()


def low() -> DetectSettings:
    """Thresholds at which random pictures give plenty of detections."""
    return DetectSettings(score_threshold=0.004, iou_threshold=0.6)


# ---- against the CPU ------------------------------------------------------------------------


def test_fp32_plan_finds_what_the_cpu_finds(api: TrtApi, plan: PlanMaker) -> None:
    detector = open_plan(api, plan(precision='fp32'))
    reference = OnnxDetector(NANO)
    compared = 0
    sizes_wh = [(640, 480), (1280, 720), (333, 517), (1920, 1080)]
    try:
        for seed, (width, height) in enumerate(sizes_wh):
            image = ImageView.from_array(street(seed, width, height))
            found, timings = detector.detect(image, low())
            wanted, _ = reference.detect(image, low())
            assert timings.total_ns > 0
            assert detector.letterbox(image.size_wh) == reference.letterbox(image.size_wh)
            near = min(len(found), len(wanted), 20)
            assert abs(len(found) - len(wanted)) <= 0.1 * len(wanted) + 2
            for index in range(near):
                class_id = wanted.class_ids[index]
                gap = np.abs(found.boxes_xyxy - wanted.boxes_xyxy[index]).max(axis=1)
                gap += np.where(found.class_ids == class_id, 0, 1e6)
                best = int(gap.argmin())
                assert gap[best] < 2.0, (seed, class_id)
                assert abs(found.scores[best] - wanted.scores[index]) < 0.01
                compared += 1
    finally:
        detector.close()
        reference.close()
    assert compared >= 20, 'the pictures must make the model find something'


@pytest.mark.parametrize('encoding', sorted({e.name for e in ENCODINGS.values()}))
def test_every_encoding_runs_and_agrees_with_bgr8(nano: TrtDetector, encoding: str) -> None:
    picture = street(3)
    if encoding.startswith('mono'):
        picture = np.repeat(picture.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    wanted, _ = nano.detect(ImageView.from_array(picture), low())
    found, _ = nano.detect(encoded_view(picture[..., ::-1], encoding), low())
    assert len(found)
    if encoding in ('bgr8', 'rgb8', 'bgra8', 'rgba8'):
        assert same(found, wanted)


# ---- layouts --------------------------------------------------------------------------------


@pytest.mark.parametrize('half', [False, True])
def test_grid_of_a_known_model(api: TrtApi, plan: PlanMaker, tmp_path: Path, half: bool) -> None:
    path = onnx_models.brightness_grid(tmp_path / f'grid{half}.onnx')
    profile = ShapeRange((1, 3, 64, 64), (1, 3, 64, 64), (1, 3, 64, 64))
    built = plan(path, f'grid{half}', profiles=(profile,), precision='fp16' if half else 'fp32')
    detector = open_plan(api, built, network_size=64)
    reference = OnnxDetector(path, network_size=64)
    try:
        for seed in range(5):
            image = ImageView.from_array(street(seed, 64, 64) // 2 + 60)
            found, _ = detector.detect(image, SETTINGS)
            wanted, _ = reference.detect(image, SETTINGS)
            assert len(found) == len(wanted)
            assert np.allclose(found.boxes_xyxy, wanted.boxes_xyxy, atol=0.1)
            assert np.allclose(found.scores, wanted.scores, atol=0.01)
    finally:
        detector.close()


def test_model_whose_nms_plugin_was_cut_off(
    api: TrtApi, plan: PlanMaker, tmp_path: Path
) -> None:
    path = onnx_models.ends_in_plugin(tmp_path / 'plugin.onnx')
    detector = open_plan(api, plan(path, 'plugin', profiles=(), precision='fp32'))
    assert detector.spec.layout is OutputLayout.BOXES_AND_SCORES
    found, _ = detector.detect(ImageView.from_array(street(0, 64, 64)), DetectSettings())
    assert found.scores.tolist() == [0.75, 0.5]
    assert found.boxes_xyxy.tolist() == [[10, 20, 30, 40], [40, 10, 60, 30]]
    assert found.class_ids.tolist() == [1, 3]
    detector.close()


@pytest.mark.parametrize(('form', 'keep', 'layout'), [
    ('rawheads', False, OutputLayout.RAW_HEADS),
    ('end2end_trt', False, OutputLayout.BOXES_AND_SCORES),
    ('end2end_trt', True, OutputLayout.END2END_TRT),
])
def test_real_models_of_other_forms_agree_with_the_grid(
    api: TrtApi, plan: PlanMaker, shared_data: Path, form: str, keep: bool, layout: OutputLayout
) -> None:
    folder = shared_data / 'vision' / 'models'
    path = folder / f'yolov5n_640_{form}.onnx'
    if not path.is_file():
        pytest.skip(f'no {path.name} on this machine')
    anchors = 'yolov7-tiny' if layout is OutputLayout.RAW_HEADS else 'auto'
    name = f'{path.stem}{"_plugin" if keep else ""}'
    built = plan(path, name, profiles=(), anchors=anchors, keep_nms_plugin=keep)
    detector = open_plan(api, built)
    assert detector.spec.layout is layout
    grid = OnnxDetector(folder / 'yolov5n_640_grid.onnx')
    settings = DetectSettings(score_threshold=0.3)
    found, _ = detector.detect(ImageView.from_array(street(1)), settings)
    wanted, _ = grid.detect(ImageView.from_array(street(1)), settings)
    assert abs(len(found) - len(wanted)) <= 1 + len(wanted) // 4
    detector.close()


# ---- settings, batches, pipelining ----------------------------------------------------------


def test_settings_change_between_frames_without_a_new_capture(nano: TrtDetector) -> None:
    image = ImageView.from_array(street(4))
    for _ in range(3):
        everything, _ = nano.detect(image, low())
    misses = nano.status()['CUDA graph'].split(',')[1]
    one, _ = nano.detect(image, DetectSettings(score_threshold=0.004, max_detections=1))
    assert len(one) == 1 and one.scores[0] == everything.scores[0]
    wanted = frozenset({int(everything.class_ids[-1])})
    few, _ = nano.detect(image, DetectSettings(score_threshold=0.004, class_ids=wanted))
    assert set(few.class_ids.tolist()) == wanted
    first = int(everything.class_ids[0])
    picky, _ = nano.detect(
        image, DetectSettings(score_threshold=0.004, class_thresholds=((first, 0.999),))
    )
    others = everything.class_ids[everything.class_ids != first]
    assert picky.class_ids.tolist()[:20] == others.tolist()[:20]
    only, _ = nano.detect(
        image, DetectSettings(score_threshold=0.999, class_thresholds=((first, 0.004),))
    )
    assert set(only.class_ids.tolist()) == {first}
    none, _ = nano.detect(image, DetectSettings(score_threshold=0.999))
    assert len(none) == 0
    again, _ = nano.detect(image, low())
    assert same(again, everything)
    assert nano.status()['CUDA graph'].split(',')[1] == misses


def test_settings_take_turns_between_frames_in_flight(nano: TrtDetector) -> None:
    """As topics with settings of their own do, and more of them than records are kept."""
    image = ImageView.from_array(street(4))
    several = [
        DetectSettings(score_threshold=0.004, max_detections=most + 1) for most in range(6)
    ] + [
        DetectSettings(score_threshold=0.004, class_thresholds=((0, score / 100),))
        for score in range(6)
    ]
    alone = [nano.detect(image, each)[0] for each in several]
    flying = []
    for number in map(int, np.random.default_rng(1).integers(0, len(several), 200)):
        flying.append((number, nano.submit([image], several[number])))
        if len(flying) > 2:
            index, ticket = flying.pop(0)
            assert same(nano.collect(ticket)[0][0], alone[index])
    for index, ticket in flying:
        assert same(nano.collect(ticket)[0][0], alone[index])


def test_batch_of_different_sizes_and_encodings_equals_single_images(nano: TrtDetector) -> None:
    pictures = [street(5), street(6, 800, 600), street(7, 320, 240)]
    images = [
        ImageView.from_array(pictures[0]), encoded_view(pictures[1], 'rgb8'),
        encoded_view(pictures[2], 'nv12'),
    ]
    found, _ = nano.detect_batch(images, low())
    for one, image in zip(found, images, strict=True):
        alone, _ = nano.detect(image, low())
        assert one.source_wh == image.size_wh
        count = min(len(one), len(alone), 10)
        assert count and np.allclose(one.boxes_xyxy[:count], alone.boxes_xyxy[:count], atol=3)


def test_network_alone_is_timed_and_leaves_the_frames_as_they_were(nano: TrtDetector) -> None:
    images = [ImageView.from_array(street(seed)) for seed in range(2)]
    before, _ = nano.detect_batch(images, low())
    stages = nano.measure_stages(images, low(), 20)
    times_ns = nano.time_network(images, low(), 20)
    assert len(times_ns) == 20
    assert abs(float(np.median(times_ns)) / 1e6 - stages['network_graph']) < 0.2
    after, _ = nano.detect_batch(images, low())
    assert all(map(same, before, after))
    with pytest.raises(SettingError, match='at once'):
        nano.time_network(images * nano.max_batch, low())


def test_batches_outside_the_plan_are_refused(nano: TrtDetector) -> None:
    image = ImageView.from_array(street(0))
    with pytest.raises(SettingError, match='1 to 4 images'):
        nano.submit([image] * 5, SETTINGS)
    with pytest.raises(SettingError, match='got 0'):
        nano.submit([], SETTINGS)


@pytest.mark.parametrize('memory', ['staged', 'locked', 'mapped'])
@pytest.mark.parametrize('cuda_graph', [True, False])
def test_frames_in_flight_are_never_mixed_up(
    api: TrtApi, plan: PlanMaker, memory: str, cuda_graph: bool
) -> None:
    detector = open_plan(api, plan(), memory=memory, cuda_graph=cuda_graph)
    try:
        sizes = [(640, 480), (800, 600), (1920, 1080)]
        images = [ImageView.from_array(street(seed, *sizes[seed % 3])) for seed in range(24)]
        alone = [detector.detect(image, low())[0] for image in images]
        assert sum(map(len, alone)) > 100
        assert not same(alone[0], alone[3])
        flying: list[tuple[int, Any]] = []
        order = np.random.default_rng(0).integers(0, len(images), 400)
        for number in order:
            flying.append((int(number), detector.submit([images[number]], low())))
            if len(flying) > 2:
                index, ticket = flying.pop(0)
                (found,), _ = detector.collect(ticket)
                assert same(found, alone[index])
        while flying:
            index, ticket = flying.pop()  # in any order
            (found,), _ = detector.collect(ticket)
            assert same(found, alone[index])
    finally:
        detector.close()


def test_a_ticket_is_collected_once(nano: TrtDetector) -> None:
    ticket = nano.submit([ImageView.from_array(street(0))], SETTINGS)
    nano.collect(ticket)
    with pytest.raises(InferenceError, match='collected before'):
        nano.collect(ticket)


# ---- memory ---------------------------------------------------------------------------------


def test_nothing_is_allocated_per_frame(
    nano: TrtDetector, device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [ImageView.from_array(street(seed, 1280, 720)) for seed in range(4)]
    for image in images:
        nano.detect(image, SETTINGS)
    made: list[str] = []

    def counting(name: str) -> None:
        real = getattr(cuda, name)
        monkeypatch.setattr(cuda, name, lambda *a, **k: (made.append(name), real(*a, **k))[1])

    for name in ('mem_alloc', 'pagelocked_empty', 'to_device', 'mem_alloc_pitch'):
        counting(name)
    with device:
        before = cuda.mem_get_info()[0]
    for _ in range(50):
        for image in images:
            nano.detect(image, SETTINGS)
    with device:
        assert cuda.mem_get_info()[0] == before
    assert made == []


def test_several_engines_share_staging_memory(api: TrtApi, plan: PlanMaker) -> None:
    image = ImageView.from_array(street(0, 1280, 720))
    detectors = [open_plan(api, plan(), memory='staged')]
    detectors[0].detect(image, SETTINGS)
    pool = detectors[0].staging_pool
    before = pool.slots, pool.staging_bytes
    detectors += [open_plan(api, plan(), memory='staged') for _ in range(3)]
    for detector in detectors:
        for _ in range(3):
            detector.detect(image, SETTINGS)
    assert {id(detector.staging_pool) for detector in detectors} == {id(pool)}
    assert (pool.slots, pool.staging_bytes) == before
    for detector in detectors:
        detector.close()


def test_memory_strategy_is_measured_and_kept(
    api: TrtApi, plan: PlanMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    for turn in range(2):
        detector = open_plan(api, plan(), memory='auto')
        assert detector.status()['memory'] in ('staged', 'locked', 'mapped', 'direct')
        assert set(detector.memory_choice.medians_ms) >= {'staged', 'locked', 'mapped'}
        kept = detector.memory_choice.clear and turn == 1 and any(tmp_path.rglob('memory_*'))
        assert ('earlier start' in detector.status()['memory chosen']) == kept
        print(detector.memory_choice)
        detector.close()
    with pytest.raises(SettingError, match='memory must be auto'):
        open_plan(api, plan(), memory='telepathy')


class Mapping:
    """Pages of our own, so that they can be given back to the kernel and mapped anew."""

    def __init__(self, size_bytes: int, address: int | None = None) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        library.mmap.restype = ctypes.c_void_p
        library.mmap.argtypes = [
            ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long
        ]
        self._munmap = library.munmap
        self._munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        fixed = 0 if address is None else 0x10
        self.address = library.mmap(address, size_bytes, 3, 0x22 | fixed, -1, 0)
        assert self.address not in (None, 2**64 - 1), os.strerror(ctypes.get_errno())
        self.memory = StableMemory(self.address, size_bytes)
        self.size_bytes = size_bytes

    @property
    def octets(self) -> np.ndarray:
        octets = (ctypes.c_ubyte * self.size_bytes).from_address(self.address)
        return np.frombuffer(octets, np.uint8)

    def image(self, picture: np.ndarray) -> ImageView:
        pixels = self.octets[: picture.nbytes].reshape(picture.shape)
        pixels[...] = picture
        return dataclasses.replace(ImageView.from_array(pixels), memory=self.memory)

    def unmap(self) -> None:
        assert not self._munmap(self.address, self.size_bytes)


def is_page_locked(address: int, device: Any) -> bool:
    flags = ctypes.c_uint()
    with device:
        library = ctypes.CDLL('libcuda.so.1')
        return library.cuMemHostGetFlags(ctypes.byref(flags), ctypes.c_void_p(address)) == 0


@pytest.mark.parametrize('size_wh', [(1920, 1080), (1280, 720), (640, 480), (2560, 1440)])
def test_images_in_memory_that_stays_are_fetched_from_there(
    api: TrtApi, plan: PlanMaker, device: Any, size_wh: tuple[int, int]
) -> None:
    detector, staged = (open_plan(api, plan(), memory=each) for each in ('locked', 'staged'))
    block = Mapping(size_wh[0] * size_wh[1] * 3)
    pictures = [street(seed, *size_wh) for seed in range(8)]
    wanted = [staged.detect(ImageView.from_array(each), low())[0] for each in pictures]
    assert all(map(len, wanted))
    for index, picture in enumerate(pictures):
        found, _ = detector.detect(block.image(picture), low())
        assert same(found, wanted[index]), index
    assert detector.status()['images page-locked'] == '6, and 2 copied'
    assert is_page_locked(block.address, device)
    tickets = []
    blocks = [block, Mapping(block.size_bytes), Mapping(block.size_bytes)]
    for number in range(60):
        picture = number % len(pictures)
        if len(tickets) == len(blocks) - 1:
            index, ticket = tickets.pop(0)
            assert same(detector.collect(ticket)[0][0], wanted[index])
        image = blocks[number % len(blocks)].image(pictures[picture])
        tickets.append((picture, detector.submit([image], low())))
    for index, ticket in tickets:
        assert same(detector.collect(ticket)[0][0], wanted[index])
    for each in blocks:
        each.memory.release()
        assert not is_page_locked(each.address, device)
        each.unmap()
    detector.close()
    staged.close()


@pytest.mark.parametrize('told', [True, False], ids=['given up', 'without a word'])
def test_memory_that_is_unmapped_and_mapped_anew_is_read_as_it_is(
    api: TrtApi, plan: PlanMaker, told: bool
) -> None:
    """An owner that unmaps without a word breaks its promise; even so nothing is lost for good."""
    detector, staged = (open_plan(api, plan(), memory=each) for each in ('locked', 'staged'))
    block = Mapping(1280 * 720 * 3)
    for seed in range(6):
        detector.detect(block.image(street(seed, 1280, 720)), low())
    if told:
        block.memory.release()
    block.unmap()
    if not told:
        block.memory.release()  # too late
    again = Mapping(block.size_bytes, block.address)
    for seed in range(6, 12):
        picture = street(seed, 1280, 720)
        found, _ = detector.detect(again.image(picture), low())
        assert same(found, staged.detect(ImageView.from_array(picture), low())[0])
    again.memory.release()
    again.unmap()
    detector.close()
    staged.close()


@pytest.mark.parametrize('way', ['subprocess', 'fork'])
def test_a_child_process_does_not_part_locked_memory_from_the_gpu(
    api: TrtApi, plan: PlanMaker, way: str
) -> None:
    """After a fork that copies pages when they are written, the GPU would go on with the old."""
    detector, staged = (open_plan(api, plan(), memory=each) for each in ('locked', 'staged'))
    block = Mapping(1280 * 720 * 3)
    for seed in range(4):
        detector.detect(block.image(street(seed, 1280, 720)), low())
    child = None
    if way == 'subprocess':
        child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)
    else:
        reading, writing = os.pipe()
        if not (pid := os.fork()):
            os.read(reading, 1)
            os._exit(0)
    for seed in range(4, 8):
        picture = street(seed, 1280, 720)
        found, _ = detector.detect(block.image(picture), low())
        assert same(found, staged.detect(ImageView.from_array(picture), low())[0])
    if child is not None:
        child.communicate(b'\n')
    else:
        os.write(writing, b'x')
        os.waitpid(pid, 0)
    block.memory.release()
    block.unmap()
    detector.close()
    staged.close()


def test_detectors_share_page_locks(
    api: TrtApi, plan: PlanMaker, device: Any
) -> None:
    block = Mapping(640 * 480 * 3)
    for _ in range(2):
        detectors = [open_plan(api, plan(), memory='locked') for _ in range(2)]
        for detector in detectors:
            for seed in range(4):
                detector.detect(block.image(street(seed)), low())
        assert is_page_locked(block.address, device)
        detectors[0].close()
        assert is_page_locked(block.address, device), 'the other one still uses it'
        detectors[1].detect(block.image(street(0)), low())
        detectors[1].close()
    block.memory.release()
    assert not is_page_locked(block.address, device)
    block.unmap()


def test_out_of_device_memory_is_an_error_of_one_frame(
    api: TrtApi, plan: PlanMaker, device: Any
) -> None:
    detector = open_plan(api, plan(), memory='staged')
    image = ImageView.from_array(street(0))
    wanted, _ = detector.detect(image, SETTINGS)
    large = ImageView.from_array(np.zeros((9000, 12000, 3), np.uint8))
    with device:
        hoard = _fill_device()
    try:
        with pytest.raises(DeviceMemoryError, match='MiB'):
            detector.detect(large, SETTINGS)
        found, _ = detector.detect(image, SETTINGS)
        assert same(found, wanted)
    finally:
        with device:
            for block in hoard:
                block.free()
    detector.detect(large, SETTINGS)
    detector.close()


def _fill_device() -> list[Any]:
    """Take device memory until hardly any is left."""
    blocks, size = [], 1 << 34
    while size >= 1 << 20:
        try:
            blocks.append(cuda.mem_alloc(size))
        except cuda.MemoryError:
            size >>= 1
    return blocks


# ---- threads, errors ------------------------------------------------------------------------


def test_any_thread_may_use_the_detector(nano: TrtDetector) -> None:
    image = ImageView.from_array(street(8))
    wanted, _ = nano.detect(image, low())
    found: list[Detections] = []
    for _ in range(3):
        thread = threading.Thread(target=lambda: found.append(nano.detect(image, low())[0]))
        thread.start()
        thread.join()
    assert len(found) == 3 and all(same(one, wanted) for one in found)


def test_nan_is_an_error_of_each_frame(api: TrtApi, plan: PlanMaker, tmp_path: Path) -> None:
    path = onnx_models.brightness_grid(tmp_path / 'nan.onnx', objectness=float('nan'))
    profile = ShapeRange((1, 3, 64, 64), (1, 3, 64, 64), (1, 3, 64, 64))
    built = plan(path, 'nan', profiles=(profile,), precision='fp32')
    detector = open_plan(api, built, network_size=64)
    said = set()
    for _ in range(4):
        with pytest.raises(InferenceError, match='NaN or infinite') as caught:
            detector.detect(ImageView.from_array(street(0, 64, 64)), SETTINGS)
        said.add(str(caught.value))
    assert len(said) == 1, 'the counts of one frame must not reach the next'
    detector.close()


def test_truncated_and_foreign_plans_are_refused(api: TrtApi, plan: PlanMaker) -> None:
    data = plan().read_bytes()
    for bad in (data[: len(data) // 2], b'not a plan at all' * 100):
        with pytest.raises(PlanError, match='cannot load the plan'):
            TrtDetector(Path('bad.plan'), bad, api=api)


def test_plan_without_manifest_is_recognised(api: TrtApi, plan: PlanMaker) -> None:
    path = plan(name='yolov7-nano_grid', keep_grid=True)
    detector = TrtDetector(path, path.read_bytes(), api=api)
    assert detector.spec.layout is OutputLayout.GRID
    assert detector.spec.num_classes == 80
    assert len(detector.detect(ImageView.from_array(street(2)), low())[0])
    detector.close()
    path = plan()
    with pytest.raises(ModelLayoutError, match=r'set anchors to one .* put the manifest .* back'):
        TrtDetector(path, path.read_bytes(), api=api)


def test_decoding_that_was_cut_off_is_made_up_for(
    api: TrtApi, plan: PlanMaker, nano: TrtDetector
) -> None:
    assert nano.spec.layout is OutputLayout.RAW_HEADS
    whole = open_plan(api, plan(name='yolov7-nano_grid', keep_grid=True))
    assert whole.spec.layout is OutputLayout.GRID
    for seed in range(3):
        image = ImageView.from_array(street(seed))
        found, _ = nano.detect(image, low())
        wanted, _ = whole.detect(image, low())
        assert abs(len(found) - len(wanted)) <= 1 + len(wanted) // 10
        assert np.allclose(found.scores[:3], wanted.scores[:3], atol=0.02)
    whole.close()


def test_network_size_outside_the_plan_is_refused(api: TrtApi, plan: PlanMaker) -> None:
    with pytest.raises(SettingError, match='takes at most 640'):
        open_plan(api, plan(), network_size=1280)
    with pytest.raises(SettingError, match='multiple of the stride'):
        open_plan(api, plan(), network_size=600)


def test_closed_detector_says_so(api: TrtApi, plan: PlanMaker) -> None:
    detector = open_plan(api, plan())
    detector.close()
    detector.close()
    with pytest.raises(InferenceError, match='closed'):
        detector.detect(ImageView.from_array(street(0)), SETTINGS)


def test_lost_context_is_told_and_does_not_end_the_process(plan: PlanMaker) -> None:
    script = Path(__file__).with_name('lose_context.py')
    done = subprocess.run(
        [sys.executable, str(script), str(plan())], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout.count('restart it') == 3
    assert 'alive' in done.stdout
