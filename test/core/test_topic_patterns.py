"""Patterns of topic names."""

from __future__ import annotations

import pytest

from yolov7_trt_ros.core.topics import is_pattern, matching_topics

TOPICS = [
    '/front/image_raw', '/front/image_raw2', '/rear.x/image_raw', '/arm/left/image_raw',
    '/arm/left/deep/image_raw',
]


@pytest.mark.parametrize(
    ('pattern', 'found'),
    [
        ('/*/image_raw', ['/front/image_raw', '/rear.x/image_raw']),
        ('/arm/**/image_raw', ['/arm/left/deep/image_raw', '/arm/left/image_raw']),
        ('/**', sorted(TOPICS)),
        ('/front/image*', ['/front/image_raw', '/front/image_raw2']),
        ('/rear?x/*', []),
        ('/front/image_raw', ['/front/image_raw']),
    ],
)
def test_patterns(pattern, found):
    assert matching_topics(pattern, TOPICS) == found
    assert is_pattern(pattern) == ('*' in pattern)
