"""Checks of ROS: distribution, vision_msgs, cv_bridge, middleware. rclpy is never imported."""

from __future__ import annotations

from pathlib import Path
import re

from yolov7_trt_ros.cli.checks.host_probe import Check, HostProbe, MISSING, OK, WARN

_DEFAULT_RMW = 'rmw_fastrtps_cpp'
_FIRST_ON_FASTDDS_3 = 9  # of rmw_fastrtps_cpp: Kilted's
_BUFFER_OPTION = 'acceptable_buffer_backends'
_BUFFER_PLUGINS = 'share/ament_index/resource_index/rosidl_buffer_backend__pluginlib__plugin'
_ON_FASTDDS_2 = ('foxy', 'galactic', 'humble', 'iron', 'jazzy')


def check_ros(probe: HostProbe) -> list[Check]:
    """Check what the node needs; the command line needs none of it."""
    return [_rclpy(probe), _ament(probe), _vision_msgs(probe), _rmw(probe),
            _cv_bridge(probe), _buffers(probe)]


def used_rmw(probe: HostProbe) -> str:
    """Return the middleware in use; Fast DDS unless set."""
    return probe.environ.get('RMW_IMPLEMENTATION') or _DEFAULT_RMW


def _distro(probe: HostProbe) -> str:
    """Return the distribution's name, from the environment or rclpy's wheel."""
    named = probe.environ.get('ROS_DISTRO')
    if named:
        return named
    wheels = ('jazzy', 'kilted', 'lyrical', 'rolling')
    return next((name for name in wheels if probe.find_version(f'ros-{name}-rclpy')), '')


def _rclpy(probe: HostProbe) -> Check:
    if probe.find_module('rclpy') is not None:
        version = probe.find_version('rclpy') or 'unknown version'
        return Check('ROS 2', OK, f'{_distro(probe) or "unknown distribution"}, rclpy {version}')
    installed = sorted((probe.root / 'opt/ros').glob('*/setup.bash'))
    if installed:
        source = f'source /opt/ros/{installed[-1].parent.name}/setup.bash'
        found = 'installed, but not sourced: rclpy is not importable'
        return Check('ROS 2', MISSING, found, source)
    fix = 'install ROS 2 (docs.ros.org)'
    if probe.architecture == 'x86_64':  # ROS 2 wheels exist for it
        fix += ', or in a checkout of this package: make venv'
    return Check(
        'ROS 2', MISSING, 'rclpy is not importable; the node needs it, this command does not', fix
    )


def reads_old_profile_variable(probe: HostProbe) -> bool | None:
    """
    Whether Fast DDS here reads its profile from the variable of Jazzy and before.

    None if neither its ROS package nor ROS_DISTRO shows it.

    """
    shares = (prefix / f'share/{_DEFAULT_RMW}' for prefix in probe.ament_prefixes())
    version = next(filter(None, map(_package_version, shares)), '')
    major = version.partition('.')[0]
    if major.isdecimal():
        return int(major) < _FIRST_ON_FASTDDS_3
    distro = _distro(probe)
    return distro in _ON_FASTDDS_2 if distro else None


def _ament(probe: HostProbe) -> Check:
    listed = probe.environ.get('AMENT_PREFIX_PATH', '')
    if not listed:
        if probe.find_module('rclpy') is None:
            return Check('AMENT_PREFIX_PATH', MISSING, 'not set', 'source the setup file of ROS 2')
        fix = f'source the setup file of ROS 2, or export AMENT_PREFIX_PATH={probe.prefix}'
        return Check('AMENT_PREFIX_PATH', WARN, 'not set: launch files find no packages', fix)
    for prefix in probe.ament_prefixes()[:-1]:
        if (prefix / 'share/ament_index/resource_index/packages/yolov7_trt_ros').exists():
            return Check('AMENT_PREFIX_PATH', OK, f'has yolov7_trt_ros, in {prefix}')
    return Check('AMENT_PREFIX_PATH', WARN, f'{listed}: yolov7_trt_ros is not in it',
                 'source the setup file of the workspace this package is built in')


def _vision_msgs(probe: HostProbe) -> Check:
    module = probe.find_module('vision_msgs')
    candidates = [prefix / 'share/vision_msgs' for prefix in probe.ament_prefixes()]
    if module is not None:  # <prefix>/lib/pythonX/site-packages/vision_msgs
        candidates += [parent / 'share/vision_msgs' for parent in module.parents[2:5]]
    share = next((folder for folder in candidates if folder.is_dir()), None)
    if module is None:
        distro = _distro(probe) or '$ROS_DISTRO'
        return Check('vision_msgs', MISSING, 'not importable; the node publishes its messages',
                     f'sudo apt install ros-{distro}-vision-msgs')
    version = _package_version(share) or probe.find_version('ros-vision-msgs') or 'unknown'
    form = _field_form(module)
    return Check('vision_msgs', OK, f'version {version}' + (f', {form}' if form else ''))


def _package_version(share: Path | None) -> str:
    """Return the version in a package.xml, empty if there is none."""
    if share is None:
        return ''
    try:
        text = (share / 'package.xml').read_text(errors='replace')
    except OSError:
        return ''
    found = re.search(r'<version[^>]*>\s*([^<\s]+)\s*</version>', text)
    return found.group(1) if found else ''


def _field_form(module: Path) -> str:
    """Return the form of the fields, from the generated code: there have been three."""
    try:
        code = (module / 'msg/_object_hypothesis_with_pose.py').read_text(errors='replace')
    except OSError:
        return ''
    if "'_hypothesis'" in code:
        return 'fields as of Humble and later (results[].hypothesis.class_id)'
    if "'_class_id'" in code:
        return 'fields as of Galactic (results[].class_id)'
    return 'fields as of Foxy (results[].id)'


def _rmw(probe: HostProbe) -> Check:
    used = used_rmw(probe)
    chosen = 'RMW_IMPLEMENTATION' if probe.environ.get('RMW_IMPLEMENTATION') else 'the default'
    return Check('middleware', OK, f'{used} ({chosen})')


def _cv_bridge(probe: HostProbe) -> Check:
    if probe.find_module('cv_bridge') is not None:
        return Check('cv_bridge', OK, 'installed; not needed, images are read without it')
    return Check('cv_bridge', OK, 'not installed; not needed, images are read without it')


def _buffers(probe: HostProbe) -> Check:
    """Check for rosidl::Buffer, whose messages may be in GPU memory."""
    name, ours = 'images in GPU memory', 'not used by the node, which reads images from CPU memory'
    rclpy = probe.find_module('rclpy')
    has_option = rclpy is not None and _has_buffer_option(rclpy)
    if has_option is None:
        return Check(name, OK, f'unknown: {rclpy}/node.py cannot be read; {ours}')
    if not has_option:
        return Check(name, OK, f'rclpy here has no {_BUFFER_OPTION} (Lyrical has); {ours}')
    backends = sorted({
        file.name for prefix in probe.ament_prefixes()
        for file in (prefix / _BUFFER_PLUGINS).glob('*')
    })
    parts = [f'backends: {", ".join(backends) or "none"}'] + [
        f'{module}: {"no" if probe.find_module(module) is None else "yes"}'
        for module in ('rosidl_buffer', 'cuda_buffer')
    ]
    found = f'rclpy has {_BUFFER_OPTION} ({"; ".join(parts)}); {ours}, never tested'
    return Check(name, OK, found)


def _has_buffer_option(rclpy: Path) -> bool | None:
    """Whether rclpy's subscriptions have the option, by its code; None if unreadable."""
    try:
        return _BUFFER_OPTION in (rclpy / 'node.py').read_text(errors='replace')
    except OSError:
        return None
