"""Progress of a build, from the events of TensorRT; reported at least every 2 s."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import re
import threading
import time

Report = Callable[[str, 'float | None'], None]
"""Gets a short phase such as `tactics: head.2`, and the part that is done, None if unknown."""

SILENCE_S = 2.0
"""A phase that lasts longer is reported again."""

_TICK_S = 0.2
_NAME_LENGTH = 60

# Messages of builders that have no progress monitor (TensorRT 8).
_LAYERS = re.compile(r'After [\w -]+: (\d+) layers')
_PROFILE = re.compile(r'Constructing optimization profile number \d+ \[(\d+)/(\d+)\]')
_TIMING = re.compile(r'-{3,} Timing Runner: (.*?)(?: \([^()]*\))?\s*$')
_REFORMATTING = re.compile(r'Computing reformatting costs')
_GENERATING = re.compile(r'Formats and tactics selection completed')


class BuildProgress:
    """
    The state of a build. TensorRT's threads write it, one thread of ours reports it.

    Parameters
    ----------
    report
        Called from the reporting thread only, inside `reporting()`.
    cancelled
        Asked between steps; once true, it stays so.

    """

    def __init__(self, report: Report, cancelled: Callable[[], bool]) -> None:
        self._report = report
        self._cancelled = cancelled
        self._lock = threading.Lock()
        self._phase = 'start'
        self._fraction: float | None = None
        self._open: dict[str, _Phase] = {}
        self._seen: set[str] = set()
        self._layers = 0
        self._profiles = (1, 1)

    @contextlib.contextmanager
    def reporting(self) -> Iterator[None]:
        """Report in the background, and once more at the end."""
        ended = threading.Event()
        thread = threading.Thread(
            target=self._run, args=(ended,), name='build-progress', daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def is_cancelled(self) -> bool:
        """Whether the build is to stop."""
        return self._cancelled()

    def enter(self, phase: str, fraction: float | None = None) -> None:
        """Say what is being done now."""
        with self._lock:
            self._phase, self._fraction = phase, fraction

    # -- from a progress monitor

    def phase_start(self, name: str, parent: str | None, steps: int) -> None:
        """Enter a phase of TensorRT's."""
        with self._lock:
            self._open[name] = _Phase(parent, max(1, steps))
            self._phase, self._fraction = _shorten(name), self._done_part(name)

    def step_complete(self, name: str) -> bool:
        """Count a step; False to stop the build."""
        with self._lock:
            if name in self._open:
                self._open[name].done += 1
                self._fraction = self._done_part(name)
        return not self._cancelled()

    def phase_finish(self, name: str) -> None:
        """Leave a phase."""
        with self._lock:
            phase = self._open.pop(name, None)
            if phase is not None and phase.parent in self._open:
                self._phase = _shorten(phase.parent)

    # -- from the log

    def read_message(self, text: str) -> None:
        """Read the progress from a message of the builder, if it has any."""
        if match := _TIMING.search(text):
            self._time_layer(match[1])
        elif match := _LAYERS.match(text):
            self._layers = int(match[1])
        elif match := _PROFILE.search(text):
            with self._lock:
                self._profiles = (int(match[1]), int(match[2]))
                self._seen.clear()
        elif _REFORMATTING.search(text):
            self.enter('tactics: reformatting', self._fraction)
        elif _GENERATING.search(text):
            self.enter('generate code', 0.95)

    def _time_layer(self, layer: str) -> None:
        with self._lock:
            self._seen.add(layer)
            self._phase = f'tactics: {_shorten(layer)}'
            if self._layers:
                number, count = self._profiles
                part = min(1.0, len(self._seen) / self._layers)
                self._fraction = 0.95 * (number - 1 + part) / count

    def _done_part(self, name: str) -> float | None:
        """Return the part of the outermost phase that is done, innermost first; lock held."""
        part = 0.0
        parent: str | None = name
        while parent in self._open:
            phase = self._open[parent]
            part = min(1.0, (phase.done + part) / phase.steps)
            parent = phase.parent
        return part

    def _run(self, ended: threading.Event) -> None:
        shown: tuple[str, float | None] = ('', None)
        shown_at = -SILENCE_S
        while True:
            last = ended.wait(_TICK_S)
            with self._lock:
                state = (self._phase, self._fraction)
            now = time.monotonic()
            if state != shown or now - shown_at >= SILENCE_S:
                self._report(*state)
                shown, shown_at = state, now
            if last:
                return


class _Phase:
    """A phase that is under way: its parent, and how many of its steps are done."""

    def __init__(self, parent: str | None, steps: int) -> None:
        self.parent, self.steps, self.done = parent, steps, 0


def _shorten(name: str) -> str:
    text = ' '.join(name.split())
    return text if len(text) <= _NAME_LENGTH else f'{text[:_NAME_LENGTH - 3]}...'
