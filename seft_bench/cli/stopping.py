"""Signals that ask a command to stop: each ends it as Ctrl-C does, with all that it started, and by its own status."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from seft_bench.errors import EXIT_INTERRUPTED, EXIT_SIGNALLED

SIGNALS = (signal.SIGTERM, signal.SIGHUP)
"""Asked by a scheduler, by `kill`, by a terminal that closes; Ctrl-C is Python's own."""
STOPPED = (EXIT_INTERRUPTED, *(EXIT_SIGNALLED + number for number in SIGNALS))
"""Exit statuses of commands that were stopped."""


class Stop:
    """Which signal asked to stop, if one did."""

    def __init__(self) -> None:
        self.number = 0

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Stop as Ctrl-C does; the same signal again changes nothing while the program closes what it started.

        asyncio takes Ctrl-C over while it runs: an exception in the midst of its tasks would be told with a traceback.
        """
        self.number = self.number or number
        for other in SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        interrupt = signal.getsignal(signal.SIGINT)
        if not callable(interrupt):  # ignored, as in the background of a script
            raise KeyboardInterrupt
        interrupt(signal.SIGINT, frame)

    def status(self, status: int) -> int:
        """Return the exit status of a command that was stopped: 128 and the signal's number, as shells have it."""
        return EXIT_SIGNALLED + self.number if status == EXIT_INTERRUPTED and self.number else status


@contextmanager
def stoppable(on: bool) -> Iterator[Stop]:
    """Let signals stop what is inside; one that is ignored (`nohup`) stays so.

    Args:
        on: False leaves all signals as they are.
    """
    stop = Stop()
    is_main = threading.current_thread() is threading.main_thread()  # only there may handlers be set
    taken = [number for number in SIGNALS if on and is_main and signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, stop.ask)
    try:
        yield stop
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
