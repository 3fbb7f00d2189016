"""What is to be built, and whether everything for it is there."""

from __future__ import annotations

from dataclasses import dataclass
import importlib.util
import os
from pathlib import Path
import shlex
import shutil
import sys
import sysconfig

PREFIX = Path(sys.prefix)
"""Where the wheel will be installed, and where the generators and the other packages are."""

FASTRTPS = 'rosidl_typesupport_fastrtps_c'
INTROSPECTION = 'rosidl_typesupport_introspection_c'
DISPATCH = 'rosidl_typesupport_c'
"""The two type supports of a message in C, and the library that picks one at run time."""

GENERATED = {
    'type_description': 'rosidl_generator_type_description',
    'c': 'rosidl_generator_c',
    'fastrtps': FASTRTPS,
    'introspection': INTROSPECTION,
    'dispatch': DISPATCH,
    'python': 'rosidl_generator_py',
}
"""Folder below the generator root: the package that writes into it."""

HEADER_FOLDERS = ('c', 'fastrtps', 'introspection')


class BuildError(Exception):
    """The wheel cannot be built; the message says what is missing and how to get it."""


@dataclass(frozen=True)
class Interfaces:
    """
    An interface package to build.

    `source` holds msg/*.msg and srv/*.srv; `depends` names every package they refer to, also
    indirectly.

    """

    source: Path
    package: str
    version: str
    depends: tuple[str, ...] = ()

    @property
    def files(self) -> list[Path]:
        """Return the definitions, sorted, relative to `source`."""
        found = [*self.source.glob('msg/*.msg'), *self.source.glob('srv/*.srv')]
        return sorted(path.relative_to(self.source) for path in found)

    @property
    def wheel_name(self) -> str:
        """Return the file name of the wheel for the running Python."""
        return f'ros_{self.package}-{self.version}-{python_tag()}-{platform_tag()}.whl'


def python_tag() -> str:
    """Return the interpreter and ABI tag of the running Python, such as cp311-cp311."""
    short = f'cp{sys.version_info.major}{sys.version_info.minor}'
    return f'{short}-{short}'


def platform_tag() -> str:
    """Return the platform tag of the running Python, such as linux_x86_64 or linux_aarch64."""
    return sysconfig.get_platform().replace('-', '_').replace('.', '_')


def short_name(path: Path) -> str:
    """Return the last folder and the name of a path, such as msg/Detection2D.idl."""
    return f'{path.parent.name}/{path.name}'


def compiler(language: str) -> list[str]:
    """
    Return the command that compiles `language`, 'c' or 'cpp'; $CC and $CXX win.

    Raises
    ------
    BuildError
        If there is no such program.

    """
    variable, default = {'c': ('CC', 'gcc'), 'cpp': ('CXX', 'g++')}[language]
    command = shlex.split(os.environ.get(variable) or default)
    if shutil.which(command[0]) is None:
        raise BuildError(
            f'no compiler {command[0]!r}; install build-essential (Debian/Ubuntu: '
            f'sudo apt-get install build-essential) or set {variable}'
        )
    return command


def check_prerequisites(depends: tuple[str, ...]) -> None:
    """
    Find out, before anything is generated, whether everything for the build is there.

    Raises
    ------
    BuildError
        If a compiler, the Python headers, a generator or a referenced package is missing.

    """
    for language in ('c', 'cpp'):
        compiler(language)
    header = Path(sysconfig.get_paths()['include']) / 'Python.h'
    if not header.is_file():
        raise BuildError(
            f'no Python headers ({header}); install python3-dev '
            '(Debian/Ubuntu: sudo apt-get install python3-dev)'
        )
    modules = ['numpy', 'rosidl_adapter', *GENERATED.values()]
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    missing += [name for name in depends if not (PREFIX / 'share' / name).is_dir()]
    if missing:
        raise BuildError(
            f'{PREFIX} lacks {", ".join(missing)}; install requirements/ros-kilted.txt'
        )
