"""Network: a YOLOv7 detector in deploy form, built from its layer table and weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import copy

import torch
from torch import nn, Tensor

from yolov7_trt_ros.core.class_names import COCO80
from yolov7_trt_ros.core.forms.model_spec import Anchors, STRIDE_SETS
from yolov7_trt_ros.errors import CheckpointError, ExportError
from yolov7_trt_ros.model.network.blocks import build_block, ConvBlock, Down, Head, Pyramid
from yolov7_trt_ros.model.network.fold import deploy_form, SourceModel
from yolov7_trt_ros.model.network.layer_table import check_rows, head_strides, IMAGE, LayerRow

ANCHORS_PER_MAP = 3
_WEIGHT_DIMENSIONS = 4


class Network(nn.Module):
    """
    A detector that gives raw maps; `decode_maps` makes boxes and scores of them.

    Parameters
    ----------
    rows
        The layer table, in deploy form: no `rep_conv`, as many head maps as anchors.
    state
        Weights under the published names (`model.<row>.conv.weight`). They decide how many
        channels each layer has, so a pruned network needs no other description.
    anchors
        Width and height in network pixels, per map.
    class_names
        One per class; None for COCO's where there are 80, else numbered ones.

    Raises
    ------
    CheckpointError
        The weights do not fit the table, each other, or the names.

    """

    def __init__(
        self,
        rows: Sequence[LayerRow],
        state: Mapping[str, Tensor],
        anchors: Anchors,
        class_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.rows = check_rows(rows)
        self.strides = head_strides(self.rows)
        self.anchors = anchors
        with torch.device('meta'):  # without memory: the state decides what is in it
            self.model = nn.ModuleList(
                build_block(row, state, f'model.{index}.') for index, row in enumerate(self.rows)
            )
        self._check_channels()
        self.num_classes = self._count_classes()
        self.class_names = _choose_names(class_names, self.num_classes)
        self.to_empty(device='cpu')
        _load(self, state)
        self._finished = _last_uses(self.rows)
        self.eval()

    @property
    def stride(self) -> int:
        """Images must be multiples of it, in height and width."""
        return self.strides[-1]

    @property
    def head(self) -> Head:
        """Return the last layer."""
        head = self.model[-1]
        assert isinstance(head, Head)  # check_rows guarantees it
        return head

    def forward(self, images: Tensor) -> list[Tensor]:
        """
        Return the raw maps of images.

        Parameters
        ----------
        images
            (B, 3, H, W), RGB, 0..1.

        Returns
        -------
        maps
            (B, 3 * (5 + classes), H / stride, W / stride) each, smallest stride first; logits.

        """
        return self._run_rows(images, lambda block: block)

    def exact_maps(self, images: Tensor) -> list[Tensor]:
        """Return what `forward` would in float64; one layer at a time has weights of that type."""
        return self._run_rows(images.double(), lambda block: copy.deepcopy(block).double())

    def _run_rows(
        self, images: Tensor, prepared: Callable[[nn.Module], nn.Module]
    ) -> list[Tensor]:
        values: dict[int, Tensor] = {IMAGE: images}
        for index, (row, block) in enumerate(zip(self.rows, self.model, strict=True)):
            inputs = [values[source] for source in row.sources]
            if row.kind == 'detect':
                break
            values[index] = run_row(row, prepared(block), inputs)
            for source in self._finished[index]:
                del values[source]
        maps: list[Tensor] = prepared(self.head)(inputs)
        return maps

    def _check_channels(self) -> None:
        """Check that each layer takes what its sources give."""
        outputs: list[int] = []
        for index, (row, block) in enumerate(zip(self.rows, self.model, strict=True)):
            inputs = [3 if source == IMAGE else outputs[source] for source in row.sources]
            given, channels = sum(inputs), sum(inputs)
            wanted = given
            if isinstance(block, (ConvBlock, Pyramid, Down)):
                wanted, channels = block.channels
            elif row.kind == 'add':
                given, wanted, channels = inputs[0], inputs[1], inputs[0]
            elif row.kind == 'reorg':
                channels = 4 * given
            elif row.kind == 'detect':
                _check_head(index, self.head, inputs)
            if given != wanted:
                raise CheckpointError(
                    f'layer {index} ({row.kind}) takes {wanted} channels, but the layers '
                    f'{row.sources} that it reads give {given}: the weights do not belong to '
                    'this table of layers'
                )
            outputs.append(channels)

    def _count_classes(self) -> int:
        widths = [layer.out_channels for layer in self.head.layers]
        counts = set(widths)
        values, rest = divmod(counts.pop(), ANCHORS_PER_MAP)
        if counts or rest or values < 6:
            raise CheckpointError(
                f'the maps of the head have {", ".join(map(str, widths))} channels, expected '
                f'{ANCHORS_PER_MAP} x (5 + classes) in each'
            )
        if self.strides not in STRIDE_SETS:
            raise CheckpointError(
                f'the head reads maps of the strides {self.strides}, expected '
                + ' or '.join(map(str, STRIDE_SETS))
            )
        if [len(sizes) for sizes in self.anchors] != [ANCHORS_PER_MAP] * len(self.strides):
            raise CheckpointError(
                f'the network has {len(self.strides)} maps, expected {ANCHORS_PER_MAP} anchors '
                f'for each, found {[len(sizes) for sizes in self.anchors]}'
            )
        return values - 5


def decode_maps(network: Network, maps: Sequence[Tensor]) -> Tensor:
    """
    Decode raw maps to rows.

    Returns
    -------
    rows
        (B, rows, 5 + classes): centre x, centre y, width and height in network pixels, then
        objectness and classes, 0..1. Ordered by map, anchor, y, x.

    """
    levels = zip(maps, network.strides, network.anchors, strict=True)
    return torch.cat([_decode_map(raw, stride, sizes) for raw, stride, sizes in levels], 1)


def _decode_map(
    raw: Tensor, stride: int, sizes_wh: tuple[tuple[float, ...], ...]
) -> Tensor:
    batch, _, height, width = raw.shape
    unit = raw.view(batch, len(sizes_wh), -1, height, width).permute(0, 1, 3, 4, 2).sigmoid()
    axes = [torch.arange(n, device=raw.device, dtype=raw.dtype) for n in (width, height)]
    cells = torch.stack(torch.meshgrid(*axes, indexing='xy'), -1)
    anchors = torch.tensor(sizes_wh, device=raw.device, dtype=raw.dtype)[:, None, None]
    centres = (unit[..., :2] * 2 - 0.5 + cells) * stride
    sizes = (unit[..., 2:4] * 2) ** 2 * anchors
    return torch.cat([centres, sizes, unit[..., 4:]], -1).flatten(1, 3)


def run_row(row: LayerRow, block: nn.Module, inputs: list[Tensor]) -> Tensor:
    """Return what a row other than the head makes of its inputs."""
    if row.kind == 'concat':
        return torch.cat(inputs, 1)
    if row.kind == 'add':
        return inputs[0] + inputs[1]
    output: Tensor = block(inputs[0])
    return output


def _check_head(index: int, head: Head, inputs: list[int]) -> None:
    wanted = [layer.in_channels for layer in head.layers]
    if wanted != inputs:
        raise CheckpointError(
            f'layer {index} (detect) takes {wanted} channels, but the layers that it reads give '
            f'{inputs}: the weights do not belong to this table of layers'
        )


def _choose_names(names: Sequence[str] | None, num_classes: int) -> tuple[str, ...]:
    if names is None:
        if num_classes == len(COCO80):
            return COCO80
        return tuple(f'class_{index}' for index in range(num_classes))
    if len(names) != num_classes:
        raise CheckpointError(
            f'the network has {num_classes} classes, but there are {len(names)} class names'
        )
    return tuple(names)


def _load(network: Network, state: Mapping[str, Tensor]) -> None:
    """Load the weights; what the network has no place for is refused."""
    counters = {
        name: torch.tensor(0) for name in network.state_dict() if name.endswith('batches_tracked')
    }
    given = {name: value for name, value in state.items() if name not in counters}
    try:
        network.load_state_dict({**counters, **given})
    except RuntimeError as exc:
        reason = '; '.join(str(exc).split('\n')[1:4]).strip()
        raise CheckpointError(f'the weights do not fit the table of layers: {reason}') from exc


def _last_uses(rows: Sequence[LayerRow]) -> list[list[int]]:
    """Return for each row the rows that nothing later reads."""
    last = {source: index for index, row in enumerate(rows) for source in row.sources}
    return [[source for source, user in last.items() if user == index]
            for index in range(len(rows))]


def conv_blocks(network: Network) -> dict[str, ConvBlock]:
    """Return every convolution block of a network by its name, in the order they run in."""
    return {
        name: module for name, module in network.named_modules() if isinstance(module, ConvBlock)
    }


def has_batch_norms(network: Network) -> bool:
    """Tell whether a network has batch norms beside its convolutions."""
    return any(block.bn is not None for block in conv_blocks(network).values())


def fold_batch_norms(network: Network) -> Network:
    """Return a network that computes the same without batch norms; a new one, on the CPU."""
    state = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    source = SourceModel(network.rows, state, network.anchors, network.class_names)
    folded = deploy_form(source)
    return Network(folded.rows, folded.state, folded.anchors, folded.class_names)


def round_weights(network: Network) -> Network:
    """
    Return a network whose convolution weights are those that float16 can hold; a new one.

    Raises
    ------
    ExportError
        A weight is beyond float16.

    """
    rounded = copy.deepcopy(network)
    for name, weight in rounded.named_parameters():
        if weight.dim() == _WEIGHT_DIMENSIONS:
            weight.data = weight.detach().half().float()
            if not bool(torch.isfinite(weight).all()):
                raise ExportError(
                    f'{name} has values beyond the range of float16; export it without '
                    '--half-weights'
                )
    return rounded
