"""What a worker does, whichever engine started it: one job, which is a cell's training and answers."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seft_bench.bench.executors import Event, failed
from seft_bench.bench.matrix import Cell, find_cell
from seft_bench.config import MatrixConfig

Job = dict[str, Any]

PASSED_ON = ("SEFT_BENCH_DATA_DIR", "HF_HUB_OFFLINE")
"""Variables of the driver that a worker on another machine needs; never a key."""


def job_of(matrix: MatrixConfig, cell: Cell, out: Path, threads: int) -> Job:
    """A job as plain values: it may travel to another machine."""
    return {
        "matrix": matrix.as_row(),
        "cell": cell.name,
        "out": str(out.resolve()),
        "threads": threads,
        "folder": str(Path.cwd()),  # relative paths in the matrix mean the driver's
        "arguments": list(sys.argv),
        "environment": {name: os.environ[name] for name in PASSED_ON if name in os.environ},
    }


def run_job(job: Job, send: Callable[[Event], None]) -> Event:
    """Do a job, sending progress; returns the last event, "answered" or "failed"."""
    from seft_bench.bench.cells import make_answers

    name = job["cell"]

    def report(what: str, done: int, total: int) -> None:
        send({"cell": name, "event": "progress", "what": what, "done": done, "total": total})

    try:
        matrix = _prepared(job)
        make_answers(matrix, find_cell(matrix, name), Path(job["out"]), report)
    except Exception as error:
        return failed(name, error)
    return {"cell": name, "event": "answered"}


def _prepared(job: Job) -> MatrixConfig:
    """Make this process like the driver: folder, command line (for manifests), variables, threads."""
    if Path(job["folder"]).is_dir():
        os.chdir(job["folder"])
    sys.argv = list(job["arguments"])
    os.environ.update(job["environment"])
    _limit_threads(job["threads"])
    return MatrixConfig.model_validate(job["matrix"])


def _limit_threads(threads: int) -> None:
    """Processes that share cores must not each use all of them. Small models are fastest on one thread."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)
