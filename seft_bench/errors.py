"""Errors that a user can put right, each with the exit status of the command line.

A `SeftBenchError` is shown as one message without a traceback; everything else is a defect of ours and
keeps its traceback. A message says what is wrong, what was looked at, what exists and what to run next.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

EXIT_OK = 0
EXIT_CRASH = 1
EXIT_USAGE = 2
EXIT_REGRESSED = 3
EXIT_INCONCLUSIVE = 4
EXIT_WITHHELD = 5
EXIT_UNAVAILABLE = 6
EXIT_SIGNALLED = 128  # and the signal's number, as shells have it
EXIT_INTERRUPTED = EXIT_SIGNALLED + 2  # Ctrl-C


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


@dataclass(frozen=True)
class Refusal:
    """Something that the machine refused, which is nobody's defect: the message, and the exit status."""

    message: str
    exit_status: int


def refusal(error: BaseException) -> Refusal | None:
    """Find out whether an error is the machine's: a full or read-only disk, a name too long, no memory; else None."""
    if full := no_room(error):
        return Refusal(full, EXIT_UNAVAILABLE)
    if is_out_of_memory(error):
        return Refusal(
            f"out of memory ({_first_line(error)}). What was finished is kept. Close other programs, or take smaller "
            "batches (`batch_size` of a suite or stage, `micro_batch_size` of a training); the same command goes on.",
            EXIT_UNAVAILABLE,
        )
    number, what = _system_error(error)
    if number in _FAILING:
        return Refusal(f"{what} cannot be read or written any more ({os.strerror(number)})", EXIT_UNAVAILABLE)
    advice = _ADVICE.get(number)
    return Refusal(f"{what}: {os.strerror(number)}. {advice}", EXIT_USAGE) if advice else None


def no_room(error: BaseException) -> str | None:
    """Return the message for a full disk, which is nobody's defect; None for every other failure."""
    number, what = _system_error(error)
    if number not in _NO_ROOM:
        return None
    return (
        f"no room to write {what} ({os.strerror(number)}). What was written is kept; free some disk space, the same "
        "command goes on."
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory was refused: by Python, or by torch for a GPU or the CPU, which the latter says in text."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error)


def _system_error(error: BaseException) -> tuple[int, str]:
    """Return the system's number of an error and what it is about; libraries in Rust tell both by text alone."""
    if isinstance(error, OSError):
        return error.errno or 0, str(error.filename or "a file")
    told = type(error).__name__ == "SafetensorError" or type(error) is Exception
    found = re.search(r"\(os error (\d+)\)", str(error)) if told else None
    return (int(found[1]), "a checkpoint") if found else (0, "")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200] or type(error).__name__


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FAILING = (errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO)
_ELSEWHERE = (
    "Name a folder that can be written (--out, --results; runs/ and results/ lie in the folder that you are in), or "
    "change its rights."
)
_IN_THE_WAY = "A file stands where a folder is needed, or a folder where a file is: move it away, or name another."
_ADVICE = {
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), _ELSEWHERE),
    **dict.fromkeys((errno.ENOTDIR, errno.EISDIR, errno.EEXIST), _IN_THE_WAY),
    errno.ENAMETOOLONG: "File systems take names of 255 bytes, in which a letter may be four: name it shorter.",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "Raise the limit of open files (`ulimit -n`), or run less at once."),
}
"""Number of a system's error -> what to do."""


def unknown_name(kind: str, name: str, known: Iterable[str], hint: str = "") -> InputError:
    """The error for a name that is not in a dict, naming the ones that are.

    >>> str(unknown_name("suite", "mt", ["mtbench", "alpacaeval"]))
    "unknown suite 'mt': known are alpacaeval, mtbench"
    """
    message = f"unknown {kind} {name!r}: known are {', '.join(sorted(known)) or 'none'}"
    return InputError(f"{message}. {hint}" if hint else message)
