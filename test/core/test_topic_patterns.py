"""Patterns of topic names."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
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


def stands_for(pattern: str, text: str) -> bool:
    """Whether a pattern matches a text, tried star by star: right, and slow."""
    if not pattern:
        return not text
    if not pattern.startswith('*'):
        return text[:1] == pattern[0] and stands_for(pattern[1:], text[1:])
    stars = len(pattern) - len(pattern.lstrip('*'))
    ends = [
        end for end in range(len(text) + 1) if stars > 1 or '/' not in text[:end]
    ]
    return any(stands_for(pattern[stars:], text[end:]) for end in ends)


@given(st.text('ab/*', max_size=7), st.text('ab/', max_size=7))
@example('***', '/')
@example('*/**', 'a/')
@example('', '')
def test_a_pattern_matches_what_the_slow_way_does(pattern, text):
    assert matching_topics(pattern, [text]) == ([text] if stands_for(pattern, text) else [])


@pytest.mark.parametrize('star', ['*', '**', '*a*'])
def test_a_topic_made_to_hold_a_pattern_up_takes_no_longer(star):
    """With an expression that goes back to try again this would not end in a lifetime."""
    topic = '/' + 'a' * 5000
    assert matching_topics('/' + f'{star}a' * 200 + 'b', [topic]) == []
    assert matching_topics('/' + f'{star}a' * 200, [topic]) == [topic]
