"""The parameter `engines`: additional engines, as a list of models or in a YAML file."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
from pathlib import Path
from typing import Any

import yaml

from yolov7_trt_ros.core.topics import split_names
from yolov7_trt_ros.engine.model_files import EMBEDDED_MODELS
from yolov7_trt_ros.engine.options import DetectorOptions
from yolov7_trt_ros.engine.plain_file import read_plain_file
from yolov7_trt_ros.errors import ModelError, SettingError
from yolov7_trt_ros.home_folder import expand_home
from yolov7_trt_ros.nodes.detector_parameters import parameters
from yolov7_trt_ros.nodes.detector_parameters.settings import detector_options
from yolov7_trt_ros.nodes.detector_parameters.trusted_folders import TrustedFolders
from yolov7_trt_ros.nodes.one_line import one_line

MOST_ENGINES = 8
_SUFFIXES = ('.yaml', '.yml')
_MOST_BYTES = 65536
_SHOWN_CHARACTERS = 100
_OPTIONS = tuple(
    field.name for field in dataclasses.fields(DetectorOptions)
    if field.name not in ('model', 'plan_cache', 'max_batch')
)
_EXAMPLE = 'expected `engines:` and below it a list, such as `- {model: tiny_dla0.plan}`'


@dataclasses.dataclass(frozen=True)
class NamedEngine:
    """An engine to open, with its name for users."""

    name: str
    options: DetectorOptions


def read_engines(values: Mapping[str, Any], trusted: TrustedFolders) -> list[NamedEngine]:
    """
    Return the engines that the parameter `engines` names, none if it is empty.

    Parameters
    ----------
    values
        The parameters of the node: what an engine does not say is as for `model`.
    trusted
        Where files may lie; what was named at the start may lie anywhere, as for `model`.

    Raises
    ------
    SettingError
        The text or the file is no such list, a file lies elsewhere, two engines have one name, or
        there are too many. Says what was expected, what was found and what to do.

    """
    text = str(values['engines'])
    named = split_names(text)
    is_from_start = trusted.is_from_start('engines', text)

    def path_of(path: str) -> str:
        return path if is_from_start else trusted.path_to_open('engines', path)

    if len(named) == 1 and Path(named[0]).suffix.lower() in _SUFFIXES:
        file = expand_home(path_of(named[0]))
        entries = [_checked(file, each) for each in _read_file(file)]
        folder = file.parent
    else:
        entries, folder = [{'model': each} for each in named], None
    base = detector_options(values)
    engines = [_engine(entry, base, folder, path_of) for entry in entries]
    _check_names([str(values['model']), *(each.name for each in engines)])
    return engines


def _engine(
    entry: Mapping[str, Any], base: DetectorOptions, folder: Path | None, path_of: Any
) -> NamedEngine:
    model = str(entry['model'])
    options = {name: entry[name] for name in _OPTIONS if name in entry}
    if model in EMBEDDED_MODELS:
        options['model'] = model
    else:
        if folder is not None and not model.startswith('~'):
            model = str(folder / model)
        options['model'] = path_of(model)
    names = str(options.get('class_names', 'auto'))
    if names not in ('', 'auto', 'coco80'):
        options['class_names'] = path_of(str(folder / names) if folder is not None else names)
    return NamedEngine(str(entry.get('name', entry['model'])),
                       dataclasses.replace(base, **options))


def _check_names(names: list[str]) -> None:
    if len(names) > MOST_ENGINES:
        raise SettingError(
            f'engines may name {MOST_ENGINES - 1} more at most, got {len(names) - 1}'
        )
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
        node = yaml.compose(text, yaml.SafeLoader)
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
    known = ('name', 'model', *_OPTIONS)
    for key, value in entry.items():
        if key not in known:
            raise SettingError(
                f'engines: {file} has {one_line(repr(key), _SHOWN_CHARACTERS)} for an engine, '
                f'which may have {", ".join(known)}'
            )
        if not isinstance(value, (str, int, float, bool)):
            raise SettingError(f'engines: {file}: {key} must be one value, got a '
                               f'{type(value).__name__}')
    if not str(entry.get('model', '')):
        raise SettingError(f'engines: {file} has an engine without `model`')
    try:
        options = {
            name: parameters.BY_NAME[name].check(value) for name, value in entry.items()
            if name in parameters.BY_NAME
        }
    except SettingError as exc:
        raise SettingError(f'engines: {file}: {exc}') from exc
    return entry | options


def _one_line(error: Exception) -> str:
    return one_line(' '.join(str(error).split()), 2 * _SHOWN_CHARACTERS)
