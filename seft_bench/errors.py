"""Errors that a user can put right, each with the exit status of the command line.

A `SeftBenchError` is shown as one message without a traceback; everything else is a defect of ours and
keeps its traceback. A message says what is wrong, what was looked at, what exists and what to run next.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable

EXIT_OK = 0
EXIT_CRASH = 1
EXIT_USAGE = 2
EXIT_REGRESSED = 3
EXIT_INCONCLUSIVE = 4
EXIT_WITHHELD = 5
EXIT_UNAVAILABLE = 6
EXIT_INTERRUPTED = 130  # the shell's own for Ctrl-C


class SeftBenchError(Exception):
    """Base of every error that the user can act on."""

    exit_status = EXIT_USAGE


class InputError(SeftBenchError):
    """Wrong usage or input: a missing file, an unknown name, a broken row."""


class WithheldError(SeftBenchError):
    """Too few judgments to publish a figure, or two runs that cannot be compared."""

    exit_status = EXIT_WITHHELD


class ServiceUnavailableError(SeftBenchError):
    """A server cannot be reached, or the budget is spent. What was paid for is kept; the same command goes on."""

    exit_status = EXIT_UNAVAILABLE


class ProcessLostError(SeftBenchError):
    """One of the processes that train together died. What was saved is kept; the same command goes on."""

    exit_status = EXIT_UNAVAILABLE


class JudgeUnavailableError(ServiceUnavailableError):
    """A judge does not do its part."""


def no_room(error: BaseException) -> str | None:
    """Return the message for a full disk, which is nobody's defect; None for every other failure.

    safetensors tells it by text alone.
    """
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        what, why = error.filename or "a file", error.strerror
    elif type(error).__name__ == "SafetensorError" and any(f"os error {number})" in str(error) for number in _NO_ROOM):
        what, why = "a checkpoint", str(error)
    else:
        return None
    return f"no room to write {what} ({why}). What was written is kept; free some disk space, the same command goes on."


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def unknown_name(kind: str, name: str, known: Iterable[str], hint: str = "") -> InputError:
    """The error for a name that is not in a dict, naming the ones that are.

    >>> str(unknown_name("suite", "mt", ["mtbench", "alpacaeval"]))
    "unknown suite 'mt': known are alpacaeval, mtbench"
    """
    message = f"unknown {kind} {name!r}: known are {', '.join(sorted(known)) or 'none'}"
    return InputError(f"{message}. {hint}" if hint else message)
