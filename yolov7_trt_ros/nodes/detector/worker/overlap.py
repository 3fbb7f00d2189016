"""Overlap: decide whether to upload the next frame while the GPU works on the current one."""

from __future__ import annotations

from yolov7_trt_ros.core.units import NS_PER_MS

_NEWEST = 0.1
"""Weight of the newest frame in the running means."""
_WORTH_IT = 1.4
_NO_MORE = 1.1
"""Ratio of GPU time to host time from which overlap starts, and down to which it continues."""


class Overlap:
    """
    Decides by the times of earlier frames; used by the worker's thread.

    Starting a frame while another is on the GPU delays the detections of the other by the host's
    work, unless the GPU is busy for longer anyway. So it pays only if the GPU takes longer than
    the host, with a margin; otherwise each frame is finished first.

    """

    def __init__(self) -> None:
        self._take_ns: float | None = None  # kept, for it is only seen where a frame waits
        self._begin_ns: float | None = None
        self._gpu_ns: float | None = None
        self._is_worth_it = False

    @property
    def is_worth_it(self) -> bool:
        """Whether to start the next frame, if one waits, before this one is finished."""
        return self._is_worth_it

    def note_take(self, take_ns: int) -> None:
        """Note how long it took to take a frame that waited."""
        self._take_ns = _mean(self._take_ns, take_ns)

    def note(self, begin_ns: int, wait_ns: int, beside_ns: int) -> None:
        """
        Note a frame.

        Parameters
        ----------
        begin_ns
            How long it took, once it was taken, until the GPU had its work.
        wait_ns
            How long the host then waited for the GPU.
        beside_ns
            What the host did in between for the next frame.

        """
        self._begin_ns = _mean(self._begin_ns, begin_ns)
        self._gpu_ns = _mean(self._gpu_ns, wait_ns + beside_ns)
        margin = _NO_MORE if self._is_worth_it else _WORTH_IT
        self._is_worth_it = self._gpu_ns > margin * self._host_ns()

    def text(self) -> str:
        """Return the text for diagnostics: `2, for the GPU takes 6.1 ms and the host 2.3 ms`."""
        if self._gpu_ns is None:
            return '1'
        return (
            f'{1 + self._is_worth_it}, for the GPU takes {self._gpu_ns / NS_PER_MS:.1f} ms and '
            f'the host {self._host_ns() / NS_PER_MS:.1f} ms'
        )

    def _host_ns(self) -> float:
        return (self._begin_ns or 0.0) + (self._take_ns or 0.0)


def _mean(mean: float | None, newest: int) -> float:
    return newest if mean is None else mean + _NEWEST * (newest - mean)
