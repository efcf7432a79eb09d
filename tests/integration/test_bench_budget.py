"""A matrix with a budget: shown before, kept to, said in every table; refused before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from seft_bench.bench.matrix import find_cell
from seft_bench.config import load_matrix
from seft_bench.files import read_json, read_jsonl
from seft_bench.pipeline import dry_run
from tests import small_matrix
from tests.integration.cli import good, seft_bench

START = {"start": {"max_steps": 4}}
ROWS: list[dict[str, Any]] = [
    {"name": "start", "method": "sft", "role": "start", "settings": START},
    {"name": "dpo", "method": "dpo", "settings": START},
    {"name": "label", "method": "self-label", "settings": {**START, "teacher": {"max_steps": 2}, "prompts": 8}},
]


def test_rows_take_equal_steps_and_tables_say_so(tmp_path: Path) -> None:
    matrix = small_matrix.write_matrix(tmp_path, seeds=[0], rows=ROWS, budget={"steps": 5})
    said = good(seft_bench("bench", matrix, "--out", str(tmp_path / "out"), "--dry-run")).out
    assert "budget of steps: 5: dpo: dpo 5" in said
    assert "budget of steps: 5: label: chosen 2 + self-label 3" in said
    good(small_matrix.run_here(matrix, tmp_path / "out"))
    results, cells = tmp_path / "out" / "results", tmp_path / "out" / "cells"
    steps = {row["name"]: read_json(cells / f"{row['name']}-seed0" / "manifest.json")["cost"]["steps"] for row in ROWS}
    assert steps == {"start": 4, "dpo": 4 + 5, "label": 4 + 5}
    assert read_json(results / "matrix.json")["steps_beyond_start"]["label"] == {"chosen": 2, "self-label": 3}
    scores, costs = (results / "leaderboard.md").read_text().split("### What the methods cost")
    assert "At equal steps (5)" in scores
    assert "At equal steps (5)" in costs
    table = json.loads((results / "leaderboard.json").read_text())
    assert "At equal steps (5)" in json.dumps(table)
    again = good(small_matrix.run_here(matrix, tmp_path / "out"))
    assert "nothing to do" in again.err


def test_tokens_are_kept_within_a_batch_and_a_dry_run_knows_the_steps(tmp_path: Path) -> None:
    matrix = small_matrix.write_matrix(tmp_path, seeds=[0], rows=ROWS[:2], budget={"tokens": 6000})
    good(small_matrix.run_here(matrix, tmp_path / "out"))
    [stage] = (tmp_path / "out" / "stages").glob("dpo-*")
    record = read_json(stage / "stage.json")
    before_last = read_jsonl(stage / "train.jsonl")[-2]["tokens"]
    assert 6000 - 2 * (record["tokens_trained"] - before_last) < record["tokens_trained"] <= 6000
    recipe = find_cell(load_matrix(matrix), "dpo-seed0").recipe
    planned = {plan.name: plan for plan in dry_run(recipe, probe=False)}["dpo"]
    assert planned.steps == record["steps"] > 2
    assert "At equal tokens (6,000, within a batch a stage)" in (tmp_path / "out/results/leaderboard.md").read_text()


def test_rows_that_cannot_be_brought_there_end_the_command_before_it_begins(tmp_path: Path) -> None:
    seft = {"name": "seft", "method": "seft", "settings": START}
    fixed = {"name": "fixed", "method": "dpo", "settings": {**START, "policy": {"max_steps": 5}}}
    matrix = small_matrix.write_matrix(tmp_path, seeds=[0], rows=[*ROWS, seft, fixed], budget={"steps": 5})
    seen = seft_bench("bench", matrix, "--out", str(tmp_path / "out"))
    assert seen.status == 2
    assert "2 rows cannot be brought to `budget: {steps: 5}`" in seen.err
    assert "row 'seft' (method seft): nobody knows the steps of preliminary-reviser and reviser" in seen.err
    assert "row 'fixed' (method dpo): settings.policy.max_steps: 5 contradicts it" in seen.err
    assert not (tmp_path / "out").exists()
