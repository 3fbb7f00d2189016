"""A video is called cut off if its container says so, not because frames are far between."""

from __future__ import annotations

from pathlib import Path
import struct

import cv2
import numpy as np
import pytest

from yolov7_trt_ros.cli.main import main
from yolov7_trt_ros.replay.frames import BadFrame, Frame
from yolov7_trt_ros.replay.video_length import edited_duration_s, is_cut_off
from yolov7_trt_ros.replay.videos import VideoSource

FRAME_MS = 40


def picture(number: int) -> np.ndarray:
    return np.full((64, 96, 3), 5 * number % 256, np.uint8)


def written(path: Path, codec: str, count: int) -> Path:
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter.fourcc(*codec), 1000 / FRAME_MS, (96, 64))
    for number in range(count):
        writer.write(picture(number))
    writer.release()
    return path


def element(name: int, content: bytes) -> bytes:
    """Return an element of Matroska, with its size in eight bytes."""
    start = name.to_bytes((name.bit_length() + 7) // 8, 'big')
    return start + b'\1' + len(content).to_bytes(7, 'big') + content


def number_of(value: int) -> bytes:
    return value.to_bytes(4, 'big')


def matroska(path: Path, times_ms: list[int], whole_ms: int) -> Path:
    """Write a Matroska file of JPEGs at these times, of a nominal 25 frames a second."""
    info = element(0x1549A966, element(0x2AD7B1, number_of(1_000_000))
                   + element(0x4489, struct.pack('>d', whole_ms)))
    video = element(0xE0, element(0xB0, number_of(96)) + element(0xBA, number_of(64)))
    track = element(0xD7, b'\1') + element(0x73C5, b'\1') + element(0x83, b'\1')
    track += element(0x86, b'V_MJPEG') + element(0x23E383, number_of(FRAME_MS * 1_000_000))
    tracks = element(0x1654AE6B, element(0xAE, track + video))
    blocks = b''
    for number, time_ms in enumerate(times_ms):
        data = cv2.imencode('.jpg', picture(number))[1].tobytes()
        blocks += element(0xA3, b'\x81' + struct.pack('>hB', time_ms, 0x80) + data)
    cluster = element(0x1F43B675, element(0xE7, number_of(0)) + blocks)
    head = element(0x1A45DFA3, element(0x4282, b'matroska') + element(0x4287, b'\4')
                   + element(0x4285, b'\2'))
    path.write_bytes(head + element(0x18538067, info + tracks + cluster))
    return path


def read(path: Path) -> tuple[int, list[str]]:
    """Return how many frames there are, and what is wrong."""
    items = list(VideoSource(path))
    bad = [str(item.error) for item in items if isinstance(item, BadFrame)]
    return sum(isinstance(item, Frame) for item in items), bad


def test_frames_far_between_are_no_damage(tmp_path: Path) -> None:
    times_ms = [*range(0, 400, FRAME_MS), *range(400, 4000, 300)]
    path = matroska(tmp_path / 'varying.mkv', times_ms, 4000)
    source = VideoSource(path)
    assert source.count is not None and source.count > 2 * len(times_ms)
    assert is_cut_off(path) is False
    assert read(path) == (len(times_ms), [])
    whole = path.read_bytes()
    path.write_bytes(whole[:len(whole) * 19 // 20])
    assert is_cut_off(path) is True
    count, bad = read(path)
    assert 0 < count < len(times_ms) and 'is cut off or damaged' in bad[0]


def test_the_drawn_video_of_a_varying_rate_plays_as_long(tmp_path: Path) -> None:
    path = matroska(tmp_path / 'varying.mkv', [0, 40, 80, *range(1000, 4000, 500)], 4000)
    assert main(['detect', str(path), '-o', str(tmp_path / 'out'), '--size', '64']) == 0
    drawn = cv2.VideoCapture(str(tmp_path / 'out/varying.mp4'))
    whole_s = drawn.get(cv2.CAP_PROP_FRAME_COUNT) / drawn.get(cv2.CAP_PROP_FPS)
    assert whole_s == pytest.approx(3.5, abs=0.1)  # up to the last frame


def test_a_recording_that_starts_late_on_its_clock_is_whole(tmp_path: Path) -> None:
    if not hasattr(cv2, 'CAP_PROP_PTS'):
        pytest.skip('this OpenCV does not tell the time of a frame on the clock of the file')
    times_ms = list(range(8000, 12_000, FRAME_MS))
    assert read(matroska(tmp_path / 'late.mkv', times_ms, 12_000)) == (len(times_ms), [])


@pytest.mark.parametrize('codec', ['MJPG', 'XVID'])
def test_a_little_that_is_cut_off_is_told(tmp_path: Path, codec: str) -> None:
    path = written(tmp_path / 'clip.avi', codec, 100)
    assert is_cut_off(path) is False and read(path) == (100, [])
    data = path.read_bytes()
    path.write_bytes(data[:data.rindex(b'idx1') * 95 // 100])  # the frames end at the index
    assert is_cut_off(path) is True
    count, bad = read(path)
    assert 85 < count < 99 and f'readable up to frame {count} of 100' in bad[0]


def test_frames_that_an_edit_list_hides_are_no_damage(tmp_path: Path) -> None:
    path = written(tmp_path / 'clip.mp4', 'mp4v', 100)
    data = bytearray(path.read_bytes())
    scale = struct.unpack_from('>I', data, data.index(b'mvhd') + 16)[0]
    media_scale = struct.unpack_from('>I', data, data.index(b'mdhd') + 16)[0]
    assert edited_duration_s(path) == pytest.approx(4.0, abs=0.05) and read(path) == (100, [])
    # play the last 1.6 s of 4.0 s alone, as a phone does that trims without encoding anew
    struct.pack_into('>Ii', data, data.index(b'elst') + 12, round(1.6 * scale),
                     round(2.4 * media_scale))
    path.write_bytes(data)
    assert edited_duration_s(path) == pytest.approx(1.6, abs=0.01)
    count, bad = read(path)
    assert 35 <= count <= 45 and not bad


@pytest.mark.parametrize('data', [
    b'', b'RIFF', b'RIFF\0\0\0\0AVI ', b'\x1aE\xdf\xa3', b'\x1aE\xdf\xa3\0', b'\0\0\0\1ftyp',
    b'\0\0\0\x08ftyp' * 10, b'\0\0\0\1moov' + b'\0' * 8, b'\0\0\0\x10ftypisom',
    b'\x1aE\xdf\xa3\x80\x18\x53\x80\x67\xff', b'\0\0\0\x18moov\0\0\0\x10mvhd\1',
])
def test_damaged_heads_are_unknown_or_cut_off(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / 'clip'
    path.write_bytes(data)
    assert is_cut_off(path) in (None, True, False)
    assert edited_duration_s(path) is None


def test_damaged_frames_within_are_told(tmp_path: Path) -> None:
    path = written(tmp_path / 'a.avi', 'MJPG', 100)
    source = VideoSource(path)
    assert sum(1 for _ in source) == 100 and not source.warnings
    data = bytearray(path.read_bytes())
    middle, some = len(data) // 2, len(data) // 20
    data[middle:middle + some] = bytes(some)
    path.write_bytes(data)
    source = VideoSource(path)
    items = list(source)
    count = sum(isinstance(item, Frame) for item in items)
    if not isinstance(items[-1], Frame):  # some builds of FFmpeg end there
        assert count < 60 and 'damaged' in str(items[-1].error)
        return
    assert 90 <= count < 98
    assert source.warnings == (
        f'{path}: {count} of its 100 frames can be read; the others are damaged',
    )
