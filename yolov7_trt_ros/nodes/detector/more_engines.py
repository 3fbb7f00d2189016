"""MoreEngines: open additional engines and report their state; see docs/bank.md."""

from __future__ import annotations

from collections.abc import Mapping
import contextlib
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node

from yolov7_trt_ros.bank.class_map import missing_classes
from yolov7_trt_ros.bank.team.engine_team import EngineTeam
from yolov7_trt_ros.bank.team.pipelined_team import PipelinedTeam
from yolov7_trt_ros.bank.update.engine_bank import EngineBank, OpenModel
from yolov7_trt_ros.bank.update.pipelined_bank import PipelinedBank
from yolov7_trt_ros.bank.update.update_machine import ModelId
from yolov7_trt_ros.errors import PlanError, SettingError, Yolov7TrtError
from yolov7_trt_ros.nodes.detector.plan_build import Engine
from yolov7_trt_ros.nodes.detector.worker.detection_worker import DetectionWorker
from yolov7_trt_ros.nodes.detector.worker.team_worker import TeamWorker
from yolov7_trt_ros.nodes.detector_parameters.engine_list import NamedEngine, read_engines
from yolov7_trt_ros.nodes.detector_parameters.trusted_folders import TrustedFolders
from yolov7_trt_ros.nodes.diagnostics import make_status
from yolov7_trt_ros.nodes.one_line import one_line

_NAME = 200


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
        self._logged: set[str] = set()

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
        with contextlib.ExitStack() as opened:
            others = []
            for number, named in enumerate(read_engines(values, trusted), 2):
                detector = self._open(number, named, bank)
                opened.callback(detector.close)
                model = ModelId(number, one_line(named.name, _NAME))
                others.append(OpenModel(model, detector, ''))
                self._node.get_logger().info(
                    f'engine {number} {one_line(named.name)}: {detector.backend}'
                )
            if not others:
                return bank
            self._team = (
                PipelinedTeam(bank, others) if isinstance(bank, PipelinedBank)
                else EngineTeam(bank, others)
            )
            opened.pop_all()
        return self._team

    def _open(self, number: int, named: NamedEngine, bank: EngineBank) -> Any:
        """Open an engine; it must have the classes of the first one."""
        what = f'engine {number} of `engines`, {named.name}'
        try:
            detector = self._engine.open_detector(named.options)
        except PlanError as exc:
            raise PlanError(
                f'{what}: {exc}. The node builds the plan of `model` only: build this one first'
            ) from exc
        except Yolov7TrtError as exc:
            raise type(exc)(f'{what}: {exc}') from exc
        lost = missing_classes(bank.spec, detector.spec)
        if lost:
            detector.close()
            raise SettingError(
                f'{what} lacks the classes {lost} of `model`: the engines '
                'of a node must have the same classes; set class_names if the model has none'
            )
        return detector

    def forget(self) -> None:
        """Forget the team; its owner closes it."""
        self._team, self._logged = None, set()

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
        return [make_status(
            f'{self._node.get_fully_qualified_name()}: engines',
            DiagnosticStatus.WARN if out else DiagnosticStatus.OK,
            '; '.join(out) or self._team.text(),
            {'state': self._team.text()} | {
                one_line(name, _NAME): text for name, text in self._team.engine_texts().items()
            },
        )]


def _reason(text: str) -> str:
    """Return a text without the remaining time in it."""
    what, _, why = text.partition(', ')
    return f'{what}: {why.partition(": ")[2] or why}'
