"""A matrix with a budget: shown before, kept to, said in every table; refused before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from seft_bench.files import read_json
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


def test_rows_that_cannot_be_brought_there_end_the_command_before_it_begins(tmp_path: Path) -> None:
    seft = {"name": "seft", "method": "seft", "settings": START}
    fixed = {"name": "fixed", "method": "dpo", "settings": {**START, "policy": {"max_steps": 5}}}
    matrix = small_matrix.write_matrix(tmp_path, seeds=[0], rows=[*ROWS, seft, fixed], budget={"steps": 5})
    seen = seft_bench("bench", matrix, "--out", str(tmp_path / "out"))
    assert seen.status == 2
    assert "2 rows cannot be brought to `budget: {steps: 5}`" in seen.err
    assert "row 'seft' (method seft): preliminary-reviser and reviser last epochs" in seen.err
    assert "row 'fixed' (method dpo): settings.policy.max_steps: 5 contradicts it" in seen.err
    assert not (tmp_path / "out").exists()
