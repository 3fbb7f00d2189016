"""Pack: libraries, Python modules, headers and ament index entries into one wheel."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
import zipfile

from interface_wheel.generation import Generation
from interface_wheel.interfaces import (
    HEADER_FOLDERS,
    Interfaces,
    platform_tag,
    python_tag,
    short_name,
)

ZIP_EPOCH = (2024, 1, 1, 0, 0, 0)
"""One date for every file in the wheel, so that equal inputs give equal bytes."""


def collect_files(generation: Generation, libraries: Path) -> dict[str, bytes]:
    """Return the contents of the wheel, without its metadata: path in the wheel to bytes."""
    package = generation.interfaces.package
    data = data_folder(generation.interfaces)
    python = generation.folder('python')
    files = {f'{package}/__init__.py': b''}
    for path in python.rglob('*.py'):
        files[f'{package}/{path.relative_to(python)}'] = path.read_bytes()
    for path in libraries.glob('*.so'):
        place = package if path.name.startswith(f'{package}_s__') else f'{data}/lib'
        files[f'{place}/{path.name}'] = path.read_bytes()
    for root in (generation.idl_folder, generation.folder('type_description')):
        for path in root.glob('*/*'):
            files[f'{data}/share/{package}/{short_name(path)}'] = path.read_bytes()
    for root in map(generation.folder, HEADER_FOLDERS):
        for path in root.rglob('*.h'):
            place = f'{data}/include/{package}/{package}'
            files[f'{place}/{path.relative_to(root)}'] = path.read_bytes()
    files.update(index_files(generation))
    return files


def index_files(generation: Generation) -> dict[str, bytes]:
    """Return package.xml and the entries of the ament index."""
    interfaces = generation.interfaces
    share = f'{data_folder(interfaces)}/share'
    index = f'{share}/ament_index/resource_index'
    listing = '\n'.join(
        f'{path.parent.name}/{path.stem}{suffix}'
        for path in generation.idls
        for suffix in ('.idl', f'.{path.parent.name}', '.json')
    )
    manifest = (
        '<?xml version="1.0"?>\n<package format="3">\n'
        f'  <name>{interfaces.package}</name>\n'
        f'  <version>{interfaces.version.split("+")[0]}</version>\n'
        f'  <description>The interfaces of {interfaces.package}</description>\n'
        '  <maintainer email="nobody@example.com">nobody</maintainer>\n'
        '  <license>Apache-2.0</license>\n</package>\n'
    )
    depends = ';'.join(interfaces.depends)
    return {
        f'{share}/{interfaces.package}/package.xml': manifest.encode(),
        f'{index}/packages/{interfaces.package}': b'',
        f'{index}/rosidl_interfaces/{interfaces.package}': listing.encode(),
        f'{index}/package_run_dependencies/{interfaces.package}': depends.encode(),
    }


def data_folder(interfaces: Interfaces) -> str:
    """Return the folder of the wheel that is installed under the prefix."""
    return f'ros_{interfaces.package}-{interfaces.version}.data/data'


def add_metadata(files: dict[str, bytes], interfaces: Interfaces) -> None:
    """Add the dist-info folder to the contents of a wheel."""
    info = f'ros_{interfaces.package}-{interfaces.version}.dist-info'
    name = f'ros-{interfaces.package.replace("_", "-")}'
    files[f'{info}/METADATA'] = (
        f'Metadata-Version: 2.1\nName: {name}\nVersion: {interfaces.version}\n'
    ).encode()
    files[f'{info}/WHEEL'] = (
        'Wheel-Version: 1.0\nGenerator: build_interface_wheel\nRoot-Is-Purelib: false\n'
        f'Tag: {python_tag()}-{platform_tag()}\n'
    ).encode()
    record = ''.join(f'{path},{record_hash(body)},{len(body)}\n' for path, body in files.items())
    files[f'{info}/RECORD'] = f'{record}{info}/RECORD,,\n'.encode()


def record_hash(body: bytes) -> str:
    """Return the hash of a file as the RECORD of a wheel wants it."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest())
    return 'sha256=' + digest.rstrip(b'=').decode()


def write_wheel(path: Path, files: dict[str, bytes]) -> None:
    """Write the wheel in one step, so that an interrupted run leaves no half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f'.{os.getpid()}.part')
    with zipfile.ZipFile(partial, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, body in files.items():
            archive.writestr(zipfile.ZipInfo(name, ZIP_EPOCH), body, zipfile.ZIP_DEFLATED)
    partial.replace(path)
