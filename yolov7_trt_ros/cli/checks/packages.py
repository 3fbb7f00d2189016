"""Checks of Python and its packages: required by the detector, or by single verbs."""

from __future__ import annotations

from pathlib import Path

from yolov7_trt_ros import __version__
from yolov7_trt_ros.cli.checks.host_probe import Check, HostProbe, MISSING, OK, WARN
from yolov7_trt_ros.core.plain_text import printable
from yolov7_trt_ros.errors import NEEDS_NUMPY_1

_LEAST_PYTHON = (3, 10)
# module, distributions it may come from, what for, how to get it
_REQUIRED = (
    ('numpy', ('numpy',), 'pip install numpy'),
    ('cv2', ('opencv-python-headless', 'opencv-python', 'opencv-contrib-python'),
     'pip install opencv-python-headless'),
    ('onnxruntime', ('onnxruntime', 'onnxruntime-gpu'), 'pip install onnxruntime'),
)
_OPTIONAL = (
    ('rosbags', 'replay, and bags as input'),
    ('rich', 'progress bars and demo'),
    ('pycocotools', 'eval'),
    ('onnx', 'models that end in the EfficientNMS plugin'),
)
_TITLES = {'numpy': 'NumPy', 'cv2': 'OpenCV', 'onnxruntime': 'ONNX Runtime'}


def check_packages(probe: HostProbe) -> list[Check]:
    """Check Python, this package, its required and its optional packages."""
    checks = [_python(probe), Check('yolov7_trt_ros', OK, __version__), _embedded_model()]
    checks += [_required(probe, *each) for each in _REQUIRED]
    for module, purpose in _OPTIONAL:
        version = _version(probe, module, (module,))
        checks.append(
            Check(module, OK, version) if version
            else Check(module, MISSING, f'not installed; for {purpose}', f'pip install {module}')
        )
    return checks


def _required(
    probe: HostProbe, module: str, distributions: tuple[str, ...], fix: str
) -> Check:
    """Check that a package is installed and can be imported."""
    version = _version(probe, module, distributions)
    if not version:
        if module != 'numpy' and (probe.find_version('numpy') or '').startswith('1.'):
            fix += " 'numpy<2'"  # what is compiled for it here must go on
        return Check(_TITLES[module], MISSING, 'not installed', fix, required=True)
    error = probe.import_error(module)
    if not error:
        return Check(_TITLES[module], OK, version, required=True)
    if NEEDS_NUMPY_1 in error:
        fix = "pip install 'numpy<2': it was compiled for NumPy 1"
    found = printable(f'{version}, which cannot be imported: {error}')
    return Check(_TITLES[module], MISSING, found, fix, required=True)


def _python(probe: HostProbe) -> Check:
    found = '.'.join(map(str, probe.python))
    if probe.python[:2] >= _LEAST_PYTHON:
        return Check('Python', OK, found, required=True)
    return Check('Python', MISSING, found, 'install Python 3.10 or later', required=True)


def _embedded_model() -> Check:
    models = sorted((Path(__file__).parents[2] / 'models').glob('*.onnx'))
    if models:
        return Check('embedded model', OK, models[0].name)
    return Check('embedded model', WARN, 'missing', 'reinstall the package, or give --model')


def _version(probe: HostProbe, module: str, distributions: tuple[str, ...]) -> str:
    """Return the version, `unknown version` if only the module exists, else ''."""
    if probe.find_module(module) is None:
        return ''
    versions = (probe.find_version(name) for name in distributions)
    return next((version for version in versions if version), 'unknown version')
