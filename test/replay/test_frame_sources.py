from __future__ import annotations

from pathlib import Path
import sys

import cv2
import numpy as np
import pytest

from yolov7_trt_ros.core.units import NS_PER_S
from yolov7_trt_ros.errors import ImageError, InputError, MissingDependencyError, SettingError
from yolov7_trt_ros.replay.file_kinds import kind_of
from yolov7_trt_ros.replay.frames import BadFrame, Frame
from yolov7_trt_ros.replay.sources import open_frames


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    return path


def save_video(path: Path, frames: int, fps: float = 10.0) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), fps, (64, 48))
    for number in range(frames):
        writer.write(np.full((48, 64, 3), number * 8, np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize('suffix', ['.jpg', '.JPEG', '.png', '.bmp', '.webp'])
def test_a_picture_of_every_kind(tmp_path: Path, picture: np.ndarray, suffix: str) -> None:
    path = save(tmp_path / f'street{suffix.lower()}', picture)
    path = path.rename(path.with_suffix(suffix))
    frame, = open_frames(path)
    assert isinstance(frame, Frame)
    assert frame.image.size_wh == (320, 256)
    assert np.abs(frame.image.pixels.astype(int) - picture).mean() < 6
    assert (frame.source, frame.index, frame.path) == (path.name, 0, path)


def test_a_wrong_suffix_does_not_matter(tmp_path: Path, picture: np.ndarray) -> None:
    path = save(tmp_path / 'a.png', picture).rename(tmp_path / 'a.jpg')
    assert isinstance(next(iter(open_frames(path))), Frame)


def test_photographs_are_turned_upright(tmp_path: Path, picture: np.ndarray) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # turn right by 90 degrees
    Image.fromarray(picture[..., ::-1]).save(tmp_path / 'turned.jpg', exif=exif)
    frame, = open_frames(tmp_path / 'turned.jpg')
    assert isinstance(frame, Frame)
    assert frame.image.size_wh == (256, 320)


def test_a_folder_comes_in_natural_order(tmp_path: Path, picture: np.ndarray) -> None:
    for name in ('10.jpg', '2.png', '1.jpg', 'b1.jpg', '.hidden.jpg'):
        save(tmp_path / name, picture)
    (tmp_path / 'notes.txt').write_text('no picture')
    source = open_frames(tmp_path)
    assert source.count == 4
    assert [frame.source for frame in source] == ['1.jpg', '2.png', '10.jpg', 'b1.jpg']


@pytest.mark.parametrize(
    'data', [b'', b'GIF89a', b'\xff\xd8\xff\xe0', b'\x89PNG\r\n\x1a\n', b'BM']
)
def test_a_damaged_picture_takes_the_place_of_a_frame(
    tmp_path: Path, picture: np.ndarray, data: bytes
) -> None:
    save(tmp_path / '1.jpg', picture)
    (tmp_path / '2.jpg').write_bytes(data)
    save(tmp_path / '3.jpg', picture)
    first, damaged, last = open_frames(tmp_path)
    assert isinstance(first, Frame) and isinstance(last, Frame)
    assert isinstance(damaged, BadFrame)
    assert isinstance(damaged.error, ImageError)
    assert str(tmp_path / '2.jpg') in str(damaged.error)


def test_a_cut_off_picture(tmp_path: Path, picture: np.ndarray) -> None:
    path = save(tmp_path / 'cut.png', picture)
    path.write_bytes(path.read_bytes()[:2000])
    frame, = open_frames(path)
    assert isinstance(frame, BadFrame)


def test_a_video_has_stamps_and_can_be_read_twice(tmp_path: Path) -> None:
    source = open_frames(save_video(tmp_path / 'clip.mp4', 12))
    assert (source.kind, source.count, source.fps) == ('video', 12, 10.0)
    for _ in range(2):
        frames = [frame for frame in source if isinstance(frame, Frame)]
        assert [frame.index for frame in frames] == list(range(12))
        assert [frame.stamp_ns for frame in frames] == [n * NS_PER_S // 10 for n in range(12)]
        assert abs(int(frames[8].image.pixels.mean()) - 64) < 6


def test_every_third_frame_of_a_video(tmp_path: Path) -> None:
    source = open_frames(save_video(tmp_path / 'clip.mp4', 10), every=3)
    frames = [frame for frame in source if isinstance(frame, Frame)]
    assert [frame.stamp_ns for frame in frames] == [0, 300_000_000, 600_000_000, 900_000_000]
    assert source.count == 4
    assert source.fps == pytest.approx(10 / 3)


def test_frames_of_a_video_do_not_share_memory(tmp_path: Path) -> None:
    frames = [f for f in open_frames(save_video(tmp_path / 'c.mp4', 5)) if isinstance(f, Frame)]
    assert not np.shares_memory(frames[0].image.pixels, frames[4].image.pixels)


def test_a_video_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / 'broken.mp4'
    path.write_bytes(b'\0' * 4000)
    with pytest.raises(ImageError, match='broken.mp4 cannot be opened as a video'):
        open_frames(path)


def test_a_cut_off_video_says_so_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / 'cut.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 10, (64, 48))
    rng = np.random.default_rng(1)
    for _ in range(30):
        writer.write(rng.integers(0, 255, (48, 64, 3), np.uint8))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    items = list(open_frames(path))
    assert isinstance(items[0], Frame)
    assert isinstance(items[-1], BadFrame)
    assert 'cut off or damaged' in str(items[-1].error)


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='no such file or folder'):
        open_frames(tmp_path / 'nothing')
    with pytest.raises(ImageError, match='contains no pictures'):
        open_frames(tmp_path)
    (tmp_path / 'a.txt').write_text('text')
    with pytest.raises(InputError, match='of an unknown kind'):
        open_frames(tmp_path / 'a.txt')
    with pytest.raises(SettingError, match='every'):
        open_frames(tmp_path, every=0)


def test_kinds(tmp_path: Path, picture: np.ndarray) -> None:
    assert kind_of(save(tmp_path / 'pictures/1.jpg', picture).parent) == 'pictures'
    bag = tmp_path / 'bag'
    bag.mkdir()
    (bag / 'bag_0.mcap').touch()
    assert kind_of(bag) == 'bag'
    assert kind_of(bag / 'bag_0.mcap') == 'bag'


def test_a_bag_without_rosbags_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith('yolov7_trt_ros.replay.')]:
        if name not in ('yolov7_trt_ros.replay.frames', 'yolov7_trt_ros.replay.sources'):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'rosbags.rosbag2', None)
    (tmp_path / 'a.mcap').touch()
    with pytest.raises(MissingDependencyError, match='pip install "rosbags>='):
        open_frames(tmp_path / 'a.mcap')


def test_real_videos(shared_data: Path) -> None:
    source = open_frames(shared_data / 'vision/videos/nomank_pedestrians.mp4', every=50)
    frames = [frame for frame in source if isinstance(frame, Frame)]
    assert len(frames) == source.count == 7
    assert frames[1].stamp_ns == 2 * NS_PER_S
    assert frames[1].image.size_wh == (1280, 720)
