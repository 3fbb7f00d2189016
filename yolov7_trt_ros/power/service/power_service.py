"""
PowerService: changes the power settings of this host for programs in containers.

Listens at a socket that root and one group may use. Each client gets its own session, with limits
of size and time; `power.service.verbs` lists the requests. The journal is on the host: the changes
of a client are restored when its connection ends, those of a killed service at its next start.

"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
import select
import socket
import threading
import time

from yolov7_trt_ros.errors import PowerError
from yolov7_trt_ros.power.control import PowerControl
from yolov7_trt_ros.power.defaults import COMMAND_TIMEOUT_S
from yolov7_trt_ros.power.root.commands import CommandRunner
from yolov7_trt_ros.power.root.root_access import Report
from yolov7_trt_ros.power.service.lines import LineSocket
from yolov7_trt_ros.power.service.session import Session
from yolov7_trt_ros.power.service.socket_files import Listener, Peer, read_peer
from yolov7_trt_ros.power.service.values import LONGEST_REQUEST_BYTES
from yolov7_trt_ros.power.service.verbs import Grants

MOST_SESSIONS = 32
"""A power node opens three."""
LINE_TIMEOUT_S = 5.0

_QUIET_S = 1.0
_PAUSE_S = 0.1


class PowerService:
    """
    Accepts clients until `stop`.

    Parameters
    ----------
    root, runner
        The host; see PowerControl.
    grants
        Requests that are allowed in addition to the basic ones.
    log
        Called with a line about each connection, change and refusal; by several threads.
    line_timeout_s
        Time limit of the first request, the rest of each, and the reading of a reply.
    timeout_s
        Time limit of one tool while changes left by an earlier process are restored.

    """

    def __init__(
        self, root: Path, runner: CommandRunner, grants: Grants, log: Report, *,
        line_timeout_s: float = LINE_TIMEOUT_S, timeout_s: float = COMMAND_TIMEOUT_S,
    ) -> None:
        self._root, self._runner = root, runner
        self._grants, self._log, self._line_timeout_s = grants, log, line_timeout_s
        self._timeout_s = timeout_s
        self._sessions: dict[threading.Thread, LineSocket] = {}
        self._lock = threading.Lock()
        self._wake_read, self._wake_write = os.pipe()
        self._stopping = False
        self._refused = 0
        self._refused_s = -_QUIET_S

    def put_back_left(self) -> None:
        """Restore the changes that this service left when it was killed."""
        control = self._make_control('power service', False, self._timeout_s, self._log)
        try:
            left = control.adopt()
            control.restore()
            if left:
                self._log(f'put back changes left by an earlier process: {", ".join(left)}')
        except PowerError as exc:
            self._log(f'not all changes left by an earlier process were put back: {exc}')
        finally:
            control.close()

    def run(self, listener: Listener) -> None:
        """Serve until `stop`; the changes of clients are restored before this returns."""
        try:
            while not self._stopping:
                waited = [listener.socket.fileno(), self._wake_read]
                if listener.socket.fileno() in select.select(waited, [], [])[0]:
                    self._accept(listener)
        finally:
            self._end_sessions()

    def stop(self) -> None:
        """End `run`; may be called in a signal handler, and more than once."""
        self._stopping = True
        os.write(self._wake_write, b'.')

    def close(self) -> None:
        """Release resources; after `run`."""
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _make_control(
        self, program: str, dry_run: bool, timeout_s: float, report: Report
    ) -> PowerControl:
        return PowerControl(
            self._root, self._runner, dry_run=dry_run, timeout_s=timeout_s, report=report,
            program=program,
        )

    def _accept(self, listener: Listener) -> None:
        try:
            connection, _ = listener.socket.accept()
        except OSError as exc:  # it is closed already, or no descriptors are free
            self._refuse(None, f'a connection could not be taken: {exc}')
            time.sleep(_PAUSE_S)
            return
        try:
            peer = read_peer(connection)
        except OSError:
            connection.close()
            return
        reason = self._find_refusal(peer, listener.group)
        if reason:
            self._refuse(connection, f'{peer}: {reason}')
        else:
            self._start(LineSocket(connection, LONGEST_REQUEST_BYTES), peer)

    def _find_refusal(self, peer: Peer, group: int | None) -> str:
        if not peer.may_use(group):
            return 'only root and the group of the socket may use the power service'
        with self._lock:
            count = len(self._sessions)
        return '' if count < MOST_SESSIONS else f'{MOST_SESSIONS} clients are connected already'

    def _refuse(self, connection: socket.socket | None, text: str) -> None:
        """Reply with the reason; the log gets at most one line a second about refusals."""
        self._refused += 1
        if time.monotonic() - self._refused_s >= _QUIET_S:
            self._log(f'refused {self._refused}, the last: {text}')
            self._refused, self._refused_s = 0, time.monotonic()
        if connection is not None:
            reply = {'ok': False, 'error': PowerError.__name__, 'message': text}
            with connection, contextlib.suppress(OSError):
                connection.setblocking(False)
                connection.send(json.dumps(reply).encode() + b'\n')

    def _start(self, lines: LineSocket, peer: Peer) -> None:
        session = Session(
            lines, peer, self._make_control, self._grants, self._log, self._line_timeout_s
        )
        thread = threading.Thread(target=self._serve, args=(session,), name='power_session')
        with self._lock:
            self._sessions[thread] = lines
        thread.start()

    def _serve(self, session: Session) -> None:
        try:
            session.run()
        finally:
            with self._lock:
                self._sessions.pop(threading.current_thread(), None)

    def _end_sessions(self) -> None:
        with self._lock:
            sessions = dict(self._sessions)
        for lines in sessions.values():
            with contextlib.suppress(OSError):  # it ended by itself
                lines.connection.shutdown(socket.SHUT_RDWR)
        for thread in sessions:
            thread.join()
