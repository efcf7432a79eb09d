"""Events of cells: plain records, which travel from the workers to the driver, and from it to the screen."""

from __future__ import annotations

import traceback
from dataclasses import dataclass

from seft_bench.errors import EXIT_CRASH, SeftBenchError, refusal


@dataclass(frozen=True)
class Progressed:
    """Something of a cell is under way: `done` of `total` are done."""

    cell: str
    what: str
    done: int
    total: int


@dataclass(frozen=True)
class RunsAgain:
    """The cell's worker was lost, and it runs once more; the message says how."""

    cell: str
    message: str


@dataclass(frozen=True)
class Answered:
    """The cell is trained, and its answers lie in its folders."""

    cell: str


@dataclass(frozen=True)
class Failure:
    """A cell ended with an error.

    Attributes:
        message: with a traceback where it is a defect of ours.
    """

    cell: str
    message: str
    exit_status: int = EXIT_CRASH


@dataclass(frozen=True)
class Tick:
    """Nothing happened: said now and then, so that a driver can do other things in between."""


@dataclass(frozen=True)
class Finished:
    """The cell is judged and scored: said by the driver, in place of `Answered`."""

    cell: str


WorkerEvent = Progressed | RunsAgain | Answered | Failure | Tick
DriverEvent = Progressed | RunsAgain | Finished | Failure


def failure_of(cell: str, error: Exception) -> Failure:
    """The failure of a cell that ended with an error.

    One that the user can act on is its message and exit status; any other is a defect of ours and keeps its traceback.

    >>> from seft_bench.errors import InputError
    >>> failure_of("seft-seed0", InputError("no prompts left"))
    Failure(cell='seft-seed0', message='no prompts left', exit_status=2)
    """
    if isinstance(error, SeftBenchError):
        return Failure(cell, str(error), error.exit_status)
    if refused := refusal(error):
        return Failure(cell, refused.message, refused.exit_status)
    return Failure(cell, "".join(traceback.format_exception(error)))
