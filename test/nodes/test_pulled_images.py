"""Images that the worker takes itself: the newest of each topic, each one counted, no dead end."""

from __future__ import annotations

import array
from collections.abc import Callable, Iterator
import threading
from typing import Any

import pytest
import rclpy
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_probe import Probe
from sensor_msgs.msg import Image

from yolov7_trt_ros.core.units import NS_PER_MS
from yolov7_trt_ros.nodes.below_rclpy.cpp_messages import TakenMessage
from yolov7_trt_ros.nodes.below_rclpy.direct_take import DirectTake, open_direct
from yolov7_trt_ros.nodes.below_rclpy.rcl_library import OK, RclLibrary, TAKE_FAILED
from yolov7_trt_ros.nodes.images.image_stream import ImageStream, ReceivedFrame, StreamLimits
from yolov7_trt_ros.nodes.images.pulled_images import PulledImages
from yolov7_trt_ros.nodes.images.topic_plan import plan_streams, wanted_topics

LONG_S = 600


class Cameras:
    """Streams of a node that pulls, and cameras in the same process that publish to them."""

    def __init__(self, probe: Probe, node: LifecycleNode, direct: DirectTake, topics: str) -> None:
        self._probe, self._node = probe, node
        self.errors: list[str] = []
        self.images = PulledImages(node, direct)
        self.streams, self.cameras = {}, {}
        for names in plan_streams(node, wanted_topics(node, topics, '')).streams:
            stream = ImageStream(
                node, names, image_transport='auto', image_qos='auto', on_error=self.errors.append
            )
            camera = node.create_publisher(
                Image, stream.topic, QoSProfile(depth=9, reliability=ReliabilityPolicy.BEST_EFFORT)
            )
            stream.subscribe(self.images)
            probe.wait_until(camera.get_subscription_count, 'the stream')
            self.streams[stream.topic], self.cameras[stream.topic] = stream, camera

    def send(self, topic: str, *values: int) -> None:
        """Publish images, told by their first pixel, and see that the last one waits."""
        for value in values:
            message = Image(height=1, width=2, encoding='mono8', step=2)
            message.data = array.array('B', [value, 0])
            self.cameras[topic].publish(message)
        self.arrived(topic)

    def arrived(self, topic: str) -> None:
        self._probe.wait_until(lambda: self.images.waits(topic), 'a message that waits')

    def take(self, most: int = 1, wait_ms: int = 0) -> list[tuple[str, int]]:
        """Take frames and return their topics and values; they count as processed."""
        taken = self.images.take(most, wait_ms * NS_PER_MS)
        return [(topic, self.process(frame)) for topic, frame in taken]

    def process(self, frame: ReceivedFrame) -> int:
        frame.stream.statistics.add_processed([])
        return frame.message.read().data[0]

    def counts(self, topic: str) -> dict[str, int]:
        return {k: v for k, v in vars(self.streams[topic].statistics.counts()).items() if v}

    def close(self) -> None:
        self.images.close()
        for stream in self.streams.values():
            stream.destroy()
        for camera in self.cameras.values():
            self._node.destroy_publisher(camera)


@pytest.fixture(scope='module')
def node(probe: Probe) -> Iterator[LifecycleNode]:
    node = LifecycleNode('puller', context=probe.node.context)
    yield node
    node.destroy_node()


@pytest.fixture(scope='module')
def direct(node: LifecycleNode) -> DirectTake:
    return open_direct(node)


@pytest.fixture
def cameras(probe: Probe, node, direct) -> Iterator[Cameras]:
    cameras = Cameras(probe, node, direct, '/a/raw,/b/raw,/c/raw')
    yield cameras
    cameras.close()


def in_thread(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Begin some work in a thread; what it returns comes into the list."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()
    return thread, results


def wait_for(thread: threading.Thread) -> None:
    thread.join(LONG_S)
    assert not thread.is_alive()


def test_the_newest_is_taken_and_what_it_replaced_is_counted(cameras):
    cameras.send('/a/raw', 1)
    assert cameras.take() == [('/a/raw', 1)]
    cameras.send('/a/raw', 2, 3, 4, 5)
    assert cameras.streams['/a/raw'].counts().received == 2  # that something waits is known
    assert cameras.take() == [('/a/raw', 5)]
    assert cameras.counts('/a/raw') == {'received': 5, 'processed': 2, 'dropped': 3}
    cameras.send('/a/raw', 6, 7)
    cameras.streams['/a/raw'].close()
    assert cameras.counts('/a/raw') == {'received': 7, 'processed': 2, 'dropped': 5}


def test_it_tells_whether_a_frame_waits_without_taking_it(cameras):
    assert not cameras.images.has_waiting()
    cameras.send('/a/raw', 1)
    assert cameras.images.has_waiting() and cameras.images.has_waiting()
    assert cameras.take() == [('/a/raw', 1)]
    assert not cameras.images.has_waiting()


def test_the_topic_that_was_served_longest_ago_comes_first(cameras):
    order = []
    for value in range(9):
        for topic in ('/b/raw', '/a/raw', '/c/raw'):
            if value < 6 or topic == '/a/raw':  # a fast camera goes on
                cameras.send(topic, value)
        order += [topic for topic, _ in cameras.take()]
    assert sorted(order[:3]) == ['/a/raw', '/b/raw', '/c/raw']
    assert order[3:6] == order[:3]  # the one that was served last waits for the others


def test_a_batch_has_one_frame_of_each_topic(cameras):
    for value, topic in enumerate(cameras.streams):
        cameras.send(topic, value, 10 + value)
    assert sorted(cameras.take(most=2) + cameras.take(most=2)) == [
        ('/a/raw', 10), ('/b/raw', 11), ('/c/raw', 12),
    ]


def test_a_batch_waits_for_a_topic_that_is_due_and_for_no_other(probe: Probe, cameras):
    for value in range(3):  # a and b have a period, c is dead
        for topic in ('/a/raw', '/b/raw'):
            cameras.send(topic, value)
            assert cameras.take() == [(topic, value)]
    period_ns = 10**12
    for topic in ('/a/raw', '/b/raw'):
        cameras.images._topics[topic].arrivals.gap_ns = period_ns
    cameras.send('/a/raw', 7)
    thread, taken = in_thread(lambda: cameras.take(most=3, wait_ms=2 * period_ns // NS_PER_MS))
    probe.wait_until(lambda: cameras.images._waiting.is_waiting, 'the worker to wait')
    cameras.cameras['/b/raw'].publish(Image(height=1, width=1, step=1, data=array.array('B', [8])))
    probe.wait_until(lambda: len(cameras.images._topics) == 3, 'three topics')
    cameras.cameras['/c/raw'].publish(Image(height=1, width=1, step=1, data=array.array('B', [9])))
    wait_for(thread)
    assert sorted(taken[0]) in (
        [('/a/raw', 7), ('/b/raw', 8)], [('/a/raw', 7), ('/b/raw', 8), ('/c/raw', 9)],
    )


def test_a_message_that_is_not_readable_is_failed_and_named(probe, cameras):
    cameras.send('/a/raw', 1)
    cameras.take()
    camera = cameras.cameras['/a/raw']
    camera.publish(b'\0\1\0\0' + b'\xff' * 40)
    cameras.arrived('/a/raw')
    thread, taken = in_thread(cameras.take)
    probe.wait_until(lambda: cameras.errors, 'the error')
    cameras.cameras['/a/raw'].publish(
        Image(height=1, width=1, step=1, data=array.array('B', [2]))
    )
    wait_for(thread)
    assert taken == [[('/a/raw', 2)]]
    assert cameras.counts('/a/raw') == {'received': 3, 'processed': 2, 'failed': 1}
    assert cameras.errors[0].startswith('/a/raw: truncated or damaged image message: ')


def test_what_is_gone_before_it_can_be_taken_is_told_by_the_numbers(cameras, monkeypatch):
    topic, take = cameras.images._topics['/a/raw'], RclLibrary.take
    cameras.send('/a/raw', 1)
    cameras.take()
    cameras.send('/a/raw', 2)
    with monkeypatch.context() as patch:  # as where a later one has to wait for one before it
        patch.setattr(RclLibrary, 'take', lambda *each: take(*each) or TAKE_FAILED)
        assert topic.take() is None
    cameras.send('/a/raw', 3)
    assert cameras.take() == [('/a/raw', 3)] and cameras.errors == []
    assert cameras.counts('/a/raw') == {'received': 3, 'processed': 2, 'dropped': 1}


def test_max_message_bytes_and_the_memory_of_what_was_larger(cameras):
    stream = cameras.streams['/a/raw']
    stream.limits = StreamLimits(max_message_bytes=1000)
    large = Image(encoding='mono8', data=array.array('B', bytes(5000)))
    cameras.cameras['/a/raw'].publish(large)
    cameras.arrived('/a/raw')
    assert cameras.images._topics['/a/raw'].take() is None
    assert cameras.counts('/a/raw') == {'received': 1, 'failed': 1}
    assert 'a message of 5005 bytes, the limit max_message_bytes is 1000' in cameras.errors[0]
    assert not cameras.images._topics['/a/raw']._pool._messages


def test_the_rate_is_kept_and_what_it_passes_over_is_skipped(probe, cameras):
    stream = cameras.streams['/a/raw']
    stream.limits = StreamLimits(max_rate_hz=1e-3)  # one, and then none for long
    for value in (0, 1):  # the schedule of the rate begins with the first
        cameras.send('/a/raw', value)
        assert cameras.take() == [('/a/raw', value)]
    thread, taken = in_thread(cameras.take)
    for value in (2, 3, 4):
        cameras.cameras['/a/raw'].publish(Image(data=array.array('B', [value])))
    probe.wait_until(lambda: cameras.counts('/a/raw').get('skipped') == 3, 'what is passed over')
    stream.limits = StreamLimits()
    cameras.cameras['/a/raw'].publish(Image(data=array.array('B', [5])))
    wait_for(thread)
    assert taken == [[('/a/raw', 5)]]
    assert cameras.counts('/a/raw') == {'received': 6, 'processed': 3, 'skipped': 3}


def test_a_late_worker_drops_what_the_rate_would_have_let_through(cameras):
    stream = cameras.streams['/a/raw']
    cameras.send('/a/raw', 1)
    cameras.take()
    stream.limits = StreamLimits(max_rate_hz=1e6)
    cameras.send('/a/raw', 2, 3, 4)
    assert cameras.take() == [('/a/raw', 4)]
    assert cameras.counts('/a/raw') == {'received': 4, 'processed': 2, 'dropped': 2}


def test_what_the_middleware_reports_as_lost_is_not_received(cameras, monkeypatch):
    cameras.send('/a/raw', 1)
    cameras.take()
    topic = cameras.images._topics['/a/raw']
    monkeypatch.setattr(topic._lost, 'since_before', lambda: 2)
    cameras.send('/a/raw', 2, 3, 4, 5)  # three are missing, two of them lost on the way
    cameras.take()
    assert cameras.counts('/a/raw') == {'received': 3, 'processed': 2, 'dropped': 1, 'lost': 2}


def test_no_event_wakes_the_executor_and_a_mismatch_is_found_by_asking(probe, node, direct):
    errors: list[str] = []
    images = PulledImages(node, direct)
    (names,) = plan_streams(node, wanted_topics(node, '/strict/raw', '')).streams
    stream = ImageStream(
        node, names, image_transport='raw', image_qos='reliable', on_error=errors.append
    )
    stream.subscribe(images)
    assert images._topics['/strict/raw'].subscription.event_handlers == []
    assert not images.has_mismatched('/strict/raw') and not images.has_mismatched('/other')
    camera = node.create_publisher(
        Image, '/strict/raw', QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    )
    probe.wait_until(lambda: images.has_mismatched('/strict/raw'), 'the mismatch')
    assert not images.has_mismatched('/strict/raw')  # each is told once
    stream.destroy()
    node.destroy_publisher(camera)


def test_an_event_does_not_wake_a_waiting_worker_again_and_again(
    probe, node, direct, monkeypatch
):
    images = PulledImages(node, direct)
    (names,) = plan_streams(node, wanted_topics(node, '/strict/raw', '')).streams
    stream = ImageStream(
        node, names, image_transport='raw', image_qos='reliable', on_error=print
    )
    stream.subscribe(images)
    waits: list[int] = []
    wait = images._waiting.wait
    monkeypatch.setattr(
        images._waiting, 'wait', lambda *given: waits.append(given[1]) or wait(*given)
    )
    thread, _ = in_thread(images.take)
    camera = node.create_publisher(
        Image, '/strict/raw', QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    )
    probe.wait_until(lambda: len(waits) > 1, 'the mismatch')
    probe.spin(0.3)
    assert len(waits) < 10
    assert images.has_mismatched('/strict/raw')
    images.close()
    wait_for(thread)
    stream.destroy()
    node.destroy_publisher(camera)


def test_a_waiting_worker_is_woken_for_good(probe, cameras):
    thread, taken = in_thread(cameras.take)
    probe.wait_until(lambda: cameras.images._waiting.is_waiting, 'the worker to wait')
    cameras.images.close()
    wait_for(thread)
    assert taken == [[]]


def test_topics_come_and_go_under_a_waiting_worker(probe, cameras):
    thread, taken = in_thread(cameras.take)
    stream = cameras.streams['/a/raw']
    for _ in range(20):
        probe.wait_until(lambda: cameras.images._waiting.is_waiting, 'the worker to wait')
        stream.close()  # its handle is in the wait set
        stream.subscribe(cameras.images)
    probe.wait_until(cameras.cameras['/a/raw'].get_subscription_count, 'the stream')
    cameras.cameras['/a/raw'].publish(Image(data=array.array('B', [9])))
    wait_for(thread)
    assert taken == [[('/a/raw', 9)]]


def test_a_topic_that_is_closed_gives_nothing_more(cameras):
    cameras.send('/a/raw', 1)
    topic = cameras.images._topics['/a/raw']
    cameras.streams['/a/raw'].close()
    assert topic.take() is None
    topic.close()  # twice is harmless
    assert cameras.counts('/a/raw') == {'received': 1, 'dropped': 1}
    assert not cameras.images.waits('/a/raw')


def test_a_publisher_that_is_faster_than_closing_does_not_keep_it_going(cameras, monkeypatch):
    cameras.send('/a/raw', 1)
    taken = []
    real = RclLibrary.take

    def another_has_come(rcl: RclLibrary, *arguments: Any) -> int:
        if not taken:
            assert real(rcl, *arguments) == OK
        taken.append(arguments)
        return OK

    with monkeypatch.context() as patch:
        patch.setattr(RclLibrary, 'take', another_has_come)
        cameras.streams['/a/raw'].close()
    assert cameras.counts('/a/raw') == {'received': len(taken), 'dropped': len(taken)}


def test_a_message_with_too_much_room_is_given_up_and_its_frame_is_not(cameras, monkeypatch):
    topic = cameras.images._topics['/a/raw']
    for too_much, kept in ((False, 1), (True, 0)):
        monkeypatch.setattr(TakenMessage, 'has_too_much_room', too_much)
        cameras.send('/a/raw', 7)
        frame = topic.take()
        assert bytes(frame.message.read().data) == b'\7\0'
        assert len(topic._pool._messages) == kept
        del frame


def test_no_memory_for_a_message_costs_neither_the_message_nor_the_worker(cameras, monkeypatch):
    cameras.send('/a/raw', 1)
    topic = cameras.images._topics['/a/raw']

    def no_memory() -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(topic._pool._kind, 'create', no_memory)
        assert topic.take() is None
    assert 'MemoryError' in cameras.errors[0] and topic.look_ns() > 0
    assert topic.take() is not None
    assert cameras.counts('/a/raw') == {'received': 1}


def test_an_event_that_cannot_be_taken_ends_no_worker(cameras, monkeypatch):
    topic = cameras.images._topics['/a/raw']

    def fails() -> None:
        raise RuntimeError('no event')

    with monkeypatch.context() as patch:
        patch.setattr(topic._lost, 'take', fails)
        topic.take_events()
    assert 'no event' in cameras.errors[0] and topic.look_ns() > 0


def test_an_error_of_rcl_is_counted_once_and_the_next_message_taken(cameras, monkeypatch):
    cameras.send('/a/raw', 1)
    topic = cameras.images._topics['/a/raw']
    with monkeypatch.context() as patch:
        patch.setattr(RclLibrary, 'take', lambda *_: 1)
        assert topic.take() is None
    assert cameras.counts('/a/raw') == {'received': 1, 'failed': 1}
    assert topic.take() is not None


def test_a_context_that_is_shut_down_ends_the_worker(direct):
    context = rclpy.Context()
    rclpy.init(context=context)
    node = LifecycleNode('doomed', context=context)
    images = PulledImages(node, direct)
    thread, taken = in_thread(images.take)
    rclpy.shutdown(context=context)
    images.close()
    wait_for(thread)
    assert taken == [[]] and images.take() == []
    node.destroy_node()
