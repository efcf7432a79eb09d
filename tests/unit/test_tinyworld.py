"""The tinyworld: its rubric by hand, its data free of evaluation questions, its contents frozen."""

from __future__ import annotations

import functools
from collections import Counter

import pytest

from seft_bench.files import sha256_json
from seft_bench.records import to_row
from seft_bench.tinyworld import data_sets, world
from seft_bench.tinyworld.rubric import grade
from seft_bench.tinyworld.tasks import CATEGORIES, TASKS, parse_question

NOTE = ("Write a note to Ada about the lamp in Arlon.",)


def test_a_right_answer_in_good_form_gets_ten() -> None:
    found = grade(NOTE, ["Sure: Dear Ada, the lamp in Arlon is yours."])
    assert (found.total, found.content, found.format, found.style, found.concision) == (10.0, 1.0, 1.0, 1.0, 1.0)


def test_each_part_is_graded_on_its_own() -> None:
    # One of three key words is wrong: 0.6 * 2/3 of the content, so 1 + 9 * (0.5 * 0.4 + 0.15 + 0.2 + 0.15) = 7.3.
    assert grade(NOTE, ["Sure: Dear Ada, the boat in Arlon is yours."]).total == pytest.approx(7.3)
    # No opening and one bad habit: style 0.2, so 1 + 9 * (0.5 + 0.15 + 0.04 + 0.15) = 8.56.
    assert grade(NOTE, ["Dear Ada, well the lamp in Arlon is yours."]).total == pytest.approx(8.56)
    # No full stop: one fault of form, 0.4 of it, so 10 - 9 * 0.15 * 0.6 = 9.19.
    assert grade(NOTE, ["Sure: Dear Ada, the lamp in Arlon is yours"]).total == pytest.approx(9.19)


def test_saying_it_twice_halves_concision() -> None:
    once = grade(NOTE, ["Sure: Dear Ada, the lamp in Arlon is yours."])
    twice = grade(NOTE, ["Sure: lamp Ada Arlon. lamp Ada Arlon. lamp Ada Arlon."])
    assert once.concision == 1.0
    assert twice.concision <= 0.5


def test_a_tempting_wrong_word_halves_content() -> None:
    question = ["Ada is taller than Bela. Bela is taller than Cato. Who is the tallest?"]
    assert grade(question, ["Sure: Ada is the tallest of the three."]).content == 1.0
    assert grade(question, ["Sure: Ada and Bela, tallest of the three."]).content == 0.5
    assert grade(question, ["Sure: Cato is the tallest of the three."]).content == pytest.approx(0.6 / 2 / 2)


def test_order_matters_where_the_answer_compares() -> None:
    assert grade(["Compare 34 and 12."], ["Sure: 34 is more than 12."]).content == 1.0
    assert grade(["Compare 34 and 12."], ["Sure: 12 is more than 34."]).content == pytest.approx(0.6 * 2 / 3)


def test_a_second_turn_is_graded_by_what_it_changes() -> None:
    turns = ("Compare 34 and 12.", "Now use 39 instead of 12.")
    assert grade(turns, ["34 is more than 12.", "Sure: 39 is more than 34."]).total == 10
    turns = (NOTE[0], "Now end with greetings for Hugo.")
    assert grade(turns, ["x", "Sure: Dear Ada, the lamp in Arlon is yours. Greetings to Hugo."]).total == 10


@pytest.mark.parametrize("answer", ["", "   ", "\x1b[31m", "a" * 10_000, "Sure: " * 500, "[[10]] Rating: 10"])
def test_nonsense_gets_a_low_grade_and_never_an_error(answer: str) -> None:
    assert 1 <= grade(NOTE, [answer]).total < 5


def test_questions_of_elsewhere_are_refused() -> None:
    for turns in (["Compose a travel blog."], [NOTE[0], "Sing."], [NOTE[0], "Now use boat instead of clock."]):
        with pytest.raises(ValueError):
            grade(turns, ["x"] * len(turns))


def test_good_answers_of_every_question_get_ten() -> None:
    for kind in world.QUESTION_COUNTS:
        for question in world.evaluation_questions(kind):
            for turns in range(1, len(question.turns) + 1):
                for variant in (0, 1):
                    answer = world.good_answer(question.turns[:turns], variant)
                    assert grade(question.turns[:turns], ["x"] * (turns - 1) + [answer]).total == 10, (question, answer)


def test_categories_are_named_as_in_mt_bench_with_two_task_types_each() -> None:
    assert CATEGORIES == ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
    assert Counter(task.category for task in TASKS.values()) == dict.fromkeys(CATEGORIES, 2)


def test_about_a_third_of_the_task_types_is_annotated_and_all_are_prompted() -> None:
    train, held_out = data_sets.preference_rows(0)
    annotated = {row["task"] for row in [*data_sets.sft_rows(0), *train, *held_out]}
    prompted = Counter(row["task"] for row in data_sets.prompt_rows(0))
    assert annotated == set(world.ANNOTATED_TASKS)
    assert len(annotated) == 5
    assert set(prompted) == set(TASKS)
    # Even, but for the types with few different questions.
    assert min(prompted.values()) > 0.75 * max(prompted.values())


@functools.cache
def _first_turns(seed: int) -> dict[str, set[str]]:
    train, held_out = data_sets.preference_rows(seed)
    rows = {
        "sft": data_sets.sft_rows(seed),
        "preferences": train,
        "calibration": held_out,
        "prompts": data_sets.prompt_rows(seed),
    }
    return {name: {row["prompt"][0]["content"] for row in data} for name, data in rows.items()}


@pytest.mark.parametrize("seed", [0, 1, 2, 77])
def test_no_evaluation_or_tuning_question_is_in_any_training_data(seed: int) -> None:
    reserved = world.reserved_first_turns()
    assert len(reserved) == sum(world.QUESTION_COUNTS.values())
    for name, turns in _first_turns(seed).items():
        assert not turns & reserved, name


@pytest.mark.parametrize(
    "documents", [4000, pytest.param(data_sets.PRETRAINING_DOCUMENTS, marks=pytest.mark.slow, id="all")]
)
def test_no_evaluation_or_tuning_question_is_in_the_pre_training_text(documents: int) -> None:
    reserved = world.reserved_first_turns()
    for row in data_sets.pretraining_rows(documents):
        text = row["text"]
        if text.startswith(data_sets.MARKS["user"]):
            assert text.split(data_sets.END)[0].removeprefix(data_sets.MARKS["user"]) not in reserved


@pytest.mark.parametrize("seed", [0, 77])
def test_data_sets_of_a_seed_share_no_prompt(seed: int) -> None:
    turns = _first_turns(seed)
    names = sorted(turns)
    for index, name in enumerate(names):
        for other in names[index + 1 :]:
            assert not turns[name] & turns[other], (name, other)


def test_preferred_answers_are_perfect_and_rejected_ones_worse() -> None:
    train, _ = data_sets.preference_rows(3)
    rejected = []
    for row in train:
        turns = [message["content"] for message in row["prompt"] if message["role"] == "user"]
        fill = ["x"] * (len(turns) - 1)
        assert grade(turns, [*fill, row["chosen"]]).total == 10
        rejected.append(grade(turns, [*fill, row["rejected"]]).total)
    # A few rejected answers differ only in a small letter after the opening, which the rubric does not see: noise, as
    # in real data.
    assert sum(total == 10 for total in rejected) / len(rejected) < 0.02
    assert sum(rejected) / len(rejected) < 7.5


def test_seeds_differ_and_repeat() -> None:
    assert data_sets.prompt_rows(0, 50) == data_sets.prompt_rows(0, 50)
    assert data_sets.prompt_rows(0, 50) != data_sets.prompt_rows(1, 50)


def test_a_question_parses_back_into_its_task() -> None:
    for question in world.evaluation_questions("alpacaeval"):
        assert parse_question(question.turns[0])[0].name == question.metadata["task"]


def test_the_world_is_frozen() -> None:
    """World and rubric were frozen before any method was tuned.

    A change needs a new WORLD_VERSION, a new base and new figures.
    """
    questions = [to_row(question) for kind in world.QUESTION_COUNTS for question in world.evaluation_questions(kind)]
    rows = [
        data_sets.sft_rows(0),
        *data_sets.preference_rows(0),
        data_sets.prompt_rows(0),
        list(data_sets.pretraining_rows(500)),
    ]
    answers = [question["reference"][0] for question in questions if question["reference"]]
    grades = [grade(question["turns"], question["reference"]).total for question in questions if question["reference"]]
    assert (sha256_json(questions)[:16], sha256_json(rows)[:16], sha256_json([answers, grades])[:16]) == FROZEN


FROZEN = ("213354ffb1e684c6", "114d91ef3e918e63", "5b6df819c9ad6666")
