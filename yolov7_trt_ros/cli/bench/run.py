"""Run the rows of a benchmark one after the other, and write the results after each."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
from pathlib import Path
import re
import sys
from typing import Any, TYPE_CHECKING

from yolov7_trt_ros.atomic_file import atomic_write
from yolov7_trt_ros.cli import labels, output
from yolov7_trt_ros.cli.bench import rows as bench_rows
from yolov7_trt_ros.cli.bench.setup import only_way, wanted_ways
from yolov7_trt_ros.cli.look_arguments import ENGINES, SECOND_LOOK, TILES
from yolov7_trt_ros.errors import Yolov7TrtError
from yolov7_trt_ros.report.accuracy import average_precision as accuracy
from yolov7_trt_ros.report.bench import markdown as bench_markdown
from yolov7_trt_ros.report.bench import measure as bench_measure
from yolov7_trt_ros.report.bench import page as bench_page
from yolov7_trt_ros.report.bench.row import Accuracy, Bench, BenchRow, Data, Where

if TYPE_CHECKING:
    from yolov7_trt_ros.cli.bench.power import GpuMemory
    from yolov7_trt_ros.cli.bench.setup import Labels, RowSpec
    from yolov7_trt_ros.core.image import ImageView
    from yolov7_trt_ros.report.bench.measure import BenchPlan, PowerMeter

_FOLDERS = re.compile(r"""(?<![\w./])(?:~|\.{1,2})?/(?!sys/|proc/)(?:[^\s/'",;:()]+/)+""")
# torch and driver libraries raise these if one row fails; the others continue.
_ROW_ERRORS = (Yolov7TrtError, ImportError, OSError, RuntimeError, MemoryError)


@dataclasses.dataclass(frozen=True)
class BenchContext:
    """What the rows of a benchmark share."""

    where: Where
    data: Data
    pictures: Sequence[ImageView]
    labels: Labels | None
    labels_error: str
    batches: Sequence[int]
    plan: BenchPlan
    options: bench_rows.OpenOptions
    meter: PowerMeter
    gpu_memory: GpuMemory

    @property
    def plan_s(self) -> float:
        """Minimum seconds to measure a row: network and frames, each batch."""
        return 2 * self.plan.seconds * len(self.batches)


def run_rows(specs: Sequence[RowSpec], context: BenchContext) -> Iterator[BenchRow]:
    """Measure each row; a failed row has the reason, and the rest continue."""
    for number, spec in enumerate(specs, 1):
        output.say(row_heading(spec, number, len(specs), context.plan_s), file=sys.stderr)
        row = run_row(spec, context)
        if row.error:
            output.warn(f'{row.name}: {row.error}')
        yield row


def row_heading(spec: RowSpec, number: int, count: int, plan_s: float) -> str:
    """Return the line printed before a row: its name and the minimum duration."""
    return (f'row {number} of {count}: {bench_rows.row_name(spec)} ({Path(spec.model).name}); '
            f'{plan_s:.0f} s or more, {plan_s * (count - number):.0f} s for the rows after it')


def empty_row(spec: RowSpec, context: BenchContext) -> BenchRow:
    """Return a row without measurements."""
    return BenchRow(
        name=bench_rows.row_name(spec), model=Path(spec.model).name, where=context.where,
        data=context.data, measured=output.now(),
    )


def run_row(spec: RowSpec, context: BenchContext) -> BenchRow:
    """Measure one row; its texts name files without folders."""
    return publishable(_run_row(spec, context))


def _run_row(spec: RowSpec, context: BenchContext) -> BenchRow:
    empty = empty_row(spec, context)
    try:
        with bench_rows.open_row(spec, context.options) as opened:
            return _measured(empty, spec, opened, context)
    except _ROW_ERRORS as exc:
        return dataclasses.replace(
            empty, error=' '.join(str(exc).split()) or type(exc).__name__
        )


def _measured(
    empty: BenchRow, spec: RowSpec, opened: bench_rows.OpenedRow, context: BenchContext
) -> BenchRow:
    detector = opened.detector
    batches = tuple(
        bench_measure.measure_batch(
            detector, context.pictures, batch, context.plan, open_clock=opened.open_clock,
            meter=context.meter,
        )
        for batch in context.batches
    )
    gpu_memory_mb = context.gpu_memory.taken_mb() if _is_on_gpu(detector.backend) else None
    found, accuracy_error = _measure_accuracy(opened, context)
    return dataclasses.replace(
        empty,
        name=bench_rows.row_name(spec, opened.precision),
        engine=detector.backend,
        precision=opened.precision,
        size_bytes=opened.size_bytes,
        network_wh=opened.network_wh,
        batches=batches,
        gpu_memory_mb=gpu_memory_mb,
        accuracy=found,
        accuracy_error=accuracy_error,
        facts=detector.status(),
    )


def _is_on_gpu(backend: str) -> bool:
    return any('(cpu)' not in each.lower() for each in backend.split(' + '))


def _measure_accuracy(
    opened: bench_rows.OpenedRow, context: BenchContext
) -> tuple[Accuracy | None, str]:
    if context.labels is None:
        return None, context.labels_error
    try:
        return _evaluate(opened, context.labels), ''
    except Yolov7TrtError as exc:
        return None, ' '.join(str(exc).split())


def _evaluate(opened: bench_rows.OpenedRow, given: Labels) -> Accuracy:
    from yolov7_trt_ros.report.accuracy.coco import evaluate_coco

    categories = labels.labelled_categories(
        given.annotations, opened.detector.spec.class_names
    )
    if own_nms := accuracy.own_nms_note(opened.detector.spec):
        output.warn(own_nms)
    pictures = labels.labelled_pictures(given.annotations)
    reasons: list[Exception] = []
    with output.progress_bar('labelled images', len(given.images)) as advance:
        records = accuracy.detect_labelled(
            given.images, given.folder, opened.detector, accuracy.accuracy_settings(),
            categories, pictures=pictures, failed=reasons.append, advance=advance,
        )
    labels.warn_of_notes(pictures)
    for reason in reasons[:1]:
        output.warn(f'{len(reasons)} labelled images could not be used, the first: {reason}')
    result = evaluate_coco(records, given.annotations, given.images, categories)
    return Accuracy(result['ap50'], result['ap'], len(given.images), len(reasons))


def publishable(row: BenchRow) -> BenchRow:
    """Return a row whose texts name files without folders, except /sys and /proc."""
    batches = tuple(
        dataclasses.replace(
            batch,
            network_error=publishable_text(batch.network_error),
            end_to_end_error=publishable_text(batch.end_to_end_error),
            energy_error=publishable_text(batch.energy_error),
        )
        for batch in row.batches
    )
    return dataclasses.replace(
        row, batches=batches,
        error=publishable_text(row.error),
        accuracy_error=publishable_text(row.accuracy_error),
        facts={name: publishable_text(text) for name, text in row.facts.items()},
    )


def publishable_text(text: str) -> str:
    """Return a text whose paths have no folders, except below /sys and /proc."""
    return _FOLDERS.sub('', text)


def write_bench(bench: Bench, folder: Path) -> None:
    """Write `bench.json`, `bench.md` and `bench.html` into a folder, each whole."""
    atomic_write(folder / 'bench.json', bench.to_json())
    for name, text in (
        ('bench.md', bench_markdown.as_markdown(bench)), ('bench.html', bench_page.as_html(bench)),
    ):
        atomic_write(folder / name, text.encode(errors='backslashreplace'))


def collect(
    rows: Iterator[BenchRow], make_bench: Callable[[Sequence[BenchRow]], Bench], folder: Path
) -> tuple[Bench, bool]:
    """
    Take rows as they come and write all of them after each.

    Returns
    -------
    bench and whether Ctrl-C ended it
        The bench has the finished rows.

    """
    done: list[BenchRow] = []
    with contextlib.suppress(KeyboardInterrupt):
        for row in rows:
            done.append(row)
            write_bench(make_bench(done), folder)
        return make_bench(done), False
    if done:  # with no row, the results of an earlier run stay
        write_bench(make_bench(done), folder)
    return make_bench(done), True


def settings_record(context: BenchContext) -> dict[str, Any]:
    """Return the settings of a benchmark, JSON-ready."""
    latency = bench_measure.LATENCY_SETTINGS
    return {
        'letterbox': 'square',
        'latency settings': f'score {latency.score_threshold}, IoU {latency.iou_threshold}, '
        f'at most {latency.max_detections} detections',
        'accuracy settings': f'score {accuracy.SCORE_THRESHOLD}, IoU {accuracy.IOU_THRESHOLD}, '
        f'several classes a box, at most {accuracy.MAX_DETECTIONS} detections',
        'seconds': context.plan.seconds,
        'least runs': context.plan.least_runs,
        'warm-up': f'{context.plan.seconds / 5:g} s, at least {context.plan.warm_up_runs} runs, '
        'every picture twice where time allows',
        'batches': ', '.join(map(str, context.batches)),
        'CPU threads': context.options.threads or 'one per core',
        **ways_record(context.options.args),
    }


def ways_record(args: argparse.Namespace) -> dict[str, str]:
    """Return how the rows with a second look, tiles or several engines use their models."""
    from yolov7_trt_ros.cli import look_arguments

    found = {}
    ways = wanted_ways(args)
    if SECOND_LOOK in ways:
        look = dataclasses.asdict(look_arguments.look_options(args))
        look['model'] = Path(look['model']).name
        found[SECOND_LOOK] = ', '.join(f'{name} {value}' for name, value in look.items())
    if TILES in ways:
        tiles = look_arguments.tile_options(only_way(args, TILES))
        found[TILES] = f'{tiles.text}, overlap {tiles.overlap:g}'
    if ENGINES in ways:
        found[ENGINES] = (
            f'{publishable_text(args.engines)}: frames without a pause; the latency is that of a '
            'frame in its engine, the rate that of all together'
        )
    return found
