"""A matrix whose file changed after it ran: exactly what the change decides is done again.

Nothing of before stays in the tables.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from seft_bench.bench.plan import plan_bench
from seft_bench.bench.resolved import Bench, open_bench
from seft_bench.bench.run import run_bench
from seft_bench.config import MatrixConfig, load_matrix
from seft_bench.errors import InputError
from seft_bench.records import run_of
from seft_bench.results import read_results
from tests.small_matrix import cells_here, write_matrix

pytestmark = pytest.mark.usefixtures("cells_in_this_process")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder with small.yaml (one seed, four steps, one checkpoint), run; and a copy of what lay in it then."""
    folder, kept = tmp_path_factory.mktemp("ran"), tmp_path_factory.mktemp("kept") / "copy"
    with cells_here():
        assert run(folder, load_matrix(write_matrix(folder, seeds=[0]))) == 2
    shutil.copytree(folder, kept, copy_function=shutil.copy2)
    return folder, kept


@pytest.fixture
def ran(first: tuple[Path, Path]) -> Path:
    """The folder as it was when it had just run: at the same place, as the matrix names its suite by its path."""
    folder, kept = first
    shutil.rmtree(folder)
    shutil.copytree(kept, folder, copy_function=shutil.copy2)
    return folder


def opened(folder: Path, matrix: MatrixConfig) -> Bench:
    return open_bench(matrix, folder / "out", folder / "out" / "results")


def run(folder: Path, matrix: MatrixConfig) -> int:
    done = run_bench(opened(folder, matrix))
    assert not done.failures
    return done.ran


def changed(folder: Path, **changes: Any) -> MatrixConfig:
    return MatrixConfig.model_validate({**yaml.safe_load((folder / "small.yaml").read_text()), **changes})


def longer(folder: Path, steps: int) -> MatrixConfig:
    """The second row trained on; both rows share the start's stage."""
    rows = yaml.safe_load((folder / "small.yaml").read_text())["rows"]
    rows[1]["settings"] = {**rows[1]["settings"], "policy": {"max_steps": steps}}
    return changed(folder, rows=rows)


def trained(folder: Path) -> dict[str, int]:
    """Finished stages and when each was finished."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("out/stages/*/stage.json")}


def shown(folder: Path) -> set[tuple[str, int]]:
    return {(run_of(result).row, run_of(result).step) for result in read_results(folder / "out" / "results")}


def test_another_number_of_checkpoints_is_trained_and_shown(ran: Path) -> None:
    more = changed(ran, checkpoints=2)
    plan = plan_bench(opened(ran, more))
    assert [(state.is_trained, state.is_changed) for state in plan.cells] == [(False, True)] * 2
    assert run(ran, more) == 2
    assert shown(ran) == {(row, step) for row in ("start", "chosen") for step in (2, 4)}
    assert run(ran, more) == 0


def test_changed_settings_train_that_row_only_and_changed_back_nothing(ran: Path) -> None:
    table = (ran / "out" / "results" / "leaderboard.csv").read_bytes()
    before = trained(ran)
    assert run(ran, longer(ran, 6)) == 1
    assert shown(ran) == {("start", 4), ("chosen", 6)}
    after = trained(ran)
    assert before.items() < after.items()
    assert len(after) == len(before) + 1
    kept = {path: path.read_bytes() for path in ran.glob("out/evaluations/*/*/*/*.jsonl")}
    assert run(ran, load_matrix(str(ran / "small.yaml"))) == 1
    assert trained(ran) == after
    assert {path: path.read_bytes() for path in ran.glob("out/evaluations/*/*/*/*.jsonl")} == kept
    assert (ran / "out" / "results" / "leaderboard.csv").read_bytes() == table


def test_leftovers_of_a_killed_publishing_are_not_taken_for_checkpoints(ran: Path) -> None:
    cell = ran / "out" / "cells" / "chosen-seed0"
    (
        cell / "manifest.json"
    ).unlink()  # killed before the manifest, with the old settings' checkpoints there already, and no result yet
    (cell / "cell.json").unlink()
    shutil.rmtree(ran / "out" / "results")
    (cell / "checkpoints" / "step-000004").rename(cell / "checkpoints" / "step-000006")
    run(ran, longer(ran, 6))
    (log,) = ran.glob("out/stages/chosen-*/checkpoints/step-000006/model.safetensors")
    assert [path.name for path in (cell / "checkpoints").iterdir()] == ["step-000006"]
    assert (cell / "checkpoints" / "step-000006" / "model.safetensors").read_bytes() == log.read_bytes()


def test_train_refuses_another_number_of_checkpoints(tmp_path: Path) -> None:
    from seft_bench import pipeline
    from seft_bench.stages.recipes import load_recipe

    recipe = load_recipe("tiny-seft", ["method=sft", "settings={start: {max_steps: 4}}"])
    run = pipeline.train(recipe, tmp_path / "run", checkpoints=1)
    assert pipeline.train(recipe, tmp_path / "run", checkpoints=1).checkpoints == run.checkpoints
    with pytest.raises(InputError, match=r"asked for 1 checkpoints, not 2.*--fresh"):
        pipeline.train(recipe, tmp_path / "run", checkpoints=2)


def test_an_edited_suite_is_evaluated_again_and_a_new_comment_is_not(ran: Path) -> None:
    suite = ran / "few.yaml"
    text = suite.read_text()
    suite.write_text(text + "# a comment\n")
    assert run(ran, load_matrix(str(ran / "small.yaml"))) == 0
    suite.write_text(text.replace("max_questions: 4", "max_questions: 6"))
    before = trained(ran)
    assert run(ran, load_matrix(str(ran / "small.yaml"))) == 2
    assert trained(ran) == before
    assert {result.n for result in read_results(ran / "out" / "results")} == {12}


def test_missing_data_is_said_before_anything_is_trained(ran: Path) -> None:
    with pytest.raises(InputError, match="data '/nowhere' is neither"):
        opened(ran / "new", changed(ran, data="/nowhere"))


def test_wrong_settings_name_their_row(ran: Path) -> None:
    rows = [
        {"name": "start", "method": "sft"},
        {"name": "mine", "method": "sft", "settings": {"start": {"max_step": 4}}},
    ]
    with pytest.raises(InputError, match=r"(?s)row 'mine'.*max_step: unknown key"):
        opened(ran, changed(ran, rows=rows))


def test_data_that_changed_under_its_path_is_trained_on(tmp_path: Path) -> None:
    from seft_bench.data.training import open_data

    made = open_data("tinyworld", 0, tmp_path, ["sft", "preferences"])
    mine = tmp_path / "mine"
    shutil.copytree(made, mine)
    matrix = load_matrix(write_matrix(tmp_path, seeds=[0], workers=1, data=str(mine)))
    assert run(tmp_path, matrix) == 2
    assert run(tmp_path, matrix) == 0
    before = trained(tmp_path)
    rows = (mine / "preferences.jsonl").read_text().splitlines(keepends=True)
    (mine / "preferences.jsonl").write_text("".join(rows[::-1]))
    assert [state.is_changed for state in plan_bench(opened(tmp_path, matrix)).cells] == [False, True]
    assert run(tmp_path, matrix) == 1  # SFT reads no preferences
    after = trained(tmp_path)
    assert before.items() < after.items()  # what a stage did not read decides nothing: the start is not trained again
    assert {name.rpartition("-")[0] for name in set(after) - set(before)} == {"chosen"}
    assert run(tmp_path, matrix) == 0


def test_a_changed_cell_that_was_not_chosen_is_in_no_table(ran: Path) -> None:
    done = run_bench(opened(ran, longer(ran, 6)), only=["start-*"])
    assert {run_of(result).row for result in done.results} == {"start"}
    assert "chosen" not in (ran / "out" / "results" / "findings.md").read_text()
    assert run(ran, longer(ran, 6)) == 1
    assert shown(ran) == {("start", 4), ("chosen", 6)}


def test_a_suite_that_was_taken_out_leaves_the_tables(ran: Path) -> None:
    second = ran / "second.yaml"
    second.write_text((ran / "few.yaml").read_text().replace("name: few", "name: second"))
    assert run(ran, changed(ran, suites=[str(ran / "few.yaml"), str(second)])) == 2
    table = ran / "out" / "results" / "leaderboard.md"
    assert "Methods on second" in table.read_text()
    assert run(ran, changed(ran)) == 2
    assert "Methods on second" not in table.read_text()
    assert "Methods on few" in table.read_text()
