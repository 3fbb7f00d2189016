"""The parameter `engines`: the list of engine/engine_list.py, whose files must be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yolov7_trt_ros.engine import engine_list
from yolov7_trt_ros.nodes.detector_parameters.settings import detector_options
from yolov7_trt_ros.nodes.detector_parameters.trusted_folders import TrustedFolders


def read_engines(
    values: Mapping[str, Any], trusted: TrustedFolders
) -> list[engine_list.NamedEngine]:
    """
    Return the engines that the parameter `engines` names, none if it is empty.

    Parameters
    ----------
    values
        The parameters of the node: what an engine does not say is as for `model`.
    trusted
        Where files may lie; what was named at the start may lie anywhere, as for `model`.

    Raises
    ------
    SettingError
        As `engine_list.read_engines`, or a file lies elsewhere.

    """
    text = str(values['engines'])
    is_from_start = trusted.is_from_start('engines', text)

    def path_of(path: str) -> str:
        return path if is_from_start else trusted.path_to_open('engines', path)

    return engine_list.read_engines(text, detector_options(values), path_of)
