"""SettingsUpload: uploads DetectSettings for the kernels when they change."""

from __future__ import annotations

import collections
from typing import Any

import pycuda.driver as cuda

from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.forms.model_spec import OutputLayout
from yolov7_trt_ros.engine.device.memory import PinnedBuffer
from yolov7_trt_ros.engine.gpu.device_records import SETTINGS, settings_record

KEPT = 8
"""Settings whose record is kept: topics with settings of their own take turns."""


class SettingsUpload:
    """
    One record on the device, and page-locked copies of those that were there of late.

    A change is copied in the order of the stream, behind the frames that are in flight: nothing
    waits for it, unless more than `KEPT` settings take turns.

    Parameters
    ----------
    layout
        Layout of the model outputs, which determines how objectness is stored.
    stream
        That of the frames.

    """

    def __init__(self, layout: OutputLayout, stream: Any) -> None:
        self._layout, self._stream = layout, stream
        self._pinned = PinnedBuffer(SETTINGS.itemsize * KEPT)
        self._records = self._pinned.bytes[: SETTINGS.itemsize * KEPT].view(SETTINGS)
        self._places: collections.OrderedDict[DetectSettings, int] = collections.OrderedDict()
        self._sent: DetectSettings | None = None

    def send(self, settings: DetectSettings, address: int) -> None:
        """Have the frames from now on read these settings, at this address of the device."""
        if settings is self._sent:
            return
        if settings != self._sent:
            place = self._place_of(settings)
            cuda.memcpy_htod_async(address, self._records[place:place + 1], self._stream)
        self._sent = settings

    def free(self) -> None:
        """Free the page-locked memory."""
        self._pinned.free()

    def _place_of(self, settings: DetectSettings) -> int:
        """Return where the record of settings is, written anew if it is not."""
        place = self._places.pop(settings, None)
        if place is None:
            place = len(self._places)
            if place == KEPT:
                self._stream.synchronize()  # the record of the oldest may still be read
                _, place = self._places.popitem(last=False)
            self._records[place] = settings_record(settings, self._layout)
        self._places[settings] = place
        return place
