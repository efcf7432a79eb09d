"""GPT-4 beside MT-Bench's human experts: the known counts from the published votes, and what a user sees when something
is wrong.
"""

from __future__ import annotations

import gzip
import json
import math
from itertools import combinations
from pathlib import Path
from statistics import variance
from typing import Any

import pytest

from seft_bench.errors import InputError
from seft_bench.judge_quality.agreement import measure_agreement
from seft_bench.judge_quality.consistency import measure_consistency
from seft_bench.stats.agreement import Cell
from tests.integration.cli import seft_bench

COUNTS = {
    (1, True): (886, 1343, 454, 721),
    (1, False): (727, 859, 388, 479),
    (2, True): (871, 1325, 471, 707),
    (2, False): (731, 864, 388, 474),
}
"""(turn, with ties) -> equal votes and pairs of judge and experts, then of experts among themselves."""
PER_CENT = {(1, True): (66, 63), (1, False): (85, 81), (2, True): (66, 67), (2, False): (85, 82)}
"""The same in per cent: judge and experts, experts among themselves."""


@pytest.fixture
def votes(shared_data: Path) -> Path:
    return shared_data / "mt_bench" / "human_votes.jsonl.gz"


@pytest.fixture
def gpt4(shared_data: Path) -> Path:
    return shared_data / "mt_bench" / "gpt4_pair_votes.jsonl.gz"


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]


def counts(cell: Cell) -> tuple[int, int, int, int]:
    assert cell.judge is not None
    assert cell.humans is not None
    return cell.judge.agreed, cell.judge.n, cell.humans.agreed, cell.humans.n


def test_the_known_counts_exactly(votes: Path, gpt4: Path) -> None:
    report = measure_agreement(votes, gpt4)
    assert {(cell.turn, cell.ties): counts(cell) for cell in report.cells} == COUNTS
    assert (report.judge, report.human_votes, report.not_asked, report.coverage, report.withheld) == (
        "gpt4_pair",
        1343 + 1325,
        0,
        1.0,
        False,
    )


def test_intervals_hold_the_figure_and_the_ceiling_is_near(votes: Path, gpt4: Path) -> None:
    for cell in measure_agreement(votes, gpt4).cells:
        agreed, n, human_agreed, human_n = counts(cell)
        assert cell.judge is not None
        assert cell.difference is not None
        assert cell.difference.mean == pytest.approx(agreed / n - human_agreed / human_n)
        for interval in (cell.judge.interval, cell.difference):
            assert interval.low is not None
            assert interval.high is not None
            assert interval.low < interval.mean < interval.high
            # 80 questions: wider than 1,343 independent votes would be (0.050), far from useless
            assert 0.05 < interval.high - interval.low < 0.12


def test_a_judge_that_swaps_the_models_names_and_winners_is_the_same_judge(
    votes: Path, gpt4: Path, tmp_path: Path
) -> None:
    swapped = tmp_path / "swapped.jsonl"
    other = {"model_a": "model_b", "model_b": "model_a"}
    rows = _rows(gpt4)
    _write(
        swapped,
        [
            row
            | {"model_a": row["model_b"], "model_b": row["model_a"], "winner": other.get(row["winner"], row["winner"])}
            for row in rows
        ],
    )
    assert measure_agreement(votes, swapped).cells == measure_agreement(votes, gpt4).cells


def test_authors_are_other_raters(votes: Path, gpt4: Path) -> None:
    """3,355 votes: 2,668 of experts, 687 of authors, of which author_0 gave one twice."""
    assert measure_agreement(votes, gpt4, raters="author").human_votes == 686
    assert measure_agreement(votes, gpt4, raters="").human_votes == 3354


def test_the_command_shows_the_known_per_cent(votes: Path, gpt4: Path) -> None:
    seen = seft_bench("judges", "agreement", "--votes", str(votes), "--judge-votes", str(gpt4), "--json")
    assert seen.status == 0
    shown = {(cell["turn"], cell["ties"]): cell for cell in json.loads(seen.out)["cells"]}
    per_cent = {
        key: tuple(round(100 * cell[side]["interval"]["mean"]) for side in ("judge", "humans"))
        for key, cell in shown.items()
    }
    assert per_cent == PER_CENT


def test_the_table_of_one_turn(votes: Path, gpt4: Path) -> None:
    seen = seft_bench("judges", "agreement", "--votes", str(votes), "--judge-votes", str(gpt4), "--turn", "1")
    header, with_ties, without, *_ = [line.split("\t") for line in seen.out.splitlines()]
    assert header == ["turn", "ties", "gpt4_pair and humans", "humans among themselves", "difference"]
    assert with_ties[:2] == ["1", "with"]
    assert (with_ties[2].split()[0], with_ties[2].split()[-1], with_ties[3].split()[-1]) == (
        "0.660",
        "886/1343",
        "454/721",
    )
    assert (without[2].split()[0], without[2].split()[-1], without[3].split()[-1]) == ("0.846", "727/859", "388/479")
    assert "0 that the judge was not asked for" in seen.err


def test_fastchats_pairwise_judgments_are_verdicts(shared_data: Path, tmp_path: Path) -> None:
    """75 rows in both orders: 38 name one winner twice, 8 are ties twice, 27 differ, 2 failed.

    A human who always ties agrees with 35 of 73.
    """
    games = shared_data / "mt_bench" / "judgments_pair.jsonl.gz"
    rows = _rows(games)
    human = tmp_path / "human.jsonl"
    _write(
        human,
        [_vote("expert_1", row["question_id"], "tie", model_a=row["model_2"], model_b=row["model_1"]) for row in rows],
    )
    report = measure_agreement(human, games)
    with_ties, without = report.cells
    assert (report.judge, report.failed, report.withheld) == ("gpt-4", 2, True)
    assert with_ties.judge is not None
    assert (with_ties.judge.agreed, with_ties.judge.n) == (35, 73)
    assert (with_ties.humans, with_ties.difference, without.judge) == (None, None, None)
    assert seft_bench("judges", "agreement", "--votes", str(human), "--judge-votes", str(games)).status == 5


# Small files of our own


def _vote(judge: str, question: int, winner: str, **keys: Any) -> dict[str, Any]:
    return {"judge": judge, "question_id": question, "turn": 1, "model_a": "m", "model_b": "n", "winner": winner} | keys


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_votes_that_the_judge_was_not_asked_for_are_counted(tmp_path: Path) -> None:
    _write(tmp_path / "human.jsonl", [_vote("expert_1", question, "model_a") for question in range(5)])
    _write(
        tmp_path / "judge.jsonl",
        [
            _vote("mine", 0, "model_a"),
            _vote("mine", 1, "model_b"),
            _vote("mine", 2, "error"),
            _vote("mine", 2, "model_a"),
        ],
    )
    report = measure_agreement(tmp_path / "human.jsonl", tmp_path / "judge.jsonl")
    assert report.cells[0].judge is not None
    assert (report.cells[0].judge.agreed, report.cells[0].judge.n) == (2, 3)
    assert (report.human_votes, report.not_asked, report.failed, report.coverage) == (5, 2, 0, 1.0)


@pytest.mark.parametrize(
    ("human", "judge", "options", "expected"),
    [
        (_vote("author_1", 1, "tie"), _vote("mine", 1, "tie"), {}, "'expert'; it has votes of author_1"),
        (_vote("expert_1", 1, "tie"), _vote("mine", 1, "tie"), {"turn": 2}, "on turn 2; it has turns 1"),
        (
            _vote("expert_1", 1, "tie"),
            _vote("mine", 1, "tie"),
            {"judge": "other"},
            "unknown judge 'other': known are mine",
        ),
        (
            _vote("expert_1", 1, "tie"),
            _vote("mine", 1, "tie", model_a="k"),
            {},
            "The humans compared m, n; the judge k, n",
        ),
        (
            _vote("expert_1", 1, "tie"),
            _vote("mine", 1, "A"),
            {},
            "line 1: winner is 'A'; allowed are model_a, model_b, tie",
        ),
        (_vote("expert_1", 1, "tie"), _vote("mine", 1, "tie", model_a="n"), {}, "n is compared with itself"),
        (_vote("expert_1", 1, "tie"), _vote("mine", 1, "tie", turn="first"), {}, "turn is 'first'"),
        (
            _vote("expert_1", 1, "tie"),
            {"judge": "mine", "score": 3},
            {},
            "key model_a, model_b, question_id, turn, winner is missing",
        ),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, human: dict[str, Any], judge: dict[str, Any], options: dict[str, Any], expected: str
) -> None:
    _write(tmp_path / "human.jsonl", [human])
    _write(tmp_path / "judge.jsonl", [judge])
    with pytest.raises(InputError) as error:
        measure_agreement(tmp_path / "human.jsonl", tmp_path / "judge.jsonl", **options)
    assert expected in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    _write(tmp_path / "human.jsonl", [_vote("expert_1", 1, "tie")])
    _write(tmp_path / "two.jsonl", [_vote("mine", 1, "tie"), _vote("yours", 1, "tie")])
    (tmp_path / "text.jsonl.gz").write_text("no gzip")
    (tmp_path / "broken.jsonl").write_text("{oops\n")
    (tmp_path / "empty.jsonl").write_text("\n")
    for name, expected in {
        "two.jsonl": "2 judges: mine, yours; name one with --judge",
        "text.jsonl.gz": "not gzipped",
        "broken.jsonl": "line 1",
        "empty.jsonl": "has no rows",
        "absent.jsonl": "not found",
    }.items():
        with pytest.raises(InputError, match=expected):
            measure_agreement(tmp_path / "human.jsonl", tmp_path / name)


# Biases and self-consistency on real verdicts


def test_gpt4_likes_long_answers_more_than_experts_do(votes: Path, gpt4: Path, shared_data: Path) -> None:
    """On the 1,065 comparisons whose two answers are here (5 of the 6 models) and differ in length."""
    found = measure_agreement(
        votes, gpt4, answers=[shared_data / "mt_bench" / "answers_humanvote_models.jsonl.gz"]
    ).length
    assert found is not None
    assert found.decided is not None
    assert found.slope is not None
    assert found.slope.low is not None
    assert (found.all.comparisons, found.decided.comparisons) == (1065, 775)
    shares = [found.all.judge.mean, found.all.humans.mean, found.decided.judge.mean, found.decided.humans.mean]
    assert shares == pytest.approx([0.716, 0.679, 0.775, 0.722], abs=6e-4)
    assert found.biased
    assert found.slope.low > 0.5


def test_position_bias_of_real_pairwise_judgments(shared_data: Path, tmp_path: Path) -> None:
    """73 comparisons in both orders: 38 + 8 agree, 24 lean to the answer shown first, 3 to the second; counted from the
    rows themselves.
    """
    games = shared_data / "mt_bench" / "judgments_pair.jsonl.gz"
    rows = _rows(games)
    _write(
        tmp_path / "human.jsonl",
        [_vote("expert_1", row["question_id"], "tie", model_a=row["model_2"], model_b=row["model_1"]) for row in rows],
    )
    points = {"model_1": 1, "model_2": -1, "tie": 0}
    leans = [
        points[row["g1_winner"]] - points[row["g2_winner"]]
        for row in rows
        if "error" not in (row["g1_winner"], row["g2_winner"])
    ]
    found = measure_agreement(tmp_path / "human.jsonl", games).position
    assert found is not None
    assert (found.comparisons, found.n_first, found.n_second) == (73, 24, 3)
    assert (found.n_first, found.n_second) == (sum(lean > 0 for lean in leans), sum(lean < 0 for lean in leans))
    assert found.consistent.mean == pytest.approx(46 / 73)
    assert found.bias.mean == pytest.approx(sum(leans) / 2 / 73)
    assert found.p_value == pytest.approx(4.92e-5, rel=0.01)
    assert found.biased


def test_real_prompts_that_were_judged_twice(shared_data: Path) -> None:
    """Prompts that models with the same answer share; the two runs of one model whose answers differ are no repeats of
    a prompt.
    """
    path = shared_data / "mt_bench" / "judgments_single.jsonl.gz"
    (found,) = measure_consistency([path]).values()
    scores: dict[tuple[int, str], list[float]] = {}
    for row in _rows(path):
        if row["score"] != -1:
            scores.setdefault((row["turn"], row["user_prompt"]), []).append(row["score"])
    repeated = [values for values in scores.values() if len(values) > 1]
    pairs = [one == other for values in repeated for one, other in combinations(values, 2)]
    assert (found.prompts, found.pairs, sum(pairs)) == (len(repeated), len(pairs), 68) == (84, 93, 68)
    assert found.sd is not None
    assert found.noise_of_mean is not None
    assert found.sd.mean == pytest.approx(
        math.sqrt(
            sum(variance(values) * (len(values) - 1) for values in repeated)
            / sum(len(values) - 1 for values in repeated)
        )
    )
    assert (found.equal.mean, found.sd.mean, found.noise_of_mean.mean) == pytest.approx(
        (0.731, 0.597, 0.0472), abs=6e-4
    )


def test_one_models_answers_judged_for_another_with_the_same_text(shared_data: Path, tmp_path: Path) -> None:
    """Two runs of one model that answered 80 prompts alike: 55 of 80 grades equal, SD 0.62 a judgment, 0.049 on a mean
    over 160.
    """
    rows = [
        row
        for row in _rows(shared_data / "mt_bench" / "judgments_single.jsonl.gz")
        if row["model"].startswith("vicuna-7b")
    ]
    _write(tmp_path / "two.jsonl", rows)
    (found,) = measure_consistency([tmp_path / "two.jsonl"]).values()
    assert (found.prompts, found.equal.mean) == (80, 55 / 80)
    assert found.sd is not None
    assert found.noise_of_mean is not None
    assert (found.sd.mean, found.noise_of_mean.mean) == pytest.approx((0.6225, 0.0492), abs=1e-4)
