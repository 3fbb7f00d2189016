#!/usr/bin/env python3
"""
Say what this machine lacks for `make venv`, and the line that installs it.

It runs with whatever Python is there, so it keeps to a syntax that all of them understand.

"""

import os
import platform
import re
import shutil
import sys
import sysconfig

SUPPORTED = ((3, 10), (3, 13))
"""The oldest and the newest Python that has both wheels of rclpy and is tried."""


def is_supported(version):
    """Return whether a Python version (major, minor) can run the package."""
    return SUPPORTED[0] <= tuple(version) <= SUPPORTED[1]


WHEELS_OF = ('x86_64', 'AMD64')
"""Machines that ROS 2 has wheels for on PyPI; it has no others."""


def no_wheels_for(machine):
    """Return what to say on a machine that ROS 2 has no wheels for, '' on one that it has."""
    if machine in WHEELS_OF:
        return ''
    return (
        'error: make venv takes ROS 2 from PyPI, which has it for x86-64 alone; this is {}.\n'
        'With ROS 2 from apt (docs.ros.org; on JetPack 6 that is Humble), sourced, and this\n'
        'checkout below src/ of a workspace:\n\n'
        '    sudo apt-get install -y ros-$ROS_DISTRO-vision-msgs python3-opencv\n'
        '    python3 -m pip install onnxruntime\n'
        '    colcon build --packages-select yolov7_trt_ros\n\n'
        'The command yolov7_trt needs no ROS 2:\n\n'
        "    python3 -m venv .yolov7 && .yolov7/bin/pip install '.[tools]'\n\n"
    ).format(machine or 'a machine of unknown kind')


def missing_packages():
    """Return the Debian packages that are missing: for a compiler, Python headers, ensurepip."""
    import importlib.util  # here, for Python 2 has none and should get as far as the message

    short = 'python{}.{}'.format(*sys.version_info[:2])
    missing = []
    compilers = (os.environ.get('CC') or 'gcc', os.environ.get('CXX') or 'g++')
    if any(shutil.which(command.split()[0]) is None for command in compilers):
        missing.append('build-essential')
    if not os.path.isfile(os.path.join(sysconfig.get_paths()['include'], 'Python.h')):
        missing.append(short + '-dev')
    if importlib.util.find_spec('ensurepip') is None or importlib.util.find_spec('venv') is None:
        missing.append(short + '-venv')
    return missing


def is_misread(folder):
    """Return whether setuptools would take a part of a path for a variable of its own."""
    return re.search(r'[$][A-Za-z_]', folder) is not None


def main():
    """Print what is missing; return 1 if anything is."""
    found = '{}.{}'.format(*sys.version_info[:2])
    if not is_supported(sys.version_info[:2]):
        oldest, newest = ('{}.{}'.format(*version) for version in SUPPORTED)
        sys.stderr.write(
            'error: Python {} to {} is needed, {} is {}; '
            'name another one: make venv PYTHON=python3.11\n'
            .format(oldest, newest, sys.executable, found)
        )
        return 1
    refusal = no_wheels_for(platform.machine())
    if refusal:
        sys.stderr.write(refusal)
        return 1
    if is_misread(os.getcwd()):
        sys.stderr.write(
            'error: this checkout lies in a folder with a dollar before a letter in its name, '
            'which setuptools takes for a variable: move it\n'
        )
        return 1
    missing = missing_packages()
    if missing:
        sys.stderr.write(
            'error: this machine lacks {}. On Debian and Ubuntu:\n\n'
            '    sudo apt-get install -y {}\n\n'.format(', '.join(missing), ' '.join(missing))
        )
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
