"""A camera for a detector that runs in the process of the test, on an engine of the test's."""

from __future__ import annotations

from typing import Any

import numpy as np
from rclpy.qos import qos_profile_sensor_data
from ros_probe import image_msg, Probe
from sensor_msgs.msg import Image

TOPIC = '/seam/image_raw'
IMAGE = np.zeros((48, 64, 3), np.uint8)


class Camera:
    """Publishes images on `TOPIC` and hears what the detector says of them."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._publisher = probe.node.create_publisher(Image, TOPIC, qos_profile_sensor_data)
        self._found: list[Any] | None = None

    def ask(self) -> list[str]:
        """Send an image; returns the class ids found in it."""
        if self._found is None:
            self._found = self._probe.detections('/seam/detections')
        self._probe.wait_until(self._publisher.get_subscription_count, 'the detector')
        message = self._probe.ask(self._publisher, image_msg(IMAGE), self._found)
        return [each.results[0].hypothesis.class_id for each in message.detections]

    def send_until_one_failed(self) -> None:
        """Send images until the detector has counted one as failed."""
        def failed() -> int:
            self._publisher.publish(self._probe.stamp(image_msg(IMAGE)))
            return self._probe.counts(TOPIC)['failed']

        assert self._probe.wait_until(failed, 'a failed image') == 1

    def send(self) -> None:
        """Send one image."""
        self._publisher.publish(self._probe.stamp(image_msg(IMAGE)))

    def close(self) -> None:
        """Stop publishing."""
        self._probe.node.destroy_publisher(self._publisher)
