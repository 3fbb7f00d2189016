"""Output of the verbs: warnings, progress, tables, JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import datetime
import importlib.metadata
import json
from pathlib import Path
import platform
import sys
from typing import Any, TextIO, TYPE_CHECKING

from yolov7_trt_ros import __version__
from yolov7_trt_ros.atomic_file import atomic_write, naming
from yolov7_trt_ros.cli import standard_streams
from yolov7_trt_ros.core.plain_text import printable
from yolov7_trt_ros.home_folder import expand_home

if TYPE_CHECKING:
    from yolov7_trt_ros.core.detector import DetectSettings
    from yolov7_trt_ros.core.forms.model_spec import ModelSpec
    from yolov7_trt_ros.engine.options import DetectorOptions
    from yolov7_trt_ros.engine.plan.plan_file import PlanManifest
    from yolov7_trt_ros.replay.run import RunSummary

_VERSIONS_OF = ('numpy', 'opencv-python-headless', 'opencv-python', 'onnxruntime',
                'onnxruntime-gpu', 'tensorrt', 'pycuda', 'rosbags', 'pycocotools')


Show = Callable[[str, int | None], contextlib.AbstractContextManager[Callable[[], None]]]
"""Makes a progress bar from a label and a total."""


def warn(text: object) -> None:
    """Print one line on stderr."""
    say(f'yolov7_trt: warning: {" ".join(str(text).split())}', file=sys.stderr)


def warn_once(warnings: Sequence[str], reported: int) -> int:
    """Print the warnings after the first `reported` ones; return their number."""
    for text in warnings[reported:]:
        warn(text)
    return len(warnings)


def say(text: object, *, file: TextIO | None = None) -> None:
    """Print lines for people, without control characters from foreign names."""
    shown = '\n'.join(map(printable, str(text).split('\n')))
    stream = file or sys.stdout
    with standard_streams.named() if stream is sys.stdout else contextlib.nullcontext():
        print(shown, file=stream, flush=True)


@contextlib.contextmanager
def no_progress(_label: str, _total: int | None) -> Iterator[Callable[[], None]]:
    """Show nothing, for workers."""
    yield lambda: None


@contextlib.contextmanager
def progress_bar(label: str, total: int | None) -> Iterator[Callable[[], None]]:
    """
    Show a bar on stderr and yield a function that advances it by one.

    Nothing is shown if stderr is not a terminal or rich is not installed.

    """
    try:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
    except ImportError:
        yield lambda: None
        return
    console = Console(stderr=True)
    if not console.is_terminal:  # a disabled bar of rich before 14.3 prints an empty line
        yield lambda: None
        return
    bar = Progress(
        TextColumn('{task.description}', markup=False), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True,
    )
    with bar:
        task = bar.add_task(printable(label), total=total)
        yield lambda: bar.advance(task)


def format_table(rows: Sequence[tuple[str, str]]) -> str:
    """Return rows of name and value as text, values aligned."""
    width = max((len(name) for name, _ in rows), default=0)
    return '\n'.join(
        f'{printable(name):<{width}}  {printable(value)}'.rstrip() for name, value in rows
    )


def summary_rows(summary: RunSummary, wall_s: float) -> list[tuple[str, str]]:
    """Return the table rows of a run."""
    found = ', '.join(f'{name} {count}' for name, count in summary.detections_per_class.items())
    rows = [('frames', str(summary.frames)), ('failed', str(summary.failed)),
            ('detections', f'{sum(summary.detections_per_class.values())}'
             + (f' ({found})' if found else ''))]
    if summary.frames:
        total, network = summary.latency_ms['total'], summary.latency_ms['infer']
        rows += [
            ('latency', f'p50 {total.p50:.1f} ms, p99 {total.p99:.1f} ms '
             f'(network alone: p50 {network.p50:.1f} ms)'),
            ('speed', f'{summary.frames / wall_s:.1f} frames/s, reading and writing included'),
        ]
    return rows


def manifest_rows(plan: Path, manifest: PlanManifest) -> list[tuple[str, str]]:
    """Return the table rows of a plan."""
    spec = manifest.spec
    rows = [
        ('plan', f'{plan} ({manifest.plan_size_bytes / 1e6:.1f} MB)'),
        ('sha256', manifest.plan_sha256),
        ('built', f'{manifest.created}, in {manifest.build_seconds:.1f} s'),
        ('built with', str(manifest.machine)),
        ('precision', manifest.precision),
    ]
    if manifest.machine.cuda_version:
        rows.insert(4, ('CUDA', manifest.machine.cuda_version))
    rows += [
        ('profile' if len(manifest.profiles) == 1 else f'profile {number}', str(profile))
        for number, profile in enumerate(manifest.profiles)
    ]
    rows += [
        ('input', str(spec.image)),
        ('layout', f'{spec.layout.value} ({", ".join(spec.outputs)})'),
        ('onnx', f'{manifest.onnx} (sha256 {manifest.onnx_sha256[:16]}...)'),
        ('options', _options_text(manifest.options) or 'the defaults'),
    ]
    if manifest.weights is not None:
        rows.append(('refit', 'accepts a model with the same layers, '
                     f'{len(manifest.weights.weights)} stored tensors'))
    return rows


def warn_of_doubts(spec: ModelSpec, reported: set[str] | None = None) -> None:
    """Warn of what was assumed about a model, once each; `reported` is extended."""
    reported = set() if reported is None else reported
    for doubt in spec.doubts:
        if doubt not in reported:
            warn(doubt)
            reported.add(doubt)


def evidence_rows(evidence: Sequence[str], doubts: Sequence[str]) -> list[tuple[str, str]]:
    """Return the table rows of how a model was recognised, and what was assumed of it."""
    return [
        *(('evidence' if not number else '', text) for number, text in enumerate(evidence)),
        *(('assumed' if not number else '', text) for number, text in enumerate(doubts)),
    ]


def _options_text(options: dict[str, Any]) -> str:
    return ', '.join(
        name if value is True else f'{name} {value}'
        for name, value in options.items()
        if value is not None and value is not False and value not in ('', 'auto')
    )


@contextlib.contextmanager
def report_last(text: str, json_target: str | None) -> Iterator[None]:
    """
    Print a report after the files of results are written, also if that fails.

    Where its reader has gone, as with `| head`, printing ends the process.

    """
    try:
        yield
    finally:
        say(text, file=report_stream(json_target))


def write_json(target: str, record: dict[str, Any]) -> None:
    """Write a record to a file, to an existing pipe or device, or to stdout for `-`."""
    lines = json.dumps(record, indent=2, ensure_ascii=False).split('\n')
    text = '\n'.join(map(_escaped, lines)) + '\n'
    path = expand_home(target)
    if target == '-':
        with standard_streams.named():
            sys.stdout.write(text if standard_streams.encodes(text) else json.dumps(record) + '\n')
    elif path.exists() and not path.is_file():
        with naming(path):
            path.write_text(text, encoding='utf-8')
    else:
        atomic_write(path, text.encode())


def _escaped(line: str) -> str:
    """Return a line of JSON, with control characters escaped."""
    if line.isprintable():
        return line
    return ''.join(
        each if each.isprintable() else json.dumps(each).strip('"') for each in line
    )


def report_stream(json_target: str | None) -> TextIO:
    """Return the stream for text: stderr if JSON goes to stdout."""
    return sys.stderr if json_target == '-' else sys.stdout


def run_record(
    options: DetectorOptions, backend: str, settings: DetectSettings, summary: RunSummary
) -> dict[str, Any]:
    """Return the common part of each run's JSON: model, settings, summary, versions."""
    shown = dataclasses.asdict(settings)
    if settings.class_ids is not None:
        shown['class_ids'] = sorted(settings.class_ids)
    return {
        'model': dataclasses.asdict(options) | {'backend': backend},
        'settings': shown,
        **summary.as_record(),
        'versions': installed_versions(),
    }


def now() -> str:
    """Return the current time, ISO 8601 in UTC."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds')


def installed_versions() -> dict[str, str]:
    """Return the versions a result depends on."""
    versions = {'yolov7_trt_ros': __version__, 'python': platform.python_version()}
    for name in _VERSIONS_OF:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
