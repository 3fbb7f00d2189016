"""
Identify a board by files below a root folder: model, SoC, L4T release, nvpmodel's files.

Every file may be absent, as on a PC or in a container; then its field is empty.

"""

from __future__ import annotations

import dataclasses
from pathlib import Path
import re

JETSON = 'jetson'
OTHER = 'other'

_DEVICE_TREES = ('proc/device-tree', 'sys/firmware/devicetree/base')
_RELEASE = re.compile(r'#\s*R(\d+)\b.*?REVISION:\s*([\d.]+)')
_PACKAGE = re.compile(r'^Package: nvidia-l4t-core$.*?^Version: (\d+(?:\.\d+)*)', re.M | re.S)
_SOC = re.compile(r'nvidia,(tegra\d+)')
_MOST_LINKS = 8


@dataclasses.dataclass(frozen=True)
class BoardInfo:
    """
    The identity of a board.

    Attributes
    ----------
    name
        Name in the device tree or of the mainboard: `NVIDIA Jetson Orin Nano ...`.
    l4t_release
        `36.4.3`; '' if unknown or no Jetson.
    kind
        `jetson` or `other`.
    soc
        `tegra234`; '' for others.
    compatible
        The device tree's list, most specific first: `nvidia,p3768-0000+p3767-0005-super`.

    """

    name: str
    l4t_release: str = ''
    kind: str = OTHER
    soc: str = ''
    compatible: tuple[str, ...] = ()


def read_board(root: Path = Path('/')) -> BoardInfo:
    """Identify the board by the files below `root`; a missing file is no error."""
    compatible = _read_tree_strings(root, 'compatible')
    socs = [match.group(1) for text in compatible if (match := _SOC.fullmatch(text))]
    release = _read_release(root)
    is_jetson = bool(socs or release or any(text.startswith('nvidia,p') for text in compatible))
    return BoardInfo(
        name=_read_name(root),
        l4t_release=release,
        kind=JETSON if is_jetson else OTHER,
        soc=socs[0] if socs else '',
        compatible=compatible,
    )


def find_nvpmodel_conf(root: Path = Path('/')) -> Path | None:
    """
    Return the nvpmodel configuration in use; None without one.

    /etc/nvpmodel.conf is a link into /etc/nvpmodel/, followed inside `root`. If it is absent, the
    file noted by nvpmodel in /var/lib/nvpmodel/conf_file_path is used.

    """
    noted = _read_text(root / 'var/lib/nvpmodel/conf_file_path').strip()
    for name in ('/etc/nvpmodel.conf', noted):
        found = _follow(root, _inside(root, Path(name))) if name.startswith('/') else None
        if found is not None and found.is_file():
            return found
    return None


def nvpmodel_status_file(root: Path = Path('/')) -> Path:
    """Return the file in which nvpmodel keeps the mode id: `pmode:0002`; any user may read it."""
    return root / 'var/lib/nvpmodel/status'


def parse_release(text: str) -> str:
    """
    Return the L4T release named by /etc/nv_tegra_release; '' when it names none.

    >>> parse_release('# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic')
    '36.4.3'

    """
    match = _RELEASE.search(text)
    return f'{match.group(1)}.{match.group(2).strip(".")}' if match else ''


def _read_release(root: Path) -> str:
    release = parse_release(_read_text(root / 'etc/nv_tegra_release'))
    if release:
        return release
    package = _PACKAGE.search(_package_record(_read_text(root / 'var/lib/dpkg/status')))
    return package.group(1) if package else ''


def _package_record(text: str) -> str:
    """Return the record of nvidia-l4t-core in dpkg's list."""
    _, found, rest = text.partition('Package: nvidia-l4t-core\n')
    return found + rest.partition('\n\n')[0]


def _read_name(root: Path) -> str:
    model = _read_tree_strings(root, 'model')
    if model:
        return model[0]
    product = _read_text(root / 'sys/class/dmi/id/product_name').strip()
    return product or 'unknown board'


def _read_tree_strings(root: Path, name: str) -> tuple[str, ...]:
    """Return the strings of a device tree property; they end with NUL bytes."""
    for folder in _DEVICE_TREES:
        text = _read_text(root / folder / name)
        strings = tuple(part.strip() for part in text.split('\0') if part.strip())
        if strings:
            return strings
    return ()


def _read_text(path: Path) -> str:
    """Return the text of a small file; '' when it cannot be read."""
    try:
        return path.read_bytes().decode('utf-8', 'replace')
    except OSError:
        return ''


def _follow(root: Path, path: Path) -> Path | None:
    """Follow links as if `root` were /; None for a circular or broken link."""
    for _ in range(_MOST_LINKS):
        try:
            if not path.is_symlink():
                return path if path.exists() else None
            target = path.readlink()
        except OSError:
            return None
        path = _inside(root, target) if target.is_absolute() else path.parent / target
    return None


def _inside(root: Path, path: Path) -> Path:
    """Return an absolute path of the board below the root; one below it already is unchanged."""
    return path if path.is_relative_to(root) else root / str(path).lstrip('/')
