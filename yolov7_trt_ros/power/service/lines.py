"""Lines of JSON over a socket, each limited in length and time."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

from yolov7_trt_ros.errors import PowerFormatError, PowerTimeoutError

_CHUNK_BYTES = 4096
_SHOWN = 40


class LineSocket:
    """
    A connected socket that carries JSON objects, one per line.

    Parameters
    ----------
    connection
        Closed with this object.
    longest_bytes
        Length limit of a line that is read, including its end.

    """

    def __init__(self, connection: socket.socket, longest_bytes: int) -> None:
        self.connection = connection
        self._longest_bytes = longest_bytes
        self._buffer = b''

    def read(self, wait_s: float | None, line_s: float) -> dict[str, Any] | None:
        """
        Return the next object; None at the end of the connection.

        Parameters
        ----------
        wait_s
            Time limit of its first byte; None: no limit.
        line_s
            Time limit of the rest of the line.

        Raises
        ------
        PowerTimeoutError
            It did not arrive in time.
        PowerFormatError
            It is too long, truncated, or no JSON object.
        OSError
            The connection is broken.

        """
        end_s = None if wait_s is None else time.monotonic() + wait_s
        if self._buffer:
            end_s = time.monotonic() + line_s
        while b'\n' not in self._buffer:
            if len(self._buffer) >= self._longest_bytes:
                raise PowerFormatError(f'a line is longer than {self._longest_bytes} bytes')
            is_first = not self._buffer
            data = self._receive(end_s)
            if not data and self._buffer:
                raise PowerFormatError('the connection ended within a line')
            if not data:
                return None
            self._buffer += data
            if is_first:
                end_s = time.monotonic() + line_s
        line, _, self._buffer = self._buffer.partition(b'\n')
        return _parse(line)

    def write(self, content: dict[str, Any], longest_bytes: int, timeout_s: float) -> None:
        """
        Send an object.

        Raises
        ------
        PowerFormatError
            It is too long, or has a number that JSON cannot hold; nothing was sent.
        OSError
            The connection is broken, or the other side does not read it.

        """
        try:
            data = json.dumps(content, allow_nan=False).encode() + b'\n'
        except ValueError as exc:  # not a number, infinite
            raise PowerFormatError(f'cannot be sent: {exc}') from exc
        if len(data) > longest_bytes:
            raise PowerFormatError(f'a line would be longer than {longest_bytes} bytes')
        self.connection.settimeout(timeout_s)
        self.connection.sendall(data)

    def close(self) -> None:
        """Close the connection; may be called twice."""
        self.connection.close()

    def _receive(self, end_s: float | None) -> bytes:
        left_s = None if end_s is None else end_s - time.monotonic()
        if left_s is not None and left_s <= 0:
            raise PowerTimeoutError('no line came in time')
        self.connection.settimeout(left_s)
        try:
            most = self._longest_bytes - len(self._buffer)
            return self.connection.recv(min(_CHUNK_BYTES, most))
        except TimeoutError as exc:
            raise PowerTimeoutError('no line came in time') from exc


def _parse(line: bytes) -> dict[str, Any]:
    try:
        content = json.loads(line.decode())
    except (ValueError, RecursionError) as exc:
        raise PowerFormatError(f'expected a JSON object, found {line[:_SHOWN]!r}') from exc
    if not isinstance(content, dict):
        raise PowerFormatError(f'expected a JSON object, found {line[:_SHOWN]!r}')
    return content
