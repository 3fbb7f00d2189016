"""The results of a benchmark as tables, for Markdown and page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import dataclasses

from yolov7_trt_ros.report.bench.row import Bench, BenchRow, Speed

ABSENT = '—'
OTHER_MACHINE = '†'
_BYTES_PER_MB = 1e6
_MJ_PER_J = 1e3


@dataclasses.dataclass(frozen=True)
class BenchTable:
    """
    A table of text.

    Attributes
    ----------
    title, notes
        Heading, and sentences below.
    header
        Names of the columns; the first is left-aligned.
    rows
        As many cells as the header.

    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def ran(bench: Bench) -> list[BenchRow]:
    """Return the rows that ran."""
    return [row for row in bench.rows if not row.error]


def labels_of(bench: Bench) -> dict[int, str]:
    """Return what each row that ran is called, by its id(); with its machine where they differ."""
    rows = ran(bench)
    several = len({row.where.machine for row in rows}) > 1
    return {
        id(row): f'{row.name} ({row.where.machine})' if several else row.name for row in rows
    }


# ---- what was measured


def summary_table(bench: Bench) -> BenchTable:
    """Return one line a row: size, latency, frame rate, energy, AP, and against the first row."""
    most = max(bench.batch_sizes, default=1)
    header = (
        'row', 'precision', 'size MB', 'network p50 ms', 'end to end p50 ms', 'speed-up',
        f'fps at batch {most}', 'W', 'mJ a frame', 'GPU MB', 'AP50', 'ΔAP50', 'AP50-95',
    )
    rows, names = ran(bench), labels_of(bench)
    lines = tuple(_summary_line(row, rows[0], names[id(row)], most) for row in rows)
    return BenchTable('Summary', header, lines, _summary_notes(rows, most))


def _summary_line(row: BenchRow, first: BenchRow, name: str, most: int) -> tuple[str, ...]:
    one, many = row.batch(1), row.batch(most)
    energy, found = one.energy, row.accuracy
    return (
        name, row.precision or ABSENT, number(row.size_bytes / _BYTES_PER_MB, 1),
        _p50(one.network), _p50(one.end_to_end), _speed_up(row, first),
        _fps(many.network),
        number(energy.watts if energy else None, 1),
        number(energy.joules_per_frame * _MJ_PER_J if energy else None, 1),
        number(row.gpu_memory_mb, 0),
        number(found.ap50 if found else None, 4), _ap_change(row, first),
        number(found.ap if found else None, 4),
    )


def _summary_notes(rows: Sequence[BenchRow], most: int) -> tuple[str, ...]:
    if not rows:
        return ()
    notes = [
        'Speed-up: network alone at batch 1, p50, against the first row. W and mJ a frame: whole '
        'frames at batch 1, everything the source measures, idle power included. '
        f'fps at batch {most}: network alone.'
    ]
    if any(not _same_machine(row, rows[0]) for row in rows):
        notes.append(
            f'{OTHER_MACHINE} measured on another machine than the first row, which the speed-up '
            'reflects too: see Where.'
        )
    return (*notes, *_int8_notes(rows, most))


def _int8_notes(rows: Sequence[BenchRow], most: int) -> list[str]:
    """Return how the fastest INT8 plan of each machine compares with its fastest FP16 plan."""
    notes = []
    for machine in dict.fromkeys(row.where.machine for row in rows):
        here = [row for row in rows if row.where.machine == machine]
        int8 = _fastest_plan(here, ('int8', 'mixed'), most)  # mixed: FP16 beside INT8
        fp16 = _fastest_plan(here, ('fp16',), most)
        if int8 and fp16:
            notes.append(
                f'{machine}, batch {most}: {int8[1]} runs at {int8[0] / fp16[0]:.2f} times the '
                f'rate of {fp16[1]}.'
            )
    return notes


def _fastest_plan(
    rows: Sequence[BenchRow], precisions: Sequence[str], batch: int
) -> tuple[float, str] | None:
    """Return images a second and name of the fastest network among TensorRT's; None without."""
    found = [
        (speed.fps, row.name) for row in rows
        if row.precision in precisions and row.engine.startswith('TensorRT')
        and (speed := row.batch(batch).network) is not None
    ]
    return max(found, default=None)


def _speed_up(row: BenchRow, first: BenchRow) -> str:
    mine, theirs = row.batch(1).network, first.batch(1).network
    if mine is None or theirs is None or not mine.latency_ms.p50:
        return ABSENT
    mark = '' if _same_machine(row, first) else f' {OTHER_MACHINE}'
    return f'{theirs.latency_ms.p50 / mine.latency_ms.p50:.2f}×{mark}'


def _same_machine(row: BenchRow, other: BenchRow) -> bool:
    mine, theirs = row.where, other.where
    return (mine.machine, mine.facts) == (theirs.machine, theirs.facts)


def _ap_change(row: BenchRow, first: BenchRow) -> str:
    if row.accuracy is None or first.accuracy is None or row is first:
        return ABSENT
    return f'{row.accuracy.ap50 - first.accuracy.ap50:+.4f}'


def latency_table(bench: Bench) -> BenchTable:
    """Return percentiles of network and whole frames, by batch size."""
    header = ('row', 'batch', 'network p50', 'p90', 'p99', 'clock', 'end to end p50', 'p90',
              'p99', 'runs')
    lines = _by_batch(bench, lambda row, batch: (
        *_percentiles(row.batch(batch).network),
        _clock(row.batch(batch).network),
        *_percentiles(row.batch(batch).end_to_end),
        _runs(row.batch(batch).network, row.batch(batch).end_to_end),
    ))
    return BenchTable('Latency, ms a run', header, lines, (
        'Network: the engine alone, without letterbox and decoding; timed by CUDA events for '
        'TensorRT, by the host clock for the others, which for PyTorch on a GPU includes copies. '
        'End to end: from a decoded picture in host memory to detections, one batch after the '
        'other.', *_engine_notes(bench),
    ))


def _engine_notes(bench: Bench) -> tuple[str, ...]:
    """Return what the times of several engines at once are, if there are such rows."""
    if not any(key.startswith('engine ') for row in ran(bench) for key in row.facts):
        return ()
    return (
        'More engines: each works on a frame of its own, as with several streams. The latency is '
        'that of a frame in its engine, beside the others, and the rate that of all together. '
        'The schedule of the node, which keeps the latency of the first engine, was not used.',
    )


def throughput_table(bench: Bench) -> BenchTable:
    """Return images a second, by batch size."""
    sizes = bench.batch_sizes
    header = ('row', *(f'{what}, batch {size}' for size in sizes
                       for what in ('network', 'end to end')))
    names = labels_of(bench)
    lines = tuple(
        (names[id(row)], *(_fps(speed) for size in sizes
                           for speed in (row.batch(size).network, row.batch(size).end_to_end)))
        for row in ran(bench)
    )
    return BenchTable('Images a second', header, lines, _engine_notes(bench))


def energy_table(bench: Bench) -> BenchTable:
    """Return power and energy of whole frames, by batch size."""
    header = ('row', 'batch', 'W', 'idle W', 'mJ a frame', 'source', 'rails', 's',
              'GPU clock MHz', 'hottest °C')
    lines = _by_batch(bench, _energy_line)
    metered = tuple(line for line in lines if line[2] != ABSENT)
    return BenchTable('Energy, end to end', header, metered or _no_power_line(bench, header))


def _energy_line(row: BenchRow, batch: int) -> tuple[str, ...]:
    energy = row.batch(batch).energy
    if energy is None:
        return (ABSENT,) * 8
    return (
        number(energy.watts, 1), number(row.where.idle_watts, 1),
        number(energy.joules_per_frame * _MJ_PER_J, 2), energy.source,
        ', '.join(energy.rails) or ABSENT, number(energy.seconds, 1),
        number(energy.clocks_mhz.get('gpu'), 0), number(energy.hottest_c, 0),
    )


def _no_power_line(bench: Bench, header: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    if not ran(bench):
        return ()
    return (('none was measured: see below', *(ABSENT for _ in header[1:])),)


# ---- cells


def number(value: float | None, digits: int) -> str:
    """Return a number, or a dash for None."""
    return ABSENT if value is None else f'{value:.{digits}f}'


def milliseconds(value: float) -> str:
    """Return milliseconds with about three digits that count."""
    return f'{value:.{3 if value < 10 else 2 if value < 100 else 1}f}'


def _p50(speed: Speed | None) -> str:
    return ABSENT if speed is None else milliseconds(speed.latency_ms.p50)


def _fps(speed: Speed | None) -> str:
    return ABSENT if speed is None else f'{speed.fps:.{1 if speed.fps < 1000 else 0}f}'


def _percentiles(speed: Speed | None) -> tuple[str, str, str]:
    if speed is None:
        return ABSENT, ABSENT, ABSENT
    latency = speed.latency_ms
    return milliseconds(latency.p50), milliseconds(latency.p90), milliseconds(latency.p99)


def _clock(speed: Speed | None) -> str:
    return ABSENT if speed is None else speed.clock


def _runs(*speeds: Speed | None) -> str:
    return ' + '.join(str(speed.runs) for speed in speeds if speed is not None) or ABSENT


def _by_batch(
    bench: Bench, cells: Callable[[BenchRow, int], tuple[str, ...]]
) -> tuple[tuple[str, ...], ...]:
    names = labels_of(bench)
    lines = [
        (names[id(row)], str(size), *cells(row, size))
        for row in ran(bench) for size in bench.batch_sizes
    ]
    return tuple(line for line in lines if set(line[2:]) != {ABSENT})
