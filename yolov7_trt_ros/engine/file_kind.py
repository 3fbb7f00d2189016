"""
Recognise the kind of a model file by its first bytes and its structure.

The likeliest mistakes come with advice: a checkpoint instead of an ONNX file, a pointer or a web
page instead of a download. Nothing is loaded: 64 bytes, the list of a zip archive, or the lengths
of an ONNX file's parts are read.

"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import dataclasses
import os
from pathlib import Path
import shlex
import struct
from typing import BinaryIO
import zipfile

from yolov7_trt_ros.errors import ModelFormatError
from yolov7_trt_ros.onnx_tools.file_frame import missing_of_onnx
from yolov7_trt_ros.plain_file import open_plain_file

PLAN_SUFFIXES = ('.plan', '.engine')
_HEAD_BYTES = 64
_ONNX_START = 0x08
_PLAN_MAGIC = (b'ptrt', b'ftrt')
_ZIP_TAIL_BYTES = 1 << 16
_MOST_LIST_BYTES = 1 << 24
_ZIP_ERRORS = (zipfile.BadZipFile, OSError, ValueError, RuntimeError, struct.error)

_EXPORT_TF = 'convert it with tf2onnx, or export the PyTorch checkpoint it was made from'
_CHECKPOINT = 'the PyTorch checkpoint (.pt)'
_AGAIN = 'fetch or export it again'
_DETECT_IN = 'a model belongs here; yolov7_trt detect takes this without a flag'


@dataclasses.dataclass(frozen=True)
class FileKind:
    """
    What a file is, and what to do with it if a model is wanted.

    Attributes
    ----------
    name
        `a PyTorch checkpoint`.
    advice
        `{file}` stands for its path, `{onnx}` for that of an ONNX file of the same name.

    """

    name: str
    advice: str = ''


ONNX = FileKind('an ONNX file')
PLAN = FileKind('a TensorRT plan')
CHECKPOINT = FileKind(
    'a PyTorch checkpoint', 'make an ONNX file of it: yolov7_trt export {file} -o {onnx}'
)
_TORCHSCRIPT = FileKind(
    'a TorchScript archive, whose layers are compiled code',
    f'export {_CHECKPOINT} it was traced from: yolov7_trt export CHECKPOINT.pt -o {{onnx}}',
)
_ARCHIVE = FileKind('an archive', 'unpack it, and give the ONNX file that is inside')
EMPTY = FileKind('empty', f'the download or the export did not finish; {_AGAIN}')
_WEB_PAGE = FileKind(
    'a web page, saved instead of the file',
    'fetch the file behind it: the button Download or Raw, or curl -L with the link of that',
)
_OPENVINO = FileKind(
    'an OpenVINO model', f'take the ONNX file it was converted from, or export {_CHECKPOINT}'
)
_DARKNET = FileKind(
    'a Darknet file', f'get {_CHECKPOINT} of the same model, and yolov7_trt export it'
)
_KERAS = FileKind('a Keras (HDF5) file', _EXPORT_TF)
_TENSORFLOW = FileKind('a TensorFlow model', _EXPORT_TF)
_CAFFE = FileKind('a Caffe model', f'export {_CHECKPOINT} of a YOLOv7 with yolov7_trt export')
PICTURE = FileKind('a picture', _DETECT_IN)
_VIDEO = FileKind('a video', _DETECT_IN)
_BAG = FileKind('a bag', _DETECT_IN)
_SAFETENSORS = FileKind(
    'a safetensors file: weights without a network',
    f'export {_CHECKPOINT} they come from: yolov7_trt export CHECKPOINT.pt -o {{onnx}}',
)
_TFLITE = FileKind('a TensorFlow Lite model', _EXPORT_TF)
_CORE_ML = FileKind('a Core ML model', f'export {_CHECKPOINT} it was made from')
TEXT = FileKind('a text file', 'give an ONNX file, a plan, or an embedded model')

_MAGIC: tuple[tuple[int, bytes, FileKind], ...] = (
    (0, b'version https://git-lfs', FileKind(
        'a Git LFS pointer, which stands for the file', 'fetch it: git lfs pull'
    )),
    (4, b'TFL3', _TFLITE),
    (0, b'\x89HDF\r\n', _KERAS),
    (0, struct.pack('<3i', 0, 2, 0), _DARKNET),
    (0, struct.pack('<3i', 0, 2, 5), _DARKNET),
    (0, struct.pack('<3i', 0, 1, 0), _DARKNET),
    (0, b'[net]', _DARKNET),
    (0, b'7767517', FileKind('an ncnn model', f'export {_CHECKPOINT} it was made from')),
    (0, b'RKNN', FileKind('an RKNN model', 'take the ONNX file it was converted from')),
    (0, b'\x01HEF', FileKind('a Hailo model', 'take the ONNX file it was compiled from')),
    (0, b'\xff\xd8\xff', PICTURE),
    (0, b'\x89PNG', PICTURE),
    (0, b'GIF8', PICTURE),
    (0, b'RIFF', _VIDEO),
    (4, b'ftyp', _VIDEO),
    (0, b'\x1aE\xdf\xa3', _VIDEO),
    (0, b'\x89MCAP', _BAG),
    (0, b'#ROSBAG', _BAG),
    (0, b'SQLite format 3', _BAG),
    (0, b'\x93NUMPY', FileKind('a NumPy array', 'it holds no network; give an ONNX file')),
    (0, b'\x7fELF', FileKind('a program or library', 'give an ONNX file')),
    (0, b'%PDF', FileKind('a PDF document', 'give an ONNX file')),
    (0, b'\x1f\x8b', _ARCHIVE),
    (0, b'BZh', _ARCHIVE),
    (0, b'\xfd7zXZ', _ARCHIVE),
    (0, b'7z\xbc\xaf', _ARCHIVE),
    (0, b'Rar!', _ARCHIVE),
    (0, b'\x28\xb5\x2f\xfd', _ARCHIVE),
)
_BY_SUFFIX = {
    '.pt': CHECKPOINT, '.pth': CHECKPOINT, '.ckpt': CHECKPOINT,
    '.weights': _DARKNET, '.cfg': _DARKNET, '.tflite': _TFLITE, '.h5': _KERAS, '.keras': _KERAS,
    '.pb': _TENSORFLOW, '.caffemodel': _CAFFE, '.prototxt': _CAFFE, '.safetensors': _SAFETENSORS,
    '.xml': _OPENVINO, '.mlmodel': _CORE_ML,
}
"""For kinds without a signature in the first bytes."""


def is_plan(path: Path) -> bool:
    """Whether a file is a TensorRT plan, by its name."""
    return path.suffix.lower() in PLAN_SUFFIXES


def check_model_file(path: Path) -> None:
    """
    Refuse a file that is certainly no supported model, with its kind and advice.

    Unknown kinds pass: the engine reports what is wrong with them.

    Raises
    ------
    ModelFormatError
        It is of another kind, empty or cut off, or named as what it is not.

    """
    check_kind(path, PLAN if path.suffix.lower() in PLAN_SUFFIXES else ONNX)


def check_kind(path: Path, *wanted: FileKind) -> FileKind | None:
    """
    Return what a file is, None if that is unknown; refuse what is not wanted.

    Raises
    ------
    ModelFormatError
        It is of another kind, empty, truncated, or no regular file; the message has advice.

    """
    try:
        with open_plain_file(path) as file:
            kind = find_kind(path, file)
            cut = missing_of_onnx(file) if kind == ONNX else ''
    except OSError as exc:
        raise ModelFormatError(f'{path} cannot be read: {exc.strerror}') from exc
    if kind is None or (kind == TEXT and wanted == (PLAN,)):
        return None
    if kind not in wanted:
        expected = ' or '.join(each.name for each in wanted)
        raise ModelFormatError(
            f'{path} is {kind.name}, expected {expected}: {_advice(kind, path, wanted)}'
        )
    if cut:
        raise ModelFormatError(f'{path} is an ONNX file that was cut off: {cut}; {_AGAIN}')
    return kind


def _advice(kind: FileKind, path: Path, wanted: Sequence[FileKind]) -> str:
    quoted, stem = shlex.quote(str(path)), path.with_suffix('')
    if kind not in (ONNX, PLAN):
        return kind.advice.format(file=quoted, onnx=shlex.quote(f'{stem}.onnx'))
    suffix = '.plan' if kind == PLAN else '.onnx'
    if set(wanted) <= {ONNX, PLAN} and path.suffix != suffix:
        return f'rename it: mv {quoted} {shlex.quote(f"{stem}{suffix}")}'
    return f'give the file that it was made from, {" or ".join(each.name for each in wanted)}'


def find_kind(path: Path, file: BinaryIO) -> FileKind | None:
    """
    Return the kind of a file; None if it is unknown.

    Parameters
    ----------
    path
        Its name, whose suffix is looked at last.
    file
        Opened at its beginning.

    Raises
    ------
    OSError
        It cannot be read.

    """
    head = file.read(_HEAD_BYTES)
    size = os.fstat(file.fileno()).st_size
    if not head:
        return EMPTY
    if head[:4] in _PLAN_MAGIC:
        return PLAN
    if head[:2] == b'PK':
        return _kind_of_zip(file, head)
    for look in (_kind_by_magic, _kind_by_structure):
        if (kind := look(head, size)) is not None:
            return kind
    known = _BY_SUFFIX.get(path.suffix.lower())
    if head[0] == _ONNX_START and known != _CORE_ML:  # which begins alike
        return ONNX
    if known is None and _is_text(head):
        return TEXT
    return known


def _kind_by_magic(head: bytes, size: int) -> FileKind | None:
    return next((kind for at, magic, kind in _MAGIC if head[at:].startswith(magic)), None)


def _kind_by_structure(head: bytes, size: int) -> FileKind | None:
    """Return the kind of a file without a magic number; None if it is unknown."""
    text = head.removeprefix(b'\xef\xbb\xbf').lstrip().lower()
    length = int.from_bytes(head[:8], 'little')
    tests: tuple[tuple[Callable[[], bool], FileKind], ...] = (
        (lambda: text.startswith((b'<!doctype html', b'<html', b'<head')), _WEB_PAGE),
        (lambda: text.startswith(b'<net') or b'<net ' in text, _OPENVINO),
        (lambda: text.startswith((b'<?xml', b'<error')), _WEB_PAGE),
        (lambda: head[8:9] == b'{' and 0 < length < size, _SAFETENSORS),
        (lambda: head[0] == 0x80 and head[1] in range(2, 6), CHECKPOINT),
        (lambda: head.startswith(b'\x08\x01\x12'), _TENSORFLOW),
    )
    return next((kind for test, kind in tests if len(head) > 2 and test()), None)


def _is_text(head: bytes) -> bool:
    """Whether there are only characters to read, but for one that was cut at the end."""
    try:
        text = head.decode('utf-8')
    except UnicodeDecodeError as exc:
        if exc.start < len(head) - 3:
            return False
        text = head[:exc.start].decode('utf-8')
    return all(each.isprintable() or each in '\t\r\n' for each in text)


def _kind_of_zip(file: BinaryIO, head: bytes) -> FileKind:
    """Tell by what is listed; where the list is lost, by the first entry."""
    names = _listed(file) or [head[30:].decode('latin-1')]
    ends = {name.rpartition('/')[2] for name in names}
    if 'constants.pkl' in ends:
        return _TORCHSCRIPT
    if 'data.pkl' in ends or any('/data.pkl' in name for name in names):
        return CHECKPOINT
    if 'model.weights.h5' in ends:
        return _KERAS
    if all(name.endswith('.npy') for name in ends):
        return FileKind('a NumPy archive', 'it holds no network; give an ONNX file')
    return _ARCHIVE


def _listed(file: BinaryIO) -> list[str]:
    """Return the names in a zip archive; none if it is damaged, or its list is huge."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _ZIP_TAIL_BYTES))
    tail = file.read(_ZIP_TAIL_BYTES)
    end = tail.rfind(b'PK\x05\x06')
    list_bytes = int.from_bytes(tail[end + 12:end + 16], 'little')
    if end < 0 or list_bytes > _MOST_LIST_BYTES:
        return []
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.namelist()
    except _ZIP_ERRORS:
        return []
