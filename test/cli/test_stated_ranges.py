"""The help of each number states what is accepted: both ends are, and what is beyond is not."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import importlib.util
import math
from pathlib import Path
import re
import shutil
import sys

import pytest

from yolov7_trt_ros.cli.main import build_parser, main, VERBS

CLOSED = re.compile(r'(?<![\d.])(\d[\d.]*?)\.\.(\d+(?:\.\d+)?)')
OPEN = re.compile(r'above ([\d.]+), (at most|below) (\d+(?:\.\d+)?)')

WORDS = {
    'detect': ['detect', 'coffee.jpg', '-o', 'out', '--size', '64'],
    'replay': ['replay', 'none.mcap', '-o', 'out.mcap'],
    'demo': ['demo', '-m', 'none.onnx'],
    'eval': ['eval', '--images', '.', '--annotations', 'none.json'],
    'compare': ['compare', 'none.mcap', 'none.mcap'],
    'bench': ['bench', '-m', 'yolov7-nano', '--images', 'none', '-o', 'out'],
    'export': ['export', 'none.pt', '-o', 'out.onnx', '--form', 'end2end'],
    'prune': ['prune', 'none.pt', '-o', 'out.pt', '--images', '.'],
    'build': ['build', 'none.onnx', '-o', 'out.plan', '--dla-core', '0'],
    'fusion': ['fusion', 'none.json'],
}
"""A command of each verb that ends soon, after its numbers were checked."""

NEEDED = {
    '--tile-overlap': ['--tiles', '2x2'], '--track-lost': ['--track', 'bytetrack'],
    '--track-low-score': ['--track', 'bytetrack'],
}
LARGE = {'--size', '--max-pixels', '--workers', '--threads'}
"""Checked at once; the largest would take long in a command that runs."""


def numbers(parser: argparse.ArgumentParser, verb: str) -> Iterator[tuple[str, argparse.Action]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from numbers(each, verb)
        elif action.option_strings:
            yield verb, action


def limits(action: argparse.Action) -> tuple[str, str, bool, bool] | None:
    """Return what is stated: least, most, and whether they are excluded."""
    for text in (str(action.help), str(action.metavar)):
        if found := OPEN.search(text):
            return found[1], found[3], True, found[2] == 'below'
        if found := CLOSED.search(text):
            return found[1], found[2], False, False
    return None


def stated() -> list[tuple[str, str, tuple[str, str, bool, bool]]]:
    """Return verb, flag and limits of each option; one that several verbs share only once."""
    (verbs,) = (each for each in build_parser()._actions
                if isinstance(each, argparse._SubParsersAction))
    found = {}
    for verb in VERBS:
        for _, action in numbers(verbs.choices[verb], verb):
            flag = next(text for text in action.option_strings if text.startswith('--'))
            if (ends := limits(action)) is not None:
                found.setdefault((flag, str(action.help)), (verb, flag, ends))
    return list(found.values())


STATED = stated()


def test_the_ranges_are_found() -> None:
    flags = {flag for _, flag, _ in STATED}
    assert {'--size', '--dla-core', '--iou', '--flops', '--rate', '--opset', '--opt-level',
            '--workers', '--domain-id', '--timeout', '--tile-overlap'} <= flags
    assert len(STATED) >= 25


def neighbours(end: str, *, is_most: bool, is_excluded: bool) -> tuple[str, str]:
    """Return the outermost accepted value at an end, and a refused one beyond it."""
    outwards = 1 if is_most else -1
    if '.' in end or is_excluded:
        value = float(end)
        beside = math.nextafter(value, -outwards * math.inf)
        beyond = math.nextafter(value, outwards * math.inf)
        return (repr(beside), end) if is_excluded else (end, repr(beyond))
    return end, str(int(end) + outwards)


@pytest.mark.parametrize('is_most', [False, True])
@pytest.mark.parametrize(('verb', 'flag', 'ends'), STATED, ids=lambda value: str(value))
def test_the_ends_are_accepted_and_what_is_beyond_is_not(
    verb: str, flag: str, ends: tuple[str, str, bool, bool], is_most: bool, photographs: Path,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    if verb == 'prune' and importlib.util.find_spec('torch') is None:
        pytest.skip('needs PyTorch')
    shutil.copy(photographs / 'coffee.jpg', tmp_path)
    monkeypatch.chdir(tmp_path)
    inside, beyond = neighbours(ends[is_most], is_most=is_most, is_excluded=ends[2 + is_most])
    assert is_refused(verb, flag, beyond, capsys)
    assert not is_refused(verb, flag, inside, capsys)


def is_refused(verb: str, flag: str, value: str, capsys: pytest.CaptureFixture[str]) -> bool:
    """Whether a number is refused, with its name in the message."""
    words = [*WORDS.get(verb, [verb]), *NEEDED.get(flag, ())]
    if verb == 'prune' and flag not in ('--flops', '--latency'):
        words += ['--flops', '0.5']
    name = flag.strip('-')
    try:
        if verb in ('top', 'power') or flag in LARGE:
            status = check_only(verb, words, flag, value)
        else:
            status = main([*words, f'{flag}={value}'])
    except SystemExit as ended:
        status = int(ended.code or 0)
    told = capsys.readouterr().err.splitlines()[-1:]
    return status == 2 and any(
        each in line for line in told for each in (f'{flag} must', f'{flag}: must', f'{name} must',
                                                   f'{name.replace("-", "_")} must',
                                                   f'{flag}: expected',
                                                   f'{name.replace("-", "_")}_s must'))


def check_only(verb: str, words: list[str], flag: str, value: str) -> int:
    """Parse and check without running."""
    from yolov7_trt_ros.cli.fleet.fleet_arguments import check_fleet_arguments
    from yolov7_trt_ros.cli.verbs import top
    from yolov7_trt_ros.errors import SettingError

    command = [*words, 'modes'] if verb == 'power' else words
    args = build_parser().parse_args([*command, f'{flag}={value}'])
    try:
        if verb == 'top':
            top._check(args)
        if flag == '--workers':
            check_fleet_arguments(args)
    except SettingError as exc:
        print(exc, file=sys.stderr)
        return 2
    return 0
