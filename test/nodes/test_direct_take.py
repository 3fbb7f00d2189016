"""Taking below rclpy: where fields lie, who holds the memory, and what is tried at configure."""

from __future__ import annotations

import array
from collections.abc import Iterator
import ctypes
import gc
from typing import Any
import weakref

from fake_engine import FakeEngine
import numpy as np
import pytest
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from ros_probe import Probe
from sensor_msgs.msg import CompressedImage, Image

from yolov7_trt_ros.core.messages.serialized_image import read_compressed_image, read_image
from yolov7_trt_ros.core.stable_memory import StableMemory
from yolov7_trt_ros.errors import ReceiveError
from yolov7_trt_ros.nodes.below_rclpy import direct_take, message_layout, rcl_library
from yolov7_trt_ros.nodes.below_rclpy.cpp_messages import (
    ImageMessage,
    ImageMessageKind,
    MessagePool,
)
from yolov7_trt_ros.nodes.below_rclpy.direct_take import choose_receive, DirectTake, open_direct
from yolov7_trt_ros.nodes.below_rclpy.rcl_library import OK, TakeInfo
from yolov7_trt_ros.testing import FakeDetector


@pytest.fixture(scope='module')
def node(probe: Probe) -> Iterator[Node]:
    node = Node('taker', context=probe.node.context)
    yield node
    node.destroy_node()


@pytest.fixture(scope='module')
def direct(node: Node) -> DirectTake:
    return open_direct(node)


class Wire:
    """A topic from a publisher to a subscription, both of this process."""

    def __init__(self, probe: Probe, node: Node, direct: DirectTake, kind: Any = Image) -> None:
        self._probe, self._direct = probe, direct
        topic = f'/wire/{kind.__name__.lower()}'
        transport = 'raw' if kind is Image else 'compressed'
        self.publisher = node.create_publisher(kind, topic, QoSProfile(depth=5))
        self.subscription = node.create_subscription(
            direct.types[transport], topic, direct_take.leave_alone, QoSProfile(depth=5),
            callback_group=direct_take.TakenElsewhere(),
        )
        probe.wait_until(self.publisher.get_subscription_count, 'itself')
        self.pool = MessagePool(direct.kinds[transport])

    def send(self, message: Any) -> ImageMessage:
        """Send a message, or bytes, and return what is taken."""
        self.publisher.publish(message)
        taken = self.pool.free_message()
        self.take_into(taken)
        return taken

    def take_into(self, message: ImageMessage) -> None:
        """Take what was sent."""
        handle, info = self.subscription.handle, TakeInfo()

        def take() -> bool:
            with handle:
                return self._direct.rcl.take(handle.pointer, message.address, info) == OK

        self._probe.wait_until(take, 'a message')


@pytest.fixture
def wire(probe: Probe, node: Node, direct: DirectTake) -> Iterator[Wire]:
    wire = Wire(probe, node, direct)
    yield wire
    node.destroy_subscription(wire.subscription)
    node.destroy_publisher(wire.publisher)


def image(value: int, size: int = 300_000) -> Image:
    message = Image(height=1, width=size, encoding='mono8', step=size)
    message.header.frame_id = 'camera'
    message.data = array.array('B', bytes([value]) * size)
    return message


@pytest.mark.parametrize('sent', [
    image(3), Image(), Image(encoding='\u00e4' * 40, is_bigendian=1, data=array.array('B', b'x')),
], ids=['picture', 'empty', 'texts'])
def test_fields_are_those_of_the_serialised_message(wire, sent):
    expected, found = read_image(bytes(serialize_message(sent))), wire.send(sent).lease().read()
    assert found == expected
    assert found.data.readonly and bytes(found.data) == bytes(sent.data)


def test_a_compressed_image_is_read_too(probe, node, direct):
    wire = Wire(probe, node, direct, CompressedImage)
    sent = CompressedImage(format='jpeg', data=array.array('B', b'\xff\xd8 and more'))
    taken = wire.send(sent).lease()
    assert taken.read() == read_compressed_image(bytes(serialize_message(sent)))
    assert taken.size_bytes == len('jpeg') + len(sent.data)
    node.destroy_subscription(wire.subscription)
    node.destroy_publisher(wire.publisher)


def test_a_message_is_reused_and_not_while_somebody_holds_its_pixels(wire):
    first = wire.send(image(1))
    address = first.address
    assert wire.send(image(2)).address == address  # nobody held it
    pixels = np.frombuffer(first.lease().read().data, np.uint8)[10:20]
    del first
    second = wire.send(image(3))
    assert second.address != address
    assert (pixels == 2).all() and bytes(second.lease().read().data[:2]) == b'\3\3'
    del pixels, second
    assert wire.send(image(4)).address == address


def test_pixels_outlive_the_pool(wire):
    message = wire.send(image(7))
    gone = weakref.ref(message)
    pixels = np.frombuffer(message.lease().read().data, np.uint8)
    wire.pool.discard(message)
    del message
    gc.collect()
    assert gone() is not None and (pixels == 7).all()
    del pixels
    assert gone() is None  # and with it the memory in C


def test_pixels_lie_at_the_same_place_until_a_larger_image_comes(wire):
    def place(sent: Image) -> StableMemory:
        found = wire.send(sent).lease().read()
        address = np.frombuffer(found.data, np.uint8).ctypes.data
        assert found.memory.holds(address, len(found.data))
        assert bytes(found.data) == bytes(sent.data)
        return found.memory

    first, given_up = place(image(1, 200_000)), []
    assert first.on_release(lambda: given_up.append(1))
    assert place(image(2, 200_000)) is first and place(image(3, 70)) is first
    assert not given_up
    second = place(image(4, 400_000))
    assert given_up == [1] and second is not first and second.size_bytes >= 400_000
    assert not first.on_release(given_up.clear), 'it is given up'
    assert place(image(5, 200_000)) is second


def test_a_block_that_moved_in_a_take_that_failed_is_given_up(wire):
    message = wire.send(image(1, 100_000))
    memory, given_up = message.lease().read().memory, []
    memory.on_release(lambda: given_up.append(1))
    message.find_block()
    assert not given_up
    wire.publisher.publish(image(2, 300_000))
    wire.take_into(message)  # as if nobody looked at its result
    message.find_block()
    assert given_up == [1]


def test_the_block_is_given_up_before_its_memory_is_freed(wire):
    message, seen = wire.send(image(9, 100_000)), []
    memory = message.lease().read().memory
    octets = (ctypes.c_ubyte * 100_000).from_address(memory.address)
    memory.on_release(lambda: seen.append(bytes(octets)))
    wire.pool.discard(message)
    assert not seen
    del message
    assert seen == [bytes([9]) * 100_000]


def test_a_message_that_was_much_larger_before_has_too_much_room(wire):
    large = 20_000_000
    wire.send(image(1, large))
    assert not wire.send(image(2, large // 3)).lease().has_too_much_room
    assert wire.send(image(3, large // 8)).lease().has_too_much_room
    assert wire.send(image(4, large)).lease().has_too_much_room is False


@pytest.mark.parametrize(('name', 'by'), [('encoding', 8), ('data', -8)])
def test_another_library_of_cpp_is_an_error_and_no_segmentation_fault(monkeypatch, name, by):
    layout = message_layout.read_layout('sensor_msgs', 'Image')
    moved = layout._replace(offsets=layout.offsets | {name: layout.offsets[name] + by})
    monkeypatch.setattr(
        'yolov7_trt_ros.nodes.below_rclpy.cpp_messages.read_layout', lambda *_: moved)
    with pytest.raises(ReceiveError, match='in C.. has .* bytes, which is unknown'):
        ImageMessageKind('Image')


def test_what_is_not_loaded_or_lacks_a_function_is_an_error():
    with pytest.raises(ReceiveError, match='libno_such_thing.so is not loaded'):
        rcl_library.open_library('libno_such_thing.so', loaded=True)
    with pytest.raises(ReceiveError, match='has no rcl_no_such_thing'):
        rcl_library.find_function(rcl_library.open_library('librcl.so'), 'rcl_no_such_thing')
    with pytest.raises(ReceiveError, match='has no .*NoSuchMessage'):
        message_layout.read_layout('sensor_msgs', 'NoSuchMessage')


def test_another_layout_of_introspection_is_an_error_and_no_segmentation_fault():
    """Memory with lengths, numbers and wild pointers where the typesupport's structs should be."""
    library = rcl_library.open_library('librcl.so')
    function = ctypes.cast(rcl_library.find_function(library, 'rcl_take'), ctypes.c_void_p).value
    for place in range(8):
        for wild in (0, 1, 2**40 + 7, 2**64 - 8, function):
            words = (ctypes.c_uint64 * 16)(*range(1, 17))
            words[place] = wild
            with pytest.raises(ReceiveError):
                message_layout._each_member(ctypes.addressof(words))
    with pytest.raises(ReceiveError):
        message_layout._members_of(ctypes.addressof(words))


def test_auto_falls_back_and_says_why_where_direct_fails(node, monkeypatch):
    def no_library(name: str, *, loaded: bool = False) -> Any:
        raise ReceiveError(f'{name} is not loaded')

    assert choose_receive(node, 'rclpy') == (None, 'rclpy')
    monkeypatch.setattr(rcl_library, 'open_library', no_library)
    assert choose_receive(node, 'auto') == (None, 'rclpy: librcl.so is not loaded')
    with pytest.raises(ReceiveError, match='direct is not possible here: librcl.so is not loaded'):
        choose_receive(node, 'direct')


def test_the_message_to_itself_finds_a_field_at_another_place(node, monkeypatch):
    read_layout = message_layout.read_layout

    def swapped(package: str, name: str) -> Any:
        layout = read_layout(package, name)
        if name == 'Image':
            offsets = layout.offsets
            offsets['height'], offsets['width'] = offsets['width'], offsets['height']
        return layout

    monkeypatch.setattr('yolov7_trt_ros.nodes.below_rclpy.cpp_messages.read_layout', swapped)
    with pytest.raises(ReceiveError, match='was read as .*expected'):
        open_direct(node)


@pytest.mark.parametrize(('change', 'reason'), [
    ({'sequence': 2**64 - 1}, 'numbers no messages'),
    ({'sequence': 5}, 'are numbered 5, 5'),
    ({'received_ns': 0}, 'are stamped 0'),
], ids=['no numbers', 'always the same', 'no time'])
def test_the_message_to_itself_finds_a_middleware_that_does_not_count(
    node, monkeypatch, change, reason
):
    read = TakeInfo.read
    monkeypatch.setattr(TakeInfo, 'read', lambda info: read(info)._replace(**change))
    with pytest.raises(ReceiveError, match=reason):
        open_direct(node)


def test_a_message_to_itself_that_does_not_come_is_not_waited_for_long(node, monkeypatch):
    monkeypatch.setattr(direct_take.RclLibrary, 'take', lambda *_: rcl_library.TAKE_FAILED)
    with pytest.raises(ReceiveError, match='did not arrive'):
        open_direct(node, patience_s=0.1)


def test_the_node_tells_why_it_does_not_receive_directly(probe: Probe, monkeypatch):
    def no_library(name: str, *, loaded: bool = False) -> Any:
        raise ReceiveError(f'{name} is not loaded')

    monkeypatch.setattr(rcl_library, 'open_library', no_library)
    engine = FakeEngine(FakeDetector())
    with probe.host(engine.seam, image_topics='/told/image_raw', receive='direct'):
        assert not probe.change_state('configure')
        probe.wait_until(
            lambda: 'receive: direct is not possible here: librcl.so' in probe.summary()[0],
            'the reason',
        )
        assert probe.set_parameter('receive', 'auto') == ''
        assert probe.change_state('configure')
        probe.forget_diagnostics()
        told = probe.wait_until(lambda: probe.values().get('receive'), 'how it receives')
        assert told == 'rclpy: librcl.so is not loaded'


def test_nothing_is_left_in_the_graph(node):
    open_direct(node)
    names = [name for name, _ in node.get_topic_names_and_types()]
    assert not any(direct_take.CHECK_NAME in name for name in names)
