"""Results that `detect` saves besides drawn frames: YOLO text files, a COCO file, crops."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import json
import os
from pathlib import Path
from typing import Any, Protocol, TYPE_CHECKING

from yolov7_trt_ros.atomic_file import atomic_write
from yolov7_trt_ros.cli.work.own_files import OwnFiles
from yolov7_trt_ros.home_folder import expand_home

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from yolov7_trt_ros.cli.window import Window
    from yolov7_trt_ros.cli.work.frame_writers import Names
    from yolov7_trt_ros.cli.work.output_names import OutputNames
    from yolov7_trt_ros.core.detections import Detections
    from yolov7_trt_ros.core.overlay import DrawStyle
    from yolov7_trt_ros.replay.frames import Frame

LABELS = 'labels'
PICTURES = 'pictures'
"""The kind of sources whose frames are files."""


class FrameWriter(Protocol):
    """Writes drawn frames."""

    def write(self, frame: Frame, pixels: NDArray[np.uint8]) -> Path:
        """Write a frame; return its file."""


class Saver(Protocol):
    """Saves the detections of frames."""

    def add(self, name: str, frame: Frame, found: Detections, kind: str) -> None:
        """Save the detections of a frame, under its unique name without suffix."""

    def close(self) -> None:
        """Finish."""


class Sinks:
    """
    Where frames and their detections go: drawn files, a window, label files, crops.

    Parameters
    ----------
    names
        Names of the drawn files; None if none are written.
    savers
        Savers of other results.
    style
        How detections are drawn.
    window
        Shows the frames; None for no window.
    class_names
        Class names of the model.

    """

    def __init__(
        self, names: OutputNames | None, savers: Sequence[Saver], style: DrawStyle,
        window: Window | None, class_names: tuple[str, ...],
    ) -> None:
        self.names = names
        self._savers, self._style, self._window = savers, style, window
        self._class_names = class_names

    @classmethod
    def of(
        cls, args: argparse.Namespace, names: OutputNames | None, class_names: tuple[str, ...],
        window: Window | None,
    ) -> Sinks:
        """Return the sinks of the arguments of `detect`."""
        from yolov7_trt_ros.core.overlay import DrawStyle

        savers: list[Saver] = []
        if names is not None and args.save_txt:
            savers.append(TextSaver(names))
        if names is not None and args.save_crops:
            savers.append(CropSaver(names, class_names))
        if args.save_coco is not None:
            savers.append(CocoSaver(expand_home(args.save_coco), class_names, names))
        style = DrawStyle(not args.hide_labels, args.line_width)
        return cls(names, savers, style, window, class_names)

    @property
    def folder(self) -> Path | None:
        """Return the folder of the outputs, None if there is none."""
        return None if self.names is None else self.names.folder.resolve()

    @property
    def is_ended(self) -> bool:
        """Whether the window was closed."""
        return self._window is not None and self._window.closed

    def take(
        self, writer: FrameWriter, kind: str, frame: Frame, found: Detections
    ) -> Path:
        """Draw, write, show and save a frame; return the file with the drawing."""
        from yolov7_trt_ros.core.overlay import annotated_copy

        canvas = annotated_copy(frame.image, found, self._class_names, self._style)
        written = writer.write(frame, canvas)
        if self._window is not None:
            self._window.show(canvas)
        name = self._name(written, kind, frame)
        for saver in self._savers:
            saver.add(name, frame, found, kind)
        return written

    def __enter__(self) -> Sinks:
        """Return the sinks themselves."""
        return self

    def __exit__(self, *_: object) -> None:
        """Finish all, also after an interruption."""
        for saver in self._savers:
            saver.close()
        if self._window is not None:
            self._window.close()

    def _name(self, written: Path, kind: str, frame: Frame) -> str:
        """Return the name of a frame: that of its drawing, with its number in a video."""
        folder = self.folder
        path = written.with_suffix('')
        if folder is not None and path.resolve().is_relative_to(folder):
            path = path.resolve().relative_to(folder)
        else:
            path = Path(path.name)
        number = f'_{frame.index:06d}' if kind == 'video' else ''
        return '_'.join(path.parts) + number if kind == 'bag' else f'{path}{number}'


class TextSaver:
    """
    Writes `labels/NAME.txt`: class id, centre and size as shares of the image, a line each.

    Foreign files are not replaced: `NAME-2.txt` is used then.

    """

    def __init__(self, names: OutputNames) -> None:
        self._names = names
        self._folder = names.folder / LABELS
        self._own = OwnFiles(names.folder)
        self._written: list[Path] = []

    def add(self, name: str, frame: Frame, found: Detections, kind: str) -> None:
        """Write the file of one frame."""
        width, height = found.source_wh
        lines = [
            f'{class_id} {(left + right) / 2 / width:.6f} {(top + bottom) / 2 / height:.6f} '
            f'{(right - left) / width:.6f} {(bottom - top) / height:.6f}\n'
            for class_id, (left, top, right, bottom) in zip(
                found.class_ids.tolist(), found.boxes_xyxy.tolist(), strict=True
            )
        ]
        path, number = self._folder / f'{name}.txt', 1
        while path in self._written or (path.exists() and not self._own.is_own(path)):
            number += 1
            path = self._folder / f'{name}-{number}.txt'
        # a signal may come between any two of these: what was written is found out at the end
        self._names.add(path)
        self._written.append(path)
        atomic_write(path, ''.join(lines).encode())
        self._own.add(path)

    def close(self) -> None:
        """Record which files are ours."""
        if self._written:
            self._own.note(self._written)


class CocoSaver:
    """
    Collects one file in the COCO format, with scores: images, annotations, categories.

    Pictures are named as in their folder; if two folders have a picture of one name, all by their
    path below the folder that they have in common.

    """

    def __init__(
        self, path: Path, class_names: tuple[str, ...], names: OutputNames | None
    ) -> None:
        self._path, self._names = path, names
        self._class_names = class_names
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._files: dict[int, Path] = {}

    def add(self, name: str, frame: Frame, found: Detections, kind: str) -> None:
        """Add the detections of one frame."""
        image_id = len(self._images) + 1
        width, height = found.source_wh
        if kind == PICTURES:
            self._files[image_id] = frame.path.absolute()
        self._images.append({
            'id': image_id,
            'file_name': frame.source if image_id in self._files else f'{name}.jpg',
            'width': width, 'height': height,
        })
        for class_id, score, (left, top, right, bottom) in zip(
            found.class_ids.tolist(), found.scores.tolist(), found.boxes_xyxy.tolist(),
            strict=True,
        ):
            box = [round(value, 2) for value in (left, top, right - left, bottom - top)]
            self._annotations.append({
                'id': len(self._annotations) + 1, 'image_id': image_id,
                'category_id': class_id + 1, 'bbox': box, 'area': round(box[2] * box[3], 2),
                'iscrowd': 0, 'score': round(score, 5),
            })

    def close(self) -> None:
        """Write the file."""
        self._tell_apart()
        record = {
            'images': self._images, 'annotations': self._annotations,
            'categories': self._categories(),
        }
        if self._names is not None:
            self._names.add(self._path)
        atomic_write(self._path, json.dumps(record).encode() + b'\n')

    def _tell_apart(self) -> None:
        """Name all pictures by their paths if a name stands for several."""
        names = {(self._images[number - 1]['file_name'], file)
                 for number, file in self._files.items()}
        if len({name for name, _ in names}) == len(names):
            return
        folder = os.path.commonpath([file.parent for file in self._files.values()])
        for number, file in self._files.items():
            self._images[number - 1]['file_name'] = file.relative_to(folder).as_posix()

    def _categories(self) -> list[dict[str, Any]]:
        """Return a category for each class, also for those that the model does not name."""
        from yolov7_trt_ros.core.detections import class_name

        used = max((each['category_id'] for each in self._annotations), default=0)
        count = max(len(self._class_names), used)
        return [
            {'id': number + 1, 'name': class_name(self._class_names, number)}
            for number in range(count)
        ]


class CropSaver:
    """Writes each object as a JPEG: `crops/CLASS/NAME_NUMBER.jpg`."""

    def __init__(self, names: Names, class_names: tuple[str, ...]) -> None:
        self._names, self._class_names = names, class_names

    def add(self, name: str, frame: Frame, found: Detections, kind: str) -> None:
        """Write the crops of one frame."""
        import numpy as np

        from yolov7_trt_ros.cli.work.frame_writers import write_picture
        from yolov7_trt_ros.core.detections import class_name
        from yolov7_trt_ros.core.preprocess import to_bgr

        pixels = to_bgr(frame.image)
        for number, (box, class_id) in enumerate(
            zip(found.boxes_xyxy, found.class_ids.tolist(), strict=True), 1
        ):
            left, top = np.floor(np.maximum(box[:2], 0)).astype(int)
            right, bottom = np.ceil(box[2:]).astype(int)
            crop = np.ascontiguousarray(pixels[top:bottom, left:right])
            if crop.size:
                folder = _file_name(class_name(self._class_names, class_id))
                write_picture(
                    self._names.take(f'crops/{folder}/{name}_{number}', '.jpg'), crop
                )

    def close(self) -> None:
        """Nothing is open."""


def _file_name(text: str) -> str:
    """Return a class name as the name of a folder."""
    plain = ''.join(each if each.isalnum() or each in ' -_' else '_' for each in text)
    return plain.strip() or '_'
