"""What is replaced or removed: only what this program wrote itself."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time
from typing import Any

import cv2
import numpy as np
import pytest

from yolov7_trt_ros.atomic_file import atomic_write
from yolov7_trt_ros.cli.main import main
from yolov7_trt_ros.cli.verbs import demo
from yolov7_trt_ros.cli.work import saved_results
from yolov7_trt_ros.cli.work.output_file import OutputFile
from yolov7_trt_ros.cli.work.output_names import OutputNames
from yolov7_trt_ros.cli.work.own_files import JOURNAL, OwnFiles, RECORD
from yolov7_trt_ros.cli.work.own_mark import is_own, MARK, mark_mp4, marked_jpeg, marked_png
from yolov7_trt_ros.cli.work.saved_results import TextSaver
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.errors import InputError
from yolov7_trt_ros.replay.frames import Frame

REPOSITORY = Path(__file__).resolve().parents[2]


def fingerprint(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob('*')) if path.is_file()
    }


def write_demo(folder: Path) -> None:
    """Write some of what a demo does."""
    with demo.own_outputs(folder):
        for name in ('bag/bag.mcap', 'bag/metadata.yaml', 'log/detector.txt', 'front.mp4',
                     'pictures/front_0000.jpg', 'summary.json'):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name)


# ---- the demo's folder


@pytest.mark.parametrize('name', [
    'pictures/holiday.jpg', 'bag/drive.mcap', 'bag', 'log/deep/er/x.txt', 'summary.json',
    'front.mp4', 'photographs/a.png',
])
def test_what_the_user_has_under_a_name_of_the_demo_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text('mine')
    before = fingerprint(tmp_path)
    with pytest.raises(InputError, match=f'holds {name}, .*nothing was changed.*-o'):
        write_demo(tmp_path)
    assert fingerprint(tmp_path) == before


def test_a_demo_replaces_what_an_earlier_one_wrote_and_no_more(tmp_path: Path) -> None:
    (tmp_path / 'mine.txt').write_text('mine')
    for _ in range(2):
        write_demo(tmp_path)
    (tmp_path / 'bag/another.txt').write_text('mine')
    before = fingerprint(tmp_path)
    with pytest.raises(InputError, match=r'holds bag/another\.txt'):
        write_demo(tmp_path)
    assert fingerprint(tmp_path) == before
    (tmp_path / 'bag/another.txt').unlink()
    write_demo(tmp_path)
    assert (tmp_path / 'mine.txt').read_text() == 'mine'


@pytest.mark.parametrize('change', ['other content', 'same size', 'a link', 'a folder'])
def test_what_was_exchanged_since_is_the_users(tmp_path: Path, change: str) -> None:
    write_demo(tmp_path)
    path = tmp_path / 'front.mp4'
    if change == 'other content':
        path.write_text('my own cut of it')
    elif change == 'same size':
        path.write_text('FRONT.MP4')
        os.utime(path, (1_000_000_000, 1_000_000_000))
    else:
        path.unlink()
        (tmp_path / 'own').mkdir()
        (tmp_path / 'own/x').write_text('mine')
        path.symlink_to(tmp_path / 'own') if change == 'a link' else (
            tmp_path / 'own').rename(path)
    before = fingerprint(tmp_path)
    with pytest.raises(InputError, match=r'front\.mp4'):
        write_demo(tmp_path)
    assert fingerprint(tmp_path) == before


@pytest.mark.parametrize('record', [
    None, '', '[]', '{"made_by": "yolov7_trt"}',
    '{"made_by": "x", "files": {"front.mp4": [9, 0]}}',
    '{"made_by": "yolov7_trt", "files": {"front.mp4": "x"}}', '[' * 100_000, '\xff\x00',
])
def test_without_a_record_nothing_is_ours(tmp_path: Path, record: str | None) -> None:
    write_demo(tmp_path)
    if record is None:
        (tmp_path / RECORD).unlink()
    else:
        (tmp_path / RECORD).write_text(record, encoding='latin-1')
    with pytest.raises(InputError, match='which no demo wrote'):
        write_demo(tmp_path)
    assert (tmp_path / 'front.mp4').is_file()


def test_an_interrupted_demo_can_be_repeated(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), demo.own_outputs(tmp_path):
        (tmp_path / 'bag').mkdir()
        (tmp_path / 'bag/bag.mcap').write_text('half')
        raise KeyboardInterrupt
    write_demo(tmp_path)


def test_after_a_demo_that_was_killed_it_is_named_as_what_is_in_the_way(tmp_path: Path) -> None:
    code = (
        'import os, sys\n'
        'from pathlib import Path\n'
        'from yolov7_trt_ros.cli.verbs import demo\n'
        'folder = Path(sys.argv[1])\n'
        'with demo.own_outputs(folder):\n'
        "    (folder / 'bag').mkdir()\n"
        "    (folder / 'bag/bag.mcap').write_text('half')\n"
        "    (folder / 'front.mp4').write_text('half')\n"
        '    os.kill(os.getpid(), 9)\n'
    )
    command = [sys.executable, '-c', code, str(tmp_path)]
    environment = os.environ | {'PYTHONPATH': str(REPOSITORY)}
    killed = subprocess.run(command, env=environment, timeout=600, check=False)
    assert killed.returncode == -signal.SIGKILL
    before = fingerprint(tmp_path)
    words = r'holds bag/bag\.mcap and 1 more, since a demo was killed.* left \(bag front\.mp4\)'
    with pytest.raises(InputError, match=words):
        write_demo(tmp_path)
    assert fingerprint(tmp_path) == before
    (tmp_path / 'bag/bag.mcap').unlink()
    (tmp_path / 'front.mp4').unlink()
    write_demo(tmp_path)
    (tmp_path / 'front.mp4').write_text('mine')
    with pytest.raises(InputError, match='which no demo wrote'):
        write_demo(tmp_path)


def test_a_record_that_names_files_elsewhere_removes_none(tmp_path: Path) -> None:
    outside, folder = tmp_path / 'outside.txt', tmp_path / 'out'
    outside.write_text('mine')
    write_demo(folder)
    found = outside.stat()
    record = json.loads((folder / RECORD).read_text())
    record['files']['../outside.txt'] = [found.st_size, found.st_mtime_ns]
    (folder / RECORD).write_text(json.dumps(record))
    write_demo(folder)
    assert outside.read_text() == 'mine'


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / 'own').mkdir()
    (tmp_path / 'own/x').write_text('mine')
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/bag').symlink_to(tmp_path / 'own')
    with pytest.raises(InputError, match='holds bag'):
        write_demo(tmp_path / 'out')
    OwnFiles(tmp_path / 'out').remove([tmp_path / 'out/bag'])
    assert (tmp_path / 'own/x').read_text() == 'mine'


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--source', 'mistyped.mp4'], 'no such file'),
    (['--source', 'notes.txt'], 'of an unknown kind'),
    (['--model', 'mistyped.onnx'], 'no model'),
    (['--seconds', '0'], '--seconds'),
    (['--source', 'out/pictures'], 'where the demo writes;'),
    (['-o', 'notes.txt'], 'must be a folder'),
])
def test_a_mistake_is_found_before_anything_is_made_or_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, '_NEEDED', ())
    Path('notes.txt').write_text('mine')
    write_demo(Path('out'))
    before = fingerprint(tmp_path)
    assert main(['demo', *arguments]) in (1, 2)
    assert message in capsys.readouterr().err
    assert fingerprint(tmp_path) == before
    if arguments[0] != '-o' and arguments[1] != 'out/pictures':
        assert main(['demo', '-o', 'new', *arguments]) in (1, 2)
        assert not Path('new').exists()


# ---- detect's pictures and videos


def jpeg(folder: Path, name: str, value: int = 128) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / name), np.full((64, 64, 3), value, np.uint8))
    return folder / name


def video(path: Path) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 10, (64, 64))
    for _ in range(3):
        writer.write(np.zeros((64, 64, 3), np.uint8))
    writer.release()
    return path


def detect(*arguments: object) -> int:
    return main(['detect', *map(str, arguments), '--size', '64'])


def test_a_photograph_of_the_same_name_is_not_replaced(tmp_path: Path) -> None:
    picture = jpeg(tmp_path / 'in', 'street.jpg')
    mine = jpeg(tmp_path / 'out', 'street.jpg', 9)
    clip, my_clip = video(tmp_path / 'in/clip.avi'), tmp_path / 'out/clip.mp4'
    my_clip.write_bytes(b'\0\0\0\x18ftypmine')
    before = mine.read_bytes(), my_clip.read_bytes()
    for _ in range(2):
        assert detect(picture, clip, '-o', tmp_path / 'out') == 0
        assert (mine.read_bytes(), my_clip.read_bytes()) == before
        assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [
            'clip-2.mp4', 'clip.mp4', 'street-2.jpg', 'street.jpg',
        ]


def test_what_detect_wrote_before_is_replaced(tmp_path: Path) -> None:
    picture, clip = jpeg(tmp_path, 'a.jpg'), video(tmp_path / 'clip.avi')
    for _ in range(2):
        assert detect(picture, clip, '-o', tmp_path / 'out') == 0
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['a.jpg', 'clip.mp4']
    assert cv2.imread(str(tmp_path / 'out/a.jpg')).shape == (64, 64, 3)
    capture = cv2.VideoCapture(str(tmp_path / 'out/clip.mp4'))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 3 and capture.read()[0]


def test_a_folder_that_a_bag_would_fill_is_left_where_it_holds_other_files(tmp_path: Path) -> None:
    own = tmp_path / 'drive'
    own.mkdir()
    (own / '000000.jpg').write_bytes(marked_jpeg(b'\xff\xd8rest'))
    assert is_own(own)
    (own / 'notes.txt').write_text('mine')
    assert not is_own(own)


def test_the_mark(tmp_path: Path) -> None:
    path = tmp_path / 'a.mp4'
    path.write_bytes(b'video')
    assert not is_own(path)
    mark_mp4(path)
    assert is_own(path) and path.read_bytes().endswith(MARK)
    with path.open('ab') as file:
        file.write(b'edited')
    assert not is_own(path)
    assert not is_own(tmp_path / 'gone.jpg')
    other = tmp_path / 'a.txt'
    other.write_bytes(marked_jpeg(b'\xff\xd8'))
    assert not is_own(other)


# ---- Ctrl-C says what is left


def interrupted(
    tmp_path: Path, seen: Path | None, *arguments: object, number: int = signal.SIGINT
) -> tuple[int, str]:
    """Press Ctrl-C, or send a signal, when a file appears or the first line is printed."""
    process = subprocess.Popen(
        [sys.executable, '-m', 'yolov7_trt_ros', *map(str, arguments)], cwd=tmp_path,
        env=os.environ | {'PYTHONPATH': str(REPOSITORY)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    if seen is None:
        process.stdout.readline()
    until = time.monotonic() + 600
    while seen is not None and not list(tmp_path.glob(str(seen))) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=600)
    # Python ends by the signal, which a shell has as 130 too, where it came while an import
    # compiled a text of its own
    return 130 if process.returncode == -signal.SIGINT else process.returncode, errors


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Make a folder of one picture under 3000 names."""
    folder = tmp_path / 'many'
    jpeg(folder, '0000.jpg')
    for number in range(1, 3000):
        (folder / f'{number:04}.jpg').hardlink_to(folder / '0000.jpg')
    return folder


def test_quantize_interrupted(tmp_path: Path, many: Path) -> None:
    status, told = interrupted(
        tmp_path, None, 'quantize', 'yolov7-nano', '--images', many, '-o', 'q.onnx',
        '--count', 2000,
    )
    assert (status, told) == (130, 'yolov7_trt: interrupted: q.onnx was not written\n')
    assert not (tmp_path / 'q.onnx').exists()


@pytest.mark.parametrize(('number', 'expected'), [
    (signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129),
])
def test_detect_interrupted(tmp_path: Path, many: Path, number: int, expected: int) -> None:
    status, told = interrupted(
        tmp_path, Path('out/labels/0001.txt'), 'detect', many, '-o', 'out', '--save-txt',
        '--save-coco', 'found.json', number=number,
    )
    left = [path for path in (tmp_path / 'out').rglob('*') if path.suffix in ('.jpg', '.txt')]
    assert status == expected
    assert told == f'yolov7_trt: interrupted: outputs in out: {len(left)}, and found.json\n'
    assert json.loads((tmp_path / 'found.json').read_text())['images']
    assert not list((tmp_path / 'out').rglob('*.tmp'))


@pytest.mark.parametrize('before', [False, True], ids=['before', 'after'])
def test_labels_are_counted_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    """A signal comes before the file is there, or after it and before the next statement."""
    def write(path: Path, data: bytes) -> None:
        if not before:
            atomic_write(path, data)
        raise KeyboardInterrupt

    names = OutputNames(tmp_path, [])
    image = ImageView.from_array(np.zeros((8, 8, 3), np.uint8))
    frame = Frame(image, 0, '', 'a.jpg', 0, tmp_path / 'a.jpg', 0, b'')
    found = Detections.empty((8, 8))
    saver = TextSaver(names)
    monkeypatch.setattr(saved_results, 'atomic_write', write)
    with pytest.raises(KeyboardInterrupt):
        saver.add('a', frame, found, 'pictures')
    saver.close()
    told = 'nothing was written' if before else f'outputs in {tmp_path}: 1'
    assert names.describe() == told
    assert OwnFiles(tmp_path).is_own(tmp_path / 'labels/a.txt') != before


def test_an_output_of_an_earlier_run_is_not_told_as_written(tmp_path: Path) -> None:
    kept, replaced, bag = tmp_path / 'kept.jpg', tmp_path / 'replaced.jpg', tmp_path / 'bag'
    for path in (kept, replaced, bag / 'camera/000000.jpg'):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(marked_jpeg(b'\xff\xd8rest'))
    names = OutputNames(tmp_path, [])
    for path in (kept, replaced):
        assert names.take(path.stem, '.jpg') == path
    assert names.take('bag', '') == bag
    assert names.describe() == 'nothing was written'
    atomic_write(replaced, b'\xff\xd8rest')
    assert names.describe() == f'outputs in {tmp_path}: 1'
    atomic_write(bag / 'camera/000000.jpg', b'\xff\xd8rest')
    assert names.describe() == f'outputs in {tmp_path}: 2'


def test_a_model_is_told_as_written_once_it_is_there(tmp_path: Path) -> None:
    model = OutputFile(tmp_path / 'q.onnx')
    assert model.describe() == f'{tmp_path}/q.onnx was not written'
    atomic_write(tmp_path / 'q.onnx', b'model')
    assert model.describe() == f'{tmp_path}/q.onnx was written'
    assert OutputFile(tmp_path / 'q.onnx').describe().endswith('was not written')


def test_labels_of_a_run_that_was_killed_are_replaced(tmp_path: Path, many: Path) -> None:
    labels = tmp_path / 'out/labels'
    interrupted(
        tmp_path, Path('out/labels/*.txt'), 'detect', many, '-o', 'out', '--save-txt',
        number=signal.SIGKILL,
    )
    left = sorted(path.name for path in labels.glob('[!.]*.txt'))
    assert left
    (labels / left[-1]).write_text('corrected by hand')
    for number in range(len(left), 3000):
        (many / f'{number:04}.jpg').unlink()
    assert detect(many, '-o', tmp_path / 'out', '--save-txt') == 0
    corrected = left[-1].replace('.txt', '-2.txt')
    assert sorted(path.name for path in labels.glob('[!.]*')) == sorted([*left, corrected])
    assert (labels / left[-1]).read_text() == 'corrected by hand'
    assert not (tmp_path / 'out' / JOURNAL).exists()


@pytest.mark.parametrize('journal', ['', '["0', '{}\n[1]\nnull\n', '[' * 100_000, '\xff\x00'])
def test_a_damaged_journal_makes_nothing_ours(tmp_path: Path, journal: str) -> None:
    for name in ('a', 'b'):
        (tmp_path / name).write_text(name)
    OwnFiles(tmp_path).add(tmp_path / 'a')
    with (tmp_path / JOURNAL).open('a', encoding='latin-1') as file:
        file.write(journal)
    own = OwnFiles(tmp_path)
    assert own.is_own(tmp_path / 'a') is (journal != '\xff\x00')
    assert not own.is_own(tmp_path / 'b')
    own.add(tmp_path / 'b')
    assert OwnFiles(tmp_path).is_own(tmp_path / 'b') is (journal != '\xff\x00')


def test_signals_that_end_the_work() -> None:
    from yolov7_trt_ros.cli import interruption

    before = [signal.getsignal(number) for number in interruption.SIGNALS]
    cleaned = False
    with pytest.raises(interruption.EndedBySignal), interruption.by_other_signals():
        assert interruption.status() == 130
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGHUP)  # a second one does not disturb the clean-up
            cleaned = True
    assert cleaned
    assert before == [signal.getsignal(number) for number in interruption.SIGNALS]


def test_a_signal_that_is_ignored_stays_so() -> None:
    from yolov7_trt_ros.cli import interruption

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with interruption.by_other_signals(), interruption.Interruption() as requested:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not requested.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_verb_says_it_unless_the_work_did(capsys: pytest.CaptureFixture[str]) -> None:
    from yolov7_trt_ros.cli.interruption import explain

    for raised, printed in ((KeyboardInterrupt(), 'x'), (KeyboardInterrupt('y'), 'y')):
        with pytest.raises(KeyboardInterrupt, match=printed), explain(lambda: 'x'):
            raise raised


def bench_rows() -> Any:
    raise KeyboardInterrupt
    yield


def test_a_benchmark_without_a_row_leaves_the_earlier_result(tmp_path: Path) -> None:
    from yolov7_trt_ros.cli.bench.run import collect
    from yolov7_trt_ros.report.bench.row import Bench

    (tmp_path / 'bench.json').write_text('{}')
    bench, was_interrupted = collect(
        bench_rows(), lambda rows: Bench('x', {}, tuple(rows), ()), tmp_path
    )
    assert was_interrupted and not bench.rows
    assert (tmp_path / 'bench.json').read_text() == '{}'


def test_a_marked_png_is_own_and_still_a_picture(tmp_path: Path) -> None:
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    data = bytes(cv2.imencode('.png', picture)[1])
    path = tmp_path / 'wide.png'
    path.write_bytes(data)
    assert not is_own(path)
    path.write_bytes(marked_png(data))
    assert is_own(path)
    assert np.array_equal(cv2.imread(str(path)), picture)
