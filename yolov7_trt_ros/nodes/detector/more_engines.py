"""MoreEngines: open additional engines and report their state; see docs/bank.md."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
import re
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node

from yolov7_trt_ros.bank.team.engine_team import EngineTeam
from yolov7_trt_ros.bank.team.open_engines import open_engines
from yolov7_trt_ros.bank.team.pipelined_team import PipelinedTeam
from yolov7_trt_ros.bank.update.engine_bank import EngineBank
from yolov7_trt_ros.bank.update.pipelined_bank import PipelinedBank
from yolov7_trt_ros.core.detector import Detector
from yolov7_trt_ros.core.looks.look_options import LOOK_ONCE, OFF
from yolov7_trt_ros.core.plain_text import one_line
from yolov7_trt_ros.engine.engine_list import NamedEngine
from yolov7_trt_ros.errors import PlanError
from yolov7_trt_ros.nodes.detector.plan_build import Engine
from yolov7_trt_ros.nodes.detector.worker.detection_worker import DetectionWorker
from yolov7_trt_ros.nodes.detector.worker.team_worker import TeamWorker
from yolov7_trt_ros.nodes.detector_parameters.engine_list import read_engines
from yolov7_trt_ros.nodes.detector_parameters.trusted_folders import TrustedFolders
from yolov7_trt_ros.nodes.diagnostics import make_status

_NAME = 200
_NUMBER = re.compile(r'\d+(\.\d+)?')
_CHANGING = re.compile(
    r', (tried again in \d+ s|on trial, \d+ of \d+ frames|for \d+ s)(?=: )'
)


class MoreEngines:
    """
    Opens the engines that the parameter `engines` names, and reports their state.

    Parameters
    ----------
    node, engine
        The node, and what opens detectors.

    """

    def __init__(self, node: Node, engine: Engine) -> None:
        self._node, self._engine = node, engine
        self._team: EngineTeam | None = None
        self._looks_once = False
        self._logged: set[str] = set()
        self._states: set[str] = set()

    def check(self, values: Mapping[str, Any], trusted: TrustedFolders) -> None:
        """Raise SettingError if `engines` is not allowed; see `read_engines`."""
        read_engines(values, trusted)

    def join(
        self, bank: EngineBank, values: Mapping[str, Any], trusted: TrustedFolders
    ) -> EngineBank | EngineTeam:
        """
        Return a team of the bank and the engines of `engines`; without any, the bank.

        Raises
        ------
        SettingError
            As `check`, or an engine lacks classes of the model.
        Yolov7TrtError
            An engine cannot be opened; the message says which one and why.

        """
        self.forget()
        others = open_engines(bank.spec, [
            (one_line(named.name, _NAME), partial(self._open, named))
            for named in read_engines(values, trusted)
        ])
        for each in others:
            self._node.get_logger().info(
                f'engine {each.model.number} {each.model.name}: {each.detector.backend}'
            )
        if not others:
            return bank
        self._looks_once = values['second_look'] != OFF
        if self._looks_once:
            self._node.get_logger().warning(f'engines: {LOOK_ONCE}')
        self._team = (
            PipelinedTeam(bank, others) if isinstance(bank, PipelinedBank)
            else EngineTeam(bank, others)
        )
        return self._team

    def _open(self, named: NamedEngine) -> Detector:
        try:
            return self._engine.open_detector(named.options)
        except PlanError as exc:
            raise PlanError(
                f'{exc}. The node builds the plan of `model` only: build this one first'
            ) from exc

    def forget(self) -> None:
        """Forget the team; its owner closes it."""
        self._team, self._logged, self._states = None, set(), set()

    def new_worker(self, detector: Any, *arguments: Any) -> DetectionWorker:
        """Return the worker for a detector that `join` has returned."""
        kind = DetectionWorker if self._team is None else TeamWorker
        return kind(detector, *arguments)

    def diagnostics(self) -> list[DiagnosticStatus]:
        """Return the status for /diagnostics, none without a team; once a second."""
        if self._team is None:
            return []
        self._team.look()
        out = self._team.out()
        reasons = {_reason(each) for each in out}
        for text in sorted(reasons - self._logged):
            self._node.get_logger().warning(f'engines: {text}')
        self._logged = reasons
        self._log_state(self._team.text())
        return [make_status(
            f'{self._node.get_fully_qualified_name()}: engines',
            DiagnosticStatus.WARN if out else DiagnosticStatus.OK,
            '; '.join(out) or self._team.text(),
            {'state': self._team.text()} | (
                {'second look': LOOK_ONCE} if self._looks_once else {}
            ) | {
                one_line(name, _NAME): text for name, text in self._team.engine_texts().items()
            },
        )]

    def _log_state(self, text: str) -> None:
        """Log a state that was not there before, whatever numbers are in it."""
        state = _NUMBER.sub('', text)
        if state not in self._states:
            self._states.add(state)
            self._node.get_logger().info(f'engines: {text}')


def _reason(text: str) -> str:
    """Return a text about an engine that is out without what changes while it is."""
    return _CHANGING.sub('', text)
