"""YOLOv7 object detection for ROS 2, from the command line; ROS is not needed."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import contextlib
import importlib
import os
import sys
from types import ModuleType
from typing import Any

from yolov7_trt_ros import __version__
from yolov7_trt_ros.cli import exit_status, interruption, output, standard_streams
from yolov7_trt_ros.cli.verb_parser import FilledText, VerbParser
from yolov7_trt_ros.core.plain_text import printable
from yolov7_trt_ros.errors import missing_package, SettingError, Yolov7TrtError
from yolov7_trt_ros.parent_process import end_with_starter

PROGRAM = 'yolov7_trt'
PURPOSES = {
    'find objects': ('detect', 'replay', 'label', 'demo'),
    'judge a model': ('eval', 'compare', 'bench'),
    'make a model': ('export', 'quantize', 'prune', 'build', 'refit', 'info', 'fusion'),
    'look after a robot': ('top', 'power', 'doctor'),
}
VERBS = tuple(verb for verbs in PURPOSES.values() for verb in verbs)
"""
Each is a module in `verbs/` with `add_arguments(parser)` and `run(args) -> exit status`.

Its docstring is its help: the first line, the rest, and from a line `Examples` on the epilog.
"""

HELP = 'help'
EXAMPLES = f"""examples:
  {PROGRAM} detect street.jpg -o out          boxes drawn into a picture
  {PROGRAM} export yolov7.pt -o yolov7.onnx   PyTorch weights to ONNX
  {PROGRAM} build yolov7.onnx -o yolov7.plan  a TensorRT plan for this GPU
  {PROGRAM} doctor                            what this machine has and lacks

{PROGRAM} help VERB explains a verb, with examples.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run one verb; return the exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.

    SIGTERM gives 143 and SIGHUP 129. A process that was started to end with another
    (`parent_process`) ends with it, as after SIGTERM.

    """
    standard_streams.prepare()
    try:
        with interruption.by_other_signals():
            status = _run_guarded(argv)
    except KeyboardInterrupt as exc:
        if str(exc):  # what is left of the work
            with contextlib.suppress(OSError):  # its terminal may be gone
                print(f'{PROGRAM}: interrupted: {exc}', file=sys.stderr)
        status = exit_status.INTERRUPTED
    return interruption.status() if status == exit_status.INTERRUPTED else status


def _run_guarded(argv: Sequence[str] | None) -> int:
    """Run one verb; our errors and those of files become a line and an exit status."""
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')  # our own errors state the cause
    os.environ.setdefault('OPENCV_LOG_LEVEL', 'SILENT')
    try:
        end_with_starter(os.environ, output.warn)
        words = list(sys.argv[1:] if argv is None else argv)
        if words[:1] == [HELP]:
            words = [*words[1:2], '-h']
        args = parse(words)
        status: int = args.run(args)
        with standard_streams.named():
            sys.stdout.flush()
        return status
    except SettingError as exc:
        return _report(exc, exit_status.USAGE)
    except Yolov7TrtError as exc:
        return _report(exc, exit_status.FAILURE)
    except ImportError as exc:
        return _report(missing_package(exc), exit_status.FAILURE)
    except BrokenPipeError:
        standard_streams.discard()  # the reader of our output is gone
        return exit_status.BROKEN_PIPE
    except OSError as exc:
        named = exc.filename is not None and exc.strerror is not None
        return _report(f'{exc.filename}: {exc.strerror}' if named else exc, exit_status.FAILURE)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return the parsed command line; without a verb, print the verbs and exit."""
    parser = build_parser()
    _complete(parser)
    if not words:
        parser.print_help(sys.stderr)
        raise SystemExit(exit_status.USAGE)
    return parser.parse_args(words)


def _complete(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks for completions, if argcomplete is installed."""
    if '_ARGCOMPLETE' in os.environ:
        with contextlib.suppress(ImportError):
            import argcomplete

            argcomplete.autocomplete(parser)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with every verb that is installed."""
    parser = _MainParser(
        prog=PROGRAM, description=__doc__, epilog=EXAMPLES, usage='%(prog)s VERB [OPTIONS]',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--version', action='version', version=f'{PROGRAM} {__version__}')
    verbs = parser.add_subparsers(
        title='verbs', metavar='VERB', required=True, parser_class=VerbParser, prog=PROGRAM,
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
            formatter_class=FilledText,
        )
        parser.summaries[verb] = summary
        module.add_arguments(verb_parser)
        verb_parser.set_defaults(run=module.run)
    return parser


class _MainParser(argparse.ArgumentParser):
    """
    Lists the verbs by purpose.

    Attributes
    ----------
    summaries
        One line for each verb.

    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.summaries: dict[str, str] = {}

    def format_help(self) -> str:
        """Return usage, verbs by purpose, and examples."""
        lines = [self.format_usage(), str(self.description), '']
        for purpose, verbs in PURPOSES.items():
            lines.append(f'  {purpose}')
            lines += [
                f'    {verb:<9} {self.summaries[verb]}' for verb in verbs if verb in self.summaries
            ]
        return '\n'.join([*lines, '', str(self.epilog)])


def split_help(docstring: str) -> tuple[str, str, str]:
    """Return first line, description and (from a line `Examples` on) epilog of a docstring."""
    description, heading, examples = docstring.strip().partition('\nExamples\n')
    examples = f'examples:\n{examples.removeprefix("--------").strip(chr(10))}' if heading else ''
    return description.splitlines()[0].rstrip('.') if description else '', description, examples


def _load_verb(verb: str) -> ModuleType | None:
    """Import a verb; None if its file does not exist."""
    name = f'{__package__}.verbs.{verb}'
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
