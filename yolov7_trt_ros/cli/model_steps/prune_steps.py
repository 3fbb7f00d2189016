"""Steps of `prune`: measure, cut, fit, recover, save; shared with the benchmark."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import hashlib
import os
from pathlib import Path
import time
from typing import Any, TYPE_CHECKING

from yolov7_trt_ros.cli import output
from yolov7_trt_ros.cli.model_steps import checkpoints
from yolov7_trt_ros.cli.model_steps.checkpoints import CheckpointOptions
from yolov7_trt_ros.cli.model_steps.prune_inputs import (
    Evaluate,
    letterbox_loader,
    measure_latency_ms,
)
from yolov7_trt_ros.errors import CheckpointError, SettingError

if TYPE_CHECKING:
    import torch

    from yolov7_trt_ros.model.network.architecture import Network
    from yolov7_trt_ros.model.prune.channel_groups import Cut
    from yolov7_trt_ros.model.prune.choose import PruneTarget
    from yolov7_trt_ros.model.prune.distill import EpochReport, LabelledLoss, RecoverySettings
    from yolov7_trt_ros.model.prune.training_batches import ImageCache
    from yolov7_trt_ros.replay.picture_store import PictureStore

_SAVE_EVERY_S = 20.0


@dataclasses.dataclass(frozen=True)
class PruneJob:
    """
    Inputs and settings of `prune`.

    Attributes
    ----------
    model, output
        Checkpoint to read; file that `save_network` writes.
    target
        Target of the cut.
    settings
        Settings of the recovery; `epochs` is ignored if `recover` is False.
    size
        Side of the square that images are letterboxed to, in pixels.
    device
        `auto`, `cpu` or `cuda`.
    options
        Overrides of what the checkpoint states or leaves open.
    onnx
        ONNX file to write, if any.
    checkpoint
        File of an interrupted recovery.
    resume
        Continue from it.
    recover
        Train after the fit.
    scored_pictures, fitted_pictures
        Number of pictures that rate the channels, and that the weights are fitted on. The fit has
        a layer's values of all in memory: about 40 MB a picture for yolov7-tiny at 640 pixels.

    """

    model: Path
    output: Path
    target: PruneTarget
    settings: RecoverySettings
    size: int = 640
    device: str = 'auto'
    options: CheckpointOptions = CheckpointOptions()
    onnx: Path | None = None
    checkpoint: Path | None = None
    resume: bool = False
    recover: bool = True
    scored_pictures: int = 32
    fitted_pictures: int = 32

    @property
    def checkpoint_path(self) -> Path:
        """File of the recovery: beside the output unless given."""
        return self.checkpoint or self.output.with_suffix('.recovery')


class Pruning:
    """
    One run of `prune`.

    Parameters
    ----------
    job
        What to do.
    store
        The pictures.
    labels
        Makes the labelled loss from the network and the cache, to train on labels too.
    evaluate
        Returns the average precision of a network; None without annotations.
    say
        Called with each line to print.
    report_changed
        Called with the report whenever it has changed.

    """

    def __init__(
        self,
        job: PruneJob,
        store: PictureStore,
        *,
        labels: Callable[[Network, ImageCache], LabelledLoss] | None = None,
        evaluate: Evaluate | None = None,
        say: Callable[[str], None] = print,
        report_changed: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        self._job, self._store, self._labels = job, store, labels
        self._evaluate, self._say, self._changed = evaluate, say, report_changed
        self.report: dict[str, Any] = {'accuracy': {}, 'epochs': []}

    def run(self, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """
        Run all steps; return False if interrupted (`--resume` continues).

        Raises
        ------
        Yolov7TrtError
            The model, the pictures, the target or the interrupted recovery cannot be used.

        """
        from yolov7_trt_ros.model.prune.channel_groups import cut_channels, find_groups
        from yolov7_trt_ros.model.prune.distill import read_recovery

        job = self._job
        device = choose_device(job.device)
        loaded = checkpoints.load(job.model, job.options, self._say, batch_norm='keep')
        original = loaded.network
        facts = checkpoints.facts_record(loaded.facts)
        self.report['checkpoint'] = facts
        _check_size(job.size, original.stride)
        record = read_recovery(job.checkpoint_path) if job.resume else None
        cache = self._fill_cache(device)
        try:
            groups = find_groups(original)
            if record is None:
                student, cut = self._cut(original, cache)
            else:
                extra = _checked_extra(record['extra'])
                self._check_same(extra['asked'])
                cut = {root: tuple(channels) for root, channels in extra['cut'].items()}
                student = cut_channels(original, groups, cut)
                self.report = extra['report'] | {'checkpoint': facts}
                self._say(f'continuing from step {record["step"]}')
            if not job.recover:
                self._finish(student)
                return True
            return self._recover(student, original, cache, cut, record, should_stop)
        finally:
            cache.close()

    def _fill_cache(self, device: torch.device) -> ImageCache:
        from yolov7_trt_ros.model.prune.training_batches import ImageCache

        threads = len(os.sched_getaffinity(0))
        with output.progress_bar('pictures', len(self._store)) as advance:
            cache = ImageCache(
                letterbox_loader(self._store, self._job.size), len(self._store), self._job.size,
                device, threads=threads, progress=advance,
            )
        for _, reason in cache.failed[:3]:
            output.warn(reason)
        if len(cache) == 1:
            output.warn('one picture shows little of what a camera sees: give hundreds')
        self.report |= {'pictures': len(cache), 'pictures_failed': len(cache.failed)}
        self._say(f'{len(cache)} pictures of {self._job.size} px, {device}')
        return cache

    def _cut(self, original: Network, cache: ImageCache) -> tuple[Network, Cut]:
        """Cut and fit; the networks are on the CPU afterwards."""
        from yolov7_trt_ros.model.prune.channel_groups import (
            cut_channels,
            find_groups,
            kept_channels,
        )
        from yolov7_trt_ros.model.prune.channel_importance import score_channels
        from yolov7_trt_ros.model.prune.choose import choose_cut
        from yolov7_trt_ros.model.prune.reconstruct import fit_weights
        from yolov7_trt_ros.model.prune.training_batches import batches_of

        job, size = self._job, self._job.size
        self._measure('original', original)
        groups = find_groups(original)
        original.to(cache.device)
        scores = score_channels(
            original, groups, batches_of(cache, job.scored_pictures, 2), seed=job.settings.seed
        )
        original.cpu()
        plan = choose_cut(
            original, groups, scores, job.target, size_wh=(size, size),
            measure=lambda network: measure_latency_ms(network, size),
        )
        student = cut_channels(original, groups, plan.cut)
        self.report |= {'cost': plan.as_record()}
        before, after = plan.before, plan.after
        self._say(
            f'cut: {after.macs / before.macs:.1%} of {before.macs / 1e9:.2f} GMAC, '
            f'{before.size_mb:.1f} MB to {after.size_mb:.1f} MB'
        )
        self._measure('cut', student)
        kept = kept_channels(original, groups, plan.cut, 'outputs')
        batches = list(batches_of(cache, job.fitted_pictures, 4, seed=1))
        start = time.perf_counter()
        with output.progress_bar('fit', len(original.rows)) as advance:
            fit_weights(
                student.to(cache.device), original.to(cache.device), kept, batches,
                seed=job.settings.seed, progress=advance,
            )
        for network in (student, original):
            network.cpu()
        self.report['fit_s'] = round(time.perf_counter() - start, 2)
        self._measure('fitted', student)
        self._save(student)
        return student, plan.cut

    def _recover(
        self, student: Network, original: Network, cache: ImageCache, cut: Cut,
        record: dict[str, Any] | None, should_stop: Callable[[], bool],
    ) -> bool:
        from yolov7_trt_ros.model.prune.distill import Recovery

        job = self._job
        labelled = self._labels(original, cache) if self._labels else None
        recovery = Recovery(student, original, cache, job.settings, labelled)
        if record is not None:
            recovery.resume(record)
        saved_at = time.monotonic()

        def save() -> None:
            recovery.save(job.checkpoint_path, {
                'cut': {root: list(channels) for root, channels in cut.items()},
                'asked': self._asked(), 'report': self.report,
            })

        def end_epoch(epoch: EpochReport) -> None:
            nonlocal saved_at
            self._report_epoch(epoch)
            if time.monotonic() - saved_at > _SAVE_EVERY_S or self._is_slow(epoch, recovery):
                save()
                self._save(recovery.result)
                saved_at = time.monotonic()

        with output.progress_bar('steps', recovery.total_steps) as advance:
            for _ in range(recovery.step):
                advance()
            finished = recovery.run(
                should_stop=should_stop, on_step=advance, on_epoch=end_epoch
            )
        save()
        if not finished:
            self._say(f'interrupted; --resume continues from {job.checkpoint_path}')
            return False
        self._finish(recovery.result.cpu())
        job.checkpoint_path.unlink(missing_ok=True)
        return True

    def _asked(self) -> dict[str, Any]:
        """Return the arguments that must be equal for a run to be resumed."""
        job = self._job
        digest = hashlib.sha256(job.model.read_bytes()).hexdigest()
        target = {k: v for k, v in dataclasses.asdict(job.target).items() if v is not None}
        overruled = {
            name: value for name, value in dataclasses.asdict(job.options).items()
            if name != 'class_names' and value not in (None, 'auto')
        }
        return {'model': digest, 'size': job.size, 'labels': self._labels is not None, **target,
                **overruled}

    def _check_same(self, asked: dict[str, Any]) -> None:
        wanted = self._asked()
        if wanted != asked:
            names = {**asked, **wanted}
            different = [name for name in names if asked.get(name) != wanted.get(name)]
            raise CheckpointError(
                f'the interrupted recovery had another {", ".join(different)}: give the same '
                'arguments, or start again without --resume'
            )

    def _is_slow(self, epoch: EpochReport, recovery: Any) -> bool:
        """Whether epochs take so long that each is worth saving."""
        seconds = recovery.order.steps_per_epoch * self._job.settings.batch / epoch.images_per_s
        return bool(seconds > _SAVE_EVERY_S)

    def _report_epoch(self, epoch: EpochReport) -> None:
        self.report['epochs'].append(dataclasses.asdict(epoch))
        parts = ', '.join(f'{name} {value:.4f}' for name, value in epoch.parts.items())
        self._say(
            f'epoch {epoch.epoch} ({epoch.progress:.0%}): loss {epoch.loss:.4f} ({parts}), '
            f'{epoch.images_per_s:.0f} pictures/s'
        )
        self._changed(self.report)

    def _finish(self, network: Network) -> None:
        self._save(network)
        if self._job.recover:
            self._measure('recovered', network)
        if self._job.onnx is not None:
            from yolov7_trt_ros.model.export.exporter import export_onnx

            export_onnx(network, self._job.onnx)
            self.report['onnx_bytes'] = self._job.onnx.stat().st_size
        self._changed(self.report)

    def _save(self, network: Network) -> None:
        from yolov7_trt_ros.model.checkpoint.load import save_network
        from yolov7_trt_ros.model.network.architecture import fold_batch_norms

        save_network(fold_batch_norms(network), self._job.output)

    def _measure(self, stage: str, network: Network) -> None:
        """Record the average precision of a stage."""
        if self._evaluate is not None:
            found = self._evaluate(network)
            self.report['accuracy'][stage] = found
            self._say(f'{stage}: AP50 {found["ap50"]:.4f}, AP {found["ap"]:.4f}')
        self._changed(self.report)


def choose_device(name: str) -> torch.device:
    """
    Return the device called `name`; `auto` is the GPU if there is one.

    Raises
    ------
    SettingError
        `cuda` was given and PyTorch finds no GPU.

    """
    import torch

    is_there = torch.cuda.is_available()
    if name == 'cuda' and not is_there:
        raise SettingError(
            f'--device cuda: PyTorch {torch.__version__} finds no GPU; use --device cpu or a '
            'CUDA build of PyTorch'
        )
    if is_there and name != 'cpu':
        return torch.device('cuda', torch.cuda.current_device())
    return torch.device('cpu')


def _checked_extra(extra: dict[str, Any]) -> dict[str, Any]:
    """Return the data that `_recover` saved with a recovery; raises CheckpointError."""
    if not all(isinstance(extra.get(name), dict) for name in ('asked', 'cut', 'report')):
        raise CheckpointError(
            'the interrupted recovery is not from prune: start again without --resume'
        )
    return extra


def _check_size(size: int, stride: int) -> None:
    if size < 2 * stride or size % stride:  # batch norms cannot compute a variance from one cell
        raise SettingError(
            f'--size must be a multiple of {stride}, at least {2 * stride}, got {size}'
        )
