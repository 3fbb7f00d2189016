"""YOLOv7 object detection for ROS 2, from the command line. No ROS is needed here."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import importlib
import os
import sys
from types import ModuleType

from yolov7_trt_ros import __version__
from yolov7_trt_ros.cli.flags import VerbParser
from yolov7_trt_ros.core.plain_text import printable
from yolov7_trt_ros.errors import missing_package, SettingError, Yolov7TrtError

PROGRAM = 'yolov7_trt'
VERBS = (
    'detect', 'replay', 'compare', 'eval', 'export', 'build', 'quantize', 'prune', 'info',
    'fusion', 'bench', 'power', 'top', 'doctor', 'demo',
)
"""
Each is a module of this folder with `add_arguments(parser)` and `run(args) -> exit status`.

Its docstring is its help: first line, then the rest, and from a line `Examples` on the epilog.
"""

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')  # our own errors say what is wrong
    os.environ.setdefault('OPENCV_LOG_LEVEL', 'SILENT')
    try:
        args = build_parser().parse_args(argv)
        status: int = args.run(args)
        sys.stdout.flush()
        return status
    except SettingError as exc:
        return _report(exc, EXIT_USAGE)
    except Yolov7TrtError as exc:
        return _report(exc, EXIT_FAILURE)
    except ImportError as exc:
        return _report(missing_package(exc), EXIT_FAILURE)
    except KeyboardInterrupt as exc:
        if str(exc):  # what is left of the work
            print(f'{PROGRAM}: interrupted: {exc}', file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # the reader of our output has gone; what Python flushes at exit must not complain again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except OSError as exc:
        named = exc.filename is not None and exc.strerror is not None
        return _report(f'{exc.filename}: {exc.strerror}' if named else exc, EXIT_FAILURE)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with every verb that is installed."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__)
    parser.add_argument('--version', action='version', version=f'{PROGRAM} {__version__}')
    verbs = parser.add_subparsers(
        title='verbs', metavar='VERB', required=True, parser_class=VerbParser
    )
    for verb in VERBS:
        module = _load_verb(verb)
        if module is None:
            continue
        summary, description, examples = split_help(module.__doc__ or '')
        verb_parser = verbs.add_parser(
            verb,
            help=summary,
            description=description,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(verb_parser)
        verb_parser.set_defaults(run=module.run)
    return parser


def split_help(docstring: str) -> tuple[str, str, str]:
    """Return first line, description and, from a line `Examples` on, epilog of a docstring."""
    description, heading, examples = docstring.strip().partition('\nExamples\n')
    examples = f'examples:\n{examples.removeprefix("--------").strip(chr(10))}' if heading else ''
    return description.splitlines()[0].rstrip('.') if description else '', description, examples


def _load_verb(verb: str) -> ModuleType | None:
    """Import a verb; None where its file is not there."""
    name = f'{__package__}.{verb}'
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name != name:
            raise
        return None


def _report(reason: object, status: int) -> int:
    text = printable(' '.join(str(reason).split()))
    print(f'{PROGRAM}: error: {text}', file=sys.stderr)
    return status


if __name__ == '__main__':
    raise SystemExit(main())
