"""End a node when its terminal is closed, as SIGTERM does."""

from __future__ import annotations

import os
import signal
import threading


def end_on_hangup() -> None:
    """
    Make SIGHUP end the process as SIGTERM does, except under nohup, which ignores it.

    For the main thread, before rclpy.init, which takes SIGTERM itself but not SIGHUP. A handler
    in Python would wait until the executor wakes up, so a pipe notifies a thread.

    """
    if signal.getsignal(signal.SIGHUP) != signal.SIG_DFL:
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGHUP, lambda *_: None)
    threading.Thread(target=_pass_on, args=(reader,), name='hangup', daemon=True).start()


def _pass_on(reader: int) -> None:
    """Send SIGTERM for each SIGHUP among the signals that Python reports, one byte each."""
    while numbers := os.read(reader, 64):
        if signal.SIGHUP in numbers:
            os.kill(os.getpid(), signal.SIGTERM)
