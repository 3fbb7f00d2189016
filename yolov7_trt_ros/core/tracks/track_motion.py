"""TrackMotion: positions of tracked boxes, by a Kalman filter of constant velocity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

STEP_S = 1 / 30
"""Step in seconds for which the noise is given: ByteTrack's numbers are for videos of 30 Hz."""

PLACE_SHARE, SPEED_SHARE = 1 / 20, 1 / 80
"""
Standard deviations of place and speed (of a step), in parts of the box's width and height.

ByteTrack has 1 / 160 for the latter: its cameras stand still. Ours turn with a robot.

"""
_FIRST_PLACE, _FIRST_SPEED = 2 * PLACE_SHARE, 10 * SPEED_SHARE
_NOISE = np.array([PLACE_SHARE**2, SPEED_SHARE**2]).reshape(2, 1, 1, 1)
_PLACE, _SPEED, _PLACE_VAR, _BOTH_VAR, _SPEED_VAR = range(5)


class TrackMotion:
    """
    The motion of n boxes, each by four values: centre, width and height in pixels.

    The filter of ByteTrack (https://arxiv.org/abs/2110.06864), in real time instead of frames,
    with width in place of the aspect ratio. Its noise is independent for the four values and so
    they never mix: the covariance of a box is four of 2x2, which are kept as three numbers each.

    Parameters
    ----------
    values
        (5, n, 2, 2): place, speed in steps, and the variances of place, of both, and of speed;
        of each the centre and the size, in x and y.

    """

    def __init__(self, values: FloatArray) -> None:
        self._values = values

    @classmethod
    def standing(cls, boxes_xyxy: NDArray[np.float32]) -> TrackMotion:
        """Return boxes (n, 4) that were seen once, of which no speed is known."""
        values = np.zeros((5, len(boxes_xyxy), 2, 2))
        values[_PLACE] = _middles(boxes_xyxy)
        squares = _squares(values[_PLACE])
        values[_PLACE_VAR] = squares * _FIRST_PLACE**2
        values[_SPEED_VAR] = squares * _FIRST_SPEED**2
        return cls(values)

    def boxes(self) -> NDArray[np.float32]:
        """Return left, top, right and bottom of each, (n, 4)."""
        centre, half = self._values[_PLACE, :, 0], self._values[_PLACE, :, 1] * 0.5
        return np.concatenate([centre - half, centre + half], axis=1, dtype=np.float32)

    def go_on(self, seconds: float, unseen: NDArray[np.bool_]) -> None:
        """Move all by a time; those that were not seen of late (n,) keep their size."""
        steps, values = seconds / STEP_S, self._values
        values[_SPEED, unseen, 1] = 0
        noise = _squares(values[_PLACE]) * (steps * _NOISE)
        move = np.array([
            [1, steps, 0, 0, 0],
            [0, 1, 0, 0, 0],
            [0, 0, 1, 2 * steps, steps * steps],
            [0, 0, 0, 1, steps],
            [0, 0, 0, 0, 1],
        ])
        self._values = (move @ values.reshape(5, -1)).reshape(values.shape)
        self._values[_PLACE_VAR::2] += noise

    def see(self, which: NDArray[np.intp], boxes_xyxy: NDArray[np.float32]) -> None:
        """Correct some by what was seen of them: boxes (k, 4)."""
        values = self._values.take(which, axis=1)
        place, place_var, both_var = values[_PLACE], values[_PLACE_VAR], values[_BOTH_VAR]
        shares = values[_PLACE_VAR:_SPEED_VAR] / (place_var + _squares(place) * PLACE_SHARE**2)
        values[:_PLACE_VAR] += shares * (_middles(boxes_xyxy) - place)
        values[_SPEED_VAR] -= shares[1] * both_var
        np.maximum(values[_SPEED_VAR], 0, out=values[_SPEED_VAR])  # rounding, after an hour
        values[_PLACE_VAR:_SPEED_VAR] *= 1 - shares[0]
        self._values[:, which] = values

    def put(self, which: NDArray[np.intp], boxes_xyxy: NDArray[np.float32]) -> None:
        """Set the position of some to where they were seen."""
        self._values[_PLACE, which] = _middles(boxes_xyxy)

    def chosen(self, which: NDArray[np.bool_]) -> TrackMotion:
        """Return some of them."""
        return TrackMotion(self._values[:, which])

    def joined(self, others: TrackMotion) -> TrackMotion:
        """Return these followed by others."""
        return TrackMotion(np.concatenate([self._values, others._values], axis=1))


def _middles(boxes_xyxy: NDArray[np.float32]) -> FloatArray:
    """Return the centres and sizes (n, 2, 2) of boxes."""
    corners = boxes_xyxy.reshape(-1, 2, 2).astype(np.float64)
    middles = np.empty_like(corners)
    np.add(corners[:, 0], corners[:, 1], middles[:, 0])
    middles[:, 0] *= 0.5
    np.subtract(corners[:, 1], corners[:, 0], middles[:, 1])
    return middles


def _squares(place: FloatArray) -> FloatArray:
    """Return (n, 1, 2) what the noise grows with: width and height squared, of a pixel or more."""
    sizes = np.maximum(place[:, 1:], 1.0)
    return sizes * sizes
