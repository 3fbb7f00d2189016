"""The engines beside that of `model`: a list of models, or a YAML file with their options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
import math
from pathlib import Path
from typing import Any

import yaml

from yolov7_trt_ros.core.forms.anchors import choose_anchors
from yolov7_trt_ros.core.forms.model_spec import ANCHOR_SETS
from yolov7_trt_ros.core.plain_text import one_line
from yolov7_trt_ros.core.topics import split_names
from yolov7_trt_ros.engine.model_files import EMBEDDED_MODELS
from yolov7_trt_ros.engine.options import (
    BACKENDS,
    DetectorOptions,
    MEMORIES,
    NETWORK_SIZE_RANGE,
    PRECISIONS,
)
from yolov7_trt_ros.engine.value_spec import ValueSpec
from yolov7_trt_ros.errors import ModelError, SettingError
from yolov7_trt_ros.home_folder import expand_home
from yolov7_trt_ros.plain_file import read_plain_file

_DEFAULTS = DetectorOptions()
ENGINE_OPTIONS = {spec.name: spec for spec in (
    ValueSpec(
        'backend', _DEFAULTS.backend,
        'Inference engine. auto: TensorRT if there is a CUDA device, pycuda and TensorRT, '
        'otherwise ONNX Runtime on the CPU.', choices=BACKENDS,
    ),
    ValueSpec(
        'class_names', _DEFAULTS.class_names,
        "auto (the model's metadata), coco80, or a text file with one name per line.",
    ),
    ValueSpec(
        'anchors', _DEFAULTS.anchors,
        'Anchors of a model that ends in raw heads and does not contain them: auto, '
        f'{", ".join(ANCHOR_SETS)}, or widths and heights in pixels, smallest stride first: '
        '"10,13 16,30 33,23 30,61 ...".', reads=choose_anchors,
    ),
    ValueSpec(
        'network_size', _DEFAULTS.network_size,
        "Longer side of the network input, in pixels, a multiple of the model's stride. Models "
        'with a fixed input size ignore it; the log has a warning if it was set.',
        *NETWORK_SIZE_RANGE,
    ),
    ValueSpec(
        'rectangular', _DEFAULTS.rectangular,
        'Letterbox to the smallest rectangle of stride multiples instead of a square.',
    ),
    ValueSpec(
        'threads', _DEFAULTS.threads, 'CPU threads of ONNX Runtime. 0: one per core.', 0, 64
    ),
    ValueSpec(
        'precision', _DEFAULTS.precision,
        'Precision of a TensorRT plan that is built here. int8 and mixed use 8 bits where the '
        'ONNX model has Q/DQ nodes.', choices=PRECISIONS,
    ),
    ValueSpec(
        'memory', _DEFAULTS.memory,
        'How images are transferred to the GPU: copied in stripes, fetched from the receive '
        'memory, mapped into it, or read in place. auto measures once per machine.',
        choices=MEMORIES,
    ),
    ValueSpec(
        'cuda_graph', _DEFAULTS.cuda_graph,
        'Launch the work of a frame as one CUDA graph if it can be captured.',
    ),
)}
"""What an engine of the list may say, and what is accepted: as the node's parameters."""

MOST_ENGINES = 8
_SUFFIXES = ('.yaml', '.yml')
_MOST_BYTES = 65536
_MOST_NODES, _MOST_DEPTH = 1000, 4
"""Of a YAML file: what has more is no list of so few engines, and could take hours to read."""
_MOST_CHARACTERS = 4096
_MOST_NUMBER = 2**63
_SHOWN_CHARACTERS = 100
_EXAMPLE = 'expected `engines:` and below it a list, such as `- {model: tiny_dla0.plan}`'


@dataclasses.dataclass(frozen=True)
class NamedEngine:
    """An engine to open, with its name for users."""

    name: str
    options: DetectorOptions


def read_engines(
    text: str, base: DetectorOptions, path_of: Callable[[str], str] = lambda path: path
) -> list[NamedEngine]:
    """
    Return the engines that a text names: models with commas between them, or one YAML file.

    Parameters
    ----------
    text
        Paths in it are relative to the working folder, those in a file to the folder of the file.
    base
        The options of the first engine: what an engine does not say is as there.
    path_of
        Returns the path to open of each file that is named, or raises SettingError.

    Raises
    ------
    SettingError
        The text or the file is no such list, two engines have one name, or there are too many.
        Says what was expected, what was found and what to do.

    """
    named = split_names(text)
    if text.strip() and not named:
        raise SettingError(
            f'engines names no model, got {one_line(repr(text), _SHOWN_CHARACTERS)}: expected '
            'models with commas between them, or a YAML file'
        )
    _check_count(len(named))
    if len(named) == 1 and Path(named[0]).suffix.lower() in _SUFFIXES:
        file = expand_home(path_of(named[0]))
        listed = _read_file(file)
        _check_count(len(listed))
        entries, folder = [_checked(file, each) for each in listed], file.parent
    else:
        entries, folder = [{'model': each} for each in named], None
    engines = [_engine(entry, base, folder, path_of) for entry in entries]
    _check_names([base.model, *(each.name for each in engines)])
    return engines


def _engine(
    entry: Mapping[str, Any], base: DetectorOptions, folder: Path | None,
    path_of: Callable[[str], str],
) -> NamedEngine:
    def placed(path: str) -> str:
        in_folder = folder is not None and not path.startswith('~')
        return path_of(str(Path(folder or '', path)) if in_folder else path)

    model = str(entry['model'])
    options = {name: entry[name] for name in ENGINE_OPTIONS if name in entry}
    options['model'] = model if model in EMBEDDED_MODELS else placed(model)
    names = str(options.get('class_names', 'auto'))
    if names not in ('', 'auto', 'coco80'):
        options['class_names'] = placed(names)
    return NamedEngine(str(entry.get('name', model)), dataclasses.replace(base, **options))


def _check_count(count: int) -> None:
    """Refuse too many before anything is done for each."""
    if count >= MOST_ENGINES:
        raise SettingError(f'engines may name {MOST_ENGINES - 1} more at most, got {count}')


def _check_names(names: list[str]) -> None:
    for number, name in enumerate(names):
        if name in names[:number]:
            raise SettingError(
                f'engines names {one_line(repr(name), _SHOWN_CHARACTERS)} twice, including '
                '`model`: if that is intended, give each of them its own `name` in a YAML file'
            )


# ---- the file


def _read_file(file: Path) -> list[Any]:
    try:
        text = read_plain_file(file, _MOST_BYTES).decode()
        _check_events(text, file)
        node = yaml.compose(text, yaml.SafeLoader)
        _check_size(node, file)
        _check_keys(node, file)
        content = yaml.safe_load(text)
    except OSError as exc:
        raise SettingError(f'engines: {file} cannot be read: {exc.strerror}') from exc
    except ModelError as exc:  # no plain file, or too large
        raise SettingError(f'engines: {exc}') from exc
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as exc:
        raise SettingError(f'engines: {file} is not a YAML file: {_one_line(exc)}') from exc
    if not isinstance(content, dict) or list(content) != ['engines'] or not isinstance(
        content['engines'], list
    ):
        raise SettingError(f'engines: {file} does not list engines: {_EXAMPLE}')
    if not content['engines']:
        raise SettingError(f'engines: {file} lists none: {_EXAMPLE}')
    return list(content['engines'])


def _check_events(text: str, file: Path) -> None:
    """Refuse what is large or deep before it is read as a whole."""
    depth = 0
    for number, event in enumerate(yaml.parse(text, yaml.SafeLoader)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if number > 2 * _MOST_NODES or depth > _MOST_DEPTH:
            raise _too_much(file)
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > _MOST_CHARACTERS:
            raise SettingError(
                f'engines: {file}, line {event.start_mark.line + 1}: a value may have '
                f'{_MOST_CHARACTERS} characters, got {len(event.value)}'
            )


def _check_size(root: Any, file: Path) -> None:
    """Refuse what is too large with each alias replaced by what it means, or contains itself."""
    sizes: dict[int, float] = {}

    def size_of(node: Any) -> float:
        if id(node) not in sizes:
            sizes[id(node)] = math.inf  # while it is counted: it contains itself
            inside = node.value if isinstance(node, yaml.CollectionNode) else []
            sizes[id(node)] = 1 + sum(
                sum(map(size_of, each)) if isinstance(each, tuple) else size_of(each)
                for each in inside
            )
        return sizes[id(node)]

    if size_of(root) > _MOST_NODES:
        raise _too_much(file)


def _too_much(file: Path) -> SettingError:
    return SettingError(
        f'engines: {file} has more than {_MOST_NODES} values, aliases counted as what they '
        f'stand for, or more than {_MOST_DEPTH} levels: {_EXAMPLE}'
    )


def _check_keys(node: Any, file: Path, depth: int = 0) -> None:
    """Refuse a key that appears twice; YAML would silently use the last one."""
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = [key for number, key in enumerate(keys) if key in keys[:number]]
        if twice:
            raise SettingError(
                f'engines: {file}, line {node.start_mark.line + 1}: '
                f'{one_line(repr(twice[0]), _SHOWN_CHARACTERS)} appears twice'
            )
        for _, value in node.value if depth < 2 else ():
            _check_keys(value, file, depth + 1)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value if depth < 2 else ():
            _check_keys(value, file, depth + 1)


def _checked(file: Path, entry: Any) -> dict[str, Any]:
    """Return an engine of the file, its values checked like the parameters of the same names."""
    if not isinstance(entry, dict):
        raise SettingError(f'engines: {file} has a {type(entry).__name__} in the list: {_EXAMPLE}')
    known = ('name', 'model', *ENGINE_OPTIONS)
    for key, value in entry.items():
        if key not in known:
            raise SettingError(
                f'engines: {file} has {one_line(repr(key), _SHOWN_CHARACTERS)} for an engine, '
                f'which may have {", ".join(known)}'
            )
        if not isinstance(value, (str, int, float, bool)):
            raise SettingError(f'engines: {file}: {key} must be one value, got a '
                               f'{type(value).__name__}')
        if isinstance(value, int) and abs(value) >= _MOST_NUMBER:  # too long to be written, too
            raise SettingError(f'engines: {file}: {key} is a number above {_MOST_NUMBER - 1}')
    if not str(entry.get('model', '')):
        raise SettingError(f'engines: {file} has an engine without `model`')
    if not str(entry.get('name', 'none')):
        raise SettingError(f'engines: {file} has an engine with an empty `name`: leave it out')
    try:
        options = {
            name: ENGINE_OPTIONS[name].check(value) for name, value in entry.items()
            if name in ENGINE_OPTIONS
        }
    except SettingError as exc:
        raise SettingError(f'engines: {file}: {exc}') from exc
    return entry | options


def _one_line(error: Exception) -> str:
    return one_line(' '.join(str(error).split()), 2 * _SHOWN_CHARACTERS)
