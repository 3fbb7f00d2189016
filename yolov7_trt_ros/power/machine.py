"""PowerHost: the machine whose power is read and changed, with its files, tools and sockets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
import os
from pathlib import Path
from types import ModuleType
from typing import ClassVar

from yolov7_trt_ros.power.nvml.library import load_nvml
from yolov7_trt_ros.power.root.commands import CommandRunner, SystemRunner
from yolov7_trt_ros.power.service.socket_files import find_socket


@dataclasses.dataclass(frozen=True)
class PowerHost:
    """
    A machine to read and change.

    Attributes
    ----------
    root
        Folder of its files: `/`, or that of an emulated board.
    runner
        Runs its tools.
    environment
        Variables for its tools in addition to those of this process.
    nvml
        Returns the module pynvml, for a PC; None: NVML is not used.
    power_socket
        Socket of the service `yolov7_trt power serve`, which then makes the changes; None: this
        process makes them.
    is_emulated
        Whether it is an emulated board.

    """

    root: Path = Path('/')
    runner: CommandRunner = dataclasses.field(default_factory=SystemRunner)
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    nvml: Callable[[], ModuleType] | None = None
    power_socket: Path | None = None
    is_emulated: ClassVar[bool] = False

    def close(self) -> None:
        """Release what was made for it; nothing on a real machine."""


def this_host() -> PowerHost:
    """Return the machine that this process runs on."""
    return PowerHost(nvml=load_nvml, power_socket=find_socket(os.environ))
