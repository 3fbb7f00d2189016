"""
Executors that survive callbacks: an exception is logged, counted and answered.

Any node of the graph can send what reaches a callback, and rclpy itself raises for some of it (a
parameter of an unknown type, a /clock before 1970). Only exceptions that have to end a node are
passed on: `ExternalShutdownException`, `SystemExit` and `KeyboardInterrupt`.

"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import inspect
import sys
import threading
import time
import traceback
from typing import Any

from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy._rclpy_pybind11 import RCLError
from rclpy.exceptions import InvalidHandle
from rclpy.executors import (
    Executor,
    ExternalShutdownException,
    ShutdownException,
    TimeoutException,
)
from rclpy.node import Node
from rclpy.service import Service

from yolov7_trt_ros.core.plain_text import one_line
from yolov7_trt_ros.nodes.one_line import describe_error

_LOG_AGAIN_S = 10.0
_MOST_KINDS = 50
_SHOWN_S = 60.0
_FAILURES = 'callback_failures'
_MOST_FAILED_WAITS = 8
_FIRST_PAUSE_S = 0.01
_NET_MODULES = ('yolov7_trt_ros.nodes.callback_net', 'yolov7_trt_ros.nodes.process.node_main')


class CallbackFailures:
    """
    The exceptions that callbacks of a node raised; thread-safe.

    Each kind (class and place) is logged once with its traceback, later at most every ten
    seconds in one line. An exception of rclpy for a message, without our code in the traceback,
    is the sender's fault: its traceback is logged at debug level only.

    Parameters
    ----------
    logger
        Of the node.

    """

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._lock = threading.Lock()
        self._logged_s: dict[tuple[type, str, int], float] = {}
        self._count, self._last, self._last_s = 0, '', 0.0

    @property
    def count(self) -> int:
        """Return the number of callbacks that raised."""
        with self._lock:
            return self._count

    @property
    def last(self) -> str:
        """Return the last failure as text, '' if there is none."""
        with self._lock:
            return self._last

    def status(self) -> dict[str, str]:
        """Return the values for diagnostics, none if no callback raised."""
        return {'callbacks failed': str(self.count)} if self.count else {}

    def warning(self) -> str:
        """Return a warning for one minute after a failure, then ''."""
        with self._lock:
            if not self._count or time.monotonic() - self._last_s > _SHOWN_S:
                return ''
            return f'callbacks failed: {self._count}, the last: {self._last}'

    def note(self, what: str, error: BaseException) -> None:
        """Count and log an exception of a callback; `what` names the callback."""
        line = f'{what}: {describe_error(error)}'
        now_s = time.monotonic()
        with self._lock:
            self._count += 1
            self._last, self._last_s = line, now_s
            is_new, is_due = self._look_up(_kind(error), now_s)
        if not is_due:
            return
        self._logger.error(f'callback failed, the node goes on: {line}')
        if is_new:
            text = ''.join(traceback.format_exception(type(error), error, error.__traceback__))
            log = self._logger.debug if is_of_sender(error) else self._logger.error
            log(text)

    def _look_up(self, kind: tuple[type, str, int], now_s: float) -> tuple[bool, bool]:
        """Return whether a kind of failure is new, and whether to log it now."""
        logged_s = self._logged_s.get(kind)
        is_new = logged_s is None and len(self._logged_s) < _MOST_KINDS
        is_due = is_new or (logged_s is not None and now_s - logged_s > _LOG_AGAIN_S)
        if is_due:
            self._logged_s[kind] = now_s
        return is_new, is_due


def failures_of(node: Node) -> CallbackFailures:
    """Return the failures of a node: one object per node."""
    failures: CallbackFailures | None = getattr(node, _FAILURES, None)
    if failures is None:
        failures = CallbackFailures(node.get_logger())
        setattr(node, _FAILURES, failures)
    return failures


def is_of_sender(error: BaseException) -> bool:
    """Whether only rclpy, messages and the standard library are in the traceback."""
    return all(_is_neutral(name) for name, _ in _frames(error))


def _is_neutral(module: str) -> bool:
    top = module.partition('.')[0]
    return (
        top == 'rclpy' or top in sys.stdlib_module_names or module in _NET_MODULES
        or '.msg.' in module or '.srv.' in module
    )


def _frames(error: BaseException) -> Iterator[tuple[str, int]]:
    place = error.__traceback__
    while place is not None:
        yield place.tb_frame.f_globals.get('__name__', ''), place.tb_lineno
        place = place.tb_next


def _kind(error: BaseException) -> tuple[type, str, int]:
    *_, (module, line) = (('', 0), *_frames(error))
    return type(error), module, line


class NetExecutor(Executor):
    """Base of the executors of this package: an error in a callback does not end them."""

    _failed_waits = 0

    def _make_handler(
        self, entity: Any, node: Any, take_from_wait_list: Callable[[Any], Any], *more: Any
    ) -> Any:
        """
        Return the task of a callback, with exceptions caught in taking and in services.

        In rclpy an exception while a message is taken leaves its callback group locked for ever.

        """
        if isinstance(entity, Service):
            _answer_always(entity, node)

        def take(entity: Any) -> Any:
            try:
                return take_from_wait_list(entity)
            except Exception as exc:  # whatever the middleware raises for received bytes
                self.note_failure(node, describe_entity(entity), exc)
                return None

        return super()._make_handler(entity, node, take, *more)

    def wait_for_task(self, timeout_sec: float | None) -> tuple[Any, Any, Any] | None:
        """
        Return the next task with its entity and node; None after the time-out, and at the end.

        An error of waiting itself is noted, and waiting is tried again a few times.

        """
        try:
            found = self.wait_for_ready_callbacks(timeout_sec=timeout_sec)
        except (ShutdownException, TimeoutException):
            return None
        except ExternalShutdownException:
            raise
        except Exception as exc:  # of rcl and the middleware
            self._note_failed_wait(exc)
            return None
        self._failed_waits = 0
        return found

    def settle(self, task: Any, entity: Any, node: Any) -> None:
        """Note what a task raised, if anything; raise again what has to end the spinning."""
        error = task.exception()
        if error is None:
            return
        if isinstance(error, ExternalShutdownException):
            raise error
        if isinstance(error, (RCLError, InvalidHandle)) and not self.context.ok():
            raise ExternalShutdownException from error  # by a signal, under the callback
        self.note_failure(node, describe_entity(entity), error)

    def _note_failed_wait(self, error: Exception) -> None:
        if self._is_shutdown or not self.context.ok():
            return  # by another thread, which takes away what rclpy waits with
        self._failed_waits += 1
        if self._failed_waits > _MOST_FAILED_WAITS:
            raise error
        self.note_failure(None, 'waiting for callbacks', error)
        time.sleep(_FIRST_PAUSE_S * 2 ** self._failed_waits)

    def note_failure(self, node: Any, what: str, error: BaseException) -> None:
        """Note an exception of a callback of a node, or of the first node if it has none."""
        for each in [node] if node is not None else self.get_nodes()[:1]:
            failures_of(each).note(what, error)


class OneThreadExecutor(NetExecutor):
    """Runs callbacks in the thread that spins, one after the other."""

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Wait for a callback and run it."""
        found = self.wait_for_task(timeout_sec)
        if found is not None:
            task, entity, node = found
            task()
            self.settle(task, entity, node)


def describe_entity(entity: Any) -> str:
    """Return the kind and name of what a callback belongs to: topic, service or timer."""
    name = getattr(entity, 'topic_name', None) or getattr(entity, 'srv_name', None)
    kind = type(entity).__name__.lower() if entity is not None else 'task'
    return f'{kind} {one_line(name, 250)}' if name else kind


def _answer_always(service: Any, node: Any) -> None:
    """Make a service answer with a failure if its callback raises."""
    callback = service.callback
    if isinstance(callback, _Answering) or inspect.iscoroutinefunction(callback):
        return
    service.callback = _Answering(callback, node, describe_entity(service))


_SETTING = (SetParameters.Response, SetParametersAtomically.Response)


class _Answering:
    """A service callback that never raises."""

    def __init__(self, callback: Callable[[Any, Any], Any], node: Any, what: str) -> None:
        self._callback, self._node, self._what = callback, node, what

    def __call__(self, request: Any, response: Any) -> Any:
        if not isinstance(request, SetParameters.Request):
            return self._answer(request, response)
        for each in request.parameters:  # one that raises must not affect the others
            one = self._answer(
                SetParameters.Request(parameters=[each]), SetParameters.Response()
            )
            response.results.append(one.results[0])
        return response

    def _answer(self, request: Any, response: Any) -> Any:
        kind = type(response)
        if kind in _SETTING and any(not each.name for each in request.parameters):
            return _refusal(kind, 'a parameter needs a name, got none')  # rclpy reports it as set
        try:
            return self._callback(request, response)
        except Exception as exc:  # of rclpy or ours: the caller gets an answer
            if not self._node.context.ok():  # nobody is left to answer
                raise
            if isinstance(request, ChangeState.Request) and isinstance(exc, RCLError):
                # a transition that this state does not have; rclpy logs it from Kilted on
                self._node.get_logger().error(f'{self._what}: {describe_error(exc)}')
            else:
                failures_of(self._node).note(self._what, exc)
            return _refusal(kind, describe_error(exc))


def _refusal(kind: type, reason: str) -> Any:
    """Return a response that refuses; an empty one if it has no field for that."""
    no = SetParametersResult(successful=False, reason=reason)
    if kind is SetParameters.Response:
        return kind(results=[no])
    if kind is SetParametersAtomically.Response:
        return kind(result=no)
    return kind()
