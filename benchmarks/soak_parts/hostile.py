"""External faults of a soak: requests, topics and clocks that nobody should send."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
import random
import time
from typing import Any

from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import GetParameters, SetParameters
import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from soak_parts.detector import PATIENCE_S
from soak_parts.soaked_node import Soak
from std_msgs.msg import String

from yolov7_trt_ros.core.units import NS_PER_S

LONG_NAME = '/soak/long/' + 'a' * 200
STRANGE_MESSAGES = 8
STARS = '/**' + 'a**' * 14 + 'b'
"""A pattern on which a backtracking matcher does not end, with `LONG_NAME` in the graph."""
CLOCKS = ((-5, 0), (-(2**31), 0), (2**31 - 1, 999_999_999), (0, 2**32 - 1), (0, 0))
_TYPES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 200, 255)
_NAMES = ('', ' ', '/', 'model.', 'no_such', 'scor_threshold', '\x1b[2J', '\u202e', 'x' * 3000)
_TOPIC_VALUES = (
    ('image_topics', '/diagnostics'), ('image_topics', LONG_NAME + '/' + 'b' * 40),
    ('image_topics', '/soak//image'), ('image_topics', '/{soak}/image'),
    ('image_topics', ','.join(f'/soak/many{index}' for index in range(300))),
    ('detections_topics', '/soak/*'), ('detections_topics', '/diagnostics'),
    ('detections_topics', '/soak/cam0/image_raw'), ('detections_topics', '~/label_info'),
)


def odd_requests(soak: Soak, rng: random.Random) -> str:
    """Ask for parameters of odd names and types, and set them: all is refused, nothing changes."""
    former = soak.detector.get('image_topics')
    for _ in range(10):
        names = [rng.choice(_NAMES) for _ in range(rng.randint(1, 5))]
        soak.detector.ask('get_parameters', GetParameters.Request(names=names))
        request = SetParameters.Request(parameters=[_odd(name, rng) for name in names])
        _expect_refused(soak, names, soak.detector.ask('set_parameters', request).results)
    request = SetParameters.Request(parameters=[
        Parameter(name='score_threshold', value=ParameterValue(type=kind)) for kind in (200, 255)
    ])
    results = soak.detector.ask('set_parameters', request).results
    _expect_refused(soak, ['score_threshold'], results)
    if soak.detector.get('image_topics') != former:
        soak.ledger.violations.append('image_topics: changed by odd requests')
    return '10 requests'


def _odd(name: str, rng: random.Random) -> Parameter:
    """Return a parameter that no node has, of a type that there may not be either."""
    value = ParameterValue(
        type=rng.choice(_TYPES), integer_value=-2**63, double_value=float('nan'),
        string_value='\x00' if rng.random() < 0.5 else 'y' * 10_000,
    )
    return Parameter(name=name, value=value)


def _expect_refused(soak: Soak, names: list[str], results: Any) -> None:
    taken = [result for result in results if result.successful]
    if taken:
        soak.ledger.violations.append(f'{len(taken)} of {names!r:.300} were not refused')


def impossible_topics(soak: Soak, rng: random.Random) -> str:
    """Set topics that cannot be: each is refused with a reason, and the streams go on."""
    return expect_refused(soak, rng.sample(_TOPIC_VALUES, 5))


def expect_refused(soak: Soak, values: Iterable[tuple[str, Any]]) -> str:
    """Set parameters, and note a violation if one is accepted or refused without a reason."""
    told = []
    for name, value in values:
        former = soak.detector.get(name)
        reason = soak.detector.set_parameter(name, value)
        if not reason or soak.detector.get(name) != former:
            soak.ledger.violations.append(f'{name}: {value!r:.80} was not refused, or took effect')
        told.append(f'{name} {value!r:.40}')
    return ', '.join(told)


def strangers(soak: Soak, rng: random.Random) -> str:
    """
    Publish what the node must not take: images on its own topics, long names, other types.

    Meanwhile the topics are given as patterns, so that the node finds the foreign ones too; on one
    of the patterns a backtracking matcher would not end.

    """
    kinds: list[tuple[type, str]] = [
        (Image, '/diagnostics'), (Image, '/detector/label_info'), (Image, LONG_NAME),
        (String, soak.cameras[0].topic), (String, soak.guest_topic),
    ]
    rng.shuffle(kinds)
    with _stranger() as node:
        publishers = {topic: node.create_publisher(kind, topic, 5) for kind, topic in kinds}
        soak.ledger.begin(LONG_NAME)
        soak.set_parameter('image_topics', f'{soak.pattern},{STARS},/soak/long/*')
        soak.detector.spin_until(
            lambda: LONG_NAME in soak.detector.counters()
            and publishers[LONG_NAME].get_subscription_count(), PATIENCE_S, "a stranger's topic",
        )
        for _ in range(STRANGE_MESSAGES):
            for kind, topic in kinds:
                publishers[topic].publish(_strange(soak, kind, topic))
            soak.detector.spin(0.1)
        soak.await_detections()
        counters = soak.quiet_counters([LONG_NAME])[0]
        soak.ledger.note_unusable(
            LONG_NAME, counters['received'] - counters['dropped'] - counters['skipped']
        )
        soak.set_topics([each.topic for each in soak.cameras], leaving=[LONG_NAME])
    return f'{counters["received"]} of {STRANGE_MESSAGES} empty images reached'


def _strange(soak: Soak, kind: type, topic: str) -> Any:
    """Return an empty message; an image with a stamp, known to the ledger."""
    message = kind()
    if kind is Image and topic == LONG_NAME:
        stamp_ns = time.time_ns()
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, NS_PER_S)
        soak.ledger.note_sent(topic, stamp_ns, usable=False)
    return message


def odd_clocks(soak: Soak, rng: random.Random) -> str:
    """Switch to a clock with impossible times, and back."""
    with _stranger() as node:
        clock = node.create_publisher(Clock, '/clock', QoSProfile(depth=10))
        soak.set_parameter('use_sim_time', True)
        soak.detector.spin_until(clock.get_subscription_count, PATIENCE_S, 'who takes the clock')
        for seconds, nanoseconds in rng.sample(CLOCKS, len(CLOCKS)):
            message = Clock()
            message.clock.sec, message.clock.nanosec = seconds, nanoseconds
            clock.publish(message)
            soak.detector.spin(0.2)
        soak.await_detections()
        soak.set_parameter('use_sim_time', False)
    return f'{len(CLOCKS)} times'


@contextmanager
def _stranger() -> Iterator[Node]:
    """Give a node that is a participant of its own."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = Node('stranger', context=context, enable_rosout=False, start_parameter_services=False)
    try:
        yield node
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)
