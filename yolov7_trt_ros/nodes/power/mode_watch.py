"""ModeWatch: reads power mode and jetson_clocks of a board, in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
from pathlib import Path

from yolov7_trt_ros.errors import Yolov7TrtError
from yolov7_trt_ros.nodes.job_thread import Job, JobThread
from yolov7_trt_ros.power.board.identity import BoardInfo, JETSON
from yolov7_trt_ros.power.board.machine_facts import machine_facts
from yolov7_trt_ros.power.board_control import BoardControl

_UNKNOWN = 'not known yet'


@dataclasses.dataclass(frozen=True)
class ModeReading:
    """
    One reading of a board.

    Attributes
    ----------
    facts
        Power mode, jetson_clocks, and facts about the machine, for the diagnostics.
    contradiction
        How the board contradicts nvpmodel; '' if it does not.

    """

    facts: Mapping[str, str]
    contradiction: str = ''


class ModeWatch:
    """
    Reads a Jetson when asked to; of other machines there is nothing to read.

    Parameters
    ----------
    control
        Reads mode and lock, by tools of the board that may hang.
    root
        Folder that holds `proc`.
    board
        Which board it is.

    """

    def __init__(self, control: BoardControl, root: Path, board: BoardInfo) -> None:
        self._control, self._root, self._board = control, root, board
        is_jetson = board.kind == JETSON
        self._thread = JobThread('power_watch') if is_jetson else None
        self._job: Job | None = None
        self._newest = ModeReading(
            {'mode': _UNKNOWN, 'jetson_clocks': _UNKNOWN} if is_jetson else {}
        )

    @property
    def newest(self) -> ModeReading:
        """Return the newest reading; `unknown` and the reason if the board could not be read."""
        job = self._job
        if job is None or not job.is_done or not job.error:
            return self._newest
        return ModeReading(dict.fromkeys(('mode', 'jetson_clocks'), f'unknown: {job.error}'))

    def read_again(self) -> None:
        """Have the board read, unless the previous reading still hangs."""
        if self._thread is not None and self._thread.current is None:
            self._job = self._thread.submit('reading the mode', self._read)

    def close(self) -> None:
        """End the thread; does not wait for a tool that hangs."""
        if self._thread is not None:
            self._thread.close(0.0)

    def _read(self) -> str:
        contradiction = self._newest.contradiction
        try:
            mode = self._control.current_mode()
            name, contradiction = mode.name, mode.contradiction
        except Yolov7TrtError as exc:
            name = _error_text(exc)
        self._newest = ModeReading({
            'mode': name,
            'jetson_clocks': _text_or_error(self._control.describe_clock_lock),
            **machine_facts(self._root, self._board),
        }, contradiction)
        return ''


def _text_or_error(look: Callable[[], str]) -> str:
    try:
        return look()
    except Yolov7TrtError as exc:
        return _error_text(exc)


def _error_text(error: Yolov7TrtError) -> str:
    return f'unknown: {error}'
