"""SharedWork: a Detector whose engines share the frames of a recording; docs/bank.md."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import functools

from yolov7_trt_ros.bank.bank_settings import BankSettings
from yolov7_trt_ros.bank.class_map import class_names_of
from yolov7_trt_ros.bank.team.engine_lane import Found, Ticket
from yolov7_trt_ros.bank.team.engine_team import EngineTeam
from yolov7_trt_ros.bank.team.work_sharing import WorkSharing
from yolov7_trt_ros.bank.update.engine_bank import EngineBank, OpenModel
from yolov7_trt_ros.core.detector import BatchDetector, Detector, DetectSettings
from yolov7_trt_ros.core.forms.model_spec import ModelSpec
from yolov7_trt_ros.core.image import ImageView

FRAMES_AHEAD = 16
"""Frames that may be begun and not yet collected: an engine may be 15 times as slow as another."""


class SharedWork(BatchDetector):
    """
    Engines that work on several frames at once, each on the next one as soon as it is ready.

    Which engine takes a frame depends on their speed, so with unlike engines another run may find
    other objects; `engine_of` tells which one it was. A frame on which an engine fails is run
    once more by another one. Class ids are those of the first. It is an AheadDetector.

    Parameters
    ----------
    first, name
        The engine whose spec and class ids count, and its name for people.
    others
        The other engines; all are its own from then on.

    """

    def __init__(self, first: Detector, name: str, others: Sequence[OpenModel]) -> None:
        self._team = EngineTeam(EngineBank(first, name), others, new_schedule=WorkSharing)
        self._backends = [first.backend, *(each.detector.backend for each in others)]
        self.names = (name, *(each.model.name for each in others))
        self._class_names = class_names_of(first.spec)
        self._answered = [0] * len(self.names)

    @property
    def spec(self) -> ModelSpec:
        """Return what the model of the first engine is."""
        return self._team.spec

    @property
    def backend(self) -> str:
        """Return what runs all of them."""
        return ' + '.join(self._backends)

    @property
    def max_batch(self) -> int:
        """Return how many images are one frame; other engines may run them in parts."""
        return self._team.max_batch

    @property
    def frames_ahead(self) -> int:
        """Return how many frames may be begun before the oldest is collected."""
        return FRAMES_AHEAD

    def detect_batch(self, images: Sequence[ImageView], settings: DetectSettings) -> Found:
        """Find objects in several images, with whatever engine is ready; see `Detector`."""
        return self.collect(self.submit(images, settings))

    def submit(self, images: Sequence[ImageView], settings: DetectSettings) -> Ticket:
        """Start on a frame, when an engine is ready; its images live until it is collected."""
        while (engine := self._team.choose()) is None:
            self._team.wait()
            self._team.settle()
        ticket = Ticket(images, _with_names(settings, self._class_names))
        self._team.begin(engine, ticket)
        return ticket

    def collect(self, ticket: Ticket) -> Found:
        """Wait for a frame; raises as `detect_batch`."""
        while ticket.outcome is None:
            self._team.wait()
            self._team.settle()
        if ticket.engine is not None:
            self._answered[ticket.engine] += 1
        self._team.probe(ticket.images, ticket.settings)
        return self._team.found(ticket)

    def has_answered(self, ticket: Ticket) -> bool:
        """Whether `collect` would return at once."""
        self._team.settle()
        return ticket.outcome is not None

    def engine_of(self, ticket: Ticket) -> str:
        """Return the name of the engine that answered a collected frame, '' if none did."""
        return '' if ticket.engine is None else self.names[ticket.engine]

    def answered(self) -> dict[str, int]:
        """Return how many frames each engine has answered, by name."""
        return dict(zip(self.names, self._answered, strict=True))

    def engine_texts(self) -> dict[str, str]:
        """Return the state of each engine, by name."""
        return dict(zip(self.names, self._team.engine_texts().values(), strict=True))

    def out(self) -> list[str]:
        """Return messages about engines that are out of service."""
        return self._team.out()

    def status(self) -> dict[str, str]:
        """Return the status of the first engine, and the state of each."""
        return self._team.status() | {
            f'engine {name}': text for name, text in self.engine_texts().items()
        }

    def close(self) -> None:
        """Close all engines; calling it twice is harmless."""
        self._team.close()


@functools.lru_cache(maxsize=64)
def _with_names(settings: DetectSettings, class_names: tuple[str, ...]) -> DetectSettings:
    """Return settings that say what their class ids mean: other engines may number them else."""
    if isinstance(settings, BankSettings):
        return settings
    values = {
        each.name: getattr(settings, each.name) for each in dataclasses.fields(DetectSettings)
    }
    return BankSettings(**values, class_names=class_names)
