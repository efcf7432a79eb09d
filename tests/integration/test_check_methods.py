"""`seft-bench check` of two methods: rows of a matrix over questions and seeds, their statuses, and refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from seft_bench.files import write_jsonl
from tests.integration.checking import METRIC_KEYS, answer_rows, change, check, report, result_file
from tests.integration.cli import good, seft_bench

SPOILT = {"good": (0, 60, 50), "near": (45, 40, 50), "bad": (1, 2, 1)}
"""Row -> of each training seed: every how many-th answer is nonsense."""
METHOD_KEYS = set(
    "seeds paired_by_seed by_seed degrees_of_freedom variance share_of_seeds seeds_needed bootstrap".split()
)


def run_facts(row: str, seed: int, **more: Any) -> dict[str, Any]:
    return {
        "row": row,
        "label": row.title(),
        "role": "method",
        "method": "sft",
        "seed": seed,
        "step": 150,
        "final": True,
    } | more


@pytest.fixture(scope="module")
def three_methods(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rows of three seeds each, evaluated on both tiny suites, as if a matrix had trained them."""
    folder = tmp_path_factory.mktemp("methods")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for suite in ("tiny-mtbench", "tiny-alpacaeval"):
            models = {
                f"{row}-seed{seed}": spoilt for row, of_seeds in SPOILT.items() for seed, spoilt in enumerate(of_seeds)
            }
            write_jsonl(
                folder / f"{suite}.jsonl",
                [line for model, spoilt in models.items() for line in answer_rows(suite, model, spoilt)],
            )
            seen = seft_bench("eval", f"{suite}.jsonl", "--suite", suite)
            assert seen.status == 0, seen.err
        for path in folder.glob("results/*/*/result.json"):
            row, seed = json.loads(path.read_text())["model"].split("-seed")
            change(path, run=run_facts(row, int(seed)))
    return folder


@pytest.fixture
def evaluated_methods(three_methods: Path, desk: Path) -> Path:
    """A copy of it on the desk, which a test may spoil."""
    return Path(shutil.copytree(three_methods, desk, dirs_exist_ok=True))


def of_row(desk: Path, row: str, suite: str = "*") -> list[Path]:
    return [
        path
        for path in desk.glob(f"results/{suite}/*/result.json")
        if json.loads(path.read_text())["run"]["row"] == row
    ]


def reseeded(desk: Path, row: str, seeds: Sequence[int]) -> None:
    """The row's seeds 0, 1, 2 get these numbers; those without one are deleted."""
    for path in of_row(desk, row):
        run = json.loads(path.read_text())["run"]
        if run["seed"] < len(seeds):
            change(path, run=run | {"seed": seeds[run["seed"]]})
        else:
            shutil.rmtree(path.parent)


# Verdicts and statuses


def test_a_worse_method_regressed_and_is_never_named_without_its_seeds(evaluated_methods: Path) -> None:
    seen = check("bad", "--against", "good")
    assert seen.status == 3, seen.err
    assert seen.out.startswith("REGRESSED: method bad (seeds 0,1,2) is worse than method good (seeds 0,1,2) on ")
    for words in (
        "tiny-mtbench: score",
        "tiny-alpacaeval: LC win rate",
        "variance from seeds",
        "by category:",
        "lost most on",
        "percentile bootstrap",
    ):
        assert words in seen.out
    assert check("bad", "--against", "good", "--report-only").status == 0


def test_the_better_method_passes(evaluated_methods: Path) -> None:
    seen = check("good", "--against", "bad")
    assert seen.status == 0, seen.err
    assert seen.out.startswith("PASS: method good (seeds 0,1,2)")


def test_a_margin_inside_the_interval_is_inconclusive(evaluated_methods: Path) -> None:
    arguments = ("near", "--against", "good", "--suite", "tiny-mtbench")
    [metric] = report(*arguments)["metrics"]
    assert metric["lower_bound"] < 0 < metric["upper_bound"]
    seen = check(*arguments, "--margin", f"score={-metric['lower_bound'] * 0.9:.4f}")
    assert seen.status == 4
    assert "these questions and seeds neither show" in seen.out
    assert "A loss of" in seen.out
    assert (
        check(*arguments, "--margin", f"score={-metric['lower_bound'] * 0.9:.4f}", "--allow-inconclusive").status == 0
    )


def test_the_json_is_whole_and_out_keeps_it(evaluated_methods: Path) -> None:
    found = json.loads(check("near", "--against", "good", "--json", "--out", "kept.json").out)
    assert json.loads(Path("kept.json").read_text()) == found
    assert (found["candidate"], found["baseline"]) == ("method near (seeds 0,1,2)", "method good (seeds 0,1,2)")
    assert {metric["metric"] for metric in found["metrics"]} == {"score", "lc_win_rate"}
    for metric in found["metrics"]:
        assert set(metric) == METRIC_KEYS | METHOD_KEYS
        assert metric["lower_bound"] <= metric["difference"] <= metric["upper_bound"]
        assert metric["paired_by_seed"] is True
        assert 2 <= metric["degrees_of_freedom"] <= metric["n"] - 1
        assert metric["bootstrap"]["low"] <= metric["difference"] <= metric["bootstrap"]["high"]
        parts = metric["variance"]
        assert metric["standard_error"] ** 2 == pytest.approx(
            parts["questions"] + max(parts["seeds"] - parts["rest_in_both"], 0.0)
        )


def test_figures_are_means_over_the_seeds_results(evaluated_methods: Path) -> None:
    for metric in report("bad", "--against", "near")["metrics"]:
        for side, row in (("candidate", "bad"), ("baseline", "near")):
            figures = [
                json.loads(path.read_text())["metrics"][metric["metric"]]
                for path in of_row(evaluated_methods, row, metric["suite"])
            ]
            assert metric[side] == pytest.approx(sum(figures) / 3, abs=1e-6)
            assert sorted(metric["by_seed"][side].values()) == pytest.approx(sorted(figures))


def test_worst_questions_and_categories_are_means_over_seeds(evaluated_methods: Path) -> None:
    [metric] = report("bad", "--against", "good", "--suite", "tiny-mtbench")["metrics"]
    scores = {
        row: [
            json.loads(path.with_name("questions.json").read_text())["per_question"]
            for path in of_row(evaluated_methods, row, "tiny-mtbench")
        ]
        for row in ("bad", "good")
    }
    for line in metric["worst"]:
        means = {row: sum(of_seed[line["question_id"]] for of_seed in seeds) / 3 for row, seeds in scores.items()}
        assert line["difference"] == pytest.approx(means["bad"] - means["good"])
    assert sum(row["n"] * row["difference"] for row in metric["categories"]) == pytest.approx(
        metric["n"] * metric["difference"]
    )


def test_only_final_checkpoints_count(evaluated_methods: Path) -> None:
    before = report("bad", "--against", "good")
    for path in of_row(evaluated_methods, "good"):
        copy = path.parent.with_name("earlier-" + path.parent.name)
        shutil.copytree(path.parent, copy)
        row = json.loads(path.read_text())
        change(copy / "result.json", model=row["model"] + "-earlier", run=row["run"] | {"final": False})
    assert report("bad", "--against", "good") == before


# Seeds


def test_other_seeds_are_independent_draws(evaluated_methods: Path) -> None:
    paired = report("bad", "--against", "good", "--suite", "tiny-mtbench")
    reseeded(evaluated_methods, "good", (5, 6, 7))
    found = report("bad", "--against", "good", "--suite", "tiny-mtbench")
    [metric], [before] = found["metrics"], paired["metrics"]
    assert (metric["paired_by_seed"], metric["seeds"]) == (False, {"candidate": [0, 1, 2], "baseline": [5, 6, 7]})
    assert metric["difference"] == pytest.approx(before["difference"])
    assert metric["standard_error"] != before["standard_error"]
    assert "independent draws" in " ".join(found["notes"])
    assert found["baseline"] == "method good (seeds 5,6,7)"


def test_three_shared_seeds_are_paired_and_the_others_left_out(evaluated_methods: Path) -> None:
    before = report("bad", "--against", "good", "--suite", "tiny-mtbench")
    [source] = [
        path
        for path in of_row(evaluated_methods, "good", "tiny-mtbench")
        if json.loads(path.read_text())["run"]["seed"] == 0
    ]
    shutil.copytree(source.parent, source.parent.with_name("good-seed3@given@rubric"))
    change(
        source.parent.with_name("good-seed3@given@rubric") / "result.json", model="good-seed3", run=run_facts("good", 3)
    )
    found = report("bad", "--against", "good", "--suite", "tiny-mtbench")
    assert found["metrics"] == before["metrics"]
    assert "seeds 3, which only one side has, are left out" in " ".join(found["notes"])


@pytest.mark.parametrize("row", ["bad", "good"])
def test_two_seeds_are_too_few_on_either_side(evaluated_methods: Path, row: str) -> None:
    reseeded(evaluated_methods, row, (0, 1))
    seen = check("bad", "--against", "good")
    assert seen.status == 5
    assert "at least three training seeds" in seen.err
    assert f"method {row} (seeds 0,1) on tiny-mtbench: 2 of at least 3" in seen.err


def test_seed_that_is_missing_on_one_suite_is_said_there(evaluated_methods: Path) -> None:
    shutil.rmtree(result_file(evaluated_methods, "tiny-mtbench", "good-seed1").parent)
    seen = check("bad", "--against", "good")
    assert seen.status == 5
    assert "on tiny-mtbench" in seen.err
    assert "on tiny-alpacaeval" not in seen.err
    assert check("bad", "--against", "good", "--suite", "tiny-alpacaeval").status == 3


def test_one_seed_twice_is_said(evaluated_methods: Path) -> None:
    reseeded(evaluated_methods, "good", (0, 1, 1))
    seen = check("bad", "--against", "good")
    assert seen.status == 2
    assert "has two final results" in seen.err


# Names and refusals


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bad", "--against", "bad"], "a check takes two methods"),
        (["bad", "--against", "good-seed1"], "one checkpoint says nothing about a method"),
        (["good-seed1", "--against", "bad"], "'bad' is a method (training seeds 0,1,2) and 'good-seed1' is not"),
        (["bad", "--against", "nobody"], "no method or model 'nobody' in these results; methods: bad, good, near"),
        (["nobody", "--against", "no-one"], "of methods: bad, good, near"),
        (["bad", "--against", "good", "--sequential"], "Leave --sequential out"),
        (["bad", "--against", "good-seed1", "--sequential"], "'bad' is a method"),
        (["bad", "--against", "good", "--judge", "gpt-4"], "in common"),
        (["bad", "--against", "good", "--decoding", "beam"], "in common"),
        (["bad", "--against", "good", "--base", "other"], "in common"),
        (["bad", "--against", "good", "--margin", "sore=1"], "no metric of this check"),
        (["bad-seed0", "--against", "good-seed0", "--data", "d"], "are no methods"),
    ],
)
def test_wrong_usage_is_said_and_ends_with_2(evaluated_methods: Path, arguments: list[str], said: str) -> None:
    seen = check(*arguments)
    assert seen.status == 2
    assert said in seen.err
    assert "Traceback" not in seen.err


def test_checkpoints_of_methods_can_still_be_compared(evaluated_methods: Path) -> None:
    seen = check("bad-seed0", "--against", "good-seed0", "--suite", "tiny-mtbench")
    assert seen.status == 3
    assert "seeds" not in seen.out


def test_a_models_name_means_the_model(evaluated_methods: Path) -> None:
    """A name that a row and a model share means the model, as before there were methods."""
    change(result_file(evaluated_methods, "tiny-mtbench", "good-seed0"), model="good", run={})
    seen = check("bad-seed0", "--against", "good", "--suite", "tiny-mtbench")
    assert seen.status == 3
    assert "bad-seed0 against good" in seen.out


def test_a_control_without_a_model_is_no_method(evaluated_methods: Path) -> None:
    for path in of_row(evaluated_methods, "good"):
        change(path, run=json.loads(path.read_text())["run"] | {"control": "constant"})
    seen = check("bad", "--against", "good")
    assert seen.status == 2
    assert "no method or model 'good' in these results; methods: bad, near" in seen.err


def test_bases_and_data_are_kept_apart(evaluated_methods: Path) -> None:
    """A matrix with two bases: each pair of rows exists on both, with other figures."""
    for row, other in (("bad", "good"), ("good", "near")):
        for path in of_row(evaluated_methods, row):
            run = json.loads(path.read_text())["run"] | {"base": "large"}
            change(path, run=run)
            copy = path.parent.with_name("small-" + path.parent.name)
            shutil.copytree(
                result_file(evaluated_methods, path.parent.parent.name, f"{other}-seed{run['seed']}").parent, copy
            )
            change(copy / "result.json", model=f"small-{row}-seed{run['seed']}", run=run | {"base": "small"})
    seen = check("bad", "--against", "good")
    assert seen.status == 2
    assert "several bases or data have both methods: large; small. Choose one with --base or --data" in seen.err
    [large] = report("bad", "--against", "good", "--base", "large", "--suite", "tiny-mtbench")["metrics"]
    [small] = report("bad", "--against", "good", "--base", "small", "--suite", "tiny-mtbench")["metrics"]
    assert large["difference"] < small["difference"]


def test_several_judges_must_be_chosen_from(evaluated_methods: Path) -> None:
    for row in ("bad", "good"):
        for path in of_row(evaluated_methods, row, "tiny-mtbench"):
            copy = path.parent.with_name("other-" + path.parent.name)
            shutil.copytree(path.parent, copy)
            change(copy / "result.json", judge_id="other-12345678")
    seen = check("bad", "--against", "good")
    assert seen.status == 2
    assert "several judges judged both: other-12345678, rubric-" in seen.err
    assert check("bad", "--against", "good", "--judge", "other").status == 3


# Not comparable


def not_comparable(said: str) -> None:
    seen = check("bad", "--against", "good", "--suite", "tiny-mtbench")
    assert seen.status == 5, seen.out + seen.err
    assert "NOT COMPARABLE" in seen.err
    assert said in seen.err


def test_another_judge(evaluated_methods: Path) -> None:
    for path in of_row(evaluated_methods, "bad"):
        change(path, judge_id="other-12345678")
    not_comparable("judged by different judges, bad by other-12345678 and good by rubric-")


@pytest.mark.parametrize("model", ["bad-seed1", "good-seed2"])
def test_low_coverage_of_any_seed(evaluated_methods: Path, model: str) -> None:
    change(result_file(evaluated_methods, "tiny-mtbench", model), coverage=0.97, withheld=True)
    not_comparable(f"coverage of {model} is 97.0%")


@pytest.mark.parametrize("model", ["bad-seed2", "good-seed1"])
def test_other_conditions_of_any_seed(evaluated_methods: Path, model: str) -> None:
    path = result_file(evaluated_methods, "tiny-mtbench", model)
    row = json.loads(path.read_text())
    row["manifest"]["config"]["suite"]["max_new_tokens"] = 7
    path.write_text(json.dumps(row))
    not_comparable(f"bad-seed0 and {model}: limits of new tokens differ: 64 and 7")


def test_questions_that_a_seed_lacks(evaluated_methods: Path) -> None:
    path = result_file(evaluated_methods, "tiny-mtbench", "good-seed1").with_name("questions.json")
    scores = json.loads(path.read_text())["per_question"]
    change(path, per_question=dict(list(scores.items())[:70]))
    not_comparable("only 70 questions are scored on both sides with every seed")
    change(path, per_question=dict(list(scores.items())[:79]))
    [metric] = report("bad", "--against", "good", "--suite", "tiny-mtbench")["metrics"]
    assert metric["n"] == 79


# A real matrix


def test_a_real_bench_of_three_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.small_matrix import run_here, write_matrix

    monkeypatch.chdir(tmp_path)
    good(run_here(write_matrix(tmp_path, questions=6, seeds=[0, 1, 2]), tmp_path / "out"))
    found = report("chosen", "--against", "start", "--results", "out/results")
    [metric] = found["metrics"]
    assert found["candidate"] == "method chosen (seeds 0,1,2)"
    assert (metric["suite"], metric["n"], metric["paired_by_seed"]) == ("few", 6, True)
    by_row = {
        row: list(metric["by_seed"][side].values()) for side, row in (("candidate", "chosen"), ("baseline", "start"))
    }
    assert metric["difference"] == pytest.approx((sum(by_row["chosen"]) - sum(by_row["start"])) / 3)
