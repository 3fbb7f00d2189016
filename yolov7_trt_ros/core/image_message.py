"""From an image message to an ImageView, by its fields: rclpy's and rosbags' messages alike."""

from __future__ import annotations

from typing import Any

from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.preprocess import decode_compressed
from yolov7_trt_ros.errors import ImageError


def view_message(message: Any) -> ImageView:
    """
    View a sensor_msgs/Image without copying, or decode a sensor_msgs/CompressedImage.

    Parameters
    ----------
    message
        Anything with the fields of one of the two; a `format` makes it a compressed one.

    Raises
    ------
    ImageError
        The message's fields do not fit together, or the data is damaged.

    """
    if hasattr(message, 'format'):
        if 'compressedDepth' in message.format:
            raise ImageError(
                f'compressed image of format {message.format!r} is a depth image; '
                'choose a colour image topic'
            )
        return decode_compressed(message.data)
    return ImageView.from_buffer(
        message.data,
        width=message.width,
        height=message.height,
        encoding=message.encoding,
        step=message.step,
        big_endian=bool(message.is_bigendian),
    )
