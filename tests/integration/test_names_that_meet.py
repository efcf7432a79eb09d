"""Models whose names are one as a folder's name: nothing of the one is taken for the other's, and neither is lost."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import yaml

from seft_bench.config import config_folder
from seft_bench.files import write_jsonl
from seft_bench.records import Answer, Result, to_row
from seft_bench.results import read_results, result_folder, save_result
from seft_bench.suites import load_suite
from tests.integration.cli import REPOSITORY, seft_bench
from tests.small_matrix import write_yaml
from tests.tiny_model import make_tiny_model

NAMES = ("a/b", "a-b", "a b")


def test_ready_answers_of_meeting_names_are_judged_and_kept_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    questions = load_suite("tiny-mtbench").questions()
    rows = [
        Answer("tiny-mtbench", q.id, name, ("x" * place,) * len(q.turns) if place else tuple(q.reference or q.turns))
        for place, name in enumerate(NAMES)
        for q in questions
    ]
    write_jsonl(Path("answers.jsonl"), map(to_row, rows))
    for _ in range(2):
        seen = seft_bench("eval", "answers.jsonl", "--suite", "tiny-mtbench", "--json")
        assert seen.status == 0, seen.err
    own = {row["model"]: row["metrics"]["score"] for row in json.loads(seen.out)}
    assert own["a/b"] > own["a-b"]
    assert {result.model: result.metrics["score"] for result in read_results(Path("results"))} == own
    assert len(list(Path("runs/evaluations").iterdir())) == len(NAMES)
    assert Path("results/leaderboard.csv").read_text().count("tiny-mtbench") >= 1
    assert seft_bench("export", "--format", "fastchat", "--suite", "tiny-mtbench", "--out", "out").status == 0


def test_a_result_never_overwrites_another_models(tmp_path: Path) -> None:
    first = Result("s", "a/b", {"score": 1.0}, 1, 1, 0, 1.0, False, judge_id="j", decoding="greedy")
    second = dataclasses.replace(first, model="a-b", metrics={"score": 2.0})
    for _ in range(2):
        save_result(tmp_path, first)
        save_result(tmp_path, second)
    assert {result.model: result.metrics["score"] for result in read_results(tmp_path)} == {"a/b": 1.0, "a-b": 2.0}
    assert result_folder(tmp_path, first).name == "a-b@greedy@j"
    assert result_folder(tmp_path, second).name.startswith("a-b@greedy@j-")
    (tmp_path / "s" / "a-b@greedy@j" / "result.json").unlink()
    save_result(
        tmp_path, dataclasses.replace(second, metrics={"score": 3.0})
    )  # it stays where it is, and is there once
    assert [result.metrics["score"] for result in read_results(tmp_path)] == [3.0]


def test_committed_results_keep_their_folders() -> None:
    folder = REPOSITORY / "results" / "tinyworld"
    found = read_results(folder)
    assert found
    assert {result_folder(folder, result) for result in found} == {
        path.parent for path in folder.glob("*/*/result.json")
    }


def test_other_weights_of_one_name_are_replaced_with_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = yaml.safe_load((config_folder() / "suites" / "tiny-mtbench.yaml").read_text())
    suite = write_yaml(
        tmp_path / "few.yaml",
        **(
            shipped
            | {"name": "few", "max_questions": 2, "decodings": {"greedy": {"temperature": 0.0}}, "max_new_tokens": 4}
        ),
    )
    for run, number in (("x", 0), ("y", 1)):
        make_tiny_model(tmp_path / run / "m" / "final", seed=number)
    said = [seft_bench("eval", f"{run}/m/final", "--suite", suite).err for run in ("x", "x", "y")]
    assert ["replaces the figures of other weights" in text for text in said] == [False, False, True]
