"""`compare` on bags of every kind, and the workflow and page that tell how to use it."""

from __future__ import annotations

from collections.abc import Sequence
import json
from pathlib import Path
import re
import shlex
import shutil
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_types_from_msg, get_typestore, Stores
from ruamel.yaml import YAML  # rosbags brings it
import skimage.data

from yolov7_trt_ros.cli.main import build_parser, main
from yolov7_trt_ros.cli.verbs.compare import DEFAULTS
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.replay.bags.detection_message import DetectionMessages, DETECTIONS_TYPE
from yolov7_trt_ros.replay.bags.rosbags_adapter import load_typestore

REPOSITORY = Path(__file__).resolve().parents[2]
TOPIC = '/camera/detections'
PERIOD_NS = 33_000_000
Frame = tuple[str, int, Detections]

# Detection2DArray before vision_msgs 4: results without `hypothesis`, a centre without `position`
OLD_DEFINITIONS = {
    'vision_msgs/msg/ObjectHypothesisWithPose':
        'string id\nfloat64 score\ngeometry_msgs/PoseWithCovariance pose\n',
    'vision_msgs/msg/BoundingBox2D':
        'geometry_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y\n',
    'vision_msgs/msg/Detection2D':
        'std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n'
        'vision_msgs/BoundingBox2D bbox\nbool is_tracking\nstring tracking_id\n',
    DETECTIONS_TYPE: 'std_msgs/Header header\nvision_msgs/Detection2D[] detections\n',
}


def drive(shift_px: float = 0.0, drift: float = 0.0, frames: int = 20) -> list[Frame]:
    """Return a person and every second time a car; another engine finds them a bit elsewhere."""
    found = []
    for number in range(frames):
        boxes = np.array([[10, 10, 60, 110], [100, 20, 180, 80]], np.float32) + shift_px
        count = 1 + number % 2
        scores = np.array([0.8, 0.6], np.float32) - drift
        found.append((TOPIC, number * PERIOD_NS, Detections(
            boxes[:count], scores[:count], np.array([0, 1], np.int32)[:count], (0, 0))))
    return found


def write_bag(path: Path, frames: Sequence[Frame], *, storage: str = 'mcap') -> Path:
    """Write detections; a path that ends in .mcap is a file, any other a bag folder."""
    typestore, messages = load_typestore(), DetectionMessages(('person', 'car'))
    folder = path.with_suffix('.bag') if path.suffix else path
    with Writer(folder, version=9, storage_plugin=StoragePlugin[storage.upper()]) as writer:
        topics = {
            topic: writer.add_connection(topic, DETECTIONS_TYPE, typestore=typestore)
            for topic in dict.fromkeys(frame[0] for frame in frames)
        }
        for topic, stamp_ns, detections in frames:
            message = messages.build(stamp_ns, 'camera', detections)
            data = bytes(typestore.serialize_cdr(message, DETECTIONS_TYPE))
            writer.write(topics[topic], stamp_ns + 1000, data)
    if path.suffix:
        shutil.move(next(folder.glob(f'*{path.suffix}')), path)
    return path


def undated(page: Path) -> str:
    """Return a page without the time it was made."""
    text, count = re.subn(r'Made 20[0-9T:+-]+', '', page.read_text())
    assert count == 1
    return text


def compare(*arguments: object) -> int:
    return main(['compare', *map(str, arguments)])


def record(path: Path, *arguments: object) -> dict[str, Any]:
    """Compare, whatever comes of it, and return the JSON."""
    compare(*arguments, '--json', path)
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def test_a_bag_and_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = write_bag(tmp_path / 'a.mcap', drive())
    limits = ('--max-drift', 0, '--min-ap50', 1, '--min-matched', 1)
    assert compare(bag, bag, *limits, '--json', tmp_path / 'r.json') == 0
    out = capsys.readouterr().out
    assert '20 compared, 0 only in A, 0 only in B' in out
    assert '30 matched, 0 missed, 0 new' in out and 'within the limits' in out
    result = json.loads((tmp_path / 'r.json').read_text())
    assert (result['ap50'], result['score_drift']['max'], result['within_limits']) == (1, 0, True)
    assert {name: each['ap50'] for name, each in result['per_class'].items()} == {
        'person': 1.0, 'car': 1.0}


@pytest.mark.parametrize('name, storage', [
    ('b.mcap', 'mcap'), ('b', 'mcap'), ('b.db3', 'sqlite3'), ('b_sqlite', 'sqlite3')])
def test_every_kind_of_bag(tmp_path: Path, name: str, storage: str) -> None:
    reference = write_bag(tmp_path / 'a.mcap', drive())
    new = write_bag(tmp_path / name, drive(shift_px=2, drift=0.01), storage=storage)
    result = record(tmp_path / 'r.json', reference, new)
    assert result['within_limits'] and result['detections']['matched'] == 30
    assert result['score_drift']['mean'] == pytest.approx(0.01, abs=1e-6)
    assert result['score_drift']['bias'] == pytest.approx(-0.01, abs=1e-6)
    assert 0.85 < result['iou']['mean'] < 0.95


def test_messages_of_an_older_vision_msgs(tmp_path: Path) -> None:
    """They are read by the definitions that the bag itself has."""
    typestore = get_typestore(Stores.ROS2_HUMBLE)
    types: dict[str, Any] = {}
    for name, text in OLD_DEFINITIONS.items():
        types.update(get_types_from_msg(text, name))
    typestore.register(types)
    kinds = typestore.types
    pose = kinds['geometry_msgs/msg/PoseWithCovariance'](
        kinds['geometry_msgs/msg/Pose'](
            kinds['geometry_msgs/msg/Point'](0.0, 0.0, 0.0),
            kinds['geometry_msgs/msg/Quaternion'](0.0, 0.0, 0.0, 1.0)),
        np.zeros(36),
    )
    with Writer(tmp_path / 'old', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topic = writer.add_connection(TOPIC, DETECTIONS_TYPE, typestore=typestore)
        for _, stamp_ns, each in drive():
            header = kinds['std_msgs/msg/Header'](
                kinds['builtin_interfaces/msg/Time'](*divmod(stamp_ns, 10**9)), 'camera')
            found = [
                kinds['vision_msgs/msg/Detection2D'](
                    header,
                    [kinds['vision_msgs/msg/ObjectHypothesisWithPose']('dog', 0.01, pose),
                     kinds['vision_msgs/msg/ObjectHypothesisWithPose'](
                         ('person', 'car')[number], float(score), pose)],
                    kinds['vision_msgs/msg/BoundingBox2D'](
                        kinds['geometry_msgs/msg/Pose2D'](
                            float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2, 0.0),
                        float(box[2] - box[0]), float(box[3] - box[1])),
                    False, '')
                for box, score, number in zip(
                    each.boxes_xyxy, each.scores, each.class_ids, strict=True)
            ]
            data = typestore.serialize_cdr(kinds[DETECTIONS_TYPE](header, found), DETECTIONS_TYPE)
            writer.write(topic, stamp_ns, bytes(data))
    new = write_bag(tmp_path / 'new.mcap', drive())
    result = record(tmp_path / 'r.json', tmp_path / 'old', new)
    assert result['within_limits'] and result['detections']['matched'] == 30
    assert result['score_drift']['max'] < 1e-6 and result['iou']['min'] > 0.9999


def test_each_limit_decides_the_status_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = write_bag(tmp_path / 'a.mcap', drive())
    drifted = write_bag(tmp_path / 'drifted.mcap', drive(drift=0.1))
    one_class_less = [
        (topic, stamp_ns, Detections(each.boxes_xyxy[:1], each.scores[:1], each.class_ids[:1],
                                     (0, 0)))
        for topic, stamp_ns, each in drive()
    ]
    lost = write_bag(tmp_path / 'lost.mcap', one_class_less)
    fewer = write_bag(tmp_path / 'fewer.mcap', drive(frames=15))
    for new, wider, names in (
        (drifted, ('--max-drift', 0.2), ['--max-drift']),
        (lost, ('--min-ap50', 0.5, '--min-matched', 0.6), ['--min-ap50', '--min-matched']),
        (fewer, ('--min-frames', 0.75), ['--min-frames']),
    ):
        assert compare(reference, new, '--json', tmp_path / 'r.json') == 1
        out = capsys.readouterr().out
        result = json.loads((tmp_path / 'r.json').read_text())
        assert [each['option'] for each in result['exceeded']] == names
        assert all(f'{each["text"]}' in out for each in result['exceeded'])
        assert compare(reference, new, *wider) == 0
        assert 'within the limits' in capsys.readouterr().out
    first = result['frames']['first_only_in_reference'][0]
    assert first == {'topic': TOPIC, 'stamp_ns': 15 * PERIOD_NS}


def test_frames_and_topics_that_one_bag_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rear = [('/rear/detections', stamp_ns, each) for _, stamp_ns, each in drive()]
    both = sorted([*drive(), *rear], key=lambda frame: frame[1])
    reference = write_bag(tmp_path / 'a.mcap', both)
    new = write_bag(tmp_path / 'b.mcap', drive(frames=22))
    assert compare(reference, new) == 1
    told = capsys.readouterr()
    assert '20 compared, 20 only in A, 2 only in B' in told.out
    assert '--min-frames' in told.out
    assert 'a.mcap has /rear/detections' in told.err
    assert compare(reference, new, '--topics', 'camera/detections') == 0
    assert compare(reference, new, '--topics', '/rear/detections') == 1
    assert 'has no detections on /rear/detections' in capsys.readouterr().err


def test_a_score_threshold_leaves_weak_detections_out(tmp_path: Path) -> None:
    reference = write_bag(tmp_path / 'a.mcap', drive())
    person_only = [(topic, stamp_ns, Detections(
        each.boxes_xyxy[:1], each.scores[:1], each.class_ids[:1], (0, 0)))
        for topic, stamp_ns, each in drive()]
    new = write_bag(tmp_path / 'b.mcap', person_only)
    assert compare(reference, new) == 1
    assert compare(reference, new, '--score-threshold', 0.7) == 0


def test_what_cannot_be_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = write_bag(tmp_path / 'a.mcap', drive())
    later = write_bag(tmp_path / 'later.mcap', [(t, s + 7, d) for t, s, d in drive()])
    assert compare(bag, later) == 1
    error = capsys.readouterr().err
    assert 'no frame in common' in error and 'one recording' in error
    assert compare(bag, tmp_path / 'none.mcap') == 1
    assert 'no such bag' in capsys.readouterr().err
    for option in ('--iou', '--max-drift', '--min-ap50'):
        assert compare(bag, bag, option, 1.5) == 2
        assert option in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        compare(bag)
    assert ended.value.code == 2


def test_bags_without_sure_detections_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_bag(tmp_path / 'a.mcap', drive(drift=0.6))
    assert compare(bag, bag) == 0
    told = capsys.readouterr()
    assert 'only the frames were compared' in told.err and 'IoU' not in told.out


def test_a_damaged_message_is_told_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = drive()
    bad = Detections(
        np.array([[0, 0, np.nan, 5]], np.float32), np.array([0.5], np.float32),
        np.array([0], np.int32), (0, 0))
    bag = write_bag(tmp_path / 'a.mcap', frames)
    broken = write_bag(tmp_path / 'b.mcap', [*frames[:10], (TOPIC, frames[10][1], bad),
                                             *frames[11:]])
    words = ['--json', tmp_path / 'r.json', '--html', tmp_path / 'page.html']
    assert compare(bag, broken, '--min-frames', 0.9, *words) == 1
    told = capsys.readouterr()
    assert 'not finite' in told.err and '1 parts or messages could not be read' in told.out
    result = json.loads((tmp_path / 'r.json').read_text())
    assert result['frames']['compared'] == 19 and not result['within_limits']
    assert len(result['damaged']) == 1
    page = (tmp_path / 'page.html').read_text()
    assert '1 parts or messages could not be read' in page and 'Within the limits' not in page


def test_json_on_the_output_and_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_bag(tmp_path / 'a.mcap', drive())
    new = write_bag(tmp_path / 'b.mcap', drive(shift_px=3, drift=0.02))
    page = tmp_path / 'pages' / 'page.html'
    assert compare(bag, new, '--json', '-', '--html', page) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)['detections']['matched'] == 30
    assert 'within the limits' in told.err
    assert 'Within the limits' in page.read_text() and '<svg' in page.read_text()
    first = undated(page), record(tmp_path / 'one.json', bag, new)
    assert compare(bag, new, '--html', page) == 0
    assert (undated(page), record(tmp_path / 'two.json', bag, new)) == first


@pytest.mark.parametrize(('where', 'is_written'), [
    ('limits.exceeded_limits', False), ('page.as_html', True),
])
def test_an_interruption_tells_what_was_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    where: str, is_written: bool,
) -> None:
    """It may come while the page is made, when the JSON is there already."""
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    bag, found, page = write_bag(tmp_path / 'a', drive()), tmp_path / 'r.json', tmp_path / 'p.html'
    monkeypatch.setattr(f'yolov7_trt_ros.report.compare.{where}', interrupt)
    assert compare(bag, bag, '--json', found, '--html', page) == 130
    told = f'{found} was written' if is_written else 'nothing was written'
    assert capsys.readouterr().err.endswith(f'interrupted: {told}\n')
    assert found.exists() == is_written and not page.exists()


def test_replay_twice_and_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real detector: twice the same is the same, another letterbox is not."""
    typestore = load_typestore()
    kind = 'sensor_msgs/msg/CompressedImage'
    with Writer(tmp_path / 'drive', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topic = writer.add_connection('/camera/image/compressed', kind, typestore=typestore)
        for number in range(4):
            rgb = skimage.data.astronaut()[number * 8:number * 8 + 410]
            jpeg = cv2.imencode('.jpg', np.ascontiguousarray(rgb[..., ::-1]))[1].reshape(-1)
            header = typestore.types['std_msgs/msg/Header'](
                typestore.types['builtin_interfaces/msg/Time'](number, 0), 'camera')
            message = typestore.types[kind](header, 'jpeg', jpeg)
            writer.write(topic, number, bytes(typestore.serialize_cdr(message, kind)))
    replay = ['replay', str(tmp_path / 'drive'), '--threads', '1', '-s', '0.1', '-o']
    for name, options in (('a', []), ('b', []), ('c', ['--size', '320'])):
        assert main([*replay, str(tmp_path / f'{name}.mcap'), *options]) == 0
    a, b, c = (tmp_path / f'{name}.mcap' for name in 'abc')
    same = record(tmp_path / 'r.json', a, b)
    assert (same['ap50'], same['score_drift']['max'], same['iou']['min']) == (1, 0, 1)
    assert same['detections']['matched'] >= 4 and 'person' in same['per_class']
    capsys.readouterr()
    assert compare(a, c, '--max-drift', 0.001) == 1
    assert '--max-drift 0.001' in capsys.readouterr().out
    check_pictures(a, c, tmp_path, capsys)


def check_pictures(
    first: Path, second: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Check that frames to look at have their pictures where a bag has them."""
    page = folder / 'page.html'
    compare(first, second, '--html', page)
    assert 'the bags contain no images: give them with --images BAG' in page.read_text()
    compare(first, second, '--html', page, '--images', folder / 'drive')
    text = page.read_text()
    assert 'no picture' not in text
    assert 1 <= text.count('data:image/jpeg;base64,') == text.count('<use ') <= 4
    assert len(text) < 500_000
    capsys.readouterr()
    assert compare(first, second, '--images', folder / 'drive') == 2
    assert 'give --html FILE too' in capsys.readouterr().err
    assert compare(first, second, '--html', page, '--images', first) == 1
    assert 'has no image topics' in capsys.readouterr().err


# ---- what is written of it


def test_defaults_are_those_of_the_library() -> None:
    args = build_parser().parse_args(['compare', 'a', 'b'])
    assert {name: getattr(args, name) for name in DEFAULTS} == DEFAULTS


def command_lines(text: str) -> list[list[str]]:
    """Return the `yolov7_trt` command lines in a shell text."""
    whole = text.replace('\\\n', ' ')
    lines = [line.strip().partition(' || ')[0] for line in whole.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith('yolov7_trt ')]


def test_the_command_lines_of_the_workflow_are_right() -> None:
    workflow = YAML(typ='safe').load(REPOSITORY / 'examples' / 'regression.yml')
    assert {'name', 'on', 'jobs'} <= set(workflow)
    jobs = workflow['jobs'].values()
    steps = [step for job in jobs for step in job['steps']]
    assert all(('run' in step) != ('uses' in step) for step in steps)
    commands = [words for step in steps for words in command_lines(step.get('run', ''))]
    assert [words[1] for words in commands] == ['replay', 'compare']
    for words in commands:
        build_parser().parse_args(words[1:])


def test_the_command_lines_of_the_document_are_right() -> None:
    text = (REPOSITORY / 'docs' / 'regression.md').read_text(encoding='utf-8')
    commands = command_lines(text)
    assert {'replay', 'compare'} <= {words[1] for words in commands}
    for words in commands:
        build_parser().parse_args(words[1:])


def test_folders_of_many_bags_are_pointed_to_drives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for side in ('a', 'b'):
        (tmp_path / side).mkdir()
        for name in ('monday', 'tuesday'):
            write_bag(tmp_path / side / name, drive())
    given = [str(tmp_path / 'a'), str(tmp_path / 'b')]
    assert main(['compare', *given]) == 2
    assert capsys.readouterr().err == (
        f'yolov7_trt: error: {given[0]} is not a bag, but a folder of bags (monday, tuesday): '
        'give two of the bags, or compare all with --drives and --output DIR\n'
    )
    assert main(['compare', f'{given[0]}/monday', given[1]]) == 2
    assert f'{given[1]} is not a bag' in capsys.readouterr().err
    assert main(['compare', *given, '--drives', '-o', str(tmp_path / 'out')]) == 0


def test_files_of_several_recordings_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without metadata.yaml they are taken for the parts of one recording, as of a crash."""
    for side in ('a', 'b'):
        (tmp_path / side).mkdir()
        for name in ('monday', 'tuesday'):
            write_bag(tmp_path / side / f'{name}.mcap', drive())
            shutil.rmtree(tmp_path / side / f'{name}.bag', ignore_errors=True)
    given = [str(tmp_path / 'a'), str(tmp_path / 'b')]
    main(['compare', *given])
    assert ('a has no metadata.yaml, and monday.mcap, tuesday.mcap are read as one recording: to '
            'compare each with the file of its name, give --drives') in capsys.readouterr().err
    for side in ('a', 'b'):
        for number, name in enumerate(('monday', 'tuesday')):
            (tmp_path / side / f'{name}.mcap').rename(tmp_path / side / f'week_{number}.mcap')
    main(['compare', *given])
    assert 'are read as one' not in capsys.readouterr().err
