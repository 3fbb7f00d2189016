"""Faults of a soak: each leaves everything as it was before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
import itertools
from pathlib import Path
import random
import shutil
import time
from typing import Any

from soak_parts.cameras import Camera, CORRUPT_JPEG, CORRUPT_RAW, ENCODINGS, JPEG, Mode, SIZES_WH
from soak_parts.detector import PATIENCE_S, start_node
from soak_parts.hostile import (
    expect_refused,
    impossible_topics,
    odd_clocks,
    odd_requests,
    strangers,
)
from soak_parts.ledger import Counters
from soak_parts.soaked_node import Soak

from yolov7_trt_ros.core.class_names import COCO80
from yolov7_trt_ros.engine.model_files import find_model

DISK_BYTES = 3 << 20
_OTHER = 'other model '  # begins the class names of another model
RUNTIME_VALUES: dict[str, tuple[Any, ...]] = {
    'score_threshold': (0.05, 0.5, 1.0),
    'iou_threshold': (0.2, 0.7),
    'max_detections': (1, 50),
    'classes': ('0', '0,16,3', '0,79'),  # by number: the models' names differ
    'class_agnostic': (True,),
    'max_rate_hz': (2.0, 50.0),
    'batch_max_wait_ms': (20.0,),
    'publish_overlay': (False,),
    'class_id_format': ('index',),
}
REFUSED_VALUES: tuple[tuple[str, Any], ...] = (
    ('score_threshold', 3.0), ('iou_threshold', 'high'), ('max_detections', 0),
    ('classes', 'no such class'), ('class_id_format', 'colour'), ('network_size', 320),
    ('image_topics', ''), ('image_topics', '/a/image,/a/image'), ('model', '/etc/passwd'),
    ('max_rate_hz', -1.0), ('publish_overlay', 'perhaps'), ('model_folders', '/'),
)


def camera_restart(soak: Soak, rng: random.Random) -> str:
    """
    Take a camera down for a while; it comes back with other message type, encoding, reliability.

    A raw one comes back compressed, on the same topic, and a compressed one raw; but the last
    camera stays compressed, so that there is always one.

    """
    camera = rng.choice(soak.cameras[:-1])
    encoding = rng.choice(ENCODINGS[:-1]) if camera.compressed else JPEG
    return ', '.join((
        _restart(soak, rng, camera, encoding), _restart(soak, rng, soak.cameras[-1], JPEG)
    ))


def _restart(soak: Soak, rng: random.Random, camera: Camera, encoding: str) -> str:
    mode = Mode(encoding, rng.random() < 0.5)
    down_s = rng.uniform(0.1, 1.0)
    camera.stop()
    soak.detector.spin(down_s)
    camera.start(mode)
    return f'{camera.topic} down {down_s:.1f} s, back with {mode}'


def corrupt_frames(soak: Soak, rng: random.Random) -> str:
    """Send every kind of damaged image on a raw and a compressed camera; the others go on."""
    others = soak.cameras[:-1]
    raw = [each for each in others if not each.compressed]
    cameras = [rng.choice(raw or others), soak.cameras[-1]]
    soak.await_detections(cameras)
    for camera in cameras:
        camera.paused = True
    before = soak.quiet_counters([each.topic for each in cameras])
    kinds = [CORRUPT_JPEG if camera.compressed else CORRUPT_RAW for camera in cameras]
    for wave in itertools.zip_longest(*kinds):
        for camera, kind in zip(cameras, wave, strict=True):
            if kind is not None:
                camera.publish_corrupt(kind)
        soak.detector.spin(0.1)
    after = soak.quiet_counters([each.topic for each in cameras])
    for camera in cameras:
        camera.paused = False
    return ', '.join(map(partial(_note_corrupt, soak), cameras, kinds, before, after))


def _note_corrupt(
    soak: Soak, camera: Camera, kinds: Sequence[str], before: Counters, after: Counters
) -> str:
    """Note what corrupt images have done: each that reached the detector must have failed."""
    change = {name: after[name] - before[name] for name in after}
    reached = change['received']
    soak.ledger.note_unusable(camera.topic, reached - change['dropped'] - change['skipped'])
    if not reached or change['processed']:
        soak.ledger.violations.append(
            f'{camera.topic}: of {len(kinds)} corrupt images {reached} reached the detector, '
            f'{change["processed"]} were processed'
        )
    return f'{camera.topic} {camera.mode.encoding}: {reached} of {len(kinds)} reached'


def parameters(soak: Soak, rng: random.Random) -> str:
    """Change some run-time parameters under load, and change them back."""
    names = rng.sample(sorted(RUNTIME_VALUES), 3)
    former = {name: soak.detector.get(name) for name in names}
    told = []
    for name in names:
        value = rng.choice(RUNTIME_VALUES[name])
        soak.set_parameter(name, value)
        told.append(f'{name} {value!r}')
        soak.detector.spin(0.3)
    soak.await_detections()
    for name in names:
        soak.set_parameter(name, former[name])
    return ', '.join(told)


def refused_values(soak: Soak, rng: random.Random) -> str:
    """Set values that must be refused, with a reason, and change nothing."""
    return expect_refused(soak, rng.sample(REFUSED_VALUES, 4))


def topics_removed(soak: Soak, rng: random.Random) -> str:
    """Take all topics but one out of image_topics in the midst of bursts, and put them back."""
    kept = rng.choice(soak.cameras)
    for camera in soak.cameras:
        camera.publish_burst()
    soak.set_topics([kept.topic])
    soak.detector.spin(rng.uniform(0.1, 0.5))
    soak.check_quiet(f'all removed but {kept.topic}')
    soak.set_topics([each.topic for each in soak.cameras])
    return f'all but {kept.topic}'


def topic_pattern(soak: Soak, rng: random.Random) -> str:
    """Name the cameras by a pattern; one more comes, is found, and is left out again."""
    size_wh, mode = rng.choice(SIZES_WH), Mode(rng.choice(ENCODINGS[:-1]), rng.random() < 0.5)
    soak.set_parameter('image_topics', soak.pattern)
    soak.ledger.begin(soak.guest_topic)
    guest = soak.add_guest(size_wh, mode)
    try:
        soak.await_detections([guest])
        soak.set_topics([each.topic for each in soak.cameras], leaving=[guest.topic])
        soak.check_quiet('the guest left out again')
    finally:
        soak.remove_guest()
    return f'{soak.pattern}: {size_wh} {mode}'


def deactivated(soak: Soak, rng: random.Random) -> str:
    """Deactivate in the midst of bursts and activate again: the counters stay."""
    for camera in soak.cameras:
        camera.publish_burst()
    soak.change_state('deactivate')
    pause_s = rng.uniform(0.0, 0.5)
    soak.detector.spin(pause_s)
    soak.change_state('activate')
    return f'{pause_s:.1f} s'


def reconfigured(soak: Soak, rng: random.Random) -> str:
    """Deactivate, clean up, configure and activate: the counters begin anew."""
    soak.take_down()
    size = rng.choice((128, 160, 192))
    soak.set_parameter('network_size', size)
    soak.bring_up()
    return f'network_size {size}'


def model_swapped(soak: Soak, rng: random.Random) -> str:
    """Go over to another model file with other class names, and next time back."""
    folder = soak.folder / 'models'
    if not folder.exists():
        folder.mkdir()
        shutil.copyfile(find_model(soak.model), folder / 'other.onnx')
        names = (f'{_OTHER}{index}' for index in range(len(COCO80)))
        (folder / 'names.txt').write_text('\n'.join(names) + '\n')
    other = soak.detector.get('model') == soak.model
    soak.take_down()
    soak.set_parameter('model', str(folder / 'other.onnx') if other else soak.model)
    soak.set_parameter('class_names', str(folder / 'names.txt') if other else 'auto')
    soak.bring_up()
    soak.await_detections()
    soak.detector.spin_until(
        lambda: soak.detector.finds(_OTHER, soak.outputs) is other,
        PATIENCE_S, f'class names of the {"other" if other else "first"} model',
    )
    return 'to the other' if other else 'back'


def missing_model(soak: Soak, rng: random.Random) -> str:
    """Configure with a model that is not there, which must fail, and correct it."""
    current = soak.detector.get('model')
    missing = str(soak.folder / 'models' / f'missing{rng.randrange(1000)}.onnx')
    soak.take_down()
    soak.set_parameter('model', missing)
    if soak.detector.change_state('configure'):
        soak.ledger.violations.append(f'configured with a model that is not there: {missing}')
    since_ns = time.monotonic_ns()
    soak.detector.spin_until(
        lambda: soak.detector.statuses_ns > since_ns
        and missing in soak.detector.values().get('message', ''),
        PATIENCE_S, 'diagnostics that name the missing model',
    )
    soak.set_parameter('model', current)
    soak.bring_up()
    return f'models/{Path(missing).name}'


def full_disk(soak: Soak, rng: random.Random) -> str:
    """Record images and overlays until the disk is full; the detector must not notice."""
    soak.recordings += 1
    name = f'recording{soak.recordings}'
    log, topics = soak.folder / f'{name}.txt', [each.topic for each in soak.cameras]
    overlays = [f'{each}/overlay' for each in soak.outputs.values()]
    recorder = start_node(
        'recorder_node',
        {'bag': soak.folder / name, 'images': topics + overlays,
         'detections': list(soak.outputs.values())},
        log, file_limit_bytes=DISK_BYTES,
    )
    try:
        soak.detector.spin_until(lambda: recorder.poll() is not None, PATIENCE_S, 'a full disk')
    finally:
        recorder.kill()
        recorder.wait()
    text = log.read_text()
    if recorder.returncode != 1 or 'cannot continue to record' not in text or 'Traceback' in text:
        soak.ledger.violations.append(
            f'the recorder ended with status {recorder.returncode} on a full disk: {text[-300:]}'
        )
    shutil.rmtree(soak.folder / name, ignore_errors=True)
    return f'full after {DISK_BYTES} bytes'


Fault = Callable[['Soak', random.Random], str]
FAULTS: dict[str, Fault] = {
    each.__name__: each for each in (
        camera_restart, corrupt_frames, parameters, refused_values, topics_removed, topic_pattern,
        deactivated, reconfigured, model_swapped, missing_model, full_disk, odd_requests,
        impossible_topics, strangers, odd_clocks,
    )
}
"""Every kind of fault; each round of a soak has all of them once, in an order drawn anew."""


def draw_round(seed: int, number: int) -> list[tuple[str, random.Random]]:
    """Return the faults of a round in their order, each with the random numbers it draws from."""
    names = list(FAULTS)
    random.Random(f'{seed}/{number}').shuffle(names)
    return [(name, random.Random(f'{seed}/{number}/{name}')) for name in names]
