"""Files below a root folder: what is read, found and written, and reads that never return."""

from collections.abc import Iterator
import contextlib
import errno
import os
from pathlib import Path
import random
import re
import threading
import time

import pytest

from yolov7_trt_ros.errors import PowerError, PowerFormatError, PowerPermissionError
from yolov7_trt_ros.power.guard import CallGuard
from yolov7_trt_ros.power.sysfs import explain_os_error, SysfsTree

TIMEOUT_S = 600.0
HASTE_S = 2.0
"""Where a file hangs; all others answer much sooner, on a busy machine too."""
HUNG = '/sys/class/devfreq/gpu-gpc-0/cur_freq'


def put(root: Path, path: str, text: str) -> None:
    file = root / path.lstrip('/')
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def release(fifo: Path) -> None:
    """Let the thread go on that opened the FIFO for reading."""
    with contextlib.suppress(OSError):
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == 'power-read']


def wait_until(condition, timeout_s: float = 600.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, 'it never came true'
        time.sleep(0.005)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[SysfsTree]:
    tree = SysfsTree(tmp_path, TIMEOUT_S)
    yield tree
    tree.close()


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[SysfsTree]:
    """Return a tree that does not wait for long."""
    tree = SysfsTree(tmp_path, HASTE_S)
    yield tree
    tree.close()


@pytest.fixture
def hanging(hasty: SysfsTree) -> Iterator[Path]:
    """Make HUNG a file whose reader sleeps until someone writes: a FIFO."""
    fifo = hasty.real_path(HUNG)
    fifo.parent.mkdir(parents=True)
    os.mkfifo(fifo)
    yield fifo
    wait_until(lambda: (release(fifo), not hasty.hanging)[1])


def test_text_is_read_without_white_space_and_the_nul_of_the_device_tree(tree) -> None:
    put(tree.root, '/proc/device-tree/model', 'NVIDIA Jetson Orin Nano\0')
    put(tree.root, '/sys/a/name', 'ina3221\n')
    assert tree.read_text('/proc/device-tree/model') == 'NVIDIA Jetson Orin Nano'
    assert tree.read_text('/sys/a/name') == 'ina3221'


@pytest.mark.parametrize('text, number', [('17\n', 17), ('-256000', -256000), ('0x1f', 31)])
def test_whole_numbers(tree, text: str, number: int) -> None:
    put(tree.root, '/sys/a/b', text)
    assert tree.read_int('/sys/a/b') == number


@pytest.mark.parametrize('text', [
    '', 'auto', '1.5', '0x', '1 2', '1_000', '+5', '--5', '\u0661\u0662', '\uff11', 'unsupported',
])
def test_what_is_no_number_is_quoted(tree, text: str) -> None:
    put(tree.root, '/sys/a/b', text)
    quoted = re.escape(repr(text))
    with pytest.raises(PowerFormatError, match=f'/sys/a/b should hold .* holds {quoted}'):
        tree.read_int('/sys/a/b')


def test_bytes_that_are_no_utf8_do_no_harm(tree) -> None:
    put(tree.root, '/sys/a/b', '')
    tree.real_path('/sys/a/b').write_bytes(b'\xff\xfe1\n')
    assert tree.read_text('/sys/a/b').endswith('1')


def test_an_absent_file_is_said_to_be_absent(tree) -> None:
    with pytest.raises(PowerError, match='cannot read /sys/none: this board .* no such file'):
        tree.read_text('/sys/none')
    assert not tree.exists('/sys/none')


def test_a_folder_is_no_file(tree) -> None:
    put(tree.root, '/sys/a/b', '')
    with pytest.raises(PowerError, match='cannot read /sys/a'):
        tree.read_text('/sys/a')


def test_found_paths_follow_the_patterns_and_the_numbers(tree) -> None:
    for number in (10, 2, 0):
        put(tree.root, f'/sys/class/hwmon/hwmon{number}/name', 'x')
    put(tree.root, '/sys/class/thermal/thermal_zone0/temp', '1')
    assert tree.find('/sys/class/thermal/*', '/sys/class/hwmon/hwmon*') == (
        '/sys/class/thermal/thermal_zone0',
        '/sys/class/hwmon/hwmon0', '/sys/class/hwmon/hwmon2', '/sys/class/hwmon/hwmon10',
    )
    assert tree.find('/sys/nowhere/*') == ()


def test_links_are_followed(tree) -> None:
    put(tree.root, '/sys/devices/platform/17000000.gpu/devfreq/17000000.gpu/cur_freq', '306000000')
    link = tree.real_path('/sys/class/devfreq/17000000.gpu')
    link.parent.mkdir(parents=True)
    link.symlink_to('../../devices/platform/17000000.gpu/devfreq/17000000.gpu')
    assert tree.find('/sys/class/devfreq/*/cur_freq') == (
        '/sys/class/devfreq/17000000.gpu/cur_freq',)
    assert tree.read_int('/sys/class/devfreq/17000000.gpu/cur_freq') == 306000000


def test_written_text_replaces_what_was_there_and_no_file_is_made(tree) -> None:
    put(tree.root, '/sys/a/max_freq', '1020000000\n')
    tree.write_text('/sys/a/max_freq', '918000000')
    assert tree.read_text('/sys/a/max_freq') == '918000000'
    with pytest.raises(PowerError, match="cannot write '1' to /sys/a/none"):
        tree.write_text('/sys/a/none', '1')
    assert not tree.exists('/sys/a/none')


@contextlib.contextmanager
def somebody() -> Iterator[None]:
    """Do without root's rights for a while."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_file_of_root_alone(tree) -> None:
    put(tree.root, '/sys/a/b', '1')
    tree.real_path('/sys/a/b').chmod(0)
    with somebody():
        with pytest.raises(PowerPermissionError, match='cannot read /sys/a/b'):
            tree.read_text('/sys/a/b')
        with pytest.raises(PowerPermissionError, match="cannot write '2' to /sys/a/b"):
            tree.write_text('/sys/a/b', '2')


@pytest.mark.parametrize('number, kind, words', [
    (errno.EACCES, PowerPermissionError, 'only root may'),
    (errno.EPERM, PowerPermissionError, 'yolov7_trt power permissions'),
    (errno.EROFS, PowerPermissionError, 'on the host'),
    (errno.ENOENT, PowerError, 'no such file'),
    (errno.EINVAL, PowerError, 'refuses this value'),
    (errno.EIO, PowerError, 'its driver'),
])
def test_each_answer_of_the_kernel_is_explained(number: int, kind: type, words: str) -> None:
    error = explain_os_error(OSError(number, os.strerror(number)), '/sys/x', "write '1' to")
    assert type(error) is kind
    assert '/sys/x' in str(error)
    assert words in str(error)


def test_a_read_that_hangs_is_reported(hasty, hanging) -> None:
    with pytest.raises(PowerError, match=f'{HUNG}: no answer within 2 s'):
        hasty.read_text(HUNG)
    assert hasty.hanging == (HUNG,)


def test_a_hanging_file_costs_one_thread_and_then_no_time(hasty, hanging) -> None:
    put(hasty.root, '/sys/a/b', '1')
    with pytest.raises(PowerError):
        hasty.read_text(HUNG)
    hasty.read_text('/sys/a/b')  # in a new thread
    threads = set(reading_threads())  # those of the tests before may end meanwhile
    begun_s = time.monotonic()
    for _ in range(50):
        with pytest.raises(PowerError, match=f'{HUNG}: has not answered for'):
            hasty.read_text(HUNG)
        with pytest.raises(PowerError, match=f'{HUNG}: has not answered for'):
            hasty.write_text(HUNG, '1')
    assert time.monotonic() - begun_s < 100 * HASTE_S
    assert set(reading_threads()) <= threads


def test_others_are_read_beside_a_hanging_file(hasty, hanging) -> None:
    for name in 'abcd':
        put(hasty.root, f'/sys/{name}', name)
    for _ in range(2):
        texts = hasty.read_all(['/sys/a', '/sys/b', HUNG, '/sys/c', '/sys/none', '/sys/d'])
        assert list(texts) == ['/sys/a', '/sys/b', HUNG, '/sys/c', '/sys/none', '/sys/d']
        assert [text for text in texts.values() if isinstance(text, str)] == ['a', 'b', 'c', 'd']
        assert isinstance(texts[HUNG], PowerError)


def test_a_file_that_answers_again_is_read_again(hasty, hanging) -> None:
    with pytest.raises(PowerError):
        hasty.read_text(HUNG)
    threads = len(reading_threads())
    release(hanging)
    wait_until(lambda: not hasty.hanging)
    wait_until(lambda: len(reading_threads()) < threads)
    hanging.unlink()
    hanging.write_text('1575000000\n')
    assert hasty.read_int(HUNG) == 1575000000


def test_many_reads_take_one_thread(tree) -> None:
    put(tree.root, '/sys/a', '1')
    tree.read_text('/sys/a')
    threads = set(reading_threads())  # those of the tests before may end meanwhile
    for _ in range(100):
        tree.read_text('/sys/a')
    assert set(reading_threads()) <= threads


def test_a_closed_tree_ends_its_thread_and_can_be_read_again(tree) -> None:
    put(tree.root, '/sys/a', '1')
    before = len(reading_threads())
    tree.read_text('/sys/a')
    tree.close()
    tree.close()
    wait_until(lambda: len(reading_threads()) <= before)
    assert tree.read_text('/sys/a') == '1'


def test_several_threads_read_at_once(hasty, hanging) -> None:
    for number in range(4):
        put(hasty.root, f'/sys/{number}', str(number))
    failures = []

    def read(number: int) -> None:
        for _ in range(50):
            texts = hasty.read_all([f'/sys/{number}', HUNG])
            if texts[f'/sys/{number}'] != str(number):
                failures.append(texts)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_calls_around_the_time_out_are_never_taken_to_hang_for_ever() -> None:
    guard = CallGuard(0.004)
    generator = random.Random(1)
    for _ in range(60):
        with contextlib.suppress(PowerError):
            guard.call('x', lambda: time.sleep(generator.uniform(0.003, 0.005)))
    wait_until(lambda: not guard.hanging)

    def answers() -> bool:  # an answer may take longer than that too
        with contextlib.suppress(PowerError):
            return guard.call('x', lambda: 'an answer') == 'an answer'
        return False

    wait_until(answers)
    guard.close()


@pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning')
def test_an_unforeseen_error_in_a_call_does_not_stop_the_others() -> None:
    guard = CallGuard(TIMEOUT_S)

    def fail() -> str:
        raise ZeroDivisionError

    outcomes = guard.call_all({'good': lambda: 'an answer', 'bad': fail})
    assert outcomes['good'] == 'an answer'
    assert 'the reading thread ended early' in str(outcomes['bad'])
    assert guard.call('good', lambda: 'an answer') == 'an answer'
    guard.close()
