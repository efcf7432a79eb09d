"""Controls without a model: their answers, and where tables put them."""

from __future__ import annotations

import dataclasses

import pytest

from seft_bench.config import DecodingConfig, load_suite
from seft_bench.errors import InputError
from seft_bench.generators import Decoding
from seft_bench.generators.controls import (
    CONSTANT,
    CONTROLS,
    STATED_LENGTH_CHARACTERS,
    ControlGenerator,
    filler,
    fingerprint,
)
from seft_bench.records import Answer, Question, Result
from seft_bench.report.leaderboard import Plan, findings, method_table, plain_table
from seft_bench.report.methods import CONTROLS as BLOCK
from seft_bench.subjects import control_subject
from seft_bench.suites import load_suite as open_suite
from tests.unit.leaderboard_data import matrix, result

GREEDY = DecodingConfig(temperature=0.0)
QUESTIONS = [
    Question("s", "q1", "", ("What is 2 + 2?",), ("It is four, as everybody knows.",)),
    Question("s", "q2", "", ("Name a colour.", "And another?")),
]


def answers(control: str, questions: list[Question] = QUESTIONS, seed: int = 0) -> list[Answer]:
    found: list[Answer] = []
    ControlGenerator(control).answer(questions, Decoding("greedy", GREEDY, 64, seed), found.append)
    return found


def as_control(name: str, *results: Result) -> list[Result]:
    facts = control_subject(name).run
    return [dataclasses.replace(item, model=f"control:{name}", run=facts) for item in results]


def test_every_turn_is_answered_and_recorded_as_a_models_answer_would_be() -> None:
    for control in CONTROLS:
        found = answers(control)
        assert [(item.question_id, len(item.turns)) for item in found] == [("q1", 1), ("q2", 2)]
        assert {(item.model_id, item.decoding, item.decoding_hash) for item in found} == {
            (f"control:{control}", "greedy", Decoding("greedy", GREEDY, 64, 0).hash)
        }
        assert [item.turns for item in found] == [item.turns for item in answers(control, seed=7)]  # nothing is drawn


def test_what_each_control_says() -> None:
    assert {turn for item in answers("constant") for turn in item.turns} == {CONSTANT}
    assert [item.turns for item in answers("copy-prompt")] == [question.turns for question in QUESTIONS]
    first, second = answers("length-only")
    assert len(first.turns[0]) == len(QUESTIONS[0].reference[0])
    assert [len(turn) for turn in second.turns] == [STATED_LENGTH_CHARACTERS] * 2


@pytest.mark.parametrize("length", [0, 1, 2, 30, 77, 78, 79, 300, 5000])
def test_filler_has_the_length_asked_for(length: int) -> None:
    assert len(filler(length)) == length
    assert not length or filler(length).endswith(".")


def test_an_unknown_control_is_the_users_error_and_texts_are_part_of_the_fingerprint() -> None:
    with pytest.raises(InputError, match="constant, copy-prompt, length-only"):
        control_subject("control:nothing")
    assert len({fingerprint(control) for control in CONTROLS}) == 3


@pytest.mark.parametrize("name", ["tiny-alpacaeval", "tiny-mtbench"])
def test_tiny_suites_take_their_answers(name: str) -> None:
    suite = open_suite(name)
    questions = suite.questions()[:6]
    for control in CONTROLS:
        given = {item.question_id: item for item in answers(control, questions)}
        assert len(suite.requests(questions, given)) == sum(len(question.turns) for question in questions)
    assert load_suite(name).name == name


def test_no_judge_is_told_that_an_answer_is_a_controls() -> None:
    suite = open_suite("tiny-mtbench")
    questions = suite.questions()[:3]
    given = {item.question_id: item for item in answers("constant", questions)}
    assert "control" not in repr(suite.requests(questions, given))


# Tables


def test_a_control_is_at_the_foot_of_the_plain_table_unranked_and_never_bold_even_where_it_leads() -> None:
    models = [dataclasses.replace(result("dpo", [5.0, 6.0, 7.0, 6.0]), run=None, model=name) for name in ("a", "b")]
    table = plain_table([*as_control("constant", result("dpo", [9.0, 9.5, 9.0, 9.5])), *models])
    last = table.rows[-1]
    assert (last.block, last.cells[0].value, last.cells[1].value) == (BLOCK, "control", "control:constant")
    assert not any(cell.mark for cell in last.cells)
    assert [row.cells[0].value for row in table.rows[:-1]] == [1, 1]
    assert "tiny-mtbench, sampled: 2 of 2 models are not shown to be above control:constant: a, b." in table.notes


def test_nothing_is_said_of_a_control_that_all_models_are_above() -> None:
    models = [dataclasses.replace(result("dpo", [5.0, 6.0, 7.0, 6.0]), run=None, model="a")]
    table = plain_table([*as_control("constant", result("dpo", [1.0, 2.0, 3.0, 2.1])), *models])
    assert not [note for note in table.notes if "not shown" in note]


def test_in_a_matrix_a_control_stands_below_the_trained_controls_and_beside_every_seed() -> None:
    """Its one result is paired with each seed: 3.0 against seeds at 4, 5, 6 is -2 on average, and the spread is the
    seeds' alone.
    """
    start = [result("start", [level] * 30, seed=seed) for seed, level in enumerate((4.0, 5.0, 6.0), start=1)]
    trained = [result("self-label", [level] * 30, seed=seed) for seed, level in enumerate((4.0, 5.0, 6.0), start=1)]
    table = method_table([*as_control("constant", result("dpo", [3.0] * 30)), *start, *trained])
    assert [row.block for row in table.rows] == ["", "controls", BLOCK]
    keys = [column.key for column in table.columns]
    row = table.rows[-1].cells
    assert row[0].value == CONTROLS["constant"]
    assert (row[keys.index("tiny-mtbench_sampled_score")].value, row[keys.index("tiny-mtbench_sampled_score")].low) == (
        pytest.approx(3.0),
        pytest.approx(3.0),
    )
    gap = row[keys.index("tiny-mtbench_sampled_score_difference")]
    assert (gap.value, gap.low, gap.high) == (pytest.approx(-2.0), pytest.approx(-3.0), pytest.approx(-1.0))
    assert row[keys.index("seeds")].value is None
    assert row[keys.index("steps")].value is None
    assert not table.footnotes


def test_a_leading_control_is_not_bold_in_a_matrix_and_a_missing_panel_is_said() -> None:
    rows = [
        result(row, [level] * 10 + [level + 1], decoding=decoding)
        for row, level in (("start", 4.0), ("dpo", 5.0))
        for decoding in ("sampled", "greedy")
    ]
    table = method_table([*rows, *as_control("copy-prompt", result("dpo", [9.0] * 11))])
    column = [column.key for column in table.columns].index("tiny-mtbench_sampled_score")
    assert [row.cells[column].mark for row in table.rows] == ["", "best", ""]
    assert table.footnotes == ("copy of the prompt, tiny-mtbench, greedy: no result.",)


def test_findings_are_about_trained_rows_only() -> None:
    results = matrix({"start": 5.2, "seft": 7.0, "self-label": 6.0}, questions=20)
    assert findings([*as_control("constant", result("dpo", [9.9] * 20)), *results]) == findings(results)


def test_controls_alone_are_no_matrix() -> None:
    with pytest.raises(InputError, match="seft-bench bench"):
        method_table(as_control("constant", result("dpo", [3.0] * 5)), plan=Plan({"dpo": "DPO"}, [1]))
