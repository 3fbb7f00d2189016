"""What is given where a model is wanted, and what each is told."""

from __future__ import annotations

import io
import os
from pathlib import Path
import pickle
import random
import struct
import zipfile

import numpy as np
import pytest

from yolov7_trt_ros.engine import checkpoint_export
from yolov7_trt_ros.engine.file_kind import check_kind, check_model_file, CHECKPOINT, ONNX
from yolov7_trt_ros.engine.model_files import find_model, find_onnx_model, load_class_names
from yolov7_trt_ros.engine.open import open_detector
from yolov7_trt_ros.engine.options import DetectorOptions
from yolov7_trt_ros.errors import ModelFormatError, ModelNotFoundError, SettingError
from yolov7_trt_ros.plain_file import open_plain_file, read_plain_file

NANO = find_model('yolov7-nano')
LEGACY_MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        for name in names:
            archive.writestr(name, b'x' * 50)
    return buffer.getvalue()


def npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


CHECKPOINT_ZIP = zipped('yolov7/data.pkl', 'yolov7/data/0', 'yolov7/version')
KINDS: list[tuple[str, bytes, str, str]] = [
    ('v7.pt', CHECKPOINT_ZIP, 'a PyTorch checkpoint', 'yolov7_trt export {path} -o {stem}.onnx'),
    ('v7.onnx', CHECKPOINT_ZIP, 'a PyTorch checkpoint', 'yolov7_trt export'),
    ('v7', CHECKPOINT_ZIP[:-60], 'a PyTorch checkpoint', 'yolov7_trt export'),
    ('old.pth', LEGACY_MAGIC + b'\x80\x02M\xe9\x03.', 'a PyTorch checkpoint', 'yolov7_trt export'),
    ('old', pickle.dumps({'model': 1}, protocol=4), 'a PyTorch checkpoint', 'yolov7_trt export'),
    ('broken.pt', b'\x00\x01\x02\xff' * 10, 'a PyTorch checkpoint', 'yolov7_trt export'),
    ('a.pt', zipped('a/data.pkl', 'a/code/__torch__.py', 'a/constants.pkl'), 'TorchScript',
     'traced from'),
    ('a.onnx', zipped('model.onnx'), 'an archive', 'unpack'),
    ('a.npz', zipped('a.npy', 'b.npy'), 'a NumPy archive', 'no network'),
    ('a.keras', zipped('config.json', 'model.weights.h5'), 'Keras', 'tf2onnx'),
    ('a.onnx', b'version https://git-lfs.github.com/spec/v1\noid sha256:12\n', 'Git LFS pointer',
     'git lfs pull'),
    ('a.engine', b'version https://git-lfs.github.com/spec/v1\noid', 'Git LFS', 'git lfs pull'),
    ('a.onnx', b'\n\n<!DOCTYPE html>\n<html lang="en">', 'a web page', 'Download'),
    ('a.pt', b'<HTML><head>', 'a web page', 'Download'),
    ('a.onnx', b'<?xml version="1.0"?><Error><Code>NoSuchKey', 'a web page', 'Download'),
    ('a.onnx', b'', 'empty', 'did not finish'),
    ('a.plan', b'', 'empty', 'did not finish'),
    ('a.tflite', b'\x1c\0\0\0TFL3' + bytes(90), 'TensorFlow Lite', 'tf2onnx'),
    ('a.h5', b'\x89HDF\r\n\x1a\n' + bytes(90), 'Keras', 'tf2onnx'),
    ('saved_model.pb', b'\x08\x01\x12\x90\x20' + bytes(90), 'TensorFlow', 'tf2onnx'),
    ('frozen.pb', b'\n\x20\n\x05image\x12\x0bPlaceholder', 'TensorFlow', 'tf2onnx'),
    ('a.xml', b'<?xml version="1.0"?>\n<net name="v7" version="11">', 'OpenVINO', 'ONNX file'),
    ('a.weights', struct.pack('<3i', 0, 2, 5) + bytes(90), 'Darknet', 'checkpoint'),
    ('a.cfg', b'[net]\nbatch=1\n', 'Darknet', 'checkpoint'),
    ('a.cfg', b'# v7\n[net]\nbatch=1\n', 'Darknet', 'checkpoint'),
    ('a.caffemodel', b'\n\x05yolov\x12' + bytes(90), 'Caffe', 'export'),
    ('a.prototxt', b'name: "v7"\n', 'Caffe', 'export'),
    ('a.safetensors', struct.pack('<Q', 60) + b'{"model.0.conv.weight":' + bytes(90),
     'safetensors', 'yolov7_trt export'),
    ('a.param', b'7767517\n200 230\n', 'ncnn', 'export'),
    ('street.jpg', b'\xff\xd8\xff\xe0\0\x10JFIF' + bytes(90), 'a picture', 'without a flag'),
    ('street.png', b'\x89PNG\r\n\x1a\n' + bytes(90), 'a picture', 'without a flag'),
    ('street.mp4', b'\0\0\0\x18ftypmp42' + bytes(90), 'a video', 'without a flag'),
    ('drive.mcap', b'\x89MCAP0\r\n' + bytes(90), 'a bag', 'without a flag'),
    ('drive.db3', b'SQLite format 3\0' + bytes(90), 'a bag', 'without a flag'),
    ('a.mlmodel', b'\x08\x04\x12\x20' + bytes(90), 'Core ML', 'export'),
    ('a.npy', npy(), 'a NumPy array', 'no network'),
    ('a.onnx.gz', b'\x1f\x8b\x08' + bytes(90), 'an archive', 'unpack'),
    ('v7.yaml', b'nc: 80\ndepth_multiple: 1.0\n', 'a text file', 'ONNX file'),
    ('names.txt', 'Käfer\n'.encode() * 20, 'a text file', 'ONNX file'),
    ('v7.onnx', b'ptrt' + bytes(90), 'a TensorRT plan', 'mv {path} {stem}.plan'),
    ('v7', b'ftrt' + bytes(90), 'a TensorRT plan', 'mv {path} {stem}.plan'),
    ('v7.engine', NANO.read_bytes(), 'an ONNX file', 'mv {path} {stem}.onnx'),
    ('v7.plan', CHECKPOINT_ZIP, 'a PyTorch checkpoint', 'yolov7_trt export'),
]


@pytest.mark.parametrize(
    ('name', 'data', 'kind', 'advice'), KINDS,
    ids=[f'{name}-{kind}'.replace(' ', '_') for name, _, kind, _ in KINDS],
)
def test_what_is_no_model_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch, name: str, data: bytes, kind: str, advice: str
) -> None:
    monkeypatch.setattr(checkpoint_export, '_is_missing', lambda _: True)  # else it is exported
    path = tmp_path / name
    path.write_bytes(data)
    told = advice.format(path=path, stem=path.with_suffix(''))
    for refuse in (find_model, lambda given: open_detector(DetectorOptions(model=given))):
        with pytest.raises(ModelFormatError) as caught:
            refuse(str(path))
        assert str(path) in str(caught.value)
        assert kind in str(caught.value) and told in str(caught.value)
        assert '\n' not in str(caught.value) and '{' not in str(caught.value)


def test_a_command_that_is_told_can_be_pasted(tmp_path: Path) -> None:
    path = tmp_path / "it's mine.pt"
    path.write_bytes(CHECKPOINT_ZIP)
    with pytest.raises(ModelFormatError, match='it\'"\'"\'s mine.pt\' -o .*mine.onnx\''):
        find_model(str(path))


def test_models_pass(tmp_path: Path) -> None:
    for name, data in (('a.onnx', NANO.read_bytes()), ('noname', NANO.read_bytes()),
                       ('a.pt', NANO.read_bytes()),
                       ('a.plan', b'ptrt' + bytes(90)), ('a.engine', b'blob\0\xff'),
                       ('a.onnx', b'\xff\x01\xfe unknown \x00'), ('a.plan', b'plan')):
        path = tmp_path / name
        path.write_bytes(data)
        assert find_model(str(path)) == path


def test_a_file_that_was_cut_off_anywhere_is_told_so(tmp_path: Path) -> None:
    data = NANO.read_bytes()
    path = tmp_path / 'cut.onnx'
    chosen = random.Random(7).sample(range(64, len(data)), 60)
    for length in (*chosen, len(data) - 1):
        path.write_bytes(data[:length])
        try:
            find_model(str(path))
        except ModelFormatError as exc:
            assert 'cut off' in str(exc)
        else:  # between two of the parts at its end; all the network is there
            assert length > len(data) - 4096


def test_whatever_the_bytes_are_it_is_our_error_or_a_pass(tmp_path: Path) -> None:
    """Mutations with a fixed seed: of a model's beginning, of a zip archive, and noise."""
    generator = random.Random(14)
    path = tmp_path / 'any'
    starts = [NANO.read_bytes()[:300], CHECKPOINT_ZIP, *(data[:300] for _, data, _, _ in KINDS)]
    for number in range(1500):
        data = bytearray(starts[number % len(starts)] or b'\0')
        for _ in range(generator.randrange(1, 12)):
            data[generator.randrange(len(data))] = generator.randrange(256)
        if number % 3 == 0:
            data = data[:generator.randrange(len(data) + 1)]
        path.write_bytes(bytes(data))
        try:
            check_model_file(path)
        except ModelFormatError:
            continue


def test_a_zip_archive_with_a_huge_list_is_not_read(tmp_path: Path) -> None:
    data = bytearray(zipped('a/data.pkl'))
    end = data.rfind(b'PK\x05\x06')
    data[end + 12:end + 16] = struct.pack('<I', 2**32 - 1)
    path = tmp_path / 'a.pt'
    path.write_bytes(data)
    with pytest.raises(ModelFormatError, match='a PyTorch checkpoint'):
        find_model(str(path))


@pytest.mark.parametrize('suffix', ['', '.onnx', '.plan'])
def test_what_never_ends_is_not_opened(tmp_path: Path, suffix: str) -> None:
    pipe = tmp_path / f'pipe{suffix}'
    os.mkfifo(pipe)
    zero = tmp_path / f'zero{suffix}'
    zero.symlink_to('/dev/zero')
    for path, kind in ((pipe, 'a pipe'), (zero, 'a device'), (tmp_path, 'a folder')):
        with pytest.raises(ModelNotFoundError, match=kind):
            find_model(str(path))
        with pytest.raises(ModelFormatError), open_plain_file(path):
            pass
    with pytest.raises(SettingError, match='a pipe'):
        load_class_names(str(pipe))
    with pytest.raises(SettingError, match='a device'):
        load_class_names('/dev/zero')


def test_a_folder_with_a_model_in_it(tmp_path: Path) -> None:
    (tmp_path / 'v7.onnx').write_bytes(b'\x08')
    with pytest.raises(ModelNotFoundError, match=r'did you mean .*v7\.onnx'):
        find_model(str(tmp_path))


def test_a_small_file_has_a_limit(tmp_path: Path) -> None:
    path = tmp_path / 'names.txt'
    path.write_text('cat\n' * 3)
    assert read_plain_file(path, 12) == b'cat\n' * 3
    with pytest.raises(ModelFormatError, match='larger than the 11 bytes'):
        read_plain_file(path, 11)


def test_where_a_plan_will_not_do(tmp_path: Path) -> None:
    path = tmp_path / 'v7.plan'
    path.write_bytes(b'ptrt' + bytes(90))
    with pytest.raises(ModelFormatError, match='is a TensorRT plan, expected an ONNX file'):
        find_onnx_model(str(path))
    assert find_onnx_model('yolov7-nano') == NANO


def test_where_a_checkpoint_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / 'v7.pt'
    path.write_bytes(CHECKPOINT_ZIP)
    assert check_kind(path, CHECKPOINT, ONNX) == CHECKPOINT
    assert check_kind(NANO, CHECKPOINT, ONNX) == ONNX
    with pytest.raises(ModelFormatError, match='expected a PyTorch checkpoint: give the file'):
        check_kind(NANO, CHECKPOINT)
    path.write_bytes(b'<html>')
    with pytest.raises(ModelFormatError, match='a web page'):
        check_kind(path, CHECKPOINT, ONNX)
