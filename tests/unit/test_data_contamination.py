"""Training rows that ask what a suite asks: found by a published rule, counted, and removed unless they are to stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from seft_bench.config import DataConfig, with_contaminated
from seft_bench.data.contamination import Asked, QuestionIndex, asking_texts
from seft_bench.data.resolving import resolve
from seft_bench.data.suite_questions import questions_at_hand
from seft_bench.data.training import open_data
from seft_bench.errors import InputError
from seft_bench.files import read_json, read_jsonl, sha256_file, write_jsonl
from seft_bench.records import Row

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
"""A question of 16 words: it takes a common sequence of 9 words to hold more than half of them."""

INDEX = QuestionIndex([Asked("long", LONG), Asked("short", "Name a river!")])


@pytest.mark.parametrize(
    ("text", "suite"),
    [
        (LONG, "long"),
        (f"Please answer. {LONG.upper()}? Thank you.", "long"),
        ("one, two, three, four, five, six, seven, eight", None),  # 8 of 16: not more than half
        ("one two three four five six seven eight nine", "long"),
        ("one two three four five six seven x eight nine ten eleven twelve thirteen fourteen x", None),  # 7 and 7
        ("one two three four five six seven eight x nine ten eleven twelve thirteen fourteen fifteen sixteen", "long"),
        ("name a RIVER", "short"),
        ("Name a river in Europe", None),
        ("A long text in which somebody is asked to name a river of some country", None),
        ("", None),
    ],
)
def test_the_rule_by_hand(text: str, suite: str | None) -> None:
    found = INDEX.find(text)
    assert (found.suite if found else None) == suite


def test_what_the_user_asks_is_looked_at_and_no_answer() -> None:
    asked = [{"role": "user", "content": "A"}, {"role": "assistant", "content": "B"}, {"role": "user", "content": "C"}]
    assert asking_texts({"prompt": asked, "chosen": "D", "rejected": "E"}) == ["A", "C"]
    assert asking_texts({"messages": [*asked, {"role": "assistant", "content": "D"}]}) == ["A", "C"]
    assert asking_texts({"text": "T"}) == ["T"]


def suite_question() -> str:
    return next(asked.text for asked in questions_at_hand().asked if asked.suite == "tiny-mtbench")


def pair(prompt: str) -> Row:
    return {"prompt": prompt, "chosen": "good", "rejected": "poor"}


def test_rows_that_ask_a_suites_question_are_removed_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    question = suite_question()
    rows = [pair("An innocent question?"), *[pair(f"{question} ")] * 7]
    write_jsonl(tmp_path / "preferences.jsonl", rows)
    folder = open_data(str(tmp_path), 0, tmp_path / "made", ["preferences"])
    assert [row["prompt"][0]["content"] for row in read_jsonl(folder / "preferences.jsonl")] == [
        "An innocent question?"
    ]
    record = read_json(folder / "manifest.json")["preferences"]
    found = record["contaminated"]
    assert (record["rows_read"], record["rows"], found["rows"], found["removed"]) == (8, 1, 7, True)
    assert found["by_suite"] == {"tiny-mtbench": 7}
    assert found["examples"] == [{"suite": "tiny-mtbench", "question": question, "found_in": f"{question} "}] * 5
    assert "tiny-alpacaeval" in found["against"]
    assert "7 rows of preferences ask what a suite asks (7 tiny-mtbench) and were removed" in capsys.readouterr().err


def test_they_stay_where_that_is_asked_for_and_are_counted(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "preferences.jsonl", [pair(suite_question()), pair("An innocent question?")])
    folder = resolve(with_contaminated(str(tmp_path)), tmp_path / "made", ["preferences"])
    record = read_json(folder / "manifest.json")["preferences"]
    assert (record["rows"], record["contaminated"]["rows"], record["contaminated"]["removed"]) == (2, 1, False)
    given = {"preferences": {"source": "x"}}
    kept = with_contaminated(DataConfig.model_validate(given))
    assert kept.model_dump() == {**given, "keep_contaminated": True}


def test_where_nothing_else_is_left_that_is_said(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "preferences.jsonl", [pair(suite_question())])
    with pytest.raises(InputError, match="can be used as preferences: 1 that ask what a suite asks"):
        open_data(str(tmp_path), 0, tmp_path / "made", ["preferences"])


def test_the_tinyworlds_own_data_stay_as_they_are(tmp_path: Path) -> None:
    """Its questions are drawn apart from its training data; its files are pinned by this hash of seed 0."""
    from seft_bench.files import write_jsonl
    from seft_bench.tinyworld import data_sets

    folder = open_data("tinyworld", 0, tmp_path, ["preferences"])
    write_jsonl(tmp_path / "expected.jsonl", data_sets.preference_rows(0)[0])
    assert sha256_file(folder / "preferences.jsonl") == sha256_file(tmp_path / "expected.jsonl")


def test_suites_whose_files_are_missing_are_named(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEFT_BENCH_DATA_DIR", raising=False)
    found = questions_at_hand()
    assert {"alpacaeval", "mtbench"} <= set(found.missing)
    assert {"tiny-alpacaeval", "tiny-mtbench"} <= set(found.suites)


def test_the_official_suites_questions_are_found_in_real_data(official_data: Path, tmp_path: Path) -> None:
    """AlpacaEval's instructions and MT-Bench's questions as training data, and one question that is neither's."""
    rows = read_json(official_data / "official" / "alpaca_eval" / "alpaca_eval_gpt4_baseline.json")
    turns = read_jsonl(official_data / "official" / "mt_bench" / "question.jsonl")
    own = [{"instruction": "What shall I cook tonight with leeks and rice?", "output": "A risotto."}]
    mtbench = [{"instruction": f"Hello. {row['turns'][0]}", "output": "Well."} for row in turns]
    write_jsonl(tmp_path / "a.jsonl", [*rows, *mtbench, *own])
    config = DataConfig.model_validate({"sft": {"source": str(tmp_path / "a.jsonl"), "shape": "alpaca"}})
    folder = resolve(config, tmp_path / "made", ["sft"])
    assert [row["prompt"][0]["content"] for row in read_jsonl(folder / "sft.jsonl")] == [own[0]["instruction"]]
    found = read_json(folder / "manifest.json")["sft"]["contaminated"]
    both = len({row["instruction"] for row in rows} & {turn for row in turns for turn in row["turns"]})
    assert found["by_suite"] == {"alpacaeval": 805 - both, "mtbench": 80 + both}
    assert found["not_at_hand"] == []
