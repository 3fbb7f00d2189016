"""A network_size that was set and that the model cannot have is in the log."""

from __future__ import annotations

import dataclasses

from fake_engine import FakeEngine
import pytest
from ros_probe import Probe

from yolov7_trt_ros.core.forms.model_spec import TensorInfo
from yolov7_trt_ros.testing import fake_spec, FakeDetector


@pytest.mark.parametrize(('size', 'is_told'), [(320, True), (640, False), (416, False)])
def test_a_size_that_was_set_and_is_not_used_is_in_the_log(
    probe: Probe, size: int, is_told: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    fixed = dataclasses.replace(
        fake_spec(['thing']), image=TensorInfo('images', (1, 3, 256, 416), 'float32')
    )
    engine = FakeEngine(FakeDetector(spec=fixed))
    with probe.host(engine.seam, image_topics='/size/image_raw', network_size=size):
        probe.wait_for_state('unconfigured')
        assert probe.change_state('configure')
        assert probe.change_state('activate')
        probe.wait_until(lambda: probe.summary()[0] == 'active', 'active')
    told = 'network_size is 320, but the input of the model is fixed at 416x256 pixels'
    assert (told in capfd.readouterr().err) == is_told
