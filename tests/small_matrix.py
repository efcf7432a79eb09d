"""A matrix of 2 rows x 2 seeds that runs in seconds, and what tests of both executors ask about it."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from seft_bench.bench import run as bench_run
from seft_bench.bench.events import WorkerEvent
from seft_bench.bench.executors import ExecutorSettings
from seft_bench.bench.executors.worker import job_of, run_job
from seft_bench.bench.matrix import Cell
from seft_bench.bench.publish import Benched
from seft_bench.bench.resolved import Bench, open_bench
from seft_bench.config import MatrixConfig, config_folder
from seft_bench.files import read_log
from tests.integration.cli import Seen, seft_bench

REPOSITORY = Path(__file__).resolve().parents[1]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(REPOSITORY),
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "NO_COLOR": "1",
}


def write_yaml(path: Path, **values: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values))
    return str(path)


def write_matrix(folder: Path, *, steps: int = 4, questions: int = 4, **changes: Any) -> str:
    """A matrix file with its suite; `changes` override its keys, None takes one away."""
    shipped = yaml.safe_load((config_folder() / "suites" / "tiny-mtbench.yaml").read_text())
    small = {
        "name": "few",
        "max_questions": questions,
        "decodings": {"greedy": {"temperature": 0.0}},
        "max_new_tokens": 8,
    }
    few = {"max_steps": steps}
    values = {
        "name": "small",
        "base": "tinyworld",
        "seeds": [0, 1],
        "checkpoints": 1,
        "suites": [write_yaml(folder / "few.yaml", **(shipped | small))],
        "workers": 2,
        "cpus_per_cell": 1,
        "rows": [
            {"name": "start", "method": "sft", "role": "start", "settings": {"start": few}},
            {"name": "chosen", "method": "sft-chosen", "settings": {"start": few, "policy": few}},
        ],
    }
    return write_yaml(
        folder / "small.yaml", **{key: value for key, value in {**values, **changes}.items() if value is not None}
    )


def write_judge(folder: Path, url: str, in_flight: int) -> str:
    settings = {
        "name": "paid",
        "kind": "openai",
        "model": "judge",
        "base_url": url,
        "api_key_env": None,
        "templates": "seft-bench",
        "max_in_flight": in_flight,
    }
    return write_yaml(folder / "paid.yaml", **settings)


def command(matrix: str, out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "seft_bench.cli.main", "bench", matrix, "--out", str(out), *options]


def run(matrix: str, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """A bench in a process of its own, to its end."""
    return subprocess.run(command(matrix, out, *options), env=ENVIRONMENT, capture_output=True, text=True, check=False)


@contextmanager
def cells_here() -> Iterator[None]:
    """Benches of this process train and answer their cells in it: a worker process imports for ten seconds.

    For tests of what a bench decides and writes; those of workers themselves start some.
    """
    with mock.patch.object(bench_run, "run_cells", _run_cells_here):
        yield


def run_here(matrix: str, out: Path, *options: str) -> Seen:
    """The command in this process, its cells too."""
    with cells_here():
        return seft_bench("bench", matrix, "--out", str(out), *options)


def bench(matrix: MatrixConfig, out: Path, results: Path) -> Benched:
    return bench_run.run_bench(open_bench(matrix, out, results))


def _run_cells_here(opened: Bench, todo: Sequence[Cell], settings: ExecutorSettings) -> Iterator[WorkerEvent]:
    """Run cells in this process, as an executor does in its workers; what it changes for a worker is put back."""
    for cell in todo:
        folder, arguments = Path.cwd(), sys.argv
        events: list[WorkerEvent] = []
        try:
            events.append(run_job(job_of(opened, cell, threads=1), events.append))
        finally:
            os.chdir(folder)
            sys.argv = arguments
        yield from events


def start(matrix: str, out: Path, *options: str) -> subprocess.Popen[str]:
    """A bench under way; its notes land in out.log beside `out`, its tables in out.tables."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(out.with_suffix(".log"), "w") as log, open(out.with_suffix(".tables"), "w") as tables:
        return subprocess.Popen(
            command(matrix, out, *options),
            env=ENVIRONMENT,
            stdout=tables,
            stderr=log,
            text=True,
            start_new_session=True,
        )


def wait_for(what: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    """Poll until something is so while the bench is under way."""
    end = time.monotonic() + 180
    while not (found := what()):
        assert process.poll() is None, "the bench ended before it could be disturbed"
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def tables(out: Path) -> dict[str, Any]:
    """Every figure of a bench's tables but seconds of CPU, which differ from run to run; and its findings."""
    lines = list(csv.reader(io.StringIO((out / "results" / "leaderboard.csv").read_text())))
    kept = [index for index, name in enumerate(lines[0]) if "cpu" not in name]
    figures = {path.parent.name: path.read_text() for path in out.glob("results/*/*/questions.json")}
    return {
        "rows": [[line[index] for index in kept] for line in lines],
        "findings": (out / "results" / "findings.md").read_text(),
        "questions": figures,
    }


def nothing_was_done_twice(out: Path) -> None:
    """Every training step logged once, every answer there once, every verdict there once."""
    for log in out.glob("stages/*/train.jsonl"):
        steps = [row["step"] for row in read_log(log)]
        assert steps == sorted(set(steps)), log
    for log in out.glob("evaluations/*/*/*/*.jsonl"):
        keys = Counter(row.get("key") or row["question_id"] for row in read_log(log))
        assert set(keys.values()) == {1}, log


def asked_twice(bodies: list[dict[str, Any]]) -> int:
    """Requests that a server got again."""
    return sum(count - 1 for count in Counter(json.dumps(body, sort_keys=True) for body in bodies).values())


def worker_pids(process: subprocess.Popen[str]) -> list[int]:
    """The worker processes of a driver on the local executor."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    found = [int(pid) for pid in children.read_text().split()] if children.exists() else []
    return [pid for pid in found if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


FEW_STEPS = {"max_steps": 4}


def values(**changes: Any) -> dict[str, Any]:
    """Return a matrix of two rows, as its file holds them; `changes` override its keys."""
    shared: dict[str, Any] = {
        "name": "small",
        "base": "tinyworld",
        "seeds": [0],
        "checkpoints": 2,
        "suites": ["tiny-mtbench"],
        "workers": 2,
        "rows": [
            {"name": "start", "method": "sft", "role": "start", "settings": {"start": FEW_STEPS}},
            {"name": "chosen", "method": "sft-chosen", "settings": {"start": FEW_STEPS, "policy": FEW_STEPS}},
        ],
    }
    return {**shared, **changes}


def written(results: Path) -> dict[Path, bytes]:
    """What a folder of results holds, without its lock, which says who held it last."""
    return {path: path.read_bytes() for path in results.rglob("*") if path.is_file() and path.suffix != ".lock"}
