#!/usr/bin/env python3
"""
Build a ROS 2 interface package (.msg, .srv) into a wheel, without CMake or a ROS installation.

PyPI has wheels of rclpy, of the common messages and of the rosidl generators, but none of
vision_msgs. This calls the generators as ament_cmake would, compiles what they write with gcc and
g++, and packs the result the way the `ros-*` wheels are packed: the Python package beside the
others, `lib/`, `share/` and `include/` under the prefix, the ament index entries included. Run it
with the Python of the environment the wheel is for:

    .venv/bin/python tools/build_interface_wheel.py tools/vision_msgs vision_msgs 4.1.1+kilted \
        --depends builtin_interfaces service_msgs std_msgs geometry_msgs --install

A wheel fits one Python and one ROS distribution (the ABI of rosidl and Fast CDR), and its file
name can tell only the Python: put the distribution into the local version. Built wheels are kept
in a cache, under a key made of everything that goes into them; asking again for the same costs
nothing.

"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
from pathlib import Path
import shutil
import sys
import tempfile
import time
import zipfile

from interface_wheel.compilation import compile_libraries, run_tool
from interface_wheel.generation import Generation
from interface_wheel.interfaces import BuildError, check_prerequisites, Interfaces
from interface_wheel.packing import add_metadata, collect_files, write_wheel

TOOLS = Path(__file__).resolve().parent


def cache_key(interfaces: Interfaces) -> str:
    """
    Return a short hash over all that the wheel depends on.

    That is the definitions, these tools, the Python, the installed ROS packages and numpy, and
    the choice of compiler.

    """
    digest = hashlib.sha256()
    installed = {
        f'{item.metadata["Name"]}=={item.version}'
        for item in importlib.metadata.distributions()
        if item.metadata['Name'].startswith(('ros-', 'numpy'))
    }
    own = f'ros-{interfaces.package.replace("_", "-")}=='
    parts = [interfaces.wheel_name, sys.version, *interfaces.depends]
    parts += sorted(name for name in installed if not name.startswith(own))
    parts += [os.environ.get(name, '') for name in ('CC', 'CXX', 'CFLAGS')]
    for part in parts:
        digest.update(part.encode() + b'\0')
    tools = [Path(__file__), *sorted((TOOLS / 'interface_wheel').glob('*.py'))]
    for path in (*tools, *(interfaces.source / name for name in interfaces.files)):
        digest.update(path.name.encode() + b'\0' + path.read_bytes() + b'\0')
    return digest.hexdigest()[:16]


def default_cache() -> Path:
    """Return where wheels are kept: in $XDG_CACHE_HOME, or in .cache/ of the repository."""
    configured = os.environ.get('XDG_CACHE_HOME')
    root = Path(configured) / 'yolov7_trt_ros' if configured else TOOLS.parent / '.cache'
    return root / 'interface_wheels'


def build_wheel(interfaces: Interfaces, cache: Path) -> Path:
    """
    Return the wheel of a package, from the cache or freshly built.

    Raises
    ------
    BuildError
        If there is nothing to build, something needed is missing, or a compiler fails.

    """
    if not interfaces.files:
        raise BuildError(f'{interfaces.source} has no msg/*.msg and no srv/*.srv')
    wheel = cache / cache_key(interfaces) / interfaces.wheel_name
    if wheel.is_file():
        print(f'{interfaces.package}: cached {wheel}', flush=True)
        return wheel
    check_prerequisites(interfaces.depends)
    print(f'{interfaces.package}: building {len(interfaces.files)} interfaces ...', flush=True)
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix='interface_wheel_') as scratch:
        generation = Generation(interfaces, Path(scratch) / 'generated')
        generation.run()
        compile_libraries(generation, Path(scratch) / 'lib')
        files = collect_files(generation, Path(scratch) / 'lib')
    add_metadata(files, interfaces)
    write_wheel(wheel, files)
    took_s = time.monotonic() - started_s
    print(f'{interfaces.package}: built {wheel} in {took_s:.1f} s', flush=True)
    return wheel


def read_type_hashes(wheel: Path) -> dict[str, str]:
    """Return the RIHS01 hash of each type in a wheel, from the type descriptions inside it."""
    hashes: dict[str, str] = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if '/share/' not in name or not name.endswith('.json'):
                continue
            *_, package, folder, file = name.split('/')
            own = f'{package}/{folder}/{Path(file).stem}'
            for entry in json.loads(archive.read(name))['type_hashes']:
                if entry['type_name'] == own:
                    hashes[own] = entry['hash_string']
    return hashes


def load_type_hashes(path: Path) -> dict[str, str]:
    """Return the hashes in a file of lines `package/msg/Type RIHS01_...` and # comments."""
    lines = [line.split('#')[0].split() for line in path.read_text(encoding='utf-8').splitlines()]
    return {words[0]: words[1] for words in lines if len(words) == 2}


def check_type_hashes(wheel: Path, expected_file: Path) -> None:
    """
    Compare the type hashes of a wheel with recorded ones.

    Raises
    ------
    BuildError
        If a type is missing, is not expected, or has another hash.

    """
    found, expected = read_type_hashes(wheel), load_type_hashes(expected_file)
    names = sorted(found.keys() | expected.keys())
    wrong = [
        f'  {name}: expected {expected.get(name)}, found {found.get(name)}'
        for name in names
        if found.get(name) != expected.get(name)
    ]
    if wrong:
        raise BuildError('\n'.join([f'type hashes differ from {expected_file}:', *wrong]))
    print(f'{len(found)} type hashes equal those of {expected_file}', flush=True)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Return the parsed command line."""
    summary, _, rest = (__doc__ or '').strip().partition('\n\n')
    parser = argparse.ArgumentParser(
        description=summary, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', type=Path, help='folder that holds msg/*.msg and srv/*.srv')
    parser.add_argument('package', help='name of the interface package')
    parser.add_argument('version', help='version of the wheel, such as 4.1.1+kilted')
    parser.add_argument(
        '--depends', nargs='*', default=[], metavar='PACKAGE',
        help='all interface packages that are referenced, also indirectly',
    )
    parser.add_argument('--cache', type=Path, default=default_cache(), help='default: %(default)s')
    parser.add_argument(
        '--out', type=Path, metavar='FOLDER', help='copy the wheel into this folder'
    )
    parser.add_argument(
        '--check-hashes', type=Path, metavar='FILE',
        help='fail unless the RIHS01 hashes of the types equal those in FILE',
    )
    parser.add_argument(
        '--install', action='store_true', help='install the wheel into this Python'
    )
    return parser.parse_args(arguments)


def install_wheel(wheel: Path) -> None:
    """Install the wheel with the pip of this Python, over an older build of the same version."""
    pip_install = [sys.executable, '-m', 'pip', 'install', '--quiet']
    run_tool([*pip_install, '--no-deps', '--no-index', '--force-reinstall', str(wheel)])


def main(arguments: list[str] | None = None) -> int:
    """Build, check and install as the command line says; return the exit status."""
    options = parse_arguments(arguments)
    interfaces = Interfaces(
        options.source.resolve(), options.package, options.version, tuple(options.depends)
    )
    try:
        wheel = build_wheel(interfaces, options.cache.resolve())
        if options.check_hashes:
            check_type_hashes(wheel, options.check_hashes)
        if options.install:
            install_wheel(wheel)
    except BuildError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        shutil.copy(wheel, options.out)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
