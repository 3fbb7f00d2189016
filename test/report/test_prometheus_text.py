"""What is written for Prometheus, read back by its own parser."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
import pytest

from yolov7_trt_ros.report.diagnostic_metrics import status_samples
from yolov7_trt_ros.report.prometheus_text import exposition, Family, Sample

DETECTOR = {
    'state': 'active', 'model': 'yolov7-nano', 'backend': 'onnx', 'callbacks failed': '2',
    'energy per frame (J)': '0.410', 'energy saved by pauses (J)': 'unknown: no reading yet',
    'removed topics: received': '5', 'last error': 'none',
}
TOPIC = {
    'camera': 'frozen', 'paused': 'idle', 'rate in (Hz)': '15.0', 'received': '40',
    'processed': '30', 'renewed': '1', 'images per batch': '1.50', 'infer p50 (ms)': '12.50',
    'infer p99 (ms)': '20.00', 'behind the clock (ms)': 'unknown: stamps are 0', 'black': '1%',
}
POWER = {
    'board': 'x', 'total (mW)': '12300', 'VDD_IN (mW)': '12300', 'VDD_IN average (mW)': '9000',
    'tj temperature (C)': '51.5', 'gpu clock (MHz)': '624.8', 'cpu0 load (%)': '62.0',
    'fan (%)': '50', 'RAM used (MiB)': '2', 'frames': '7', 'joules per frame': 'unknown',
}


def read_back(samples: Iterable[Sample]) -> dict[tuple[str, ...], float]:
    """Return series by their names and sorted label values, as Prometheus reads them."""
    return {
        (each.name.removeprefix('yolov7_trt_ros_'), *map('='.join, sorted(each.labels.items()))):
        each.value
        for family in text_string_to_metric_families(exposition(samples))
        for each in family.samples
    }


@pytest.mark.parametrize(('status', 'level', 'values', 'expected'), [
    ('/detector: detector', 1, DETECTOR, {
        ('status_level', 'node=/detector', 'status=detector'): 1.0,
        ('lifecycle_state', 'node=/detector', 'state=active'): 1.0,
        ('model_info', 'backend=onnx', 'model=yolov7-nano', 'node=/detector'): 1.0,
        ('callback_failures_total', 'node=/detector'): 2.0,
        ('frame_energy_joules', 'counted=machine', 'node=/detector'): 0.41,
        ('images_received_total', 'node=/detector', 'topic=removed topics'): 5.0,
    }),
    ('/detector: /cam/image_raw', 1, TOPIC, {
        ('status_level', 'node=/detector', 'status=/cam/image_raw'): 1.0,
        ('camera_state', 'node=/detector', 'state=frozen', 'topic=/cam/image_raw'): 1.0,
        ('topic_paused', 'node=/detector', 'topic=/cam/image_raw'): 1.0,
        ('images_received_total', 'node=/detector', 'topic=/cam/image_raw'): 40.0,
        ('images_processed_total', 'node=/detector', 'topic=/cam/image_raw'): 30.0,
        ('subscriptions_renewed_total', 'node=/detector', 'topic=/cam/image_raw'): 1.0,
        ('images_per_batch', 'node=/detector', 'topic=/cam/image_raw'): 1.5,
        ('stage_seconds', 'node=/detector', 'quantile=0.5', 'stage=infer',
         'topic=/cam/image_raw'): 0.0125,
        ('stage_seconds', 'node=/detector', 'quantile=0.99', 'stage=infer',
         'topic=/cam/image_raw'): 0.02,
    }),
    ('/power_manager: power', 0, POWER, {
        ('status_level', 'node=/power_manager', 'status=power'): 0.0,
        ('power_watts', 'node=/power_manager', 'rail=total'): 12.3,
        ('power_watts', 'node=/power_manager', 'rail=VDD_IN'): 12.3,
        ('temperature_celsius', 'node=/power_manager', 'sensor=tj'): 51.5,
        ('clock_hertz', 'node=/power_manager', 'unit=gpu'): 624.8e6,
        ('load_ratio', 'node=/power_manager', 'unit=cpu0'): 0.62,
        ('fan_drive_ratio', 'node=/power_manager'): 0.5,
        ('memory_bytes', 'node=/power_manager', 'use=RAM used'): 2.0 * 2 ** 20,
        ('detected_frames_total', 'node=/power_manager'): 7.0,
    }),
    ('/power_manager: supply', 1, POWER, {
        ('status_level', 'node=/power_manager', 'status=supply'): 1.0,
    }),
])
def test_a_status_becomes_numbers_in_base_units(status, level, values, expected) -> None:
    found = read_back(status_samples(status, level, values))
    assert {name: pytest.approx(value) for name, value in found.items()} == expected


def test_series_of_one_name_stand_together_under_its_help_and_type() -> None:
    topics = ['/a/image_raw', '/b/image_raw']
    samples = [each for topic in topics for each in status_samples(f'/d: {topic}', 0, TOPIC)]
    families = list(text_string_to_metric_families(exposition(samples)))
    names = [family.name for family in families]
    assert len(names) == len(set(names)) and all(family.documentation for family in families)
    received = next(each for each in families if each.name.endswith('images_received'))
    assert received.type == 'counter'
    assert [each.labels['topic'] for each in received.samples] == topics


@given(st.lists(st.text(st.characters(exclude_categories=['Cs']), max_size=20), max_size=4))
def test_any_text_can_be_a_label_and_each_series_is_there_once(texts: list[str]) -> None:
    family = Family('things', 'gauge', 'A \\ backslash\nand a line.')
    samples = [Sample(family, {'name': text}, float(number)) for number, text in enumerate(texts)]
    families = list(text_string_to_metric_families(exposition(samples)))
    found = {each.labels['name']: each.value for one in families for each in one.samples}
    assert found == {text: float(number) for number, text in enumerate(texts)}
    assert all(one.documentation == family.about for one in families)
