"""Cells that ask for several GPUs: trained under torchrun, with GPUs of their own, or in processes on the CPU."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from seft_bench.bench import train_cell
from seft_bench.bench.executors import ExecutorSettings, worker
from seft_bench.bench.executors.local import shares_of_several
from seft_bench.bench.executors.ray import demand_of
from seft_bench.bench.resolved import Bench, open_bench
from seft_bench.config import MatrixConfig
from seft_bench.errors import InputError, ProcessLostError, SeftBenchError
from seft_bench.files import read_json, read_log
from tests import small_matrix
from tests.integration.cli import seft_bench

# What a matrix says


def opened(folder: Path, **changes: Any) -> Bench:
    return open_bench(MatrixConfig.model_validate(small_matrix.values(**changes)), folder, folder / "results")


def test_a_row_may_want_others_than_the_matrix_and_its_results_stay_the_same(tmp_path: Path) -> None:
    rows = small_matrix.values()["rows"]
    plain = opened(tmp_path)
    several = opened(tmp_path, gpus=4, rows=[rows[0], {**rows[1], "gpus": 2}])
    assert [cell.gpus for cell in plain.cells] == [1, 1]
    assert [cell.gpus for cell in several.cells] == [4, 2]
    for one, other in zip(plain.cells, several.cells, strict=True):
        assert plain.identity(one) == several.identity(other)
        assert one.recipe == other.recipe
    assert "gpus" not in str(plain.matrix.as_row())
    assert MatrixConfig.model_validate(several.matrix.as_row()) == several.matrix


# Where they fit


@pytest.mark.parametrize(
    ("workers", "gpus_of_cell", "gpus", "cores", "per_cell", "shares"),
    [
        (4, 2, ["4", "5", "6", "7", "8"], 1, None, ["4,5", "6,7"]),
        (1, 2, ["0", "1", "2", "3"], 1, 1, ["0,1"]),
        (4, 2, [], 5, None, [None, None]),
        (4, 2, ["0", "1"], 2, 0, [""]),
    ],
)
def test_cells_of_several_gpus_share_none(
    workers: int, gpus_of_cell: int, gpus: list[str], cores: int, per_cell: float | None, shares: list[str | None]
) -> None:
    assert shares_of_several(workers, gpus_of_cell, gpus, cores, per_cell) == shares


@pytest.mark.parametrize(
    ("visible", "gpus", "message"),
    [
        ("0", 2, "cell chosen-seed0 wants gpus: 2, and this machine has 1 GPU. Lower `gpus`, leave such cells out"),
        ("", 4096, r"cell chosen-seed0 wants gpus: 4096, and this machine has \d+ cores to train on in place of GPUs"),
    ],
)
def test_a_cell_that_fits_at_no_time_is_refused_at_once(
    visible: str, gpus: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    rows = small_matrix.values()["rows"]
    matrix = small_matrix.write_matrix(tmp_path, rows=[rows[0], {**rows[1], "gpus": gpus}], seeds=[0])
    seen = seft_bench("bench", matrix, "--out", str(tmp_path / "out"))
    assert seen.status == 2
    assert re.search(message, seen.err), seen.err
    assert not (tmp_path / "out" / "stages").exists()


def cluster(*nodes: tuple[int, int]) -> Any:
    """Stand in for Ray with nodes of (CPUs, GPUs)."""
    alive = [{"Alive": True, "Resources": {"CPU": cpus, "GPU": gpus}} for cpus, gpus in nodes]
    return SimpleNamespace(cluster_resources=lambda: {"GPU": sum(gpus for _, gpus in nodes)}, nodes=lambda: alive)


def test_ray_gets_gpus_or_cores_of_one_node() -> None:
    plain = ExecutorSettings("ray")
    assert demand_of(cluster((8, 4)), plain, 1) == {"num_cpus": 1, "num_gpus": 1}
    assert demand_of(cluster((8, 4)), plain, 4) == {"num_cpus": 1, "num_gpus": 4}
    assert demand_of(cluster((8, 0)), plain, 4) == {"num_cpus": 4, "num_gpus": 0}
    assert demand_of(cluster((8, 4)), ExecutorSettings("ray", gpus_per_cell=0), 2) == {"num_cpus": 2, "num_gpus": 0}
    for nodes, wanted in (([(8, 2), (8, 2)], "1 CPUs and 4 GPUs"), ([(2, 0), (2, 0)], "4 CPUs and 0 GPUs")):
        with pytest.raises(InputError, match=f"a cell wants {wanted}, and no node of the Ray cluster has them"):
            demand_of(cluster(*nodes), plain, 4)


# torchrun's part by stand-ins

Trained = Callable[[str], list[tuple[str, int, int]]]


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """Train a cell of two GPUs with a program in place of torchrun; return what it said of its progress."""
    bench = opened(tmp_path, gpus=2)

    def train(code: str) -> list[tuple[str, int, int]]:
        begin = "import json, os, subprocess, sys\nfrom pathlib import Path\nfolder = Path(sys.argv[1])\n"
        command = [sys.executable, "-c", begin + code]
        monkeypatch.setattr(train_cell, "torchrun", lambda count, folder: [*command, str(folder)])
        monkeypatch.setattr(train_cell, "published_run", lambda folder: None)
        said: list[tuple[str, int, int]] = []
        train_cell.train_cell(bench, bench.cells[0], lambda *words: said.append(words))
        return said

    return train


def test_progress_is_passed_on_and_other_words_are_not(trained: Trained) -> None:
    code = "job = json.loads((folder / 'job.json').read_text())\nprint('a library speaks')\nprint('[1, 2]')\n"
    assert trained(code + "print(json.dumps([job['cell'], 1, 2]))") == [("start-seed0", 1, 2)]


def failing(**said: Any) -> str:
    return f"(folder / 'failure.json').write_text({json.dumps(said)!r})\nsys.exit(1)"


def test_errors_of_the_processes_are_the_cells(trained: Trained) -> None:
    with pytest.raises(SeftBenchError, match="no data") as caught:
        trained(failing(message="no data", exit_status=2, lost=False))
    assert caught.value.exit_status == 2
    with pytest.raises(RuntimeError, match=r"see .*torchrun\.log:\nTraceback"):
        trained(failing(message="Traceback", exit_status=1, lost=False))
    with pytest.raises(ProcessLostError, match="process 0 lost another one"):
        trained(failing(message="process 0 lost another one", exit_status=6, lost=True))
    with pytest.raises(ProcessLostError, match="all of its processes were killed"):
        trained("os.kill(os.getpid(), 9)")


def test_processes_whose_torchrun_was_killed_end_too(trained: Trained) -> None:
    """A process that lives as long as its standard input, and a parent that does not wait for it."""
    child = "[sys.executable, '-c', 'import sys; sys.stdin.read()']"
    with pytest.raises(ProcessLostError):
        trained(f"subprocess.Popen({child})\nos.kill(os.getpid(), 9)")


def test_a_lost_process_is_a_lost_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(*_: Any) -> None:
        raise ProcessLostError("lost")

    monkeypatch.setattr(worker, "_prepared", lambda job: SimpleNamespace(cells=[SimpleNamespace(name=job.cell)]))
    monkeypatch.setattr(worker, "make_answers", lose)
    monkeypatch.setattr(worker.os, "_exit", sys.exit)
    bench = opened(tmp_path)
    with pytest.raises(SystemExit) as caught:
        worker.run_job(worker.job_of(bench, bench.cells[0], 1), lambda event: None)
    assert caught.value.code == 6


# Real processes

LONG: dict[str, Any] = {"steps": 30, "questions": 4, "workers": 1, "seeds": [0], "gpus": 2}


def ranks_of(out: Path) -> list[int]:
    """Processes that train a cell of this bench together."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if "seft_bench.bench.rank" not in words or "torch.distributed.run" in words:
                continue
            if read_json(Path(words[words.index("seft_bench.bench.rank") + 1]) / "job.json")["out"] == str(out):
                found.append(int(entry.name))
        except (OSError, InputError):
            continue
    return found


def under_way(out: Path) -> bool:
    return any(len(read_log(log)) >= 3 for log in out.glob("stages/chosen-*/train.jsonl"))


def made(out: Path) -> dict[str, bytes]:
    """Weights, logs and answers."""
    found = [*out.glob("stages/*/checkpoints/*/*.safetensors"), *out.glob("stages/*/train.jsonl")]
    return {
        str(path.relative_to(out)): path.read_bytes() for path in [*found, *out.glob("evaluations/*/*/*/answers.jsonl")]
    }


@pytest.mark.slow
def test_a_cell_of_two_processes_runs_again_when_one_is_killed(tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    matrix = small_matrix.write_matrix(tmp_path, **LONG)
    done = small_matrix.run(matrix, whole)
    assert done.returncode == 0, done.stderr
    assert "trains in 2 processes on the CPU" in done.stderr
    process = small_matrix.start(matrix, out)
    small_matrix.wait_for(lambda: under_way(out), process)
    victims = ranks_of(out)
    assert len(victims) == 2
    os.kill(victims[1], signal.SIGKILL)
    assert process.wait(500) == 0, out.with_suffix(".log").read_text()
    assert "chosen-seed0 runs again: its worker process was lost" in out.with_suffix(".log").read_text()
    assert not ranks_of(out)
    records = [read_json(path) for path in out.glob("stages/*/stage.json")]
    assert [record["processes"] for record in records if record["kind"] == "train"] == [2, 2]
    assert len(made(out)) >= 4
    assert made(out) == made(whole)
    assert small_matrix.tables(out) == small_matrix.tables(whole)


@pytest.mark.slow
def test_a_killed_driver_leaves_no_process_behind(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = small_matrix.start(small_matrix.write_matrix(tmp_path, **{**LONG, "steps": 2000}), out)
    small_matrix.wait_for(lambda: list(out.glob("stages/*/train.jsonl")), process)
    assert len(ranks_of(out)) == 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert gone(lambda: not ranks_of(out))


def gone(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return condition()
