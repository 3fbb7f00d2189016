"""
Cut channels out of a network and let it recover without labels.

Channels are chosen by how little the network's output maps change without them. The remaining
weights are then fitted layer by layer to the values of the original, and finally the network is
trained to reproduce the original's maps on the pictures, which need no labels. One target decides
how much is cut: --flops (share of multiply-accumulates to keep), --size-mb (float32 weights in
10^6 bytes), or --latency (milliseconds of the network in ONNX Runtime on this machine). Channels
are cut in blocks of 8; at least a quarter of each layer stays.

Ctrl-C during the recovery saves the progress; --resume with the same arguments continues. With
--annotations the average precision is measured before the cut, and after cut, fit and recovery.

Examples
--------
  yolov7_trt prune yolov7-tiny.pt -o pruned.pt --flops 0.7 --images drive.mcap --onnx pruned.onnx
  yolov7_trt prune yolov7.pt -o small.pt --size-mb 30 --images pictures --epochs 50 --amp
  yolov7_trt prune yolov7.pt -o small.pt --flops 0.5 --images pictures --resume

"""

from __future__ import annotations

import argparse
import contextlib
import functools
from pathlib import Path
from typing import Any, TYPE_CHECKING

from yolov7_trt_ros.cli import arguments, exit_status, interruption, output, output_paths
from yolov7_trt_ros.cli.effects.given_options import refuse_without_effect
from yolov7_trt_ros.cli.model_steps import (
    checkpoints,
    prune_inputs,
    prune_steps,
)
from yolov7_trt_ros.cli.work.output_file import OutputFile
from yolov7_trt_ros.errors import MissingDependencyError, SettingError
from yolov7_trt_ros.home_folder import expand_home

if TYPE_CHECKING:
    from yolov7_trt_ros.replay.picture_store import PictureStore

_OF_RECOVERY = ('--minutes', '--amp', '--labels', '--checkpoint')
_MOST_SEED = 2**32 - 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    arguments.add_model_argument(parser, 'PyTorch checkpoint of YOLOv7')
    parser.add_argument(
        '--output', '-o', required=True, type=Path, metavar='FILE', help='pruned network (.pt)'
    )
    parser.add_argument('--onnx', type=Path, metavar='FILE', help='also write it as ONNX')
    parser.add_argument(
        '--round-to', type=int, default=8, metavar='N',
        help='keep a multiple of N channels in each layer: 8 for FP16, 32 for INT8 on TensorRT '
        '(default: %(default)s)',
    )
    arguments.add_naming_arguments(parser)
    arguments.add_checkpoint_arguments(parser)
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument(
        '--flops', type=float, metavar='SHARE',
        help='share of multiply-accumulates to keep, above 0, below 1',
    )
    target.add_argument('--size-mb', type=float, metavar='MB', help='size of the float32 weights')
    target.add_argument(
        '--latency', type=float, metavar='MS', help='time of the network in ONNX Runtime'
    )
    group = parser.add_argument_group('pictures')
    group.add_argument(
        '--images', required=True, type=Path, metavar='PATH', help='folder, video or bag'
    )
    group.add_argument(
        '--every', type=int, default=1, metavar='N', help='use every N-th picture or frame'
    )
    arguments.add_size_argument(group, 'side of the network input')
    _add_recovery_arguments(parser)
    group = parser.add_argument_group('average precision')
    group.add_argument(
        '--annotations', type=Path, metavar='FILE', help='labels in COCO instances format'
    )
    group.add_argument(
        '--eval-images', type=Path, metavar='DIR', help='their pictures (default: --images)'
    )
    arguments.add_allow_missing_argument(group)
    arguments.add_json_argument(parser)


def _add_recovery_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('recovery')
    group.add_argument(
        '--epochs', type=int, default=30, metavar='N',
        help='passes over the pictures; 0 ends after the fit (default: %(default)s)',
    )
    group.add_argument(
        '--minutes', type=float, metavar='M',
        help='time limit of the recovery, with the schedule fitted to it',
    )
    group.add_argument(
        '--batch', type=int, default=32, metavar='B',
        help='pictures per step (default: %(default)s)',
    )
    group.add_argument(
        '--device', choices=('auto', 'cpu', 'cuda'), default='auto',
        help='device to train on (default: the GPU if there is one)',
    )
    group.add_argument('--amp', action='store_true', help='train in mixed precision, on a GPU')
    group.add_argument(
        '--labels', type=Path, metavar='FILE',
        help='labels of --images in COCO instances format, to train on as well',
    )
    group.add_argument(
        '--seed', type=int, default=0, metavar='N',
        help=f'seed of all random numbers, 0..{_MOST_SEED} (default: %(default)s)',
    )
    group.add_argument(
        '--checkpoint', type=Path, metavar='FILE',
        help='file of an interrupted recovery (default: beside the output)',
    )
    group.add_argument('--resume', action='store_true', help='continue from the checkpoint')


def run(args: argparse.Namespace) -> int:
    """Run the verb; the exit status is 130 if it was interrupted."""
    from yolov7_trt_ros.engine.file_kind import check_kind, CHECKPOINT

    try:
        import torch  # noqa: F401
    except ImportError as exc:
        raise MissingDependencyError(
            f'pruning needs PyTorch ({exc}); install it with: pip install torch torch-pruning'
        ) from exc
    job = prune_job(args)
    if job.model.exists():
        check_kind(job.model, CHECKPOINT)
    _check_targets(args, job)
    network = OutputFile(job.output)
    with interruption.explain(lambda: _left(network)):
        return _run(args, job)


def _run(args: argparse.Namespace, job: prune_steps.PruneJob) -> int:
    from yolov7_trt_ros.replay.picture_store import PictureStore

    evaluate = None
    if args.annotations is not None:
        folder = expand_home(args.eval_images or args.images)
        evaluate = prune_inputs.make_evaluation(
            expand_home(args.annotations), folder, args.size, allow_missing=args.allow_missing
        )
    elif args.eval_images is not None:
        raise SettingError('--eval-images needs --annotations')
    with PictureStore(args.images, every=args.every) as store, contextlib.ExitStack() as stack:
        # signals are handled from the first step of the recovery: before, there is nothing to keep
        stopping = functools.cache(
            lambda: stack.enter_context(interruption.Interruption())
        )
        for warning in store.warnings[:3]:
            output.warn(warning)
        work = prune_steps.Pruning(
            job, store, labels=_labels(args, store), evaluate=evaluate,
            say=lambda line: output.say(line, file=output.report_stream(args.json)),
        )
        finished = work.run(lambda: stopping().requested)
    if finished:
        written = [job.output] if job.onnx is None else [job.output, job.onnx]
        message = f'written: {", ".join(map(str, written))}'
        output.say(message, file=output.report_stream(args.json))
    if args.json:
        output.write_json(args.json, _record(args, work.report, finished))
    return 0 if finished else exit_status.INTERRUPTED


def _check_targets(args: argparse.Namespace, job: prune_steps.PruneJob) -> None:
    read = [job.model, args.images, args.annotations, args.labels]
    output_paths.check_file('--output', job.output, 'PyTorch', read)
    output_paths.check_file('--onnx', job.onnx, 'ONNX', read)
    if job.checkpoint_path.exists() and not job.resume and job.recover:
        output.warn(f'{job.checkpoint_path}, an interrupted recovery, is replaced: --resume would '
                    'continue it')
    output_paths.check_file('--checkpoint', job.checkpoint_path, 'PyTorch', read)
    output_paths.check_json(args.json, [*read, job.output, job.onnx], made=[job.output.parent])


def _left(network: OutputFile) -> str:
    """Return what an interruption before the recovery leaves behind."""
    if network.is_written():
        return f'{network.path} has the fitted network, not recovered'
    return interruption.NOTHING_WRITTEN


def prune_job(args: argparse.Namespace) -> prune_steps.PruneJob:
    """
    Return the job of the arguments.

    Raises
    ------
    SettingError
        A value is out of its range, or two of the files are one.

    """
    from yolov7_trt_ros.model.prune.choose import PruneTarget
    from yolov7_trt_ros.model.prune.distill import RecoverySettings

    arguments.check_at_least('--epochs', args.epochs, 0)
    arguments.check_at_least('--every', args.every)
    if not 0 <= args.seed <= _MOST_SEED:
        raise SettingError(f'--seed must be within 0..{_MOST_SEED}, got {args.seed}')
    if args.resume and not args.epochs:
        raise SettingError('--resume continues the recovery, and --epochs 0 has none')
    if not args.epochs:
        refuse_without_effect(args, _OF_RECOVERY, 'with --epochs 0: there is no recovery')
    if args.annotations is None:
        refuse_without_effect(args, ['--allow-missing'], 'without --annotations')
    job = prune_steps.PruneJob(
        model=expand_home(arguments.chosen_model(args)),
        output=expand_home(args.output),
        target=PruneTarget(args.flops, args.size_mb, args.latency, args.round_to),
        settings=RecoverySettings(
            epochs=max(1, args.epochs), minutes=args.minutes, batch=args.batch, amp=args.amp,
            seed=args.seed,
        ),
        size=args.size,
        device=args.device,
        options=checkpoints.CheckpointOptions.of(args),
        onnx=expand_home(args.onnx) if args.onnx else None,
        checkpoint=expand_home(args.checkpoint) if args.checkpoint else None,
        resume=args.resume,
        recover=args.epochs > 0,
    )
    _check_files(job)
    return job


def _check_files(job: prune_steps.PruneJob) -> None:
    """Check that no two of the files are the same."""
    named = {
        'MODEL': job.model, '--output': job.output, '--onnx': job.onnx,
        '--checkpoint': job.checkpoint_path,
    }
    seen: dict[Path, str] = {}
    for name, path in named.items():
        if path is None:
            continue
        other = seen.setdefault(path.resolve(), name)
        if other != name:
            raise SettingError(f'{other} and {name} are both {path}: give each a file of its own')


def _labels(args: argparse.Namespace, store: PictureStore) -> Any:
    if args.labels is None:
        return None
    return prune_inputs.load_labels(expand_home(args.labels), store, args.size)


def _record(args: argparse.Namespace, report: dict[str, Any], finished: bool) -> dict[str, Any]:
    return {
        'model': arguments.chosen_model(args), 'images': str(args.images), 'size': args.size,
        'labelled': args.labels is not None, 'finished': finished, **report,
        'versions': output.installed_versions(),
    }
