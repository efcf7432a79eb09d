"""A small matrix in worker processes: finished cells stay, failed ones do not stop the others, a killed driver goes
on.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from seft_bench.bench import matrix as matrices
from seft_bench.bench.run import bench
from seft_bench.config import MatrixConfig, load_matrix
from seft_bench.errors import InputError
from seft_bench.records import run_of
from tests.conftest import REPOSITORY

FEW = {"max_steps": 4}


def small(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "name": "small",
        "base": "tinyworld",
        "seeds": [0],
        "checkpoints": 2,
        "suites": ["tiny-mtbench"],
        "workers": 2,
        "rows": [
            {"name": "start", "method": "sft", "role": "start", "settings": {"start": FEW}},
            {"name": "chosen", "method": "sft-chosen", "settings": {"start": FEW, "policy": FEW}},
        ],
    }
    return {**values, **changes}


def matrix_of(**changes: Any) -> MatrixConfig:
    return MatrixConfig.model_validate(small(**changes))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("matrix")
    done = bench(matrix_of(), out, out / "results")
    assert done.ran == 2
    assert not done.failures
    return out


def test_every_checkpoint_is_evaluated_at_every_decoding(finished: Path) -> None:
    from seft_bench.results import read_results

    results = read_results(finished / "results")
    assert {(run_of(result).row, run_of(result).step, result.decoding) for result in results} == {
        (row, step, decoding) for row in ("start", "chosen") for step in (2, 4) for decoding in ("sampled", "greedy")
    }
    assert {run_of(result).final for result in results if run_of(result).step == 4} == {True}


def test_tables_and_picture_are_written(finished: Path) -> None:
    names = {path.name for path in (finished / "results").iterdir() if path.is_file()}
    assert {
        "leaderboard.md",
        "leaderboard.csv",
        "leaderboard.html",
        "leaderboard.tex",
        "leaderboard.json",
        "findings.md",
        "curves.png",
        "matrix.json",
    } <= names


def test_running_again_does_nothing_and_writes_the_same_bytes(finished: Path) -> None:
    before = {path: path.read_bytes() for path in (finished / "results").rglob("*") if path.is_file()}
    done = bench(matrix_of(), finished, finished / "results")
    assert done.ran == 0
    assert {path: path.read_bytes() for path in (finished / "results").rglob("*") if path.is_file()} == before


def test_another_results_folder_is_filled_from_what_is_there(finished: Path, tmp_path: Path) -> None:
    stages = {path: path.stat().st_mtime_ns for path in finished.glob("stages/*/stage.json")}
    done = bench(matrix_of(), finished, tmp_path)
    assert done.ran == 2
    assert {path: path.stat().st_mtime_ns for path in finished.glob("stages/*/stage.json")} == stages
    assert (tmp_path / "leaderboard.csv").read_bytes() == (finished / "results" / "leaderboard.csv").read_bytes()


def test_stages_are_shared_between_rows(finished: Path) -> None:
    assert len(list((finished / "stages").glob("start-*"))) == 1


def test_changed_settings_run_the_cell_anew_and_say_so(finished: Path) -> None:
    changed = matrix_of(
        rows=[{"name": "start", "method": "sft", "role": "start", "settings": {"start": {"max_steps": 6}}}]
    )
    assert not matrices.is_finished(changed, matrices.cells(changed)[0], finished, finished / "results")


def test_a_failed_cell_does_not_stop_the_others(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "sft.jsonl").write_text('{"prompt": [{"role": "user", "content": "q"}], "answer": "a"}\n' * 8)
    (data / "preferences.jsonl").write_text('{"prompt": [{"role": "user", "content": "q"}], "chosen": "a"}\n')
    done = bench(matrix_of(data=str(data), workers=1), tmp_path / "out", tmp_path / "results")
    assert [failure.cell for failure in done.failures] == ["chosen-seed0"]
    assert "line 1: key rejected is missing" in done.failures[0].message
    assert "rejected" in (tmp_path / "out" / "cells" / "chosen-seed0" / "error.txt").read_text()
    assert {run_of(result).row for result in done.results} == {"start"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": [{"name": "x", "method": "ppo"}]}, "unknown method 'ppo'"),
        ({"rows": [{"name": "x", "method": "sft", "settings": {"lr": 1}}]}, "lr: unknown key"),
        ({"suites": ["mt"]}, "unknown suite 'mt'"),
        ({"judge": "gpt"}, "unknown judge 'gpt'"),
        ({"base": "/nowhere"}, "no checkpoint"),
    ],
)
def test_a_matrix_that_cannot_run_starts_nothing(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        bench(matrix_of(**changes), tmp_path / "out", tmp_path / "results")
    assert not (tmp_path / "out" / "cells").exists()


def test_a_killed_driver_goes_on_to_the_same_tables(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small()))
    command = [
        sys.executable,
        "-m",
        "seft_bench.cli.main",
        "bench",
        str(tmp_path / "small.yaml"),
        "--out",
        str(tmp_path / "out"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    end = time.monotonic() + 120
    while not list((tmp_path / "out").glob("evaluations/*/*/*/answers.jsonl")):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    for name in ("leaderboard.csv", "findings.md"):
        killed, whole = (folder / "results" / name for folder in (tmp_path / "out", finished))
        assert _without_costs(killed.read_text()) == _without_costs(whole.read_text())


def _without_costs(text: str) -> list[list[str]]:
    """CPU seconds differ from run to run; every other figure must not."""
    lines = [line.split(",") for line in text.splitlines()]
    columns = [index for index, name in enumerate(lines[0]) if "cpu" in name.lower()]
    return [[cell for index, cell in enumerate(line) if index not in columns] for line in lines]


def test_the_shipped_matrix_holds_the_controls_that_the_claims_need() -> None:
    matrix = load_matrix("tinyworld")
    roles = {row.name: row.role for row in matrix.rows}
    assert roles["start"] == "start"
    assert roles["always-rewrite"] == "ablation"
    assert {name for name, role in roles.items() if role == "control"} == {
        "self-label",
        "own-drafts",
        "seft-600-prompts",
    }
    assert matrix.checkpoints == 2
