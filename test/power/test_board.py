"""Which board it is, from the files of emulated boards, PCs and odd containers."""

from __future__ import annotations

from pathlib import Path

import pytest

from yolov7_trt_ros.emulated_board.board import create_board
from yolov7_trt_ros.emulated_board.boards.catalogue import BOARDS
from yolov7_trt_ros.power.board.identity import (
    BoardInfo,
    find_nvpmodel_conf,
    parse_release,
    read_board,
)


def put(root: Path, path: str, text: str) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode())
    return file


@pytest.mark.parametrize(
    ('name', 'words', 'release', 'soc'),
    [
        ('nano', 'Nano', '32.', 'tegra210'),
        ('xavier_nx', 'Xavier NX', '32.', 'tegra194'),
        ('tx2', 'TX2', '32.', 'tegra186'),
        ('agx_xavier', 'AGX Xavier', '32.', 'tegra194'),
        ('agx_orin', 'AGX Orin', '35.', 'tegra234'),
        ('agx_orin_32gb', 'AGX Orin 32GB', '35.', 'tegra234'),
        ('orin_nx', 'Orin NX', '35.', 'tegra234'),
        ('orin_nano', 'Orin Nano', '35.', 'tegra234'),
        ('orin_nano_super', 'Orin Nano', '36.', 'tegra234'),
        ('thor', 'Thor', '3', 'tegra264'),
    ],
)
def test_emulated_boards_are_recognised(
    tmp_path: Path, name: str, words: str, release: str, soc: str
) -> None:
    with create_board(name, tmp_path) as emulated:
        board = read_board(emulated.root)
        conf = find_nvpmodel_conf(emulated.root)
    assert board.kind == 'jetson'
    assert words in board.name
    assert board.l4t_release.startswith(release)
    assert board.soc == soc
    assert conf is not None and conf.is_relative_to(emulated.root)


def test_every_emulated_board_is_covered() -> None:
    assert list(BOARDS) == [
        'nano', 'tx2', 'xavier_nx', 'agx_xavier', 'agx_orin', 'agx_orin_32gb', 'orin_nx',
        'orin_nano', 'orin_nano_super', 'thor']


def test_pc_has_the_name_of_its_mainboard(tmp_path: Path) -> None:
    put(tmp_path, 'sys/class/dmi/id/product_name', 'OptiPlex 7090\n')
    assert read_board(tmp_path) == BoardInfo('OptiPlex 7090')


def test_nothing_there(tmp_path: Path) -> None:
    assert read_board(tmp_path) == BoardInfo('unknown board')
    assert find_nvpmodel_conf(tmp_path) is None


def test_other_arm_board_is_not_a_jetson(tmp_path: Path) -> None:
    put(tmp_path, 'proc/device-tree/model', 'Raspberry Pi 5 Model B Rev 1.0\0')
    put(tmp_path, 'proc/device-tree/compatible', 'raspberrypi,5-model-b\0brcm,bcm2712\0')
    board = read_board(tmp_path)
    assert (board.name, board.kind) == ('Raspberry Pi 5 Model B Rev 1.0', 'other')
    assert board.compatible == ('raspberrypi,5-model-b', 'brcm,bcm2712')


def test_device_tree_of_a_container_without_proc(tmp_path: Path) -> None:
    put(tmp_path, 'sys/firmware/devicetree/base/compatible', 'nvidia,p3701\0nvidia,tegra234\0')
    assert read_board(tmp_path).soc == 'tegra234'


@pytest.mark.parametrize(
    ('text', 'release'),
    [
        ('# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic', '36.4.3'),
        ('# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref', '32.7.1'),
        ('# R38 (release), REVISION: 2.0, GCID: 1\n# KERNEL_VARIANT: oot', '38.2.0'),
        ('# R28 (release), REVISION: 2.', '28.2'),
        ('no release', ''),
        ('', ''),
    ],
)
def test_release(text: str, release: str) -> None:
    assert parse_release(text) == release


def test_release_of_the_package_where_the_file_is_absent(tmp_path: Path) -> None:
    put(
        tmp_path, 'var/lib/dpkg/status',
        'Package: bash\nVersion: 5.1\n\nPackage: nvidia-l4t-core\nStatus: install ok installed\n'
        'Version: 39.2.0-20260401\n\nPackage: zlib\nVersion: 1.2\n',
    )
    assert read_board(tmp_path).l4t_release == '39.2.0'


def test_conf_link_is_followed_inside_the_root(tmp_path: Path) -> None:
    conf = put(tmp_path, 'etc/nvpmodel/nvpmodel_p3767_0003_super.conf', 'x')
    (tmp_path / 'etc/nvpmodel.conf').symlink_to('/etc/nvpmodel/nvpmodel_p3767_0003_super.conf')
    assert find_nvpmodel_conf(tmp_path) == conf


def test_conf_link_may_be_relative(tmp_path: Path) -> None:
    put(tmp_path, 'etc/nvpmodel/other.conf', 'x')
    (tmp_path / 'etc/nvpmodel.conf').symlink_to('nvpmodel/other.conf')
    found = find_nvpmodel_conf(tmp_path)
    assert found is not None and found.read_text() == 'x'


def test_conf_that_nvpmodel_noted(tmp_path: Path) -> None:
    conf = put(tmp_path, 'etc/nvpmodel/mine.conf', 'x')
    put(tmp_path, 'var/lib/nvpmodel/conf_file_path', '/etc/nvpmodel/mine.conf\n')
    assert find_nvpmodel_conf(tmp_path) == conf


def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / 'etc').mkdir()
    (tmp_path / 'etc/nvpmodel.conf').symlink_to('/etc/nvpmodel.conf')
    assert find_nvpmodel_conf(tmp_path) is None
    (tmp_path / 'etc/nvpmodel.conf').unlink()
    (tmp_path / 'etc/nvpmodel.conf').symlink_to('/etc/absent.conf')
    assert find_nvpmodel_conf(tmp_path) is None
