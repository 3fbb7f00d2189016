"""Session: one client of the power service, whose requests are handled one after the other."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import re
from typing import Any

from yolov7_trt_ros.errors import PowerError, PowerFormatError, Yolov7TrtError
from yolov7_trt_ros.power.control import PowerControl
from yolov7_trt_ros.power.defaults import LONGEST_TIMEOUT_S, SHORTEST_TIMEOUT_S
from yolov7_trt_ros.power.root.root_access import Report
from yolov7_trt_ros.power.service.lines import LineSocket
from yolov7_trt_ros.power.service.socket_files import Peer
from yolov7_trt_ros.power.service.values import (
    error_to_json,
    expect,
    LONGEST_REPLY_BYTES,
    PROTOCOL,
)
from yolov7_trt_ros.power.service.verbs import Call, Grants, state_of, Verb, VERBS

BEGIN = 'begin'
_PROGRAM = re.compile(r'[\w ./-]{1,40}', re.ASCII)
_MOST_LINES = 100
_LONGEST_LINE = 500

MakeControl = Callable[[str, bool, float, Report], PowerControl]
"""Makes a PowerControl from program, dry run, time limit of a tool, and report."""


class Session:
    """
    A client, with its own PowerControl: for the journal it is a separate process.

    When the connection ends, for any reason, its changes are restored, unless it has sent `keep`
    since.

    Parameters
    ----------
    lines
        Its connection; it is closed at the end.
    peer
        The client.
    make_control
        Makes its PowerControl.
    grants
        Requests that are allowed in addition to the basic ones.
    log
        Called with a line about each change and each refusal.
    line_timeout_s
        Time limit of the first request, the rest of each, and the reading of a reply.

    """

    def __init__(
        self, lines: LineSocket, peer: Peer, make_control: MakeControl, grants: Grants,
        log: Report, line_timeout_s: float,
    ) -> None:
        self._lines, self._peer, self._line_timeout_s = lines, peer, line_timeout_s
        self._make_control, self._grants, self._log = make_control, grants, log
        self._control: PowerControl | None = None
        self._puts_back = False
        self._notes: list[str] = []

    def run(self) -> None:
        """Answer until the connection ends, then restore the changes."""
        try:
            self._answer_all()
        except OSError as exc:  # the client closed the connection during the answer
            self._log(f'{self._peer}: the connection broke: {exc}')
        finally:
            self._lines.close()
            self._end()

    def _answer_all(self) -> None:
        wait_s: float | None = self._line_timeout_s
        try:
            while (request := self._lines.read(wait_s, self._line_timeout_s)) is not None:
                self._reply(self._answer(request))
                wait_s = None
        except PowerError as exc:
            self._log(f'{self._peer}: refused: {exc}')
            self._reply(error_to_json(exc))

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the reply to a request; raises PowerFormatError if it is malformed."""
        name = expect(request.get('verb'), str, 'the verb')
        arguments = tuple(expect(request.get('arguments'), list, 'the arguments'))
        if set(request) != {'verb', 'arguments'}:
            raise PowerFormatError('expected a verb and its arguments, found other fields')
        if self._control is None:
            if name != BEGIN:
                raise PowerFormatError(f'expected {BEGIN} first, found {name!r:.80}')
            self._control = self._begin(*arguments[:4], *(None,) * (4 - len(arguments)))
            return {'value': None}
        verb = VERBS.get(name)
        if verb is None or len(arguments) != verb.count:
            raise PowerFormatError(
                f'there is no verb {name!r:.80} with {len(arguments)} arguments'
            )
        return self._act(name, verb, Call(self._control, self._grants, arguments))

    def _begin(
        self, protocol: Any, program: Any, dry_run: Any, timeout_s: Any
    ) -> PowerControl:
        if protocol != PROTOCOL:
            raise PowerFormatError(
                f'this power service speaks protocol {PROTOCOL}, not {protocol!r:.20}: host and '
                'container need the same release of yolov7_trt_ros'
            )
        if _PROGRAM.fullmatch(expect(program, str, 'the program')) is None:
            raise PowerFormatError(f'expected the name of a program, found {program!r:.80}')
        limit_s = expect(timeout_s, float, 'the time limit')
        if not SHORTEST_TIMEOUT_S <= limit_s <= LONGEST_TIMEOUT_S:
            raise PowerFormatError(
                f'expected a time limit of {SHORTEST_TIMEOUT_S:g} to {LONGEST_TIMEOUT_S:g} s, '
                f'found {limit_s:g}'
            )
        self._peer = dataclasses.replace(self._peer, program=program)
        self._log(f'{self._peer}: connected')
        return self._make_control(
            f'power service for {program}', expect(dry_run, bool, 'dry_run'), limit_s, self._note
        )

    def _act(self, name: str, verb: Verb, call: Call) -> dict[str, Any]:
        self._puts_back |= verb.changes
        asked = f'{name}({", ".join(map(str, call.arguments))})'
        try:
            value = verb.act(call)
        except Yolov7TrtError as exc:
            self._log(f'{self._peer}: {ascii(asked)[1:-1]:.80}: {exc}')
            return error_to_json(exc)
        if name == 'keep':
            self._puts_back = False
        if verb.changes:
            self._log(f'{self._peer}: {asked:.80}: done')
        return {'value': value}

    def _reply(self, content: dict[str, Any]) -> None:
        lines, self._notes = self._notes, []
        state = {} if self._control is None else dataclasses.asdict(state_of(self._control))
        self._lines.write(
            {'ok': 'error' not in content, **content, 'state': state, 'lines': lines},
            LONGEST_REPLY_BYTES, self._line_timeout_s,
        )

    def _note(self, line: str) -> None:
        """Keep a line of PowerControl for the next reply."""
        if len(self._notes) < _MOST_LINES:
            self._notes.append(line[:_LONGEST_LINE])

    def _end(self) -> None:
        control = self._control
        if control is None:
            return
        left = ', '.join(control.changed) if self._puts_back else ''
        try:
            if left:
                control.restore()
                self._log(f'{self._peer}: has gone; put back: {left}')
        except PowerError as exc:
            self._log(f'{self._peer}: has gone; not everything was put back: {exc}')
        finally:
            control.close()
