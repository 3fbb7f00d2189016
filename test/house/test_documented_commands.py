"""Every command of README and quickstart is run here, or stands in a list with what it needs."""

from __future__ import annotations

from collections.abc import Sequence
import json
from pathlib import Path
import shutil

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
import skimage.data
from test_docs import arguments_of_ours, REPOSITORY, shell_commands

from yolov7_trt_ros.cli.main import main
from yolov7_trt_ros.replay.bags.rosbags_adapter import load_typestore

ELSEWHERE = {
    'make demo': 'the nodes: test/nodes/test_demo.py runs it, test/house/test_make.py its recipe',
    'make test': 'it is what runs this',
    'sudo apt': 'root, and a machine with ROS 2',
    'pip install': 'an index; test/house/test_packaging.py installs the package',
    'python3 -m venv': 'an index, for what follows it',
    '. .gpu/bin/activate': 'the environment of the line before',
    'colcon build': 'colcon',
    'source install/setup.bash': 'what colcon has built',
    'ros2 launch': 'ros2cli and launch; test/house/test_docs.py checks the arguments',
    'ros2 lifecycle': 'ros2cli; test/nodes does the same by services',
    'ros2 topic': 'ros2cli; test/nodes does the same by subscriptions',
    'ros2 param': 'ros2cli; test/house/test_docs.py checks the parameters',
    'yolov7_trt export': 'PyTorch; test/cli/test_torch_cli_export.py runs it',
    'yolov7_trt build': 'a GPU with TensorRT',
    'yolov7_trt detect -m tiny.plan': 'a GPU with TensorRT',
}
"""How commands begin that are not run here, and what they need."""
STREAM = 'rtsp://camera/1'
"""Left out of its command; test/replay/test_streams.py has a camera."""
COMMANDS = [
    words for document in ('README.md', 'docs/quickstart.md')
    for words in shell_commands(REPOSITORY / document)
]


def is_elsewhere(words: Sequence[str]) -> bool:
    return any(words[:len(start.split())] == start.split() for start in ELSEWHERE)


def commands_to_run() -> list[list[str]]:
    """Return the commands that run here, each once, in their order."""
    found = [words for words in COMMANDS if not is_elsewhere(words)]
    return [list(each) for each in dict.fromkeys(map(tuple, found))]


def test_every_command_is_run_or_listed() -> None:
    strange = [words for words in commands_to_run() if arguments_of_ours(words) is None]
    assert strange == []
    unused = [start for start in ELSEWHERE
              if not any(words[:len(start.split())] == start.split() for words in COMMANDS)]
    assert unused == []


def write_drive(path: Path, pictures: Sequence[np.ndarray]) -> None:
    """Write an MCAP file with a camera that has seen these pictures."""
    typestore, kind = load_typestore(), 'sensor_msgs/msg/CompressedImage'
    types = typestore.types
    with Writer(path.with_suffix(''), version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topic = writer.add_connection('/camera/image/compressed', kind, typestore=typestore)
        for number, bgr in enumerate(pictures):
            jpeg = cv2.imencode('.jpg', bgr)[1].reshape(-1)
            stamp = types['builtin_interfaces/msg/Time'](number, 0)
            message = types[kind](types['std_msgs/msg/Header'](stamp, 'camera'), 'jpeg', jpeg)
            writer.write(topic, number, bytes(typestore.serialize_cdr(message, kind)))
    shutil.move(next(path.with_suffix('').glob('*.mcap')), path)


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make what the commands name: a picture, a video, a drive, labelled pictures."""
    folder = tmp_path_factory.mktemp('documented')
    bgr = np.ascontiguousarray(skimage.data.astronaut()[..., ::-1])
    cv2.imwrite(str(folder / 'street.jpg'), bgr)
    video = cv2.VideoWriter(str(folder / 'drive.mp4'), cv2.VideoWriter.fourcc(*'mp4v'), 10,
                            (bgr.shape[1], bgr.shape[0]))
    for _ in range(2):
        video.write(bgr)
    video.release()
    write_drive(folder / 'drive.mcap', [bgr, bgr[:400]])
    for name in ('detections.mcap', 'new.mcap'):
        assert main(['replay', str(folder / 'drive.mcap'), '-o', str(folder / name)]) == 0
    (folder / 'val2017').mkdir()
    shutil.copy(folder / 'street.jpg', folder / 'val2017')
    (folder / 'instances_val2017.json').write_text(json.dumps({
        'images': [{'id': 1, 'file_name': 'street.jpg', 'width': 512, 'height': 512}],
        'categories': [{'id': 1, 'name': 'person'}],
        'annotations': [{'id': 1, 'image_id': 1, 'category_id': 1, 'bbox': [10, 5, 440, 500],
                         'iscrowd': 0}],
    }))
    return folder


@pytest.mark.parametrize('words', commands_to_run(), ids=' '.join)
def test_a_command_does_what_it_says(
    words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = arguments_of_ours([word for word in words if word != STREAM])
    assert arguments is not None
    monkeypatch.chdir(folder)
    written = folder / arguments[arguments.index('-o') + 1] if '-o' in arguments else None
    if written is not None and written.is_file():  # made for another command
        written.unlink()
    try:
        status = main(arguments)
    except SystemExit as exc:  # -h
        status = int(exc.code or 0)
    printed = capsys.readouterr()
    if arguments[0] == 'doctor':  # tells of the machine, whatever it is
        assert 'embedded model' in printed.out
    else:
        assert status == 0, printed.err
    assert written is None or written.exists()
