"""Grades out of rewards: calibrated on graded answers, or beside references, and refused without either."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seft_bench.errors import InputError
from seft_bench.files import write_jsonl
from seft_bench.formats.reading import read_judgments
from seft_bench.judges.base import judgment_of
from seft_bench.judges.calibration import GradedAnswers, read_graded
from seft_bench.judges.reward_model import RewardModelJudge
from seft_bench.records import Answer, JudgeRequest, to_row
from seft_bench.stats.rewards import GradedReward, calibrate
from seft_bench.suites import load_suite
from tests.unit.reward_judges import QUESTION, independent_reward, judge_of, judged


def graded_files(folder: Path, answers: Sequence[Answer], grades: dict[tuple[str, int], float]) -> dict[str, str]:
    """A calibration's files, as our own runs write them."""
    by_question = {answer.question_id: answer for answer in answers}
    requests = [
        JudgeRequest("grade", question, turn, by_question[question.id].turns[:turn])
        for question in load_suite("tiny-mtbench").questions()
        for turn in (1, 2)
        if question.id in by_question and (question.id, turn) in grades
    ]
    rows = [
        judgment_of(
            request,
            "graded",
            "grader",
            "grader",
            status="ok",
            score=grades[request.question.id, request.turn],
            prompt_hash="",
        )
        for request in requests
    ]
    write_jsonl(folder / "answers.jsonl", [to_row(answer) for answer in answers])
    write_jsonl(folder / "judgments.jsonl", [to_row(row) for row in rows])
    return {
        "answers": str(folder / "answers.jsonl"),
        "judgments": str(folder / "judgments.jsonl"),
        "suite": "tiny-mtbench",
    }


def tiny_answers(count: int = 30) -> list[Answer]:
    rng = np.random.default_rng(0)
    questions = load_suite("tiny-mtbench").questions()[:count]
    words = "pike eel trout river lake the a and of good fish bird wren".split()
    return [
        Answer(
            "tiny-mtbench",
            question.id,
            "graded",
            tuple(" ".join(rng.choice(words, rng.integers(2, 12))) + "." for _ in question.turns),
        )
        for question in questions
    ]


def true_grades(folder: Path, answers: Sequence[Answer], noise: float = 0.0) -> dict[tuple[str, int], float]:
    """Grades that are a known function of the reward."""
    questions = {question.id: question for question in load_suite("tiny-mtbench").questions()}
    rng = np.random.default_rng(2)
    found = {}
    for answer in answers:
        for turn in (1, 2):
            texts = [
                text
                for pair in zip(questions[answer.question_id].turns[:turn], answer.turns, strict=False)
                for text in pair
            ]
            grade = 1 + 9 / (1 + math.exp(-(0.6 * independent_reward(folder, *texts) + 0.3))) + noise * rng.normal()
            found[answer.question_id, turn] = float(np.clip(grade, 1, 10))
    return found


def test_grades_follow_the_graded_answers(reward_model: Path, tmp_path: Path) -> None:
    answers = tiny_answers()
    grades = true_grades(reward_model, answers)
    judge = judge_of(
        reward_model, tmp_path / "runs" / "store.sqlite", calibration=graded_files(tmp_path, answers[:20], grades)
    )
    judge.check(["grade"])
    questions = {question.id: question for question in load_suite("tiny-mtbench").questions()}
    unseen = [
        JudgeRequest("grade", questions[answer.question_id], turn, answer.turns[:turn])
        for answer in answers[20:]
        for turn in (1, 2)
    ]
    judgments = judged(judge, unseen)
    expected = [grades[request.question.id, request.turn] for request in unseen]
    assert [judgment.score for judgment in judgments] == pytest.approx(expected, abs=0.3)
    assert np.std(expected) > 0.5
    assert "fitted on 40 graded answers to 20 questions of tiny-mtbench" in judge.notes[1]
    assert "the mean grade alone" in judge.notes[2]


def test_a_fitted_map_is_kept_and_its_error_is_said_again(
    reward_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = tiny_answers(12)
    store, files = (
        tmp_path / "runs" / "store.sqlite",
        graded_files(tmp_path, answers, true_grades(reward_model, answers, noise=0.5)),
    )
    request = JudgeRequest("grade", load_suite("tiny-mtbench").questions()[0], 1, ("Eel.",))
    first = judge_of(reward_model, store, calibration=files)
    score = judged(first, [request])[0].score
    monkeypatch.setattr(RewardModelJudge, "_fit", lambda self: pytest.fail("fitted again"))
    again = judge_of(reward_model, store, calibration=files)
    assert (again.id, again.notes, judged(again, [request])[0].score) == (first.id, first.notes, score)


def test_rewards_that_say_nothing_of_the_grades_are_called_that(reward_model: Path, tmp_path: Path) -> None:
    answers = tiny_answers(40)
    flipped = {key: 11 - grade for key, grade in true_grades(reward_model, answers).items()}
    judge = judge_of(reward_model, calibration=graded_files(tmp_path, answers, flipped))
    judged(judge, [JudgeRequest("grade", load_suite("tiny-mtbench").questions()[0], 1, ("Eel.",))])
    assert "these grades say little" in judge.notes[-1]


def test_fastchats_files_calibrate_too(reward_model: Path, tmp_path: Path) -> None:
    answers = tiny_answers(15)
    files = graded_files(tmp_path, answers, true_grades(reward_model, answers, noise=0.5))
    ours = judge_of(reward_model, calibration=files)
    judgments = read_judgments(Path(files["judgments"]))
    fastchat = tmp_path / "fastchat"
    write_jsonl(
        fastchat / "answer.jsonl",
        [
            {"question_id": a.question_id, "model_id": "graded", "choices": [{"index": 0, "turns": a.turns}]}
            for a in answers
        ],
    )
    write_jsonl(
        fastchat / "judgment.jsonl",
        [
            {
                "question_id": j.question_id,
                "model": "graded",
                "turn": j.turn,
                "score": j.score,
                "judgment": f"[[{j.score}]]",
                "judge": ["gpt-4", "v1"],
            }
            for j in judgments
        ]
        + [
            {
                "question_id": answers[0].question_id,
                "model": "graded",
                "turn": 1,
                "score": -1,
                "judgment": "$ERROR$",
                "judge": ["gpt-4", "v1"],
            }
        ],
    )
    theirs = judge_of(
        reward_model,
        calibration={
            "answers": str(fastchat / "answer.jsonl"),
            "judgments": str(fastchat / "judgment.jsonl"),
            "suite": "tiny-mtbench",
        },
    )
    request = [JudgeRequest("grade", load_suite("tiny-mtbench").questions()[3], 1, ("Eel.",))]
    assert judged(ours, request)[0].score == pytest.approx(judged(theirs, request)[0].score)
    assert ours.id != theirs.id


def test_a_judgment_of_another_text_is_not_calibrated_on(reward_model: Path, tmp_path: Path) -> None:
    answers = tiny_answers(20)
    files = graded_files(tmp_path, answers, true_grades(reward_model, answers))
    edited = [dataclasses.replace(answer, turns=("Changed.", *answer.turns[1:])) for answer in answers]
    write_jsonl(Path(files["answers"]), [to_row(answer) for answer in edited])
    with pytest.raises(InputError, match="no grade in"):
        judge_of(reward_model, calibration=files).check(["grade"])


def test_without_calibration_a_grade_stands_beside_the_reference(reward_model: Path) -> None:
    judge = judge_of(reward_model)
    judge.check_questions("grade", [QUESTION])
    judge.check(["grade"])
    requests = [
        JudgeRequest("grade", QUESTION, 1, ("Eel.",)),
        JudgeRequest("grade", QUESTION, 2, ("Eel.", "Owl.")),
        JudgeRequest("grade", QUESTION, 1, QUESTION.reference[:1]),
    ]
    first, second, same = judged(judge, requests)
    for judgment, texts in ((first, ("Eel.",)), (second, ("Eel.", "Owl."))):
        pairs = [
            [text for pair in zip(QUESTION.turns, answers, strict=False) for text in pair]
            for answers in (texts, QUESTION.reference[: len(texts)])
        ]
        difference = independent_reward(reward_model, *pairs[0]) - independent_reward(reward_model, *pairs[1])
        assert judgment.score == pytest.approx(1 + 9 / (1 + math.exp(-difference)), abs=1e-3)
    assert same.score == pytest.approx(5.5)


def test_grades_without_scale_are_refused(reward_model: Path) -> None:
    plain = dataclasses.replace(QUESTION, reference=())
    for check in (
        lambda: judge_of(reward_model).check(["grade"]),
        lambda: judge_of(reward_model).check_questions("grade", [QUESTION, plain]),
        lambda: judged(judge_of(reward_model), [JudgeRequest("grade", plain, 1, ("Eel.",))]),
    ):
        with pytest.raises(InputError, match="calibration: "):
            check()
    judge_of(reward_model).check_questions("preference", [plain])
    judge_of(reward_model).check(["preference"])


@pytest.mark.parametrize(
    ("grades", "message"),
    [({("", 1): 5.0}, "no grade in"), ("few", "18 graded answers, at least 20"), ("same", "same grade")],
)
def test_what_cannot_be_calibrated_on_is_said_before_the_weights_are_read(
    reward_model: Path, tmp_path: Path, grades: Any, message: str
) -> None:
    answers = tiny_answers(9 if grades == "few" else 15)
    if isinstance(grades, str):
        grades = {
            (answer.question_id, turn): 5.0 + (turn if grades == "few" else 0) for answer in answers for turn in (1, 2)
        }
    files = graded_files(tmp_path, answers, grades)
    if not Path(files["judgments"]).read_text():
        Path(files["judgments"]).write_text(
            json.dumps({"question_id": "none", "model": "x", "turn": 1, "score": 5, "judgment": "[[5]]"}) + "\n"
        )
    with pytest.raises(InputError, match=message):
        judge_of(reward_model, calibration=files).check(["grade"])


def test_a_calibration_file_that_is_not_there(reward_model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file of answers at .*none\.jsonl"):
        _ = judge_of(
            reward_model,
            calibration={"answers": str(tmp_path / "none.jsonl"), "judgments": str(tmp_path / "none.jsonl")},
        ).id


def test_real_grades_in_fastchats_format(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GPT-4's grades of eight models: an answer's length foretells them a little, noise does not, and each is called
    so.
    """
    monkeypatch.setenv("SEFT_BENCH_DATA_DIR", str(shared_data / "official"))
    folder = shared_data / "mt_bench"
    graded = read_graded(GradedAnswers(folder / "answers.jsonl.gz", folder / "judgments_single.jsonl.gz", "mtbench"))
    assert (len(graded), len({item.question_id for item in graded})) == (1144, 80)
    lengths = calibrate(
        [GradedReward(item.question_id, math.log1p(len(item.answers[-1])), item.grade) for item in graded]
    )
    noise = calibrate(
        [
            GradedReward(item.question_id, value, item.grade)
            for item, value in zip(graded, np.random.default_rng(0).normal(size=1144), strict=True)
        ]
    )
    assert (lengths.foretells, noise.foretells) == (True, False)
    assert lengths.errors[lengths.name].mean < lengths.errors["constant"].mean < 3.3
