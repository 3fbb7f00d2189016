"""
State of an emulated board that no file of a real board holds; all its processes share it.

It is one JSON file below the board's root, ``run/emulated_board/state.json``; it is changed only
under the lock next to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import fcntl
import json
import os
from pathlib import Path
from typing import Any, TypedDict

FOLDER = 'run/emulated_board'
CONF_COPY = f'{FOLDER}/nvpmodel.conf'
ROOT_VARIABLE = 'EMULATED_BOARD_ROOT'
SUDO_VARIABLE = 'EMULATED_BOARD_SUDO'


class BoardState(TypedDict):
    """
    State that a real board keeps in hardware.

    Attributes
    ----------
    board : str
        Name in ``boards.BOARDS``.
    conf : str
        Name of the nvpmodel.conf that it was made from, of which `CONF_COPY` is the text; '' for
        none.
    as_root, in_container : bool
        Who calls the tools, and from where.
    sudo_allowed : bool or list of str
        What ``sudo -n`` permits: all, nothing, or command lines that begin like this.
    stale_prompt : bool
        nvpmodel asks for a reboot for every mode, even the current one.
    gpu_used : bool
        The GPU has worked since the last boot.
    reboots : int
        How often the board was rebooted.
    delays_s : dict
        Tool to seconds that it hangs before doing anything.
    gpu_load, cpu_load, emc_load : float
        0 to 1.
    memory_used : float
        Share of RAM and swap in use; below 0: some RAM, by the load of the GPU.
    ambient_c, sink_c : float
        Air and heat sink.
    time_s : float
        Time that ``step`` has passed.
    rails_mw : dict
        Averaged power of each rail.
    throttle_level : int
        0 to 2, with the time at which it may change again.
    throttle_until_s : float
    over_current_until_s : float
    over_current_events : int
    settled : dict
        Path to the value that was last accepted there.
    shown : dict
        Path to the text that was last written there.

    """

    board: str
    conf: str
    as_root: bool
    in_container: bool
    sudo_allowed: bool | list[str]
    stale_prompt: bool
    gpu_used: bool
    reboots: int
    delays_s: dict[str, float]
    gpu_load: float
    cpu_load: float
    emc_load: float
    memory_used: float
    ambient_c: float
    sink_c: float
    time_s: float
    rails_mw: dict[str, float]
    throttle_level: int
    throttle_until_s: float
    over_current_until_s: float
    over_current_events: int
    settled: dict[str, int]
    shown: dict[str, str]


def initial_state(board: str, conf: str = '') -> BoardState:
    """Return the state of a board that has just been switched on."""
    return BoardState(
        board=board, conf=conf, as_root=True, in_container=False, sudo_allowed=True,
        stale_prompt=False, gpu_used=False, reboots=0, delays_s={}, gpu_load=0.0, cpu_load=0.02,
        emc_load=0.0, memory_used=-1.0, ambient_c=25.0, sink_c=25.0, time_s=0.0, rails_mw={},
        throttle_level=0, throttle_until_s=0.0, over_current_until_s=-1.0,
        over_current_events=0, settled={}, shown={})


def load_state(root: Path) -> BoardState:
    """Return the current state."""
    content: Any = json.loads((root / FOLDER / 'state.json').read_text(encoding='utf-8'))
    state: BoardState = content
    return state


def save_state(root: Path, state: BoardState) -> None:
    """Replace the state atomically."""
    path = root / FOLDER / 'state.json'
    fresh = path.with_suffix('.new')
    fresh.write_text(json.dumps(state), encoding='utf-8')
    os.replace(fresh, path)


@contextmanager
def changing_state(root: Path, *, save: bool = True) -> Iterator[BoardState]:
    """Hold the lock, yield the state, and save it afterwards."""
    with (root / FOLDER / 'lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state = load_state(root)
        yield state
        if save:
            save_state(root, state)
