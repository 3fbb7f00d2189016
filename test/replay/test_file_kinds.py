"""What a path is, by content; folders and what is left out of them; addresses."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
import pytest

from yolov7_trt_ros.errors import ImageError, InputError
from yolov7_trt_ros.replay.file_kinds import kind_of
from yolov7_trt_ros.replay.frames import Frame
from yolov7_trt_ros.replay.pictures import PictureSource
from yolov7_trt_ros.replay.sources import check_kind, open_frames


def save(path: Path, pixels: np.ndarray, suffix: str = '.jpg') -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(suffix, pixels)[1].tobytes())
    return path


def save_video(path: Path, codec: str = 'mp4v') -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 25, (64, 48))
    for number in range(8):
        writer.write(np.full((48, 64, 3), number * 8, np.uint8))
    writer.release()
    assert path.stat().st_size
    return path


reads_gif = pytest.mark.skipif(
    not cv2.haveImageWriter('.gif'), reason='this OpenCV knows no GIF'
)


@pytest.mark.parametrize('name', [
    'a.jfif', 'a.JPE', 'a', 'photo.backup', 'a.tif', 'a.tiff',
    pytest.param('a.gif', marks=reads_gif), 'a.ppm', 'a.jp2',
    'a.dib', 'IMG_1.JPG_large',
])
def test_pictures_of_every_name(tmp_path: Path, picture: np.ndarray, name: str) -> None:
    suffix = Path(name).suffix.lower()
    is_own = suffix in ('.tif', '.tiff', '.gif', '.ppm', '.jp2', '.dib')
    path = save(tmp_path / name, picture, suffix if is_own else '.jpg')
    frame, = open_frames(path)
    assert isinstance(frame, Frame)
    assert frame.image.size_wh == (320, 256)
    assert [item.source for item in open_frames(tmp_path)] == [name]


@pytest.mark.parametrize(('name', 'codec'), [
    ('a.m4v', 'mp4v'), ('a.ts', 'mp4v'), ('a.mov', 'mp4v'), ('a.mkv', 'mp4v'), ('a.avi', 'MJPG'),
    ('a.mpg', 'MPG1'), ('a.flv', 'FLV1'), ('a.wmv', 'WMV2'),
])
def test_videos_of_every_name(tmp_path: Path, name: str, codec: str) -> None:
    path = save_video(tmp_path / name, codec)
    for _ in range(2):
        source = open_frames(path)
        assert source.kind == 'video'
        assert sum(isinstance(item, Frame) for item in source) == 8
        path = path.rename(tmp_path / 'without')


def test_a_text_named_as_a_video_is_none(tmp_path: Path) -> None:
    path = tmp_path / 'code.ts'
    path.write_text('const video: boolean = false;\n' * 50)
    with pytest.raises(ImageError, match='cannot be opened as a video'):
        open_frames(path)


@pytest.mark.parametrize(('data', 'told'), [
    (b'#ROSBAG V2.0\n', 'a bag of ROS 1; convert it'), (b'#EXTM3U\nhttp://x/y', 'a playlist'),
    (b'ffconcat version 1.0\n', 'a playlist'), (b'plain text', 'of an unknown kind'),
    (b'version https://git-lfs.github.com/spec/v1\n', 'a pointer of Git LFS'),
])
@pytest.mark.parametrize('name', ['a.mp4', 'a.bin'])
def test_what_is_refused_by_its_content(
    tmp_path: Path, data: bytes, told: str, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    if told == 'of an unknown kind' and name == 'a.mp4':
        return  # the name tells then, and OpenCV cannot open it
    with pytest.raises(InputError, match=told):
        open_frames(path)


def test_only_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / 'pipe.jpg')
    for path in (tmp_path / 'pipe.jpg', Path('/dev/zero')):
        with pytest.raises(InputError, match='no plain file, but a (pipe|socket|device)'):
            open_frames(path)


@pytest.mark.parametrize('address', ['rtsp://cam:554/1', 'http://x/y.mp4', 'file:///a.jpg'])
def test_addresses_are_refused_as_they_were_given(address: str) -> None:
    with pytest.raises(InputError, match=f"'{address}' is an address"):
        open_frames(address)


def test_a_file_of_another_kind_names_the_verb_that_takes_it(
    tmp_path: Path, picture: np.ndarray
) -> None:
    video = save_video(tmp_path / 'v.mp4')
    photo = save(tmp_path / 'folder/p.jpg', picture)
    bag = tmp_path / 'bag'
    bag.mkdir()
    (bag / 'bag_0.mcap').touch()
    assert check_kind(str(bag), 'bag', 'replay') == bag
    for path, wanted, told in (
        (video, 'bag', 'v.mp4 is a video, and replay takes a bag .*: yolov7_trt detect takes it'),
        (photo, 'bag', 'p.jpg is a picture, and replay takes a bag .*: yolov7_trt detect takes'),
        (photo.parent, 'bag', 'folder is a folder of pictures, and replay takes a bag'),
        (bag, 'pictures', 'bag is a bag, and replay takes pictures: yolov7_trt detect and replay'),
    ):
        with pytest.raises(InputError, match=told):
            check_kind(path, wanted, 'replay')
    save(bag / 'beside.jpg', picture)
    assert kind_of(bag) == 'pictures'
    assert check_kind(bag, 'bag', 'replay') == bag  # it has files of a bag


# ---- folders


@pytest.fixture
def folder(tmp_path: Path, picture: np.ndarray) -> Path:
    top = tmp_path / 'top'
    for name in ('b.jpg', 'inner/10.jpg', 'inner/2.jpg', 'inner/deep/x.jpg', '.hidden/y.jpg'):
        save(top / name, picture)
    (top / 'notes.txt').write_text('text')
    (top / 'inner/loop').symlink_to(top)
    return top


def test_what_a_folder_leaves_out_is_told(folder: Path) -> None:
    source = PictureSource(folder)
    assert [item.source for item in source] == ['b.jpg']
    assert source.warnings == [
        f'{folder}: folders not entered (--recursive enters them): inner; '
        'files that are not pictures: notes.txt'
    ]


def test_a_folder_and_those_in_it(folder: Path) -> None:
    source = PictureSource(folder, recursive=True)
    assert [item.source for item in source] == [
        'b.jpg', 'inner/2.jpg', 'inner/10.jpg', 'inner/deep/x.jpg'
    ]
    assert 'folders not entered (links are not followed): loop' in source.warnings[0]
    outside = PictureSource(folder, recursive=True, outside=(folder / 'inner/deep').resolve())
    assert outside.count == 3


def test_a_folder_whose_pictures_lie_deeper(folder: Path) -> None:
    (folder / 'b.jpg').unlink()
    with pytest.raises(ImageError, match='contains no pictures; folders not entered .*: inner'):
        PictureSource(folder)


@reads_gif
def test_of_an_animation_the_first_frame_is_read_and_that_is_told(
    tmp_path: Path, picture: np.ndarray
) -> None:
    frames = [Image.fromarray(np.roll(picture[..., ::-1], shift, 1)) for shift in (0, 9, 50)]
    for suffix in ('.webp', '.gif', '.png', '.tif'):
        path = tmp_path / f'moving{suffix}'
        frames[0].save(path, save_all=True, append_images=frames[1:])
        source = PictureSource(path)
        for _ in range(2):
            frame, = source
            assert np.abs(frame.image.pixels.astype(int) - picture).mean() < 9
            assert source.warnings == [f'{path}: only its first frame or page is read']


def test_a_limit_of_pixels_holds_for_every_source(tmp_path: Path, picture: np.ndarray) -> None:
    photo = save(tmp_path / 'p.jpg', picture)
    item, = open_frames(photo, max_pixels=320 * 256 - 1)
    assert 'larger than the limit' in str(item.error)
    assert isinstance(next(iter(open_frames(photo, max_pixels=320 * 256))), Frame)
    with pytest.raises(ImageError, match='64x48 pixels is larger than the limit of 3071'):
        open_frames(save_video(tmp_path / 'v.mp4'), max_pixels=64 * 48 - 1)


def test_a_video_without_a_frame_is_not_fine(tmp_path: Path) -> None:
    path = save_video(tmp_path / 'v.avi', 'MJPG')
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b'movi') + 4] + bytes(64))
    try:
        items = list(open_frames(path))
    except ImageError:
        return
    assert items
    assert not any(isinstance(item, Frame) for item in items)


def test_a_folder_of_bags_is_named_as_that(tmp_path: Path) -> None:
    for name in ('monday', 'tuesday'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'metadata.yaml').touch()
    told = f'{tmp_path} is a folder of bags: give them one by one, such as {tmp_path / "monday"}'
    with pytest.raises(InputError) as opened:
        open_frames(tmp_path)
    with pytest.raises(InputError) as checked:
        check_kind(tmp_path, 'bag', 'replay')
    assert [str(opened.value), str(checked.value)] == [told, told]
