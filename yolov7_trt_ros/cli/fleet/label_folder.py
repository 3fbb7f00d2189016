"""LabelFolder: the index files of a data set; edited ones are never replaced."""

from __future__ import annotations

from collections.abc import Sequence
import hashlib
from pathlib import Path
from typing import Any

from yolov7_trt_ros.cli.fleet.label_tasks import find_picture, IMAGES, stem_in
from yolov7_trt_ros.cli.work.work_folder import WorkFolder
from yolov7_trt_ros.errors import InputError
from yolov7_trt_ros.report.accuracy.label_set import coco_text, LabelledFrame, yolo_yaml

COCO_FILE = 'annotations/instances_default.json'
YOLO_FILE = 'data.yaml'
ORDER_FILE = 'hardest_first.txt'
_SPARE = 'spare'


class LabelFolder:
    """
    The index of a data set: the COCO file or the YOLO description, and the hardest frames.

    Parameters
    ----------
    work
        The folder, locked.
    form
        `coco` or `yolo`.

    Raises
    ------
    InputError
        One of the files was edited since it was written.

    """

    def __init__(self, work: WorkFolder, form: str) -> None:
        self._work, self._form = work, form
        self._names = (COCO_FILE if form == 'coco' else YOLO_FILE, ORDER_FILE)
        for name in self._names:
            self._check_ours(name)

    @property
    def index(self) -> Path:
        """Return the file that tools open."""
        return self._work.path / self._names[0]

    def begin(
        self, frames: Sequence[LabelledFrame], names: Sequence[str], info: dict[str, Any]
    ) -> None:
        """
        Reserve disk space for the index, so that it can be written on a full disk.

        Parameters
        ----------
        frames
            All frames to write.
        names
            Classes of the data set.
        info
            How it was made, for the COCO file.

        """
        self._frames, self._classes, self._info = frames, names, info
        if self._form == 'yolo':
            self._write(YOLO_FILE, _encoded(yolo_yaml(names, IMAGES['yolo'])))
        spare = self._texts([(frame, f'{stem_in(self._form, frame)}.jpg') for frame in frames])
        self._work.write(self._work.state_file(_SPARE), b''.join(spare.values()))

    def finish(self) -> int:
        """Write the index of the existing pictures; return their number."""
        there = []
        for frame in self._frames:
            stem = stem_in(self._form, frame)
            picture = find_picture(self._work.path, self._form, stem)
            if picture is not None:
                there.append((frame, f'{stem}{picture.suffix}'))
        self._work.state_file(_SPARE).unlink(missing_ok=True)
        for name, data in self._texts(there).items():
            self._write(name, data)
        return len(there)

    def _texts(self, named: Sequence[tuple[LabelledFrame, str]]) -> dict[str, bytes]:
        """Return the files that depend on the existing pictures, by name."""
        texts = {}
        if self._form == 'coco':
            texts[COCO_FILE] = _encoded(coco_text(named, self._classes, self._info))
        if any(frame.doubt for frame, _ in named):
            texts[ORDER_FILE] = _encoded(
                ''.join(f'{IMAGES[self._form]}/{name}\n' for _, name in named))
        return texts

    def _write(self, name: str, data: bytes) -> None:
        path = self._work.path / name
        if path.exists() and path.read_bytes() == data:
            return
        self._check_ours(name)
        ours = [*self._ours(name)[-1:], _hash(data)]
        self._work.keep(name, {'sha256': ours})
        self._work.write(path, data)

    def _check_ours(self, name: str) -> None:
        path = self._work.path / name
        if path.exists() and _hash(path.read_bytes()) not in self._ours(name):
            raise InputError(
                f'{path} was edited since it was written, and is not replaced: move it, or '
                'choose another folder'
            )

    def _ours(self, name: str) -> list[str]:
        """Return the hashes of the file as we wrote it."""
        return list((self._work.done(name) or {}).get('sha256', ()))


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _encoded(text: str) -> bytes:
    r"""Return text in UTF-8; other bytes of file names become JSON's `\udce9`."""
    return text.encode(errors='backslashreplace')
