"""
TrtDetector where there is no GPU: its own kernels on the host, ONNX Runtime in TensorRT's place.

test/gpu runs the same on real hardware. Here are the logic between the parts, the arithmetic of
the kernels, the bookkeeping of memory, graphs and errors; not speed and not overlap.

"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import dataclasses
import importlib
from pathlib import Path
import sys
import threading
from typing import Any

import export_forms
import numpy as np
import onnx_models
import pytest

from yolov7_trt_ros.bank.looks.second_look import look_twice
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.forms.model_spec import ANCHOR_SETS, ModelSpec
from yolov7_trt_ros.core.image import ENCODINGS, ImageView, PixelLayout
from yolov7_trt_ros.core.looks.crops import Crop, cut
from yolov7_trt_ros.core.looks.look_options import LookOptions
from yolov7_trt_ros.core.stable_memory import StableMemory
from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.engine.onnx_detector import OnnxDetector
from yolov7_trt_ros.engine.plan.build_target import BuildTarget
from yolov7_trt_ros.engine.plan.plan_file import PlanManifest
from yolov7_trt_ros.engine.plan.shape_range import ShapeRange
from yolov7_trt_ros.errors import (
    DeviceLostError,
    DeviceMemoryError,
    InferenceError,
    ModelLayoutError,
    PlanError,
    SettingError,
)
from yolov7_trt_ros.onnx_tools.strip_decoding import load_without_decoding
from yolov7_trt_ros.testing import encode_image, encoded_view

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'test' / 'kernel_host'))

import emulated_cuda  # noqa: E402, I100  (its folder has just been added)
from test_kernel_twins import HostLauncher, kernel_names  # noqa: E402

MODULES = (
    'device.cuda_device', 'gpu.graphs', 'device.kernels', 'device.memory', 'device.page_locks',
    'gpu.plan_probe', 'gpu.settings_upload', 'gpu.staging', 'gpu.upload', 'gpu.trt_buckets',
    'gpu.stage_times', 'gpu.bucket_cache', 'gpu.trt_detector',
)
SIZE = 64
PROFILES = (
    ShapeRange((1, 3, 32, 32), (1, 3, 64, 64), (2, 3, 96, 96)),
    ShapeRange((1, 3, 32, 32), (4, 3, 64, 64), (4, 3, 64, 64)),
)
SETTINGS = DetectSettings(score_threshold=0.3)


class Gpu:
    """The emulated device and the modules that believe in it."""

    def __init__(self, folder: Path) -> None:
        self.cuda = emulated_cuda.install()
        for name in MODULES:
            sys.modules.pop(f'yolov7_trt_ros.engine.{name}', None)
        load = importlib.import_module
        self.modules = {name: load(f'yolov7_trt_ros.engine.{name}') for name in MODULES}
        self.driver = emulated_cuda.EmulatedDriver(self.cuda.state)
        self.modules['gpu.graphs'].driver = self.driver
        self.library = emulated_cuda.EmulatedDriverLibrary(self.cuda.state)
        self.modules['device.page_locks'].open_driver = lambda: self.library
        self.cuda.state.launch = HostLauncher(ROOT / '.cache' / 'host_kernels').launch
        self.modules['device.kernels'].compiled = (
            lambda source, architecture, folder: ' '.join(kernel_names(source)).encode()
        )
        self.grid = onnx_models.brightness_grid(folder / 'grid.onnx', num_classes=3)

    def open_detector(self, model: Path | None = None, **options: Any) -> Any:
        profiles = options.pop('profiles', PROFILES)
        api = options.pop('api', None) or emulated_cuda.EmulatedApi(self.cuda.state, profiles)
        options = {'network_size': SIZE, 'memory': 'staged'} | options
        path = model or self.grid
        return self.modules['gpu.trt_detector'].TrtDetector(
            path, path.read_bytes(), api=api, **options
        )


@pytest.fixture(scope='module')
def gpu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gpu]:
    kept = {name: sys.modules.get(name) for name in ('pycuda', 'pycuda.driver')}
    yield Gpu(tmp_path_factory.mktemp('models'))
    for name, module in kept.items():
        if module is None:
            sys.modules.pop(name, None)
        else:
            sys.modules[name] = module
    for name in MODULES:
        sys.modules.pop(f'yolov7_trt_ros.engine.{name}', None)


@pytest.fixture
def opened(gpu: Gpu) -> Iterator[Callable[..., Any]]:
    """Open detectors; afterwards everything they took must be given back."""
    def held() -> tuple[int, int, int]:
        return gpu.cuda.state.used, gpu.driver.alive, gpu.cuda.state.contexts

    before = held()
    detectors: list[Any] = []

    def open_one(*arguments: Any, **options: Any) -> Any:
        detectors.append(gpu.open_detector(*arguments, **options))
        return detectors[-1]

    yield open_one
    for detector in detectors:
        detector.close()
    assert held() == before, 'device memory, graphs or contexts leaked'


def blobs(seed: int, width: int = 80, height: int = 60) -> np.ndarray:
    """Return dark noise with bright rectangles, BGR."""
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 60, (height, width, 3), np.uint8)
    for _ in range(4):
        x, y = int(rng.integers(0, width - 8)), int(rng.integers(0, height - 8))
        picture[y:y + int(rng.integers(8, 30)), x:x + int(rng.integers(8, 30))] = 255
    return picture


def view(seed: int, width: int = 80, height: int = 60) -> ImageView:
    return ImageView.from_array(blobs(seed, width, height))


def same(left: Detections, right: Detections) -> bool:
    return all(
        np.array_equal(getattr(left, name), getattr(right, name))
        for name in ('boxes_xyxy', 'scores', 'class_ids')
    )


def close_to(found: Detections, wanted: Detections) -> bool:
    return (
        found.class_ids.tolist() == wanted.class_ids.tolist()
        and np.allclose(found.boxes_xyxy, wanted.boxes_xyxy, atol=0.01)
        and np.allclose(found.scores, wanted.scores, atol=0.004)
    )


# ---- the same as on the CPU -----------------------------------------------------------------


def test_embedded_model_finds_what_the_cpu_finds(opened: Callable[..., Any]) -> None:
    model = find_model('yolov7-nano')
    profile = ShapeRange((1, 3, 32, 32), (1, 3, 160, 160), (1, 3, 160, 160))
    detector = opened(model, profiles=(profile,), network_size=160)
    assert_finds_the_same(detector, OnnxDetector(model, network_size=160))


def assert_finds_the_same(detector: Any, reference: OnnxDetector) -> None:
    settings = DetectSettings(score_threshold=0.002)
    total = 0
    for seed, (width, height) in enumerate([(160, 120), (321, 77), (90, 200)]):
        image = view(seed, width, height)
        found, timings = detector.detect(image, settings)
        wanted, _ = reference.detect(image, settings)
        assert detector.letterbox(image.size_wh) == reference.letterbox(image.size_wh)
        assert abs(len(found) - len(wanted)) <= 1 + len(wanted) // 10
        strong = min(len(found), len(wanted), 3)
        assert np.allclose(found.scores[:strong], wanted.scores[:strong], atol=2e-3)
        total += len(found)
        assert timings.total_ns > 0
    assert total > 10


def test_a_plan_without_its_decoding_finds_what_the_cpu_finds_with_it(
    opened: Callable[..., Any], tmp_path: Path
) -> None:
    reference = OnnxDetector(find_model('yolov7-nano'), network_size=160, keep_grid=True)
    cut = load_without_decoding(find_model('yolov7-nano'), reference.spec)
    assert cut is not None
    plan = tmp_path / 'cut.plan'
    plan.write_bytes(cut[0])
    profile = ShapeRange((1, 3, 32, 32), (1, 3, 160, 160), (1, 3, 160, 160))
    with pytest.raises(ModelLayoutError, match=r'set anchors to one .* put the manifest .* back'):
        opened(plan, profiles=(profile,), network_size=160)
    detector = opened(plan, profiles=(profile,), network_size=160, anchors=cut[1].anchors)
    assert_finds_the_same(detector, reference)


@pytest.mark.parametrize('memory', ['staged', 'locked', 'mapped', 'direct'])
@pytest.mark.parametrize('encoding', sorted({e.name for e in ENCODINGS.values()}))
def test_every_encoding_by_every_way_equals_the_cpu(
    opened: Callable[..., Any], gpu: Gpu, encoding: str, memory: str
) -> None:
    detector = opened(memory=memory)
    reference = OnnxDetector(gpu.grid, network_size=SIZE)
    for seed, padding in ((1, 0), (2, 6)):
        image = encoded_view(blobs(seed)[..., ::-1], encoding, padding)
        found, _ = detector.detect(image, SETTINGS)
        assert close_to(found, reference.detect(image, SETTINGS)[0])


def test_big_endian_and_tiny_bayer_images_take_a_detour(
    opened: Callable[..., Any], gpu: Gpu
) -> None:
    reference = OnnxDetector(gpu.grid, network_size=SIZE)
    for memory in ('staged', 'direct'):
        detector = opened(memory=memory)
        data = np.arange(40 * 30, dtype=np.uint16).reshape(30, 40) * 50
        found = [
            detector.detect(ImageView.from_buffer(
                data.astype(order).tobytes(), width=40, height=30, encoding='mono16',
                big_endian=order == '>u2',
            ), SETTINGS)[0] for order in ('<u2', '>u2')
        ]
        assert same(*found)
        tiny = ImageView.from_array(np.full((2, 2), 255, np.uint8), 'bayer_rggb8')
        assert close_to(detector.detect(tiny, SETTINGS)[0], reference.detect(tiny, SETTINGS)[0])


def test_images_in_gapped_memory_are_read_right(opened: Callable[..., Any]) -> None:
    wide = np.zeros((60, 160, 3), np.uint8)
    wide[:, ::2] = blobs(3)
    for memory in ('staged', 'mapped', 'direct'):
        detector = opened(memory=memory)
        gapped, _ = detector.detect(ImageView.from_array(wide[:, ::2]), SETTINGS)
        assert same(gapped, detector.detect(view(3), SETTINGS)[0])


# ---- graphs and buckets ---------------------------------------------------------------------


def test_second_frame_of_a_size_replays_a_graph(opened: Callable[..., Any]) -> None:
    detector = opened()
    found = [detector.detect(view(1), SETTINGS)[0] for _ in range(4)]
    assert all(same(one, found[0]) for one in found)
    assert detector.status()['CUDA graph'] == '3 replays, 1 captures, 0 without'


def test_without_graphs_every_frame_is_launched_plainly(opened: Callable[..., Any]) -> None:
    detector, replaying = opened(cuda_graph=False), opened()
    for seed in range(3):
        found, _ = detector.detect(view(seed), SETTINGS)
        assert same(found, replaying.detect(view(seed), SETTINGS)[0])
    assert detector.status()['CUDA graph'] == '0 replays, 0 captures, 3 without (switched off)'


def test_failed_capture_falls_back(opened: Callable[..., Any], gpu: Gpu) -> None:
    api = emulated_cuda.EmulatedApi(gpu.cuda.state, PROFILES)
    detector = opened(api=api)
    captured = gpu.driver.cuStreamBeginCapture

    def begin(stream: Any, mode: int) -> tuple[int]:
        api.fail_next = 1
        return captured(stream, mode)

    gpu.driver.cuStreamBeginCapture = begin  # type: ignore[method-assign]
    try:
        found = [detector.detect(view(1), SETTINGS)[0] for _ in range(3)]
    finally:
        del gpu.driver.cuStreamBeginCapture
    assert all(same(one, found[0]) for one in found)
    assert 'emulated failure' in detector.status()['CUDA graph']
    assert detector.status()['CUDA graph'].startswith('0 replays, 1 captures, 2 without')


def test_many_sizes_are_kept_and_dropped_without_leaking(
    opened: Callable[..., Any], gpu: Gpu
) -> None:
    detector = opened()
    reference = OnnxDetector(gpu.grid, network_size=SIZE)
    used = []
    for turn in range(2):
        for width in range(40, 100, 2):
            image = view(width, width, 50)
            found, _ = detector.detect(image, SETTINGS)
            assert close_to(found, reference.detect(image, SETTINGS)[0])
        used.append(gpu.cuda.state.used)
        assert gpu.driver.alive <= 32, turn
    assert used[0] == used[1]


def test_settings_change_without_a_new_capture(opened: Callable[..., Any], gpu: Gpu) -> None:
    detector = opened()
    reference = OnnxDetector(gpu.grid, network_size=SIZE)
    for settings in (
        SETTINGS, DetectSettings(score_threshold=0.3, max_detections=2),
        DetectSettings(score_threshold=0.3, class_ids=frozenset({1})),
        DetectSettings(score_threshold=0.9, iou_threshold=0.1),
        DetectSettings(score_threshold=0.1, class_agnostic=True, max_candidates=5), SETTINGS,
        DetectSettings(score_threshold=0.9, class_thresholds=((1, 0.2),)),
        DetectSettings(class_ids=frozenset({0, 1}), class_thresholds=((0, 0.9), (2, 0.0))),
    ):
        found, _ = detector.detect(view(4), settings)
        assert close_to(found, reference.detect(view(4), settings)[0])
    assert detector.status()['CUDA graph'] == '7 replays, 1 captures, 0 without'


def test_settings_take_turns_between_frames_in_flight(opened: Callable[..., Any]) -> None:
    """As topics with settings of their own do, and more of them than records are kept."""
    detector, image = opened(), view(4)
    several = [
        DetectSettings(0.1, iou_threshold=1.0, max_detections=most + 1) for most in range(4)
    ] + [
        DetectSettings(0.1, iou_threshold=1.0, class_thresholds=((score % 3, 0.99 - score / 20),))
        for score in range(8)
    ]
    alone = [detector.detect(image, each)[0] for each in several]
    assert len({len(found) for found in alone}) > 3
    order = np.random.default_rng(1).integers(0, len(several), 60)
    flying: list[tuple[int, Any]] = []
    for number in map(int, order):
        flying.append((number, detector.submit([image], several[number])))
        if len(flying) > 2:
            index, ticket = flying.pop(0)
            assert same(detector.collect(ticket)[0][0], alone[index])


def test_multi_label_and_single_label_frames_alternate(
    opened: Callable[..., Any], gpu: Gpu
) -> None:
    detector = opened()
    reference = OnnxDetector(gpu.grid, network_size=SIZE)
    for multi_label in (False, True, False, True):
        settings = DetectSettings(score_threshold=0.05, multi_label=multi_label)
        found, _ = detector.detect(view(5), settings)
        assert close_to(found, reference.detect(view(5), settings)[0])


# ---- batches and frames in flight -----------------------------------------------------------


def test_batch_of_different_sizes_and_encodings(opened: Callable[..., Any], gpu: Gpu) -> None:
    detector = opened()
    assert detector.max_batch == 4
    images = [view(1), encoded_view(blobs(2, 64, 48), 'nv12'), view(3, 50, 90)]
    found, _ = detector.detect_batch(images, SETTINGS)
    assert [one.source_wh for one in found] == [image.size_wh for image in images]
    reference = OnnxDetector(gpu.grid, network_size=SIZE, rectangular=False)
    for one, image in zip(found, images, strict=True):  # together they need the square
        assert close_to(one, reference.detect(image, SETTINGS)[0])


def test_frames_in_flight_are_never_mixed_up(opened: Callable[..., Any]) -> None:
    for memory in ('staged', 'mapped', 'direct'):
        detector = opened(memory=memory)
        images = [view(seed, 80 + seed % 3 * 20, 60) for seed in range(9)]
        alone = [detector.detect(image, SETTINGS)[0] for image in images]
        assert not same(alone[0], alone[3])
        flying: list[tuple[int, Any]] = []
        for number in np.random.default_rng(0).integers(0, 9, 60):
            flying.append((int(number), detector.submit([images[number]], SETTINGS)))
            if len(flying) > 3:
                index, ticket = flying.pop(int(number) % 3)
                assert same(detector.collect(ticket)[0][0], alone[index])
        for index, ticket in flying:
            assert same(detector.collect(ticket)[0][0], alone[index])


def test_ticket_counts_once_and_batches_have_bounds(opened: Callable[..., Any]) -> None:
    detector = opened()
    ticket = detector.submit([view(0)], SETTINGS)
    detector.collect(ticket)
    with pytest.raises(InferenceError, match='collected before'):
        detector.collect(ticket)
    with pytest.raises(SettingError, match='1 to 4 images at once, got 5'):
        detector.submit([view(0)] * 5, SETTINGS)
    with pytest.raises(SettingError, match='got 0'):
        detector.submit([], SETTINGS)


def test_any_thread_may_use_the_detector(opened: Callable[..., Any]) -> None:
    detector = opened()
    wanted, _ = detector.detect(view(1), SETTINGS)
    found: list[Detections] = []
    thread = threading.Thread(target=lambda: found.append(detector.detect(view(1), SETTINGS)[0]))
    thread.start()
    thread.join()
    assert same(found[0], wanted)


# ---- memory ---------------------------------------------------------------------------------


def test_nothing_is_allocated_per_frame(opened: Callable[..., Any], gpu: Gpu) -> None:
    detector = opened()
    for seed in range(3):
        detector.detect(view(seed, 60 + seed, 50), SETTINGS)
    before = gpu.cuda.state.allocations
    for seed in range(30):
        detector.detect(view(seed, 60 + seed % 3, 50), SETTINGS)
    assert gpu.cuda.state.allocations == before


def test_engines_share_staging_memory(opened: Callable[..., Any]) -> None:
    detectors = [opened() for _ in range(3)]
    for detector in detectors:
        detector.detect(view(1), SETTINGS)
    assert len({id(detector.staging_pool) for detector in detectors}) == 1
    assert detectors[0].staging_pool.slots == 1
    detectors[0].detect(view(1, 800, 600), SETTINGS)  # a larger slot takes the place of the first
    assert detectors[0].staging_pool.slots == 1
    assert len(detectors[1].detect(view(1), SETTINGS)[0])


def test_out_of_memory_is_an_error_of_one_frame(opened: Callable[..., Any], gpu: Gpu) -> None:
    detector = opened()
    wanted, _ = detector.detect(view(1), SETTINGS)
    limit, gpu.cuda.state.limit = gpu.cuda.state.limit, gpu.cuda.state.used + 1000
    try:
        with pytest.raises(DeviceMemoryError, match='MiB'):
            detector.detect(view(1, 4000, 3000), SETTINGS)
    finally:
        gpu.cuda.state.limit = limit
    assert same(detector.detect(view(1), SETTINGS)[0], wanted)
    assert len(detector.detect(view(1, 4000, 3000), SETTINGS)[0])


def test_memory_strategy_is_measured_in_turns_told_and_kept(
    opened: Callable[..., Any], gpu: Gpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    seen: list[str] = []
    kinds = [getattr(gpu.modules['gpu.upload'], name) for name in ('Staged', 'Locked', 'Mapped')]
    for kind in kinds:

        def send(self: Any, *arguments: Any, was: Any = kind.send, **options: Any) -> bool:
            seen.append(self.name)
            return was(self, *arguments, **options)

        monkeypatch.setattr(kind, 'send', send)
    choice = opened(memory='auto').memory_choice
    assert set(choice.medians_ms) == {'staged', 'locked', 'mapped', 'direct'}
    rounds = [set(seen[start:start + 3]) for start in range(0, len(seen), 3)]
    assert rounds == [{'staged', 'locked', 'mapped'}] * 28
    clear = dataclasses.replace(choice, strategy='mapped', clear=True)
    kept = gpu.modules['gpu.upload'].kept_choice(gpu.modules['device.cuda_device'].CudaDevice())
    kept.save(clear)
    detector = opened(memory='auto')
    assert detector.status()['memory'] == 'mapped' and 'mapped memory' in detector.backend
    assert detector.status()['memory chosen'] == f'{choice.why}, as measured at an earlier start'
    assert len(seen) == 3 * 28, 'measured anew'
    assert opened().status()['memory chosen'] == 'as asked for'
    with pytest.raises(SettingError, match='auto or one of staged, locked, mapped, direct'):
        opened(memory='telepathy')


def test_the_usual_memory_is_that_of_the_gpu(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = gpu.modules['gpu.upload']
    device = gpu.modules['device.cuda_device'].CudaDevice()
    assert upload.usual_strategy(device, ['staged', 'mapped']) == 'staged'
    monkeypatch.setattr(device, 'attribute', lambda name: int(name == 'INTEGRATED'))
    assert upload.usual_strategy(device, ['staged', 'mapped']) == 'mapped'
    assert upload.usual_strategy(device, ['staged']) == 'staged'


# ---- images in memory that stays are fetched from there -----------------------------------------


class Camera:
    """Writes one image after another into the same block, whose rows may have gaps."""

    def __init__(self, width: int = 80, height: int = 60, gap: int = 0) -> None:
        self.octets = np.zeros((height, width * 3 + gap), np.uint8)
        self.memory = StableMemory(self.octets.ctypes.data, self.octets.nbytes)
        self._wh = width, height

    def image(self, seed: int) -> ImageView:
        width, height = self._wh
        self.octets[:, :width * 3] = blobs(seed, width, height).reshape(height, -1)
        return ImageView.from_buffer(
            self.octets, width=width, height=height, encoding='bgr8', step=self.octets.shape[1],
            memory=self.memory,
        )


@pytest.mark.parametrize('gap', [0, 7])
@pytest.mark.parametrize(('size_wh', 'copies'), [
    ((80, 60), (1, 1)), ((192, 108), (1, 1)), ((256, 144), (1, 2)), ((240, 135), (4, 8)),
    ((90, 250), (32, 0)), ((90, 239), (0, 0)),
])
@pytest.mark.parametrize('cuda_graph', [True, False])
def test_images_in_memory_that_stays_are_fetched_from_there(
    opened: Callable[..., Any], gpu: Gpu, size_wh: tuple[int, int], copies: tuple[int, int],
    gap: int, cuda_graph: bool,
) -> None:
    """
    Rows that lie in a pattern are fetched by as many copies as that has runs, or rows with gaps.

    Of 192x108 every third row is wanted, of 256x144 two of four, of 240x135 four pairs of fifteen.
    The pattern of 90x250 repeats after 32 pairs, that of 90x239 later.

    """
    detector, staged = opened(memory='locked', cuda_graph=cuda_graph), opened()
    camera, before = Camera(*size_wh, gap), gpu.cuda.state.fetched
    for seed in range(6):
        image = camera.image(seed)
        found, _ = detector.detect(image, SETTINGS)
        wanted, _ = staged.detect(ImageView.from_array(image.pixels.copy()), SETTINGS)
        assert len(found) and same(found, wanted)
    fetched = 4 if copies[bool(gap)] else 0
    assert gpu.cuda.state.fetched - before == fetched * copies[bool(gap)]
    assert detector.status()['images page-locked'] == f'{fetched}, and {6 - fetched} copied'
    camera.memory.release()
    assert not gpu.cuda.state.locked


def test_frames_in_flight_and_batches_are_fetched_too(
    opened: Callable[..., Any], gpu: Gpu
) -> None:
    detector, staged = opened(memory='locked'), opened()
    cameras = [Camera(), Camera(96, 64), Camera()]
    before = gpu.cuda.state.fetched
    for turn in range(5):
        images = [camera.image(10 * turn + n) for n, camera in enumerate(cameras[:2])]
        images.append(view(turn))  # from elsewhere
        tickets = [
            detector.submit(images[:2], SETTINGS), detector.submit(images[1:], SETTINGS),
            detector.submit([cameras[2].image(turn)], SETTINGS),
        ]
        found = [each for ticket in tickets for each in detector.collect(ticket)[0]]
        images[2:2] = [images[1]]
        images.append(cameras[2].image(turn))
        for each, image in zip(found, images, strict=True):
            assert close_to(each, staged.detect(ImageView.from_array(image.pixels), SETTINGS)[0])
    assert gpu.cuda.state.fetched - before == 3 + 8 + 3, 'the first two of a block are copied'
    assert len(gpu.cuda.state.locked) == 3
    detector.close()
    staged.close()
    assert not gpu.cuda.state.locked, 'the last detector unlocks what is left'
    for camera in cameras:
        camera.memory.release()


def test_pixels_that_lie_elsewhere_than_the_block_are_copied(
    opened: Callable[..., Any], gpu: Gpu
) -> None:
    detector, camera = opened(memory='locked'), Camera()
    before = gpu.cuda.state.fetched
    for seed in range(5):
        image = camera.image(seed)
        elsewhere = dataclasses.replace(image, pixels=image.pixels.copy())
        upside_down = dataclasses.replace(image, pixels=image.pixels[::-1])
        for each in (elsewhere, upside_down):
            wanted, _ = detector.detect(ImageView.from_array(each.pixels.copy()), SETTINGS)
            assert same(detector.detect(each, SETTINGS)[0], wanted)
    assert gpu.cuda.state.fetched == before
    camera.memory.release()


def test_a_block_that_was_given_up_is_not_locked_and_one_that_is_refused_is_told(
    opened: Callable[..., Any], gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector, gone, refused = opened(memory='locked'), Camera(), Camera()
    gone.memory.release()
    monkeypatch.setattr(gpu.library, 'refuse', 2)
    for seed in range(5):
        for camera in (gone, refused):
            image = camera.image(seed)
            wanted, _ = detector.detect(ImageView.from_array(image.pixels.copy()), SETTINGS)
            assert same(detector.detect(image, SETTINGS)[0], wanted)
    assert not gpu.cuda.state.locked
    assert '14400 bytes could not be page-locked' in detector.status()['page-locking']
    monkeypatch.setattr(gpu.library, 'refuse', 0)
    refused.memory.release()


def test_unlocking_on_a_lost_device_is_harmless(
    opened: Callable[..., Any], gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector, camera = opened(memory='locked'), Camera()
    for seed in range(3):
        detector.detect(camera.image(seed), SETTINGS)
    assert gpu.cuda.state.locked

    def push(context: Any) -> None:
        raise gpu.cuda.Error('an illegal memory access was encountered')

    with monkeypatch.context() as patch:
        patch.setattr(emulated_cuda._Context, 'push', push)
        camera.memory.release()
    gpu.cuda.state.locked.clear()


# ---- crops for a second look come from the frame that is there ----------------------------------

MOST_CROPS = 8
CROP_PROFILES = (ShapeRange((1, 3, 32, 32), (4, 3, 64, 64), (MOST_CROPS, 3, 64, 64)),)
CROPS = [
    Crop(0, 0, 64, 64), Crop(128, 64, 192, 128), Crop(128, 0, 192, 64), Crop(0, 64, 64, 128),
    Crop(50, 34, 114, 98), Crop(2, 62, 66, 126), Crop(52, 36, 116, 100), Crop(126, 2, 190, 66),
]
"""Each corner of a frame of 192x128, near corners, and within."""


def received(encoding: str) -> ImageView:
    """View a frame in memory that stays, whose rows have gaps."""
    data, step = encode_image(blobs(7, 192, 128)[..., ::-1], encoding, 8)
    octets = np.frombuffer(data, np.uint8).copy()
    return ImageView.from_buffer(
        octets, width=192, height=128, encoding=encoding, step=step,
        memory=StableMemory(octets.ctypes.data, octets.nbytes),
    )


def count_copied(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list to which the bytes of each copy by the host are added."""
    upload, copied = gpu.modules['gpu.upload'], []

    def copy_rows(source: Any, target: Any, was: Any = upload.copy_rows) -> None:
        copied.append(target.rows.nbytes)
        was(source, target)

    monkeypatch.setattr(upload, 'copy_rows', copy_rows)
    return copied


@pytest.mark.parametrize('memory', ['staged', 'locked', 'mapped', 'direct'])
@pytest.mark.parametrize('encoding', sorted({e.name for e in ENCODINGS.values()}))
def test_crops_are_copied_by_the_host_only_where_all_images_are(
    opened: Callable[..., Any], gpu: Gpu, monkeypatch: pytest.MonkeyPatch, encoding: str,
    memory: str,
) -> None:
    """With `locked` the device fetches them from the frame; planes that lie apart it cannot."""
    first, second = opened(memory=memory), opened(memory=memory, profiles=CROP_PROFILES)
    plain, frame = opened(profiles=CROP_PROFILES), received(encoding)
    for _ in range(3):  # from the third on the block is page-locked
        first.detect(frame, SETTINGS)
    in_planes = frame.encoding.layout is PixelLayout.YUV420_SEMI_PLANAR
    copied, found = count_copied(gpu, monkeypatch), 0
    for count in (1, 3, MOST_CROPS):
        views = [cut(frame, crop) for crop in CROPS[-count:]]
        assert all(np.shares_memory(each.pixels, frame.pixels) != in_planes for each in views)
        apart = [dataclasses.replace(each, pixels=each.pixels.copy()) for each in views]
        wanted, _ = plain.detect_batch(apart, SETTINGS)
        copied.clear()
        seen, _ = second.detect_batch(views, SETTINGS)
        assert all(map(same, seen, wanted))
        found += sum(map(len, seen))
        is_copied = memory in ('staged', 'mapped') or (memory == 'locked' and in_planes)
        assert sum(copied) == is_copied * sum(each.pixels.nbytes for each in views)
    assert found
    frame.memory.release()


def test_a_crop_that_is_scaled_down_far_is_fetched_if_its_rows_lie_in_a_pattern(
    opened: Callable[..., Any], gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 192 rows to 64 every third is wanted, of 256 two of four; 239 have no pattern."""
    detector = opened(memory='locked', profiles=CROP_PROFILES)
    plain, camera = opened(profiles=CROP_PROFILES), Camera(300, 280)
    frame, copied = camera.image(5), count_copied(gpu, monkeypatch)
    for side, rows in ((192, 0), (256, 0), (239, 128)):
        crop = cut(frame, Crop(20, 10, 20 + side, 10 + side))
        for _ in range(3):
            detector.detect(crop, SETTINGS)
        wanted, _ = plain.detect(ImageView.from_array(crop.pixels.copy()), SETTINGS)
        copied.clear()
        found, _ = detector.detect(crop, SETTINGS)
        assert len(found) and same(found, wanted)
        assert sum(copied) == rows * side * 3
    camera.memory.release()


def test_the_crops_of_a_second_look_are_fetched_from_the_frame(
    opened: Callable[..., Any], gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = LookOptions(
        mode='on', first_size=SIZE, crop_px=64, crop_size=SIZE, object_px=52, full_frames=2
    )

    def twice(memory: str) -> Any:
        return look_twice(
            opened(memory=memory), opened(memory=memory, profiles=CROP_PROFILES), look
        )

    camera, fetching, copying = Camera(80, 60, 4), twice('locked'), twice('staged')
    copied, rounds = count_copied(gpu, monkeypatch), 0
    for seed in range(9):
        image = camera.image(seed).of_stream('/camera')
        wanted, _ = copying.detect(image, SETTINGS)
        copied.clear()
        found, _ = fetching.detect(image, SETTINGS)
        assert same(found, wanted)
        rounds += not copied
    status = fetching.status()
    assert rounds == 7 and status['images page-locked'] == '7, and 2 copied', status
    fetched, _, rest = status['second look: images page-locked'].partition(', and ')
    assert int(fetched) >= 3 and rest == '0 copied', status
    camera.memory.release()


# ---- plans without a manifest are run and recognised --------------------------------------------

FIXED = (ShapeRange((1, 3, 64, 96), (1, 3, 64, 96), (1, 3, 64, 96)),)
ON_A_GPU = [form for form in export_forms.FORMS if '(n, 7)' not in form.shape]


@pytest.mark.parametrize(
    'form', [form for form in ON_A_GPU if form.verdict == 'taken'], ids=lambda form: form.name
)
def test_each_form_finds_what_the_cpu_finds(
    opened: Callable[..., Any], tmp_path: Path, form: export_forms.Form
) -> None:
    path = form.make(tmp_path)
    known = {'class_names': ['a', 'b', 'c']}
    if 'raw heads' in form.name:
        known['anchors'] = onnx_models.CONV_ANCHORS
    detector = opened(path, profiles=FIXED, **known)
    cpu = OnnxDetector(path, keep_grid=True, **known)
    assert detector.spec == cpu.spec
    assert detector.spec.evidence == cpu.spec.evidence
    for seed in range(3):
        image = view(seed, 96, 64)
        found, wanted = (each.detect(image, SETTINGS)[0] for each in (detector, cpu))
        assert len(found) > 3
        assert close_to(found, wanted)


@pytest.mark.parametrize(
    'form', [form for form in ON_A_GPU if form.verdict == 'refused'], ids=lambda form: form.name
)
def test_other_forms_are_refused_as_on_the_cpu(
    opened: Callable[..., Any], tmp_path: Path, form: export_forms.Form
) -> None:
    path = form.make(tmp_path)
    with pytest.raises(ModelLayoutError) as on_cpu:
        OnnxDetector(path)
    # what a plan does not keep is the text that an ONNX model carries
    if 'names' in form.name or 'metadata' in form.name:
        return
    with pytest.raises(ModelLayoutError) as on_gpu:
        opened(path, profiles=FIXED)
    told = str(on_cpu.value).removeprefix(f'{path}: ').partition(' (')[0]
    assert str(on_gpu.value).startswith(told)


def manifest_of(spec: ModelSpec) -> PlanManifest:
    return PlanManifest(
        machine=BuildTarget('TensorRT', '8.6.0', '', '', ''), precision='fp32', profiles=FIXED,
        onnx='m.onnx', onnx_sha256='', plan_sha256='', options={}, spec=spec, created='',
        build_seconds=0.0,
    )


def test_a_manifest_without_evidence_is_not_believed(
    opened: Callable[..., Any], tmp_path: Path
) -> None:
    """Earlier versions told a model by its shapes, and wrote that into the manifest."""
    form = next(form for form in export_forms.FORMS if form.name == 'boxes within 0..1')
    path, good = form.make(tmp_path), OnnxDetector(tmp_path / 'plain.onnx', keep_grid=True).spec
    told = dataclasses.replace(good, outputs=('result',))
    with pytest.raises(ModelLayoutError, match='in 0..1'):
        opened(path, profiles=FIXED, manifest=manifest_of(dataclasses.replace(told, evidence=())))
    with pytest.raises(ModelLayoutError, match='tensors that the plan lacks: output'):
        opened(path, profiles=FIXED, manifest=manifest_of(good))


def test_a_manifest_with_evidence_is_believed_but_for_what_is_given(
    opened: Callable[..., Any], tmp_path: Path
) -> None:
    form = next(form for form in export_forms.FORMS if form.name == 'YOLOv7 raw heads')
    path = form.make(tmp_path)
    spec = OnnxDetector(path).spec
    detector = opened(path, profiles=FIXED, manifest=manifest_of(spec))
    assert detector.spec == spec and detector.spec.doubts == spec.doubts
    other = ANCHOR_SETS['yolov7']
    named = opened(
        path, profiles=FIXED, manifest=manifest_of(spec), class_names=['a', 'b', 'c'],
        anchors=other,
    )
    assert (named.spec.class_names, named.spec.anchors) == (('a', 'b', 'c'), other)
    with pytest.raises(ModelLayoutError, match='3 classes, but the given class names count 1'):
        opened(path, profiles=FIXED, manifest=manifest_of(spec), class_names=['a'])


def test_a_fixed_batch_takes_fewer_images(opened: Callable[..., Any], tmp_path: Path) -> None:
    model = onnx_models.brightness_grid(tmp_path / 'b4.onnx', shape=(4, 3, 64, 64), num_classes=3)
    fixed = ShapeRange((4, 3, 64, 64), (4, 3, 64, 64), (4, 3, 64, 64))
    detector = opened(model, profiles=(fixed,), rectangular=False)
    free = opened(rectangular=False)
    assert detector.max_batch == 4
    for count in (1, 3, 4):
        images = [view(seed) for seed in range(count)]
        found, _ = detector.detect_batch(images, SETTINGS)
        assert len(found) == count
        for image, each in zip(images, found, strict=True):
            assert len(each) and same(each, free.detect(image, SETTINGS)[0])


# ---- errors ---------------------------------------------------------------------------------


def test_failed_frame_leaves_the_detector_usable(opened: Callable[..., Any], gpu: Gpu) -> None:
    api = emulated_cuda.EmulatedApi(gpu.cuda.state, PROFILES)
    detector = opened(api=api, cuda_graph=False)
    wanted, _ = detector.detect(view(1), SETTINGS)
    api.fail_next = 1
    with pytest.raises(InferenceError, match='emulated failure'):
        detector.detect(view(1), SETTINGS)
    assert same(detector.detect(view(1), SETTINGS)[0], wanted)
    assert detector.staging_pool.slots == 1


def test_failed_wait_gives_the_staging_memory_back(
    opened: Callable[..., Any], gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = opened()
    wanted, _ = detector.detect(view(1), SETTINGS)

    def fail() -> None:
        monkeypatch.undo()
        raise gpu.cuda.LogicError('emulated failure')

    monkeypatch.setattr(detector._stream, 'synchronize', fail)
    with pytest.raises(InferenceError, match='emulated failure'):
        detector.detect(view(1), SETTINGS)
    assert same(detector.detect(view(1), SETTINGS)[0], wanted)
    assert detector.staging_pool.slots == 1


def test_nan_is_told_and_not_carried_over(
    opened: Callable[..., Any], gpu: Gpu, tmp_path: Path
) -> None:
    model = onnx_models.brightness_grid(tmp_path / 'nan.onnx', objectness=float('nan'))
    detector = opened(model)
    said = set()
    for _ in range(3):
        with pytest.raises(InferenceError, match='objectness value.s. that are NaN') as caught:
            detector.detect(view(1), SETTINGS)
        said.add(str(caught.value))
    assert len(said) == 1


def test_lost_context_is_told_and_closing_is_harmless(
    opened: Callable[..., Any], gpu: Gpu
) -> None:
    detector = opened()
    detector.detect(view(1), SETTINGS)
    gpu.cuda.state.broken = True
    try:
        for _ in range(2):
            with pytest.raises(DeviceLostError, match='restart'):
                detector.detect(view(1), SETTINGS)
        assert isinstance(detector.status(), dict)
        detector.close()
        detector.close()
        with pytest.raises(DeviceLostError, match='cannot be used again in this process'):
            gpu.open_detector()
    finally:
        gpu.cuda.state.broken = False


def test_size_outside_the_plan_is_refused(opened: Callable[..., Any]) -> None:
    with pytest.raises(SettingError, match='takes at most 96'):
        opened(network_size=128)
    with pytest.raises(SettingError, match='multiple of the stride'):
        opened(network_size=50)
    wide = ShapeRange((1, 3, 32, 64), (1, 3, 64, 64), (1, 3, 96, 96))
    with pytest.raises(SettingError, match=r'at least 64 .*network_size to 64.*--min 1x3x32'):
        opened(profiles=(wide,), network_size=32)
    opened(profiles=(wide, PROFILES[0]), network_size=32).close()


def test_rectangles_below_the_profile_are_padded_up(
    opened: Callable[..., Any], gpu: Gpu
) -> None:
    square = ShapeRange((1, 3, 64, 64), (1, 3, 64, 64), (1, 3, 64, 64))
    detector = opened(profiles=(square,))
    assert detector.letterbox((400, 50)).network_wh == (64, 64)
    reference = OnnxDetector(gpu.grid, network_size=SIZE, rectangular=False)
    image = view(6, 400, 50)
    assert close_to(detector.detect(image, SETTINGS)[0], reference.detect(image, SETTINGS)[0])


def test_plans_that_are_none_or_do_not_fit_are_refused(
    opened: Callable[..., Any], tmp_path: Path
) -> None:
    junk = tmp_path / 'junk.plan'
    junk.write_bytes(b'not a plan')
    with pytest.raises(PlanError, match='cannot load the plan'):
        opened(junk)
    profile = ShapeRange((1, 3, 64, 64), (1, 3, 64, 64), (1, 3, 64, 64))
    with pytest.raises(ModelLayoutError):
        opened(onnx_models.classifier(tmp_path / 'classifier.onnx'), profiles=(profile,))


def test_closed_detector_says_so(gpu: Gpu) -> None:
    detector = gpu.open_detector()
    detector.close()
    with pytest.raises(InferenceError, match='closed'):
        detector.detect(view(1), SETTINGS)


def test_stages_are_measured_one_by_one(opened: Callable[..., Any]) -> None:
    detector = opened()
    stages = detector.measure_stages([view(1)], SETTINGS, repeats=3)
    assert set(stages) == {
        'letterbox', 'network', 'decoding', 'outside', 'decoding_graph', 'network_graph',
        'frame_graph',
    }
    assert len(detector.detect(view(1), SETTINGS)[0])
