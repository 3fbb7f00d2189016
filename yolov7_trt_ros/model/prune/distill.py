"""Train a cut network to reproduce the raw maps of the original, on unlabelled images."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import copy
import dataclasses
import io
import math
from pathlib import Path
import time
from typing import Any, Protocol

import torch
from torch import nn, Tensor

from yolov7_trt_ros.atomic_file import atomic_write
from yolov7_trt_ros.errors import CheckpointError, ModelNotFoundError, SettingError
from yolov7_trt_ros.model.checkpoint.torch_file import read_torch_file
from yolov7_trt_ros.model.network.architecture import fold_batch_norms, Network
from yolov7_trt_ros.model.prune.imitation import imitation_loss
from yolov7_trt_ros.model.prune.training_batches import (
    Augmentation,
    batches_of,
    BatchOrder,
    draw_placements,
    ImageCache,
    place,
    recolour,
)

_FORMAT = 'yolov7_trt_ros recovery 1'
_FIELDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(
        ('settings', 'student', 'average', 'optimiser', 'scaler', 'extra'), dict
    ),
    'images': int, 'step': int, 'elapsed_s': (int, float),
}
_PLACES, _COLOURS = 1, 2
_SETTLED_IMAGES = 512


@dataclasses.dataclass(frozen=True)
class RecoverySettings:
    """
    How long and how fast to learn.

    Attributes
    ----------
    epochs
        Times through the images.
    minutes
        End earlier, with the schedule fitted to that; None for no limit. With a limit a run cannot
        be repeated to the bit.
    batch
        Images per step.
    learning_rate
        At its highest, after the warm-up; it falls with a cosine to a hundredth.
    weight_decay
        Of convolution weights.
    warm_up
        Share of the run in which the learning rate rises.
    calm
        Share at the end in which images are flipped but not changed otherwise.
    average
        Decay per step of the moving average of the weights, which is the result.
    clip
        Largest norm of a step's gradient.
    amp
        Mixed precision; on a GPU only.
    label_weight
        Of the labelled loss, where labels are given.
    seed
        Of everything random.

    """

    epochs: int = 30
    minutes: float | None = None
    batch: int = 32
    learning_rate: float = 3e-4
    weight_decay: float = 5e-4
    warm_up: float = 0.03
    calm: float = 0.12
    average: float = 0.999
    clip: float = 10.0
    amp: bool = False
    label_weight: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ('epochs', 'batch'):
            if getattr(self, name) < 1:
                raise SettingError(f'{name} must be at least 1, got {getattr(self, name)}')
        if not self.learning_rate > 0:
            raise SettingError(f'learning_rate must be more than 0, got {self.learning_rate}')
        if self.minutes is not None and not self.minutes > 0:
            raise SettingError(f'minutes must be more than 0, got {self.minutes}')


class LabelledLoss(Protocol):
    """What labels add to the loss of a step."""

    def __call__(self, maps: list[Tensor], chosen: Tensor, placements: Tensor) -> Tensor:
        """Return a scalar for the maps of the images `chosen`, placed so."""


@dataclasses.dataclass(frozen=True)
class EpochReport:
    """What an epoch did: means of the losses, and the speed."""

    epoch: int
    step: int
    progress: float
    loss: float
    parts: dict[str, float]
    learning_rate: float
    images_per_s: float


class Recovery:
    """
    Trains `student` to imitate `teacher`; stops at any step and goes on from there exactly.

    Parameters
    ----------
    student, teacher
        The cut network and the original; both are moved to the cache's device. The student keeps
        its batch norms, if it has any.
    cache
        The images.
    settings
        See there.
    labelled
        Added to the imitation loss where given.

    """

    def __init__(
        self,
        student: Network,
        teacher: Network,
        cache: ImageCache,
        settings: RecoverySettings,
        labelled: LabelledLoss | None = None,
    ) -> None:
        self.device = cache.device
        self._cuda = self.device.type == 'cuda'
        memory = torch.channels_last if self._cuda else torch.contiguous_format
        self.student = student.to(self.device, memory_format=memory)  # type: ignore[call-overload]
        self._average = copy.deepcopy(self.student).eval().requires_grad_(False)
        folded = fold_batch_norms(teacher).eval().requires_grad_(False)
        self._teacher = folded.to(self.device, memory_format=memory)  # type: ignore[call-overload]
        self._cache, self.settings, self._labelled = cache, settings, labelled
        self.order = BatchOrder(len(cache), settings.batch, settings.seed)
        self.total_steps = self.order.steps_per_epoch * settings.epochs
        self.step, self.elapsed_s = 0, 0.0
        if self._cuda:
            torch.backends.cudnn.benchmark = True  # every step has the same shapes
        self._optimiser = torch.optim.AdamW(
            _parameter_groups(self.student, settings.weight_decay), lr=settings.learning_rate
        )
        self.use_bf16 = self._cuda and torch.cuda.is_bf16_supported()
        scale = settings.amp and self._cuda and not self.use_bf16
        self._scaler = torch.amp.GradScaler(enabled=scale)

    @property
    def progress(self) -> float:
        """Part of the run that is done, 0..1: by steps, or by time where that is shorter."""
        done = self.step / self.total_steps
        if self.settings.minutes is not None:
            done = max(done, self.elapsed_s / (self.settings.minutes * 60))
        return min(1.0, done)

    @property
    def result(self) -> Network:
        """Return the moving average of the weights so far; with its batch norms, on the device."""
        return self._average  # type: ignore[no-any-return]

    def run(
        self,
        *,
        should_stop: Callable[[], bool] = lambda: False,
        on_step: Callable[[], None] = lambda: None,
        on_epoch: Callable[[EpochReport], None] = lambda _: None,
    ) -> bool:
        """
        Train until the end or until `should_stop`; return whether the end was reached.

        `on_epoch` is called after each epoch and at the end; save there.

        """
        sums = _Sums()
        while self.progress < 1:
            if should_stop():
                return False
            start = time.perf_counter()
            sums.add(self._train_step())
            self.step += 1
            self.elapsed_s += time.perf_counter() - start
            sums.seconds += time.perf_counter() - start
            on_step()
            if self.step % self.order.steps_per_epoch == 0 or self.progress >= 1:
                if self.progress >= 1:
                    self._settle_norms()
                on_epoch(self._report(sums))
                sums = _Sums()
        return True

    @torch.no_grad()
    def _settle_norms(self) -> None:
        """
        Measure the statistics of the result's batch norms on images as they are.

        Those that were averaged beside the weights lag behind them, and are of changed images.

        """
        norms = [m for m in self._average.modules() if isinstance(m, nn.BatchNorm2d)]
        if not norms:
            return
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over the batches
            norm.train()
        for images in batches_of(self._cache, _SETTLED_IMAGES, self.settings.batch):
            with self._precision(torch.float16):
                self._average(images)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()

    def _report(self, sums: _Sums) -> EpochReport:
        loss, parts = sums.means()
        per_step = min(self.settings.batch, len(self._cache))
        return EpochReport(
            math.ceil(self.step / self.order.steps_per_epoch), self.step, self.progress, loss,
            parts, self._learning_rate(), sums.count * per_step / max(sums.seconds, 1e-9),
        )

    def _learning_rate(self) -> float:
        """Return the learning rate at this point: warm-up, then a cosine to a hundredth."""
        settings, done = self.settings, self.progress
        if done < settings.warm_up:
            return settings.learning_rate * (0.01 + 0.99 * done / settings.warm_up)
        rest = (done - settings.warm_up) / (1 - settings.warm_up)
        return settings.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * rest)) / 2)

    def _train_step(self) -> dict[str, Tensor]:
        images, chosen, placements = self._images()
        for group in self._optimiser.param_groups:
            group['lr'] = self._learning_rate()
        self.student.train()
        with torch.no_grad(), self._precision(torch.float16):
            wanted = self._teacher(images)
        with self._precision(torch.bfloat16 if self.use_bf16 else torch.float16):
            maps = self.student(images)
        loss, parts = imitation_loss(
            maps, wanted, self.student.anchors, self.student.strides
        )
        if self._labelled is not None:
            extra = self._labelled([raw.float() for raw in maps], chosen, placements)
            parts = {**parts, 'labels': extra.detach()}
            loss = loss + self.settings.label_weight * extra
        self._descend(loss)
        return {'loss': loss.detach(), **parts}

    def _images(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the images of this step, which ones they are, and how they are placed."""
        chosen = self.order.chosen(self.step)
        calm = self.progress > 1 - self.settings.calm
        augmentation = Augmentation.calm() if calm else Augmentation()
        generator = self.order.generator(self.step, _PLACES)
        placements = draw_placements(len(chosen), augmentation, generator)
        images = place(self._cache.batch(chosen), placements)
        if augmentation.colour:
            colours = self.order.generator(self.step, _COLOURS)
            images = recolour(images, augmentation.colour, colours)
        if self._cuda:
            images = images.contiguous(memory_format=torch.channels_last)
        return images, chosen, placements

    def _precision(self, dtype: torch.dtype) -> contextlib.AbstractContextManager[Any]:
        """Compute in `dtype` where mixed precision is wanted: bfloat16 needs no loss scaling."""
        if not (self.settings.amp and self._cuda):
            return contextlib.nullcontext()
        return torch.autocast('cuda', dtype)

    def _descend(self, loss: Tensor) -> None:
        self._optimiser.zero_grad(set_to_none=True)
        scaled: Any = self._scaler.scale(loss)
        scaled.backward()
        self._scaler.unscale_(self._optimiser)
        norm = nn.utils.clip_grad_norm_(self.student.parameters(), self.settings.clip)
        if self._scaler.is_enabled():
            self._scaler.step(self._optimiser)
            self._scaler.update()
        elif bool(torch.isfinite(norm)):  # waits for the GPU too, so that times are true
            self._optimiser.step()
        self._follow()

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average towards the weights; quickly at first."""
        decay = self.settings.average * (1 - math.exp(-(self.step + 1) / 200))
        mine = self.student.state_dict()
        floats = [
            (value, mine[name]) for name, value in self._average.state_dict().items()
            if value.is_floating_point()
        ]
        torch._foreach_lerp_([a for a, _ in floats], [b for _, b in floats], 1 - decay)

    def save(self, path: Path, extra: dict[str, Any]) -> None:
        """Write all that is needed to go on, and `extra` (plain values and tensors)."""
        record = {
            'format': _FORMAT,
            'settings': dataclasses.asdict(self.settings),
            'images': len(self._cache),
            'step': self.step,
            'elapsed_s': self.elapsed_s,
            'student': self.student.state_dict(),
            'average': self._average.state_dict(),
            'optimiser': self._optimiser.state_dict(),
            'scaler': self._scaler.state_dict(),
            'extra': extra,
        }
        buffer = io.BytesIO()
        torch.save(record, buffer)
        atomic_write(path, buffer.getvalue())

    def resume(self, record: dict[str, Any]) -> None:
        """
        Go on from a record of `read_recovery`.

        Raises
        ------
        CheckpointError
            It belongs to other settings, images or another cut.

        """
        wanted = {**dataclasses.asdict(self.settings), 'images': len(self._cache)}
        found = {**record['settings'], 'images': record['images']}
        different = [
            f'{name} {found.get(name)} there, {value} here'
            for name, value in wanted.items() if found.get(name) != value
        ]
        if different:
            raise CheckpointError(
                f'the interrupted recovery was another one ({"; ".join(different)}): give the '
                'same settings and pictures, or start anew without --resume'
            )
        try:
            self.student.load_state_dict(record['student'])
            self._average.load_state_dict(record['average'])
            self._optimiser.load_state_dict(record['optimiser'])
            self._scaler.load_state_dict(record['scaler'])
        except (RuntimeError, ValueError, KeyError) as exc:
            raise CheckpointError(
                f'the interrupted recovery is of another network ({str(exc).splitlines()[0]}): '
                'start anew without --resume'
            ) from exc
        self.step, self.elapsed_s = int(record['step']), float(record['elapsed_s'])


def read_recovery(path: Path) -> dict[str, Any]:
    """
    Read what `Recovery.save` wrote; nothing in it is run.

    Raises
    ------
    CheckpointError
        No such file, damaged, or something else.

    """
    try:
        record = read_torch_file(path)
    except ModelNotFoundError as exc:
        raise CheckpointError(
            f'there is no interrupted recovery at {path}: start without --resume'
        ) from exc
    except CheckpointError as exc:
        raise CheckpointError(f'no interrupted recovery, or damaged: {exc}') from exc
    if not isinstance(record, dict) or record.get('format') != _FORMAT:
        raise CheckpointError(f'{path} is no interrupted recovery: expected {_FORMAT!r}')
    if not all(isinstance(record.get(name), kind) for name, kind in _FIELDS.items()):
        raise CheckpointError(f'{path} is damaged: start anew without --resume')
    return record


def _parameter_groups(network: Network, decay: float) -> list[dict[str, Any]]:
    """Return convolution weights, which decay, apart from biases and batch norms."""
    weights = [p for p in network.parameters() if p.ndim == 4]
    others = [p for p in network.parameters() if p.ndim != 4]
    return [{'params': weights, 'weight_decay': decay}, {'params': others, 'weight_decay': 0.0}]


class _Sums:
    """Losses of the steps of an epoch, on the device until they are asked for."""

    def __init__(self) -> None:
        self.count, self.seconds = 0, 0.0
        self._totals: dict[str, Tensor] = {}

    def add(self, losses: dict[str, Tensor]) -> None:
        self.count += 1
        for name, value in losses.items():
            self._totals[name] = self._totals.get(name, torch.zeros_like(value)) + value

    def means(self) -> tuple[float, dict[str, float]]:
        means = {name: float(value) / self.count for name, value in self._totals.items()}
        return means.pop('loss', math.nan), means
