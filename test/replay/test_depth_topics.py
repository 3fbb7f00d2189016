"""Depth beside colour: passed over by what messages say, whatever topics are called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from yolov7_trt_ros.cli.main import main
from yolov7_trt_ros.errors import BagError
from yolov7_trt_ros.replay.bags.bag_reader import BagReader
from yolov7_trt_ros.replay.frames import Frame

MakeBag = Callable[..., Path]
MakeMessage = Callable[..., Any]
DEPTH = np.full((256, 320), 1500, np.uint16)
RAW = {
    '16UC1': DEPTH, 'mono16': DEPTH, '32FC1': np.ones((256, 320), np.float32),
    '32FC2': np.ones((256, 640), np.float32),
}


@pytest.fixture
def depth(make_message: MakeMessage, picture: np.ndarray) -> Callable[[str], Any]:
    """Return a message of depth: raw of an encoding, or compressed of a format."""

    def make(told: str) -> Any:
        pixels = RAW.get(told)
        message = make_message(picture, 'png' if pixels is None else 'bgr8', 1)
        if pixels is None:
            message.format = told
            message.data = cv2.imencode('.png', DEPTH)[1].reshape(-1)
        else:
            message.encoding, message.step = told, pixels.nbytes // 256
            message.data = pixels.view(np.uint8).reshape(-1)
        return message

    return make


KINDS = ('16UC1', '32FC1', '32FC2', '16UC1; compressedDepth png', '16UC1; compressedDepth',
         '32FC1; compressedDepth rvl', '16UC1; png compressed ', '16uc1; PNG compressed', 'png',
         '')


@pytest.mark.parametrize('told', KINDS)
def test_depth_is_passed_over_with_a_notice(
    make_bag: MakeBag, make_message: MakeMessage, picture: np.ndarray,
    depth: Callable[[str], Any], told: str,
) -> None:
    bag = make_bag('bag', [
        ('/aligned/image_raw', depth(told)), ('/color/image_raw', make_message(picture, 'bgr8', 1))
    ])
    reader = BagReader(bag)
    assert list(reader.topics) == ['/color/image_raw']
    assert reader.warnings[0].startswith('passed over /aligned/image_raw (')
    assert [isinstance(item, Frame) for item in reader] == [True]
    with pytest.raises(BagError, match='cannot detect in /aligned/image_raw'):
        BagReader(bag, topics=['/aligned/image_raw'])


@pytest.mark.parametrize('told', KINDS)
def test_a_bag_of_depth_alone_says_so(
    make_bag: MakeBag, depth: Callable[[str], Any], told: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bag = make_bag('bag', [('/d/image_raw', depth(told))])
    assert main(['detect', str(bag), '-o', str(tmp_path / 'out')]) == 1
    assert 'has no topic to detect in but /d/image_raw (' in capsys.readouterr().err
    assert main(['replay', str(bag), '-o', str(tmp_path / 'out.mcap')]) == 1
    assert 'depth or other measurements' in capsys.readouterr().err


def test_16_bit_grey_is_depth_only_by_the_name_of_its_topic(
    make_bag: MakeBag, depth: Callable[[str], Any]
) -> None:
    bag = make_bag('bag', [('/depth/image_raw', depth('mono16')), ('/ir/image', depth('mono16'))])
    assert list(BagReader(bag).topics) == ['/ir/image']
    assert list(BagReader(bag, topics=['/depth/image_raw']).topics) == ['/depth/image_raw']


def test_colour_on_a_topic_named_depth_is_read(
    make_bag: MakeBag, make_message: MakeMessage, picture: np.ndarray
) -> None:
    bag = make_bag('bag', [('/depth/image_raw', make_message(picture, 'bgr8', 1))])
    assert list(BagReader(bag).topics) == ['/depth/image_raw']


def test_depth_beside_colour_leaves_the_status_at_0(
    make_bag: MakeBag, make_message: MakeMessage, picture: np.ndarray,
    depth: Callable[[str], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    bag = make_bag('bag', [
        ('/d/image_raw', depth('32FC1')), ('/c/image_raw', make_message(picture, 'jpeg', 1)),
        ('/d/image_raw', depth('32FC1')),
    ])
    assert main(['detect', str(bag), '-o', str(tmp_path / 'out')]) == 0
    printed = capsys.readouterr()
    assert 'passed over /d/image_raw (32FC1)' in printed.err
    assert 'frames      1' in printed.out
