"""Common names of a Jetson: its module, and the JetPack version of its L4T release."""

from __future__ import annotations

from collections.abc import Iterable
import re

_PART = re.compile(r'p\d{4}(?:-\d{4})?', re.ASCII)
_MODULES = {
    'p3450': 'Jetson Nano', 'p3448': 'Jetson Nano', 'p3310': 'Jetson TX2', 'p3489': 'Jetson TX2i',
    'p3636': 'Jetson TX2 NX', 'p2972': 'Jetson AGX Xavier', 'p2888': 'Jetson AGX Xavier',
    'p3668': 'Jetson Xavier NX', 'p3701-0000': 'Jetson AGX Orin',
    'p3701-0004': 'Jetson AGX Orin 32GB', 'p3701-0005': 'Jetson AGX Orin 64GB',
    'p3701-0008': 'Jetson AGX Orin Industrial', 'p3767-0000': 'Jetson Orin NX 16GB',
    'p3767-0001': 'Jetson Orin NX 8GB', 'p3767-0003': 'Jetson Orin Nano 8GB',
    'p3767-0004': 'Jetson Orin Nano 4GB', 'p3767-0005': 'Jetson Orin Nano 8GB',
    'p3834-0000': 'Jetson T4000', 'p3834-0008': 'Jetson T5000',
}
_JETPACKS = {
    '32.3.1': '4.3', '32.4.3': '4.4', '32.4.4': '4.4.1', '32.5': '4.5', '32.5.1': '4.5.1',
    '32.6.1': '4.6', '32.7.1': '4.6.1', '32.7.2': '4.6.2', '32.7.3': '4.6.3', '32.7.4': '4.6.4',
    '34.1': '5.0', '34.1.1': '5.0.1', '35.1': '5.0.2', '35.2.1': '5.1', '35.3.1': '5.1.1',
    '35.4.1': '5.1.2', '35.5': '5.1.3', '35.6': '5.1.4', '36.2': '6.0', '36.3': '6.0',
    '36.4': '6.1', '36.4.3': '6.2', '36.4.4': '6.2.1', '36.5': '6.2.2', '38.2': '7.0',
    '38.4': '7.1', '39.2': '7.2',
}
_GENERATIONS = {'32': '4', '34': '5', '35': '5', '36': '6', '38': '7', '39': '7'}


def module_name(compatible: Iterable[str]) -> str:
    """
    Return the name of a module by the device tree's list; '' if unknown.

    >>> module_name(['nvidia,p3768-0000+p3767-0005-super', 'nvidia,tegra234'])
    'Jetson Orin Nano 8GB'

    """
    for part in _PART.findall(' '.join(compatible)):
        name = _MODULES.get(part) or _MODULES.get(part.partition('-')[0])
        if name:
            return name
    return ''


def jetpack_name(l4t_release: str) -> str:
    """
    Return the version of JetPack; for an unlisted release its generation, '' for none.

    >>> jetpack_name('36.4.3'), jetpack_name('36.9'), jetpack_name('')
    ('6.2', '6.x', '')

    """
    known = _JETPACKS.get(l4t_release) or _JETPACKS.get(l4t_release.removesuffix('.0'))
    if known:
        return known
    generation = _GENERATIONS.get(l4t_release.partition('.')[0])
    return f'{generation}.x' if generation else ''
