"""Inputs of a benchmark: its rows, pictures and labels."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
import dataclasses
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from yolov7_trt_ros.cli import output
from yolov7_trt_ros.cli.look_arguments import ENGINES, SECOND_LOOK, TILES, WAYS
from yolov7_trt_ros.core.looks.look_options import OFF
from yolov7_trt_ros.engine.file_kind import PLAN_SUFFIXES
from yolov7_trt_ros.engine.options import MAX_BATCH_LIMIT, PRECISIONS
from yolov7_trt_ros.errors import (
    ImageError,
    InputError,
    MissingDependencyError,
    SettingError,
)
from yolov7_trt_ros.report.bench.row import Data

if TYPE_CHECKING:
    from yolov7_trt_ros.core.image import ImageView
    from yolov7_trt_ros.report.accuracy.coco import CocoAnnotations
    from yolov7_trt_ros.report.accuracy.labels import CocoImage

PICTURES = 12
"""Number of different pictures that are timed in turn."""
TORCH_SUFFIXES = ('.pt', '.pth')
_TORCH_CHOICES = ('fp32', 'fp16', 'cpu')


@dataclasses.dataclass(frozen=True)
class RowSpec:
    """
    A row to measure.

    Attributes
    ----------
    name
        Display name; '' for engine, precision and file.
    model
        File, or the name of an embedded model.
    precision_or_device
        The part of the row after the colon: a precision, `cpu` (PyTorch only), or empty.
    way
        One of `WAYS`, or '' for one look with one engine.
    text, named
        The row as it was written.

    """

    model: str
    name: str = ''
    precision_or_device: str = ''
    way: str = ''
    text: str = ''
    named: bool = False

    @property
    def kind(self) -> str:
        """`torch`, `plan`, `built` (TensorRT from ONNX) or `onnx` (ONNX Runtime)."""
        suffix = Path(self.model).suffix.lower()
        if suffix in TORCH_SUFFIXES:
            return 'torch'
        if suffix in PLAN_SUFFIXES:
            return 'plan'
        return 'built' if self.precision_or_device else 'onnx'


def parse_row(text: str, *, named: bool) -> RowSpec:
    """
    Return the row of `FILE[:precision]`, or of `NAME=FILE[:precision]` where it is named.

    Raises
    ------
    SettingError
        The form is wrong, or the file cannot have this precision.

    """
    name, equals, rest = text.partition('=') if named else ('', '', text)
    if named and (not equals or not name.strip() or not rest):
        raise SettingError(f'a row is NAME=FILE or NAME=FILE:precision, got {text!r}')
    model, colon, suffix = rest.rpartition(':')
    if not colon or suffix.lower() not in (*PRECISIONS, *_TORCH_CHOICES):
        model, suffix = rest, ''
    if not model:
        raise SettingError(f'a row needs a file, got {text!r}')
    row = RowSpec(model, name.strip(), suffix.lower(), text=text, named=named)
    allowed = _TORCH_CHOICES if row.kind == 'torch' else PRECISIONS
    if suffix and row.precision_or_device not in allowed:
        raise SettingError(
            f'{Path(model).name} can be followed by :{", :".join(allowed)}, got :{suffix}'
        )
    return row


def only_way(args: argparse.Namespace, way: str) -> argparse.Namespace:
    """Return arguments in which the flags of the other ways are off."""
    off = {SECOND_LOOK: ('second_look', OFF), TILES: ('tiles', ''), ENGINES: ('engines', '')}
    return argparse.Namespace(**vars(args) | dict(off[each] for each in WAYS if each != way))


def wanted_ways(args: argparse.Namespace, rows: Sequence[RowSpec] = ()) -> list[str]:
    """Return the ways that the flags ask for, checked for these rows; raises SettingError."""
    from yolov7_trt_ros.cli import engine_arguments, look_arguments
    from yolov7_trt_ros.engine.options import DetectorOptions

    found = []
    for way, is_wanted in (
        (SECOND_LOOK, args.second_look != OFF), (TILES, args.tiles), (ENGINES, args.engines),
    ):
        if is_wanted:
            only = only_way(args, way)
            look_arguments.look_options(only)
            look_arguments.tile_options(only)
            for row in rows:
                engine_arguments.named_engines(only, DetectorOptions(model=row.model))
            found.append(way)
    return found


def with_ways(rows: Sequence[RowSpec], ways: Sequence[str]) -> list[RowSpec]:
    """Return each row, and after it the same model used in other ways, unless PyTorch runs it."""
    return [
        dataclasses.replace(row, way=way) for row in rows
        for way in ('', *(ways if row.kind != 'torch' else ()))
    ]


def parse_batches(text: str) -> tuple[int, ...]:
    """Return the batch sizes of `1,8`, ascending; raises SettingError."""
    try:
        sizes = sorted({int(part) for part in text.split(',')})
    except ValueError:
        sizes = []
    if not sizes or not 1 <= sizes[0] <= sizes[-1] <= MAX_BATCH_LIMIT:
        raise SettingError(
            f'batch sizes are numbers from 1 to {MAX_BATCH_LIMIT}, such as 1,8, got '
            f'{text!r}'
        )
    return tuple(sizes)


@dataclasses.dataclass(frozen=True)
class Labels:
    """Labelled images in a folder, with a hash of labels and names."""

    annotations: CocoAnnotations
    images: Sequence[CocoImage]
    folder: Path
    sha256: str


def load_pictures(
    folder: Path, warn: Callable[[object], None] = output.warn
) -> tuple[list[ImageView], Data]:
    """
    Return pictures spread over a folder, decoded, and a record of them.

    Parameters
    ----------
    folder
        Subfolders are ignored.
    warn
        Called for pictures that cannot be read, and for too few.

    Raises
    ------
    InputError
        None can be read.

    """
    from yolov7_trt_ros.replay.pictures import find_pictures, load_picture

    if not folder.is_dir():
        raise InputError(f'--images must be a folder of pictures, got {folder}')
    files = find_pictures(folder)
    count = min(PICTURES, len(files))
    pictures, digest = [], hashlib.sha256()
    for file in [files[index * len(files) // count] for index in range(count)]:
        try:
            pictures.append(load_picture(file))
        except ImageError as exc:
            warn(exc)
        else:
            digest.update(file.name.encode(errors='backslashreplace') + file.read_bytes())
    if not pictures:
        raise InputError(f'{folder} holds no pictures that can be read')
    if len(pictures) < PICTURES:
        warn(f'{len(pictures)} pictures are timed in turn, {PICTURES} would be better')
    return pictures, Data(len(pictures), digest.hexdigest())


def load_labels(
    path: Path, folder: Path, limit: int | None = None, *, allow_missing: bool = False,
    warn: Callable[[object], None] = output.warn,
) -> Labels:
    """
    Return the labelled images of a folder, at most `limit`; with a limit some may be missing.

    Raises
    ------
    MissingDependencyError
        pycocotools is not installed.
    InputError
        The labels cannot be read, or name images that do not exist.

    """
    from yolov7_trt_ros.cli.labels import find_labelled, open_annotations

    annotations = open_annotations(path, warn)
    images = find_labelled(
        annotations, folder, allow_missing=allow_missing or limit is not None, limit=limit,
        warn=warn,
    )
    digest = hashlib.sha256(path.read_bytes())
    for image in images:
        digest.update(image.file_name.encode(errors='backslashreplace'))
    return Labels(annotations, images, folder, digest.hexdigest())


def try_labels(
    path: Path | None, folder: Path, limit: int | None = None, *, allow_missing: bool = False,
    warn: Callable[[object], None] = output.warn,
) -> tuple[Labels | None, str]:
    """Return labels, or why there are none: not requested, or no pycocotools."""
    if path is None:
        return None, 'no labels were given (--annotations)'
    try:
        return load_labels(path, folder, limit, allow_missing=allow_missing, warn=warn), ''
    except MissingDependencyError as exc:
        return None, str(exc)
