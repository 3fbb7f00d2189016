"""Where results are to go: checked before any work, and so that nothing of the user's is lost."""

from __future__ import annotations

from collections.abc import Iterable
import os
from pathlib import Path
import stat

from yolov7_trt_ros.errors import SettingError

_BEGINS = {
    'JSON': (b'{', b'['),
    'HTML': (b'<',),
    'SVG': (b'<',),
    'CSV': (b'time (s)',),
    'ONNX': (b'\x08',),
    'PyTorch': (b'PK\x03\x04', b'\x80'),
}
"""How files begin that may be replaced by one of the same form; blanks before that are skipped."""
_LOOKED_AT_BYTES = 64


def check_json(target: str | None, inputs: Iterable[Path | None] = ()) -> None:
    """Check what `--json` was given, as `check_report` does; `-` is stdout."""
    if target is not None and target != '-':
        check_report('--json', Path(target), 'JSON', inputs, pipes=True)


def check_report(
    flag: str, path: Path | None, form: str, inputs: Iterable[Path | None] = (), *,
    pipes: bool = False,
) -> None:
    """
    Check a file that tells of the work, such as `--json`: its folder must be there.

    Parameters
    ----------
    flag
        The option, for the message.
    path
        What it was given; None where it was not.
    form
        A name of `_BEGINS`.
    inputs
        Files that are read, and so must not be written.
    pipes
        Whether it may be a pipe or a device.

    Raises
    ------
    SettingError
        There can be no such file, or another one is in the way.

    """
    if path is None:
        return
    path = path.expanduser()
    if not path.parent.is_dir():
        raise SettingError(
            f'{flag} {path}: there is no folder {path.parent}; make it first, or choose another'
        )
    _check(flag, path, form, inputs, pipes=pipes)


def check_product(
    flag: str, path: Path | None, form: str, inputs: Iterable[Path | None] = ()
) -> None:
    """Check the file that the work is done for, as `check_report` does; its folder is made."""
    if path is not None:
        _check(flag, path.expanduser(), form, inputs, pipes=False)


def check_folder(flag: str, path: Path) -> None:
    """
    Check a folder to write to; it is made with all above it.

    Raises
    ------
    SettingError
        It is something else, or nothing can be written there.

    """
    path = path.expanduser()
    if path.exists() and not path.is_dir():
        raise SettingError(f'{flag} must be a folder; {path} is none')
    _check_writable(flag, path, path)


def _check(
    flag: str, path: Path, form: str, inputs: Iterable[Path | None], *, pipes: bool
) -> None:
    for read in inputs:
        if read is not None and path.resolve() == read.expanduser().resolve():
            raise SettingError(f'{flag} {path} is read as well; give it a file of its own')
    if path.is_dir():
        raise SettingError(f'{flag} must be a file; {path} is a folder')
    _check_writable(flag, path, path.parent)
    if not path.exists():
        return
    if not stat.S_ISREG(path.stat().st_mode):
        if not pipes:
            raise SettingError(f'{flag} must be a file; {path} is a pipe or a device')
        return
    _check_replaced(flag, path, form)


def _check_replaced(flag: str, path: Path, form: str) -> None:
    """Refuse to replace a file of another form: most likely the arguments are mixed up."""
    if not os.access(path, os.W_OK):
        raise SettingError(f'{flag} {path}: the file that is there cannot be written')
    begins = _BEGINS.get(form)
    with path.open('rb') as file:
        found = file.read(_LOOKED_AT_BYTES).removeprefix(b'\xef\xbb\xbf').lstrip(b' \t\r\n')
    if begins is not None and found and not found.startswith(begins):
        raise SettingError(
            f'{flag} {path} would replace a file that is no {form}: choose another name, or '
            'remove it first'
        )


def _check_writable(flag: str, path: Path, folder: Path) -> None:
    """Find the folder that is there, of those that would be made, and see whether it opens."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise SettingError(f'{flag} {path}: {there} is no folder')
    if not os.access(there, os.W_OK | os.X_OK):
        raise SettingError(f'{flag} {path}: the folder {there} cannot be written')
