"""Two hosts on one machine: network namespaces joined by a virtual cable (a veth pair)."""

from __future__ import annotations

from collections.abc import Sequence
import json
import os
from pathlib import Path
import shutil
import subprocess
from typing import Any

PREFIX = 'y7hosts'
"""First part of the names of namespaces that this makes; it removes no others."""

CABLE = 'cable0'
NAMES = ('camera', 'detector')
_ADDRESSES = ('198.18.7.1/30', '198.18.7.2/30')  # for benchmarks (RFC 2544): nobody's, nowhere
_NAMESPACES, _SHARED_MEMORY = Path('/run/netns'), Path('/dev/shm')
# Bound over /dev/shm, as two machines do not share memory either.
_OWN_MEMORY = 'mount --bind "$1" /dev/shm && shift && exec "$@"'


class HostsError(RuntimeError):
    """Namespaces cannot be made here; the text says what is needed."""


class Hosts:
    """
    The hosts `camera` and `detector`, from `__enter__` to `__exit__`.

    Each has its own interfaces, addresses, routes and /dev/shm. Clock, kernel and the rest of the
    machine are shared, so that stamps of one host can be compared with times of the other.

    Parameters
    ----------
    mtu
        Of the cable, bytes.
    mbit_s
        Rate of the cable from the camera to the detector; None: as fast as the kernel copies.
    cable
        Whether it is plugged in from the start.

    Raises
    ------
    HostsError
        On entering, where `ip` is absent or refuses.

    """

    def __init__(self, *, mtu: int = 1500, mbit_s: int | None = None, cable: bool = True) -> None:
        self._mtu, self._mbit_s, self._cable = mtu, mbit_s, cable
        self._names = {name: f'{PREFIX}-{os.getpid()}-{name}' for name in NAMES}
        self._memory = _SHARED_MEMORY / f'{PREFIX}-{os.getpid()}'

    def __enter__(self) -> Hosts:
        if shutil.which('ip') is None:
            raise HostsError('no command ip here: sudo apt-get install -y iproute2')
        remove_left_over()
        try:
            self._make()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the namespaces, and with them the cable; twice is harmless."""
        for name in self._names.values():
            if (_NAMESPACES / name).exists():
                _ip('netns', 'delete', name)
        shutil.rmtree(self._memory, ignore_errors=True)

    def command(self, host: str, command: Sequence[str]) -> list[str]:
        """Return the command that runs another on a host, with the same process id."""
        memory = str(self._memory / host)
        inside = ['sh', '-c', _OWN_MEMORY, 'sh', memory, *command]
        return ['ip', 'netns', 'exec', self._names[host], *inside]

    def plug(self, *, plugged: bool) -> None:
        """Set the camera's end up or down; the detector's end gets or loses its carrier."""
        self._set('camera', 'up' if plugged else 'down')

    def lose_address(self) -> None:
        """Take the detector's address away, as a DHCP client does where the cable is out."""
        _ip('-n', self._names['detector'], 'address', 'flush', 'dev', CABLE)

    def set_address(self, host: str) -> None:
        """Give a host its address."""
        address = _ADDRESSES[NAMES.index(host)]
        _ip('-n', self._names[host], 'address', 'add', address, 'dev', CABLE)

    def received(self) -> dict[str, int]:
        """Return counters of the detector's kernel: bytes, and datagrams that it has dropped."""
        name = self._names['detector']
        link, = json.loads(_ip('-n', name, '-json', '-stats', 'link', 'show', CABLE))
        snmp = _call('ip', 'netns', 'exec', name, 'cat', '/proc/net/snmp').splitlines()
        counters = {
            f'{titles.partition(":")[0]} {title}': int(value)
            for titles, values in zip(snmp[::2], snmp[1::2], strict=True)
            for title, value in zip(titles.split()[1:], values.split()[1:], strict=True)
        }
        return {
            'bytes': link['stats64']['rx']['bytes'], 'packets': link['stats64']['rx']['packets'],
            'datagrams_without_room': counters['Udp RcvbufErrors'],
            'datagrams_not_reassembled': counters['Ip ReasmFails'],
        }

    def _make(self) -> None:
        camera, detector = (self._names[name] for name in NAMES)
        _ip('netns', 'add', camera)
        _ip('netns', 'add', detector)
        _ip('link', 'add', CABLE, 'netns', camera, 'type', 'veth',
            'peer', 'name', CABLE, 'netns', detector)
        for name in NAMES:
            (self._memory / name).mkdir(parents=True)
            _ip('-n', self._names[name], 'link', 'set', CABLE, 'mtu', str(self._mtu))
            _ip('-n', self._names[name], 'link', 'set', 'lo', 'up')
            self.set_address(name)
        if self._mbit_s is not None:
            _call('tc', '-n', camera, 'qdisc', 'add', 'dev', CABLE, 'root', 'tbf',
                  'rate', f'{self._mbit_s}mbit', 'burst', '256k', 'latency', '200ms')
        self._set('detector', 'up')
        self.plug(plugged=self._cable)

    def _set(self, host: str, state: str) -> None:
        _ip('-n', self._names[host], 'link', 'set', CABLE, state)


def remove_left_over() -> None:
    """Remove what runs that were killed have left: namespaces of our name, their process gone."""
    for folder in (_NAMESPACES, _SHARED_MEMORY):
        for path in folder.glob(f'{PREFIX}-*'):
            process = path.name.split('-')[1]
            if process.isdecimal() and not Path('/proc', process).exists():
                if folder == _NAMESPACES:
                    _ip('netns', 'delete', path.name)
                else:
                    shutil.rmtree(path, ignore_errors=True)


def _ip(*arguments: str) -> str:
    return _call('ip', *arguments)


def _call(*command: str) -> str:
    done: subprocess.CompletedProcess[Any] | None = None
    program = shutil.which(command[0]) or shutil.which(command[0], path='/usr/sbin:/sbin')
    if program is not None:  # tc lies where the PATH of a user need not lead
        done = subprocess.run(
            [program, *command[1:]], capture_output=True, text=True, check=False
        )
    if done is None or done.returncode != 0:
        reason = 'not installed (iproute2)' if done is None else done.stderr.strip()
        raise HostsError(
            f'two hosts cannot be made here, `{" ".join(command)}` says: {reason}. Network '
            'namespaces need Linux and root (in a container: --privileged): run this with sudo '
            'and the Python of the environment'
        )
    return str(done.stdout)
