"""Results of a command over many recordings: drives.json, drives.html, a summary."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
import json
from pathlib import Path
from typing import Any, TYPE_CHECKING

from yolov7_trt_ros.cli import output
from yolov7_trt_ros.cli.fleet.tasks import failures
from yolov7_trt_ros.cli.work.work_folder import source_facts, WorkFolder
from yolov7_trt_ros.errors import InputError

if TYPE_CHECKING:
    from yolov7_trt_ros.report.fleet_page import FleetPage

RESULT_FILE, PAGE_FILE = 'drives.json', 'drives.html'


class KeptResults:
    """
    Results of an earlier run of the same command, while their recordings are unchanged.

    Parameters
    ----------
    work
        Folder that keeps them.
    sources
        Files and folders of each recording, by name.

    """

    def __init__(self, work: WorkFolder, sources: Mapping[str, Sequence[Path]]) -> None:
        self._work = work
        self._facts = {
            name: [[str(path.resolve()), source_facts(path, work.path)] for path in paths]
            for name, paths in sources.items()
        }

    def done(
        self, is_there: Callable[[str, dict[str, Any]], bool] = lambda name, result: True
    ) -> dict[str, dict[str, Any]]:
        """Return finished results by name; `is_there` tells whether their files still exist."""
        found = {}
        for name, facts in self._facts.items():
            kept = self._work.done(name)
            if kept and kept.get('facts') == facts and is_there(name, kept['result']):
                found[name] = kept['result']
        return found

    def keep(self, name: str, result: dict[str, Any]) -> None:
        """Keep a result; with a full disk it is only unknown to the next run."""
        try:
            self._work.keep(name, {'facts': self._facts[name], 'result': result})
        except InputError as exc:
            output.warn(exc)


def write_results(
    args: argparse.Namespace, work: WorkFolder, record: dict[str, Any], page: FleetPage
) -> None:
    """Write results and page into the folder, and `--json`; print the summary."""
    write_files(work, record, page)
    if args.json:
        output.write_json(args.json, record)
    rows = [*page.summary, ('page', str(work.path / PAGE_FILE))]
    output.say(output.format_table([(name, value) for name, value in rows]),
               file=output.report_stream(args.json))


def write_files(work: WorkFolder, record: dict[str, Any], page: FleetPage) -> None:
    r"""Write results and page into the folder; other bytes of file names become `\udce9`."""
    from yolov7_trt_ros.report.fleet_page import as_html

    text = json.dumps(record, indent=1, ensure_ascii=False) + '\n'
    work.write(work.path / RESULT_FILE, text.encode(errors='backslashreplace'))
    work.write(work.path / PAGE_FILE, as_html(page).encode(errors='backslashreplace'))


def warn_of_notes(results: Mapping[str, Mapping[str, Any]], *kinds: str) -> None:
    """Warn of what the results note under some keys, with the name of the recording."""
    for name, result in results.items():
        for kind in kinds:
            for text in result.get(kind, ()):
                output.warn(f'{name}: {text}')


def warn_of_failures(results: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """
    Warn of each recording without a result; return the errors by name.

    Raises
    ------
    InputError
        No recording has a result.

    """
    failed = failures(results)
    if failed and len(failed) == len(results):
        first = next(iter(failed.items()))
        raise InputError(f'none of {len(results)} recordings has a result; {first[0]}: {first[1]}')
    for name, reason in failed.items():
        output.warn(f'{name}: {reason}')
    return failed
