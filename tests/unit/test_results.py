"""Result files keep their bytes: what is read and written again is what lay there."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from seft_bench.records import Result, RunFacts, run_from_row, run_of, run_to_row
from seft_bench.report.arms import is_control, is_final
from seft_bench.results import read_result, result_folder, save_result
from seft_bench.subjects import control_subject
from tests.conftest import REPOSITORY
from tests.unit.leaderboard_data import result

COSTS = {"steps", "unannotated_prompts", "tokens_trained", "tokens_generated", "cpu_seconds"}
EVERY_RUN = {"row", "label", "role", "method", "seed", "step", "final", *COSTS}


def written(folder: Path, found: Result) -> Path:
    save_result(folder, found)
    return result_folder(folder, found) / "result.json"


def run_written(folder: Path, found: Result) -> Any:
    return json.loads(written(folder, found).read_text())["run"]


def test_every_published_result_is_written_as_it_was_read(tmp_path: Path) -> None:
    published = sorted((REPOSITORY / "results").rglob("result.json"))
    assert len(published) > 200
    for path in published:
        again = written(tmp_path / path.relative_to(REPOSITORY).parts[1], read_result(path))
        assert again.read_bytes() == path.read_bytes(), path


def test_costs_that_came_later_are_kept_where_they_are_known_zero_too(tmp_path: Path) -> None:
    plain = result("seft", [1.0, 2.0])
    found = dataclasses.replace(plain, run=dataclasses.replace(run_of(plain), judge_calls=0, annotated_pairs=800))
    assert set(run_written(tmp_path, found)) == EVERY_RUN | {"judge_calls", "annotated_pairs"}
    assert read_result(written(tmp_path, found)) == found


def test_a_trained_result_says_what_training_took_and_no_more(tmp_path: Path) -> None:
    assert set(run_written(tmp_path, result("seft", [1.0, 2.0]))) == EVERY_RUN


def test_base_and_data_stand_in_the_file_only_where_a_matrix_has_several(tmp_path: Path) -> None:
    plain = result("seft", [1.0, 2.0])
    found = dataclasses.replace(plain, run=dataclasses.replace(run_of(plain), base="large"))
    assert set(run_written(tmp_path, found)) == EVERY_RUN | {"base"}
    again = read_result(written(tmp_path, found))
    assert again == found
    assert (run_of(again).group, run_of(plain).group) == ("large", "")


def test_a_control_has_no_costs_and_its_name(tmp_path: Path) -> None:
    found = dataclasses.replace(
        result("start", [1.0, 2.0]), model="control:constant", run=control_subject("control:constant").run
    )
    row = run_written(tmp_path, found)
    assert set(row) == EVERY_RUN | {"control"}
    assert row["control"] == "constant"
    assert {row[cost] for cost in COSTS} == {None}
    again = read_result(written(tmp_path, found))
    assert again == found
    assert is_control(again)
    assert is_final(again)


def test_an_imported_result_has_no_run_and_its_file_an_empty_one(tmp_path: Path) -> None:
    found = Result("alpacaeval", "gpt", {"win_rate": 50.0}, 2, 2, 0, 1.0, False, "gpt-4", decoding="imported")
    assert run_written(tmp_path, found) == {}
    again = read_result(written(tmp_path, found))
    assert again == found
    assert again.run is None
    assert not is_control(again)
    assert not is_final(again)
    with pytest.raises(ValueError, match="no training run is known behind 'gpt' on 'alpacaeval'"):
        run_of(again)


def test_keys_of_a_newer_file_are_left_out() -> None:
    run = RunFacts("dpo", "DPO", "method", "dpo", seed=1, step=2, final=True)
    assert run_from_row({**run_to_row(run), "carbon_grams": 3}) == run


@pytest.mark.parametrize("row", [None, {}, {"row": "dpo"}, {"trainer": "another tool's"}])
def test_what_says_too_little_is_no_run_of_ours(row: dict[str, Any] | None) -> None:
    assert run_from_row(row) is None
