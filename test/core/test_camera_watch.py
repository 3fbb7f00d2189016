"""Cameras that are frozen, dark, over-exposed, or whose stamps cannot be trusted."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from yolov7_trt_ros.core.cameras.state import CameraState, WatchLimits
from yolov7_trt_ros.core.cameras.watch import CameraWatch, LEAST_GAP_NS, sample_pixels
from yolov7_trt_ros.core.image import ENCODINGS, ImageView, PixelLayout
from yolov7_trt_ros.core.units import NS_PER_S
from yolov7_trt_ros.errors import SettingError

LIMITS = WatchLimits(frozen_frames=6)
OFF = WatchLimits(0, 0.0, 0, 0)
EPOCH_NS = 1_700_000_000 * NS_PER_S
FRAME_NS = NS_PER_S // 30
TIMES_NS = itertools.count(step=LEAST_GAP_NS)


def noise(seed: int, size_wh: tuple[int, int] = (64, 48)) -> np.ndarray:
    """Return a BGR picture that no other seed gives."""
    return np.random.default_rng(seed).integers(30, 220, (*size_wh[::-1], 3), np.uint8)


def look(watch: CameraWatch, *pictures: np.ndarray, limits: WatchLimits = LIMITS) -> CameraState:
    """Show pictures to a watch and return its verdict."""
    for pixels in pictures:
        watch.note_picture(ImageView.from_array(pixels), limits, next(TIMES_NS))
    return watch.judge(limits, 0).state


def flat(value: int) -> list[np.ndarray]:
    """Return pictures of one brightness that differ from one another."""
    pictures = [np.full((48, 64, 3), value, np.uint8) for _ in range(4)]
    for index, pixels in enumerate(pictures):
        pixels[:, :, 0] -= index if value else 0
        pixels[:, :, 0] += index if not value else 0
    return pictures


# ---- pictures


def test_a_picture_that_comes_again_and_again_is_frozen_and_a_new_one_ends_that():
    watch = CameraWatch()
    assert look(watch, *[noise(1)] * 6) is CameraState.OK
    assert look(watch, noise(1)) is CameraState.FROZEN
    assert watch.judge(LIMITS, 0).text == 'frozen: the same picture came 7 times'
    assert look(watch, *[noise(1)] * 50) is CameraState.FROZEN
    assert look(watch, noise(2)) is CameraState.OK


def test_pictures_that_differ_between_the_looked_at_pixels_are_not_frozen():
    pictures = []
    for index in range(40):
        pixels = noise(1, (640, 480))
        pixels[index, 0] += 1  # sampled rows begin at 20, columns at 20
        pictures.append(pixels)
    samples = {sample_pixels(ImageView.from_array(each), 1) for each in pictures[:10]}
    assert len(samples) == 1, 'the test is to change what is not sampled'
    assert look(CameraWatch(), *pictures) is CameraState.OK


def test_a_padded_picture_is_compared_by_its_pixels():
    watch = CameraWatch()
    for index in range(9):
        rows = np.full((48, 64 * 3 + 8), index, np.uint8)  # rubbish between the rows
        rows[:, :192] = noise(1).reshape(48, 192)
        image = ImageView.from_buffer(
            rows.tobytes(), width=64, height=48, encoding='bgr8', step=200
        )
        watch.note_picture(image, LIMITS, next(TIMES_NS))
    assert watch.judge(LIMITS, 0).state is CameraState.FROZEN


@pytest.mark.parametrize(
    ('value', 'state'),
    [(0, CameraState.DARK), (12, CameraState.DARK), (255, CameraState.BRIGHT),
     (20, CameraState.OK), (240, CameraState.OK)],
)
def test_black_and_white_pictures_are_told(value, state):
    watch = CameraWatch()
    assert look(watch, *flat(value)) is state
    text = watch.judge(LIMITS, 0).text  # no new picture since: what held, holds
    assert text == {
        CameraState.DARK: 'dark: 100% of the picture is black',
        CameraState.BRIGHT: 'bright: 100% of the picture is white', CameraState.OK: '',
    }[state]


def test_one_flash_among_pictures_is_no_state():
    assert look(CameraWatch(), noise(1), flat(255)[0], noise(2)) is CameraState.OK


def test_a_picture_of_one_colour_is_neither_black_nor_white():
    for channel in range(3):
        pixels = np.zeros((48, 64, 3), np.uint8)
        pixels[:, :, channel] = 255
        assert look(CameraWatch(), pixels) is CameraState.OK
        assert look(CameraWatch(), 255 - pixels) is CameraState.OK


def test_a_lamp_in_the_dark_counts_by_its_share():
    pixels = flat(0)[0]
    pixels[:5, :] = 200  # a tenth
    assert look(CameraWatch(), pixels) is CameraState.OK
    assert look(CameraWatch(), pixels, limits=WatchLimits(blank_share=0.8)) is CameraState.DARK


def test_the_darkness_of_any_encoding_is_seen():
    for name, encoding in ENCODINGS.items():
        rows, sample = encoding.rows(48), np.uint16 if encoding.sample_bytes == 2 else np.uint8
        black = np.zeros((rows, 64, encoding.channels), sample)
        if encoding.layout is PixelLayout.YUV422:
            black[:, :, 0 if encoding.order == 'uyvy' else 1] = 128  # no colour
        if encoding.layout is PixelLayout.YUV420_SEMI_PLANAR:
            black[48:] = 128
        if encoding.channels == 4:
            black[:, :, 3] = 255  # opaque
        image = ImageView.from_buffer(black, width=64, height=48, encoding=name)
        watch = CameraWatch()
        watch.note_picture(image, LIMITS, 0)
        assert watch.judge(LIMITS, 0).state is CameraState.DARK, name


@pytest.mark.parametrize('big_endian', [False, True])
def test_sixteen_bits_are_judged_by_the_upper_eight(big_endian):
    pixels = np.full((48, 64), 0xFFFF, np.uint16)
    pixels[:, ::2] = 0xFB00
    data = pixels.astype('>u2' if big_endian else '<u2').tobytes()
    image = ImageView.from_buffer(
        data, width=64, height=48, encoding='mono16', big_endian=big_endian
    )
    watch = CameraWatch()
    watch.note_picture(image, LIMITS, 0)
    assert watch.judge(LIMITS, 0).state is CameraState.BRIGHT


@given(
    st.integers(1, 200), st.integers(1, 200), st.sampled_from(['bgr8', 'mono8', 'bayer_rggb8'])
)
def test_a_picture_of_any_size_is_sampled_and_never_all_of_a_large_one(width, height, encoding):
    channels = ENCODINGS[encoding].channels
    image = ImageView.from_array(np.zeros((height, width, channels), np.uint8), encoding)
    assert 1 <= len(sample_pixels(image, channels - 1)) <= 24 * 32


def test_a_watch_that_is_off_looks_at_nothing():
    watch = CameraWatch()
    assert look(watch, *[noise(1)] * 100, *flat(0), limits=OFF) is CameraState.OK
    assert 'black' not in watch.judge(OFF, 0).facts


def test_a_fast_camera_is_looked_at_ten_times_a_second():
    watch = CameraWatch()
    for index in range(60):
        pixels = flat(0)[0] if index % 3 else noise(index)
        watch.note_picture(ImageView.from_array(pixels), LIMITS, index * FRAME_NS)
    assert watch.judge(LIMITS, 0).state is CameraState.OK  # only every third was looked at
    assert watch._pictures._repeats == 0


def test_a_single_repeat_is_no_limit():
    with pytest.raises(SettingError, match='at least 2, got 1'):
        WatchLimits(frozen_frames=1)


# ---- stamps


def run(
    watch: CameraWatch, seconds: float, offset_ns: int = 0, drift: float = 0.0,
    start_ns: int = 0, limits: WatchLimits = LIMITS,
) -> list[str]:
    """Let images of 30 Hz arrive, and return the texts of one verdict a second."""
    texts = []
    for index in range(int(seconds * 30)):
        now_ns = start_ns + index * FRAME_NS
        clock_ns = EPOCH_NS + now_ns
        stamp_ns = clock_ns - offset_ns - int(drift * (now_ns - start_ns))
        watch.note_stamp(stamp_ns, clock_ns, now_ns)
        if index % 30 == 29:
            texts.append(watch.judge(limits, now_ns).text)
    return texts


def test_stamps_of_now_are_fine():
    watch = CameraWatch()
    assert set(run(watch, 20, offset_ns=20_000_000)) == {''}
    assert watch.judge(LIMITS, 0).facts['behind the clock (ms)'] == '20.0'


@pytest.mark.parametrize(
    ('offset_s', 'text'),
    [(1.5, 'late: stamps are 1.50 s behind the clock'),
     (-2, 'late: stamps are 2.00 s ahead of the clock'), (0.9, ''), (-0.9, '')],
)
def test_stamps_far_from_the_clock_are_late(offset_s, text):
    assert set(run(CameraWatch(), 3, offset_ns=int(offset_s * NS_PER_S))) == {text}


def test_a_drift_is_told_before_it_is_large_and_ends_where_the_camera_comes_anew():
    watch = CameraWatch()
    texts = run(watch, 60, drift=0.004)  # 4 ms a second: 0.1 s after 25
    assert set(texts[:25]) == {''}
    assert 'fallen behind by 0.1' in texts[30] and 'within' in texts[30]
    watch.note_silence()
    assert set(run(watch, 5, offset_ns=300_000_000, start_ns=60 * NS_PER_S)) == {''}


def test_stamps_may_run_ahead():
    assert 'run ahead by' in run(CameraWatch(), 60, offset_ns=500_000_000, drift=-0.004)[-1]


def test_one_late_image_among_others_is_no_drift():
    watch = CameraWatch()
    run(watch, 10)
    watch.note_stamp(EPOCH_NS, EPOCH_NS + 11 * NS_PER_S, 11 * NS_PER_S)  # long in a queue
    texts = run(watch, 10, start_ns=12 * NS_PER_S)
    assert set(texts[6:]) == {''}


def test_a_stamp_that_stands_still_is_frozen():
    watch = CameraWatch()
    for index in range(7):
        watch.note_stamp(EPOCH_NS, EPOCH_NS + index * FRAME_NS, index * FRAME_NS)
    assert watch.judge(LIMITS, 0).text == 'frozen: the same stamp came 7 times'
    assert watch.judge(OFF, 0).state is CameraState.OK


def test_stamps_that_go_back_are_told_for_a_while():
    watch = CameraWatch()
    run(watch, 2)
    watch.note_stamp(EPOCH_NS, EPOCH_NS + 2 * NS_PER_S, 2 * NS_PER_S)
    assert watch.judge(LIMITS, 3 * NS_PER_S).text == 'late: stamps went back, 1 times so far'
    run(watch, 5, start_ns=3 * NS_PER_S)
    verdict = watch.judge(LIMITS, 8 * NS_PER_S)
    assert verdict.state is CameraState.OK
    assert verdict.facts['stamps that went back'] == '1'


def test_time_that_jumps_back_is_not_the_cameras_fault():
    watch = CameraWatch()
    run(watch, 10, start_ns=100 * NS_PER_S)
    watch.note_stamp(EPOCH_NS, EPOCH_NS, 110 * NS_PER_S)  # the bag begins anew
    verdict = watch.judge(LIMITS, 110 * NS_PER_S)
    assert verdict.state is CameraState.OK
    assert verdict.facts['stamps that went back'] == '0'


def test_stamps_of_zero_are_said_to_be_unknown_and_a_clock_of_zero_tells_nothing():
    watch = CameraWatch()
    for _ in range(100):
        watch.note_stamp(0, EPOCH_NS, 0)
    verdict = watch.judge(LIMITS, 0)
    assert verdict.state is CameraState.OK
    assert verdict.facts['behind the clock (ms)'] == 'unknown: stamps are 0'
    watch.note_stamp(EPOCH_NS, 0, 0)  # a simulation whose clock has not begun
    assert watch.judge(LIMITS, 0).state is CameraState.OK


@given(st.lists(st.tuples(st.integers(-2**62, 2**62), st.integers(-2**62, 2**62))))
def test_no_stamp_and_no_clock_is_an_error(pairs):
    watch = CameraWatch()
    for stamp_ns, clock_ns in pairs:
        watch.note_stamp(stamp_ns, clock_ns, 0)
        verdict = watch.judge(LIMITS, 0)
        assert bool(verdict.text) is (verdict.state is not CameraState.OK)
