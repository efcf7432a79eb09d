"""Rows that the check before a training tokenised are not tokenised again, and only where nothing has changed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from seft_bench import pipeline
from seft_bench.config import RecipeConfig
from seft_bench.files import read_log, write_jsonl
from tests.tiny_model import make_tiny_model
from training import data, kept
from training.data import DataRules, Example
from training.kept import Kept, kept_rows
from training.tokens import Tokens

EXAMPLE = Example(Tokens.of([1, 2], [3]), Tokens.of([1, 2], [4, 5]))
RULES = DataRules(64, "pairs")


def refuse(_row: Any) -> Example:
    raise AssertionError("tokenised again")


def test_a_row_is_given_away_once_whatever_the_order_of_its_keys() -> None:
    rows = Kept()
    assert rows.keep({"a": 1, "b": "\ud800"}, lambda _: EXAMPLE) is EXAMPLE
    assert rows.take({"b": "\ud800", "a": 1}, refuse) is EXAMPLE
    with pytest.raises(AssertionError, match="tokenised again"):
        rows.take({"a": 1, "b": "\ud800"}, refuse)


def test_no_more_is_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST_TOKENS", 14)  # of 7 tokens each
    rows, other = Kept(), Example(Tokens.of([9], [9]))
    for number in range(3):
        rows.keep({"n": number}, lambda _: EXAMPLE)
    assert [rows.take({"n": number}, lambda _: other) for number in (2, 0)] == [other, EXAMPLE]
    rows.keep({"n": 3}, lambda _: EXAMPLE)  # what was given away makes room
    assert rows.take({"n": 3}, refuse) is EXAMPLE


def test_another_way_to_read_and_a_changed_tokenizer_have_rows_of_their_own(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model", with_weights=False)
    before = kept_rows(model, RULES)
    assert kept_rows(model, DataRules(32, "pairs")) is before  # rows are kept uncut
    assert kept_rows(model, DataRules(64, "answers")) is not before
    os.utime(model / "tokenizer.json", ns=(1, 1))
    assert kept_rows(model, RULES) is not before


@pytest.mark.parametrize("validation", [None, {"rows": 4}])
def test_a_method_tokenises_each_row_once(
    validation: dict[str, int] | None, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"prompt": f"What is {n}?", "chosen": f"It is {n}.", "rejected": "No." + " No" * n} for n in range(12)]
    write_jsonl(tmp_path / "pairs" / "preferences.jsonl", rows)
    seen: list[Any] = []
    tokenise = data.pair_example
    monkeypatch.setattr(data, "pair_example", lambda *given: seen.append(given) or tokenise(*given))
    monkeypatch.chdir(tmp_path)
    policy = {"max_steps": 2, "device": "cpu", "report_to": [], "validation": validation}
    losses = []
    for number, room in enumerate((kept.MOST_TOKENS, 0)):
        monkeypatch.setattr(kept, "MOST_TOKENS", room)
        seen.clear()
        recipe = RecipeConfig(
            name="run", method="orpo", base=str(tiny_model), data=str(tmp_path / "pairs"), settings={"policy": policy}
        )
        run = pipeline.train(recipe, tmp_path / f"run-{number}", checkpoints=1)
        assert len(seen) == (12 if room else 24)
        losses.append([row["loss"] for row in read_log(run.folder / "train.jsonl")])
    assert losses[0] == losses[1]
