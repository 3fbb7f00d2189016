"""Tiles: what is read, and where they lie."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from yolov7_trt_ros.core.looks.tiles import MOST_TILES, read_tiles, TileOptions
from yolov7_trt_ros.errors import InferenceError, SettingError

SIDES = st.integers(1, 3000)
LAYOUTS = st.tuples(st.integers(1, 16), st.integers(1, 16)).filter(
    lambda each: 1 < each[0] * each[1] <= MOST_TILES
) | st.tuples(st.integers(64, 1500), st.integers(64, 1500))


@given(st.tuples(SIDES, SIDES), LAYOUTS, st.floats(0, 0.5))
def test_tiles_show_all_of_an_image_and_overlap_as_asked(source_wh, layout, overlap):
    options = TileOptions(layout, overlap)
    try:
        crops = options.place(source_wh)
    except InferenceError as exc:
        assert layout[0] >= 64 and f'at most {MOST_TILES}' in str(exc)
        return
    seen = np.zeros(source_wh, bool)
    for crop in crops:
        assert 0 <= crop.left < crop.right <= source_wh[0]
        assert 0 <= crop.top < crop.bottom <= source_wh[1]
        assert (crop.size_wh == crops[0].size_wh) and crop.size_wh != source_wh
        seen[crop.left:crop.right, crop.top:crop.bottom] = True
    assert seen.all() or not crops
    for axis in (0, 1):
        begins = sorted({crop[axis] for crop in crops})
        side = crops[0].size_wh[axis] if crops else 0
        assert all(
            begin + side - after >= overlap * side - 2
            for begin, after in zip(begins, begins[1:], strict=False)
        )
        if layout[0] < 64 and source_wh[axis] > 100:
            assert len(begins) == (layout[axis] if crops else 0)
        # no mosaic and no chroma pair is cut
        assert not crops or (source_wh[axis] - side) % 2 == 0
        assert all(begin % 2 == 0 for begin in begins)


@pytest.mark.parametrize(('text', 'layout'), [
    ('', None), (' ', None), ('2x2', (2, 2)), ('3X1', (3, 1)), (' 640 x 480 ', (640, 480)),
    ('64x4096', (64, 4096)),
])
def test_what_is_read(text, layout):
    assert read_tiles(text) == layout
    assert read_tiles(TileOptions(layout).text) == layout


@pytest.mark.parametrize(('text', 'words'), [
    ('0x2', 'columns x rows of 1 to 16, as in 2x2, or width x height'), ('2', "got '2'"),
    ('-2x2', "got '-2x2'"), ('2x2x2', "got '2x2x2'"), ('auto', "got 'auto'"), ('17x2', '1 to 16'),
    ('2x640', '1 to 16'), ('32x32', '64 to 4096'), ('640x5000', '64 to 4096'),
    ('9' * 99 + 'x2', '1 to 16'), ('1x1', "tiles must be 2 to 63, got '1x1', which is 1"),
    ('8x8', "tiles must be 2 to 63, got '8x8', which is 64"),
])
def test_what_is_refused(text, words):
    with pytest.raises(SettingError, match=words):
        read_tiles(text)


@pytest.mark.parametrize('overlap', [-0.1, 0.6, float('nan')])
def test_overlaps_that_make_no_sense_are_refused(overlap):
    with pytest.raises(SettingError, match='tile_overlap must be within 0..0.5, got'):
        TileOptions((2, 2), overlap)


def test_too_many_tiles_of_a_size_are_an_error_of_the_image():
    options = TileOptions((64, 64), 0.0)
    assert len(options.place((448, 448))) == 49
    with pytest.raises(InferenceError, match='an image of 1000x1000 has 256 tiles of 64x64'):
        options.place((1000, 1000))
