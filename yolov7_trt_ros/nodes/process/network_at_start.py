"""Check whether the host has a network at start: Fast DDS looks only once."""

from __future__ import annotations

from collections.abc import Mapping
import contextlib
import fcntl
import socket
import struct

_SIOCGIFFLAGS = 0x8913
_SIOCGIFADDR = 0x8915
_IFF_LOOPBACK = 0x8
_IFF_RUNNING = 0x40
_IFREQ = '16s24x'  # struct ifreq: the name, then what the kernel fills in
_FLAGS_AT = 16
_WITHIN_THIS_HOST = ('LOCALHOST', 'OFF')


def has_network() -> bool:
    """
    Return whether an interface other than loopback is up and has an IPv4 address.

    Fast DDS uses those: its transport is UDP over IPv4 unless a profile says otherwise.

    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            return any(_is_usable(asking, name) for _, name in socket.if_nameindex())
    except OSError:  # a kernel without IPv4
        return False


def _is_usable(asking: socket.socket, name: str) -> bool:
    request = struct.pack(_IFREQ, name.encode())
    with contextlib.suppress(OSError):  # it has no address, or has vanished
        answer = fcntl.ioctl(asking, _SIOCGIFFLAGS, request)
        (flags,) = struct.unpack_from('H', answer, _FLAGS_AT)
        fcntl.ioctl(asking, _SIOCGIFADDR, request)
        return bool(flags & _IFF_RUNNING) and not flags & _IFF_LOOPBACK
    return False


def looks_for_other_hosts(environment: Mapping[str, str], has_range: bool = True) -> bool:
    """Return whether ROS looks for nodes on other hosts, by setting or default."""
    only_here = environment.get('ROS_LOCALHOST_ONLY') == '1'
    if not has_range:
        return not only_here
    if environment.get('ROS_STATIC_PEERS'):
        return True
    if only_here:
        return False
    return environment.get('ROS_AUTOMATIC_DISCOVERY_RANGE', '').upper() not in _WITHIN_THIS_HOST


def network_problem(
    environment: Mapping[str, str], network: bool, has_range: bool = True
) -> str:
    """
    Return a warning of a start without network, '' if all is well.

    Parameters
    ----------
    environment
        Environment of the process: middleware and discovery range.
    network
        Result of `has_network`.
    has_range
        Whether this ROS reads discovery range and static peers: Humble does not.

    """
    middleware = environment.get('RMW_IMPLEMENTATION') or 'fastrtps'
    looks = looks_for_other_hosts(environment, has_range)
    if network or 'fastrtps' not in middleware or not looks:
        return ''
    wanted = 'ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST' if has_range else 'ROS_LOCALHOST_ONLY=1'
    return (
        'no network is up: no interface but loopback has an IPv4 address. Fast DDS checks only '
        'at start, so this node will never find nodes on other hosts; start it again when the '
        f'network is up ({wanted} if none is wanted)'
    )
