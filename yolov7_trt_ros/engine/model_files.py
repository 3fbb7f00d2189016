"""Which file a model name or path stands for, and where class names come from."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from yolov7_trt_ros.core.class_names import COCO80
from yolov7_trt_ros.engine.file_kind import check_kind, check_model_file, ONNX, PLAN_SUFFIXES
from yolov7_trt_ros.engine.plain_file import name_of_mode, read_plain_file
from yolov7_trt_ros.errors import ModelFormatError, ModelNotFoundError, SettingError

DEFAULT_MODEL = 'yolov7-nano'
EMBEDDED_MODELS = {DEFAULT_MODEL: 'yolov7-nano_fp16w.onnx'}
"""Models that come inside the package, by name."""
_MOST_NAMES_BYTES = 1 << 22


def find_model(name_or_path: str) -> Path:
    """
    Return the file of an embedded model's name or of a path (`~` is expanded).

    Raises
    ------
    ModelNotFoundError
        Neither; the message lists the embedded names.
    ModelFormatError
        The file is certainly no ONNX model or plan; the message says what it is and what to do.

    """
    if name_or_path in EMBEDDED_MODELS:
        folder = resources.files('yolov7_trt_ros') / 'models'
        return Path(str(folder / EMBEDDED_MODELS[name_or_path]))
    try:
        path = Path(name_or_path).expanduser()
        if path.is_file():
            check_model_file(path)
            return path
        looked = _told(path)
    except (OSError, ValueError, RuntimeError) as exc:  # not permitted, too long, no such user
        looked = str(exc)
    raise ModelNotFoundError(
        f'no model {name_or_path!r}: neither a file ({looked}) nor an embedded model; '
        f'embedded: {", ".join(EMBEDDED_MODELS)}'
    )


def find_onnx_model(name_or_path: str) -> Path:
    """
    Return the file as `find_model` does, where a plan will not do.

    Raises
    ------
    ModelNotFoundError, ModelFormatError
        As `find_model`, and where it is a plan.

    """
    path = find_model(name_or_path)
    check_kind(path, ONNX)
    if path.suffix.lower() in PLAN_SUFFIXES:
        raise ModelFormatError(
            f'{path} is a TensorRT plan, expected an ONNX file: give the one it was built from'
        )
    return path


def _told(path: Path) -> str:
    """Return what was found at a path that is no file."""
    if not path.exists():
        return f'looked for {path.absolute()}'
    found = f'{path} is {name_of_mode(path.stat().st_mode)}'
    inside = sorted(path.glob('*.onnx')) if path.is_dir() else []
    return f'{found}; did you mean {inside[0]}?' if inside else found


def load_class_names(source: str) -> tuple[str, ...] | None:
    """
    Return class names for a setting: `auto` (None: ask the model), `coco80`, or a text file.

    The file has one name a line; empty lines are passed over.

    Raises
    ------
    SettingError
        The file cannot be read or holds no names.

    """
    if source in ('', 'auto'):
        return None
    if source == 'coco80':
        return COCO80
    try:
        data = read_plain_file(Path(source).expanduser(), _MOST_NAMES_BYTES)
        lines = data.decode('utf-8-sig').splitlines()
    except (OSError, ValueError, RuntimeError, ModelFormatError) as exc:  # no user, not text
        raise SettingError(
            f'class_names must be auto, coco80 or a text file with one name a line; '
            f'cannot read {source!r}: {exc}'
        ) from exc
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise SettingError(f'class_names file {source!r} holds no names')
    return names
