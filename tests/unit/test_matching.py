"""A file's rows and a suite's questions: what fits, what fits nearly, and what is left over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from seft_bench.answers import answered_only, statuses_of, turn_of
from seft_bench.config import ReplayJudgeConfig
from seft_bench.errors import InputError
from seft_bench.evaluation.score_files import score_files
from seft_bench.files import write_jsonl
from seft_bench.formats.matching import match_answers
from seft_bench.formats.reading import read_answers, read_file_answers
from seft_bench.judges import open_judge
from seft_bench.records import Answer, Question, instruction_id
from seft_bench.report.site.records import text_row

PAIRS = [("Name a river. ", "The Danube."), ("Name a fish.\n", "A carp."), ("Name a town.", "Graz is a town.")]


def questions(*texts: str) -> list[Question]:
    return [Question("mine", instruction_id(text), "", (text,), ("base",)) for text in texts]


def outputs(folder: Path, *asked: str, **more: Any) -> Path:
    rows = [{"instruction": text, "output": f"To {text!r}.", "generator": "m", **more} for text in asked]
    (folder / "outputs.json").write_text(json.dumps(rows))
    return folder / "outputs.json"


def test_exact_texts_come_first_and_white_space_second(tmp_path: Path) -> None:
    asked = questions("Name a river.", "Name a fish. ", "Name a town.", "Name a tree.", "Name a tree. ")
    file = outputs(tmp_path, "Name a river. ", "Name a fish.", "name a town.", " Name a tree.", "Name a river.")
    matched = match_answers(asked, read_file_answers(file))
    texts = {question.turns[0]: matched.answers.get(question.id) for question in asked}
    assert {text: answer and answer.turns[0] for text, answer in texts.items()} == {
        "Name a river.": "To 'Name a river.'.",  # the exact one, though it comes last
        "Name a fish. ": "To 'Name a fish.'.",
        "Name a town.": None,  # a capital is no white space
        "Name a tree.": None,  # two questions would fit
        "Name a tree. ": None,
    }
    assert matched.notes == (
        "3 answers match no question of the suite and are left out: 'Name a river. ', 'name a town.', ' Name a tree.'.",
        "1 answers match their question only without the white space around its text; they are taken: 'Name a fish.'.",
    )


def test_a_question_answered_twice_is_named(tmp_path: Path) -> None:
    matched = match_answers(questions("A?"), read_file_answers(outputs(tmp_path, "A?", "A?")))
    assert matched.notes == ("1 questions are answered more than once; the last row counts: 'A?'.",)


def own_pairs(folder: Path) -> str:
    write_jsonl(folder / "pairs.jsonl", [{"instruction": text, "output": output} for text, output in PAIRS])
    (folder / "pairs.yaml").write_text(
        "{name: pairs, kind: alpacaeval, source: files, questions: pairs.jsonl, difficulty: zero, "
        "default_judge: local-openai, max_new_tokens: 8, decodings: {greedy: {temperature: 0}}, description: x}"
    )
    return str(folder / "pairs.yaml")


@pytest.mark.parametrize("strip", [False, True])
def test_figures_of_texts_that_lost_white_space_are_the_same(tmp_path: Path, strip: bool) -> None:
    """Length control needs the texts of all answers, and a judgment must find its question."""
    suite = own_pairs(tmp_path)
    texts = [text.strip() if strip else text for text, _ in PAIRS]
    judged = [
        {"instruction": text, "output_1": base, "output_2": f"To {text!r}.", "generator_2": "m", "preference": value}
        for text, (_, base), value in zip(texts, PAIRS, (1.2, 1.8, 1.4), strict=True)
    ]
    (tmp_path / "annotations.json").write_text(json.dumps(judged))
    [result] = score_files(suite, outputs(tmp_path, *texts), tmp_path / "annotations.json")
    assert (result.n_scored, result.answers["coverage"]) == (3, 1.0)
    assert result.metrics["lc_win_rate"] is not None
    assert sum("without the white space" in note for note in result.notes) == 2 * strip
    assert any("'Name a river.'" in note for note in result.notes) == strip


def conversations(folder: Path, count: int) -> str:
    rows = [{"id": f"q{number}", "category": "", "turns": [f"Name river {number}."]} for number in range(count)]
    write_jsonl(folder / "questions.jsonl", rows)
    (folder / "talk.yaml").write_text(
        "{name: talk, kind: mtbench, source: files, questions: questions.jsonl, default_judge: local-openai, "
        "max_new_tokens: 8, decodings: {greedy: {temperature: 0}}, description: x}"
    )
    return str(folder / "talk.yaml")


def grade(question: int, score: float, judge: str = "gpt-4") -> dict[str, Any]:
    names = {"question_id": f"q{question}", "model": "m", "judge": [judge, "single-v1"], "turn": 1}
    return names | {"user_prompt": "", "judgment": f"Rating: [[{score}]]", "score": score, "tstamp": 1.0}


def test_what_two_judges_judged_has_figures_of_each(tmp_path: Path) -> None:
    suite = conversations(tmp_path, 4)
    rows = [*[grade(number, 8) for number in range(4)], *[grade(number, 4, "other") for number in range(2)]]
    write_jsonl(tmp_path / "single.jsonl", rows)
    first, second = score_files(suite, None, tmp_path / "single.jsonl")
    assert (first.judge_id, first.metrics["score"], first.withheld) == ("gpt-4", 8.0, False)
    assert (second.judge_id, second.metrics["score"], second.withheld) == ("other", 4.0, True)
    assert (first.metrics["score_fastchat"], second.metrics["score_fastchat"]) == (8.0, 4.0)
    assert "m was judged by 2 judges, each with figures of its own: gpt-4, other." in first.notes


def test_a_recorded_grade_beyond_the_scale_counts_for_fastchat_only(tmp_path: Path) -> None:
    suite = conversations(tmp_path, 3)
    write_jsonl(tmp_path / "single.jsonl", [grade(0, 85), grade(1, 8), grade(2, 0)])
    [result] = score_files(suite, None, tmp_path / "single.jsonl")
    assert result.statuses == {"ok": 2, "parse_error": 1}
    assert (result.metrics["score"], result.metrics["score_fastchat"]) == (4.0, 31.0)
    assert any(
        note.startswith("1 replies of the judge grade beyond the scale of 1 to 10 (85)") for note in result.notes
    )
    assert any(note.startswith("1 recorded grades lie below 1 (0)") for note in result.notes)


def test_a_judgment_of_no_answer_does_not_count(tmp_path: Path) -> None:
    """FastChat has its judge grade the mark of a failed call."""
    suite = conversations(tmp_path, 2)
    write_jsonl(tmp_path / "single.jsonl", [grade(0, 1), grade(1, 8)])
    answers = [("q0", "$ERROR$"), ("q1", "The Rhine.")]
    write_jsonl(
        tmp_path / "answers.jsonl",
        [{"question_id": name, "model_id": "m", "choices": [{"turns": [text]}]} for name, text in answers],
    )
    [result] = score_files(suite, tmp_path / "answers.jsonl", tmp_path / "single.jsonl")
    assert (result.metrics["score"], result.n_scored, result.withheld) == (8.0, 1, True)
    assert result.answers["statuses"] == {"api_error": 1, "ok": 1}


def test_two_judges_are_not_replayed_as_one(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "single.jsonl", [grade(0, 8), grade(0, 4, "other")])
    with pytest.raises(InputError, match="gpt-4 and other both judged q0/1/grade of m"):
        open_judge(ReplayJudgeConfig(name="again", kind="replay", path=str(tmp_path / "single.jsonl")))


def test_the_report_says_how_a_turn_ended() -> None:
    cut = Answer("s", "q", "m", ("Yes, and",), finish_reasons=("length",), statuses=("cut",))
    assert text_row(0, cut, [])[2] == ["length"]
    refused = Answer("s", "q", "m", ("", "No."), finish_reasons=("refused", "stop"), statuses=("refused", "ok"))
    assert text_row(0, refused, [])[2] == ["refused", "stop"]
    assert text_row(0, Answer("s", "q", "m", ("", "No.")), [])[2] == ["empty", ""]


# Statuses


@pytest.mark.parametrize(
    ("text", "finish_reason", "status"),
    [
        ("Yes.", "stop", "ok"),
        ("Yes.", "", "ok"),
        ("", "stop", "empty"),
        (" \n", "", "empty"),
        ("Yes, and", "length", "cut"),
        ("", "length", "cut"),
        ("<think>Hm", "stop", "cut"),
        ("<think>Hm</think>", "stop", "empty"),
        ("", "over_length", "over_length"),
        ("", "refused", "refused"),
        ("", "content_filter", "refused"),
        ("The an", "partial", "partial"),
        ("$ERROR$", "", "api_error"),
        ("$ERROR$", "stop", "ok"),  # a model's own words
    ],
)
def test_the_status_of_a_turn(text: str, finish_reason: str, status: str) -> None:
    assert turn_of(text, finish_reason).status == status


def test_a_turn_behind_one_without_an_answer_has_none() -> None:
    answer = Answer("s", "q", "m", ("Yes.", "$ERROR$", "No."))
    assert statuses_of(answer) == ("ok", "api_error", "api_error")
    assert answered_only({"q": answer, "r": Answer("s", "r", "m", ("$ERROR$",))})["q"].turns == ("Yes.",)
    assert "r" not in answered_only({"r": Answer("s", "r", "m", ("$ERROR$",))})


def test_unknown_statuses_of_a_file_are_refused(tmp_path: Path) -> None:
    row = {"suite": "s", "question_id": "q", "model_id": "m", "turns": ["a"], "statuses": ["fine"]}
    write_jsonl(tmp_path / "answers.jsonl", [row])
    with pytest.raises(InputError, match="line 1: not a row of answers: statuses are one a turn"):
        read_answers(tmp_path / "answers.jsonl")
