"""Models for updates.py: good ones, and every kind of bad one, made from the embedded model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import json
import os
from pathlib import Path
import shutil
from typing import Any

import numpy as np
from numpy.typing import NDArray
import onnx
from onnx import helper, numpy_helper, TensorProto

from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.engine.options import DEFAULT_MODEL

Frames = Sequence[NDArray[np.uint8]]

_WORK_LAYERS, _WORK_CHANNELS = 12, 24


def good(path: Path, seed: int = 0) -> Path:
    """Write a model that differs from the embedded one in the last digits of its weights."""
    model = _load()
    rng = np.random.default_rng(seed)

    def touch(values: np.ndarray) -> np.ndarray:
        return values * (1 + rng.uniform(-1e-4, 1e-4, values.shape))

    _change_weights(model, '.bias', touch)
    return _save(model, path)


def write_bad(folder: Path, frames: Frames) -> dict[str, Path]:
    """
    Write bad candidates; returns them by what is wrong with each.

    Parameters
    ----------
    folder
        Where to.
    frames
        The images that the cameras send; one kind fails on about half of those.

    """
    folder.mkdir(exist_ok=True)
    return {kind: make(folder / f'{kind.replace(" ", "_")}.onnx', frames)
            for kind, make in _BAD.items()}


# ---- files that are no models


def _bytes(data: bytes) -> Callable[..., Path]:
    def make(path: Path, _: Any) -> Path:
        path.write_bytes(data)
        return path

    return make


def _truncated(part: float) -> Callable[..., Path]:
    def make(path: Path, _: Any) -> Path:
        data = find_model(DEFAULT_MODEL).read_bytes()
        path.write_bytes(data[:int(len(data) * part)])
        return path

    return make


def _absent(path: Path, _: Any) -> Path:
    return path


def _dangling(path: Path, _: Any) -> Path:
    path.symlink_to(path.with_name('nowhere.onnx'))
    return path


def _folder(path: Path, _: Any) -> Path:
    path.mkdir()
    return path


def _pipe(path: Path, _: Any) -> Path:
    os.mkfifo(path)
    return path


def _unreadable_plan(path: Path, _: Any) -> Path:
    """Return a plan of another machine by its manifest, if TensorRT is available to check it."""
    plan = path.with_suffix('.plan')
    plan.write_bytes(b'ftrt' + bytes(1000))
    return plan


def _vanishing(path: Path, _: Any) -> Path:
    """Return a model that updates.py removes right after it was named."""
    return Path(shutil.copy(find_model(DEFAULT_MODEL), path))


# ---- models that are no detectors, or of another kind


def _classifier(path: Path, _: Any) -> Path:
    weights = np.zeros((10, 3), np.float32)
    nodes = [
        helper.make_node('ReduceMean', ['images'], ['mean'], axes=[2, 3], keepdims=0),
        helper.make_node('Gemm', ['mean', 'weights'], ['scores'], transB=1),
    ]
    graph = helper.make_graph(
        nodes, 'classifier',
        [helper.make_tensor_value_info('images', TensorProto.FLOAT, [1, 3, 160, 160])],
        [helper.make_tensor_value_info('scores', TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(weights, 'weights')],
    )
    return _save(helper.make_model(
        graph, opset_imports=[helper.make_opsetid('', 13)], ir_version=8
    ), path)


def _of_graph(change: Callable[[Any, Frames], None]) -> Callable[..., Path]:
    def make(path: Path, frames: Frames) -> Path:
        model = _load()
        change(model, frames)
        return _save(model, path)

    return make


def _fixed_batch(model: Any, _: Any) -> None:
    for value in (*model.graph.input, *model.graph.output):
        dim = value.type.tensor_type.shape.dim[0]
        dim.ClearField('dim_param')
        dim.dim_value = 4


def _newer(model: Any, _: Any) -> None:
    model.ir_version = 99


def _named(names: Callable[[list[str]], list[str]]) -> Callable[[Any, Any], None]:
    def change(model: Any, _: Any) -> None:
        for entry in model.metadata_props:
            if entry.key == 'names':
                entry.value = json.dumps(names(json.loads(entry.value)))

    return change


# ---- detectors that are no good


def _weights(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Any, Any], None]:
    return lambda model, _: _change_weights(model, '.77.', change)


def _blind(model: Any, _: Any) -> None:
    """Be sure nowhere that there is an object: the objectness of every anchor is low."""
    def dim(values: np.ndarray) -> np.ndarray:
        if values.ndim == 1:
            values.reshape(-1, 85)[:, 4] -= 30
        return values

    _change_weights(model, '.77.', dim)


def _nan_on_some(model: Any, frames: Frames) -> None:
    """Return NaN for dark images, which are about half of those sent."""
    means = [float(each.mean()) / 255 for each in frames]
    limit = (min(means) + max(means)) / 2
    _add_to_input(model, [
        helper.make_node('ReduceMean', ['images'], ['bright'], keepdims=0),
        helper.make_node('Less', ['bright', 'limit'], ['too_dark']),
        helper.make_node('Where', ['too_dark', 'nan', 'nothing'], ['added']),
    ], limit=limit, nan=np.nan, nothing=0.0)


def _inverted(model: Any, _: Any) -> None:
    """See every image as its negative, as with wrong preprocessing."""
    _add_to_input(model, [
        helper.make_node('Mul', ['images', 'minus_two'], ['less']),
        helper.make_node('Add', ['less', 'plus_one'], ['added']),
    ], minus_two=-2.0, plus_one=1.0)


def _slow(model: Any, _: Any) -> None:
    """Compute more than the network itself does, and add nothing of it."""
    weights = {}
    nodes = []
    last, channels = 'images', 3
    for index in range(_WORK_LAYERS):
        weights[f'work{index}.weight'] = np.full(
            (_WORK_CHANNELS, channels, 3, 3), 1e-3, np.float32
        )
        nodes.append(helper.make_node(
            'Conv', [last, f'work{index}.weight'], [f'work{index}'], pads=[1, 1, 1, 1]
        ))
        last, channels = f'work{index}', _WORK_CHANNELS
    nodes += [
        helper.make_node('ReduceMean', [last], ['work'], keepdims=0),
        helper.make_node('Mul', ['work', 'nothing'], ['added']),
    ]
    _add_to_input(model, nodes, nothing=0.0, **weights)


def _add_to_input(model: Any, nodes: list[Any], **constants: Any) -> None:
    """Add what `nodes` call `added` to the images, before the network."""
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == 'images':
                node.input[index] = 'more_images'
    network = list(model.graph.node)
    del model.graph.node[:]
    added = helper.make_node('Add', ['images', 'added'], ['more_images'])
    model.graph.node.extend([*nodes, added, *network])
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.float32), name)
        for name, value in constants.items()
    )


def _change_weights(model: Any, part: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    for index, each in enumerate(model.graph.initializer):
        if part in each.name:
            values = numpy_helper.to_array(each)
            changed = change(values.astype(np.float32)).astype(values.dtype)
            model.graph.initializer[index].CopyFrom(numpy_helper.from_array(changed, each.name))


def _load() -> Any:
    return onnx.load(str(find_model(DEFAULT_MODEL)))


def _save(model: Any, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


_BAD: dict[str, Callable[..., Path]] = {
    'empty file': _bytes(b''),
    'web page': _bytes(b'<!DOCTYPE html><html><title>404</title></html>'),
    'LFS pointer': _bytes(b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n'),
    'random bytes': _bytes(np.random.default_rng(0).bytes(100_000)),
    'half a file': _truncated(0.5),
    'nearly a whole file': _truncated(0.9999),
    'no such file': _absent,
    'link to nowhere': _dangling,
    'folder': _folder,
    'pipe': _pipe,
    'vanishing file': _vanishing,
    'foreign plan': _unreadable_plan,
    'classifier': _classifier,
    'fixed batch': _of_graph(_fixed_batch),
    'newer format': _of_graph(_newer),
    'other classes': _of_graph(_named(lambda names: [f'part {index}' for index in range(80)])),
    'classes in another order': _of_graph(_named(lambda names: names[1:] + names[:1])),
    'NaN weights': _of_graph(_weights(lambda values: values * np.nan)),
    'NaN on some frames': _of_graph(_nan_on_some),
    'finds nothing': _of_graph(_blind),
    'random weights': _of_graph(_weights(
        lambda values: np.random.default_rng(1).permutation(values.ravel()).reshape(values.shape)
    )),
    'negatives': _of_graph(_inverted),
    'slow': _of_graph(_slow),
}
