"""Arrays to calibrate with: .npy files as others write them, damaged ones, and other files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from damaged_files import bounded, damaged
import numpy as np
from numpy.lib import format as npy_format
import pytest

from yolov7_trt_ros.cli.model_steps.calibration_pictures import load_array, open_pictures
from yolov7_trt_ros.errors import CalibrationError

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 3, 6, 10), np.uint8)


def read(path: Path) -> list[np.ndarray]:
    pictures = open_pictures(path, count=9, score_count=0).calibration
    return [image.pixels for _, image in pictures]


@pytest.mark.parametrize('array', [
    PICTURES, np.asfortranarray(PICTURES), (PICTURES / 255).astype('>f4'),
    (PICTURES / 255).astype('<f8'), np.asfortranarray((PICTURES / 255).astype('>f8')),
    PICTURES.astype('>u1'),
], ids=lambda array: f'{array.dtype.str} {"C" if array.flags.c_contiguous else "F"}')
def test_orders_of_bytes_and_of_axes(tmp_path: Path, array: Any) -> None:
    np.save(tmp_path / 'a.npy', array)
    assert np.array_equal(read(tmp_path / 'a.npy'), PICTURES.transpose(0, 2, 3, 1))


def with_header(path: Path, header: str, data: bytes = b'', version: int = 1) -> Path:
    """Write an .npy file with any header."""
    text = header.encode('latin-1') + b'\n'
    length = len(text).to_bytes(2 if version == 1 else 4, 'little')
    path.write_bytes(npy_format.MAGIC_PREFIX + bytes([version, 0]) + length + text + data)
    return path


def described(shape: str, descr: str = "'|u1'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}"


@pytest.mark.parametrize('header', [
    described('(-1, 3, 8, 8)'), described('(2, 3, -8, -8)'), described('(2**70, 3, 8, 8)'),
    described(f'({2**70}, 3, 8, 8)'), described('(1000000, 3, 1000, 1000)'),
    described('(2, 3, 8, 8)'), described('(True, 3, 8, 8)'), described('8'),
    described('(2, 3, 8, 8)', "'|O'"), described('(2, 3, 8, 8)', "'|V8'"),
    described('(2, 3, 8, 8)', "'rubbish'"), described('(2, 3, 8, 8)', '[]'),
    described('(' * 90 + ')' * 90), described('(1, ' + '-' * 9000 + '1)'), '{', '', '[1, 2]',
    'a' * 9999, "{'descr': '|u1'}", '\0', "{'shape': (1,", described('(0, 3, 0, 0)'),
    described('(2, 3, 0, 8)'), described('(1, 3, 8, 8)', "'<M8[s]'"),
], ids=lambda header: header[:40])
def test_headers_that_lie(tmp_path: Path, header: str) -> None:
    path = with_header(tmp_path / 'a.npy', header, bytes(40))
    with bounded(), pytest.raises(CalibrationError, match='a.npy') as caught:
        read(path)
    assert len(str(caught.value)) < 600


def test_sizes_are_bounded(tmp_path: Path) -> None:
    path = with_header(tmp_path / 'a.npy', described('(1, 3, 40000, 40000)', "'<f4'"))
    with path.open('ab') as stream:
        stream.truncate(20_000_000_000)  # takes no room on the disk
    with pytest.raises(CalibrationError, match='larger than the limit'):
        read(path)


def test_other_files_called_npy(tmp_path: Path) -> None:
    path = tmp_path / 'a.npy'
    with path.open('wb') as stream:
        np.savez(stream, a=PICTURES)
    with pytest.raises(CalibrationError, match='not an .npy file of one array .an .npz archive'):
        load_array(path)
    np.save(path, np.array([{}], object), allow_pickle=True)
    with pytest.raises(CalibrationError, match='cannot be read as a numpy array'):
        load_array(path)
    path.write_text('no array')
    with pytest.raises(CalibrationError, match='starts with 6e 6f 20 61 72 72'):
        load_array(path)
    path.write_bytes(b'')
    with pytest.raises(CalibrationError, match='not an .npy file of one array'):
        load_array(path)
    with pytest.raises(CalibrationError, match='cannot read .*gone.npy: No such file'):
        load_array(tmp_path / 'gone.npy')


@pytest.mark.filterwarnings('error')
def test_damaged_arrays_raise_only_our_errors(tmp_path: Path) -> None:
    random = np.random.default_rng(14)
    path = tmp_path / 'a.npy'
    np.save(path, (PICTURES / 255).astype(np.float32))
    data = path.read_bytes()
    pieces = (b'-', b'9' * 12, b'(', b'[', b"'", b'|O', b'L', b'\0', b'\xff', b'**', b',', b'\n')
    read_some = refused = 0
    for _ in range(1500):
        start = damaged(data[:128], random, pieces)
        path.write_bytes(start + data[128:])
        with bounded():
            try:
                read_some += bool(read(path))
            except CalibrationError as exc:
                refused += 1
                assert 'a.npy' in str(exc)
    assert read_some > 0 and refused > 0
