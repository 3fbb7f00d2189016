"""Fit the weights of a cut network to the original, convolution by convolution; no training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses

import torch
from torch import nn, Tensor
from torch.nn import functional

from yolov7_trt_ros.model.network.architecture import Network
from yolov7_trt_ros.model.network.conv_cells import ConvCell, find_cells, set_affine
from yolov7_trt_ros.model.network.layer_table import IMAGE

POSITIONS_PER_IMAGE = 1024
RIDGE = 1e-4
"""Pull towards the weights before, as a share of the mean variance of the inputs."""


@torch.no_grad()
def fit_weights(
    cut: Network,
    original: Network,
    kept: Mapping[str, Tensor],
    batches: Sequence[Tensor],
    *,
    positions: int = POSITIONS_PER_IMAGE,
    seed: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> None:
    """
    Give each convolution of a cut network the weights that best replace the original's.

    LayerRow by row: from the channels that are left, as the rows before give them by now, the
    original's values before the activation are predicted by least squares. Both networks run once,
    side by side; only what a later row reads is kept.

    Parameters
    ----------
    cut
        Changed in place; batch norms keep their places with statistics of these images.
    original
        On the same device, in evaluation mode.
    kept
        `kept_channels` of the outputs: which of the original's channels a convolution still has.
    batches
        Some dozens of images (B, 3, H, W), 0..1, on the device.
    positions
        Output positions used per image and convolution.
    seed
        Of the choice of positions.
    progress
        Called after each row.

    """
    generator = torch.Generator().manual_seed(seed)
    cells = find_cells(cut)
    originals = find_cells(original)
    ours: list[dict[int, Tensor]] = [{IMAGE: images} for images in batches]
    theirs: list[dict[int, Tensor]] = [{IMAGE: images} for images in batches]
    last_uses = {source: index for index, row in enumerate(cut.rows) for source in row.sources}
    for index in range(len(cut.rows)):
        for name in [name for name in cells if name.startswith(f'model.{index}.')]:
            fit = _Fit(cells[name], originals[name], kept.get(name), positions, generator)
            for mine, their in zip(ours, theirs, strict=True):
                with fit.watching():
                    _run_row(cut, index, mine)
                    _run_row(original, index, their)
                fit.add()
            fit.solve()
        for network, values in ((cut, ours), (original, theirs)):
            for value in values:
                if index + 1 < len(cut.rows):
                    (value[index],) = _run_row(network, index, value)
                for source in [s for s in value if last_uses.get(s, -1) <= index]:
                    del value[source]
        progress()


def _run_row(network: Network, index: int, values: Mapping[int, Tensor]) -> list[Tensor]:
    """Return what a row gives for the values of the rows before: maps for the last, else one."""
    row = network.rows[index]
    inputs = [values[source] for source in row.sources]
    if row.kind == 'detect':
        return network.head(inputs)  # type: ignore[no-any-return]
    if row.kind == 'concat':
        return [torch.cat(inputs, 1)]
    if row.kind == 'add':
        return [inputs[0] + inputs[1]]
    return [network.model[index](inputs[0])]


def _pad(conv: nn.Conv2d) -> tuple[int, ...]:
    assert not isinstance(conv.padding, str)
    return conv.padding


@dataclasses.dataclass
class _Fit:
    """Normal equations of one convolution, summed over images."""

    cell: ConvCell
    original: ConvCell
    kept: Tensor | None
    positions: int
    generator: torch.Generator

    def __post_init__(self) -> None:
        self._seen: dict[str, Tensor] = {}
        self._squares: Tensor | None = None
        self._products: Tensor | None = None

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Note what goes into our convolution and what the original's gives."""
        def note_input(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            self._seen['inputs'] = args[0]

        def note_goal(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            self._seen['goal'] = output

        handles = (
            self.cell.conv.register_forward_pre_hook(note_input),
            self.original.output.register_forward_hook(note_goal),
        )
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def add(self) -> None:
        """Add what was seen of one batch."""
        conv = self.cell.conv
        inputs, goal = self._seen.pop('inputs'), self._seen.pop('goal')
        if self.kept is not None:
            goal = goal[:, self.kept.to(goal.device)]
        for image, wanted in zip(inputs, goal, strict=True):
            count = wanted.shape[1] * wanted.shape[2]
            chosen = torch.randperm(count, generator=self.generator)[: self.positions]
            chosen = chosen.to(image.device)
            patches = functional.unfold(
                image[None], conv.kernel_size, padding=_pad(conv), stride=conv.stride
            )[0][:, chosen]
            patches = torch.cat([patches, patches.new_ones(1, len(chosen))])
            wanted = wanted.flatten(1)[:, chosen]
            self._sum((patches @ patches.T).double(), (patches @ wanted.T).double())

    def _sum(self, squares: Tensor, products: Tensor) -> None:
        self._squares = squares if self._squares is None else self._squares + squares
        self._products = products if self._products is None else self._products + products

    def solve(self) -> None:
        """Give the convolution its new weights."""
        squares, products = self._squares, self._products
        assert squares is not None and products is not None
        before = self._weights_before()
        count = squares[-1, -1]
        variances = squares.diagonal()[:-1] - squares[-1, :-1].square() / count
        pull = RIDGE * variances.mean().clamp(min=1e-9)
        ridge = torch.full_like(squares.diagonal(), float(pull))
        ridge[-1] = 0
        weights = torch.linalg.solve(
            squares + torch.diag(ridge), products + ridge[:, None] * before
        )
        if not torch.isfinite(weights).all():
            return
        linear, bias = weights[:-1], weights[-1]
        mean = squares[-1, :-1] @ linear / count
        second = ((squares[:-1, :-1] @ linear) * linear).sum(0) / count
        variance = (second - mean.square()).clamp(min=0)
        shape = self.cell.conv.weight.shape
        set_affine(self.cell, linear.T.reshape(shape), bias, mean, variance)

    def _weights_before(self) -> Tensor:
        """Return the weights as (inputs + 1, outputs), batch norm folded in."""
        weight = self.cell.conv.weight.double().flatten(1).T
        bias = self.cell.conv.bias
        shift = weight.new_zeros(weight.shape[1]) if bias is None else bias.double()
        norm = self.cell.norm
        if norm is not None:
            assert norm.running_mean is not None and norm.running_var is not None
            gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
            weight, shift = weight * gain, (shift - norm.running_mean) * gain + norm.bias
        return torch.cat([weight, shift[None]])
