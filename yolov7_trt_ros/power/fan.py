"""
Read and set the fan profile, such as `quiet` or `cool`.

On JetPack 4 and on Xaviers nvpmodel sets it (`nvpmodel -d quiet`). From JetPack 5 on it is the
default in /etc/nvfancontrol.conf. The service nvfancontrol reads it at its start unless its status
file names another; so that file is deleted and the service restarted.

"""

from __future__ import annotations

from collections.abc import Callable
import re
import time

from yolov7_trt_ros.errors import (
    PowerCommandError,
    PowerError,
    PowerFormatError,
    PowerPermissionError,
)
from yolov7_trt_ros.power.nvpmodel.answers import find_refusal
from yolov7_trt_ros.power.nvpmodel.mode_switch import ModeSwitch
from yolov7_trt_ros.power.root.root_access import afterwards, RootAccess
from yolov7_trt_ros.power.root.sudoers import explain_root_needed

FAN_CONF = '/etc/nvfancontrol.conf'
FAN_STATUS = '/var/lib/nvfancontrol/status'
NVPMODEL_PROFILES = ('cool', 'quiet')
"""The profiles of nvpmodel."""

_SERVICE = 'nvfancontrol'
_READ_BACK_S = 5.0
_POLL_S = 0.1
_PROFILE = re.compile(r'^\s*FAN_PROFILE\s+([\w-]+)', re.M)
_DEFAULT = re.compile(r'^(\s*FAN_DEFAULT_PROFILE\s+)([\w-]+)', re.M)
_STATUS = re.compile(r'FAN\d*:FAN_PROFILE:([\w-]+)')


class FanProfiles:
    """
    Reads and changes the fan profile.

    Parameters
    ----------
    access
        Makes the changes.
    modes
        Read the fan profile of nvpmodel.
    sleep
        Waits between two checks of the service's status, in seconds.

    """

    def __init__(
        self, access: RootAccess, modes: ModeSwitch, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._access = access
        self._tree = access.tree
        self._modes = modes
        self._sleep = sleep

    def profiles(self) -> tuple[str, ...]:
        """Return the names of the available profiles; () if none can be set."""
        if self._has_service():
            return tuple(dict.fromkeys(_PROFILE.findall(self._tree.read_text(FAN_CONF))))
        return NVPMODEL_PROFILES if self._nvpmodel_profile() is not None else ()

    def current(self) -> str | None:
        """Return the current profile; None if none can be set."""
        if not self._has_service():
            return self._nvpmodel_profile()
        for path, pattern, group in ((FAN_STATUS, _STATUS, 1), (FAN_CONF, _DEFAULT, 2)):
            match = pattern.search(self._tree.read_text(path)) if self._tree.exists(path) else None
            if match is not None:
                return match.group(group)
        return None

    def set_profile(self, name: str) -> str:
        """
        Set the profile and read it back.

        Raises
        ------
        PowerError
            No such profile, or none can be set on this board.
        PowerPermissionError
            Root is needed.
        PowerCommandError
            It had no effect.

        """
        known = self.profiles()
        if name not in known:
            raise PowerError(
                f'no fan profile {name!r} on this board; it has: {", ".join(known) or "none"}'
            )
        if self._has_service():
            self._set_through_service(name)
        else:
            self._set_through_nvpmodel(name)
        if not self._access.dry_run and not self._took_effect(name):
            raise PowerCommandError(
                f'the fan profile was set to {name}, but {self.current()} was read back'
            )
        return name

    def commands(self) -> list[tuple[str, ...]]:
        """Return the commands that sudo has to allow; () if no profile can be set."""
        if not self._has_service():
            return [self._nvpmodel_command(name) for name in self.profiles()]
        if self._access.runner.find('systemctl') is None:
            return []
        systemctl = self._access.require('systemctl')
        return [
            (systemctl, 'stop', _SERVICE),
            self._access.write_command(FAN_CONF),
            self._delete_command(),
            (systemctl, 'start', _SERVICE),
        ]

    def _has_service(self) -> bool:
        return self._tree.exists(FAN_CONF)

    def _nvpmodel_profile(self) -> str | None:
        try:
            return self._modes.current().fan_profile or self._modes.conf().fan_default
        except PowerFormatError:  # no mode was ever set
            return self._modes.conf().fan_default

    def _set_through_nvpmodel(self, name: str) -> None:
        command = self._nvpmodel_command(name)
        result = self._access.run(*command)
        refusal = find_refusal(result.tool_text)
        if refusal is not None and refusal.kind == 'permission':
            raise PowerPermissionError(
                explain_root_needed(self._access.runner.user, command, refusal.line)
            )
        if refusal is not None or result.status != 0:
            raise PowerCommandError(
                f'nvpmodel did not set the fan profile {name}: {result.last_lines}'
            )

    def _set_through_service(self, name: str) -> None:
        """Change the default while the service is stopped; start it again in any case."""
        text = self._tree.read_text(FAN_CONF) + '\n'
        changed = _DEFAULT.sub(lambda match: match.group(1) + name, text)
        self._run_checked('systemctl', 'stop', _SERVICE)
        with afterwards(lambda: self._run_checked('systemctl', 'start', _SERVICE)):
            self._access.write(FAN_CONF, changed, f'FAN_DEFAULT_PROFILE {name}')
            self._run_checked(*self._delete_command())

    def _took_effect(self, name: str) -> bool:
        """Wait until the service has noted the profile, which it does after its start."""
        for _ in range(round(_READ_BACK_S / _POLL_S)):
            if self.current() == name:
                return True
            self._sleep(_POLL_S)
        return False

    def _run_checked(self, *command: str) -> None:
        result = self._access.run(*command)
        if result.status != 0:
            raise PowerCommandError(
                f'{" ".join(command)} failed with exit status {result.status}: '
                f'{result.last_lines}'
            )

    def _nvpmodel_command(self, name: str) -> tuple[str, ...]:
        return (self._access.require('nvpmodel'), '-d', name)

    def _delete_command(self) -> tuple[str, ...]:
        return (self._access.require('rm'), '-f', self._access.path_on_host(FAN_STATUS))
