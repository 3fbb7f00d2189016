"""CameraWatch: whether a camera still delivers live images, from its pictures and stamps."""

from __future__ import annotations

import threading
import zlib

import numpy as np

from yolov7_trt_ros.core.cameras.stamps import CameraStamps
from yolov7_trt_ros.core.cameras.state import CameraState, Verdict, WatchLimits
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.units import NS_PER_S

_ROWS, _COLUMNS = 12, 16
_BLACK, _WHITE = bytes(range(17)), bytes(range(250, 256))
"""Brightness of 0..255 that is ignored."""
LEAST_GAP_NS = NS_PER_S * 9 // 100
"""Between two pictures that are looked at: of 30 a second every third."""
_CHANNELS = {1: (0,), 3: (1, 0, 2), 4: (1, 0, 2)}
_BRIGHTNESS = {'uyvy': (1,), 'yuyv': (0,)}
"""Channels that show the brightness of a pixel, by channel order; alpha is left out."""


class CameraWatch:
    """
    Looks at the pictures and stamps of one topic; thread-safe.

    Pictures are compared, and judged black or white, by some 200 pixels all over them; before one
    is called frozen, all of its bytes are compared twice (by CRC-32). A picture of which all
    images since the last verdict were black or white is dark or bright.

    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pictures = _Pictures()
        self._stamps = CameraStamps()
        self._next_ns: int | None = None

    def note_picture(self, image: ImageView, limits: WatchLimits, now_ns: int) -> None:
        """Check a picture, unless one was checked shortly before or picture checks are off."""
        if self._next_ns is not None and now_ns < self._next_ns:
            return
        if limits.frozen_frames or limits.blank_share:
            self._next_ns = now_ns + LEAST_GAP_NS
            with self._lock:
                self._pictures.note(image, limits)

    def note_stamp(self, stamp_ns: int, clock_ns: int, now_ns: int) -> None:
        """
        Check the stamp of an image that has arrived.

        Parameters
        ----------
        stamp_ns
            Of its header; 0 if it has none.
        clock_ns
            Time of the clock for comparison when it arrived.
        now_ns
            The same moment in monotonic nanoseconds.

        """
        with self._lock:
            self._stamps.note(stamp_ns, clock_ns, now_ns)

    def note_silence(self) -> None:
        """Forget what was known of stamps and pictures: what comes next may be another camera."""
        with self._lock:
            self._pictures = _Pictures()
            self._stamps.forget()

    def note_pause(self) -> None:
        """Forget the pictures, of which none is looked at any more."""
        with self._lock:
            self._pictures = _Pictures()

    def judge(self, limits: WatchLimits, now_ns: int) -> Verdict:
        """Return what is amiss, by what was noted since the last verdict; silence apart."""
        with self._lock:
            frozen = self._pictures.frozen(limits) or self._stamps.still(limits)
            blank = self._pictures.blank(limits)
            late = self._stamps.late(limits, now_ns)
            facts = self._stamps.facts() | self._pictures.facts()
        for state, text in ((CameraState.FROZEN, frozen), blank, (CameraState.LATE, late)):
            if text:
                return Verdict(state, f'{state.value}: {text}', facts)
        return Verdict(CameraState.OK, '', facts)


class _Pictures:
    """What the pictures of one camera look like."""

    def __init__(self) -> None:
        self._sample = b''
        self._whole: int | None = None
        self._repeats = 0
        self._black = self._white = 0.0
        self._seen = self._dark = self._bright = 0
        self._blank = CameraState.OK

    def note(self, image: ImageView, limits: WatchLimits) -> None:
        channels = _BRIGHTNESS.get(image.encoding.order) or _CHANNELS[image.encoding.channels]
        sample, share = sample_pixels(image, channels[0]), limits.blank_share
        if sample == self._sample:
            self._repeats += 1
            self._compare_all(image, limits.frozen_frames)
        else:
            self._sample, self._repeats, self._whole = sample, 0, None
            self._black, self._white = _blank_shares(image, sample)
            if len(channels) > 1 and share and max(self._black, self._white) >= share:
                self._ask_other_colours(image, channels[1:])
        self._seen += 1
        self._dark += bool(share and self._black >= share)
        self._bright += bool(share and self._white >= share)

    def _ask_other_colours(self, image: ImageView, channels: tuple[int, ...]) -> None:
        """Take no picture of one colour for a black or a white one."""
        for channel in channels:
            black, white = _blank_shares(image, sample_pixels(image, channel))
            self._black, self._white = min(self._black, black), min(self._white, white)

    def _compare_all(self, image: ImageView, frozen_frames: int) -> None:
        """Compare all bytes half way to the limit and at it, and once as many frames after it."""
        if not frozen_frames or self._repeats % -(-frozen_frames // 2):
            return
        whole = zlib.crc32(np.ascontiguousarray(image.pixels).data)
        if self._whole is not None and whole != self._whole:
            self._repeats = 0
        self._whole = whole

    def frozen(self, limits: WatchLimits) -> str:
        if not limits.frozen_frames or self._repeats < limits.frozen_frames:
            return ''
        return f'the same picture came {self._repeats + 1} times'

    def blank(self, limits: WatchLimits) -> tuple[CameraState, str]:
        if self._seen:
            dark, bright = self._dark == self._seen, self._bright == self._seen
            self._blank = (
                CameraState.DARK if dark else CameraState.BRIGHT if bright else CameraState.OK
            )
        self._seen = self._dark = self._bright = 0
        if self._blank is CameraState.OK or not limits.blank_share:
            return CameraState.OK, ''
        if self._blank is CameraState.DARK:
            return self._blank, f'{self._black:.0%} of the picture is black'
        return self._blank, f'{self._white:.0%} of the picture is white'

    def facts(self) -> dict[str, str]:
        if not self._sample:
            return {}
        return {'black': f'{self._black:.0%}', 'white': f'{self._white:.0%}'}


def sample_pixels(image: ImageView, channel: int) -> bytes:
    """Return one channel of some 200 pixels all over an image, in rows."""
    rows = image.height // _ROWS | 1  # odd: of a mosaic, every colour
    columns = image.width // _COLUMNS | 1
    return image.pixels[rows // 2:image.height:rows, columns // 2::columns, channel].tobytes()


def _blank_shares(image: ImageView, sample: bytes) -> tuple[float, float]:
    """Return how much is black, and white; translating is quicker than numpy for so little."""
    if image.encoding.sample_bytes == 2:
        sample = sample[image.pixels.dtype.str.startswith('<')::2]  # the upper octets
    count = len(sample)
    black, white = sample.translate(None, _BLACK), sample.translate(None, _WHITE)
    return 1 - len(black) / count, 1 - len(white) / count
