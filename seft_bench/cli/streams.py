"""Standard streams as pipelines have them: a reader that leaves early, output that cannot be written, closed ones."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO

from seft_bench.console import complain
from seft_bench.errors import EXIT_OK, EXIT_UNAVAILABLE, EXIT_USAGE, no_room


class _WhileRead(io.RawIOBase):
    """A stream that takes what nobody reads any more: `| head -1` has seen enough, and that is no failure."""

    def __init__(self, number: int) -> None:
        self._number = number

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]
        try:
            return os.write(self._number, view)
        except OSError as error:
            if self._number == 2 or isinstance(error, BrokenPipeError):  # notes are not worth failing for
                return view.nbytes
            raise


def take_over_streams() -> bool:
    """Let what is written outlive its reader; return False where standard output is closed (`>&-`).

    A closed stream's number is given to the null device, so that no file of ours gets it.
    """
    is_open = sys.stdout is not None
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, _null(number))
        elif _is_process_stream(stream, number):
            setattr(sys, name, _tolerant(stream, number))
    return is_open


def _is_process_stream(stream: TextIO, number: int) -> bool:
    """Tell the process's own stream from what stands in for it, as in a test."""
    try:
        return type(stream) is io.TextIOWrapper and stream.fileno() == number
    except (OSError, ValueError):
        return False


def _tolerant(stream: io.TextIOWrapper, number: int) -> TextIO:
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_WhileRead(number)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering or number == 2,
    )


def _null(number: int) -> TextIO:
    null = os.open(os.devnull, os.O_WRONLY)
    if null != number:
        os.dup2(null, number)
        os.close(null)
    return open(number, "w", encoding="utf-8", closefd=False)


def refuse_closed_output() -> int:
    """Say that there is nowhere to write to; return the exit status."""
    complain(
        "error: standard output is closed, so what the command finds would be lost. Redirect it to a file, or to "
        "/dev/null."
    )
    return EXIT_USAGE


def written(status: int) -> int:
    """Write what is still in the streams' buffers, and return the exit status: another one where that fails."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _give_up(sys.stdout)
        complain(f"error: the output could not be written to its end ({error.strerror or error})")
        failed = EXIT_UNAVAILABLE if no_room(error) else EXIT_USAGE
        return failed if status == EXIT_OK else status
    return status


def _give_up(stream: TextIO) -> None:
    """Send what is left to the null device: Python would try again at its end, and fail once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
