"""Training images: letterboxed in memory, augmented on the training device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from torch.nn import functional

from yolov7_trt_ros.core.preprocess import BORDER_GREY
from yolov7_trt_ros.errors import CalibrationError, ImageError
from yolov7_trt_ros.temporary_folder import TemporaryFolder

_LARGEST_IN_MEMORY_BYTES = 6 << 30
_DEVICE_SHARE = 0.4
"""Part of a GPU's free memory that images may take."""
_GREY = BORDER_GREY / 255

Load = Callable[[int], NDArray[np.uint8]]
"""Image of an index, letterboxed: (3, size, size) RGB."""


class ImageCache:
    """
    Letterboxed images (N, 3, size, size) of uint8, on the device where they fit, else beside it.

    Decoding is done once: afterwards an epoch costs no more than the network. More than 6 GiB
    lie in a file in the temporary folder, which is gone when the cache is closed.

    Parameters
    ----------
    load, count
        Image of an index; called by several threads, for 0 to `count` - 1. An image that raises
        ImageError is left out.
    size
        Side of the images in pixels.
    device
        Where batches are wanted.
    threads
        That call `load`.
    progress
        Called after each image.

    Raises
    ------
    CalibrationError
        No image can be used.
    OSError
        The temporary folder has no room for them.

    """

    def __init__(
        self,
        load: Load,
        count: int,
        size: int,
        device: torch.device,
        *,
        threads: int = 1,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder: Any = None
        self.device = device
        self.failed: list[tuple[int, str]] = []
        images = self._allocate((count, 3, size, size))
        kept = self._fill(images, load, count, threads, progress)
        if not len(kept):
            reason = f': {self.failed[0][1]}' if self.failed else ''
            self.close()
            raise CalibrationError(f'expected pictures, none of {count} can be used{reason}')
        self.indices: NDArray[np.int64] = np.array(kept, np.int64)
        self._images = torch.from_numpy(images)
        if device.type == 'cuda':
            free, _ = torch.cuda.mem_get_info(device)
            if images.nbytes < free * _DEVICE_SHARE:
                self._images = self._images.to(device)

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, chosen: Tensor) -> Tensor:
        """Return images (B, 3, size, size), float32 0..1 on the device; `chosen` on the CPU."""
        rows = torch.from_numpy(self.indices)[chosen].to(self._images.device)
        images = self._images[rows]
        return images.to(self.device, non_blocking=True).float() / 255

    def close(self) -> None:
        """Drop the images; twice is harmless."""
        self._images = torch.empty(0)
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _allocate(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        size_bytes = int(np.prod(shape, dtype=np.int64))
        if size_bytes <= _LARGEST_IN_MEMORY_BYTES:
            return np.empty(shape, np.uint8)
        self._folder = TemporaryFolder('yolov7_trt_images_')
        path = Path(self._folder.name) / 'images'
        with path.open('wb') as file:  # on a full disk a sparse file would end the process
            os.posix_fallocate(file.fileno(), 0, size_bytes)
        return np.memmap(path, np.uint8, 'r+', shape=shape)

    def _fill(
        self, images: NDArray[np.uint8], load: Load, count: int, threads: int,
        progress: Callable[[], None],
    ) -> list[int]:
        def fill(index: int) -> str | None:
            try:
                images[index] = load(index)
            except ImageError as exc:
                return str(exc)
            return None

        kept = []
        with ThreadPoolExecutor(max(1, threads)) as pool:
            for index, error in enumerate(pool.map(fill, range(count))):
                if error is None:
                    kept.append(index)
                else:
                    self.failed.append((index, error))
                progress()
        return kept


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """
    How far images are changed, each by random amounts.

    Attributes
    ----------
    flip
        Probability of left and right exchanged.
    least_scale, most_scale
        Size of the image within the same frame; what is outside becomes grey.
    shift
        Most displacement, as a share of the side.
    colour
        Most change of brightness, contrast, saturation and of each channel, as a share.

    """

    flip: float = 0.5
    least_scale: float = 0.6
    most_scale: float = 1.5
    shift: float = 0.15
    colour: float = 0.3

    @classmethod
    def calm(cls) -> Augmentation:
        """Return flips alone: for the end, when the network settles on images as they are."""
        return cls(0.5, 1.0, 1.0, 0.0, 0.0)


def draw_placements(
    count: int, augmentation: Augmentation, generator: torch.Generator
) -> Tensor:
    """
    Return (count, 4) float32: x scale (negative: flipped), y scale, x shift, y shift.

    A point at x of the source, -1..1 across the frame, comes to x * scale + shift.

    """
    low, high = np.log([augmentation.least_scale, augmentation.most_scale])
    uniform = torch.rand(count, 4, generator=generator)
    scale = torch.exp(low + (high - low) * uniform[:, 0]).float()
    sign = torch.where(uniform[:, 1] < augmentation.flip, -1.0, 1.0)
    shifts = (uniform[:, 2:] * 2 - 1) * 2 * augmentation.shift
    return torch.cat([(scale * sign)[:, None], scale[:, None], shifts], 1)


def place(images: Tensor, placements: Tensor) -> Tensor:
    """Return images (B, 3, H, W) placed by `draw_placements`; grey elsewhere."""
    place_on = placements.to(images.device)
    theta = images.new_zeros(len(images), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = 1 / place_on[:, 0], 1 / place_on[:, 1]
    theta[:, :, 2] = -place_on[:, 2:] / place_on[:, :2]
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images - _GREY, grid, align_corners=False)
    return moved + _GREY


def recolour(images: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """Return images (B, 3, H, W) with other brightness, contrast, saturation and hues."""
    count = len(images)
    draws = (torch.rand(count, 6, 1, 1, generator=generator) * 2 - 1).to(images.device) * amount
    channels = 1 + draws[:, :3] / 2
    brightness, contrast, saturation = (draws[:, n:n + 1] for n in (3, 4, 5))
    grey = images.mean(1, keepdim=True)
    images = (grey + (images - grey) * (1 + saturation)) * channels
    return ((images - 0.5) * (1 + contrast) + 0.5 + brightness / 2).clamp(0, 1)


@dataclasses.dataclass(frozen=True)
class BatchOrder:
    """
    Which images come in which step: a function of seed and step alone, so that it can be resumed.

    Attributes
    ----------
    images, batch
        Number of images, and of those in a step; a remainder of an epoch is left out.
    seed
        Of everything random.

    """

    images: int
    batch: int
    seed: int = 0

    @property
    def steps_per_epoch(self) -> int:
        """At least one: where there are fewer images than a batch takes, all."""
        return max(1, self.images // self.batch)

    def chosen(self, step: int) -> Tensor:
        """Return the indices of a step's images, (B,) int64."""
        epoch, place_in_epoch = divmod(step, self.steps_per_epoch)
        order = torch.randperm(self.images, generator=self.generator(epoch, 0))
        return order[place_in_epoch * self.batch:(place_in_epoch + 1) * self.batch]

    def generator(self, number: int, purpose: int) -> torch.Generator:
        """Return a generator that belongs to a step or an epoch."""
        mixed = np.random.SeedSequence([self.seed, purpose, number]).generate_state(1)[0]
        return torch.Generator().manual_seed(int(mixed))


def batches_of(
    cache: ImageCache, count: int, batch: int, seed: int = 0
) -> Iterator[Tensor]:
    """Yield some images of a cache, as they are: the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(cache), generator=generator)[:count]
    for start in range(0, len(order), batch):
        yield cache.batch(order[start:start + batch])
