"""
A camera on one host, the detector on another: lost images, delay, and detections returned.

    sudo .venv/bin/python benchmarks/two_hosts.py

The hosts are two network namespaces that this makes and removes, with a cable between them
(hosts.py); they share clock and processor. The camera publishes pictures that it has ready, so
that its own cost is that of publishing. Latency is from the stamp to the detections on the
detector's host. Then the cable is pulled out and plugged in again: from that moment until the
first detection of an image taken since.

"""

from __future__ import annotations

import argparse
import array
import contextlib
import dataclasses
import json
import os
from pathlib import Path
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

from hosts import Hosts, HostsError
from measured_on import save

from yolov7_trt_ros.core.units import NS_PER_S

TOPIC, STATUS = '/camera/image_raw', '/detector: /camera/image_raw'
START_S, DRAIN_S, STOP_S, RECOVERY_S = 120.0, 3.0, 20.0, 45.0
OURS = Path(__file__).resolve().parents[1] / 'config' / 'fastdds_large_images.xml'
_NO_CHANGE = (
    '<dds xmlns="http://www.eprosima.com"><profiles><data_writer profile_name="nobody"/>'
    '</profiles></dds>'
)


@dataclasses.dataclass(frozen=True)
class Run:
    """What is sent, how, and over which cable."""

    size: str = '640x480'
    encoding: str = 'bgr8'
    rate_hz: float = 15.0
    profile: str = 'ours'
    """Of the detector's host: `ours`, or `default` for Fast DDS as it comes."""
    camera_profile: str = 'ours'
    reliable: bool = False
    mtu: int = 1500
    mbit_s: int | None = 1000
    seconds: float = 12.0


@dataclasses.dataclass(frozen=True)
class Outage:
    """What happens to the cable while a camera publishes."""

    what: str
    seconds: float
    """Without a cable. Longer than 20 s, and each side takes the other for dead."""
    loses_address: bool = False
    """Whether the detector's host has no address meanwhile, as with a DHCP client."""
    at_start: bool = False
    """Whether the detector was started without a cable, and the camera as well, unless ..."""
    camera_later: bool = False
    """... it was started only when the cable was in."""


_JPEG = Run(size='1920x1080', encoding='jpeg')
_PLAIN = {'profile': 'default', 'camera_profile': 'default'}
STEADY = (
    Run(**_PLAIN), Run(camera_profile='default'), Run(), Run(rate_hz=30.0), Run(mtu=9000),
    Run(reliable=True, **_PLAIN), Run(reliable=True), Run(rate_hz=30.0, mbit_s=100),
    Run(size='1920x1080', rate_hz=10.0),
    dataclasses.replace(_JPEG, **_PLAIN), _JPEG, dataclasses.replace(_JPEG, rate_hz=30.0),
    dataclasses.replace(_JPEG, rate_hz=30.0, mbit_s=100),
)
OUTAGES = (
    Outage('cable out for 5 s', 5.0),
    Outage('cable out for 40 s', 40.0),
    Outage('cable out and no address for 40 s', 40.0, loses_address=True),
    Outage('detector and camera started without a cable', 10.0, at_start=True),
    Outage('detector started without a cable, camera with it', 10.0, at_start=True,
           camera_later=True),
)


# ---- what runs on the hosts


def run_camera(run: Run) -> None:
    """Publish once somebody subscribes; print stamps and CPU time as JSON."""
    import rclpy
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from rclpy.signals import SignalHandlerOptions
    from sensor_msgs.msg import CompressedImage, Image

    from yolov7_trt_ros.nodes.process.process_setup import tune_malloc

    tune_malloc()
    messages = make_messages(run)
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)  # a signal ends it at once
    node = rclpy.create_node('camera')
    compressed = run.encoding == 'jpeg'
    reliability = ReliabilityPolicy.RELIABLE if run.reliable else ReliabilityPolicy.BEST_EFFORT
    publisher = node.create_publisher(
        CompressedImage if compressed else Image, TOPIC,
        QoSProfile(depth=5, reliability=reliability),
    )
    deadline = time.monotonic() + START_S
    while not publisher.get_subscription_count() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)  # the other side has matched as well
    used_s = time.process_time()
    stamps_ns = publish(publisher, messages, run)
    used_s = time.process_time() - used_s
    time.sleep(1.0)  # the last ones are still to be read
    print(json.dumps({
        'stamps_ns': stamps_ns, 'cpu_s': used_s,
        'message_bytes': sum(len(each.data) for each in messages) // len(messages),
    }))
    rclpy.shutdown()


def publish(publisher: Any, messages: list[Any], run: Run) -> list[int]:
    """Publish at the rate and for the time of a run; return the stamps."""
    stamps_ns: list[int] = []
    due = time.monotonic()
    end = due + run.seconds
    while due < end:
        message = messages[len(stamps_ns) % len(messages)]
        time.sleep(max(0.0, due - time.monotonic()))
        stamps_ns.append(time.time_ns())
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamps_ns[-1], NS_PER_S)
        publisher.publish(message)
        due = max(due + 1 / run.rate_hz, time.monotonic())  # a delay is not made up for
    return stamps_ns


def make_messages(run: Run) -> list[Any]:
    """Return a message of each picture."""
    import cv2
    from photographs import load_photographs
    from sensor_msgs.msg import CompressedImage, Image

    width, height = map(int, run.size.split('x'))
    messages = []
    for picture in load_photographs(None, width, height, tiles=1):
        if run.encoding == 'jpeg':
            data = cv2.imencode('.jpg', picture)[1].tobytes()
            messages.append(CompressedImage(format='jpeg', data=array.array('B', data)))
        else:
            messages.append(Image(height=height, width=width, encoding='bgr8', step=width * 3))
            messages[-1].data = array.array('B', picture.tobytes())
    return messages


def run_listener() -> None:
    """Note detections and diagnostics until stdin ends; say `ready` when the node detects."""
    from diagnostic_msgs.msg import DiagnosticArray
    import rclpy
    from vision_msgs.msg import Detection2DArray

    seen: dict[str, Any] = {'detections': [], 'statuses': [], 'values': {}}
    ready = False

    def on_detections(message: Any) -> None:
        stamp = message.header.stamp
        seen['detections'].append((stamp.sec * NS_PER_S + stamp.nanosec, time.time_ns()))

    def on_diagnostics(message: Any) -> None:
        nonlocal ready
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            if status.name == STATUS:
                level = ('OK', 'WARN', 'ERROR', 'STALE')[status.level[0]]
                seen['statuses'].append((time.time_ns(), f'{level} {status.message}'))
                seen['values'] = values
            elif 'backend' in values and values['state'] == 'active' and not ready:
                ready, seen['receive'] = True, values['receive']
                print('ready', flush=True)

    rclpy.init()
    node = rclpy.create_node('listener')
    node.create_subscription(Detection2DArray, '/camera/detections', on_detections, 50)
    node.create_subscription(DiagnosticArray, '/diagnostics', on_diagnostics, 10)
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    while not ended.is_set():
        rclpy.spin_once(node, timeout_sec=0.2)
    print(json.dumps(seen))
    rclpy.shutdown()


# ---- what runs them


class Bench:
    """The processes of one run, ended when it ends."""

    def __init__(self, hosts: Hosts, run: Run) -> None:
        self._hosts, self._run = hosts, run
        self._stack = contextlib.ExitStack()
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def start(self, host: str, *words: str) -> subprocess.Popen[str]:
        """Start Python on a host."""
        process = subprocess.Popen(
            self._hosts.command(host, [sys.executable, *words]), env=self._environment(host),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        self._stack.callback(_end, process)
        return process

    def _environment(self, host: str) -> dict[str, str]:
        from yolov7_trt_ros.nodes.process.process_setup import profile_variable, PROFILE_VARIABLES

        run = self._run
        kept = {name: text for name, text in os.environ.items() if name not in PROFILE_VARIABLES}
        profile = OURS
        if (run.profile if host == 'detector' else run.camera_profile) == 'default':
            profile = self._folder / 'default.xml'  # without a profile the node would set ours
            profile.write_text(_NO_CHANGE)
        return kept | {
            profile_variable(): str(profile), 'ROS_DOMAIN_ID': '77',
            'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SUBNET',
        }

    def start_detector(self) -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
        """Return the node, which detects, and who listens to it."""
        parameters = {
            'autostart': 'true', 'image_topics': TOPIC, 'threads': '1', 'network_size': '320',
            'image_transport': 'compressed' if self._run.encoding == 'jpeg' else 'raw',
        }
        words = [word for item in parameters.items() for word in ('-p', ':='.join(item))]
        node = self.start(
            'detector', '-m', 'yolov7_trt_ros.nodes.detector.detector_node', '--ros-args',
            '--log-level', 'error', *words)
        listener = self.start('detector', __file__, '--listen')
        if _line(listener) != 'ready\n':
            raise SystemExit('the node does not detect')
        return node, listener

    def start_camera(self, seconds: float) -> subprocess.Popen[str]:
        """Return the camera, which ends by itself."""
        run = dataclasses.replace(self._run, seconds=seconds)
        return self.start('camera', __file__, '--camera', json.dumps(dataclasses.asdict(run)))


def measure(run: Run) -> dict[str, Any]:
    """Return what arrived of a run."""
    from node_latency import cpu_s

    with Hosts(mtu=run.mtu, mbit_s=run.mbit_s) as hosts, Bench(hosts, run) as bench:
        node, listener = bench.start_detector()
        used_s, before = cpu_s(node.pid), hosts.received()
        sent = json.loads(bench.start_camera(run.seconds).communicate(timeout=START_S * 3)[0])
        time.sleep(DRAIN_S)
        used_s, after = cpu_s(node.pid) - used_s, hosts.received()
        seen = json.loads(listener.communicate()[0])
    return dataclasses.asdict(run) | summary(sent, seen, used_s) | {
        'kernel': {name: after[name] - before[name] for name in after}
    }


def summary(sent: dict[str, Any], seen: dict[str, Any], used_s: float) -> dict[str, Any]:
    """Return counts, latency and CPU time of a run."""
    from yolov7_trt_ros.core.latency import percentiles_ms
    from yolov7_trt_ros.records import to_record

    stamps_ns, values = set(sent['stamps_ns']), seen['values']
    latencies = [at - stamp for stamp, at in seen['detections'] if stamp in stamps_ns]
    received = int(values.get('received', 0))
    span_s = (max(stamps_ns) - min(stamps_ns)) / NS_PER_S
    return {
        'message_bytes': sent['message_bytes'], 'receive': seen['receive'],
        'sent': len(stamps_ns), 'received': received,
        'sent_hz': round((len(stamps_ns) - 1) / span_s, 1),
        'lost_percent': round(100 * (1 - received / len(stamps_ns)), 1),
        'detected': len(latencies), 'reported_as_lost': int(values.get('lost', 0)),
        'latency_ms': to_record(percentiles_ms(latencies)) if latencies else None,
        'transport_ms': {
            each: float(values[f'transport {each} (ms)'])
            for each in ('p50', 'p99') if f'transport {each} (ms)' in values
        },
        'cpu_ms_per_message': {
            'camera': round(1e3 * sent['cpu_s'] / len(stamps_ns), 2),
            'detector_with_network': round(1e3 * used_s / max(1, received), 2),
        },
    }


def measure_outage(outage: Outage) -> dict[str, Any]:
    """Return how long after the cable was back detections came, and what was said meanwhile."""
    run = Run(size='320x240', rate_hz=10.0, seconds=outage.seconds + RECOVERY_S)
    with Hosts(cable=not outage.at_start) as hosts, Bench(hosts, run) as bench:
        _, listener = bench.start_detector()
        camera = None if outage.camera_later else bench.start_camera(run.seconds)
        time.sleep(5.0)
        out_ns = time.time_ns()
        pull_out(hosts, outage)
        back_ns = time.time_ns()
        camera = camera or bench.start_camera(run.seconds)
        with contextlib.suppress(subprocess.TimeoutExpired):
            camera.wait(RECOVERY_S)
        seen = json.loads(listener.communicate()[0])
    return dataclasses.asdict(outage) | recovery(seen, out_ns, back_ns)


def pull_out(hosts: Hosts, outage: Outage) -> None:
    """Pull the cable out, wait, and plug it in again."""
    hosts.plug(plugged=False)
    if outage.loses_address:
        hosts.lose_address()
    time.sleep(outage.seconds)
    if outage.loses_address:
        hosts.set_address('detector')
    hosts.plug(plugged=True)


def recovery(seen: dict[str, Any], out_ns: int, back_ns: int) -> dict[str, Any]:
    """Return when detections came back and each text of the diagnostics once, with its time."""
    fresh = [at for stamp, at in seen['detections'] if stamp >= back_ns]
    said: dict[str, float] = {}
    for at, text in seen['statuses']:
        if at >= out_ns and not text.startswith('OK'):
            said.setdefault(_without_details(text), round((at - out_ns) / NS_PER_S, 1))
    return {
        'detections_before': sum(at < out_ns for _, at in seen['detections']),
        'detections_after': len(fresh),
        'detects_again_after_s': round((fresh[0] - back_ns) / NS_PER_S, 2) if fresh else None,
        'diagnostics_from_s_after_the_cable_was_out': said,
    }


def _without_details(text: str) -> str:
    """Return a text with N for numbers of seconds and without the folder of the profile."""
    return re.sub(r'=/\S*/', '=', re.sub(r'\b\d+ s\b', 'N s', text))


def _line(process: subprocess.Popen[str]) -> str:
    """Return the next line of a process, which is ended where none comes in time."""
    assert process.stdout is not None
    timer = threading.Timer(START_S, process.kill)
    timer.start()
    try:
        return process.stdout.readline()
    finally:
        timer.cancel()


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.strip().partition('\n')[0])
    results = Path(__file__).parent / 'results'
    parser.add_argument('-o', '--output', type=Path, default=results / 'two_hosts.json')
    parser.add_argument('--only', choices=('steady', 'outages'), help='one half of it')
    parser.add_argument('--camera', help=argparse.SUPPRESS)
    parser.add_argument('--listen', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.camera:
        return run_camera(Run(**json.loads(args.camera)))
    if args.listen:
        return run_listener()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # with namespaces removed
    os.environ.setdefault('AMENT_PREFIX_PATH', sys.prefix)  # sudo drops it
    result: dict[str, Any] = {}
    for name, cases, measured in (
        ('steady', STEADY, measure), ('outages', OUTAGES, measure_outage)
    ):
        if args.only in (None, name):
            result[name] = []
            for case in cases:
                load = round(os.getloadavg()[0], 1)
                result[name].append({**measured(case), 'load_before': load})
                print(result[name][-1], flush=True)
    save(args.output, result)


if __name__ == '__main__':
    try:
        main()
    except HostsError as exc:
        raise SystemExit(f'error: {exc}') from exc
