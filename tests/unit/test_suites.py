"""Suites over small question sets written here: requests, coverage, statuses, and what is withheld."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest

from seft_bench import config
from seft_bench.errors import InputError
from seft_bench.records import Answer, JudgeRequest, Judgment, Question, Status, candidate_first, instruction_id
from seft_bench.suites import SUITES, Suite, load_suite

TINY = ("tiny-alpacaeval", "tiny-mtbench")


def judgment(request: JudgeRequest, value: float | None, status: Status = "ok", **changes: Any) -> Judgment:
    grade = request.kind == "grade"
    made = Judgment(
        suite=request.question.suite,
        question_id=request.question.id,
        model_id="m",
        turn=request.turn,
        key=request.key,
        answer_hash=request.answer_hash,
        judge_id="judge-1",
        requested_model="",
        returned_model="",
        prompt_hash="",
        order="single",
        status=status,
        score=value if grade and status == "ok" else None,
        preference=value if not grade and status == "ok" else None,
    )
    return dataclasses.replace(made, **changes)


def pairwise() -> tuple[Suite, list[Question], dict[str, Answer]]:
    """Four questions; the baseline's answers are of 4 characters, the model's of 2 to 5."""
    texts = ("What is up?", "Name a colour.", "Count to two.", "Say hello.")
    questions = [Question("tiny-alpacaeval", instruction_id(text), "", (text,), ("base",)) for text in texts]
    answers = {
        question.id: Answer("tiny-alpacaeval", question.id, "m", ("x" * (2 + index),))
        for index, question in enumerate(questions)
    }
    return load_suite("tiny-alpacaeval"), questions, answers


def graded() -> tuple[Suite, list[Question], dict[str, Answer]]:
    questions = [
        Question("tiny-mtbench", str(index), "math" if index < 2 else "stem", ("first", "second")) for index in range(4)
    ]
    answers = {question.id: Answer("tiny-mtbench", question.id, "m", ("one", "two")) for question in questions}
    return load_suite("tiny-mtbench"), questions, answers


def test_every_kind_of_suite_resolves_and_every_yaml_loads() -> None:
    names = config.shipped("suites")
    assert {"alpacaeval", "mtbench", *TINY} <= set(names)
    suites = [load_suite(name) for name in names]
    assert {suite.config.protocol for suite in suites} == set(SUITES)
    assert [suite.config.name for suite in suites] == list(names)


def test_default_judges_exist() -> None:
    for name in config.shipped("suites"):
        assert load_suite(name).config.default_judge in config.shipped("judges")


def test_unknown_suite_names_the_known_ones() -> None:
    with pytest.raises(InputError, match="mtbench"):
        load_suite("mt-bench")


def test_official_temperatures_by_category() -> None:
    decoding = config.load_suite("mtbench").decodings["official"]
    assert decoding.by_category == {"writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1}
    assert decoding.temperature == 0


@pytest.mark.parametrize("name", TINY)
def test_tiny_questions_have_unique_ids_and_what_judging_needs(name: str) -> None:
    questions = load_suite(name).questions()
    assert len({question.id for question in questions}) == len(questions) > 0
    if name == "tiny-alpacaeval":
        assert all(question.reference and question.id == instruction_id(question.turns[0]) for question in questions)
    else:
        assert all(len(question.turns) == 2 for question in questions)


def test_max_questions_takes_the_first_ones() -> None:
    suite = load_suite("tiny-mtbench")
    shorter = type(suite)(suite.config.model_copy(update={"max_questions": 3}))  # type: ignore[call-arg]
    assert shorter.questions() == suite.questions()[:3]


def test_order_follows_the_seed_rule() -> None:
    shown = [candidate_first(f"question {index}") for index in range(200)]
    assert shown == [
        random.Random("is_switched_outputs" + f"question {index}" + "0").choices([False, True])[0]
        for index in range(200)
    ]
    assert 60 < sum(shown) < 140


def test_pairwise_requests_compare_with_the_reference() -> None:
    suite, questions, answers = pairwise()
    del answers[questions[1].id]
    requests = suite.requests(questions, answers)
    assert [request.question for request in requests] == [questions[0], questions[2], questions[3]]
    assert requests[0].baseline == ("base",)
    assert requests[0].candidate == ("xx",)
    assert requests[0].candidate_first == candidate_first("What is up?")


def test_pairwise_figures_by_hand() -> None:
    suite, questions, answers = pairwise()
    requests = suite.requests(questions, answers)
    result = suite.score(
        "m", questions, answers, [judgment(r, p) for r, p in zip(requests, (1.0, 2.0, 1.75, 1.5), strict=True)]
    )
    assert result.metrics["win_rate"] == 56.25
    assert result.metrics["discrete_win_rate"] == 62.5
    assert result.metrics["avg_length"] == 3  # (2 + 3 + 4 + 5) / 4, cut
    assert result.metrics["lc_low"] < result.metrics["lc_win_rate"] < result.metrics["lc_high"]
    assert list(result.per_question.values()) == [0.0, 1.0, 0.75, 0.5]
    assert (result.n, result.n_scored, result.coverage, result.withheld, result.judge_id) == (
        4,
        4,
        1.0,
        False,
        "judge-1",
    )
    assert any("difficulty set to 0" in note for note in result.notes)


def test_unscored_rows_leave_the_mean_and_show_in_coverage() -> None:
    suite, questions, answers = pairwise()
    first, second, third, _ = suite.requests(questions, answers)
    result = suite.score(
        "m", questions, answers, [judgment(first, 2.0), judgment(second, None, "refused"), judgment(third, 1.0)]
    )
    assert result.metrics["win_rate"] == 50.0
    assert (result.n, result.n_scored, result.n_unscored, result.coverage, result.withheld) == (4, 2, 2, 0.5, True)
    assert result.statuses == {"ok": 2, "refused": 1, "missing": 1}


def test_nothing_scored_gives_no_figures() -> None:
    for suite, questions, answers in (pairwise(), graded()):
        result = suite.score("m", questions, answers, [])
        assert all(value is None for name, value in result.metrics.items() if name != "avg_length")
        assert result.withheld
        assert result.n_scored == 0
        assert result.n == len(suite.requests(questions, answers))


def test_a_later_failure_does_not_undo_a_valid_row() -> None:
    suite, questions, answers = graded()
    request = suite.requests(questions, answers)[0]
    rows = [judgment(request, 3.0), judgment(request, 5.0), judgment(request, None, "parse_error")]
    result = suite.score("m", questions, answers, rows)
    assert result.metrics["turn_1"] == 5.0
    assert result.metrics["score_fastchat"] == 4.0
    assert result.statuses == {"ok": 1, "missing": 7}


def test_judgments_of_other_texts_do_not_count() -> None:
    suite, questions, answers = pairwise()
    rows = [judgment(request, 2.0) for request in suite.requests(questions, answers)]
    changed = {**answers, questions[0].id: dataclasses.replace(answers[questions[0].id], turns=("new",))}
    result = suite.score("m", questions, changed, rows)
    assert result.n_scored == 3
    assert any("other texts" in note for note in result.notes)


def test_identical_texts_are_a_draw_without_a_judge_in_the_official_suite_only() -> None:
    suite, questions, answers = pairwise()
    same = {**answers, questions[0].id: dataclasses.replace(answers[questions[0].id], turns=("base",))}
    request = suite.requests(questions, same)[0]
    assert suite.settled(request, "m") is None
    settled = load_suite("alpacaeval").settled(request, "m")
    assert settled is not None
    assert (settled.preference, settled.status, settled.key) == (1.5, "ok", request.key)
    assert load_suite("alpacaeval").settled(suite.requests(questions, same)[1], "m") is None


def test_without_answer_texts_only_plain_figures() -> None:
    suite, questions, answers = pairwise()
    rows = [judgment(request, 2.0, answer_hash="") for request in suite.requests(questions, answers)]
    result = suite.score("m", questions, {}, rows)
    assert result.metrics["win_rate"] == 100.0
    assert result.metrics["lc_win_rate"] is None
    assert result.metrics["avg_length"] is None


def test_graded_figures_by_hand() -> None:
    """Turn 1: 2 4 6 8, turn 2: 1 3 5 7."""
    suite, questions, answers = graded()
    rows = [
        judgment(request, value)
        for request, value in zip(suite.requests(questions, answers), (2, 1, 4, 3, 6, 5, 8, 7), strict=True)
    ]
    result = suite.score("m", questions, answers, rows)
    assert (result.metrics["score"], result.metrics["turn_1"], result.metrics["turn_2"]) == (4.5, 5.0, 4.0)
    assert result.metrics["by_category"] == {"math": 2.5, "stem": 6.5}
    assert result.per_question == {"0": 1.5, "1": 3.5, "2": 5.5, "3": 7.5}
    assert result.n == 8


def test_an_answer_cut_short_is_unscored_in_its_missing_turn() -> None:
    suite, questions, answers = graded()
    answers["0"] = dataclasses.replace(answers["0"], turns=("one",))
    requests = suite.requests(questions, answers)
    assert len(requests) == 7
    assert suite.score("m", questions, answers, [judgment(request, 5.0) for request in requests]).n == 8


def test_rubric_parts_are_averaged_only_when_every_scored_row_has_them() -> None:
    suite, questions, answers = graded()
    requests = suite.requests(questions, answers)
    rows = [
        judgment(request, 5.0, details={"content": index / 8, "style": 1.0}) for index, request in enumerate(requests)
    ]
    rows[0] = dataclasses.replace(rows[0], details={"content": 0.0})
    result = suite.score("m", questions, answers, rows)
    assert result.metrics["content"] == pytest.approx(sum(range(8)) / 64)
    assert "style" not in result.metrics
    assert result.parts == {"content": {"0": 1 / 16, "1": 5 / 16, "2": 9 / 16, "3": 13 / 16}}


def test_mixed_judges_are_said() -> None:
    suite, questions, answers = graded()
    rows = [
        judgment(request, 5.0, judge_id=f"judge-{index % 2}")
        for index, request in enumerate(suite.requests(questions, answers))
    ]
    result = suite.score("m", questions, answers, rows)
    assert any("2 judges are mixed" in note for note in result.notes)


def test_ok_without_a_value_is_refused() -> None:
    for suite, questions, answers in (pairwise(), graded()):
        broken = judgment(suite.requests(questions, answers)[0], None)
        with pytest.raises(InputError, match="status ok but no"):
            suite.score("m", questions, answers, [broken])


# What the judgments say of their judge


def notes_of(*changes: dict[str, Any]) -> str:
    suite, questions, answers = graded()
    requests = suite.requests(questions, answers)
    rows = [judgment(request, 5.0, **changes[index % len(changes)]) for index, request in enumerate(requests)]
    return "\n".join(suite.score("m", questions, answers, rows).notes)


def test_two_models_behind_one_judge_are_a_warning_with_counts() -> None:
    asked = {"requested_model": "judge", "judge_id": "judge-1"}
    text = notes_of(
        {**asked, "returned_model": "judge-2"},
        {**asked, "returned_model": "judge-2"},
        {**asked, "returned_model": "judge-3"},
    )
    assert "WARNING: 2 models replied as this one judge: judge-2 (6), judge-3 (2)" in text
    assert "asked for model judge, the server returned judge-2" in text
    assert "asked for model judge, the server returned judge-3" in text
    assert "replied as" not in notes_of({**asked, "returned_model": "judge"}, {**asked, "returned_model": ""})


def test_two_sets_of_weights_behind_one_judge_are_a_warning() -> None:
    text = notes_of({"details": {"weights_fingerprint": "aa"}}, {"details": {"weights_fingerprint": "bb"}})
    assert "2 sets of weights replied as this one judge: aa (4), bb (4)" in text


@pytest.mark.parametrize("source", ["choice", "samples", "token"])
def test_a_source_of_preferences_that_is_not_official_is_said(source: str) -> None:
    assert f"preference_from: {source}): such win rates are not comparable with official ones" in notes_of(
        {"details": {"preference_from": source}}
    )
    assert "not comparable with official ones" not in notes_of(
        {"details": {"preference_from": "logprobs"}}, {"details": {"preference_from": "equal answers"}}
    )
