"""
Read the layers of an engine from the builder's log.

If there is no GPU, TensorRT-RTX builds a plan that cannot be loaded there, and the builder's
words are all there is. They come in two forms, each in TensorRT's own names::

    Layer(CaskConvolution): conv + act, Tactic: 0x2, images[Float(1,3,64,64)] -> act[Half(...)]
    Name: __myl_CorrMulMax_myl0_3, LayerType: runtime_fusion, Inputs: [ { Name: ... }], ...

"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import re
from typing import Any

from yolov7_trt_ros.engine.trt.messages import Messages

_CLASSIC = re.compile(r'Layer\((?P<kind>\w+)\): (?P<name>.*), Tactic: (?P<tactic>[-\w]+), '
                      r'(?P<inputs>.*?) ?-> (?P<outputs>.*)')
_CLASSIC_TENSOR = re.compile(
    r'(?P<name>.+?)(?:\[(?P<dtype>\w+)\((?P<sides>[^()]*)\)\]|'
    r' \((?P<dtype_2>\w+)\[(?P<sides_2>[^]]*)\]\))(?:, |$)'
)
_LIST = r'\[(?P<{}>(?:[^\[\]]|\[[^\]]*\])*)\], '  # has lists of numbers inside
_LISTED = re.compile(
    r'Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: ' + _LIST.format('inputs')
    + '(?:Constants: ' + _LIST.format('constants') + ')?Outputs: ' + _LIST.format('outputs') +
    r'(?:.*?TacticName: (?P<tactic>.*?), )?.*?Metadata: ?(?P<metadata>.*)'
)
_LISTED_TENSOR = re.compile(
    r'\{ Name: (?P<name>.*?), (?:Location: \w+, )?Dimensions: \[(?P<sides>[^]]*)\].*?'
    r'Datatype: (?P<dtype>\w+), Format: (?P<format>.*?) \}'
)


class LayerLog:
    """The layers that a builder logs, in the order of its log."""

    def __init__(self) -> None:
        self.layers: list[dict[str, Any]] = []
        """Each with the keys of the engine inspector that the builder logs."""
        self._seen: set[str] = set()

    def read_message(self, text: str) -> None:
        """Take one message of TensorRT's log, of one or of many lines."""
        for line in text.splitlines():
            if line in self._seen:
                continue
            layer = parse_layer(line)
            if layer is not None:
                self._seen.add(line)
                self.layers.append(layer)


@contextlib.contextmanager
def recorded_layers(messages: Messages) -> Iterator[LayerLog]:
    """Record the logged layers while a plan is built."""
    log = LayerLog()
    messages.recorder = log.read_message
    try:
        yield log
    finally:
        messages.recorder = None


def parse_layer(line: str) -> dict[str, Any] | None:
    """Return the layer that a line of the log describes; None for other lines."""
    if found := _CLASSIC.fullmatch(line):
        return {
            'Name': found['name'], 'LayerType': found['kind'],
            'Inputs': _classic_tensors(found['inputs']),
            'Outputs': _classic_tensors(found['outputs']), 'TacticValue': found['tactic'],
        }
    if found := _LISTED.fullmatch(line):
        return {
            'Name': found['name'], 'LayerType': found['kind'],
            'Inputs': _listed_tensors(found['inputs']),
            'Constants': _listed_tensors(found['constants'] or ''),
            'Outputs': _listed_tensors(found['outputs']),
            'TacticName': found['tactic'] or '', 'Metadata': found['metadata'],
        }
    return None


def _classic_tensors(text: str) -> list[dict[str, Any]]:
    return [
        {'Name': found['name'], 'Dimensions': _sides(found['sides'] or found['sides_2'] or ''),
         'Datatype': found['dtype'] or found['dtype_2']}
        for found in _CLASSIC_TENSOR.finditer(text)
    ]


def _listed_tensors(text: str) -> list[dict[str, Any]]:
    return [
        {'Name': found['name'], 'Dimensions': _sides(found['sides']),
         'Datatype': found['dtype'], 'Format': found['format']}
        for found in _LISTED_TENSOR.finditer(text)
    ]


def _sides(text: str) -> list[int]:
    """Return `1,3,64,64` as numbers; the vector width of `16:8` is left out."""
    parts = [part.partition(':')[0].strip() for part in text.split(',')]
    return [int(part) for part in parts if re.fullmatch(r'-?\d+', part)]
