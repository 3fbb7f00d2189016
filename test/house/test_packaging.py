"""The package as it is installed: by pip from a wheel, and what colcon reads."""

from __future__ import annotations

import ast
from collections.abc import Iterator
import hashlib
import importlib.util
import json
import os
from pathlib import Path
import re
import shutil
import stat
import subprocess
import sys
from typing import NoReturn
import xml.etree.ElementTree as ElementTree
import zipfile

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = 'yolov7_trt_ros'
NOT_SOURCES = shutil.ignore_patterns(
    '.*', '__pycache__', '*.egg-info', 'build', 'dist', 'install', 'log', 'out', 'results'
)
PIP = (sys.executable, '-m', 'pip', '--quiet', '--disable-pip-version-check')


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f'{command} failed:\n{done.stdout}\n{done.stderr}'
    return done.stdout


def evaluated_subscripts(path: Path) -> Iterator[str]:
    """Yield the subscripts of types of NumPy that are evaluated when a module is imported."""
    tree = ast.parse(path.read_text(encoding='utf-8'))
    annotations = {
        part for node in ast.walk(tree) for name in ('annotation', 'returns')
        if (annotation := getattr(node, name, None)) is not None for part in ast.walk(annotation)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and node not in annotations:
            text = ast.unparse(node.value)
            if text.startswith('np.') and isinstance(getattr(np, text[3:], None), type):
                yield f'{path.name}: {ast.unparse(node)}'


def setup_py() -> str:
    return (REPOSITORY / 'setup.py').read_text(encoding='utf-8')


def manifest() -> ElementTree.Element:
    return ElementTree.parse(REPOSITORY / 'package.xml').getroot()


def scripts() -> list[Path]:
    return sorted((REPOSITORY / 'scripts').iterdir())


@pytest.fixture(scope='module')
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build from a copy: setuptools would pick up leavings of an earlier build."""
    folder = tmp_path_factory.mktemp('wheel')
    source = folder / 'source'
    shutil.copytree(REPOSITORY, source, ignore=NOT_SOURCES)
    run(*PIP, 'wheel', '--no-deps', '--no-build-isolation', '-w', folder, source, cwd=folder)
    (built,) = folder.glob('*.whl')
    return built


@pytest.fixture(scope='module')
def members(wheel: Path) -> dict[str, zipfile.ZipInfo]:
    """Return what is in the wheel, by the path it is installed to below the prefix."""
    with zipfile.ZipFile(wheel) as archive:
        infos = archive.infolist()
    return {re.sub(r'^[^/]+\.data/data/', '', info.filename): info for info in infos}


@pytest.fixture(scope='module')
def second_venv(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make an environment with the wheel; its dependencies are those of the running one."""
    venv = tmp_path_factory.mktemp('second') / 'venv'
    run(sys.executable, '-m', 'venv', '--without-pip', venv, cwd=venv.parent)
    run(*PIP, '--python', venv / 'bin' / 'python', 'install', '--no-deps', '--no-index', wheel,
        cwd=venv.parent, PYTHONPATH='')  # pip leaves out what it finds there, as under colcon
    (site_packages,) = venv.glob('lib/python*/site-packages')
    here = [path for path in sys.path if path.endswith(('site-packages', 'dist-packages'))]
    (site_packages / 'dependencies.pth').write_text('\n'.join(here) + '\n', encoding='utf-8')
    yield venv
    shutil.rmtree(venv)


def test_package_xml_and_setup_py_agree() -> None:
    version = re.search(r"version='([^']+)'", setup_py())
    email = re.search(r"maintainer_email='([^']+)'", setup_py())
    maintainer = manifest().find('maintainer')
    assert version is not None and email is not None and maintainer is not None
    assert manifest().findtext('version') == version[1]
    assert manifest().findtext('name') == PACKAGE
    assert maintainer.get('email') == email[1]
    # colcon takes the package for plain Python without a word if the address looks wrong to it
    assert re.fullmatch(r'[\w.+-]+@[\w-]+(\.[\w-]+)*\.[a-z]{2,}', email[1])


def test_pyproject_leaves_building_to_setup_py() -> None:
    lines = (REPOSITORY / 'pyproject.toml').read_text(encoding='utf-8').splitlines()
    assert not {'[project]', '[build-system]'} & set(lines)


@pytest.mark.parametrize('script', scripts(), ids=lambda path: path.name)
def test_script_is_executable_listed_and_names_its_module(script: Path) -> None:
    assert script.stat().st_mode & stat.S_IXUSR
    assert f"'scripts/{script.name}'" in setup_py()
    text = script.read_text(encoding='utf-8')
    assert text.startswith('#!/usr/bin/env python3\n')
    found = re.search(rf'^ *from ({PACKAGE}\.nodes\.\w+\.{script.name}) import main\b', text, re.M)
    assert found, text
    assert (REPOSITORY / f'{found[1].replace(".", "/")}.py').is_file()


def test_wheel_has_every_node_as_an_executable(members: dict[str, zipfile.ZipInfo]) -> None:
    for script in scripts():
        mode = members[f'lib/{PACKAGE}/{script.name}'].external_attr >> 16
        assert mode & stat.S_IXUSR, f'{script.name} lost its execute permission'


def test_wheel_has_what_ros_looks_for(members: dict[str, zipfile.ZipInfo]) -> None:
    share = f'share/{PACKAGE}'
    shared = [*(REPOSITORY / 'launch').glob('*.launch.*'), *(REPOSITORY / 'config').iterdir()]
    expected = {f'{share}/{path.parent.name}/{path.name}' for path in shared}
    expected |= {f'{share}/package.xml', f'share/ament_index/resource_index/packages/{PACKAGE}'}
    assert expected <= members.keys()
    assert any(path.suffix == '.py' for path in shared), 'no launch file'
    assert any(path.suffix == '.yaml' for path in shared), 'no parameter file'


def test_wheel_has_every_module_and_the_embedded_model(
    members: dict[str, zipfile.ZipInfo],
) -> None:
    root = REPOSITORY / PACKAGE
    modules = {path.relative_to(REPOSITORY).as_posix() for path in root.rglob('*.py')}
    models = {path.relative_to(REPOSITORY).as_posix() for path in root.glob('models/*.onnx')}
    assert models, 'no embedded model'
    assert modules | models | {f'{PACKAGE}/py.typed'} <= members.keys()


def test_the_card_has_the_hash_of_the_model() -> None:
    folder = REPOSITORY / PACKAGE / 'models'
    (model,) = folder.glob('*.onnx')
    card = (folder / 'README.md').read_text(encoding='utf-8')
    assert hashlib.sha256(model.read_bytes()).hexdigest() in card and model.name in card


def test_wheel_has_nothing_else_at_its_top(members: dict[str, zipfile.ZipInfo]) -> None:
    tops = {name.split('/')[0] for name in members}
    assert {top for top in tops if '.dist-info' not in top and '.data' not in top} == {
        PACKAGE, 'lib', 'share',
    }


def test_installing_the_wheel_is_enough_for_the_command(second_venv: Path) -> None:
    code = (
        f'import {PACKAGE}, importlib.resources as resources\n'
        f'print({PACKAGE}.__file__)\n'
        f'print(*resources.files("{PACKAGE}").joinpath("models").iterdir())\n'
    )
    output = run(second_venv / 'bin' / 'python', '-c', code, cwd=second_venv, PYTHONPATH='')
    module, models = output.splitlines()
    assert module.startswith(str(second_venv))
    assert '.onnx' in models
    assert run(second_venv / 'bin' / 'yolov7_trt', '--help', cwd=second_venv, PYTHONPATH='')


def test_the_installed_command_detects(second_venv: Path, tmp_path: Path) -> None:
    import skimage.data

    picture = Path(skimage.data.__file__).parent / 'astronaut.png'
    told = run(
        second_venv / 'bin' / 'yolov7_trt', 'detect', picture, '-o', 'out', '--size', '352',
        cwd=tmp_path, PYTHONPATH='',
    )
    assert 'person 1' in told and (tmp_path / 'out' / 'astronaut.jpg').is_file()


def test_a_wheel_of_the_source_distribution_is_the_same(
    members: dict[str, zipfile.ZipInfo], tmp_path: Path
) -> None:
    source = tmp_path / 'source'
    shutil.copytree(REPOSITORY, source, ignore=NOT_SOURCES)
    run(sys.executable, '-W', 'ignore', 'setup.py', '--quiet', 'sdist', '-d', tmp_path, cwd=source)
    (archive,) = tmp_path.glob('*.tar.gz')
    run(*PIP, 'wheel', '--no-deps', '--no-build-isolation', '-w', tmp_path, archive, cwd=tmp_path)
    (built,) = tmp_path.glob('*.whl')
    with zipfile.ZipFile(built) as wheel:
        names = {re.sub(r'^[^/]+\.data/data/', '', name) for name in wheel.namelist()}
    assert names == set(members)


def test_installing_the_wheel_is_enough_for_the_nodes(second_venv: Path) -> None:
    if importlib.util.find_spec('rclpy') is None:
        need_ros('rclpy is not installed')
    code = (
        f'import {PACKAGE}.nodes.detector.detector_node\n'
        'from ament_index_python import get_package_share_directory\n'
        f'print(get_package_share_directory("{PACKAGE}"))\n'
    )
    output = run(
        second_venv / 'bin' / 'python', '-c', code,
        cwd=second_venv, AMENT_PREFIX_PATH=str(second_venv), PYTHONPATH='',
    )
    assert output.splitlines() == [str(second_venv / 'share' / PACKAGE)]


def test_type_hashes_of_vision_msgs_are_those_of_upstream() -> None:
    recorded = REPOSITORY / 'test' / 'data' / 'vision_msgs_type_hashes.txt'
    expected = dict(
        line.split() for line in recorded.read_text(encoding='utf-8').splitlines()
        if not line.startswith('#')
    )
    found = {}
    for name in expected:
        description = vision_msgs_share() / f'{name.removeprefix("vision_msgs/")}.json'
        for entry in json.loads(description.read_text(encoding='utf-8'))['type_hashes']:
            if entry['type_name'] == name:
                found[name] = entry['hash_string']
    assert len(expected) == 16
    assert found == expected


def vision_msgs_share() -> Path:
    prefixes = [*os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep), sys.prefix]
    for prefix in filter(None, prefixes):
        share = Path(prefix) / 'share' / 'vision_msgs'
        if (share / 'msg' / 'Detection2DArray.json').is_file():
            return share
    need_ros('no type descriptions of vision_msgs here (Humble has none)')


def need_ros(absent: str) -> NoReturn:
    """Skip the test, or fail it where the nodes must be tested."""
    if 'nodes' in os.environ.get('REQUIRE_TESTS', ''):
        pytest.fail(f'{absent}, and REQUIRE_TESTS names nodes')
    pytest.skip(absent)


def test_the_oldest_numpy_allowed_can_import_it() -> None:
    assert "'numpy>=1.21'" in setup_py()  # that of Ubuntu 22.04, whose types take no subscripts
    folders = [REPOSITORY / name for name in (PACKAGE, 'benchmarks', 'test')]
    paths = [path for folder in folders for path in sorted(folder.rglob('*.py'))]
    assert not [each for path in paths for each in evaluated_subscripts(path)]


def test_the_lowest_versions_that_are_tried_are_those_that_are_allowed() -> None:
    text = (REPOSITORY / 'requirements' / 'lowest.txt').read_text(encoding='utf-8')
    tried = dict(re.findall(r'^([\w-]+)==([\d.]+)$', text, re.MULTILINE))
    allowed = re.findall(r"'([\w-]+)>=([\d.]+)", setup_py())
    assert allowed
    elsewhere = {'cuda-bindings', 'nvidia-ml-py', 'pycuda', 'torch', 'torch-pruning'}  # no GPU
    for name, least in allowed:
        if name not in elsewhere:
            assert f'{tried[name]}.'.startswith(f'{least}.'), name
