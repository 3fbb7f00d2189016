"""LabelInfo: class names as a message, where vision_msgs has it (4.0 on, Humble)."""

from __future__ import annotations

from typing import Any

import vision_msgs.msg


def label_info_msg(class_names: tuple[str, ...], stamp: Any, threshold: float) -> Any | None:
    """
    Return a LabelInfo message, None where vision_msgs is too old to have one.

    Parameters
    ----------
    class_names
        Of the model.
    stamp
        builtin_interfaces/Time.
    threshold
        The score threshold at configure.

    """
    if not hasattr(vision_msgs.msg, 'LabelInfo'):
        return None
    message = vision_msgs.msg.LabelInfo(threshold=threshold)
    message.header.stamp = stamp
    message.class_map = [
        vision_msgs.msg.VisionClass(class_id=index, class_name=name)
        for index, name in enumerate(class_names)
    ]
    return message
