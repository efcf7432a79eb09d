"""Controls and published figures through the commands: evaluated once, kept, at the foot of every table."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import yaml

from seft_bench.bench.resolved import Bench
from seft_bench.config import MatrixConfig
from seft_bench.errors import InputError
from seft_bench.report.methods import CONTROLS as BLOCK
from tests import small_matrix
from tests.conftest import REPOSITORY
from tests.faults.chat_server import serving
from tests.integration.cli import seft_bench
from tests.small_matrix import bench, written

pytestmark = pytest.mark.usefixtures("cells_in_this_process")

PUBLISHED = {
    "name": "theirs",
    "sets": [
        {
            "suite": "tiny-mtbench",
            "base": "Other-7B",
            "judge": "their judge",
            "conditions": "their data",
            "source": "Somebody 2024",
            "date": "2024-05",
            "figures": [{"name": "THEIRS", "metrics": {"score": 9.99}}],
        }
    ],
}


@pytest.fixture(autouse=True)
def _six_questions(desk: Path) -> None:
    """A suite of six questions, few.yaml."""
    values = yaml.safe_load((REPOSITORY / "eval_configs" / "suites" / "tiny-mtbench.yaml").read_text())
    (desk / "few.yaml").write_text(yaml.safe_dump({**values, "name": "tiny-mtbench", "max_questions": 6}))


def test_controls_are_evaluated_like_models_by_any_suite_and_kept(desk: Path) -> None:
    names = ("control:constant", "control:copy-prompt", "control:length-only")
    done = seft_bench("eval", *names, "--suite", "few.yaml", "--judge", "rubric", "--json")
    assert done.status == 0, done.err
    rows = json.loads(done.out)
    assert [(row["model"], row["coverage"]) for row in rows] == [
        (name, 1.0) for name in names for _ in ("sampled", "greedy")
    ]
    answers = {path: path.read_bytes() for path in desk.glob("runs/evaluations/*/*/*/*.jsonl")}
    assert len(answers) == 12  # answers and judgments of three controls at two decodings
    assert json.loads(seft_bench("eval", *names, "--suite", "few.yaml", "--json").out) == rows
    assert {path: path.read_bytes() for path in desk.glob("runs/evaluations/*/*/*/*.jsonl")} == answers
    assert BLOCK in (desk / "results" / "leaderboard.md").read_text()


def test_an_unknown_control_costs_nothing(desk: Path) -> None:
    seen = seft_bench("eval", "control:nothing", "--suite", "few.yaml")
    assert seen.status == 2
    assert "known are constant, copy-prompt, length-only" in seen.err
    assert not (desk / "runs").exists()


def test_a_matrix_evaluates_its_controls_once_and_keeps_published_figures_apart(desk: Path) -> None:
    (desk / "theirs.yaml").write_text(yaml.safe_dump(PUBLISHED))
    values = small_matrix.values(
        suites=["few.yaml"],
        workers=1,
        controls=["constant", "length-only"],
        published="theirs.yaml",
        rows=small_matrix.values()["rows"][:1],
    )
    (desk / "small.yaml").write_text(yaml.safe_dump(values))
    matrix, out = MatrixConfig.model_validate(values), desk / "out"
    done = bench(matrix, out, out / "results")
    assert not done.failures
    text = (out / "results" / "leaderboard.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["label"] for row in rows] == ["start", "constant answer", "filler of the baseline's length", ""]
    assert [row["block"] for row in rows] == ["", BLOCK, BLOCK, "published, conditions differ: Other-7B, 2024-05"]
    assert (rows[-1]["published"], rows[-1]["score"], rows[-1].get("rank", "")) == ("THEIRS", "9.99", "")
    assert "THEIRS" not in (out / "results" / "findings.md").read_text()
    assert "constant answer" not in (out / "results" / "findings.md").read_text()
    files = written(out / "results")
    assert bench(matrix, out, out / "results").ran == 0
    assert written(out / "results") == files
    shown = seft_bench("leaderboard", "small.yaml", "--results", str(out / "results"), "--format", "csv")
    assert shown.out == text + "\n"


def test_a_judge_that_is_gone_fails_the_controls_and_keeps_the_rows_and_their_tables(desk: Path) -> None:
    judge = {
        "name": "local",
        "kind": "openai",
        "model": "judge",
        "api_key_env": None,
        "templates": "seft-bench",
        "max_attempts": 1,
    }
    values = small_matrix.values(
        suites=["few.yaml"], workers=1, rows=small_matrix.values()["rows"][:1], judge="local.yaml"
    )
    with serving() as server:
        (desk / "local.yaml").write_text(yaml.safe_dump({**judge, "base_url": server.url}))
        assert not bench(MatrixConfig.model_validate(values), desk / "out", desk / "results").failures
    done = bench(MatrixConfig.model_validate({**values, "controls": ["constant"]}), desk / "out", desk / "results")
    assert [failure.cell for failure in done.failures] == ["controls"]
    assert not (desk / "out" / "controls.json").exists()
    assert "start" in (desk / "results" / "leaderboard.md").read_text()


def test_a_seed_that_the_last_bench_was_asked_for_is_missed_by_the_command_too(desk: Path) -> None:
    values = small_matrix.values(suites=["few.yaml"], workers=1, rows=small_matrix.values()["rows"][:1])
    (desk / "small.yaml").write_text(yaml.safe_dump(values))
    bench(MatrixConfig.model_validate(values), desk / "out", desk / "results")
    record = json.loads((desk / "results" / "matrix.json").read_text())
    (desk / "results" / "matrix.json").write_text(json.dumps({**record, "seeds": [0, 7]}))
    assert (
        "start: 1 of 2 seeds; no result of seed 7."
        in seft_bench("leaderboard", "small.yaml", "--results", "results").out
    )


def test_published_figures_that_cannot_be_read_stop_a_matrix_before_anything_runs(desk: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml"):
        bench(
            MatrixConfig.model_validate(small_matrix.values(published="nowhere.yaml")), desk / "out", desk / "results"
        )
    assert not (desk / "out").exists()


def test_more_controls_do_not_train_a_finished_cell_again() -> None:
    matrices = [MatrixConfig.model_validate(small_matrix.values(controls=controls)) for controls in ([], ["constant"])]
    plain, more = (Bench(matrix, Path("out"), Path("results")) for matrix in matrices)
    assert plain.identity(plain.cells[0]) == more.identity(more.cells[0])
