"""Convert image messages of rclpy or rosbags to an ImageView."""

from __future__ import annotations

from typing import Any

from yolov7_trt_ros.core.defaults import DEFAULT_MAX_DECODED_PIXELS
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.preprocess import decode_compressed


def view_message(
    message: Any, *, max_pixels: int = DEFAULT_MAX_DECODED_PIXELS
) -> ImageView:
    """
    View a sensor_msgs/Image without copying, or decode a sensor_msgs/CompressedImage.

    Parameters
    ----------
    message
        Anything with the fields of one of the two; a `format` makes it a compressed one.
    max_pixels
        Most width x height that a compressed image is decoded to.

    Raises
    ------
    ImageError
        The message's fields do not fit together, the data is damaged, or it is depth.

    """
    if hasattr(message, 'format'):
        return decode_compressed(message.data, message.format, max_pixels=max_pixels)
    return ImageView.from_buffer(
        message.data,
        width=message.width,
        height=message.height,
        encoding=message.encoding,
        step=message.step,
        big_endian=bool(message.is_bigendian),
        memory=getattr(message, 'memory', None),
    )
