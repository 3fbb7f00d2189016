"""A subscription that hears nothing of a publisher that is there is made anew."""

from __future__ import annotations

import re

from fake_engine import FakeEngine
import numpy as np
import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_probe import image_msg, Probe
from sensor_msgs.msg import Image

from yolov7_trt_ros.nodes.images.subscription_renewal import RenewalPauses
from yolov7_trt_ros.testing import FakeDetector

TOPIC = '/deaf/image_raw'
SECOND_NS = 10**9


def renewals(pauses: RenewalPauses, end_s: int) -> list[int]:
    """Return at which seconds of a silence it is due, asked once a second."""
    return [second for second in range(end_s) if pauses.is_due(second * SECOND_NS)]


def test_pauses_grow_until_something_is_heard() -> None:
    pauses = RenewalPauses()
    assert renewals(pauses, 400) == [5, 15, 35, 75, 155, 235, 315, 395]
    pauses.reset()
    assert renewals(pauses, 20) == [5, 15]


def silent_s(probe: Probe) -> int:
    """Return for how long the diagnostics say that no image has arrived."""
    found = re.search(r'no image has arrived for (\d+) s', probe.summary(TOPIC)[0])
    return int(found[1]) if found else 0


@pytest.mark.parametrize(
    ('reliable', 'receive'), [(False, 'direct'), (True, 'direct'), (False, 'rclpy')]
)
def test_a_best_effort_subscription_is_made_anew_and_hears(
    probe: Probe, reliable: bool, receive: str
) -> None:
    engine = FakeEngine(FakeDetector([]))
    topics = {'image_topics': TOPIC, 'receive': receive}
    with probe.host(engine.seam, autostart=True, **topics) as node:
        reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        camera = probe.node.create_publisher(
            Image, TOPIC, QoSProfile(depth=5, reliability=reliability)
        )
        probe.wait_until(lambda: silent_s(probe) >= 3, 'a silence')
        stream = node._configured.streams[TOPIC]
        deaf = stream._subscription
        probe.wait_until(lambda: silent_s(probe) >= 7, 'a longer one, which is still told')
        assert probe.values(TOPIC)['renewed'] == ('0' if reliable else '1')
        assert (stream._subscription is deaf) is reliable
        message = image_msg(np.zeros((32, 32, 3), np.uint8))

        def heard() -> bool:
            camera.publish(probe.stamp(message))
            return int(probe.values(TOPIC).get('received', 0)) > 0

        probe.wait_until(heard, 'images')
        probe.node.destroy_publisher(camera)
