"""A small matrix in worker processes: finished cells stay, failed ones stop no others, a killed driver goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from seft_bench.bench.finished import is_finished
from seft_bench.bench.judges_at_work import check_judges
from seft_bench.bench.plan import plan_bench
from seft_bench.bench.resolved import Bench, open_bench
from seft_bench.config import MatrixConfig, RubricJudgeConfig, by_name, config_folder, load_matrix
from seft_bench.errors import InputError
from seft_bench.inference.budget import Budget
from seft_bench.judges.rubric import RubricJudge
from seft_bench.records import run_of
from tests import small_matrix
from tests.conftest import REPOSITORY
from tests.small_matrix import bench, written


def matrix_of(**changes: Any) -> MatrixConfig:
    return MatrixConfig.model_validate(small_matrix.values(**changes))


@dataclass
class Lookups:
    """How often each config was read and each judge opened in this process."""

    configs: Counter[str] = field(default_factory=Counter)
    judges: Counter[str] = field(default_factory=Counter)


@contextlib.contextmanager
def counted_lookups() -> Iterator[Lookups]:
    """Count at the bottom, below every name that a module may have imported a loader by."""
    seen, read, open_rubric = Lookups(), by_name.load_yaml, RubricJudge.from_config

    def counting_read(path: Path, *rest: Any) -> Any:
        seen.configs[path.stem] += 1
        return read(path, *rest)

    def counting_open(config: RubricJudgeConfig, store: Path | None = None) -> RubricJudge:
        seen.judges[config.name] += 1
        return open_rubric(config, store)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(by_name, "load_yaml", counting_read)
        patched.setattr(RubricJudge, "from_config", counting_open)
        yield seen


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny MT-Bench with its first questions only, answered in short and at both of its decodings."""
    shipped = yaml.safe_load((config_folder() / "suites" / "tiny-mtbench.yaml").read_text())
    folder = tmp_path_factory.mktemp("suite")
    return small_matrix.write_yaml(folder / "few.yaml", **(shipped | {"max_questions": 6, "max_new_tokens": 16}))


@pytest.fixture(scope="module")
def ran(few: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Lookups]:
    """The folder of a matrix whose two workers have done their work, and what this process looked up for it."""
    out = tmp_path_factory.mktemp("matrix")
    with counted_lookups() as seen:
        done = bench(matrix_of(suites=[few]), out, out / "results")
    assert done.ran == 2
    assert not done.failures
    return out, seen


@pytest.fixture
def finished(ran: tuple[Path, Lookups]) -> Path:
    return ran[0]


def test_a_bench_looks_its_names_up_once(ran: tuple[Path, Lookups]) -> None:
    """From plan to tables; the judging thread alone opens judges of its own, as a store belongs to a thread."""
    _, seen = ran
    assert seen.configs == {"few": 1, "rubric": 1}
    assert seen.judges == {"rubric": 2}


def test_a_plan_of_finished_cells_looks_its_names_up_once(few: str, finished: Path) -> None:
    judges = ["rubric", "rubric-length-biased"]
    more_seeds = matrix_of(suites=[few], seeds=[0, 1, 2], judges=judges, controls=["constant"])
    with counted_lookups() as seen:
        opened = open_bench(more_seeds, finished, finished / "results")
        plan = plan_bench(opened)
        check_judges(opened, Budget(None))
    assert len(plan.cells) == 6
    assert seen.configs == {"few": 1, "rubric": 1, "rubric-length-biased": 1}
    assert seen.judges == {"rubric": 1, "rubric-length-biased": 1}


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
        "cost.png",
        "matrix.json",
    } <= names


def test_running_again_does_nothing_and_writes_the_same_bytes(few: str, finished: Path) -> None:
    before = written(finished / "results")
    done = bench(matrix_of(suites=[few]), finished, finished / "results")
    assert done.ran == 0
    assert written(finished / "results") == before


@pytest.mark.usefixtures("cells_in_this_process")
def test_another_results_folder_is_filled_from_what_is_there(few: str, finished: Path, tmp_path: Path) -> None:
    stages = {path: path.stat().st_mtime_ns for path in finished.glob("stages/*/stage.json")}
    done = bench(matrix_of(suites=[few]), finished, tmp_path)
    assert done.ran == 2
    assert {path: path.stat().st_mtime_ns for path in finished.glob("stages/*/stage.json")} == stages
    assert (tmp_path / "leaderboard.csv").read_bytes() == (finished / "results" / "leaderboard.csv").read_bytes()


def test_stages_are_shared_between_rows(finished: Path) -> None:
    assert len(list((finished / "stages").glob("start-*"))) == 1


def test_changed_settings_run_the_cell_anew_and_say_so(few: str, finished: Path) -> None:
    rows = [{"name": "start", "method": "sft", "role": "start", "settings": {"start": {"max_steps": 6}}}]
    opened = Bench(matrix_of(suites=[few], rows=rows), finished, finished / "results")
    assert not is_finished(opened, opened.cells[0])


@pytest.mark.usefixtures("cells_in_this_process")
def test_a_failed_cell_does_not_stop_the_others(few: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "sft.jsonl").write_text('{"prompt": [{"role": "user", "content": "q"}], "answer": "a"}\n' * 8)
    (data / "preferences.jsonl").write_text('{"prompt": [{"role": "user", "content": "q"}], "chosen": "a"}\n')
    done = bench(matrix_of(suites=[few], data=str(data)), tmp_path / "out", tmp_path / "results")
    assert [failure.cell for failure in done.failures] == ["chosen-seed0"]
    assert "line 1: no known shape of preferences: the row has prompt (list), chosen (str)" in done.failures[0].message
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


@pytest.mark.slow  # tests/faults/test_bench_kill.py kills drivers and workers at other moments
def test_a_killed_driver_goes_on_to_the_same_tables(few: str, finished: Path, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small_matrix.values(suites=[few])))
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
