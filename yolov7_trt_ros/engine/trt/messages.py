"""Messages of TensorRT: the latest errors, and a listener for all of them."""

from __future__ import annotations

import collections
from collections.abc import Callable
import functools
import logging
import threading
from types import ModuleType
from typing import Any

_KEPT_MESSAGES = 8
_log = logging.getLogger(__name__)


class Messages:
    """
    TensorRT's latest errors, of each thread apart, and a listener to everything.

    Errors come through a logger that all objects of a process share.

    """

    def __init__(self) -> None:
        self._errors: collections.deque[tuple[int, str]] = collections.deque(
            maxlen=_KEPT_MESSAGES
        )
        self.listener: Callable[[str], None] | None = None
        """Gets every message, from the threads of TensorRT; None for the errors only."""
        self.recorder: Callable[[str], None] | None = None
        """Gets every message too, beside the listener that a build sets for its progress."""

    def add_error(self, text: str) -> None:
        """Keep an error of this thread."""
        self._errors.append((threading.get_ident(), text))

    def clear(self) -> None:
        """Forget the errors of this thread."""
        here = threading.get_ident()
        for entry in list(self._errors):
            if entry[0] == here:
                self._errors.remove(entry)

    def last(self) -> str:
        """Return the latest error of this thread, or else of any; '' if there is none."""
        here = threading.get_ident()
        errors = list(self._errors)
        mine = [text for thread, text in errors if thread == here]
        return (mine or [text for _, text in errors] or [''])[-1]


@functools.cache
def shared_logger(module: ModuleType) -> Any:
    """Return the one logger of a module: TensorRT sends all its messages to the first it sees."""
    vendor: Any = module
    logger_base: Any = vendor.ILogger
    failures = (logger_base.INTERNAL_ERROR, logger_base.ERROR)

    class TrtLogger(logger_base):  # type: ignore[misc, valid-type, unused-ignore]
        """Keeps errors; hands everything to the listener, and to Python's log at debug."""

        def __init__(self) -> None:
            logger_base.__init__(self)
            self.messages = Messages()

        def log(self, severity: Any, msg: str) -> None:
            if severity in failures:
                self.messages.add_error(' '.join(msg.split()))
            for listener in (self.messages.listener, self.messages.recorder):
                if listener is not None:
                    listener(msg)
            if severity != logger_base.VERBOSE:
                _log.debug('%s', msg)

    return TrtLogger()
