"""Files of the official tools and ours, official data folders, and the `score` road over them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from seft_bench.data import official
from seft_bench.errors import InputError
from seft_bench.evaluation.score_files import result_row, score_files
from seft_bench.files import write_jsonl
from seft_bench.formats.reading import read_answers, read_judgments
from seft_bench.records import Answer, Judgment, candidate_first, instruction_id, text_hash, to_row
from seft_bench.suites import load_suite


def annotation(**changes: Any) -> dict[str, Any]:
    row = {
        "instruction": "Do it.",
        "output_1": "base",
        "output_2": "mine",
        "generator_2": "model-a",
        "annotator": "judge",
        "preference": 1.25,
    }
    return row | changes


def grade_row(**changes: Any) -> dict[str, Any]:
    row = {
        "question_id": 81,
        "model": "model-a",
        "judge": ["gpt-4", "single-v1"],
        "judgment": "Rating: [[7]]",
        "score": 7,
        "turn": 1,
    }
    return row | changes


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text(json.dumps(rows) if path.suffix == ".json" else "".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_alpaca_eval_annotations(tmp_path: Path) -> None:
    [judgment] = read_judgments(write(tmp_path / "a.json", [annotation(raw_completion={"message": {"content": "m"}})]))
    assert (judgment.preference, judgment.status, judgment.model_id, judgment.judge_id, judgment.raw) == (
        1.25,
        "ok",
        "model-a",
        "judge",
        "m",
    )
    assert judgment.question_id == instruction_id("Do it.")
    assert judgment.answer_hash == text_hash("mine", "base")
    assert judgment.order == ("candidate_first" if candidate_first("Do it.") else "candidate_second")


@pytest.mark.parametrize(
    ("stored", "preference"),
    [
        ("1.75", 1.75),
        (0, 1.5),
        ("0.0", 1.5),
        (2, 2.0),
        (None, None),
        (-1, None),
        ("-1", None),
        ("nan", None),
        (float("nan"), None),
    ],
)
def test_stored_preferences(tmp_path: Path, stored: object, preference: float | None) -> None:
    [judgment] = read_judgments(write(tmp_path / "a.json", [annotation(preference=stored)]))
    assert judgment.preference == preference
    assert judgment.status == ("parse_error" if preference is None else "ok")


@pytest.mark.parametrize(
    ("score", "text", "expected", "status"),
    [
        (7, "[[7]]", 7.0, "ok"),
        ("8.5", "[[8.5]]", 8.5, "ok"),
        (0, "[[0]]", 0.0, "ok"),
        (-1, "no", None, "parse_error"),
        (-1, "$ERROR$", None, "api_error"),
    ],
)
def test_fastchat_scores(tmp_path: Path, score: object, text: str, expected: float | None, status: str) -> None:
    [judgment] = read_judgments(write(tmp_path / "j.jsonl", [grade_row(score=score, judgment=text)]))
    assert (judgment.score, judgment.status, judgment.key, judgment.judge_id) == (
        expected,
        status,
        "81/1/grade",
        "gpt-4",
    )


def test_answers_in_all_formats(tmp_path: Path) -> None:
    ours = Answer("mtbench", "81", "model-a", ("one", "two"), decoding="greedy")
    write_jsonl(tmp_path / "ours.jsonl", [to_row(ours)])
    fastchat = write(
        tmp_path / "fastchat.jsonl",
        [{"question_id": 81, "model_id": "model-a", "choices": [{"index": 0, "turns": ["one", "two"]}]}],
    )
    outputs = write(tmp_path / "outputs.json", [{"instruction": "Do it.", "output": "mine", "generator": "model-a"}])
    assert read_answers(tmp_path / "ours.jsonl") == [ours]
    assert read_answers(fastchat) == [Answer("mtbench", "81", "model-a", ("one", "two"))]
    assert read_answers(outputs) == [Answer("alpacaeval", instruction_id("Do it."), "model-a", ("mine",))]
    assert read_answers(write(tmp_path / "annotations.json", [annotation()])) == read_answers(outputs)


def test_our_judgments_come_back_as_written(tmp_path: Path) -> None:
    [judgment] = read_judgments(write(tmp_path / "j.jsonl", [grade_row()]))
    write_jsonl(tmp_path / "ours.jsonl", [to_row(judgment)])
    assert read_judgments(tmp_path / "ours.jsonl") == [judgment]


def test_gzipped_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(grade_row()).encode()))
    assert read_judgments(path)[0].score == 7
    path.write_bytes(b"no gzip")
    with pytest.raises(InputError, match="gzipped"):
        read_judgments(path)


OURS = {
    "suite": "mtbench",
    "question_id": "81",
    "model_id": "a",
    "turn": 1,
    "key": "k",
    "answer_hash": "",
    "judge_id": "j",
    "requested_model": "",
}
OURS |= {"returned_model": "", "prompt_hash": "", "order": "single"}


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("a.json", [annotation(), annotation(preference=3.5)], "index 1.*3.5"),
        ("a.json", [annotation(), {"instruction": "x"}], "index 1.*output_1, output_2, preference is missing"),
        ("a.json", [annotation(preference=[1])], "index 0.*number"),
        ("a.json", [annotation(output_2=None)], "index 0.*NoneType"),
        ("a.json", [annotation(), 3], "index 1.*object"),
        ("a.json", [], "no rows"),
        ("j.jsonl", [grade_row(), grade_row(score="high")], "line 2.*high"),
        ("j.jsonl", [{"question_id": 1, "g1_winner": "tie"}], "g1_winner.*Formats that can be read"),
        ("j.jsonl", [{"instruction": "x", "output": "y"}], "alpaca_eval outputs"),
        ("j.jsonl", [OURS | {"status": "fine", "score": 1}], "line 1.*'fine'.*parse_error"),
        ("j.jsonl", [OURS | {"status": "ok"}], "line 1.*score None"),
        ("j.jsonl", [OURS | {"status": "refused", "score": 4}], "line 1.*refused with score 4"),
        (
            "j.jsonl",
            [{key: OURS[key] for key in ("key", "judge_id", "model_id")} | {"status": "ok"}],
            "line 1.*missing",
        ),
    ],
)
def test_broken_judgments_are_named(tmp_path: Path, name: str, rows: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_judgments(write(tmp_path / name, rows))


def test_malformed_json_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_text(json.dumps(grade_row()) + "\n{broken\n")
    with pytest.raises(InputError, match="line 2: not valid JSON"):
        read_judgments(path)
    with pytest.raises(InputError, match="not found"):
        read_judgments(tmp_path / "absent.jsonl")
    array = tmp_path / "a.json"
    array.write_text("[\n{},\noops]")
    with pytest.raises(InputError, match="line 3"):
        read_judgments(array)


def test_a_missing_official_file_says_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("SEFT_BENCH_DATA_DIR", str(tmp_path / "mine"))
    with pytest.raises(
        InputError, match=r"question.jsonl.*mine.*no such folder.*cache.*SEFT_BENCH_DATA_DIR.*lm-sys/FastChat"
    ):
        official.official_path(official.QUESTIONS)
    assert {status.state for status in official.data_status()} == {"missing"}
    with pytest.raises(InputError, match="unknown official file"):
        official.official_path("mt_bench/other.jsonl")


def official_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEFT_BENCH_DATA_DIR", str(tmp_path))
    for name in official.OFFICIAL_FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    return tmp_path


def test_a_changed_file_is_used_with_a_warning_that_reaches_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = official_folder(tmp_path, monkeypatch)
    question = {"question_id": 81, "category": "math", "turns": ["a", "b"]}
    write(folder / official.QUESTIONS, [question])
    write(folder / official.REFERENCE_ANSWERS, [{"question_id": 81, "choices": [{"turns": ["r1", "r2"]}]}])
    assert load_suite("mtbench").questions()[0].reference == ("r1", "r2")
    assert official.file_status(official.QUESTIONS).state == "differs"
    judgments = write(
        folder / "j.jsonl", [grade_row(), grade_row(turn=2, score=3), grade_row(model="model-b", turn=2, score=-1)]
    )
    first, second = score_files("mtbench", None, judgments)
    assert (first.model, first.n, first.metrics["score"], first.withheld) == ("model-a", 2, 5.0, False)
    assert (second.model, second.n_scored, second.withheld) == ("model-b", 0, True)
    assert any("not the published file" in note for note in first.notes)


def test_wrong_difficulties_are_noticed_and_broken_ones_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = official_folder(tmp_path, monkeypatch) / official.DIFFICULTY
    path.write_text("index,instruction_difficulty\n" + "".join(f"{index},0.5\n" for index in range(805)))
    assert official.file_status(official.DIFFICULTY).state == "differs"
    path.write_text("index,instruction_difficulty\n0,0.5\n")
    assert official.file_status(official.DIFFICULTY).state == "broken"
    with pytest.raises(InputError, match="805 rows"):
        official.instruction_difficulties()
    path.write_text(
        "index,instruction_difficulty\n" + "".join(f"{index},{'x' if index == 3 else 0}\n" for index in range(805))
    )
    with pytest.raises(InputError, match=r"line 5.*'x'"):
        official.instruction_difficulties()
    (tmp_path / official.GAMED).write_text("model,preference\n")
    with pytest.raises(InputError, match="std_delta_len, instruction_difficulty"):
        official.gamed_data()


def tiny_files(tmp_path: Path) -> tuple[Path, Path]:
    """Our own files for the small pairwise suite: every answer wins but the first."""
    suite = load_suite("tiny-alpacaeval")
    questions = suite.questions()
    answers = {
        question.id: Answer("tiny-alpacaeval", question.id, "model-a", (f"answer {index}",))
        for index, question in enumerate(questions)
    }
    rows = [
        Judgment(
            "tiny-alpacaeval",
            r.question.id,
            "model-a",
            1,
            r.key,
            r.answer_hash,
            "rubric",
            "",
            "",
            "",
            "candidate_first",
            "ok",
            preference=1.0 if i == 0 else 2.0,
        )
        for i, r in enumerate(suite.requests(questions, answers))
    ]
    write_jsonl(tmp_path / "answers.jsonl", map(to_row, answers.values()))
    write_jsonl(tmp_path / "judgments.jsonl", map(to_row, rows))
    return tmp_path / "answers.jsonl", tmp_path / "judgments.jsonl"


def test_score_of_our_own_files(tmp_path: Path) -> None:
    answers, judgments = tiny_files(tmp_path)
    [result] = score_files("tiny-alpacaeval", answers, judgments)
    assert result.metrics["win_rate"] == pytest.approx(100 * (result.n - 1) / result.n)
    row = json.loads(json.dumps(result_row(result)))
    assert set(row) == {
        *("model", "suite", "metrics", "n", "n_scored", "n_unscored", "coverage", "withheld", "answers", "notes"),
    }
    assert row["withheld"] is False


def test_another_reference_makes_the_judgments_stale(tmp_path: Path) -> None:
    answers, judgments = tiny_files(tmp_path)
    other = write(
        tmp_path / "other.json",
        [
            {"instruction": q.turns[0], "output": "other", "generator": "g"}
            for q in load_suite("tiny-alpacaeval").questions()
        ],
    )
    [result] = score_files("tiny-alpacaeval", answers, judgments, other)
    assert result.n_scored == 0
    assert any("other texts" in note for note in result.notes)


def test_score_refuses_what_does_not_fit(tmp_path: Path) -> None:
    answers, judgments = tiny_files(tmp_path)
    with pytest.raises(InputError, match="none of its 320 judgments is of a question of tiny-mtbench"):
        score_files("tiny-mtbench", None, judgments)
    with pytest.raises(InputError, match="single answers"):
        score_files("tiny-mtbench", None, judgments, answers)
    foreign = write(tmp_path / "foreign.json", [{"instruction": "x", "output": "y", "generator": "model-z"}])
    with pytest.raises(InputError, match=r"no answers of model-a.*model-z"):
        score_files("tiny-alpacaeval", foreign, judgments)
    with pytest.raises(InputError, match="lacks answers to 320 of 320"):
        score_files("tiny-alpacaeval", answers, judgments, foreign)
