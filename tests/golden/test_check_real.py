"""`check` on real models' real judgments: near and far pairs and a model judged again give what the statistics demand,
and rates are kept.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import stats

from seft_bench.evaluation.score_files import save_scored, score_files
from seft_bench.stats.paired import checked, lc_difference, mean_difference, verdict
from tests.benchmark_scripts import load_script
from tests.integration.cli import Seen, seft_bench
from tests.real_data import MODELS, alpaca_judged, comparisons, read_gzip, rebuild

pytestmark = pytest.mark.usefixtures("official_data")

STATUS = {"PASS": 0, "REGRESSED": 3, "INCONCLUSIVE": 4}
WITHHELD = {"granite-7b-lab", "mistral-7b_dolphin_orca_labonne_dpo"}


@pytest.fixture
def calibration(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which the script sets, and no other test is to see
    return load_script("check_calibration")


def judged(shared_data: Path) -> dict[str, list[dict[str, Any]]]:
    """Model -> FastChat's rows; mistral-orpo's two runs are two models, as their answers differ."""
    rows = read_gzip(shared_data / "mt_bench" / "judgments_single.jsonl.gz")
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        name = f"{row['model']}-run{row['run']}" if row["model"] == "mistral-orpo" else row["model"]
        found.setdefault(name, []).append(row | {"model": name})
    return found


def saved(folder: Path, rows: list[dict[str, Any]], suite: str = "mtbench") -> None:
    path = folder / f"{rows[0]['model'].replace('/', '-')}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    save_scored(folder / "results", score_files(suite, None, path), path)


def check(folder: Path, one: str, other: str, *more: str) -> Seen:
    return seft_bench("check", one, "--against", other, "--results", str(folder / "results"), *more)


def demanded(one: np.ndarray, other: np.ndarray, margin: float) -> tuple[str, float]:
    """The verdict of the plain paired t-test, and how far its nearest bound is from deciding otherwise, in standard
    errors.
    """
    low = stats.ttest_rel(one, other, alternative="greater").confidence_interval(0.95).low
    high = stats.ttest_rel(one, other, alternative="less").confidence_interval(0.95).high
    error = stats.sem(one - other)
    name = "PASS" if low > -margin else "REGRESSED" if high < 0 else "INCONCLUSIVE"
    return name, min(abs(low + margin), abs(high)) / error


def test_every_pair_of_mtbench_has_the_status_that_the_statistics_demand(
    shared_data: Path, tmp_path: Path, calibration: ModuleType
) -> None:
    for rows in judged(shared_data).values():
        saved(tmp_path, rows)
    scores = {
        name.replace("orpo/", "orpo-run").removesuffix("/0"): values
        for name, values in calibration.grades(shared_data).items()
    }
    statuses = {}
    for one, other in itertools.permutations(scores, 2):
        expected, distance = demanded(scores[one], scores[other], 0.5)
        seen = check(tmp_path, one, other)
        statuses[one, other] = seen.status
        if distance > 0.3:  # nearer to a bound, what skewness adds may decide
            assert seen.status == STATUS[expected], (one, other, seen.out)
    assert set(statuses.values()) == {0, 3, 4}
    assert statuses["mistral-orpo-run0", "mistral-orpo-run1"] == 3  # a wrong chat template: 5.39 instead of 6.33
    assert statuses["mistral-orpo-run1", "mistral-orpo-run0"] == 0
    assert statuses["vicuna-7b-v1.3", "mamba_0_5_dpo_ep3"] == 3
    for name in WITHHELD:
        seen = check(tmp_path, name, "vicuna-7b-v1.3")
        assert seen.status == 5
        assert "coverage" in seen.err


def test_a_model_judged_again_passes(shared_data: Path, tmp_path: Path) -> None:
    """The judge's own noise on the same answers, 0.6 a judgment, rounded to grades: no regression, and 0.5 is far
    away.
    """
    rows = judged(shared_data)["vicuna-7b-v1.3"]
    generator = np.random.default_rng(0)
    again = [
        row | {"model": "again", "score": float(np.clip(np.round(row["score"] + generator.normal(0, 0.6)), 1, 10))}
        for row in rows
    ]
    again = [row | {"judgment": f"Rating: [[{row['score']:g}]]"} for row in again]
    saved(tmp_path, rows)
    saved(tmp_path, again)
    assert check(tmp_path, "again", "vicuna-7b-v1.3").status == 0
    assert check(tmp_path, "vicuna-7b-v1.3", "again").status == 0


@pytest.mark.parametrize("noise", [0.46, 0.60])
def test_judging_again_is_taken_for_a_regression_in_five_percent(
    shared_data: Path, calibration: ModuleType, noise: float
) -> None:
    scores = calibration.grades(shared_data)["vicuna-7b-v1.3/0"]
    generator = np.random.default_rng(1)
    verdicts, regressed = [], 0
    for _ in range(2000):
        again = scores + generator.normal(0, noise, (80, 2)).mean(axis=1)
        tested = checked([("score", mean_difference(again, scores), 0.5)])
        verdicts.append(verdict(tested))
        regressed += tested[0].regressed
    assert set(verdicts) == {"PASS"}
    assert regressed / 2000 <= 0.06


# AlpacaEval


@pytest.mark.parametrize(
    "pair", [("gemma-2b-it", "phi-2"), ("gpt-3.5-turbo-1106_verbose", "gpt-3.5-turbo-1106_concise")]
)
def test_the_sandwich_agrees_with_refits_on_real_pairs(shared_data: Path, pair: tuple[str, str]) -> None:
    arms = [comparisons(shared_data, model) for model in pair]
    if "phi-2" in pair:
        there = {question.id for question in alpaca_judged(shared_data, "phi-2").scored}
        keep = np.array([question.id in there for question in alpaca_judged(shared_data, pair[0]).scored])
        arms[0] = type(arms[0])(
            arms[0].wins[keep], arms[0].length_difference[keep], arms[0].difficulty[keep], arms[0].gamed
        )
    refitted, sandwich = lc_difference(*arms), lc_difference(*arms, resamples=0)
    assert refitted.delta == sandwich.delta
    assert sandwich.standard_error == pytest.approx(refitted.standard_error, rel=0.05)


def test_pairs_of_alpacaeval_have_the_status_that_their_distance_demands(shared_data: Path, tmp_path: Path) -> None:
    for model in ("gpt-3.5-turbo-1106_verbose", "gemma-2b-it", "phi-2"):
        (tmp_path / model).mkdir()
        answers, annotations = rebuild(shared_data, model, tmp_path / model)
        save_scored(tmp_path / "results", score_files("alpacaeval", answers, annotations), annotations)
    far = check(tmp_path, "gemma-2b-it", "gpt-3.5-turbo-1106_verbose", "--json")
    [metric] = json.loads(far.out)["metrics"]
    assert (far.status, metric["metric"], metric["n"]) == (3, "lc_win_rate", 805)
    assert metric["difference"] == pytest.approx(-16.5, abs=0.05)
    near = check(tmp_path, "phi-2", "gemma-2b-it", "--json")
    [metric] = json.loads(near.out)["metrics"]
    assert metric["n"] == 803
    assert near.status == (0 if metric["lower_bound"] > -3 else 3 if metric["upper_bound"] < 0 else 4)
    assert near.status == (3 if metric["difference"] + 1.645 * metric["standard_error"] < -0.05 else 4)
    assert check(tmp_path, "gemma-2b-it", "phi-2").status == 0


# Rates


def assert_rates(summary: dict[str, dict[str, float]], noise: float) -> None:
    """Every pair keeps the rates; `noise`: what chance adds to the worst of them with few repeats."""
    for kind in ("", "_sequential"):
        assert summary["all"][f"no_change{kind}"] <= 0.055
        assert summary["all"][f"margin{kind}"] <= 0.055
        assert summary["all"][f"power{kind}"] == pytest.approx(0.80, abs=0.03)
        assert summary["worst pair"][f"no_change{kind}"] <= 0.06 + noise
        assert summary["worst pair"][f"margin{kind}"] <= 0.06 + noise
        assert summary["worst pair"][f"power{kind}"] == pytest.approx(0.80, abs=0.03 + noise)
    assert summary["worst pair"]["saved"] >= 0.30 - noise


def test_rates_on_mtbench_quickly(shared_data: Path, calibration: ModuleType) -> None:
    rows = calibration.mtbench(shared_data, 2000)
    assert len(rows) == 42
    assert_rates(calibration.summary(rows), noise=0.02)


@pytest.mark.slow
def test_rates_on_mtbench_over_20_000_repeats_of_every_pair(shared_data: Path, calibration: ModuleType) -> None:
    assert_rates(calibration.summary(calibration.mtbench(shared_data, 20_000)), noise=0.002)


def test_the_simulation_tests_as_the_check_does(shared_data: Path, calibration: ModuleType) -> None:
    """Vectorised for speed, and the same figures: two real models in one draw of questions and sides."""
    arms = [calibration.annotations(shared_data, model) for model in MODELS[1:3]]
    mixed = calibration.Mixed.of(*arms)
    generator = np.random.default_rng(3)
    units, swapped = generator.integers(0, mixed.n, (2, mixed.n)), generator.random((2, mixed.n)) < 0.3
    found = mixed.tested(mixed.counts(units, swapped), mixed.n)
    for repeat in range(2):
        rows = units[repeat] + mixed.n * swapped[repeat], units[repeat] + mixed.n * ~swapped[repeat]
        data = mixed.data
        sides = [type(data)(data.wins[of], data.length_difference[of], data.difficulty[of], data.gamed) for of in rows]
        slow = lc_difference(*sides, resamples=0)
        assert [column[repeat] for column in found] == pytest.approx(
            [slow.delta, slow.standard_error, slow.skewness], rel=1e-5
        )


def test_rates_on_alpacaeval_quickly(shared_data: Path, calibration: ModuleType) -> None:
    arms = [calibration.annotations(shared_data, model) for model in MODELS[1:3]]
    row = calibration.calibrate_lc(calibration.Mixed.of(*arms), 400, np.random.default_rng(0))
    for kind in ("", "_sequential"):
        assert row[f"no_change{kind}"] <= 0.08
        assert row[f"margin{kind}"] <= 0.08
        assert row[f"power{kind}"] == pytest.approx(0.80, abs=0.08)


@pytest.mark.slow
def test_rates_on_alpacaeval_over_20_000_repeats(shared_data: Path, calibration: ModuleType) -> None:
    """1,400 repeats of each of 15 pairs: the worst pair's 0.05 has a standard error of 0.006."""
    assert_rates(calibration.summary(calibration.alpacaeval(shared_data, 1400)), noise=0.018)
