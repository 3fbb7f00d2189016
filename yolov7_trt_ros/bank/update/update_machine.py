"""
UpdateMachine: which model serves while another one is opened, compared and tried.

No threads, no clock, no engines: events are reported to it, and it decides which model serves.

"""

from __future__ import annotations

from collections.abc import Hashable
import dataclasses
import enum

from yolov7_trt_ros.bank.update.latency_watch import LatencyWatch
from yolov7_trt_ros.bank.update.shadow_tally import FrameComparison, ShadowTally
from yolov7_trt_ros.core.units import NS_PER_S
from yolov7_trt_ros.errors import SettingError

SHADOW, IMMEDIATE, OFF = 'shadow', 'immediate', 'off'
MODES = (SHADOW, IMMEDIATE, OFF)
HANGS_NS = 30 * NS_PER_S
"""A candidate without an answer after this time is given up."""

_TIMED_FRAMES, _HOPELESS = 20, 3.0
"""From this number of frames on, a candidate this many times over the limit is rejected early."""

_GOLDEN = 0.6180339887498949
_PROMOTED = '~/promote was called'
_IMMEDIATE = 'without a comparison (update is immediate)'


class Phase(enum.Enum):
    """Phase of an update."""

    STEADY = 'steady'
    """One model serves, and there is no other."""
    OPENING = 'opening'
    """The candidate is built or opened."""
    SHADOW = 'shadow'
    """The candidate is compared with the model that serves."""
    KEPT = 'kept'
    """The new model serves, the former one is kept."""


@dataclasses.dataclass(frozen=True)
class UpdateLimits:
    """
    Options of an update; the parameters `update` and `update_...` of the node.

    Attributes
    ----------
    mode
        `shadow`, `immediate` or `off`.
    shadow_frames, min_detections
        Minimum to compare.
    shadow_share
        Share of the served frames to compare, above 0, at most 1.
    min_agreement
        Least matched share of the detections, 0..1.
    max_latency_ratio
        Largest time of the new model relative to the former.
    keep_ns
        How long the former model is kept.

    """

    mode: str = SHADOW
    shadow_frames: int = 100
    shadow_share: float = 0.25
    min_agreement: float = 0.8
    min_detections: int = 20
    max_latency_ratio: float = 1.5
    keep_ns: int = 60 * NS_PER_S


@dataclasses.dataclass(frozen=True)
class ModelId:
    """A requested model: its number, from 1 on, and its name or path."""

    number: int
    name: str


@dataclasses.dataclass(frozen=True)
class UpdateStatus:
    """
    State of an update.

    Attributes
    ----------
    phase, serving, other
        `other` is the candidate, or the kept model; None if there is none.
    frames, wanted_frames, detections, wanted_detections
        Compared so far, and required.
    agreement, drift_p95, latency_ratio
        Of the last comparison; None before any.
    keep_left_ns
        How long the former model is still kept.
    last, last_failed
        Result and reason of the last update, '' before any; whether the new model does not serve.

    """

    phase: Phase
    serving: ModelId
    other: ModelId | None
    frames: int
    wanted_frames: int
    detections: int
    wanted_detections: int
    agreement: float | None
    drift_p95: float | None
    latency_ratio: float | None
    keep_left_ns: int
    last: str
    last_failed: bool


class UpdateMachine:
    """
    The state of one node's model.

    Parameters
    ----------
    model
        Name of the model that serves at first.
    limits
        Replaced whole by `limit` when a parameter changes.

    """

    def __init__(self, model: str, limits: UpdateLimits) -> None:
        self.limits = limits
        self.phase = Phase.STEADY
        self.serving = ModelId(1, model)
        self.other: ModelId | None = None
        self.last, self._last_failed = '', False
        self._numbers = 1
        self._tally: ShadowTally | None = None
        self._watch = LatencyWatch()
        self._served = 0
        self._comparing_since_ns: int | None = None
        self._promised = ''
        self._switched_ns = 0

    @property
    def resident(self) -> set[int]:
        """Return the numbers of the models that must stay open."""
        return {each.number for each in (self.serving, self.other) if each is not None}

    def status(self, now_ns: int) -> UpdateStatus:
        """Return the state."""
        tally, limits = self._tally, self.limits
        compared = tally if tally is not None and tally.frames else None
        return UpdateStatus(
            self.phase, self.serving, self.other,
            tally.frames if tally else 0, limits.shadow_frames,
            tally.detections if tally else 0, limits.min_detections,
            compared.agreement if compared else None,
            compared.drift_p95 if compared else None,
            compared.latency_ratio if compared else None,
            self._keep_left_ns(now_ns) if self.phase is Phase.KEPT else 0,
            self.last, self._last_failed,
        )

    # ---- what people ask for

    def limit(self, limits: UpdateLimits, now_ns: int) -> None:
        """Take other limits; they hold for an update that is under way, too."""
        self.limits = limits
        if limits.mode == IMMEDIATE and self.phase is Phase.SHADOW:
            self._switch_soon(_IMMEDIATE, now_ns)

    def check(self, name: str, now_ns: int, limits: UpdateLimits | None = None) -> None:
        """
        Check that a model may be requested now, with other limits if given.

        Raises
        ------
        SettingError
            Updates are off, or the former model is still kept.

        """
        if name == self.serving.name:
            return
        if (limits or self.limits).mode == OFF:
            raise SettingError(
                'model takes effect at configure, for the parameter update is off: set that to '
                'shadow or immediate, or deactivate and clean up first'
            )
        if self.phase is Phase.KEPT and self.other and name != self.other.name:
            left_s = self._keep_left_ns(now_ns) / NS_PER_S
            raise SettingError(
                f'{self.serving.name} serves on trial, and {self.other.name} is kept for '
                f'{left_s:.0f} s more: call ~/promote to go on without it, or ~/roll_back, then '
                'set the next model'
            )

    def ask(
        self, name: str, now_ns: int, limits: UpdateLimits | None = None
    ) -> ModelId | None:
        """
        Begin an update, replacing a running one; return the model to open, if any.

        Requesting the serving model ends an update; requesting the kept one returns to it. Other
        limits, if given, hold from then on.

        Raises
        ------
        SettingError
            As `check`.

        """
        self.check(name, now_ns, limits)
        self.limits = limits or self.limits
        if name == self.serving.name:
            if self.phase in (Phase.OPENING, Phase.SHADOW):
                self._drop(f'{name} was asked for again')
            return None
        if self.phase is Phase.KEPT:
            self._go_back(f'{name} was asked for again')
            return None
        if self.other is not None and self.other.name == name:
            return None
        if self.other is not None:
            self._drop(f'{name} was asked for instead')
        self._numbers += 1
        self.other = ModelId(self._numbers, name)
        self.phase, self._tally, self._promised = Phase.OPENING, None, ''
        return self.other

    def promote(self, now_ns: int) -> str:
        """
        Let the new model serve now, or let go of the former one; returns what was done.

        Raises
        ------
        SettingError
            There is no update.

        """
        other = self._other('promote')
        if self.phase is Phase.KEPT:
            self._settle()
            return f'{self.serving.name} serves, {other.name} is let go'
        serves = self._switch_soon(_PROMOTED, now_ns)
        return f'{other.name} serves {"from the next frame on" if serves else "as soon as it can"}'

    def roll_back(self) -> str:
        """
        Give up the candidate, or go back to the former model; returns what was done.

        Raises
        ------
        SettingError
            There is no update.

        """
        other = self._other('roll_back')
        if self.phase is Phase.KEPT:
            self._go_back('~/roll_back was called')
            return f'{other.name} serves from the next frame on'
        self._drop('~/roll_back was called')
        return f'{other.name} is dropped, {self.serving.name} goes on'

    # ---- what becomes of the candidate

    def opened(self, model: ModelId, now_ns: int) -> bool:
        """Accept an open candidate; False if it is no longer wanted."""
        if self.phase is not Phase.OPENING or model != self.other:
            return False
        self.phase, self._tally, self._served = Phase.SHADOW, ShadowTally(), 0
        if self._promised:
            self._switch(self._promised, now_ns)
        elif self.limits.mode == IMMEDIATE:
            self._switch(_IMMEDIATE, now_ns)
        return True

    def failed(self, model: ModelId, reason: str) -> None:
        """Give up a candidate that cannot be opened, or failed on a frame."""
        if self.phase in (Phase.OPENING, Phase.SHADOW) and model == self.other:
            self._drop(reason)

    def begin_comparison(self, now_ns: int) -> ModelId | None:
        """Return the candidate if it shall get the last served frame, else None."""
        if self.phase is not Phase.SHADOW or self._comparing_since_ns is not None:
            return None
        # Multiples of the golden ratio: even at any share, and in step with no camera.
        self._served += 1
        if self._served * _GOLDEN % 1 >= self.limits.shadow_share:
            return None
        self._comparing_since_ns = now_ns
        return self.other

    def end_comparison(self, model: ModelId, outcome: FrameComparison | str, now_ns: int) -> None:
        """Take what came out of a comparison, or why the candidate failed at it."""
        if self.phase is not Phase.SHADOW or model != self.other:
            return
        self._comparing_since_ns = None
        if isinstance(outcome, str):
            self._drop(outcome)
            return
        assert self._tally is not None  # since `opened`
        self._tally.add(outcome)
        if self._promised:
            self._switch(self._promised, now_ns)
        else:
            self._judge(self._tally, now_ns)

    # ---- what becomes of the model that serves

    def served(self, model: ModelId, kind: Hashable, took_ns: int) -> None:
        """Note a frame that a model has answered; it was begun while that one served."""
        if model != self.serving:
            return
        if self.phase is not Phase.KEPT:
            self._watch.learn(kind, took_ns)
        elif reason := self._watch.judge(kind, took_ns, self.limits.max_latency_ratio):
            self._go_back(reason)

    def substitute(self, failed: ModelId) -> ModelId | None:
        """Return the model to answer a frame that another failed on, or None."""
        if failed != self.serving:  # it does not serve any more
            return self.serving
        return self.other if self.phase is Phase.KEPT else None

    def substituted(self, failed: ModelId, reason: str) -> None:
        """Go back to the former model, which has answered a frame that the new one failed on."""
        if self.phase is Phase.KEPT and failed == self.serving:
            self._go_back(reason)

    def tick(self, now_ns: int) -> None:
        """Do what is due by time: call it about once a second."""
        since_ns = self._comparing_since_ns
        if self.phase is Phase.KEPT and not self._keep_left_ns(now_ns):
            self._settle()
        elif since_ns is not None and now_ns - since_ns > HANGS_NS:
            self._drop(f'it has not answered a frame within {HANGS_NS // NS_PER_S} s')

    def end(self) -> None:
        """Forget the other model, silently: nothing is updated any more."""
        self.other, self.phase, self._comparing_since_ns = None, Phase.STEADY, None

    # ---- transitions

    def _judge(self, tally: ShadowTally, now_ns: int) -> None:
        """Decide about a candidate if enough was compared."""
        limits, ratio = self.limits, tally.latency_ratio
        most = limits.max_latency_ratio
        hopeless = tally.frames >= _TIMED_FRAMES and ratio > _HOPELESS * most
        if hopeless or (tally.frames >= limits.shadow_frames and ratio > most):
            self._drop(
                f'it takes {ratio:.2f} times as long, over update_max_latency_ratio '
                f'{most:g}'
            )
            return
        if tally.frames < limits.shadow_frames or tally.detections < limits.min_detections:
            return
        found = (
            f'agreement {tally.agreement:.4f} in {tally.frames} frames with {tally.detections} '
            'detections'
        )
        if tally.agreement < limits.min_agreement:
            self._drop(
                f'{found} is under update_min_agreement {limits.min_agreement:g}; most differ: '
                f'{tally.worst_classes()}'
            )
        else:
            self._switch(f'{found}, {ratio:.2f} times the latency', now_ns)

    def _keep_left_ns(self, now_ns: int) -> int:
        """Return how long the former model is still kept."""
        return max(0, self._switched_ns + self.limits.keep_ns - now_ns)

    def _switch_soon(self, reason: str, now_ns: int) -> bool:
        """Let the candidate serve once it is open and not at work; whether that is now."""
        if self.phase is Phase.OPENING or self._comparing_since_ns is not None:
            self._promised = reason
            return False
        self._switch(reason, now_ns)
        return True

    def _switch(self, reason: str, now_ns: int) -> None:
        assert self.other is not None  # there is a candidate
        self.serving, self.other = self.other, self.serving
        self.phase, self._switched_ns = Phase.KEPT, now_ns
        self._comparing_since_ns = None
        self._watch.begin()
        self._note(f'{self.serving.name} serves: {reason}', failed=False)

    def _go_back(self, reason: str) -> None:
        assert self.other is not None  # the former model
        given_up, self.serving, self.other = self.serving, self.other, None
        self.phase = Phase.STEADY
        self._note(
            f'{given_up.name} rolled back to {self.serving.name}: {reason}', failed=True
        )

    def _drop(self, reason: str) -> None:
        assert self.other is not None  # the candidate
        self._note(
            f'{self.other.name} dropped, {self.serving.name} goes on: {reason}', failed=True
        )
        self.other, self.phase = None, Phase.STEADY
        self._comparing_since_ns = None

    def _settle(self) -> None:
        self.other, self.phase = None, Phase.STEADY
        self._watch.forget()

    def _note(self, text: str, *, failed: bool) -> None:
        self.last, self._last_failed = text, failed

    def _other(self, what: str) -> ModelId:
        if self.other is None:
            raise SettingError(f'nothing to {what}: no update is under way')
        return self.other
