from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
import pytest

from yolov7_trt_ros.core.topics import detections_topic, detections_topics, images_of_detections


@pytest.mark.parametrize(('image_topic', 'expected'), [
    ('/camera/image_raw', '/camera/detections'),
    ('/camera/image_raw/compressed', '/camera/detections'),
    ('/robot/front/image_rect', '/robot/front/detections'),
    ('image_raw', 'detections'),
    ('image_raw/compressed', 'detections'),
    ('/image', '/detections'),
    ('/image/compressed', '/detections'),
    ('~/image', '~/detections'),
    ('/compressed', '/detections'),
])
def test_detections_go_into_the_namespace_of_the_image(image_topic: str, expected: str) -> None:
    assert detections_topic(image_topic) == expected


def test_topics_of_one_namespace_get_names_of_their_own() -> None:
    topics = ['/camera/left_raw', '/camera/right_raw', '/rear/image_raw']
    assert detections_topics(topics) == [
        '/camera/left_raw/detections', '/camera/right_raw/detections', '/rear/detections'
    ]


def test_one_image_in_two_transports() -> None:
    assert detections_topics(['/image', '/image/compressed']) == [
        '/image/detections', '/image/compressed/detections'
    ]


def test_a_longer_name_that_hits_another_topics_name_moves_that_one_too() -> None:
    names = detections_topics(['/a/x', '/a/y', '/a/x/z'])
    assert len(set(names)) == 3


segment = st.sampled_from(['a', 'b', 'image', 'compressed', 'detections'])
topic = st.lists(segment, min_size=1, max_size=4).map(lambda parts: '/' + '/'.join(parts))


@given(st.lists(topic, unique=True, max_size=8))
def test_names_are_always_distinct_and_one_per_topic(topics: list[str]) -> None:
    names = detections_topics(topics)
    assert len(names) == len(topics) == len(set(names))
    assert all(name.endswith('/detections') for name in names)


@given(st.lists(topic, unique=True, max_size=8))
def test_the_way_back_leads_to_the_image(topics: list[str]) -> None:
    for image, name in zip(topics, detections_topics(topics), strict=True):
        assert images_of_detections(name, topics) == [image]


def test_images_of_detections_are_the_transports_of_one_camera() -> None:
    both = ['/camera/image', '/camera/image/compressed']
    assert images_of_detections('/camera/detections', both) == both
    assert images_of_detections('/camera/image/compressed/detections', both) == both[1:]
    assert images_of_detections('/camera/detections', ['/camera/left', '/camera/right']) == []
    assert images_of_detections('/other', both) == []
