from __future__ import annotations

import argparse
from collections.abc import Callable
import json
import os
from pathlib import Path
import shlex
import subprocess
import sys
import types

import pytest

from yolov7_trt_ros import __version__
from yolov7_trt_ros.cli import arguments, main
from yolov7_trt_ros.errors import BagError, SettingError

Command = Callable[..., subprocess.CompletedProcess[str]]
HEAVY = ('cv2', 'onnxruntime', 'rosbags', 'rich', 'pycocotools', 'numpy', 'rclpy', 'onnx')


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Return a verb `detect` whose `run` the test chooses."""
    module = types.ModuleType('detect', 'Made up for a test.\n\nExamples\n--------\n  none\n')
    module.add_arguments = lambda parser: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, 'yolov7_trt_ros.cli.verbs.detect', module)
    monkeypatch.setattr('yolov7_trt_ros.cli.verbs.detect', module, raising=False)
    return module


@pytest.mark.parametrize('verb_name', ['detect', 'replay', 'eval', 'build', 'info', 'doctor'])
def test_help_is_enough_to_use_a_verb(command: Command, verb_name: str) -> None:
    done = command(verb_name, '-h')
    assert done.returncode == 0
    assert f'examples:\n  yolov7_trt {verb_name}' in done.stdout
    assert '--json' in done.stdout
    assert '--------' not in done.stdout


@pytest.mark.parametrize('verb_name', main.VERBS)
def test_help_of_every_verb_ends_with_examples(
    verb_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main.main([verb_name, '-h'])
    assert caught.value.code == 0
    examples = capsys.readouterr().out.partition('\nexamples:\n')[2]
    assert f'  yolov7_trt {verb_name}' in examples and '--------' not in examples
    assert '\\\\\n' not in examples  # a line that goes on ends with one


def test_help_lists_every_verb(command: Command) -> None:
    done = command('-h')
    assert done.returncode == 0
    for name in ('detect', 'replay', 'eval', 'build', 'info', 'doctor'):
        assert f'\n    {name} ' in done.stdout


def test_without_a_verb_the_list_is_the_complaint(command: Command) -> None:
    done, listed = command(), command('help')
    assert (done.returncode, listed.returncode) == (2, 0)
    assert (done.stdout, done.stderr) == ('', listed.stdout)
    assert max(map(len, listed.stdout.splitlines())) <= 80
    for verb in main.VERBS:
        assert f'\n    {verb} ' in listed.stdout
    assert 'examples:' in listed.stdout


def test_help_of_a_verb(command: Command) -> None:
    assert command('help', 'info').stdout == command('info', '-h').stdout
    assert command('help', 'nosuch').returncode == 2


@pytest.mark.parametrize(('line', 'offered'), [
    ('yolov7_trt qu', ['quantize']), ('yolov7_trt detect --save-t', ['--save-txt']),
    ('yolov7_trt detect --backend t', ['tensorrt']),
])
def test_a_shell_is_told_what_may_follow(line: str, offered: list[str], tmp_path: Path) -> None:
    """As `eval "$(register-python-argcomplete yolov7_trt)"` has the shell ask."""
    pytest.importorskip('argcomplete')
    environ = os.environ | {
        '_ARGCOMPLETE': '1', '_ARGCOMPLETE_STDOUT_FILENAME': str(tmp_path / 'offered'),
        'COMP_LINE': line, 'COMP_POINT': str(len(line)), '_ARGCOMPLETE_IFS': '\n',
        'PYTHONPATH': str(Path(__file__).parents[2]),
    }
    program = 'from yolov7_trt_ros.cli.main import main; main()'
    subprocess.run([sys.executable, '-c', program], env=environ, cwd=tmp_path, check=True)
    told = (tmp_path / 'offered').read_text().splitlines()
    assert [each.strip() for each in told] == offered


def test_version(command: Command) -> None:
    assert command('--version').stdout.strip() == f'yolov7_trt {__version__}'


def test_help_imports_nothing_heavy() -> None:
    code = (
        'import sys\nfrom yolov7_trt_ros.cli.main import build_parser\nbuild_parser()\n'
        f'print(sorted(set({HEAVY!r}) & set(sys.modules)))'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'


@pytest.mark.parametrize('argv', [
    [], ['unknown'], ['detect'], ['detect', 'a.jpg', '-o', 'x', '--size', 'big'],
])
def test_wrong_usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main.main(argv)
    assert caught.value.code == 2
    assert 'usage: yolov7_trt' in capsys.readouterr().err


@pytest.mark.parametrize(('error', 'status'), [
    (SettingError('size is odd'), 2), (BagError('no\nbag'), 1), (PermissionError(13, 'denied'), 1),
    (KeyboardInterrupt(), 130),
])
def test_errors_are_one_line_and_a_status(
    verb: types.ModuleType, error: BaseException, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(args: argparse.Namespace) -> int:
        raise error

    verb.run = run  # type: ignore[attr-defined]
    assert main.main(['detect']) == status
    printed = capsys.readouterr().err
    if status == 130:
        assert printed == ''
    else:
        assert printed.startswith('yolov7_trt: error: ')
        assert printed.count('\n') == 1


def test_a_bug_is_not_hidden(verb: types.ModuleType) -> None:
    def run(args: argparse.Namespace) -> int:
        raise ZeroDivisionError

    verb.run = run  # type: ignore[attr-defined]
    with pytest.raises(ZeroDivisionError):
        main.main(['detect'])


def test_an_absent_verb_does_not_break_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, 'VERBS', ('detect', 'not_there', 'doctor'))
    assert 'not_there' not in main.build_parser().format_help()


def test_a_broken_pipe_is_quiet(command: Command) -> None:
    reader, python = 'import sys; sys.stdin.close()', shlex.quote(sys.executable)
    done = subprocess.run(
        f'{python} -m yolov7_trt_ros doctor --json - | {python} -c "{reader}"',
        shell=True, capture_output=True, text=True, check=False,
    )
    assert done.stderr == ''


def test_defaults_are_those_of_the_detector() -> None:
    from yolov7_trt_ros.core.detector import DetectSettings
    from yolov7_trt_ros.engine.options import DetectorOptions

    parser = argparse.ArgumentParser()
    arguments.add_detect_arguments(parser)
    args = parser.parse_args([])
    assert arguments.detector_options(args, rectangular=not args.square) == DetectorOptions()
    assert arguments.detect_settings(args, ('person',)) == DetectSettings()


def test_the_engine_can_be_chosen() -> None:
    parser = argparse.ArgumentParser()
    arguments.add_model_arguments(parser)
    words = ['--backend', 'tensorrt', '--precision', 'fp32', '--memory', 'mapped',
             '--no-cuda-graph']
    options = arguments.detector_options(parser.parse_args(words), rectangular=True)
    assert (options.backend, options.precision) == ('tensorrt', 'fp32')
    assert (options.memory, options.cuda_graph) == ('mapped', False)


def test_classes_by_name_and_number() -> None:
    parser = argparse.ArgumentParser()
    arguments.add_detect_arguments(parser)
    args = parser.parse_args(['--classes', 'car, 0'])
    assert arguments.detect_settings(args, ('person', 'bicycle', 'car')).class_ids == {0, 2}


@pytest.mark.parametrize(('module', 'package'), [
    ('numpy', 'numpy'), ('cv2', 'opencv-python'), ('onnxruntime', 'onnxruntime'),
])
def test_a_package_that_is_missing_is_one_line(tmp_path: Path, module: str, package: str) -> None:
    """In a process of its own, in which the package cannot be imported."""
    program = (
        f'import sys; sys.modules[{module!r}] = None; '
        'from yolov7_trt_ros.cli.main import main; '
        "sys.exit(main(['detect', 'a.jpg', '-o', 'out']))"
    )
    (tmp_path / 'a.jpg').write_bytes(b'\xff\xd8')
    done = subprocess.run(
        [sys.executable, '-c', program], cwd=tmp_path, text=True, capture_output=True,
        env=os.environ | {'PYTHONPATH': str(Path(__file__).parents[2])},
    )
    assert done.returncode == 1
    assert done.stderr.count('\n') == 1
    assert 'cannot be imported' in done.stderr and f'pip install {package}' in done.stderr


@pytest.mark.parametrize('arguments_', [('info', 'yolov7-nano'), ('doctor', '--json', '-')])
@pytest.mark.parametrize(('stdout', 'reason'), [
    ('>&-', 'Bad file descriptor'), ('> /dev/full', 'No space left on device'),
])
def test_output_that_cannot_be_printed_is_an_error(
    arguments_: tuple[str, ...], stdout: str, reason: str
) -> None:
    words = shlex.join([sys.executable, '-m', 'yolov7_trt_ros', *arguments_])
    done = subprocess.run(
        ['sh', '-c', f'{words} {stdout}'], stderr=subprocess.PIPE, text=True, check=False,
        timeout=600,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f'yolov7_trt: error: standard output: {reason}'


def test_files_do_not_get_the_descriptors_of_closed_streams(tmp_path: Path) -> None:
    words = shlex.join([
        sys.executable, '-c', 'import os; from yolov7_trt_ros.cli.main import main; '
        f'main(["info", "nothing"]); print(os.open({str(tmp_path / "a")!r}, os.O_CREAT) > 2)',
    ])
    done = subprocess.run(
        ['sh', '-c', f'{words} <&- 2>&-'], stdout=subprocess.PIPE, text=True, check=True,
        timeout=600,
    )
    assert done.stdout == 'True\n'


def test_a_terminal_without_the_characters(tmp_path: Path) -> None:
    name = 'é 日本.jpg'
    environment = os.environ | {'PYTHONIOENCODING': 'ascii'}
    done = subprocess.run(
        [sys.executable, '-m', 'yolov7_trt_ros', 'detect', name, '-o', 'é', '--json', '-'],
        env=environment | {'PYTHONPATH': os.pathsep.join(sys.path)}, cwd=tmp_path,
        capture_output=True, text=True, check=False, timeout=600,
    )
    assert done.returncode == 1 and 'output      \\xe9' in done.stderr
    assert json.loads(done.stdout)['inputs'][0]['path'] == name
    shown = subprocess.run(
        [sys.executable, '-m', 'yolov7_trt_ros', 'detect', name, '-o', 'é'],
        env=environment | {'PYTHONPATH': os.pathsep.join(sys.path)}, cwd=tmp_path,
        capture_output=True, text=True, check=False, timeout=600,
    )
    assert shown.returncode == 1 and 'output      \\xe9\n' in shown.stdout


STARTER = """
import os, subprocess, sys
from yolov7_trt_ros.parent_process import ends_with_this_process
reader, writer = os.pipe()
subprocess.Popen(
    [*sys.argv[1:], str(writer)], env=os.environ | ends_with_this_process(), pass_fds=[writer]
)
os.read(reader, 1)
os.kill(os.getpid(), 9)
"""


def test_a_command_that_is_to_end_with_its_starter_does_and_cleans_up(tmp_path: Path) -> None:
    code = (
        'import os, sys, time\n'
        'from yolov7_trt_ros.cli import main\n'
        'def run(args):\n'
        '    try:\n'
        "        os.write(int(sys.argv[1]), b'.')\n"
        '        time.sleep(600)\n'
        '    finally:\n'
        "        print('cleaned up')\n"
        'import yolov7_trt_ros.cli.verbs.doctor as doctor\n'
        'doctor.run = run\n'
        "print(main.main(['doctor']), flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, '-c', STARTER, sys.executable, '-c', code],
        capture_output=True, text=True, timeout=500, check=False,
    )
    assert done.returncode == -9
    assert done.stdout == 'cleaned up\n143\n'
    assert 'which started this one, has ended: ending too' in done.stderr
