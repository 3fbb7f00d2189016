"""Parse the `format` of a sensor_msgs/CompressedImage."""

from __future__ import annotations

import dataclasses
import enum
import re

from yolov7_trt_ros.core.image import ENCODINGS, is_measurement, PixelLayout
from yolov7_trt_ros.core.plain_text import quoted
from yolov7_trt_ros.errors import ImageError

_BAYER = re.compile(r'bayer_(rggb|bggr|gbrg|grbg)(8|16)')
_PLAIN = re.compile(r'(mono|bgra?|rgba?)(8|16)|8uc[134]')
_YUV_NAMES = {
    name.lower() for name, encoding in ENCODINGS.items()
    if encoding.layout in (PixelLayout.YUV422, PixelLayout.YUV420_SEMI_PLANAR)
}
_TIFF = ('tiff', 'tif')  # whose samples image_transport does not convert
_NOT_ENCODINGS = {'', 'jpeg', 'jpg', 'png', 'tiff', 'tif', 'webp', 'avif', 'bmp'}


class Content(enum.Enum):
    """How the samples of a decoded picture are meant."""

    PICTURE = 'picture'
    """As in the file itself; the meaning of a single channel is unknown."""

    GREY_OR_COLOUR = 'grey or colour'
    """The same, and a single channel is grey."""

    RGB_AS_BGR = 'rgb as bgr'
    """Red and blue are exchanged: the sender compressed RGB samples as if they were BGR."""

    MOSAIC = 'mosaic'
    """A Bayer mosaic in a single channel."""


@dataclasses.dataclass(frozen=True)
class CompressedFormat:
    """
    The parts of `SOURCE; CODEC compressed TARGET`, lower case, '' if one is missing.

    image_transport writes it: `bgr8; jpeg compressed bgr8`, `bayer_rggb8; png compressed`,
    `16UC1; compressedDepth png`. Drivers that compress themselves write `jpeg` and the like.

    Attributes
    ----------
    text
        The original format text.
    source
        Encoding of the image that was compressed.
    codec
        Such as `jpeg`.
    target
        Encoding it was converted to before compression.

    """

    text: str
    source: str
    codec: str
    target: str

    @property
    def measurement(self) -> str:
        """Return the encoding of a depth image, '' if it is none."""
        for encoding in (self.source, self.target):
            if is_measurement(encoding):
                return encoding.upper()
        return self.codec if self.codec.startswith('compresseddepth') else ''

    @property
    def bayer_order(self) -> str:
        """Return the order of a mosaic, such as `rggb`; '' if it is none."""
        found = _BAYER.fullmatch(self._encoding)
        return found[1] if found else ''

    @property
    def is_grey_16(self) -> bool:
        """Whether the format declares 16 bits a pixel to be a grey picture."""
        return self._encoding == 'mono16' or bool(self.bayer_order)

    def content(self) -> Content:
        """
        Return how the decoded samples are meant.

        Raises
        ------
        ImageError
            They are depth, or another measurement.

        """
        if self.measurement:
            raise ImageError(
                f'compressed image of format {quoted(self.text)} is a depth image or another '
                f'measurement ({self.measurement}), no picture; choose a colour or grey topic'
            )
        if self.bayer_order:
            return Content.MOSAIC
        if self._encoding.startswith('rgb') and (self.target or self.codec in _TIFF):
            return Content.RGB_AS_BGR
        known = self._encoding in _NOT_ENCODINGS or _PLAIN.fullmatch(self._encoding)
        return Content.GREY_OR_COLOUR if known else Content.PICTURE

    def unknown_channel(self) -> ImageError:
        """Return the error for a single channel that could be anything."""
        kind = 'packed YUV' if self._encoding in _YUV_NAMES else 'an unknown encoding'
        return ImageError(
            f'compressed image of format {quoted(self.text)} holds {kind} in a single channel'
        )

    @property
    def _encoding(self) -> str:
        """Return the encoding of what was compressed."""
        return self.target or self.source


def parse_format(text: str) -> CompressedFormat:
    """Take a format apart; whatever it is, this finds a meaning."""
    source, separator, rest = (part.strip().lower() for part in text[:200].partition(';'))
    if not separator:  # a codec alone, or, from careless senders, an encoding alone
        name = (source.removeprefix('image/').split() or [''])[0]
        if name in _NOT_ENCODINGS or name.startswith('compresseddepth'):
            return CompressedFormat(text, '', name, '')
        return CompressedFormat(text, name, '', '')
    codec = (rest.split() or [''])[0]
    target = (rest.partition('compressed ')[2].split() or [''])[0]
    return CompressedFormat(text, source, codec, target)
