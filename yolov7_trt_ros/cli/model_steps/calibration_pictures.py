"""Pictures for calibration and scores, spread over a folder, video, bag or array."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import dataclasses
from pathlib import Path
import tokenize
from typing import Any, Protocol, TYPE_CHECKING
import warnings

from yolov7_trt_ros.cli import output
from yolov7_trt_ros.errors import CalibrationError, ImageError, SettingError
from yolov7_trt_ros.home_folder import expand_home

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from yolov7_trt_ros.core.image import ImageView
    from yolov7_trt_ros.replay.sources import FrameSource

_SHOWN_ERRORS = 3
_NPY_MAGIC = b'\x93NUMPY'
_NUMPY_ERRORS = (
    OSError, ValueError, EOFError, TypeError, OverflowError, MemoryError, RecursionError,
    SyntaxError, KeyError, AttributeError, IndexError, tokenize.TokenError,
)
"""Errors of a damaged header, which is Python source that numpy evaluates."""


class Pictures(Protocol):
    """
    Some pictures of a source. Iterating reads them again each time.

    Attributes
    ----------
    failed
        Number of pictures that could not be decoded in the last iteration.

    """

    failed: int

    def __len__(self) -> int:
        """Return the number of pictures, with undecodable ones."""

    def __iter__(self) -> Iterator[tuple[str, ImageView]]:
        """Yield name and pixels of each decodable picture."""


@dataclasses.dataclass(frozen=True, eq=False)
class PictureSets:
    """
    Pictures for calibration and for scores.

    Attributes
    ----------
    calibration, scoring
        Both spread over the source; no picture in common if `held_out`.
    held_out
        Whether no picture is in both.

    """

    calibration: Pictures
    scoring: Pictures
    held_out: bool


def open_pictures(path: Path, *, count: int, score_count: int) -> PictureSets:
    """
    Open a source and select pictures spread evenly over it, always the same ones.

    Parameters
    ----------
    path
        A picture, a folder, a video, a bag, or an .npy file of (N, 3, H, W): uint8, or floats in
        0..1, RGB.
    count, score_count
        Maximum number of pictures to calibrate and to score on.

    Raises
    ------
    CalibrationError
        There are no pictures, or the array has another form.
    InputError
        The source cannot be opened.

    """
    if count < 1 or score_count < 0:
        raise SettingError(
            f'--count must be at least 1 and --score-count at least 0, got {count} and '
            f'{score_count}'
        )
    open_set, total = _open_source(expand_home(path), count + score_count)
    if total < 1:
        raise CalibrationError(f'{path} contains no pictures to calibrate on')
    calibration, scoring = split_pictures(total, count, score_count)
    if len(calibration) == 1:
        output.warn(
            f'{path}: there is one calibration picture, whose ranges are too narrow for others; '
            'give 100 or more'
        )
    return PictureSets(
        open_set(calibration), open_set(scoring), not set(calibration) & set(scoring)
    )


def split_pictures(total: int, count: int, score_count: int) -> tuple[list[int], list[int]]:
    """
    Return indices to calibrate and to score on, both spread evenly over `total` pictures.

    They have none in common. Too few pictures are divided in the requested proportion, with up to
    half of them for calibration; a single picture serves for both.

    """
    wanted = count + score_count
    chosen = spread(total, min(total, wanted))
    if not score_count or len(chosen) == 1:
        return chosen[:count], chosen if score_count else []
    share = round(len(chosen) * score_count / wanted)
    left = len(chosen) - min(count, len(chosen) // 2)
    number = max(1, min(share, left, len(chosen) - 1))
    scoring = {chosen[index] for index in spread(len(chosen), number)}
    return [index for index in chosen if index not in scoring], sorted(scoring)


def spread(total: int, number: int) -> list[int]:
    """Return `number` indices below `total`, evenly apart, from the middle of each part."""
    return [(2 * index + 1) * total // (2 * number) for index in range(number)]


def _open_source(path: Path, wanted: int) -> tuple[Any, int]:
    """Return a function from indices to pictures, and the number of pictures."""
    from yolov7_trt_ros.replay.file_kinds import kind_of
    from yolov7_trt_ros.replay.pictures import find_pictures

    if path.suffix.lower() == '.npy':
        array = load_array(path)
        return lambda indices: _ArrayPictures(path, array, indices), len(array)
    if kind_of(path) == 'pictures':
        files = find_pictures(path, output.warn) if path.is_dir() else [path]
        return lambda indices: FilePictures([files[index] for index in indices]), len(files)
    source, total = _open_frames(path, wanted)
    for text in source.warnings:
        output.warn(text)
    return lambda indices: _FramePictures(source, indices), total


def _open_frames(path: Path, wanted: int) -> tuple[FrameSource, int]:
    """Open a video or bag and count its frames; most frames of long ones are not decoded."""
    from yolov7_trt_ros.replay.sources import open_frames

    source = open_frames(path)
    every = max(1, (source.count or 0) // (2 * wanted))
    if every > 1:
        source = open_frames(path, every=every)
    if source.kind == 'bag' and source.count is not None:
        return source, source.count
    return source, sum(1 for _ in source)  # the length stated by a video is an estimate


class _Reading:
    """Counts pictures that cannot be decoded, and warns of them."""

    def __init__(self, number: int) -> None:
        self.failed = 0
        self._number = number
        self._warned: set[str] = set()

    def __len__(self) -> int:
        return self._number

    def _fail(self, exc: Exception) -> None:
        """Warn of the first few errors, once each."""
        self.failed += 1
        if str(exc) not in self._warned and len(self._warned) < _SHOWN_ERRORS:
            self._warned.add(str(exc))
            output.warn(exc)


class FilePictures(_Reading):
    """Picture files."""

    def __init__(self, files: Sequence[Path]) -> None:
        super().__init__(len(files))
        self._files = files
        self._load: Callable[[Path], ImageView] | None = None

    def read_with(self, load: Callable[[Path], ImageView]) -> None:
        """Read files with another function from now on, which may raise ImageError."""
        self._load = load

    def __iter__(self) -> Iterator[tuple[str, ImageView]]:
        """Yield file name and pixels."""
        from yolov7_trt_ros.replay.pictures import load_picture

        self.failed = 0
        load = self._load or load_picture
        for file in self._files:
            try:
                picture = load(file)
            except ImageError as exc:
                self._fail(exc)
            else:
                yield file.name, picture


class _FramePictures(_Reading):

    def __init__(self, source: Any, indices: Sequence[int]) -> None:
        super().__init__(len(indices))
        self._source = source
        self._indices = frozenset(indices)

    def __iter__(self) -> Iterator[tuple[str, ImageView]]:
        from yolov7_trt_ros.replay.frames import BadFrame

        self.failed = 0
        last = max(self._indices, default=-1)
        for number, frame in enumerate(self._source):
            if number > last:
                break
            if number not in self._indices:
                continue
            if isinstance(frame, BadFrame):
                self._fail(frame.error)
            else:
                yield f'{frame.source} {frame.index}', frame.image


class _ArrayPictures(_Reading):

    def __init__(self, path: Path, array: NDArray[Any], indices: Sequence[int]) -> None:
        super().__init__(len(indices))
        self._path = path
        self._array = array
        self._indices = indices

    def __iter__(self) -> Iterator[tuple[str, ImageView]]:
        from yolov7_trt_ros.core.image import ImageView

        self.failed = 0
        for index in self._indices:
            try:
                pixels = _pixels(self._array[index])
            except CalibrationError as exc:
                self._fail(CalibrationError(f'{self._path}, picture {index}: {exc}'))
            else:
                yield f'{self._path.name} {index}', ImageView.from_array(pixels, 'rgb8')


def load_array(path: Path) -> NDArray[Any]:
    """
    Open an array of pictures without reading it all.

    Raises
    ------
    CalibrationError
        It cannot be read, or is not (N, 3, H, W) of uint8 or floats.

    """
    import numpy as np

    from yolov7_trt_ros.core.image import check_size

    _check_magic(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of headers that Python 2 wrote
            array: NDArray[Any] = np.load(path, mmap_mode='r', allow_pickle=False)
    except _NUMPY_ERRORS as exc:
        raise CalibrationError(
            f'{path} cannot be read as a numpy array: {type(exc).__name__}: {exc}'
        ) from exc
    if array.ndim != 4 or array.shape[1] != 3 or array.dtype.kind not in 'uf' or (
        array.dtype.kind == 'u' and array.dtype != np.uint8
    ):
        raise CalibrationError(
            f'{path} must be pictures (N, 3, H, W), RGB, uint8 or floats in 0..1; it is '
            f'{array.shape} {array.dtype}'
        )
    try:
        check_size(array.shape[3], array.shape[2])
    except ImageError as exc:
        raise CalibrationError(f'{path}: {exc}') from exc
    return array


def _check_magic(path: Path) -> None:
    """Raise CalibrationError for other files: numpy would also read archives and pickles."""
    try:
        with path.open('rb') as stream:
            start = stream.read(len(_NPY_MAGIC))
    except OSError as exc:
        raise CalibrationError(f'cannot read {path}: {exc.strerror}') from exc
    if start != _NPY_MAGIC:
        what = 'an .npz archive' if start.startswith(b'PK') else f'starts with {start.hex(" ")}'
        raise CalibrationError(
            f'{path} is not an .npy file of one array ({what}); write it with numpy.save'
        )


def _pixels(picture: NDArray[Any]) -> NDArray[np.uint8]:
    """Return RGB pixels (H, W, 3) of one picture (3, H, W)."""
    import numpy as np

    if picture.dtype != np.uint8:
        if not np.isfinite(picture).all() or picture.min() < 0 or picture.max() > 1:
            raise CalibrationError(
                f'floats must be within 0..1, they are {picture.min()}..{picture.max()}; divide '
                'by 255, and subtract no mean'
            )
        picture = np.rint(picture.astype(np.float32) * 255).astype(np.uint8)
    return np.ascontiguousarray(picture.transpose(1, 2, 0))
