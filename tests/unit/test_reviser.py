"""The reviser's arithmetic, worked out by hand."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Sequence
from typing import get_args

import pytest

from seft_bench.errors import InputError
from training.reviser import (
    PoorAnswers,
    asked_to_revise,
    auc,
    calibrate,
    confidence,
    delta,
    edit_distance,
    label_pairs,
    mode_statistic,
    of_mean_one,
    pairs_to_revise,
    revision_prompt,
    revision_summary,
)


def test_revision_prompt_shows_question_draft_and_instruction_in_this_order() -> None:
    prompt = [{"role": "user", "content": "q"}]
    assert revision_prompt(prompt, "draft", "revise") == [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "draft"},
        {"role": "user", "content": "revise"},
    ]
    assert prompt == [{"role": "user", "content": "q"}]


def test_other_drafts_stand_before_the_draft_as_exchanges_of_their_own() -> None:
    """The last turn is asked again after each, so that roles take turns whatever came before."""
    ask, again = {"role": "user", "content": "q"}, {"role": "user", "content": "and now?"}
    prompt = [ask, {"role": "assistant", "content": "a"}, again]
    found = revision_prompt(prompt, "draft", "revise", ["other", "third"])
    assert [message["content"] for message in found] == [
        *("q", "a", "and now?", "other", "and now?", "third", "and now?", "draft", "revise"),
    ]
    assert [message["role"] for message in found] == ["user", "assistant"] * 4 + ["user"]
    assert asked_to_revise({"prompt": [ask], "other_drafts": ["other"]}, "draft", "revise") == revision_prompt(
        [ask], "draft", "revise", ["other"]
    )
    assert asked_to_revise({"prompt": [ask]}, "draft", "revise") == revision_prompt([ask], "draft", "revise")


def test_own_drafts_stand_in_the_place_of_poor_answers_or_beside_them() -> None:
    rows = [{"prompt": [], "chosen": "good", "rejected": "poor", "draft": "own"}]
    of = {poor: [row["rejected"] for row in pairs_to_revise(rows, poor)] for poor in get_args(PoorAnswers)}
    assert of == {"annotated": ["poor"], "on_policy": ["own"], "both": ["poor", "own"]}
    assert pairs_to_revise([{"chosen": "good", "rejected": "poor"}], "annotated")[0]["rejected"] == "poor"


def test_mode_is_zero_for_what_the_reviser_writes_itself_and_negative_for_the_rest() -> None:
    assert mode_statistic(-0.2, -0.2) == 0
    assert mode_statistic(-1.5, -0.2) == pytest.approx(-1.3)


def test_a_decision_is_as_sure_as_its_statistic_is_far_from_the_threshold() -> None:
    """-.2: kept at 0 and revised from -.4 on is certain, -.1 and -.3 are half so; a threshold of 0 has no scale."""
    found = [confidence(value, -0.2) for value in (0.0, 0.05, -0.1, -0.2, -0.3, -0.4, -3.0)]
    assert found == pytest.approx([1, 1, 0.5, 0, 0.5, 1, 1])
    assert [confidence(value, 0.0) for value in (0.0, -0.5)] == [0, 1]
    assert confidence(-0.3, -1e9) == pytest.approx(1), "all drafts were kept, and none is doubted"


def test_weights_are_scaled_to_a_mean_of_one() -> None:
    assert of_mean_one([0.5, 0.25, 0.25, 1.0]) == [1.0, 0.5, 0.5, 2.0]
    assert of_mean_one([0.0, 0.0]) == [1.0, 1.0]
    assert of_mean_one([]) == []


def test_labels_keep_what_the_reviser_would_copy_and_split_the_rest_at_the_median() -> None:
    deltas = [delta(-0.1, -0.05), delta(-0.1, -0.4), delta(-0.1, -1.1), delta(-0.1, -2.1)]  # -0.05, 0.3, 1.0, 2.0
    assert label_pairs(deltas, 3) == ["no_revise", "minor_revise", "major_revise", "major_revise"]
    assert label_pairs(deltas, 2) == ["no_revise", "major_revise", "major_revise", "major_revise"]
    assert label_pairs([-1.0], 3) == ["no_revise"]
    assert label_pairs(deltas, 3, "annotated") == ["minor_revise", "minor_revise", "major_revise", "major_revise"]
    assert label_pairs([-2.0, -1.0], 2, "annotated") == ["major_revise", "major_revise"]
    with pytest.raises(InputError, match="2 or 3 levels"):
        label_pairs(deltas, 4)


def test_the_threshold_keeps_at_most_the_allowed_share_of_poor_drafts() -> None:
    poor = [-10.0, -9.0, -8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0]
    good = [-1.5, -0.5, 0.0]
    found = calibrate(poor + good, [True] * 10 + [False] * 3, max_poor_kept=0.1)
    assert -2.0 < found.threshold <= -1.5
    assert found.poor_kept == pytest.approx(0.1)
    assert found.good_kept == 1.0
    # Pairs (good, poor) with good above: -1.5 beats 9 of 10, the two others all: (9 + 10 + 10) / 30.
    assert found.auc == pytest.approx(29 / 30)


def test_ties_at_the_threshold_never_let_more_poor_drafts_through() -> None:
    found = calibrate([-1.0] * 10, [True] * 10, max_poor_kept=0.1)
    assert found.poor_kept == 0.0


def test_without_poor_drafts_everything_is_kept_and_nothing_is_claimed() -> None:
    found = calibrate([-1.0, -2.0], [False, False], max_poor_kept=0.1)
    assert (found.threshold, found.good_kept, found.poor_kept, found.auc) == (-math.inf, 1.0, None, None)


def test_auc_counts_ties_as_half() -> None:
    assert auc([1.0, 2.0], [1.0]) == pytest.approx((0.5 + 1.0) / 2)
    assert auc([1.0], []) is None


def auc_by_pairs(above: Sequence[float], below: Sequence[float]) -> float:
    """The definition: pairs in which `above` wins, ties counting half."""
    wins = sum((high > low) + (high == low) / 2 for high in above for low in below)
    return wins / (len(above) * len(below))


def test_auc_is_the_share_of_pairs_won_to_the_digit() -> None:
    numbers = random.Random(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # ties throughout leave scipy's p-value without a variance
        for _ in range(200):
            above, below = (
                [numbers.choice([numbers.gauss(0, 1), 0.0, 1.0]) for _ in range(numbers.randint(1, 12))]
                for _ in range(2)
            )
            assert auc(above, below) == auc_by_pairs(above, below)
        assert auc([1.0] * 5, [1.0] * 7) == 0.5
        assert auc([-math.inf, 1.0], [0.0]) == 0.5


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("a b c", "a b c", 0.0),
        ("a b c", "a x c", 1 / 3),
        ("a b", "a b c d", 0.5),
        ("", "", 0.0),
        ("", "a", 1.0),
        ("a  b", "a b", 0.0),
    ],
)
def test_edit_distance_counts_words(first: str, second: str, expected: float) -> None:
    assert edit_distance(first, second) == pytest.approx(expected)


def edit_distance_by_rows(first: str, second: str) -> float:
    """The textbook's table, row by row (Wagner and Fischer 1974), over the longer text's words."""
    left, right = first.split(), second.split()
    previous = list(range(len(right) + 1))
    for row, word in enumerate(left, start=1):
        current = [row]
        for column, other in enumerate(right, start=1):
            current.append(min(previous[column] + 1, current[-1] + 1, previous[column - 1] + (word != other)))
        previous = current
    return previous[-1] / max(len(left), len(right), 1)


def test_edit_distance_is_the_textbooks_to_the_digit() -> None:
    numbers = random.Random(0)
    words = "a b c d the fox jumps é élan".split()
    for _ in range(300):
        first, second = (" ".join(numbers.choices(words, k=numbers.randint(0, 40))) for _ in range(2))
        assert edit_distance(first, second) == edit_distance_by_rows(first, second)


def test_summary_counts_copies_among_the_revised_only() -> None:
    rows = [
        {"draft": "a b", "revision": "", "kept": True},
        {"draft": "a b", "revision": "a  b", "kept": False},
        {"draft": "a b", "revision": "a c", "kept": False},
    ]
    assert revision_summary(rows) == {
        "drafts": 3,
        "keep_rate": pytest.approx(1 / 3),
        "copy_rate": 0.5,
        "edit_distance": pytest.approx(0.25),
    }
