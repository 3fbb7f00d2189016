"""Compile: generated sources to the shared libraries of an interface package."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
import functools
import os
from pathlib import Path
import shlex
import subprocess
import sysconfig

from interface_wheel.generation import Generation
from interface_wheel.interfaces import (
    BuildError,
    compiler,
    DISPATCH,
    FASTRTPS,
    HEADER_FOLDERS,
    INTROSPECTION,
    PREFIX,
)

RUNTIME_LINKS = ('-lrosidl_runtime_c', '-lrcutils')
PYTHON_LINKS = ('-Wl,--unresolved-symbols=ignore-all',)
"""The symbols of Python are in the interpreter that will load the library."""


@dataclass(frozen=True)
class Library:
    """A shared library to build: its file name, its sources and what it links with."""

    name: str
    sources: tuple[Path, ...]
    links: tuple[str, ...]
    is_extension: bool = False

    @property
    def is_cpp(self) -> bool:
        """Whether any source is C++, which decides who links."""
        return any(path.suffix == '.cpp' for path in self.sources)


def fastcdr_link() -> str:
    """
    Return the linker option for the Fast CDR library of this prefix.

    The name it is loaded under carries the ABI version, which depends on the ROS distribution.

    """
    versioned = sorted((PREFIX / 'lib').glob('libfastcdr.so.*'), key=lambda path: len(path.name))
    if not versioned:
        raise BuildError(
            f'no libfastcdr.so.* in {PREFIX / "lib"}; install requirements/ros-kilted.txt'
        )
    return f'-l:{versioned[0].name}'


def list_libraries(generation: Generation) -> list[Library]:
    """Return the libraries of the package in the order in which they have to be linked."""
    package, depends = generation.interfaces.package, generation.interfaces.depends

    def own(*suffixes: str) -> tuple[str, ...]:
        return tuple(f'-l{package}__{suffix}' for suffix in suffixes)

    def others(suffix: str) -> tuple[str, ...]:
        return tuple(f'-l{name}__{suffix}' for name in depends)

    def library(suffix: str, folder: str, pattern: str, *links: str) -> Library:
        sources = tuple(sorted(generation.folder(folder).rglob(pattern)))
        return Library(f'lib{package}__{suffix}.so', sources, links)

    c = 'rosidl_generator_c'
    return [
        library(c, 'c', '*.c', *others(c), *RUNTIME_LINKS),
        library(
            FASTRTPS, 'fastrtps', '*.cpp', *own(c), *others(c), *others(FASTRTPS),
            '-lrosidl_typesupport_fastrtps_c', '-lrosidl_typesupport_fastrtps_cpp',
            fastcdr_link(), '-lrmw', *RUNTIME_LINKS,
        ),
        library(
            INTROSPECTION, 'introspection', '*.c', *own(c), *others(c), *others(INTROSPECTION),
            '-lrosidl_typesupport_introspection_c', *RUNTIME_LINKS,
        ),
        library(
            DISPATCH, 'dispatch', '*.cpp', *own(c), '-lrosidl_typesupport_c', *others(DISPATCH),
            *RUNTIME_LINKS,
        ),
        library(
            'rosidl_generator_py', 'python', '*_s.c', *own(c, DISPATCH), *others(c),
            *others('rosidl_generator_py'), *RUNTIME_LINKS, *PYTHON_LINKS,
        ),
        *(
            Library(
                f'{package}_s__{support}.so',
                (generation.folder('python') / f'_{package}_s.ep.{support}.c',),
                (*own('rosidl_generator_py', support, DISPATCH, c), *RUNTIME_LINKS, *PYTHON_LINKS),
                is_extension=True,
            )
            for support in (DISPATCH, FASTRTPS, INTROSPECTION)
        ),
    ]


def include_options(generation: Generation) -> list[str]:
    """Return the -I options for the generated code, the prefix, Python and numpy."""
    import numpy

    folders = [
        PREFIX / 'include',
        *(generation.root / name for name in (*HEADER_FOLDERS, 'python')),
        generation.folder('python'),
        *sorted(path for path in (PREFIX / 'include').glob('*') if path.is_dir()),
        sysconfig.get_paths()['include'],
        numpy.get_include(),
    ]
    return [f'-I{folder}' for folder in folders]


def run_tool(command: list[str]) -> None:
    """Run a compiler; a failure becomes a BuildError with what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(
            f'{shlex.join(command)}\nfailed with status {done.returncode}:\n{done.stderr}'
        )


def compile_source(source: Path, generation: Generation, options: list[str]) -> None:
    """Compile one generated file into the object file `<source>.o` beside it."""
    is_cpp = source.suffix == '.cpp'
    run_tool([
        *compiler('cpp' if is_cpp else 'c'),
        '-std=c++17' if is_cpp else '-std=gnu11',
        *shlex.split(os.environ.get('CFLAGS') or '-O2'),
        '-fPIC', '-w', f'-DROS_PACKAGE_NAME="{generation.interfaces.package}"',
        *options, '-c', str(source), '-o', f'{source}.o',
    ])


def link_library(library: Library, folder: Path) -> None:
    """Link one library from its object files into `folder`."""
    bundled = sorted(Path(sysconfig.get_paths()['purelib']).glob('ros_*.libs'))
    search = [str(folder), str(PREFIX / 'lib'), *map(str, bundled)]
    run_tool([
        *compiler('cpp' if library.is_cpp else 'c'),
        '-shared', '-s', '-o', str(folder / library.name),
        *(f'{source}.o' for source in library.sources),
        f'-L{folder}', f'-L{PREFIX / "lib"}',
        '-Wl,-z,lazy' if library.is_extension else '-Wl,--no-undefined',
        f'-Wl,-rpath-link,{":".join(search)}',
        *library.links,
    ])


def compile_libraries(generation: Generation, folder: Path) -> None:
    """Compile all that was generated, on all cores, and link the libraries into `folder`."""
    folder.mkdir()
    libraries = list_libraries(generation)
    compile_one = functools.partial(
        compile_source, generation=generation, options=include_options(generation)
    )
    sources = [source for library in libraries for source in library.sources]
    with ThreadPoolExecutor(int(os.environ.get('JOBS') or os.cpu_count() or 1)) as executor:
        list(executor.map(compile_one, sources))
    for library in libraries:
        link_library(library, folder)
