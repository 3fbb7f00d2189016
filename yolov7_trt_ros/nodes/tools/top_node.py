"""
Show detectors, cameras and power live in a terminal, for `yolov7_trt top`.

    python3 -m yolov7_trt_ros.nodes.tools.top_node --ros-args -p once:=true

Subscribes to /diagnostics, to every topic of vision_msgs/Detection2DArray and to the numbers of
power nodes, when they appear. On a terminal one screen is redrawn; elsewhere snapshots are printed
one after another, with an empty line between.

"""

from __future__ import annotations

from collections.abc import Sequence
import contextlib
import dataclasses
import functools
import io
import math
import os
import sys
import time
from typing import Any, TextIO

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.exceptions import NameValidationException
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import Float32
from vision_msgs.msg import Detection2DArray

from yolov7_trt_ros.core.units import NS_PER_MS, NS_PER_S, stamp_to_ns
from yolov7_trt_ros.nodes.diagnostics import publish_failures
from yolov7_trt_ros.nodes.one_line import describe_error
from yolov7_trt_ros.nodes.parameter_spec import (
    declare_parameters,
    ParameterSpec,
    read_parameters,
    SteadyParameters,
)
from yolov7_trt_ros.nodes.process.node_main import end_process, run_node
from yolov7_trt_ros.nodes.process.own_output import take_stdout
from yolov7_trt_ros.nodes.steady_clock import steady_clock
from yolov7_trt_ros.nodes.topic_names import resolve_topics
from yolov7_trt_ros.report.top_model import FORGOTTEN_S, POWER_NUMBERS, TopModel
from yolov7_trt_ros.report.top_view import ASCII_BLOCKS, BLOCKS, Line, render

NAME = 'top'
ONCE_TIMEOUT_S = 10.0
ONCE_LISTEN_S = 2.5
"""Long enough for two rounds of diagnostics, of which the second has rates."""
NO_MESSAGE = NOT_SHOWN = 1

_DISCOVERY_PERIOD_S = 0.5
_DEFAULT_PERIOD_S = 0.5
_HARDWARE_ID = 'yolov7_trt_ros'
_DETECTIONS, _FLOAT = 'vision_msgs/msg/Detection2DArray', 'std_msgs/msg/Float32'
_LONGEST_LATENCY_NS = 60 * NS_PER_S
_QOS = QoSProfile(depth=20, reliability=ReliabilityPolicy.BEST_EFFORT)
_STYLES = {'title': 'bold', 'head': 'cyan', 'plain': '', 'warn': 'yellow', 'error': 'bold red'}
_PLAIN_WIDTH = 160
_CLEAR = '\x1b[H\x1b[2J'

PARAMETERS = (
    ParameterSpec(
        'detections_topics', '',
        'Topics of vision_msgs/Detection2DArray: a list, or one string with commas. Empty: all.',
        start_only=True,
    ),
    ParameterSpec(
        'period_s', _DEFAULT_PERIOD_S, 'Time between two screens, in seconds.', 0.05, 60.0,
        start_only=True,
    ),
    ParameterSpec(
        'once', False,
        'Show one snapshot and end; exit status 1 if nothing was received.', start_only=True,
    ),
)


@dataclasses.dataclass
class _Heard:
    """A subscription, and when its topic last had a publisher."""

    subscription: Any
    published_s: float


class TopNode(SteadyParameters):
    """
    Collects what is published and shows it.

    `PARAMETERS` are those of the node, fixed at start.

    Parameters
    ----------
    output
        Where to show it.
    timeout_s
        How long `once` waits for the first message.

    """

    forgotten_s = FORGOTTEN_S
    _close = contextlib.ExitStack()  # nothing to end until the constructor has come so far

    def __init__(
        self,
        *,
        output: TextIO = sys.stdout,
        timeout_s: float = ONCE_TIMEOUT_S,
        **node_arguments: Any,
    ) -> None:
        super().__init__(NAME, **node_arguments)
        declare_parameters(self, PARAMETERS)
        values = read_parameters(self, PARAMETERS)
        self._once: bool = values['once']
        self._wanted = resolve_topics(self, 'detections_topics', values['detections_topics'])
        self._timeout_s = timeout_s
        self._model = TopModel()
        self._start_s = time.monotonic()
        self._first_message_s: float | None = None
        self._known: set[str] = set()
        self._heard: dict[str, _Heard] = {}
        self._output = output
        self._screen = make_screen(output, once=self._once)
        self._close = contextlib.ExitStack()
        self._close.callback(self._screen.close)
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, _QOS)
        publish_failures(self)
        self._discover()
        self.create_timer(_DISCOVERY_PERIOD_S, self._discover, clock=steady_clock())
        self.create_timer(
            0.1 if self._once else values['period_s'], self._tick, clock=steady_clock()
        )

    def destroy_node(self) -> None:
        """Restore the terminal and destroy the node."""
        self._close.close()
        super().destroy_node()

    # ---- topics

    def _discover(self) -> None:
        """Subscribe to new topics of the graph, and leave those without a publisher."""
        for name in self._wanted:
            self._subscribe(name.full, Detection2DArray, self._on_detections)
        for topic, types in self.get_topic_names_and_types():
            if _DETECTIONS in types and not self._wanted:
                self._subscribe(topic, Detection2DArray, self._on_detections)
            elif _FLOAT in types and topic.rpartition('/')[2] in POWER_NUMBERS:
                self._subscribe(topic, Float32, self._on_number)
        self._leave_gone()

    def _leave_gone(self) -> None:
        """
        End subscriptions to topics that have had no publisher for a minute.

        A subscription keeps the topic in the graph, where this node would find it again.

        """
        now_s = time.monotonic()
        wanted = {name.full for name in self._wanted}
        for topic, heard in list(self._heard.items()):
            if topic in wanted or self.count_publishers(topic):
                heard.published_s = now_s
            elif now_s - heard.published_s > self.forgotten_s:
                self.destroy_subscription(heard.subscription)
                del self._heard[topic]
                self._known.discard(topic)
                self._model.forget_topic(topic)

    def _subscribe(self, topic: str, kind: Any, receive: Any) -> None:
        if topic in self._known:
            return
        self._known.add(topic)
        try:
            subscription = self.create_subscription(
                kind, topic, functools.partial(receive, topic), _QOS
            )
        except (RuntimeError, ValueError, NameValidationException) as exc:  # as rclpy does
            self.get_logger().warning(f'{topic} is not shown: {describe_error(exc)}')
            return
        self._heard[topic] = _Heard(subscription, time.monotonic())
        if kind is Detection2DArray:
            self._model.add_topic(topic)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.hardware_id == _HARDWARE_ID:
                self._note_message()
                values = {pair.key: pair.value for pair in status.values}
                level = status.level[0] if isinstance(status.level, bytes) else int(status.level)
                self._model.add_status(
                    time.monotonic_ns(), status.name, level, status.message, values
                )

    def _on_detections(self, topic: str, message: Detection2DArray) -> None:
        self._note_message()
        names = [
            max(each.results, key=lambda result: result.hypothesis.score).hypothesis.class_id
            for each in message.detections if each.results
        ]
        latency_ms = self._latency_ms(stamp_to_ns(message.header.stamp))
        self._model.add_detections(time.monotonic_ns(), topic, latency_ms, names)

    def _on_number(self, topic: str, message: Float32) -> None:
        if math.isfinite(message.data):
            self._note_message()
            node, _, name = topic.rpartition('/')
            self._model.add_number(time.monotonic_ns(), node, name, message.data)

    def _latency_ms(self, stamp_ns: int) -> float | None:
        """Return the time since a stamp; None if it is zero, of another clock or very old."""
        latency_ns = self.get_clock().now().nanoseconds - stamp_ns
        if stamp_ns == 0 or not 0 <= latency_ns <= _LONGEST_LATENCY_NS:
            return None
        return float(latency_ns / NS_PER_MS)

    def _note_message(self) -> None:
        if self._first_message_s is None:
            self._first_message_s = time.monotonic()

    # ---- showing

    def _tick(self) -> None:
        if not self._once:
            self._show()
            return
        now_s = time.monotonic()
        if self._first_message_s is not None and now_s - self._first_message_s >= ONCE_LISTEN_S:
            exit_code = 0
        elif self._first_message_s is None and now_s - self._start_s >= self._timeout_s:
            exit_code = NO_MESSAGE
        else:
            return
        if self._show():
            end_process(self, exit_code)

    def _show(self) -> bool:
        """Show how things stand; if that fails, end the process and return False."""
        domain = os.environ.get('ROS_DOMAIN_ID') or '0'
        title = f'yolov7_trt top   ROS domain {domain}   {time.strftime("%H:%M:%S")}'
        snapshot = self._model.snapshot(time.monotonic_ns())
        try:
            self._screen.show(
                render(snapshot, title, width=self._screen.width, blocks=self._screen.blocks)
            )
            return True
        except OSError as exc:
            with contextlib.suppress(OSError):  # what is buffered goes nowhere
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._output.fileno())
            if isinstance(exc, BrokenPipeError):  # whoever read our lines has gone
                end_process(self, 0)
            else:  # a full disk, a terminal that is gone
                self.get_logger().fatal(f'cannot show anything: {exc.strerror}')
                end_process(self, NOT_SHOWN)
            return False


class PlainScreen:
    """Prints snapshots one after another, or over each other with `clear`."""

    def __init__(self, output: TextIO, *, clear: bool = False) -> None:
        self._output = output
        self._clear = clear
        self._shown = False
        self.blocks = BLOCKS if _writes_blocks(output) else ASCII_BLOCKS

    @property
    def width(self) -> int:
        """Columns: of the terminal, else wide."""
        if not self._output.isatty():
            return _PLAIN_WIDTH
        return os.get_terminal_size(self._output.fileno()).columns

    def show(self, lines: Sequence[Line]) -> None:
        """Print a snapshot."""
        start = _CLEAR if self._clear else '\n' if self._shown else ''
        self._shown = True
        text = '\n'.join(line.text.rstrip() for line in lines)
        text = text if self.blocks == BLOCKS else text.replace('…', '~')
        self._output.write(f'{start}{text}\n')
        self._output.flush()

    def close(self) -> None:
        """Do nothing."""


class LiveScreen:
    """Draws snapshots over each other on a separate screen, with rich."""

    def __init__(self, output: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(file=output)
        self._live = Live(console=self._console, screen=True, auto_refresh=False)
        self._live.start()
        self._last: Any = None
        self.blocks = BLOCKS if _writes_blocks(output) else ASCII_BLOCKS

    @property
    def width(self) -> int:
        """Columns of the terminal."""
        return int(self._console.width)

    def show(self, lines: Sequence[Line]) -> None:
        """Draw a snapshot."""
        from rich.text import Text

        self._last = Text('\n', end='', no_wrap=True, overflow='crop').join(
            Text(line.text, style=_STYLES[line.kind]) for line in lines
        )
        self._live.update(self._last, refresh=True)

    def close(self) -> None:
        """Leave the screen, and print the last snapshot on the previous one."""
        last, self._last = self._last, None
        with contextlib.suppress(OSError):  # a terminal that is gone
            self._live.stop()
            if last is not None:
                self._console.print(last)


def make_screen(output: TextIO, *, once: bool) -> PlainScreen | LiveScreen:
    """
    Return a live screen on a terminal, plain lines elsewhere and for one snapshot.

    Foreign names may have characters that the output's encoding lacks: it shows `?` for them.

    """
    if isinstance(output, io.TextIOWrapper):
        output.reconfigure(errors='replace')
    if once or not output.isatty():
        return PlainScreen(output)
    try:
        return LiveScreen(output)
    except ImportError:
        return PlainScreen(output, clear=True)


def _writes_blocks(output: TextIO) -> bool:
    try:
        BLOCKS.encode(output.encoding or 'ascii')
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def main(args: list[str] | None = None) -> int:
    """Show until stopped; return the exit code."""
    return run_node(
        NAME, lambda: TopNode(output=take_stdout()), args, about=__doc__, table=PARAMETERS
    )


if __name__ == '__main__':
    raise SystemExit(main())
