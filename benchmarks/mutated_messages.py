"""
Send the detector node messages and requests with changed bytes, and check that it survives.

    python benchmarks/mutated_messages.py --messages 100000 --requests 5000 --seed 1

The node is a process of its own. Serialised Image and CompressedImage messages of which bytes were
changed, cut out, repeated or cut off are published as they are; between them requests to set
parameters of odd names, types and values. After each thousand a good image must be detected in.
Checked at the end: the process lives, its log has no traceback, every message that it received is
processed, failed, dropped or skipped, also those of topics that a request took away, and memory,
threads and descriptors have not grown. Memory may step up for the largest image seen so far, whose
buffers are kept; what it gains between such steps is the measure. Exit status 1 otherwise.

"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import os
from pathlib import Path
import random
import sys
import tempfile
import time
from typing import Any

from measured_on import save
import numpy as np
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image
from soak_parts.cameras import JPEG, make_messages
from soak_parts.detector import Detector, Meter, stamp_ns, Stuck
from soak_parts.ledger import Ledger, OUTCOMES

SIZE_WH = (160, 120)
TOPICS = {'/hostile/raw': Image, '/hostile/jpeg/compressed': CompressedImage}
GOOD_EVERY = 1000
AT_ONCE = 5
"""Messages before the node is given time: no deeper than its queue, so that most are taken."""

RECOVER_S = 30.0
STEP_MIB = 4.0
MOST_STEPS = 5
GROWTH_MIB = 8.0
ODD_TEXTS = ('', '/', '//', '/a/*', '/**', '~', 'a b', '/diagnostics', '\x1b[2J', '\u202e',
             'x' * 3000, '/hostile/raw', '../..', '{}', '/a/' + 'b' * 300)
KNOWN = ('image_topics', 'detections_topics', 'model', 'classes', 'score_threshold', 'max_rate_hz',
         'max_batch', 'iou_threshold', 'class_id_format', 'publish_overlay', 'use_sim_time')


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Return bytes of which a few were changed; the encapsulation header stays."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(4, max(5, min(len(changed), 200)))
        kind = chance.randrange(5)
        if kind == 0:
            changed[at:at + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            changed[at:at + 4] = chance.choice((b'\xff\xff\xff\xff', b'\0\0\0\x80', b'\0\0\0\0'))
        elif kind == 2:
            del changed[at:at + chance.randrange(1, 40)]
        elif kind == 3:
            changed[at:at] = changed[at:at + chance.randrange(1, 40)]
        else:
            del changed[max(5, chance.randrange(len(changed))):]
    return bytes(changed)


def odd_parameter(chance: random.Random) -> Parameter:
    """Return a parameter that nobody would set."""
    name = chance.choice((*KNOWN, *ODD_TEXTS))
    text = chance.choice(ODD_TEXTS)
    number = chance.choice((0, -1, 2**62, -2**63))
    real = chance.choice((0.5, float('nan'), float('inf'), -1e300))
    return Parameter(name=name, value=ParameterValue(
        type=chance.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 99, 200, 255)),
        bool_value=chance.random() < 0.5, integer_value=number, double_value=real,
        string_value=text, byte_array_value=[b'\xff'], bool_array_value=[True],
        integer_array_value=[number], double_array_value=[real], string_array_value=[text, ''],
    ))


class _Nobody(Ledger):
    """A ledger that counts nothing: detections of rubbish that is an image are right."""

    def note_detections(self, topic: str, stamp_ns: int) -> None:
        """Pass over it."""


class Campaign:
    """The node, somebody who sends it rubbish, and what came of it."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self._args, self._chance = args, random.Random(args.seed)
        self.sent = self.refused = self.succeeded = self.good = 0
        self.slowest_recovery_s = 0.0
        self.memory_mib: list[float] = []
        self.detector = Detector(
            folder,
            {'autostart': True, 'image_topics': ','.join(TOPICS), 'network_size': 160,
             'threads': 1, 'backend': 'onnx'},
            _Nobody(), lambda: None,
        )
        self.meter = Meter(self.detector.process.pid)
        for topic in TOPICS:
            self.detector.listen(topic, _output(topic), overlay=False)
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node('hostile', context=self._context)
        quality = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
        self._publishers = {
            topic: self._node.create_publisher(kind, topic, quality)
            for topic, kind in TOPICS.items()
        }
        self._good = {
            '/hostile/raw': make_messages(SIZE_WH, 'bgr8'),
            '/hostile/jpeg/compressed': make_messages(SIZE_WH, JPEG),
        }

    def run(self) -> dict[str, Any]:
        """Send everything; return the record."""
        detector = self.detector
        detector.wait_until_up(60.0)
        detector.spin_until(
            lambda: all(p.get_subscription_count() for p in self._publishers.values()), 60.0,
            'the subscriptions',
        )
        self._send_good()
        before, started = self.meter.read(), time.monotonic()
        per_request = max(1, self._args.messages // max(1, self._args.requests))
        for number, (topic, data) in enumerate(self._rubbish()):
            self._publishers[topic].publish(data)
            self.sent += 1
            if number % AT_ONCE == AT_ONCE - 1:
                detector.spin(0.002)
            if number % per_request == 0:
                self._request()
            if number % GOOD_EVERY == GOOD_EVERY - 1:
                self._send_good()
                self.memory_mib.append(self.meter.read()['rss_mib'])
        self._send_good()
        return {
            'seconds': round(time.monotonic() - started, 1), 'sent': self.sent,
            'requests': {'refused': self.refused, 'succeeded': self.succeeded},
            'good_images': self.good, 'slowest_recovery_s': round(self.slowest_recovery_s, 3),
            'slowest_answer_s': round(detector.slowest_answer_s, 3),
            'before': before, 'after': self.meter.read(), 'memory_mib': self.memory_mib,
            'counters': self._settled_counters(), 'removed_topics': self.detector.removed(),
        }

    def _rubbish(self) -> Iterator[tuple[str, bytes]]:
        sources = [
            (topic, [bytes(serialize_message(each)) for each in messages])
            for topic, messages in self._good.items()
        ]
        for _ in range(self._args.messages):
            topic, messages = self._chance.choice(sources)
            yield topic, mutated(self._chance.choice(messages), self._chance)

    def _request(self) -> None:
        request = SetParameters.Request(
            parameters=[odd_parameter(self._chance) for _ in range(self._chance.randint(0, 3))]
        )
        answer = self.detector.ask('set_parameters', request)
        done = [result.successful for result in answer.results]
        self.succeeded += sum(done)
        self.refused += len(done) - sum(done)
        if any(done):
            self._undo()

    def _undo(self) -> None:
        """Set back what a request that succeeded may have turned off."""
        for name, value in (
            ('image_topics', ','.join(TOPICS)), ('detections_topics', ''), ('classes', ''),
            ('score_threshold', 0.25), ('max_rate_hz', 0.0), ('use_sim_time', False),
        ):
            self.detector.set_parameter(name, value)

    def _send_good(self) -> None:
        """Send good images until each topic has detections of one of them."""
        for topic, messages in self._good.items():
            started = time.monotonic()
            stamps: set[int] = set()

            def answered(
                topic: str = topic, messages: list[Any] = messages, stamps: set[int] = stamps
            ) -> bool:
                stamps.add(self._publish(topic, messages[0]))
                self.detector.spin(0.02)
                return self.detector.last_stamp_ns.get(topic, 0) in stamps

            self.detector.spin_until(answered, RECOVER_S, f'detections of {topic}')
            self.slowest_recovery_s = max(self.slowest_recovery_s, time.monotonic() - started)
            self.good += 1

    def _publish(self, topic: str, message: Any) -> int:
        message.header.stamp = self._node.get_clock().now().to_msg()
        data = bytes(serialize_message(message))
        self._publishers[topic].publish(data)
        return stamp_ns(data)

    def _settled_counters(self) -> dict[str, dict[str, int]]:
        """Return the counters once nothing is under way."""
        def exact() -> bool:
            removed = self.detector.removed()
            return all(
                each['received'] == sum(each[name] for name in OUTCOMES)
                for each in (*self.detector.counters().values(), *([removed] if removed else []))
            )

        since_ns = time.monotonic_ns()
        self.detector.spin_until(
            lambda: self.detector.statuses_ns > since_ns + 1_500_000_000 and exact(), 60.0,
            'counters that add up',
        )
        return self.detector.counters()

    def close(self) -> list[str]:
        """End everything; return what was wrong."""
        wrong = self.detector.stop()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)
        return wrong


def _growth(memory_mib: list[float]) -> list[str]:
    """Return what is wrong with the memory over time."""
    gains = np.diff(memory_mib)
    steps = gains[gains >= STEP_MIB]
    between = float(gains[gains < STEP_MIB].sum())
    wrong = []
    if len(steps) > MOST_STEPS:
        wrong.append(f'memory stepped up {len(steps)} times')
    if between > GROWTH_MIB:
        wrong.append(f'memory grew by {between:.1f} MiB between steps')
    return wrong


def _output(topic: str) -> str:
    from yolov7_trt_ros.core.topics import detections_topics

    return detections_topics(list(TOPICS))[list(TOPICS).index(topic)]


def main() -> int:
    """Run the campaign; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--messages', type=int, default=100_000)
    parser.add_argument('--requests', type=int, default=5_000)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--json', type=Path, metavar='FILE')
    args = parser.parse_args()
    os.environ.setdefault('ROS_DOMAIN_ID', '77')
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(args, Path(folder))
        violations = []
        record: dict[str, Any] = {}
        try:
            record = campaign.run()
        except Stuck as exc:
            violations.append(str(exc))
        log = campaign.detector.log
        violations += campaign.close()
        if violations:
            print(log.read_text()[-3000:], file=sys.stderr)
    if record:
        violations += _growth([record['before']['rss_mib'], *record['memory_mib']])
        violations += [
            f'{name} grew' for name in ('threads', 'file_descriptors')
            if record['after'][name] > record['before'][name] + 2
        ]
    record |= {'seed': args.seed, 'violations': violations}
    print(record)
    if args.json:
        save(args.json, record)
    return 1 if violations else 0


if __name__ == '__main__':
    np.seterr(all='ignore')
    raise SystemExit(main())
