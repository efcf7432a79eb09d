"""A cell's training: in this process, or in several under torchrun, each with a GPU of its own.

torchrun's processes (`rank.py`) get the cell as a file, say how far they are on stdout, and what went wrong in another
file. They hold the reading end of a pipe whose writing end this process holds: when it ends, however, so do they.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seft_bench import pipeline
from seft_bench.bench.matrix import Cell
from seft_bench.bench.resolved import Bench
from seft_bench.console import Progress
from seft_bench.errors import EXIT_CRASH, ProcessLostError, SeftBenchError
from seft_bench.files import read_json, write_json
from seft_bench.records import Row
from seft_bench.stages.engines import free_our_memory
from seft_bench.stages.graders import Graders
from seft_bench.stages.runs import TrainedRun, published_run

if TYPE_CHECKING:
    from seft_bench.stages.door import distributed

JOB, FAILURE = "job.json", "failure.json"
LOG = "torchrun.log"


def train_cell(bench: Bench, cell: Cell, progress: Progress) -> TrainedRun:
    """Train a cell in as many processes as it wants; what is there already is not made again.

    Raises:
        ProcessLostError: one of several processes was killed.
    """
    if cell.gpus == 1:
        return train_here(bench, cell, progress)
    return bench.trained_run(cell) or _train_in_several(bench, cell, progress)


def train_here(
    bench: Bench, cell: Cell, progress: Progress, processes: distributed.Processes | None = None
) -> TrainedRun:
    """Train a cell in this process, which is one of several where `processes` says so.

    What judges of its samples may cost was agreed to before the matrix was started.
    """
    with contextlib.closing(Graders(bench.places.store, agree=lambda left: None)) as graders:
        return pipeline.train(
            cell.recipe,
            bench.run_folder(cell),
            stages_folder=bench.stages_folder,
            checkpoints=bench.matrix.checkpoints,
            diagnostics_judge=bench.matrix.diagnostics_judge,
            progress=progress,
            processes=processes,
            graders=graders,
        )


def _train_in_several(bench: Bench, cell: Cell, progress: Progress) -> TrainedRun:
    free_our_memory()  # of the answers of the cell before
    log = bench.run_folder(cell) / LOG
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = {"matrix": bench.matrix.as_row(), "cell": cell.name, "out": str(bench.out.resolve())}
        write_json(folder / JOB, job | {"arguments": sys.argv})
        if _run_torchrun(torchrun(cell.gpus, folder), cell.gpus, log, progress):
            raise _failure(folder / FAILURE, log)
    return published_run(bench.run_folder(cell))


def torchrun(count: int, folder: Path) -> list[str]:
    """Return the command that trains the cell of a folder's job in `count` processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)]
    return [*launcher, "-m", "seft_bench.bench.rank", str(folder)]


def _run_torchrun(command: Sequence[str], count: int, log: Path, progress: Progress) -> int:
    """Run a command to its end, passing on what it says of its progress; return its exit status."""
    threads = max(1, int(os.environ.get("OMP_NUM_THREADS") or 1) // count)
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", encoding="utf-8") as errors:
        process = subprocess.Popen(
            command,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    reader = threading.Thread(target=_pass_on, args=(process, progress), daemon=True)
    reader.start()
    try:
        return process.wait()
    finally:
        _close(process)  # torchrun may have been killed alone
        reader.join()


def _pass_on(process: subprocess.Popen[str], progress: Progress) -> None:
    assert process.stdout is not None
    try:
        for line in process.stdout:
            try:
                what, done, total = json.loads(line)
            except (TypeError, ValueError):
                continue  # a library's word
            progress(what, done, total)
    except OSError:
        return  # nobody listens any more
    finally:
        _close(process)


def _close(process: subprocess.Popen[str]) -> None:
    """Close the pipe that the processes live by."""
    assert process.stdin is not None
    process.stdin.close()


def _failure(path: Path, log: Path) -> Exception:
    """Return the error that the processes met; without a word of theirs they were killed."""
    said: Row = read_json(path) if path.exists() else {"lost": True, "message": "all of its processes were killed"}
    if said["lost"]:
        return ProcessLostError(said["message"])
    if said["exit_status"] == EXIT_CRASH:
        return RuntimeError(f"one of the processes that trained failed, see {log}:\n{said['message']}")
    error = SeftBenchError(said["message"])
    error.exit_status = said["exit_status"]
    return error
