"""A worker's work, whichever executor started it: one job, which is a cell's training and answers."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seft_bench.bench.cells import make_answers
from seft_bench.bench.events import Answered, Failure, Progressed, WorkerEvent, failure_of
from seft_bench.bench.matrix import Cell
from seft_bench.bench.resolved import Bench
from seft_bench.config import MatrixConfig
from seft_bench.errors import EXIT_UNAVAILABLE, ProcessLostError

PASSED_ON = ("SEFT_BENCH_DATA_DIR", "HF_HUB_OFFLINE")
"""Variables of the driver that a worker on another machine needs; never a key."""


@dataclass(frozen=True)
class Job:
    """One cell as plain values: it may travel to another machine.

    Attributes:
        matrix: as its YAML.
        out: absolute.
        folder: the driver's working folder, which relative paths in the matrix mean.
        arguments: the driver's command line, for manifests.
        environment: variables of the driver (`PASSED_ON`).
    """

    matrix: Mapping[str, Any]
    cell: str
    out: str
    threads: int
    folder: str
    arguments: Sequence[str]
    environment: Mapping[str, str]


def job_of(bench: Bench, cell: Cell, threads: int) -> Job:
    """The job of a cell for a worker of this process."""
    return Job(
        matrix=bench.matrix.as_row(),
        cell=cell.name,
        out=str(bench.out.resolve()),
        threads=threads,
        folder=str(Path.cwd()),
        arguments=list(sys.argv),
        environment={name: os.environ[name] for name in PASSED_ON if name in os.environ},
    )


def run_job(job: Job, send: Callable[[WorkerEvent], None]) -> Answered | Failure:
    """Do a job, sending progress; returns the last event."""

    def report(what: str, done: int, total: int) -> None:
        send(Progressed(job.cell, what, done, total))

    try:
        bench = _prepared(job)
        [cell] = [cell for cell in bench.cells if cell.name == job.cell]
        make_answers(bench, cell, report)
    except ProcessLostError:
        os._exit(EXIT_UNAVAILABLE)  # lost as a worker is, so that the executor runs the cell again
    except Exception as error:
        return failure_of(job.cell, error)
    return Answered(job.cell)


def _prepared(job: Job) -> Bench:
    """Make this process like the driver: folder, command line (for manifests), variables, threads."""
    if Path(job.folder).is_dir():
        os.chdir(job.folder)
    sys.argv = list(job.arguments)
    os.environ.update(job.environment)
    _limit_threads(job.threads)
    out = Path(job.out)
    return Bench(MatrixConfig.model_validate(job.matrix), out, out / "results")  # a worker writes no results


def _limit_threads(threads: int) -> None:
    """Give each of the processes that share cores its part of them. Small models are fastest on one thread."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)
