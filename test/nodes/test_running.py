"""Start and stop of a node process: a signal at the most awkward moment."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SIGNALLED_WHILE_MADE = """
import os, signal, sys, time
import rclpy
from rclpy.node import Node
from std_msgs.msg import String
from yolov7_trt_ros.nodes.running import run_node

def make_node():
    node = Node('half_made') if {made} else None
    os.kill(os.getpid(), signal.{name})
    end = time.monotonic() + 20
    while rclpy.ok() and time.monotonic() < end:
        time.sleep(0.001)  # rclpy's thread for signals shuts the context down
    node = node or Node('half_made')
    node.create_subscription(String, 'topic', print, 1)
    return node

sys.exit(run_node('half_made', make_node, []))
"""


@pytest.mark.parametrize('name', ['SIGINT', 'SIGTERM'])
@pytest.mark.parametrize('made', [False, True])
def test_a_signal_while_the_node_is_being_made_ends_it_without_a_traceback(name, made):
    ended = subprocess.run(
        [sys.executable, '-c', SIGNALLED_WHILE_MADE.format(name=name, made=made)],
        capture_output=True, text=True, timeout=60, env=os.environ.copy(),
    )
    assert ended.returncode == 0, ended.stderr
    assert 'Traceback' not in ended.stderr, ended.stderr


def test_an_error_of_ros_while_the_node_is_being_made_is_not_hidden():
    code = (
        'import rclpy\nfrom rclpy.node import Node\n'
        'from yolov7_trt_ros.nodes.running import run_node\n'
        "run_node('wrong', lambda: Node('made').create_client(int, 'service'), [])\n"
    )
    ended = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, timeout=60,
    )
    assert ended.returncode == 1 and 'Traceback' in ended.stderr
