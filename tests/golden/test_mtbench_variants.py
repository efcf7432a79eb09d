"""Corrected references, strict parsing, leaked markers and category intervals on the real data of MT-Bench."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path

import pytest

from seft_bench.data.official import CORRECTED_REFERENCES, QUESTIONS, file_status
from seft_bench.evaluation.score_files import score_files
from seft_bench.formats.reading import read_answers
from seft_bench.judges.prompts import render
from seft_bench.records import JudgeRequest, Result
from seft_bench.suites import load_suite
from seft_bench.suites.mtbench_notes import leaked_markers
from tests.real_data import read_gzip

SINGLE = "judgments_single.jsonl.gz"


def scored(suite: str, path: Path) -> dict[str, Result]:
    return {result.model: result for result in score_files(suite, None, path)}


# References


def test_the_corrected_set_replaces_every_reference_and_nothing_else(mt_bench: Path, shared_data: Path) -> None:
    official, corrected = load_suite("mtbench").questions(), load_suite("mtbench-corrected").questions()
    lines = (shared_data / "official" / CORRECTED_REFERENCES).read_text(encoding="utf-8").splitlines()
    published = {str(row["question_id"]): tuple(row["choices"][0]["turns"]) for row in map(json.loads, lines)}
    assert {question.id: question.reference for question in corrected if question.reference} == published
    assert [(one.id, one.turns) for one in official] == [(one.id, one.turns) for one in corrected]
    assert [bool(one.reference) for one in official] == [bool(one.reference) for one in corrected]
    assert not [
        one.id
        for one, other in zip(official, corrected, strict=True)
        if one.reference and one.reference == other.reference
    ]


def test_the_judge_is_shown_the_corrected_reference(mt_bench: Path) -> None:
    question = next(question for question in load_suite("mtbench-corrected").questions() if question.id == "111")
    prompt = render(JudgeRequest("grade", question, 1, ("An answer.",)), "official")
    assert prompt.template.name == "single-math-v1"
    assert question.reference[0] in prompt.messages[1]["content"]


def test_the_result_names_the_corrected_set(mt_bench: Path) -> None:
    result = scored("mtbench-corrected", mt_bench / SINGLE)["vicuna-7b-v1.3"]
    assert result.suite == "mtbench-corrected"
    assert any(
        note.startswith("references: corrected") and "do not say which references" in note for note in result.notes
    )
    assert load_suite("mtbench-corrected").data_hashes() == {
        QUESTIONS: "119565adbab82227089cefdb44c8d7e2cf04dc0a0ec233634c82e7d4e2a944f7",
        CORRECTED_REFERENCES: "e484037da5cc14007dde1d821ef76046fccbd0b2f095237fad9ead2c4fc66800",
    }
    assert file_status(CORRECTED_REFERENCES).state == "ok"


# Strict parsing


def strictly(text: str) -> float | None:
    found = re.findall(r"\[\[(\d+\.?\d*)\]\]", text)
    return float(found[-1]) if found and 1 <= float(found[-1]) <= 10 else None


def test_strict_parsing_reads_the_replies_again_and_says_what_moved(mt_bench: Path) -> None:
    official, strict = scored("mtbench", mt_bench / SINGLE), scored("mtbench-strict", mt_bench / SINGLE)
    rows = read_gzip(mt_bench / SINGLE)
    for model, result in strict.items():
        grades: dict[tuple[int, int], float] = {}
        for row in rows:
            if row["model"] == model and (grade := strictly(row["judgment"])) is not None:
                grades[row["question_id"], row["turn"]] = grade
        assert result.n_scored == len(grades)
        assert result.metrics["score"] == pytest.approx(statistics.fmean(grades.values()))
        moved = result.metrics["score"] - official[model].metrics["score"]
        assert any(note.startswith("parsing: strict") and f"({moved:+.3f})" in note for note in result.notes)


def test_what_strict_parsing_finds_in_the_local_judges_replies(mt_bench: Path) -> None:
    """granite-7b-lab: two zeros and a grade out of code are no ratings; GPT-4's own replies read alike by both
    rules.
    """
    strict = scored("mtbench-strict", mt_bench / SINGLE)
    assert strict["granite-7b-lab"].statuses == {"ok": 37, "parse_error": 113, "api_error": 10}
    note = next(note for note in strict["granite-7b-lab"].notes if note.startswith("parsing"))
    assert "3 verdicts differ" in note
    assert "3 are unparsed that it reads" in note
    assert "score 7.973 instead of 7.4 (+0.573)" in note
    others = [
        note
        for model, result in strict.items()
        if model != "granite-7b-lab"
        for note in result.notes
        if note.startswith("parsing")
    ]
    assert len(others) == 7
    assert all("0 verdicts differ from the official rule's, 0 are unparsed" in note for note in others)


# Leaked markers


def test_a_wrong_chat_template_shows_in_the_answers(mt_bench: Path, tmp_path: Path) -> None:
    """mistral-orpo's run 0 was sampled with another template (5.39 instead of 6.33): 64 of its 80 answers hold
    [/INST].
    """
    rows = [row for row in read_gzip(mt_bench / "answers.jsonl.gz") if row["model_id"] == "mistral-orpo"]
    for run in (0, 1):
        path = tmp_path / f"{run}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows if row["run"] == run), encoding="utf-8")
        notes = leaked_markers(read_answers(path))
        if run == 1:
            assert notes == []
        else:
            hit = sum(
                any(marker in text for marker in ("[INST]", "[/INST]", "</s>") for text in row["choices"][0]["turns"])
                for row in rows
                if row["run"] == 0
            )
            assert len(notes) == 1
            assert notes[0].startswith(f"{hit} answers hold markers")
            assert "[/INST] in 64" in notes[0]


def test_no_other_real_answer_is_accused(mt_bench: Path) -> None:
    for name in ("answers.jsonl.gz", "answers_humanvote_models.jsonl.gz"):
        answers = [answer for answer in read_answers(mt_bench / name) if answer.model_id != "mistral-orpo"]
        assert len(answers) > 300
        assert leaked_markers(answers) == []


# Categories


def test_intervals_of_categories_and_turns_are_students_over_their_questions(mt_bench: Path) -> None:
    result = scored("mtbench", mt_bench / SINGLE)["llama2_chat_7b"]
    category = {question.id: question.category for question in load_suite("mtbench").questions()}
    grades = {
        (str(row["question_id"]), row["turn"]): row["score"]
        for row in read_gzip(mt_bench / SINGLE)
        if row["model"] == "llama2_chat_7b"
    }
    assert set(result.metrics["categories"]) == set(category.values())
    for name, figures in result.metrics["categories"].items():
        own = [key for key, value in category.items() if value == name]
        for figure, values in {
            "": [(grades[key, 1] + grades[key, 2]) / 2 for key in own],
            "turn_1_": [grades[key, 1] for key in own],
            "turn_2_": [grades[key, 2] for key in own],
        }.items():
            error = statistics.stdev(values) / len(values) ** 0.5
            assert figures[f"{figure}se"] == pytest.approx(error)
            assert figures[f"{figure}high"] == pytest.approx(
                statistics.fmean(values) + 2.26216 * error, rel=1e-5
            )  # t(0.975, 9)
        assert figures["questions"] == 10
        assert figures["score"] == pytest.approx(result.metrics["by_category"][name])
    values = [grades[key, 2] for key in category]
    assert result.metrics["turn_2_se"] == pytest.approx(statistics.stdev(values) / 80**0.5)
