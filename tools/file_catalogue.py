#!/usr/bin/env python3
"""
Write docs/files.md: every module of the package, with the first sentence of its docstring.

    python tools/file_catalogue.py            print the page
    python tools/file_catalogue.py --check    exit status 1 if docs/files.md differs
    python tools/file_catalogue.py --write    write docs/files.md

"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Sequence
from pathlib import Path
import sys

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / 'yolov7_trt_ros'
PAGE = REPOSITORY / 'docs' / 'files.md'

_HEAD = """# Files

Every folder and module of the package, with the first sentence of its docstring.
`python tools/file_catalogue.py --write` makes this page; a test keeps it current.
[architecture.md](architecture.md) explains how they work together and what may import what.
"""


def catalogue(package: Path = PACKAGE) -> str:
    """Return the page: one section for each folder with modules, in the order of their paths."""
    return _HEAD + ''.join(_section(package, folder) for folder in _folders(package))


def _folders(package: Path) -> list[Path]:
    return sorted({path.parent for path in package.rglob('*.py')})


def _section(package: Path, folder: Path) -> str:
    name = folder.relative_to(package.parent).as_posix()
    rows = [
        f'| `{path.name}` | {_summary(path)} |\n'
        for path in sorted(folder.glob('*.py')) if path.name != '__init__.py'
    ]
    lines = f'\n## `{name}/`\n\n{_summary(folder / "__init__.py")}\n'
    return lines + ('\n| file | |\n|---|---|\n' + ''.join(rows) if rows else '')


def _summary(path: Path) -> str:
    """Return the first paragraph of a module's docstring in one line; ValueError without one."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8')))
    if not docstring:
        raise ValueError(f'{path} has no docstring')
    return ' '.join(docstring.split('\n\n')[0].split()).replace('|', r'\|')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(description='The modules of the package as a page.')
    group = parser.add_mutually_exclusive_group()
    group.add_argument('--check', action='store_true', help='compare docs/files.md')
    group.add_argument('--write', action='store_true', help='write docs/files.md')
    args = parser.parse_args(argv)
    page = catalogue()
    if args.write:
        PAGE.write_text(page, encoding='utf-8')
    elif not args.check:
        sys.stdout.write(page)
    elif PAGE.read_text(encoding='utf-8') != page:
        print('docs/files.md differs: run python tools/file_catalogue.py --write', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
