"""Zones: what lies in a polygon, what a polygon covers, and which polygons are refused."""

from __future__ import annotations

import itertools
import math

from hypothesis import assume, given
from hypothesis import strategies as st
import numpy as np
import pytest

from yolov7_trt_ros.core.zones import (
    covered_shares,
    Edges,
    has_points,
    MOST_POINTS,
    MOST_ZONES,
    Polygon,
    read_zones,
    Zones,
)
from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.testing import make_detections

SIZE_WH = (100, 80)
FOUND = make_detections(
    SIZE_WH, ((0, 0, 20, 20), 0.9, 0), ((40, 30, 60, 50), 0.8, 1), ((70, 60, 100, 80), 0.7, 2)
)
LEFT_HALF = '0,0 0.5,0 0.5,1 0,1'


def chosen(ignore: str = '', keep: str = '', cover: float = 0.0) -> list[int]:
    """Return the classes of what counts."""
    zones = Zones(read_zones(ignore), read_zones(keep), cover)
    return zones.choose(FOUND).class_ids.tolist()


@st.composite
def stars(draw: st.DrawFn) -> np.ndarray:
    """Return a polygon (n, 2) around (50, 50) that does not cross itself, any way round."""
    count = draw(st.integers(3, 12))
    angles = sorted(draw(st.lists(
        st.floats(0, 2 * math.pi, exclude_max=True), min_size=count, max_size=count, unique=True
    )))
    radii = draw(st.lists(st.floats(1, 45), min_size=count, max_size=count))
    gaps = np.diff([*angles, angles[0] + 2 * math.pi])
    assume(gaps.max() < math.pi * 0.95 and gaps.min() > 0.01)
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points = 50 + np.array(radii)[:, np.newaxis] * directions
    return points[:: draw(st.sampled_from([1, -1]))]


def shoelace(points: np.ndarray) -> float:
    """Return the area of a polygon."""
    x, y = points.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


# ---- what counts


def test_the_centre_decides_unless_a_share_is_given():
    assert chosen() == [0, 1, 2]
    assert chosen(ignore=LEFT_HALF) == [1, 2]  # the centre of 1 lies on the line: not left of it
    assert chosen(keep=LEFT_HALF) == [0]
    assert chosen(ignore=LEFT_HALF, cover=0.5) == [2]
    assert chosen(ignore=LEFT_HALF, cover=0.51) == [1, 2]
    assert chosen(keep=LEFT_HALF, cover=1.0) == [0]


def test_zones_in_pixels_and_in_shares_of_the_image_are_the_same():
    assert chosen(ignore='0,0 50,0 50,80 0,80') == chosen(ignore=LEFT_HALF)
    assert read_zones('0,0 1,0 1,1')[0].is_relative
    assert not read_zones('0,0 2,0 1,1')[0].is_relative


def test_several_zones_are_any_of_them_and_ignoring_wins():
    corner = '65,55 100,55 100,80 65,80'
    assert chosen(ignore=f'{LEFT_HALF};{corner}') == [1]
    assert chosen(keep=f'{LEFT_HALF} ; {corner};') == [0, 2]
    assert chosen(ignore=corner, keep=f'{LEFT_HALF};{corner}') == [0]


def test_without_effect_nothing_is_copied():
    zones = Zones(read_zones('0,0 0.01,0 0,0.01'))
    assert zones.choose(FOUND) is FOUND
    empty = make_detections(SIZE_WH)
    assert Zones(keep=read_zones(LEFT_HALF)).choose(empty) is empty
    assert not Zones() and zones


def test_a_zone_beyond_the_image_is_told():
    zones = Zones(read_zones(LEFT_HALF), read_zones('0,0 9,0 9,9;0,0 100,0 100,80.5'))
    assert zones.problem((100, 80)) == (
        'zone 2 of keep_zones reaches beyond the image, which has 100x80 pixels'
    )
    assert zones.problem((101, 81)) == ''


# ---- laws


@given(stars(), st.integers(0, 2**32 - 1))
def test_the_covered_shares_of_tiles_add_up_to_the_area(points, seed):
    cuts = np.sort(np.random.default_rng(seed).uniform(0, 100, (2, 4)))
    columns, rows = ([0, *each, 100] for each in cuts)
    tiles = np.array([
        (left, top, right, bottom)
        for left, right in itertools.pairwise(columns) for top, bottom in itertools.pairwise(rows)
    ])
    shares = covered_shares(tiles, Edges([points]))[:, 0]
    assert np.all((shares > -1e-9) & (shares < 1 + 1e-6))
    sides = tiles[:, 2:] - tiles[:, :2]
    assert (shares * sides.prod(axis=1)).sum() == pytest.approx(shoelace(points), rel=1e-6)


@given(stars(), st.lists(st.tuples(st.floats(0, 99), st.floats(0, 99)), min_size=1))
def test_a_place_lies_within_as_a_tiny_box_around_it_is_covered(points, places):
    centres = np.array(places)
    boxes = np.concatenate([centres - 1e-4, centres + 1e-4], axis=1)
    shares = covered_shares(boxes, Edges([points]))[:, 0]
    within = has_points(centres, Edges([points]))[:, 0]
    clear = (shares < 1e-3) | (shares > 1 - 1e-3)  # of the others the outline goes through
    assert np.array_equal(within[clear], shares[clear] > 0.5)


@given(stars())
def test_a_star_is_read_and_with_two_points_exchanged_it_is_read_or_refused(points):
    text = ' '.join(f'{x!r},{y!r}' for x, y in points.tolist())
    polygon, = read_zones(text)
    assert np.allclose(polygon.in_pixels(SIZE_WH), points)
    if len(points) >= 4:
        crossed = points.tolist()
        crossed[1], crossed[2] = crossed[2], crossed[1]
        try:
            read_zones(' '.join(f'{x!r},{y!r}' for x, y in crossed))
        except SettingError as exc:
            assert 'crosses or touches itself' in str(exc)


@given(st.text(alphabet='0123456789.,; -e+naif\n', max_size=60))
def test_any_text_is_zones_or_refused(text):
    try:
        zones = read_zones(text)
    except SettingError as exc:
        assert 'zone' in str(exc) and len(str(exc)) < 400
    else:
        Zones(zones, zones, 0.5).choose(FOUND)


# ---- refusals


@pytest.mark.parametrize(('text', 'reason'), [
    ('0,0 1,0', 'zone 1 must have 3 to 32 points'),
    ('0,0 1,0 1,1;5,5', "zone 2 must have 3 to 32 points.*got 1: '5,5'"),
    (' '.join(['1,1'] * (MOST_POINTS + 1)), 'got 33'),
    (';'.join([LEFT_HALF] * (MOST_ZONES + 1)), 'at most 16 zones may be given, got 17'),
    ('0,0 1,0 x,1', "zone 1: a point is x,y .* got 'x,1'"),
    ('0,0 1,0 1', "got '1'"), ('0,0 1,0 1,1,1', "got '1,1,1'"), ('0,0 1,0 nan,1', "got 'nan,1'"),
    ('0,0 1,0 -1,1', "got '-1,1'"), ('0,0 1,0 inf,1', "got 'inf,1'"),
    ('0,0 1,1 1,0 0,1', 'zone 1 crosses or touches itself: the lines after point 1 and after '
     'point 3 meet'),
    ('0,0 9,0 9,9 9,0', 'crosses or touches itself'),  # there and back
    ('0,0 5,5 9,9', 'crosses or touches itself'),  # flat
    ('0,0 0,0 9,9', 'crosses or touches itself'),
    ('0,0 9,0 9,9 4,0 0,9', 'crosses or touches itself'),  # a corner on another line
])
def test_what_is_no_polygon_is_refused(text, reason):
    with pytest.raises(SettingError, match=reason):
        read_zones(text)


def test_concave_zones_and_corners_on_a_line_going_on_are_taken():
    assert len(read_zones('0,0 5,0 9,0 9,9 5,5 0,9')[0].points) == 6


def test_a_large_text_is_refused_at_once():
    with pytest.raises(SettingError, match='got'):
        read_zones('1,1 ' * 16000)
    assert Polygon(((0, 0), (1, 0), (1, 1))).is_relative
