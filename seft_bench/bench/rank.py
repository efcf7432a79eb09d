"""One of the processes that train a cell together: `torchrun -m seft_bench.bench.rank FOLDER` (`train_cell.py`)."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import NoReturn

from seft_bench.bench.events import failure_of
from seft_bench.bench.matrix import find_cell
from seft_bench.bench.resolved import Bench
from seft_bench.bench.train_cell import FAILURE, JOB, train_here
from seft_bench.config import MatrixConfig
from seft_bench.console import wait_silently
from seft_bench.errors import EXIT_INTERRUPTED, EXIT_OK, ProcessLostError
from seft_bench.files import read_json, write_json
from seft_bench.records import Row
from seft_bench.stages import door


def main() -> NoReturn:
    """Train, and leave without Python's teardown, in which torch's threads may abort."""
    folder = Path(sys.argv[1])
    wait_silently()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    status = _status(read_json(folder / JOB, "job of a cell"), folder / FAILURE)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _end_with_parent() -> None:
    """Wait for the end of standard input, which is our parent's, and end this process."""
    sys.stdin.buffer.read()
    os._exit(EXIT_INTERRUPTED)


def _status(job: Row, failure: Path) -> int:
    """Train the cell of a job; of several processes that fail, the first one writes down why."""
    sys.argv = list(job["arguments"])  # for manifests
    try:
        with door.distributed.together() as processes:
            out = Path(job["out"])
            bench = Bench(MatrixConfig.model_validate(job["matrix"]), out, out / "results")
            train_here(
                bench, find_cell(bench.matrix, job["cell"]), _tell if processes.is_main else _say_nothing, processes
            )
    except SystemExit as leaving:
        return int(leaving.code or EXIT_OK)
    except Exception as error:
        met = failure_of(job["cell"], error)
        lost = isinstance(error, ProcessLostError)
        write_json(failure, {"message": met.message, "exit_status": met.exit_status, "lost": lost})
        return met.exit_status
    return EXIT_OK


def _tell(what: str, done: int, total: int) -> None:
    print(json.dumps([what, done, total]), flush=True)


def _say_nothing(what: str, done: int, total: int) -> None:
    """Leave it to the first process."""


if __name__ == "__main__":
    main()
