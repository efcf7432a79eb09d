"""Verdict parsing: the official rules with their traps, and the strict ones."""

from __future__ import annotations

import math

import pytest

from seft_bench.judges.parse import (
    choice_mass,
    parse_rating,
    parse_verdict,
    preference_from_choice,
    preference_from_logprobs,
    preference_from_samples,
    preference_from_token,
    preference_from_verdict,
    without_reasoning,
)


@pytest.mark.parametrize(
    ("reply", "official", "strict"),
    [
        ("Good. Rating: [[7]]", 7.0, 7.0),
        ("Rating: [[8.5]]", 8.5, 8.5),
        ("First [[3]], on reflection [[6]]", 3.0, 6.0),  # the first one counts officially, the last one strictly
        ("Rating: [6]", 6.0, None),  # the fallback to single brackets
        ("Rating: [[8/10]]", None, None),
        ("Rating: [[ 8 ]]", None, None),
        ("Rating: 8", None, None),
        ("x[0] is wrong, so 9/10", 0.0, None),  # an index in code wins officially
        ("see [2], rating [[9]]", 9.0, 9.0),  # double brackets are looked for first, wherever they stand
        ("Rating: [[11]]", 11.0, None),
        ("Rating: [[0]]", 0.0, None),
        ("Rating: [[08]]", 8.0, 8.0),  # crashes FastChat
        ("Rating: [[rating]]", None, None),
        ("Rating: [[-3]]", None, None),
        ("[[" + "9" * 400 + "]]", None, None),  # infinity is no grade
        ("", None, None),
        ("$ERROR$", None, None),
    ],
)
def test_ratings(reply: str, official: float | None, strict: float | None) -> None:
    assert parse_rating(reply) == official
    assert parse_rating(reply, strict=True) == strict


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("so [[A]]", "A"),
        ("so [[B]]", "B"),
        ("so [[C]]", "tie"),
        ("[A] is better", None),
        ("[[B]] rather than [[A]]", "A"),
        ("", None),
    ],
)
def test_verdicts(reply: str, verdict: str | None) -> None:
    assert parse_verdict(reply) == verdict


def test_a_verdict_as_preference() -> None:
    assert preference_from_verdict("A", candidate_first=True) == 2.0
    assert preference_from_verdict("A", candidate_first=False) == 1.0
    assert preference_from_verdict("B", candidate_first=False) == 2.0
    assert preference_from_verdict("tie", candidate_first=False) == 1.5


def test_preference_is_the_share_of_the_candidates_token() -> None:
    # P(m) = 0.6, P(M) = 0.2: m's share is 0.75.
    top = {"m": math.log(0.6), "M": math.log(0.2), "The": math.log(0.1)}
    assert preference_from_logprobs(top, candidate_first=True) == pytest.approx(1.75)
    assert preference_from_logprobs(top, candidate_first=False) == pytest.approx(1.25)


def test_a_token_that_is_not_returned_has_probability_zero() -> None:
    assert preference_from_logprobs({"M": -0.1}, candidate_first=True) == 1.0
    assert preference_from_logprobs({"M": -0.1}, candidate_first=False) == 2.0
    assert preference_from_logprobs({"M": -800.0, "m": -9000.0}, candidate_first=False) == 2.0  # no underflow to 0/0


def test_neither_token_means_that_the_judge_could_not_say() -> None:
    assert preference_from_logprobs({"The": -0.1, " m": -3.0}, candidate_first=True) is None
    assert preference_from_logprobs({}, candidate_first=True) is None
    assert preference_from_logprobs({"m": -math.inf, "M": -math.inf}, candidate_first=True) is None


@pytest.mark.parametrize(
    ("text", "first", "second"),
    [("m", 2.0, 1.0), ("M", 1.0, 2.0), (" m\n", 2.0, 1.0), ("Mm", None, None), ("", None, None)],
)
def test_preference_of_one_token(text: str, first: float | None, second: float | None) -> None:
    assert preference_from_token(text, candidate_first=True) == first
    assert preference_from_token(text, candidate_first=False) == second


@pytest.mark.parametrize("text", ["m.", '"m"', "'m'", "`m`", "*m*", "**m**", '"m."', '"m".', "\n m \n"])
def test_dressing_around_the_one_token_is_passed_over(text: str) -> None:
    assert preference_from_token(text, candidate_first=True) == 2.0
    assert preference_from_token(text.replace("m", "M"), candidate_first=True) == 1.0


@pytest.mark.parametrize(
    "text",
    [
        "m/M",
        "m or M",
        "Model m",
        "m is better",
        "I'm",
        '"m',
        "m'",
        "'m\"",
        "*m**",
        "mm",
        "m..",
        "m!",
        "not m",
        "m\nM",
        "**Model m**",
        "\u043c",
        "\uff4d",
        "(m)",
        '""m""',
    ],
)
def test_what_could_be_meant_otherwise_is_unread(text: str) -> None:
    assert preference_from_token(text, candidate_first=True) is None


def test_samples_are_shares_of_those_that_can_be_read() -> None:
    assert preference_from_samples(["m", "M", "m", "hm"], candidate_first=True) == (
        pytest.approx(1 + 2 / 3),
        {"samples": 4, "read": 3, "wins": 2},
    )
    assert preference_from_samples(["m", "M", "m", "hm"], candidate_first=False) == (
        pytest.approx(1 + 1 / 3),
        {"samples": 4, "read": 3, "wins": 1},
    )
    assert preference_from_samples(["m", None], candidate_first=True)[0] == 2.0
    assert preference_from_samples(["m", None, "hm"], candidate_first=True) == (
        None,
        {"samples": 3, "read": 1, "wins": 1},
    )
    assert preference_from_samples([None], candidate_first=True)[0] is None
    assert preference_from_samples([], candidate_first=True)[0] is None


def test_a_choice_must_hold_all_the_mass() -> None:
    assert choice_mass({"m": math.log(0.7), "M": math.log(0.3), "x": -9999.0}) == pytest.approx(1.0)
    assert preference_from_choice({"m": math.log(0.7), "M": math.log(0.3)}, candidate_first=False) == pytest.approx(1.3)
    assert (
        preference_from_choice({"m": math.log(0.6), "M": math.log(0.3), "The": math.log(0.1)}, candidate_first=True)
        is None
    )
    assert preference_from_choice({"m": 0.0}, candidate_first=True) == 2.0
    assert preference_from_choice({}, candidate_first=True) is None


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("Rating: [[7]]", "Rating: [[7]]"),
        ("<think>[[2]]</think>[[7]]", "[[7]]"),
        (" \n<think>[[2]]", ""),
        ("[[2]]</think>[[7]]", "[[7]]"),
        ("<think>It quotes </think> and [[10]] in its answer.</think>[[7]]", "[[7]]"),
        ("The answer shows <think> and </think> tags. [[7]]", "The answer shows <think> and </think> tags. [[7]]"),
        ("The answer shows a <think> tag. [[7]]", "The answer shows a <think> tag. [[7]]"),
        ("<think></think>", ""),
    ],
)
def test_reasoning_is_cut_off_before_reading(text: str, rest: str) -> None:
    assert without_reasoning(text) == rest
