"""Refuse options of pictures, videos and bags that none of the inputs has a use for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from yolov7_trt_ros.cli.effects.given_options import refuse_without_effect
from yolov7_trt_ros.errors import InputError


def check_source_arguments(
    args: argparse.Namespace, paths: Sequence[str], *, every_picture: bool
) -> None:
    """
    Refuse options of `add_source_arguments` that have an effect on none of the inputs.

    Parameters
    ----------
    args
        The parsed arguments.
    paths
        Inputs; those that cannot be recognised may be of any kind.
    every_picture
        Whether the verb uses all pictures, whatever `--every` is.

    Raises
    ------
    SettingError
        Such an option was given.

    """
    from yolov7_trt_ros.replay.file_kinds import kind_of, local_path
    from yolov7_trt_ros.replay.streams import is_stream

    kinds: set[str] = set()
    for text in paths:
        if is_stream(text) and not Path(text).is_file():
            kinds.add('stream')
            continue
        try:
            path = local_path(text)
            kinds.add('folder' if path.is_dir() and kind_of(path) == 'pictures' else kind_of(path))
        except InputError:
            return
    sequences = {'video', 'bag'} | (set() if every_picture else {'pictures', 'folder'})
    for flag, wanted, named in (
        ('--topics', {'bag'}, 'no input is a bag'),
        ('--recursive', {'folder'}, 'no input is a folder of pictures'),
        ('--every', sequences, 'no input is a video or a bag'),
    ):
        if not kinds & wanted:
            refuse_without_effect(args, [flag], f'here: {named}')
