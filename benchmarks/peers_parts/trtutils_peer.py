"""
trtutils of release 0.6 as a peer, with the first of several settings with which it runs.

Release 0.6.1 gives arrays to cuda-bindings, which takes an array of one number for an address. The
number of detections of the NMS plugin is such an array: its 0 becomes the address 0, and the copy
fails with cudaErrorInvalidValue. trtutils' commit 570d058 passes addresses; `pass_addresses` does
the same here. With `unified_mem` nothing is copied.

"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
import traceback
from typing import Any

import numpy as np
from peers_parts.timed import Bgr, from_rows, NotRunError, PeerHere, SETTINGS

from yolov7_trt_ros.core.detections import Detections


@dataclasses.dataclass(frozen=True)
class Way:
    """
    A way to open trtutils' detector.

    Parameters
    ----------
    name
        For its row.
    keywords
        Beside the defaults.
    by_address
        How arrays are passed; None where nothing is copied.

    """

    name: str
    keywords: Mapping[str, bool]
    by_address: bool | None = True


COPYING = (
    Way('defaults', {}, by_address=False),
    Way('defaults, arrays by address as in its commit 570d058', {}),
    Way('pagelocked_mem=False, arrays by address', {'pagelocked_mem': False}),
)
MAPPED = (Way('unified_mem=True', {'unified_mem': True}, by_address=None),)

_passed = {'by_address': False}


class ByAddress:
    """cuda-bindings' runtime, whose copies get the addresses of arrays."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime

    def __getattr__(self, name: str) -> Any:
        """Return what the runtime has of that name."""
        return getattr(self._runtime, name)

    def cudaMemcpy(self, to: Any, source: Any, *rest: Any) -> Any:  # noqa: N802
        """Copy, and wait."""
        return self._runtime.cudaMemcpy(_address(to), _address(source), *rest)

    def cudaMemcpyAsync(self, to: Any, source: Any, *rest: Any) -> Any:  # noqa: N802
        """Copy on a stream."""
        return self._runtime.cudaMemcpyAsync(_address(to), _address(source), *rest)


def open_first(
    plan: str, preprocessor: str, ways: tuple[Way, ...], open_one: Callable[..., Any] | None = None
) -> PeerHere:
    """
    Return trtutils' detector, opened in the first way that runs.

    Its row tells the way, and of each way before it why it does not run.

    Raises
    ------
    ImportError
        trtutils is not installed.
    NotRunError
        It runs in no way.

    """
    open_one = open_one or _open
    refused = {}
    for way in ways:
        try:
            detector = open_one(plan, preprocessor, way)
        except ImportError:
            raise
        except NotRunError as exc:
            refused[way.name] = str(exc)
        except Exception as exc:  # noqa: BLE001  (CUDA's errors are RuntimeErrors, and others)
            refused[way.name] = f'{exc}{where_raised(exc)}'
            print(f'trtutils, {preprocessor}, {way.name}: {refused[way.name]}', flush=True)
        else:
            return PeerHere(_run_of(detector), {'settings': way.name, 'refused': refused})
    raise NotRunError('; '.join(f'{name}: {reason}' for name, reason in refused.items()))


def pass_addresses(memory: Any) -> None:
    """Let the copies of trtutils.core._memory get addresses, from now on."""
    if not isinstance(memory.cudart, ByAddress):
        memory.cudart = ByAddress(memory.cudart)
    _passed['by_address'] = True


def where_raised(error: Exception) -> str:
    """Return the innermost functions in which an error was raised."""
    frames = traceback.extract_tb(error.__traceback__)[-5:]
    return f' (in {" > ".join(frame.name for frame in frames)}, line {frames[-1].lineno})'


def _open(plan: str, preprocessor: str, way: Way) -> Any:
    """Open the detector and run it once."""
    from trtutils.core import _memory
    from trtutils.impls.yolo import YOLO

    if way.by_address:
        pass_addresses(_memory)
    elif way.by_address is False and _passed['by_address']:
        raise NotRunError('not tried: arrays are passed by address since another row needed it')
    detector = YOLO(
        plan, warmup=True, preprocessor=preprocessor, conf_thres=SETTINGS.score_threshold,
        **way.keywords,
    )
    detector.end2end(np.zeros((480, 640, 3), np.uint8))
    return detector


def _run_of(detector: Any) -> Callable[[Bgr], Detections]:
    def run(bgr: Bgr) -> Detections:
        found = detector.end2end(bgr)
        return from_rows(np.array([(*box, score, label) for box, score, label in found]), bgr)

    return run


def _address(value: Any) -> Any:
    return value.ctypes.data if isinstance(value, np.ndarray) else value
