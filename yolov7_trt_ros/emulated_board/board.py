"""
An emulated board: a root folder with the files of a Jetson, and tools that read and change them.

    with create_board('orin_nano_super') as board:
        board.set_load(gpu=0.9, cpu=0.3)
        board.step(60)
        subprocess.run(['nvpmodel', '-q'], env={**os.environ, **board.env})

Time passes only in ``step``, or by itself between ``start`` and ``stop``.

"""

from __future__ import annotations

from collections.abc import Sequence
import os
from pathlib import Path
import shlex
import shutil
import threading
import time
from types import TracebackType

from yolov7_trt_ros.emulated_board import kernel
from yolov7_trt_ros.emulated_board.boards.board_definition import BoardDefinition
from yolov7_trt_ros.emulated_board.boards.catalogue import find_board
from yolov7_trt_ros.emulated_board.build_tree import build_tree
from yolov7_trt_ros.emulated_board.conf_board import board_from_conf, load_conf
from yolov7_trt_ros.emulated_board.power_modes import apply_mode
from yolov7_trt_ros.emulated_board.state import (
    BoardState,
    changing_state,
    load_state,
    ROOT_VARIABLE,
)
from yolov7_trt_ros.emulated_board.tool_process import tool_command
from yolov7_trt_ros.emulated_board.tree import read_text, write_text, write_value
from yolov7_trt_ros.errors import PowerCommandError
from yolov7_trt_ros.temporary_folder import TemporaryFolder

TOOLS = ('nvpmodel', 'jetson_clocks', 'tegrastats', 'nvfancontrol', 'systemctl', 'sudo')

_SCRIPT = """\
#!/bin/sh
[ -n "${variable}" ] || {variable}={root}
export {variable}
exec {command} "$@"
"""
_PREFIX = 'emulated_board_'
_EMPTY_READS, _EMPTY_WAIT_S = 20, 0.002


class EmulatedBoard:
    """
    A board in a folder, which `close` deletes; a temporary one also goes with the board.

    Attributes
    ----------
    definition : BoardDefinition
    root : Path
        The folder that stands for ``/``.
    tools : Path
        Folder of the executables, for PATH.
    env : dict
        Variables for processes that use the board: PATH and the root folder.

    """

    def __init__(
        self, definition: BoardDefinition, folder: Path,
        temporary: TemporaryFolder | None = None,
    ) -> None:
        self.definition = definition
        self.root = folder / 'root'
        self.tools = folder / 'tools'
        self.env = {
            ROOT_VARIABLE: str(self.root),
            'PATH': f'{self.tools}{os.pathsep}{os.environ.get("PATH", os.defpath)}',
        }
        self._folder, self._temporary = folder, temporary
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def __enter__(self) -> EmulatedBoard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def name(self) -> str:
        """Name of the board in `BOARDS`."""
        return self.definition.name

    @property
    def state(self) -> BoardState:
        """Return a copy of the state that is in no file of a real board."""
        return load_state(self.root)

    def set_load(
        self, gpu: float | None = None, cpu: float | None = None, emc: float | None = None
    ) -> None:
        """
        Set the loads, 0 to 1; None leaves a load unchanged.

        Without its own load the memory follows the GPU.
        """
        with changing_state(self.root) as state:
            if gpu is not None:
                state['gpu_load'] = min(max(gpu, 0.0), 1.0)
                state['gpu_used'] = state['gpu_used'] or gpu > 0
                state['emc_load'] = 0.6 * state['gpu_load']
            if cpu is not None:
                state['cpu_load'] = min(max(cpu, 0.0), 1.0)
            if emc is not None:
                state['emc_load'] = min(max(emc, 0.0), 1.0)

    def set_options(
        self, *, as_root: bool | None = None, in_container: bool | None = None,
        sudo_allowed: bool | Sequence[str] | None = None, stale_prompt: bool | None = None,
    ) -> None:
        """
        Change user and place of calls of the tools; None: unchanged.

        Parameters
        ----------
        as_root : bool, optional
            Tools run as root without sudo.
        in_container : bool, optional
            nvpmodel sees another mount namespace.
        sudo_allowed : bool or sequence of str, optional
            What ``sudo -n`` may start; strings are command lines that begin like this, such as
            'nvpmodel' or 'nvpmodel -m 0'.
        stale_prompt : bool, optional
            nvpmodel asks for a reboot for every mode, even the current one.

        """
        with changing_state(self.root) as state:
            if as_root is not None:
                state['as_root'] = as_root
                self._protect(0o644 if as_root else 0o444)
            if in_container is not None:
                state['in_container'] = in_container
            if sudo_allowed is not None:
                state['sudo_allowed'] = (
                    sudo_allowed if isinstance(sudo_allowed, bool) else list(sudo_allowed))
            if stale_prompt is not None:
                state['stale_prompt'] = stale_prompt

    def set_memory(self, used: float) -> None:
        """Set the share of RAM and of swap in use, 0 to 1."""
        with changing_state(self.root) as state:
            state['memory_used'] = min(max(used, 0.0), 1.0)
        kernel.settle(self.root)

    def set_ambient(self, celsius: float) -> None:
        """Set the temperature of the air."""
        with changing_state(self.root) as state:
            state['ambient_c'] = celsius

    def set_heat_sink(self, celsius: float) -> None:
        """Set the temperature of the heat sink, from which it then changes."""
        with changing_state(self.root) as state:
            state['sink_c'] = celsius
        kernel.settle(self.root)

    def delay_tool(self, tool: str, seconds: float) -> None:
        """Let a tool hang for this time at its start."""
        with changing_state(self.root) as state:
            state['delays_s'][tool] = seconds

    def step(self, seconds: float) -> None:
        """Let time pass on the board."""
        kernel.step(self.root, seconds)

    def settle(self) -> None:
        """Let the kernel process files that were written directly, without time passing."""
        kernel.settle(self.root)

    def read(self, path: str) -> str:
        """
        Return the text of one of the board's files; '' if it cannot be read.

        A writer empties an ordinary file first, unlike a file of the kernel: an empty one is read
        again for a short time.

        """
        text = read_text(self.root, path.lstrip('/'))
        for _ in range(_EMPTY_READS):
            if text or not (self.root / path.lstrip('/')).is_file():
                break
            time.sleep(_EMPTY_WAIT_S)
            text = read_text(self.root, path.lstrip('/'))
        return text

    def write(self, path: str, value: object) -> None:
        """Write one of the board's files and let the kernel process it."""
        write_value(self.root, path.lstrip('/'), value)
        kernel.settle(self.root)

    def hang(self, path: str) -> None:
        """Let every read of a file block until `release`, as a driver's deadlock does."""
        full = Path(os.path.realpath(self.root / path.lstrip('/')))
        full.rename(full.with_name(f'.{full.name}.before_hang'))
        os.mkfifo(full)

    def release(self, path: str) -> None:
        """Undo `hang`; blocked readers get an empty text."""
        full = Path(os.path.realpath(self.root / path.lstrip('/')))
        kept = full.with_name(f'.{full.name}.before_hang')
        pipe = os.open(full, os.O_RDWR | os.O_NONBLOCK)  # wakes readers and writers
        os.replace(kept, full)
        os.close(pipe)

    def start(self, period_s: float = 0.1) -> None:
        """Let time pass by itself, in a thread, until `stop` or `close`."""
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(
                target=self._run, args=(period_s,), name='emulated_board', daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread of `start`."""
        if self._thread is not None:
            self._stopping.set()
            self._thread.join()
            self._thread = None

    def close(self) -> None:
        """Stop and delete the folder; may be called twice."""
        self.stop()
        if self.root.exists():
            with changing_state(self.root, save=False):  # running tools end first
                shutil.rmtree(self.root, ignore_errors=True)
        shutil.rmtree(self.tools, ignore_errors=True)
        if self._temporary is not None:
            self._temporary.cleanup()
        elif self._folder.is_dir() and not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _protect(self, mode: int) -> None:
        """Allow or forbid the user of this process to write the kernel's files."""
        for top in ('sys', 'etc'):
            for folder, _, names in os.walk(self.root / top):
                for name in names:
                    path = os.path.join(folder, name)
                    if not os.path.islink(path) and os.path.isfile(path):
                        os.chmod(path, mode)

    def _run(self, period_s: float) -> None:
        before = time.monotonic()
        while not self._stopping.wait(period_s):
            now = time.monotonic()
            kernel.step(self.root, now - before)
            before = now


def create_board(
    name: str | Path, folder: Path | None = None, *, as_root: bool = True,
    in_container: bool = False, sudo_allowed: bool | Sequence[str] = True,
) -> EmulatedBoard:
    """
    Make an emulated board that is on, in its default mode and idle.

    Parameters
    ----------
    name : str or Path
        One of `BOARDS`, or an nvpmodel.conf to make a board from.
    folder : Path, optional
        Where its files go; by default a temporary folder, which a later board removes if this
        process was killed.
    as_root, in_container, sudo_allowed
        See `EmulatedBoard.set_options`.

    Raises
    ------
    PowerCommandError
        No board has that name, or the folder has other files where those of the board go.
    PowerError
        The file is not that of a known board.

    """
    conf = load_conf(name) if isinstance(name, Path) else ''
    definition = board_from_conf(conf, name.name) if isinstance(name, Path) else find_board(name)
    temporary = None
    if folder is None:
        temporary = TemporaryFolder(_PREFIX, ignore_cleanup_errors=True)
        folder = Path(temporary.name)
    board = EmulatedBoard(definition, folder.absolute(), temporary)
    for path in (board.root, board.tools):  # `close` removes them
        if path.exists():
            raise PowerCommandError(f'{path} is there already; give a folder without it')
    try:
        build_tree(board.root, definition, conf)
        _write_tools(board)
        boot(board)
    except PowerCommandError:
        shutil.rmtree(board.root, ignore_errors=True)
        board.close()
        raise
    board.set_options(as_root=as_root, in_container=in_container, sudo_allowed=sudo_allowed)
    return board


def boot(board: EmulatedBoard) -> None:
    """Set the default mode as nvpmodel's service does, and let the readings follow."""
    apply_mode(board.root, board.definition.default_mode)
    kernel.settle(board.root)


def _write_tools(board: EmulatedBoard) -> None:
    for tool in TOOLS:
        text = _SCRIPT.format(
            variable=ROOT_VARIABLE, root=shlex.quote(str(board.root)),
            command=shlex.join(tool_command(tool)))
        write_text(board.tools, tool, text)
        (board.tools / tool).chmod(0o755)
