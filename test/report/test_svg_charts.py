from __future__ import annotations

import itertools
import xml.etree.ElementTree as ElementTree

from yolov7_trt_ros.report.svg_charts import Bubble, bubbles, WIDTH_PX

CHARACTER_PX = 6.7
NAMED = {
    'PyTorch FP16': (6.493, 0.2491, 920.0),
    'PyTorch FP32': (10.67, 0.2491, 1588.0),
    'TensorRT FP16': (1.005, 0.2497, 215.0),
    'TensorRT mixed, heads FP32': (1.037, 0.2493, 230.0),
    'TensorRT FP16 of another level': (1.099, 0.2497, 247.0),
    'pruned': (1.082, 0.2407, 231.0),
}


def chart(points: dict[str, tuple[float, float, float]]) -> ElementTree.Element:
    svg = bubbles(
        [Bubble(name, x, y, size) for name, (x, y, size) in points.items()],
        x_label='ms', y_label='AP50', title='all',
    )
    return ElementTree.fromstring(svg.replace(' xmlns="http://www.w3.org/2000/svg"', ''))


def boxes_of_names(svg: ElementTree.Element) -> dict[str, tuple[float, float, float, float]]:
    found = {}
    for text in svg.iter('text'):
        if text.get('class') == 'name':
            left, low, name = float(text.get('x', '')), float(text.get('y', '')), text.text or ''
            found[name] = (left, low - 10, left + CHARACTER_PX * len(name), low + 3)
    return found


def test_names_cover_neither_each_other_nor_another_point() -> None:
    svg = chart(NAMED)
    names = boxes_of_names(svg)
    assert set(names) == set(NAMED)
    for one, other in itertools.combinations(names.values(), 2):
        assert (
            one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        )
    for left, top, right, low in names.values():
        assert 0 < left < right < WIDTH_PX
        for circle in svg.iter('circle'):
            x, y = float(circle.get('cx', '')), float(circle.get('cy', ''))
            assert not (left < x < right and top < y < low)


def test_a_name_longer_than_the_chart_is_still_there() -> None:
    svg = chart({'x' * 200: (1.0, 0.5, 1.0), 'y': (2.0, 0.4, 1.0)})
    assert 'y' in boxes_of_names(svg)
    assert len(boxes_of_names(svg)) == 2
