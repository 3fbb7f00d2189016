from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from yolov7_trt_ros.core.units import NS_PER_S
from yolov7_trt_ros.errors import ImageError, InputError
from yolov7_trt_ros.replay.picture_store import PictureStore


def grey(level: int) -> np.ndarray:
    return np.full((48, 64, 3), level, np.uint8)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where frames are spooled."""
    folder = tmp_path / 'temporary'
    folder.mkdir()
    monkeypatch.setattr('tempfile.tempdir', str(folder))
    return folder


def test_pictures_are_read_where_they_are(tmp_path: Path, temporary: Path) -> None:
    folder = tmp_path / 'pictures'
    folder.mkdir()
    for level in range(12):
        cv2.imwrite(str(folder / f'{level}.png'), grey(level * 10))
    with PictureStore(folder) as store, ThreadPoolExecutor(4) as pool:
        assert (len(store), store.kind) == (12, 'pictures')
        wanted = [7, 0, 11, 7]
        levels = [int(image.pixels[0, 0, 0]) for image in pool.map(store.__getitem__, wanted)]
        assert levels == [70, 0, 110, 70]
    assert not list(temporary.iterdir())
    assert [file.name for file in PictureStore(folder, every=5).files] == [
        '0.png', '5.png', '10.png',
    ]
    assert len(PictureStore(folder, most=4)) == 4


def test_a_picture_that_is_damaged_says_so_when_it_is_read(tmp_path: Path) -> None:
    (tmp_path / 'damaged.png').write_bytes(b'\x89PNG nothing')
    store = PictureStore(tmp_path / 'damaged.png')
    with pytest.raises(ImageError):
        store[0]


def test_frames_of_a_video_lie_in_a_temporary_folder(tmp_path: Path, temporary: Path) -> None:
    path = tmp_path / 'clip.mp4'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), 10, (64, 48))
    for number in range(10):
        writer.write(grey(number * 20))
    writer.release()
    counted = []
    with PictureStore(path, every=3, progress=lambda: counted.append(1)) as store:
        assert (len(store), store.kind, len(counted)) == (4, 'video', 4)
        assert [abs(int(store[n].pixels.mean()) - n * 60) < 6 for n in (3, 0, 2)] == [True] * 3
        assert len(list(temporary.rglob('*.jpg'))) == 4
    assert not list(temporary.iterdir())
    store.close()


def test_frames_of_a_bag_in_any_encoding(
    make_bag: Callable[..., Path], make_message: Callable[..., Any], picture: np.ndarray,
    temporary: Path,
) -> None:
    bag = make_bag('drive', [
        ('/front', make_message(picture, 'rgb8', NS_PER_S)),
        ('/back', make_message(grey(9), 'bgr8', NS_PER_S)),
        ('/front', make_message(picture, 'bgr8', NS_PER_S)),
        ('/front', make_message(picture, 'bgr8', NS_PER_S, height=999)),
        ('/packed', make_message(picture, 'jpeg', NS_PER_S)),
    ])
    with PictureStore(bag, topics=['/front', '/packed']) as store:
        assert (len(store), store.kind, len(store.warnings)) == (3, 'bag', 1)
        for index in range(3):
            difference = np.abs(store[index].pixels.astype(int) - picture)
            assert difference.mean() < 6
    with PictureStore(bag, most=2) as store:
        assert len(store) == 2
    assert not list(temporary.iterdir())


def test_what_holds_no_picture(
    tmp_path: Path, make_bag: Callable[..., Path], make_message: Callable[..., Any],
    temporary: Path,
) -> None:
    with pytest.raises(InputError, match='no such file'):
        PictureStore(tmp_path / 'gone')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError, match='found none'):
        PictureStore(tmp_path / 'empty')
    bag = make_bag('drive', [('/front', make_message(grey(1), 'bgr8', NS_PER_S, height=999))])
    with pytest.raises(InputError, match='found none: .*truncated'):
        PictureStore(bag)
    assert not list(temporary.iterdir())
