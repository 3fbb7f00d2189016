"""VerbParser: knows the options of other tools, and names ours that do the same."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import difflib
import math
from pathlib import Path
import sys
import textwrap
from typing import Any, NoReturn

from yolov7_trt_ros.cli.effects.given_options import StoreGiven, StoreTrueGiven
from yolov7_trt_ros.core.plain_text import quoted

WITHOUT_FLAG = ''
"""Instead of an option: the first positional argument of the verb."""

_MODEL = ('--model', WITHOUT_FLAG)
_INPUT = ('--source', '--images', WITHOUT_FLAG)
_SIZE = ('--size', '--static', '--opt', '--shape')
_OUTPUT = ('--output',)
_LABELS = ('--annotations',)
_SCORE = ('--score-threshold',)
OURS: dict[str, tuple[str, ...]] = {
    '--conf': _SCORE, '--conf-thres': _SCORE, '--conf-threshold': _SCORE, '--confidence': _SCORE,
    '--conf-thresh': _SCORE, '--score-thres': _SCORE, '--score-thr': _SCORE, '--thres': _SCORE,
    '--threshold': _SCORE, '--treshold': _SCORE,
    '--iou': ('--iou-threshold',), '--iou-thres': ('--iou-threshold',),
    '--iou-thresh': ('--iou-threshold',), '--nms-thres': ('--iou-threshold',),
    '--nms-threshold': ('--iou-threshold',),
    '--max-det': ('--max-detections',), '--topk': ('--max-detections',),
    '--topk-all': ('--max-detections',),
    '--imgsz': _SIZE, '--img-size': _SIZE, '--img': _SIZE, '--image-size': _SIZE,
    '--input-size': _SIZE, '--network-size': _SIZE,
    '--resolution': _SIZE, '--input-shape': _SIZE, '--imgsize': _SIZE,
    '--weights': _MODEL, '--weight': _MODEL, '--model': _MODEL, '--model-path': _MODEL,
    '--checkpoint': _MODEL, '--ckpt': _MODEL, '--engine': _MODEL, '--onnx': _MODEL,
    '--plan': _MODEL, '--loadEngine': _MODEL, '-w': _MODEL, '-m': _MODEL,
    '--source': _INPUT, '--input': _INPUT, '--image': _INPUT, '--images': _INPUT,
    '--video': _INPUT, '--bag': _INPUT, '--path': _INPUT, '-i': _INPUT,
    '--data': _LABELS, '--anno-json': _LABELS, '--labels': _LABELS, '--gt': _LABELS,
    '--device': ('--device', '--backend'), '--gpu': ('--backend',), '--cpu': ('--backend',),
    '--half': ('--precision',), '--fp16': ('--precision',), '--int8': ('--precision',),
    '--names': ('--class-names',), '--labels-file': ('--class-names',),
    '--class': ('--classes',), '--filter-classes': ('--classes',),
    '--project': _OUTPUT, '--name': _OUTPUT, '--out': _OUTPUT, '--outdir': _OUTPUT,
    '--save-dir': _OUTPUT, '--save': _OUTPUT, '--dest': _OUTPUT,
    '--save-txt': ('--json',), '--save-json': ('--save-coco', '--json'),
    '--save-conf': ('--json',), '--view-img': ('--show',), '--save-crop': ('--save-crops',),
    '--line-thickness': ('--line-width',), '--hide-conf': ('--hide-labels',),
    '--batch-size': ('--batch', '--max'), '--max-batch': ('--batch', '--max'),
    '--batch': ('--max',), '--minShapes': ('--min',), '--maxShapes': ('--max',),
    '--workspace': ('--workspace-mib',), '--memPoolSize': ('--workspace-mib',),
    '--timingCacheFile': ('--timing-cache',), '--useDLACore': ('--dla-core',),
    '--builderOptimizationLevel': ('--opt-level',), '--calib': ('--images',),
    '--dynamic-batch': ('--dynamic',), '--grid': ('--form',), '--end2end': ('--form',),
    '--vid-stride': ('--every',), '--stride': ('--every',), '--exist-ok': ('--force',),
    '--overwrite': ('--force',), '--fps': ('--rate',),
}
"""Options of the YOLO repositories, Ultralytics and trtexec, with ours that may match."""
_OTHERWISE = {
    '--workers': 'label, replay, eval and compare take --workers N, and process N recordings at '
    'once',
}
"""What is told of options that only other verbs have."""
_ON_THREADS = '; --threads N is the number of CPU threads here'
_NAMED = ('--source', '--model')  # for what other verbs take without an option


class FilledText(argparse.RawDescriptionHelpFormatter):
    """Wraps paragraphs to the terminal; indented text such as examples stays unchanged."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        blocks = [
            block if '\n ' in f'\n{block}' else textwrap.fill(block, width)
            for block in text.strip('\n').split('\n\n')
        ]
        return textwrap.indent('\n\n'.join(blocks), indent)


def _path(text: str) -> Path:
    """Return a path; that of an empty text would be the current folder."""
    if not text:
        raise argparse.ArgumentTypeError('the path is empty; is a variable not set?')
    return Path(text)


def finite_number(text: str) -> float:
    """Return a number; NaN would pass comparisons with limits, and infinity most."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f'must be a finite number, got {quoted(text)}')
    return value


class VerbParser(argparse.ArgumentParser):
    """
    Adds the option that was probably meant to usage errors; refuses empty paths and NaN.

    Notes which options were given (`given_options`).

    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register('type', Path, _path)
        self.register('type', float, finite_number)
        for name, action in ((None, StoreGiven), ('store', StoreGiven),
                             ('store_true', StoreTrueGiven)):
            self.register('action', name, action)
        self._words: Sequence[str] = ()

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse; report unknown arguments with the usage of this verb."""
        self._words = sys.argv[1:] if args is None else list(args)
        found, left = super().parse_known_args(self._words, namespace)
        if left:
            message = f'unrecognized arguments: {" ".join(left)}'
            options = [each for each in _NAMED if each in self._option_string_actions]
            if options and not left[0].startswith('-') and not _first_argument(self):
                message += f'; {left[0]} needs its option in front: {" or ".join(options)}'
            self.error(message)
        return found, left

    def error(self, message: str) -> NoReturn:
        """Print usage, message and advice on stderr; exit with status 2."""
        super().error('; '.join([message, *advise(self, self._words)]))


def advise(parser: argparse.ArgumentParser, words: Sequence[str]) -> list[str]:
    """Return a sentence for each unknown option that has a known equivalent."""
    known = list(parser._option_string_actions)
    flags = dict.fromkeys(word.partition('=')[0] for word in words if word.startswith('-'))
    return [
        text for flag in flags if not _is_taken(flag, known)
        if (text := _advice(parser, flag, known))
    ]


def _is_taken(flag: str, known: Sequence[str]) -> bool:
    """Whether the parser accepts an option, also shortened or with its value attached."""
    if flag.startswith('--'):
        return any(option.startswith(flag) for option in known)
    return flag[:2] in known or not flag[1:2].isalpha()


def _advice(parser: argparse.ArgumentParser, flag: str, known: Sequence[str]) -> str:
    dashed = f'--{flag[2:].replace("_", "-")}' if flag.startswith('--') else flag
    if dashed in _OTHERWISE:
        return _OTHERWISE[dashed] + (_ON_THREADS if '--threads' in known else '')
    for ours in OURS.get(dashed, ()):
        if ours in known:
            return f'for {flag} give {ours}'
        first = _first_argument(parser)
        if ours == WITHOUT_FLAG and first:
            return f'give the value of {flag} without a flag, as {first}'
    near = difflib.get_close_matches(dashed, known, n=1, cutoff=0.75)
    return f'did you mean {near[0]} for {flag}?' if near else ''


def _first_argument(parser: argparse.ArgumentParser) -> str:
    """Return the name of the first positional argument, '' if there is none."""
    for action in parser._actions:
        if not action.option_strings and not isinstance(action, argparse._SubParsersAction):
            return str(action.metavar or action.dest)
    return ''
