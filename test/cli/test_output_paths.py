"""Where results are to go is looked at before the work, and no file of another form is lost."""

from __future__ import annotations

import json
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys

import pytest

from yolov7_trt_ros.cli import output_paths
from yolov7_trt_ros.cli.main import main
from yolov7_trt_ros.errors import InputError, SettingError

REPOSITORY = Path(__file__).resolve().parents[2]
JPEG = b'\xff\xd8\xff\xe0\x00\x10JFIF'
EVERY_VERB = [
    ['detect', 'in.jpg', '-o', 'out'],
    ['replay', 'in.mcap', '-o', 'out.mcap'],
    ['compare', 'in.mcap', 'in2.mcap'],
    ['eval', '--images', '.', '--annotations', 'in.json'],
    ['export', 'in.pt', '-o', 'out.onnx'],
    ['build', 'yolov7-nano', '-o', 'out.plan'],
    ['quantize', 'yolov7-nano', '--mixed', '-o', 'out.onnx'],
    ['info', 'yolov7-nano'],
    ['fusion', 'layers.json'],
    ['doctor'],
    ['power', 'status'],
    ['power', 'modes'],
]


@pytest.mark.parametrize('words', EVERY_VERB, ids=[' '.join(words[:2]) for words in EVERY_VERB])
def test_every_verb_looks_at_json_before_its_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path('photo.jpg').write_bytes(JPEG)
    Path('folder').mkdir()
    for target, message in (
        ('gone/x.json', 'there is no folder gone'), ('photo.jpg/x.json', 'no folder'),
        ('folder', 'is a folder'), ('photo.jpg', 'would replace a file that is not JSON'),
    ):
        assert main([*words, '--json', target]) in (1, 2)
        printed = capsys.readouterr()
        assert message in printed.err and printed.out == ''
        assert printed.err.count('\n') == 1
    assert Path('photo.jpg').read_bytes() == JPEG
    assert sorted(path.name for path in tmp_path.iterdir()) == ['folder', 'photo.jpg']


@pytest.mark.parametrize('words', [
    ['detect', 'coffee.jpg', '-o', 'out', '--size', '64'],
    ['label', 'coffee.jpg', '-o', 'set', '--format', 'coco', '--size', '64'],
    ['quantize', 'yolov7-nano', '--mixed', '-o', 'q.onnx'],
], ids=lambda words: words[0])
def test_results_are_written_although_nobody_reads_the_report(
    words: list[str], photographs: Path, tmp_path: Path
) -> None:
    shutil.copy(photographs / 'coffee.jpg', tmp_path)
    with subprocess.Popen(
        [sys.executable, '-B', '-m', 'yolov7_trt_ros', *words, '--json', 'found.json'],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env=os.environ | {'PYTHONPATH': str(REPOSITORY)},
    ) as process:
        assert process.stdout is not None
        process.stdout.close()  # as `| head` does
        assert process.wait() == 128 + signal.SIGPIPE  # as shells report it
    assert json.loads((tmp_path / 'found.json').read_text())


@pytest.mark.parametrize('words', [
    ['detect', 'photo.jpg', '-o', 'out', '--json', 'x', '--save-coco', './x'],
    ['eval', '--images', '.', '--annotations', 'in.json', '--json', 'x', '--html', 'x'],
    ['compare', 'a.mcap', 'b.mcap', '--html', 'x', '--json', 'folder/../x'],
    ['fusion', 'layers.json', '--html', 'x', '--svg', 'x'],
    ['fusion', 'layers.json', '--save-layers', 'x', '--json', 'x'],
])
def test_no_two_results_go_to_one_file(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path('photo.jpg').write_bytes(JPEG)
    Path('folder').mkdir()
    assert main(words) == 2
    assert 'x; give each a file of its own' in capsys.readouterr().err
    assert not Path('x').exists()


@pytest.mark.parametrize('words', [
    ['quantize', 'yolov7-nano', '--mixed', '-o', 'photo.onnx'],
    ['build', 'yolov7-nano', '-o', 'photo.plan'],
    ['build', 'yolov7-nano', '-o', 'new.plan', '--timing-cache', 'photo.jpg'],
    ['fusion', 'layers.json', '--svg', 'photo.jpg'],
    ['fusion', 'layers.json', '--html', 'photo.jpg'],
    ['fusion', 'layers.json', '--save-layers', 'photo.jpg'],
    ['compare', 'a.mcap', 'b.mcap', '--html', 'photo.jpg'],
    ['power', '--emulate', 'nano', 'record', '--seconds', '0.1', '-o', 'photo.jpg'],
    ['bench', '-m', 'yolov7-nano', '--images', '.', '-o', 'page'],
])
def test_a_photograph_is_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path('page').mkdir()
    photographs = [Path(name) for name in ('photo.jpg', 'photo.onnx', 'photo.plan',
                                           'page/bench.html')]
    for path in photographs:
        path.write_bytes(JPEG)
    assert main(words) == 1
    printed = capsys.readouterr()
    assert 'would replace' in printed.err and printed.out == ''
    assert all(path.read_bytes() == JPEG for path in photographs)


@pytest.mark.parametrize(('words', 'read'), [
    (['quantize', 'm.onnx', '--mixed', '-o', 'm.onnx'], 'm.onnx'),
    (['quantize', 'm.onnx', '--mixed', '-o', 'n.onnx', '--json', 'm.onnx'], 'm.onnx'),
    (['export', 'm.onnx', '-o', './m.onnx'], 'm.onnx'),
    (['eval', '--images', '.', '--annotations', 'a.json', '--json', 'a.json'], 'a.json'),
    (['bench', '--merge', 'one/bench.json', 'a.json', '-o', 'one'], 'one/bench.json'),
    (['fusion', 'a.json', '--save-layers', 'a.json'], 'a.json'),
    (['power', 'plot', 'rec.csv', '-o', 'rec.csv'], 'rec.csv'),
])
def test_what_is_read_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    words: list[str], read: str,
) -> None:
    from yolov7_trt_ros.engine.model_files import find_model

    monkeypatch.chdir(tmp_path)
    Path('one').mkdir()
    Path('m.onnx').write_bytes(find_model('yolov7-nano').read_bytes())
    for name in ('a.json', 'one/bench.json', 'rec.csv'):
        Path(name).write_text('{}')
    before = Path(read).read_bytes()
    assert main(words) == 2
    assert 'is read as well' in capsys.readouterr().err
    assert Path(read).read_bytes() == before


def test_results_of_the_same_form_are_replaced(tmp_path: Path) -> None:
    for name, form, data in (
        ('a.json', 'JSON', b'\xef\xbb\xbf\n {}'), ('a.json', 'JSON', b''),
        ('a.svg', 'SVG', b'<svg'), ('a.csv', 'CSV', b'time (s),GPU (W)\n'),
        ('a.onnx', 'ONNX', b'\x08\x08\x12'),
        ('a.pt', 'PyTorch', b'\x80\x02x'), ('a.plan', 'plan', b'ptrt'), ('a.md', '', JPEG),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        output_paths.check_file('-o', path, form)


def test_pipes_and_devices(tmp_path: Path) -> None:
    pipe = tmp_path / 'pipe'
    os.mkfifo(pipe)
    output_paths.check_json(str(pipe))
    output_paths.check_json('/dev/null')
    output_paths.check_json('-')
    output_paths.check_json(None)
    with pytest.raises(SettingError, match='a pipe or a device'):
        output_paths.check_file('--html', Path('/dev/null'), 'HTML')


def test_folders_that_will_be_made(tmp_path: Path) -> None:
    output_paths.check_file('-o', tmp_path / 'a/b/c.onnx', 'ONNX')
    output_paths.check_folder('-o', tmp_path / 'a/b')
    (tmp_path / 'file').touch()
    with pytest.raises(InputError, match='is not a folder'):
        output_paths.check_folder('-o', tmp_path / 'file/b')
    with pytest.raises(SettingError, match='must be a folder'):
        output_paths.check_folder('-o', tmp_path / 'file')
    with pytest.raises(InputError, match='cannot be written|is not a folder'):
        output_paths.check_file('-o', Path('/proc/1/nothing/x.onnx'), 'ONNX')
    assert not (tmp_path / 'a').exists()


def test_json_may_lie_where_the_work_makes_a_folder(tmp_path: Path) -> None:
    output_paths.check_json(str(tmp_path / 'out/x.json'), made=[tmp_path / 'out'])
    output_paths.check_json(str(tmp_path / 'out/deep/x.json'), made=[None, tmp_path / 'out'])
    with pytest.raises(InputError, match='there is no folder'):
        output_paths.check_json(str(tmp_path / 'out2/x.json'), made=[tmp_path / 'out'])
    words = ['quantize', 'yolov7-nano', '--mixed', '-o', str(tmp_path / 'new/q.onnx')]
    assert main([*words, '--json', str(tmp_path / 'new/q.json')]) == 0
    assert (tmp_path / 'new/q.json').is_file()


def test_json_through_a_pipe(tmp_path: Path) -> None:
    """A reader at the other end gets it, as with `--json >(jq .)`."""
    pipe = tmp_path / 'pipe'
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        main(['doctor', '--json', str(pipe)])
        assert 'can_run' in json.loads(os.read(reader, 1 << 16))
    finally:
        os.close(reader)


@pytest.mark.parametrize('other', ['notes.txt', 'below/deep.mcap', 'photo.jpg'])
def test_a_bag_folder_with_other_files_is_not_replaced(tmp_path: Path, other: str) -> None:
    from yolov7_trt_ros.errors import BagError
    from yolov7_trt_ros.replay.bags.bag_writer import check_output

    folder = tmp_path / 'bag'
    folder.mkdir()
    (folder / 'metadata.yaml').touch()
    (folder / 'bag_0.mcap').touch()
    (folder / 'bag_1.db3.zstd').touch()
    check_output(folder, None, overwrite=True)
    (folder / other).parent.mkdir(exist_ok=True)
    (folder / other).touch()
    with pytest.raises(BagError, match=other.partition('/')[0]):
        check_output(folder, None, overwrite=True)
    with pytest.raises(BagError, match='exists already'):
        check_output(folder, None, overwrite=False)
