"""Engines: where the cells of a matrix are trained and answered.

A new one is one file with a `run_cells`, and one line here.

An engine yields events, `{"cell", "event", ...}`: "progress" (`what`, `done`, `total`), "again" (`message`: the cell's
worker was lost, it runs once more), "answered" (its answers lie in the run's folder), "failed" (`message`,
`exit_status`), and "tick" now and then, so that a driver can do other things between them. A failed cell does not stop
the others. Closing the iterator ends the workers; what they had finished stays.
"""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from seft_bench.bench.matrix import Cell
from seft_bench.config import MatrixConfig
from seft_bench.errors import EXIT_CRASH, EXIT_UNAVAILABLE, InputError, SeftBenchError, no_room, unknown_name

ENGINES = {
    "local": "seft_bench.bench.executors.local:run_cells",
    "ray": "seft_bench.bench.executors.ray:run_cells",
}

TICK_SECONDS = 0.5

Event = dict[str, Any]


def failed(cell: str, error: Exception) -> Event:
    """The event of a cell that ended with an error; one that nobody can act on is a defect of ours and keeps its
    traceback.
    """
    if isinstance(error, SeftBenchError):
        message, status = str(error), error.exit_status
    elif full := no_room(error):
        message, status = full, EXIT_UNAVAILABLE
    else:
        message, status = "".join(traceback.format_exception(error)), EXIT_CRASH
    return {"cell": cell, "event": "failed", "message": message, "exit_status": status}


@dataclass(frozen=True)
class EngineSettings:
    """What an engine may use.

    Attributes:
        workers: cells at a time (with Ray: on a cluster that is started here; another one decides itself).
        address: of a Ray cluster, "auto" (the one that runs here) or "local" (start one).
        cpus_per_cell: None: the cores shared out among the workers, 1 with Ray.
        gpus_per_cell: None: one where there are any.
        retries: how often a cell is run again whose worker or node was lost.
    """

    name: str = "local"
    workers: int = 1
    address: str = "auto"
    cpus_per_cell: int | None = None
    gpus_per_cell: float | None = None
    retries: int = 2


def check_engine(settings: EngineSettings, matrix: MatrixConfig) -> None:
    """Refuse an engine that is unknown, whose package is not installed, or that cannot run this matrix.

    Raises:
        InputError: it cannot be used.
    """
    from seft_bench.config import load_judge

    if settings.name not in ENGINES:
        raise unknown_name("engine", settings.name, ENGINES)
    if settings.name == "ray":
        from seft_bench.bench.executors.ray import import_ray

        import_ray()
        if matrix.diagnostics_judge and load_judge(matrix.diagnostics_judge).kind == "openai":
            raise InputError(
                f"diagnostics_judge {matrix.diagnostics_judge} asks a server from the workers, and keys stay with the "
                "driver: take another"
            )


def run_cells(matrix: MatrixConfig, todo: Sequence[Cell], out: Path, settings: EngineSettings) -> Iterator[Event]:
    """Train and answer cells; yields what happens."""
    module, _, name = ENGINES[settings.name].partition(":")
    return cast(Iterator[Event], getattr(importlib.import_module(module), name)(matrix, todo, out, settings))
