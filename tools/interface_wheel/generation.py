"""Generate: definitions to IDL, type descriptions, and C, C++ and Python sources."""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path
import shutil

from interface_wheel.interfaces import (
    DISPATCH,
    FASTRTPS,
    GENERATED,
    HEADER_FOLDERS,
    Interfaces,
    INTROSPECTION,
    PREFIX,
    short_name,
)


class Generation:
    """Everything the rosidl generators write for one package, below `root`."""

    def __init__(self, interfaces: Interfaces, root: Path) -> None:
        self.interfaces = interfaces
        self.root = root
        self.idl_folder = root / 'idl' / interfaces.package
        self.idls: list[Path] = []

    def folder(self, name: str) -> Path:
        """Return where the generator called `name` in GENERATED writes."""
        return self.root / name / self.interfaces.package

    def run(self) -> None:
        """Write the IDL files, the type descriptions and the C, C++ and Python sources."""
        # The generators look each other up in the ament index: not in that of a sourced ROS.
        os.environ['AMENT_PREFIX_PATH'] = str(PREFIX)
        with contextlib.redirect_stdout(io.StringIO()):
            self._write_idl()
            self._write_type_descriptions()
            self._write_sources()
        self._write_visibility_headers()

    def _write_idl(self) -> None:
        """Convert each definition to IDL, and keep a copy of the definition beside it."""
        from rosidl_adapter.msg import convert_msg_to_idl
        from rosidl_adapter.srv import convert_srv_to_idl

        convert = {'.msg': convert_msg_to_idl, '.srv': convert_srv_to_idl}
        for path in self.interfaces.files:
            target = self.idl_folder / path.parent
            target.mkdir(parents=True, exist_ok=True)
            source, package = self.interfaces.source, self.interfaces.package
            self.idls.append(convert[path.suffix](source, package, path, target))
            shutil.copyfile(source / path, self.idl_folder / path)

    def _write_type_descriptions(self) -> None:
        """Write a JSON with the type description and the RIHS01 hash of each type."""
        from rosidl_generator_type_description import generate_type_hash

        includes = [f'{name}:{PREFIX / "share" / name}' for name in self.interfaces.depends]
        generate_type_hash(self._arguments('type_description', include_paths=includes))

    def _write_sources(self) -> None:
        """Write the C structs, the type supports and the Python classes with their converters."""
        import rosidl_generator_c
        import rosidl_generator_py
        import rosidl_typesupport_c
        import rosidl_typesupport_fastrtps_c
        import rosidl_typesupport_introspection_c

        descriptions = self.folder('type_description')
        rosidl_generator_c.generate_c(self._arguments(
            'c',
            type_description_tuples=[
                f'{name}:{(descriptions / name).with_suffix(".json")}'
                for name in map(short_name, self.idls)
            ],
            ros_interface_files=[
                str(self.interfaces.source / path) for path in self.interfaces.files
            ],
        ))
        rosidl_typesupport_fastrtps_c.generate_typesupport_fastrtps_c(self._arguments('fastrtps'))
        rosidl_typesupport_introspection_c.generate_c(self._arguments('introspection'))
        rosidl_typesupport_c.generate_c(self._arguments('dispatch'), [FASTRTPS, INTROSPECTION])
        rosidl_generator_py.generate_py(
            self._arguments('python'), [DISPATCH, FASTRTPS, INTROSPECTION]
        )

    def _arguments(self, name: str, **more: object) -> str:
        """Write the arguments file of one generator, as CMake would, and return its path."""
        output = self.folder(name)
        (output / 'msg').mkdir(parents=True, exist_ok=True)
        arguments = {
            'package_name': self.interfaces.package,
            'output_dir': str(output),
            'template_dir': str(PREFIX / 'share' / GENERATED[name] / 'resource'),
            'idl_tuples': [f'{self.idl_folder}:{short_name(path)}' for path in self.idls],
            'ros_interface_dependencies': [
                f'{package}:{path}'
                for package in self.interfaces.depends
                for path in sorted((PREFIX / 'share' / package).glob('*/*.idl'))
            ],
            'target_dependencies': [],
            **more,
        }
        file = self.root / f'{name}.json'
        file.write_text(json.dumps(arguments), encoding='utf-8')
        return str(file)

    def _write_visibility_headers(self) -> None:
        """Fill in the headers that CMake's configure_file would fill in."""
        package = self.interfaces.package
        for name in HEADER_FOLDERS:
            header = f'{GENERATED[name]}__visibility_control.h'
            template = PREFIX / 'share' / GENERATED[name] / 'resource' / f'{header}.in'
            text = template.read_text(encoding='utf-8')
            text = text.replace('@PROJECT_NAME_UPPER@', package.upper())
            text = text.replace('@PROJECT_NAME@', package)
            (self.folder(name) / 'msg' / header).write_text(text, encoding='utf-8')
