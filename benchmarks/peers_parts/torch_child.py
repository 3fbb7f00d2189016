"""
Run a checkpoint in PyTorch for peers.py, which asks through stdin and stdout (messages.py).

    python -m peers_parts.torch_child --checkpoint tiny.pt --device cuda --way plain

It ends when its input does.

"""

from __future__ import annotations

import argparse
from collections.abc import Callable
import json
import os
from pathlib import Path
import platform
import sys
from typing import Any, BinaryIO

import numpy as np
from peers_parts.messages import Found, Ready, Row, Show, Taken, Time, to_line
from peers_parts.timed import PeerHere, run_detector

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.records import from_record

_WARM_UP = 3


def open_plain(args: argparse.Namespace) -> PeerHere:
    """Return PyTorch as it is usually run, by our TorchDetector; FP16 on a GPU."""
    import torch

    from yolov7_trt_ros.model.checkpoint.load import load_network
    from yolov7_trt_ros.model.torch_detector import TorchDetector

    torch.backends.cudnn.benchmark = True
    network = load_network(args.checkpoint)
    detector = TorchDetector(
        network, device=args.device, half=args.device != 'cpu', rectangular=False
    )
    return PeerHere(run_detector(detector), facts_of(detector.backend))


def open_compiled(args: argparse.Namespace) -> PeerHere:
    """Return PyTorch compiled, from the letterbox to the best rows on the device."""
    from peers_parts.torch_compiled import CompiledTorch

    from yolov7_trt_ros.model.checkpoint.load import load_network

    detector = CompiledTorch(load_network(args.checkpoint), args.device)
    return PeerHere(detector.detect, facts_of(detector.backend))


WAYS: dict[str, Callable[[argparse.Namespace], PeerHere]] = {
    'plain': open_plain, 'compiled': open_compiled,
}


def facts_of(backend: str) -> dict[str, str]:
    """Return what runs, with the versions of this interpreter."""
    import cv2

    return {
        'backend': backend, 'python': platform.python_version(), 'numpy': np.__version__,
        'opencv': cv2.__version__,
    }


def rows_of(found: Detections) -> tuple[Row, ...]:
    """Return detections as rows of a message."""
    boxes, scores = found.boxes_xyxy.tolist(), found.scores.tolist()
    return tuple(
        (*box, score, label)
        for box, score, label in zip(boxes, scores, found.class_ids.tolist(), strict=True)
    )


def answer(peer: PeerHere, question: Any) -> Found | Taken:
    """Return the answer to a question."""
    if 'frames' in question:
        asked = from_record(Show, question, 'the question')
        frames = np.load(asked.frames, allow_pickle=False)
        return Found(tuple(rows_of(found) for found in peer.show(list(frames))))
    order = from_record(Time, question, 'the question').order
    return Taken(tuple(peer.time(order)))


def serve(peer: PeerHere, questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer until there are no more questions."""
    answers.write(to_line(Ready(dict(peer.facts))))
    answers.flush()
    for line in questions:
        answers.write(to_line(answer(peer, json.loads(line))))
        answers.flush()


def main() -> None:
    """Open the checkpoint and answer."""
    parser = argparse.ArgumentParser(description='a peer of peers.py')
    parser.add_argument('--checkpoint', type=Path, required=True)
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--way', choices=WAYS, default='plain')
    args = parser.parse_args()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), 'wb')
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    peer = WAYS[args.way](args)
    peer.show([np.zeros((640, 640, 3), np.uint8)])
    peer.time([0] * _WARM_UP)
    serve(peer, sys.stdin.buffer, answers)


if __name__ == '__main__':
    main()
