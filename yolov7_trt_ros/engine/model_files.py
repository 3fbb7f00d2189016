"""Find the file of a model name or path, and the source of its class names."""

from __future__ import annotations

import codecs
from importlib import resources
from pathlib import Path
import re

from yolov7_trt_ros.core.class_names import COCO80, visible
from yolov7_trt_ros.engine.file_kind import check_kind, check_model_file, ONNX, PLAN_SUFFIXES
from yolov7_trt_ros.engine.options import DEFAULT_MODEL
from yolov7_trt_ros.errors import (
    ModelError,
    ModelFormatError,
    ModelNotFoundError,
    SettingError,
)
from yolov7_trt_ros.home_folder import expand_home
from yolov7_trt_ros.plain_file import name_of_mode, read_plain_file, sha256_of

EMBEDDED_MODELS = {DEFAULT_MODEL: 'yolov7-nano_fp16w.onnx'}
"""Models that come inside the package, by name."""
OFFICIAL_WEIGHTS = (
    'yolov7-tiny', 'yolov7', 'yolov7x', 'yolov7-w6', 'yolov7-e6', 'yolov7-d6', 'yolov7-e6e',
)
"""Names of the published weights, which are not in the package."""
_RELEASE = 'https://github.com/WongKinYiu/yolov7/releases/download/v0.1'

_MOST_NAMES_BYTES = 1 << 20
_LINE_END = re.compile(r'\r\n|\r|\n')  # not what str.splitlines ends lines at beside these
_NOT_NAMES = {
    'YAML': re.compile(r'^(names|nc|train|val|path)\s*:|^\d+:\s|^---$|^- '),
    'JSON': re.compile(r'^\[\s*["\']|^\{\s*["\'\d]|^["\'].*["\'],?$'),
    'a line with a comment': re.compile(r'^#.|\s#\s'),
    'a label map': re.compile(r'^(item|name|id)\s*[:{]'),
}


def find_model(name_or_path: str) -> Path:
    """
    Return the file of an embedded model's name or of a path (`~` is expanded).

    Raises
    ------
    ModelNotFoundError
        Neither; the message lists the embedded names.
    ModelFormatError
        The file is certainly no ONNX model or plan; the message has its kind and advice.

    """
    if name_or_path in EMBEDDED_MODELS:
        folder = resources.files('yolov7_trt_ros') / 'models'
        return Path(str(folder / EMBEDDED_MODELS[name_or_path]))
    try:
        path = expand_home(name_or_path)
        if path.is_file():
            check_model_file(path)
            return path
        looked = _why_not_found(path)
    except (OSError, ValueError, SettingError) as exc:  # not permitted, too long, no such user
        looked = str(exc)
    if name_or_path in OFFICIAL_WEIGHTS:
        raise ModelNotFoundError(_where_to_get(name_or_path))
    raise ModelNotFoundError(
        f'no model {name_or_path!r}: neither a file ({looked}) nor an embedded model; '
        f'embedded: {", ".join(EMBEDDED_MODELS)}'
    )


def _where_to_get(name: str) -> str:
    """Return how to get official weights, which nothing here fetches by itself."""
    return (
        f'{name} does not come with this package, for its weights are published under GPL-3.0. '
        f'Fetch them: curl -LO {_RELEASE}/{name}.pt; then export them: yolov7_trt export '
        f'{name}.pt -o {name}.onnx (needs pip install torch onnx), and give -m {name}.onnx'
    )


class ModelFile:
    """
    A model's file as it is before it is opened, so that its hash is that of what was opened.

    Parameters
    ----------
    name_or_path
        As `find_model` takes it.

    """

    def __init__(self, name_or_path: str) -> None:
        self._name = name_or_path
        self._state = self._look()

    @property
    def has_changed(self) -> bool:
        """Whether the file is another one now, or has been written to."""
        return self._look() != self._state

    def sha256(self) -> str:
        """Return its SHA-256 in hexadecimal digits, '' if it cannot be read or has changed."""
        try:
            digest = sha256_of(find_model(self._name))
        except (OSError, ModelError):
            return ''
        return '' if self.has_changed else digest

    def _look(self) -> tuple[int, ...] | None:
        """Return what changes with each write and each replacement, None if there is no file."""
        try:
            found = find_model(self._name).stat()
        except (OSError, ModelError):
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def find_onnx_model(name_or_path: str) -> Path:
    """
    Return the file as `find_model` does, where a plan will not do.

    Raises
    ------
    ModelNotFoundError, ModelFormatError
        As `find_model`, and if it is a plan.

    """
    path = find_model(name_or_path)
    check_kind(path, ONNX)
    if path.suffix.lower() in PLAN_SUFFIXES:
        raise ModelFormatError(
            f'{path} is a TensorRT plan, expected an ONNX file: give the one it was built from'
        )
    return path


def _why_not_found(path: Path) -> str:
    """Return what was found at a path that is no file."""
    if not path.exists():
        return f'looked for {path.absolute()}'
    found = f'{path} is {name_of_mode(path.stat().st_mode)}'
    inside = sorted(path.glob('*.onnx')) if path.is_dir() else []
    return f'{found}; did you mean {inside[0]}?' if inside else found


def load_class_names(source: str) -> tuple[str, ...] | None:
    """
    Return class names for a setting: `auto` (None: ask the model), `coco80`, or a text file.

    The file has one name a line; empty lines are passed over. It is in UTF-8, or in UTF-16 with a
    byte order mark.

    Raises
    ------
    SettingError
        The file cannot be read, holds no names, or holds something else.

    """
    if source in ('', 'auto'):
        return None
    if source == 'coco80':
        return COCO80
    try:
        return _parse_names_file(_read_text(expand_home(source)))
    except (OSError, ValueError, SettingError, ModelFormatError) as exc:  # no user, not text
        raise SettingError(
            'class_names must be auto, coco80 or a text file with one name a line; '
            f'cannot use {visible(source)!r}: {exc}'
        ) from exc


def _read_text(path: Path) -> str:
    """Return the text of a plain file; raises ValueError for what is none, beside its errors."""
    data = read_plain_file(path, _MOST_NAMES_BYTES)
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode('utf-16' if marked else 'utf-8-sig')
    except UnicodeDecodeError as exc:
        raise ValueError(
            f'it is no text in {exc.encoding} (byte {exc.start} is 0x{data[exc.start]:02x}); save '
            'it as UTF-8'
        ) from exc
    if '\0' in text:
        raise ValueError('it has zero bytes: not text, or UTF-16 without a byte order mark')
    return text


def _parse_names_file(text: str) -> tuple[str, ...]:
    """Return the names, one a line; raises ValueError if they are something else."""
    names = tuple(name for line in _LINE_END.split(text) if (name := line.strip()))
    if not names:
        raise ValueError('it holds no names')
    for number, name in enumerate(names, 1):
        if what := _what_else(name):
            raise ValueError(f'name {number}, {visible(name)[:60]!r}, looks like {what}; '
                             'write one name a line and nothing else')
        if visible(name) != name:
            raise ValueError(f'name {number} has invisible characters in it: {visible(name)[:60]}')
    if len(names) == 1 and ',' in names[0]:
        raise ValueError('its only line has commas; write one name a line')
    return names


def _what_else(name: str) -> str:
    """Return what a line is when it is not a class name, '' for one that may be."""
    return next((what for what, form in _NOT_NAMES.items() if form.search(name)), '')
