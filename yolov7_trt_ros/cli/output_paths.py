"""Check the files and folders to write, before any work: no foreign file is replaced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
import os
from pathlib import Path

from yolov7_trt_ros.errors import InputError, SettingError
from yolov7_trt_ros.home_folder import expand_home

_BEGINS = {'JSON': (b'{', b'['), 'HTML': (b'<',), 'SVG': (b'<',), 'CSV': (b'time (s)',)}
"""How a text begins that may be replaced by one of the same form; leading blanks are skipped."""
_HEAD_BYTES = 64


def check_json(
    target: str | None, inputs: Iterable[Path | None] = (), *, made: Iterable[Path | None] = ()
) -> None:
    """
    Check the target of `--json`: stdout, a pipe, or a file in an existing folder.

    Parameters
    ----------
    target
        None if it was not given.
    inputs
        As in `check_file`.
    made
        Folders that the work creates; the file may be in them.

    Raises
    ------
    SettingError, InputError
        As in `check_file`; InputError also if there is no such folder.

    """
    if target is None or target == '-':
        return
    path = expand_home(target)
    to_come = [expand_home(folder) for folder in made if folder is not None]
    to_come = [folder for folder in to_come if not folder.exists()]
    if not path.parent.is_dir() and not any(map(path.parent.is_relative_to, to_come)):
        raise InputError(
            f'--json {path}: there is no folder {path.parent}; make it first, or choose another'
        )
    if path.exists() and not path.is_dir() and not path.is_file():
        return
    check_file('--json', path, 'JSON', inputs)


def check_file(
    flag: str, path: Path | None, form: str, inputs: Iterable[Path | None] = ()
) -> None:
    """
    Check a file to write; missing folders above it will be created.

    Parameters
    ----------
    flag
        The option, for the message.
    path
        Its value; None if it was not given.
    form
        JSON, HTML, SVG, CSV, ONNX, PyTorch, plan, timing cache or picture: only a file that may
        have this form is replaced. '' for any.
    inputs
        Files that are read and so must not be written.

    Raises
    ------
    SettingError
        It is one of the inputs, a folder, a pipe or a device.
    InputError
        It cannot be written, or is a file of another form.

    """
    if path is None:
        return
    path = expand_home(path)
    for read in inputs:
        if read is not None and path.resolve() == expand_home(read).resolve():
            raise SettingError(f'{flag} {path} is read as well; give it a file of its own')
    check_writable(flag, path, path.parent)
    if not path.exists():
        return
    if not path.is_file():
        found = 'a folder' if path.is_dir() else 'a pipe or a device'
        raise SettingError(f'{flag} must be a file; {path} is {found}')
    if not os.access(path, os.W_OK):
        raise InputError(f'{flag} {path}: the existing file cannot be written')
    if form and (found := _other_form(path, form)):
        raise InputError(
            f'{flag} {path} would replace {found}: choose another name, or remove it first'
        )


def check_apart(targets: Mapping[str, str | Path | None]) -> None:
    """
    Check that no two options name one file to write, of which the later would replace the other.

    Parameters
    ----------
    targets
        Values by option; None for one that was not given, `-` for stdout.

    Raises
    ------
    SettingError
        Two are the same.

    """
    seen: dict[Path, str] = {}
    for flag, target in targets.items():
        if target is None or str(target) == '-':
            continue
        path = expand_home(target)
        other = seen.setdefault(path.resolve(), flag)
        if other != flag and not (path.exists() and not path.is_file()):
            raise SettingError(f'{other} and {flag} both name {path}; give each a file of its own')


def check_folder(flag: str, path: Path) -> None:
    """
    Check a folder to write to; it is created with its parents.

    Raises
    ------
    SettingError
        It is something else.
    InputError
        Nothing can be written there.

    """
    path = expand_home(path)
    if path.exists() and not path.is_dir():
        raise SettingError(f'{flag} must be a folder; {path} is not')
    check_writable(flag, path, path)


def _other_form(path: Path, form: str) -> str:
    """Return what a file is, if certainly not of the form; '' if it may be."""
    with path.open('rb') as file:
        head = file.read(_HEAD_BYTES).removeprefix(b'\xef\xbb\xbf').lstrip(b' \t\r\n')
        if form in _BEGINS:
            fits = not head or head.startswith(_BEGINS[form])
            return '' if fits else f'a file that is not {form}'
        from yolov7_trt_ros.engine import file_kind

        file.seek(0)
        kind = file_kind.find_kind(path, file)
    own = {'ONNX': file_kind.ONNX, 'PyTorch': file_kind.CHECKPOINT, 'plan': file_kind.PLAN,
           'picture': file_kind.PICTURE}
    if kind is None or kind in (own.get(form), file_kind.EMPTY, file_kind.TEXT):
        return ''
    return kind.name


def check_writable(flag: str, path: Path, folder: Path) -> None:
    """
    Check the lowest existing folder above a path to create.

    Raises
    ------
    InputError
        It cannot be written to.

    """
    parent = folder
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir():
        raise InputError(f'{flag} {path}: {parent} is not a folder')
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f'{flag} {path}: the folder {parent} cannot be written')
