from __future__ import annotations

from collections.abc import Callable, Sequence
import dataclasses
import json
import os
from pathlib import Path
import subprocess
import sys
from typing import Any

import pytest

from yolov7_trt_ros.cli.checks.board import check_board
from yolov7_trt_ros.cli.checks.gpu import check_gpu
from yolov7_trt_ros.cli.checks.host_probe import (
    Check,
    find_module,
    HostProbe,
    import_error,
    run_command,
)
from yolov7_trt_ros.cli.checks.packages import check_packages
from yolov7_trt_ros.cli.checks.ros import check_ros
from yolov7_trt_ros.cli.checks.transport import check_transport
from yolov7_trt_ros.cli.verbs.doctor import report
from yolov7_trt_ros.engine.gpu_check import Gpu, GpuQuestions, PlanCache
from yolov7_trt_ros.errors import InferenceError, MissingDependencyError

Command = Callable[..., subprocess.CompletedProcess[str]]
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def bare(tmp_path: Path) -> HostProbe:
    """Return a machine with nothing but Python."""
    return HostProbe(
        root=tmp_path / 'root', environ={}, run=lambda command: None,
        find_module=lambda name: None, find_version=lambda name: None,
        import_error=lambda name: '',
        gpu_questions=lambda: GpuQuestions(find_gpu=lambda: None), python=(3, 10, 12),
        prefix=tmp_path / 'prefix',
    )


def write(path: Path, text: str = '', *, executable: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if executable:
        path.chmod(0o755)
    return path


def by_name(checks: Sequence[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def with_modules(probe: HostProbe, **versions: str) -> HostProbe:
    folder = probe.prefix / 'lib/python3/site-packages'
    return dataclasses.replace(
        probe,
        find_module=lambda name: folder / name if name in versions else None,
        find_version=versions.get,
    )


# ---- the whole report


def test_this_machine(command: Command) -> None:
    done = command('doctor', '--json', '-')
    assert (done.returncode, done.stderr) == (0, '')
    record = json.loads(done.stdout)
    assert record['can_run'] is True
    checks = {check['name']: check for check in record['checks']}
    assert checks['ONNX Runtime']['status'] == 'ok'
    assert len(checks) == len(record['checks'])


def test_text_has_marks_and_fixes(command: Command) -> None:
    done = command('doctor')
    assert done.returncode == 0
    assert '  ok      Python: 3.' in done.stdout
    assert done.stdout.rstrip().endswith('The detector can run here.')


def test_it_runs_where_numpy_is_missing(tmp_path: Path) -> None:
    script = (
        'import sys\n'
        'sys.modules.update(dict.fromkeys(("numpy", "cv2", "onnxruntime", "onnx")))\n'
        'from yolov7_trt_ros.cli.main import main\n'
        'sys.exit(main(["doctor"]))\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', script], env=os.environ | {'PYTHONPATH': str(REPOSITORY)},
        cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False,
    )
    assert (done.returncode, done.stderr) == (1, '')
    assert 'missing NumPy' in done.stdout and 'NVIDIA GPU: not checked' in done.stdout


def test_a_bare_machine_cannot_run_it(bare: HostProbe, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(bare) == 1
    printed = capsys.readouterr().out
    assert '  missing ONNX Runtime: not installed\n          -> pip install onnxruntime' in printed
    assert 'cannot run here: NumPy, OpenCV, ONNX Runtime missing' in printed


def test_what_is_installed_and_cannot_be_imported_is_missing(bare: HostProbe) -> None:
    reason = 'ImportError: numpy.core.multiarray failed to import'
    probe = dataclasses.replace(
        with_modules(bare, numpy='2.2.6', cv2='x', onnxruntime='1.16.0'),
        import_error={'numpy': '', 'cv2': reason, 'onnxruntime': 'died'}.__getitem__,
    )
    checks = by_name(check_packages(probe))
    assert checks['NumPy'].status == 'ok'
    assert checks['OpenCV'].status == checks['ONNX Runtime'].status == 'missing'
    assert checks['OpenCV'].found.endswith(f'which cannot be imported: {reason}')
    assert checks['OpenCV'].fix == "pip install 'numpy<2': it was compiled for NumPy 1"
    assert checks['ONNX Runtime'].fix == 'pip install onnxruntime'


def test_numpy_1_is_kept_by_what_is_to_be_installed(bare: HostProbe) -> None:
    checks = by_name(check_packages(with_modules(bare, numpy='1.21.5')))
    assert checks['ONNX Runtime'].fix == "pip install onnxruntime 'numpy<2'"


def test_an_import_is_tried_in_another_process() -> None:
    assert import_error('json') == ''
    assert import_error('no_such_one') == "ModuleNotFoundError: No module named 'no_such_one'"


def test_everything_that_is_not_ok_says_what_to_do(bare: HostProbe) -> None:
    checks = [
        check for subject in (check_packages, check_ros, check_transport, check_gpu)
        for check in subject(bare)
    ]
    for check in checks:
        if check.status != 'ok' and check.name != 'net.core.rmem_max':
            assert check.fix, check


# ---- packages


def test_what_is_required(bare: HostProbe) -> None:
    probe = with_modules(bare, numpy='2', cv2='', onnxruntime='1.20')
    checks = by_name(check_packages(probe))
    assert checks['OpenCV'].found == 'unknown version'
    assert checks['ONNX Runtime'].found == '1.20'
    assert not [c for c in checks.values() if c.required and c.status != 'ok']
    assert checks['rosbags'].status == 'missing'


def test_an_old_python(bare: HostProbe) -> None:
    probe = dataclasses.replace(bare, python=(3, 8, 10))
    assert by_name(check_packages(probe))['Python'].status == 'missing'


# ---- ROS


def test_ros_installed_but_not_sourced(bare: HostProbe) -> None:
    write(bare.root / 'opt/ros/humble/setup.bash')
    check = by_name(check_ros(bare))['ROS 2']
    assert (check.status, check.fix) == ('missing', 'source /opt/ros/humble/setup.bash')


@pytest.mark.parametrize(('code', 'form'), [
    ("__slots__ = ['_hypothesis', '_pose']", 'Humble'),
    ("__slots__ = ['_class_id', '_score', '_pose']", 'Galactic'),
    ("__slots__ = ['_id', '_score', '_pose']", 'Foxy'),
])
def test_vision_msgs_version_and_form(bare: HostProbe, code: str, form: str) -> None:
    write(bare.prefix / 'share/vision_msgs/package.xml',
          '<package format="3"><name>v</name><version>4.1.1</version></package>')
    probe = with_modules(bare, vision_msgs='', rclpy='9.1.2')
    module = probe.find_module('vision_msgs')
    assert module is not None
    write(module / 'msg/_object_hypothesis_with_pose.py', code)
    check = by_name(check_ros(probe))['vision_msgs']
    assert check.status == 'ok'
    assert 'version 4.1.1' in check.found
    assert form in check.found


def test_vision_msgs_missing_names_the_package(bare: HostProbe) -> None:
    probe = dataclasses.replace(bare, environ={'ROS_DISTRO': 'humble'})
    check = by_name(check_ros(probe))['vision_msgs']
    assert check.fix == 'sudo apt install ros-humble-vision-msgs'


def test_ament_prefix_path(bare: HostProbe) -> None:
    prefix = bare.root / 'workspace'
    probe = dataclasses.replace(bare, environ={'AMENT_PREFIX_PATH': str(prefix)})
    assert by_name(check_ros(probe))['AMENT_PREFIX_PATH'].status == 'warn'
    write(prefix / 'share/ament_index/resource_index/packages/yolov7_trt_ros')
    assert by_name(check_ros(probe))['AMENT_PREFIX_PATH'].status == 'ok'


# ---- images between processes


# What rclpy 10.0.8 and Lyrical have: the signature is that of ros2/rclpy#1628.
LYRICAL_NODE = """
class Node:
    def create_subscription(
        self, msg_type, topic, callback, qos_profile, *, callback_group=None,
        event_callbacks=None, qos_overriding_options=None, raw=False,
        content_filter_options=None, acceptable_buffer_backends: Optional[str] = 'cpu',
    ): ...
"""


def test_what_lyrical_has_for_images_in_gpu_memory_is_told_and_not_claimed(
    bare: HostProbe, tmp_path: Path
) -> None:
    def found(*modules: str) -> Check:
        probe = with_modules(bare, **dict.fromkeys(modules, '1'))
        return by_name(check_ros(probe))['images in GPU memory']

    node = write(bare.prefix / 'lib/python3/site-packages/rclpy/node.py', 'class Node: ...')
    assert found('rclpy').found == found().found == (
        'rclpy here has no acceptable_buffer_backends (Lyrical has); not used by the node, which '
        'reads images from CPU memory'
    )
    node.write_text(LYRICAL_NODE)
    assert found('rclpy').found.startswith(
        'rclpy has acceptable_buffer_backends (backends: none; rosidl_buffer: no; cuda_buffer: no)'
    )
    write(bare.prefix / 'share/ament_index/resource_index/rosidl_buffer_backend__pluginlib__plugin'
          '/cuda_buffer_backend')
    check = found('rclpy', 'rosidl_buffer', 'cuda_buffer')
    assert (check.status, check.found) == ('ok', (
        'rclpy has acceptable_buffer_backends (backends: cuda_buffer_backend; rosidl_buffer: yes; '
        'cuda_buffer: yes); not used by the node, which reads images from CPU memory, never '
        'tested'
    ))
    node.unlink()
    assert found('rclpy').found.startswith(f'unknown: {node} cannot be read')


def profile(path: Path, segment_bytes: object) -> Path:
    return write(path, f'<dds xmlns="http://www.eprosima.com"><profiles><transport_descriptors>'
                 f'<transport_descriptor><segment_size>{segment_bytes}</segment_size>'
                 '</transport_descriptor></transport_descriptors></profiles></dds>')


def large_images(probe: HostProbe, **environ: str) -> Check:
    probe = dataclasses.replace(probe, environ=environ)
    return by_name(check_transport(probe))['large images']


def test_no_profile_says_what_to_export(bare: HostProbe) -> None:
    shipped = write(bare.prefix / 'share/yolov7_trt_ros/config/fastdds_large_images.xml')
    check = large_images(bare)
    assert check.status == 'warn'
    assert f'FASTDDS_DEFAULT_PROFILES_FILE={shipped}' in check.fix
    assert 'Jazzy and before: FASTRTPS_DEFAULT_PROFILES_FILE' in check.fix


@pytest.mark.parametrize('variable', ['FASTDDS_DEFAULT_PROFILES_FILE',
                                      'FASTRTPS_DEFAULT_PROFILES_FILE'])
def test_profiles(bare: HostProbe, tmp_path: Path, variable: str) -> None:
    good = profile(tmp_path / 'good.xml', 32 << 20)
    assert large_images(bare, **{variable: str(good)}).status == 'ok'
    for path, problem in (
        (profile(tmp_path / 'small.xml', 549408), 'segment_size is 549408'),
        (profile(tmp_path / 'odd.xml', 'large'), 'segment_size is 0'),
        (write(tmp_path / 'no.xml', '<dds'), 'not XML'),
        (tmp_path / 'missing.xml', 'cannot be read'),
    ):
        check = large_images(bare, **{variable: str(path)})
        assert check.status == 'warn'
        assert problem in check.found
    assert 'empty' in large_images(bare, **{variable: ''}).found


OLD, NEW = 'FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'


@pytest.mark.parametrize(('distro', 'read', 'not_read'), [
    ('humble', OLD, NEW), ('jazzy', OLD, NEW), ('kilted', NEW, OLD), ('rolling', NEW, OLD),
])
def test_the_variable_is_that_of_the_distribution(
    bare: HostProbe, tmp_path: Path, distro: str, read: str, not_read: str
) -> None:
    good = str(profile(tmp_path / 'good.xml', 32 << 20))
    check = large_images(bare, ROS_DISTRO=distro)
    assert f'export {read}=' in check.fix and not_read not in check.fix
    check = large_images(bare, ROS_DISTRO=distro, **{not_read: good})
    assert check.status == 'warn'
    assert f'{not_read} is set, but Fast DDS here reads {read}' in check.found
    assert large_images(bare, ROS_DISTRO=distro, **{OLD: good, NEW: good}).status == 'ok'


@pytest.mark.parametrize(('version', 'read'), [('6.2.7', OLD), ('8.4.2', OLD), ('9.3.1', NEW)])
def test_the_variable_is_that_of_the_middleware_which_is_there(
    bare: HostProbe, tmp_path: Path, version: str, read: str
) -> None:
    write(
        tmp_path / 'ros/share/rmw_fastrtps_cpp/package.xml',
        f'<package><version>{version}</version></package>',
    )
    check = large_images(bare, AMENT_PREFIX_PATH=str(tmp_path / 'ros'), ROS_DISTRO='unheard')
    assert f'export {read}=' in check.fix


@pytest.mark.parametrize(('architecture', 'offered'), [('x86_64', True), ('aarch64', False)])
def test_make_venv_is_named_where_it_works(
    bare: HostProbe, architecture: str, offered: bool
) -> None:
    probe = dataclasses.replace(bare, architecture=architecture)
    assert ('make venv' in by_name(check_ros(probe))['ROS 2'].fix) is offered


def test_the_shipped_profile_is_large_enough(bare: HostProbe) -> None:
    path = str(REPOSITORY / 'config/fastdds_large_images.xml')
    check = large_images(bare, FASTDDS_DEFAULT_PROFILES_FILE=path,
                         FASTRTPS_DEFAULT_PROFILES_FILE=path)
    assert check == Check('large images', 'ok', f'profile {path}')


def test_another_middleware_needs_no_profile(bare: HostProbe) -> None:
    assert large_images(bare, RMW_IMPLEMENTATION='rmw_cyclonedds_cpp').status == 'ok'


def test_shared_memory_and_what_is_left_in_it(bare: HostProbe) -> None:
    assert by_name(check_transport(bare))['/dev/shm'].status == 'missing'
    write(bare.root / 'dev/shm/fastdds_0123', 'x' * 100)
    checks = by_name(check_transport(bare))
    assert 'MiB free' in checks['/dev/shm'].found
    assert checks['shared-memory files'].status == 'warn'


@pytest.mark.parametrize(('text', 'status'), [
    ('212992\n', 'warn'), ('4194304\n', 'ok'), ('', 'missing'), ('many', 'missing'),
])
def test_socket_buffer(bare: HostProbe, text: str, status: str) -> None:
    write(bare.root / 'proc/sys/net/core/rmem_max', text)
    assert by_name(check_transport(bare))['net.core.rmem_max'].status == status


def test_a_profile_that_does_not_ask_for_the_socket_buffer(
    bare: HostProbe, tmp_path: Path
) -> None:
    write(bare.root / 'proc/sys/net/core/rmem_max', '4194304')
    shipped = REPOSITORY / 'config/fastdds_large_images.xml'
    for path, status in (
        (profile(tmp_path / 'own.xml', 32 << 20), 'warn'), (shipped, 'ok'),
        (tmp_path / 'missing.xml', 'ok'),
    ):
        probe = dataclasses.replace(bare, environ={'FASTDDS_DEFAULT_PROFILES_FILE': str(path)})
        check = by_name(check_transport(probe))['net.core.rmem_max']
        assert check.status == status
        assert (status == 'warn') == ('receiveBufferSize' in check.fix)


# ---- GPU and board


GPU = Gpu('NVIDIA RTX A2000', (8, 6), '12.4')


def missing(text: str) -> Callable[..., str]:
    def ask(*_: object) -> str:
        raise MissingDependencyError(text)

    return ask


def with_gpu(probe: HostProbe, tmp_path: Path, **answers: Any) -> HostProbe:
    """Return a machine with a GPU and all it needs, but for the answers given."""
    cache = PlanCache(tmp_path / 'plans', True, 2, 24 << 20)
    complete = GpuQuestions(
        find_gpu=lambda: GPU, tensorrt=lambda: 'TensorRT 10.3.0', pycuda=lambda: '2024.1',
        cuda_bindings=lambda: '12.4.0', compiler=lambda architecture: 'NVRTC',
        plan_cache=lambda: cache,
    )
    write(tmp_path / 'bin/nvidia-smi', executable=True)
    return dataclasses.replace(
        probe, environ={'PATH': str(tmp_path / 'bin')},
        run=lambda command: 'NVIDIA RTX A2000, 550.54' if command[0] == 'nvidia-smi' else None,
        gpu_questions=lambda: dataclasses.replace(complete, **answers),
    )


def test_no_gpu_is_one_line_and_no_fault(bare: HostProbe) -> None:
    assert check_gpu(bare) == [Check('NVIDIA GPU', 'ok', 'no NVIDIA GPU: the CPU is used')]


def test_a_gpu_with_all_it_needs(bare: HostProbe, tmp_path: Path) -> None:
    checks = by_name(check_gpu(with_gpu(bare, tmp_path)))
    assert {check.status for check in checks.values()} == {'ok'}
    assert {name: check.found for name, check in checks.items()} == {
        'NVIDIA GPU': 'NVIDIA RTX A2000, compute capability 8.6, driver 550.54 for CUDA 12.4',
        'TensorRT': 'TensorRT 10.3.0', 'pycuda': '2024.1', 'cuda-bindings': '12.4.0',
        'kernel compiler': 'NVRTC compiles for sm_86',
        'plan cache': f'2 plans, 24 MiB, in {tmp_path / "plans"}',
    }


@pytest.mark.parametrize(('question', 'name', 'fix', 'required'), [
    ('tensorrt', 'TensorRT', 'pip install tensorrt', False),
    ('pycuda', 'pycuda', 'pip install pycuda', False),
    ('cuda_bindings', 'cuda-bindings', 'pip install cuda-bindings', False),
    ('compiler', 'kernel compiler', 'nvidia-cuda-nvrtc-cu12', True),
])
def test_a_missing_piece_says_what_to_install(
    bare: HostProbe, tmp_path: Path, question: str, name: str, fix: str, required: bool
) -> None:
    probe = with_gpu(bare, tmp_path, **{question: missing('libfoo.so: not there')})
    checks = by_name(check_gpu(probe))
    assert [each.name for each in checks.values() if each.status != 'ok'] == [name]
    assert checks[name].status == 'missing'
    assert 'libfoo.so: not there' in checks[name].found and fix in checks[name].fix
    assert checks[name].required is required


def test_without_tensorrt_nobody_needs_the_compiler(bare: HostProbe, tmp_path: Path) -> None:
    nothing = missing('no')
    probe = with_gpu(bare, tmp_path, tensorrt=nothing, compiler=nothing)
    assert not [check for check in check_gpu(probe) if check.required]


def test_a_plan_cache_that_cannot_be_written(bare: HostProbe, tmp_path: Path) -> None:
    cache = PlanCache(tmp_path, False, 0, 0)
    check = by_name(check_gpu(with_gpu(bare, tmp_path, plan_cache=lambda: cache)))['plan cache']
    assert check.status == 'warn' and 'XDG_CACHE_HOME' in check.fix


def test_a_gpu_out_of_reach(bare: HostProbe, tmp_path: Path) -> None:
    (check,) = check_gpu(with_gpu(bare, tmp_path, find_gpu=lambda: None))
    assert check.status == 'warn' and 'RTX A2000' in check.found and '--gpus all' in check.fix

    def broken() -> Gpu:
        raise InferenceError('cuInit fails with CUDA error 999')

    (check,) = check_gpu(with_gpu(bare, tmp_path, find_gpu=broken))
    assert check.status == 'warn' and '999' in check.found and check.fix


def test_no_board_is_one_line(bare: HostProbe) -> None:
    assert [check.status for check in check_board(bare)] == ['ok']


def test_a_jetson(bare: HostProbe, tmp_path: Path) -> None:
    write(bare.root / 'proc/device-tree/model', 'NVIDIA Jetson Orin Nano Developer Kit\0')
    write(bare.root / 'etc/nv_tegra_release',
          '# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n')
    for name in ('nvpmodel', 'tegrastats'):
        write(tmp_path / f'bin/{name}', executable=True)
    probe = dataclasses.replace(
        bare, environ={'PATH': str(tmp_path / 'bin')},
        run=lambda command: 'user video' if command[0] == 'id' else None,
    )
    checks = by_name(check_board(probe))
    assert checks['Jetson board'].found == 'NVIDIA Jetson Orin Nano Developer Kit, L4T 36.4.3'
    assert checks['nvpmodel'].status == checks['tegrastats'].status == 'ok'
    assert checks['jetson_clocks'].status == 'missing'
    assert 'render' in checks['groups'].found
    assert checks['sudo'].status == 'warn'


# ---- asking


def test_commands_that_do_not_work() -> None:
    assert run_command(['definitely-not-a-program']) is None
    assert run_command(['false']) is None
    assert run_command(['echo', 'a']) == 'a'


def test_modules_are_found_without_importing() -> None:
    assert find_module('definitely_not_a_module') is None
    found = find_module('yolov7_trt_ros')
    assert found is not None and found.name == 'yolov7_trt_ros'
