"""`seft-bench check` as a person and a build use it: real evaluations, exit statuses, JSON, looks that stop early."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from seft_bench.config import config_folder
from seft_bench.files import read_jsonl, read_log, write_jsonl
from seft_bench.records import Answer, to_row
from tests.faults.chat_server import ChatServer, after, ok, serving
from tests.integration.checking import METRIC_KEYS, answer_rows, change, check, report, result_file
from tests.integration.cli import REPOSITORY, seft_bench

GOOD, NEAR, BAD = "org/good", "near", "bad"


@pytest.fixture(scope="module")
def three_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which three models are evaluated on both tiny suites."""
    folder = tmp_path_factory.mktemp("check")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for suite in ("tiny-mtbench", "tiny-alpacaeval"):
            rows = [
                row for model, spoilt in ((GOOD, 0), (NEAR, 40), (BAD, 1)) for row in answer_rows(suite, model, spoilt)
            ]
            write_jsonl(folder / f"{suite}.jsonl", rows)
            seen = seft_bench("eval", f"{suite}.jsonl", "--suite", suite)
            assert seen.status == 0, seen.err
    return folder


@pytest.fixture
def evaluated_models(three_models: Path, desk: Path) -> Path:
    """A copy of it on the desk, which a test may spoil."""
    return Path(shutil.copytree(three_models, desk, dirs_exist_ok=True))


# Verdicts and statuses


def test_a_worse_model_regressed_and_the_report_says_where(evaluated_models: Path) -> None:
    seen = check(BAD, "--against", GOOD)
    assert seen.status == 3, seen.err
    assert seen.out.startswith(f"REGRESSED: {BAD} is worse than {GOOD} on ")
    assert "tiny-mtbench: score" in seen.out
    assert "tiny-alpacaeval: LC win rate" in seen.out
    assert "by category:" in seen.out
    assert "lost most on (points of win probability, lengths not controlled)" in seen.out


def test_the_better_model_passes(evaluated_models: Path) -> None:
    seen = check(GOOD, "--against", BAD)
    assert seen.status == 0
    assert seen.out.startswith("PASS")


def test_a_margin_between_the_bounds_is_inconclusive(evaluated_models: Path) -> None:
    """NEAR differs from GOOD in a few questions: a margin inside the interval cannot be ruled out, and zero neither."""
    [metric] = report(NEAR, "--against", GOOD, "--suite", "tiny-mtbench")["metrics"]
    assert metric["lower_bound"] < metric["difference"] < metric["upper_bound"]
    margin = f"score={-metric['lower_bound'] * 0.9:.4f}"
    arguments = (NEAR, "--against", GOOD, "--suite", "tiny-mtbench", "--margin", margin)
    expected = 3 if metric["upper_bound"] < 0 else 4
    assert check(*arguments).status == expected
    assert check(*arguments, "--report-only").status == 0
    assert check(*arguments, "--allow-inconclusive").status == (0 if expected == 4 else 3)


def test_report_only_shows_a_regression_and_ends_well(evaluated_models: Path) -> None:
    seen = check(BAD, "--against", GOOD, "--report-only")
    assert seen.status == 0
    assert seen.out.startswith("REGRESSED")
    assert check(BAD, "--against", GOOD, "--allow-inconclusive").status == 3


def test_the_json_is_whole_and_out_keeps_it(evaluated_models: Path) -> None:
    seen = check(BAD, "--against", GOOD, "--json", "--out", "reports/check.json")
    found = json.loads(seen.out)
    assert json.loads(Path("reports/check.json").read_text()) == found
    assert (found["verdict"], found["candidate"], found["baseline"]) == ("REGRESSED", BAD, GOOD)
    assert {metric["metric"] for metric in found["metrics"]} == {"score", "lc_win_rate"}
    for metric in found["metrics"]:
        assert set(metric) == METRIC_KEYS
        assert metric["candidate"] - metric["baseline"] == pytest.approx(metric["difference"])
        assert metric["lower_bound"] <= metric["difference"] <= metric["upper_bound"] < 0
        assert len(metric["worst"]) == 10
        assert not metric["best"] or metric["best"][0]["difference"] > 0
        for row in metric["worst"]:
            assert row["link"].startswith(
                f"report/index.html#/questions/{metric['suite']}/{row['question_id']}?models="
            )


def test_differences_are_those_of_the_results(evaluated_models: Path) -> None:
    [metric] = report(BAD, "--against", GOOD, "--suite", "tiny-mtbench")["metrics"]
    scores = [
        json.loads(result_file(evaluated_models, "tiny-mtbench", model).read_text())["metrics"]["score"]
        for model in (BAD, GOOD)
    ]
    assert metric["difference"] == pytest.approx(scores[0] - scores[1])
    assert sum(row["n"] for row in metric["categories"]) == metric["n"] == 80
    assert sum(row["n"] * row["difference"] for row in metric["categories"]) == pytest.approx(80 * metric["difference"])
    assert [row["difference"] for row in metric["categories"]] == sorted(
        row["difference"] for row in metric["categories"]
    )


def test_lc_is_that_of_the_results(evaluated_models: Path) -> None:
    [metric] = report(BAD, "--against", GOOD, "--suite", "tiny-alpacaeval")["metrics"]
    values = [
        json.loads(result_file(evaluated_models, "tiny-alpacaeval", model).read_text())["metrics"]["lc_win_rate"]
        for model in (BAD, GOOD)
    ]
    assert [metric["candidate"], metric["baseline"]] == pytest.approx(values, abs=1e-6)
    assert "refits" in metric["how"]


# Names


def test_models_are_found_by_name_by_slug_and_by_file(evaluated_models: Path) -> None:
    by_file = str(result_file(evaluated_models, "tiny-mtbench", GOOD))
    for baseline in (GOOD, "org-good", by_file):
        assert report(BAD, "--against", baseline, "--suite", "tiny-mtbench")["baseline"] == GOOD


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nobody", "--against", GOOD], "it has results of: bad, near, org/good"),
        ([BAD, "--against", GOOD, "--suite", "no-such"], "no-such"),
        ([BAD, "--against", GOOD, "--decoding", "beam"], "in common"),
        ([BAD, "--against", GOOD, "--judge", "gpt-4"], "in common"),
        ([BAD, "--against", BAD], "are one model"),
        ([BAD, "--against", GOOD, "--margin", "score"], "NAME=VALUE"),
        ([BAD, "--against", GOOD, "--margin", "score=-1"], "above 0"),
        ([BAD, "--against", GOOD, "--margin", "score=nan"], "above 0"),
        ([BAD, "--against", GOOD, "--margin", "sore=1"], "no metric of this check"),
        ([BAD, "--against", GOOD, "--budget", "1"], "go with --sequential"),
        ([BAD, "--against", GOOD, "--results", "elsewhere"], "none"),
        ([BAD, "--against", GOOD, "--sequential"], "not found"),
    ],
)
def test_wrong_usage_is_said_and_ends_with_2(evaluated_models: Path, arguments: list[str], said: str) -> None:
    seen = check(*arguments)
    assert seen.status == 2
    assert said in seen.err
    assert "Traceback" not in seen.err


# Not comparable


def not_comparable(desk: Path, said: str, suite: str = "tiny-mtbench") -> None:
    seen = check(BAD, "--against", GOOD, "--suite", suite)
    assert seen.status == 5, seen.out + seen.err
    assert "NOT COMPARABLE" in seen.err
    assert said in seen.err


def test_another_judge(evaluated_models: Path) -> None:
    change(result_file(evaluated_models, "tiny-mtbench", BAD), judge_id="other-12345678")
    not_comparable(evaluated_models, "judged by different judges")


def test_low_coverage(evaluated_models: Path) -> None:
    change(result_file(evaluated_models, "tiny-mtbench", GOOD), coverage=0.97)
    not_comparable(evaluated_models, "coverage of org/good is 97.0%")


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        (("data_hashes", "asked"), "0" * 64, "questions and references differ"),
        (("config", "suite", "max_new_tokens"), 7, "limits of new tokens differ"),
        (("config", "suite", "parsing"), "strict", "ways to read verdicts differ"),
        (("config", "returned_models"), ["another"], "models that the judge's server returned differ"),
    ],
)
def test_other_conditions(evaluated_models: Path, where: tuple[str, ...], value: Any, said: str) -> None:
    path = result_file(evaluated_models, "tiny-mtbench", GOOD)
    row = json.loads(path.read_text())
    inner = row["manifest"]
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    path.write_text(json.dumps(row))
    not_comparable(evaluated_models, said)


def test_without_the_figures_of_every_question(evaluated_models: Path) -> None:
    result_file(evaluated_models, "tiny-mtbench", GOOD).with_name("questions.json").unlink()
    not_comparable(evaluated_models, "figures of every question are not there")


def test_lc_never_turns_silently_into_the_plain_win_rate(evaluated_models: Path) -> None:
    path = result_file(evaluated_models, "tiny-alpacaeval", GOOD).with_name("questions.json")
    change(path, covariates={})
    not_comparable(evaluated_models, "lengths of the answers are not there", "tiny-alpacaeval")
    row = json.loads(result_file(evaluated_models, "tiny-alpacaeval", GOOD).read_text())
    change(result_file(evaluated_models, "tiny-alpacaeval", GOOD), metrics=row["metrics"] | {"lc_win_rate": None})
    not_comparable(evaluated_models, "only bad has a length-controlled win rate", "tiny-alpacaeval")


def test_another_question_set(evaluated_models: Path) -> None:
    path = result_file(evaluated_models, "tiny-mtbench", GOOD).with_name("questions.json")
    scores = json.loads(path.read_text())["per_question"]
    change(path, per_question=dict(list(scores.items())[:70]))
    not_comparable(evaluated_models, "only 70 questions are scored on both sides")


# Question sets of the user's own


def own_suite(folder: Path) -> Path:
    words = "Ann Bob Cyd Dan Eve Fay Gus Hal Ivy Jon Kim Lou".split()
    write_jsonl(
        folder / "questions.jsonl",
        [{"id": f"q/{word}", "category": "names", "turns": [f"Who is {word}?"]} for word in words],
    )
    settings = {
        "name": "own",
        "kind": "mtbench",
        "source": "files",
        "questions": "questions.jsonl",
        "default_judge": str(folder / "judge.yaml"),
        "description": "Names.",
    }
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(settings | {"max_new_tokens": 8, "decodings": {"greedy": {"temperature": 0.0}}}))
    return path


def judge_of(folder: Path, server: ChatServer, **more: Any) -> Path:
    settings = {
        "name": "local",
        "kind": "openai",
        "model": "judge",
        "base_url": server.url,
        "api_key_env": None,
        "templates": "seft-bench",
        "max_attempts": 1,
    }
    path = folder / "judge.yaml"
    path.write_text(yaml.safe_dump(settings | more))
    return path


def test_own_questions_need_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: ChatServer) -> None:
    monkeypatch.chdir(tmp_path)
    judge_of(tmp_path, server)
    suite = str(own_suite(tmp_path))
    for model in ("one", "two"):
        write_jsonl(
            tmp_path / f"{model}.jsonl",
            [
                to_row(Answer("own", row["id"], model, (f"{model}!",)))
                for row in read_jsonl(tmp_path / "questions.jsonl")
            ],
        )
        seen = seft_bench("eval", f"{model}.jsonl", "--suite", suite)
        assert seen.status == 0, seen.err
    refused = check("one", "--against", "two")
    assert refused.status == 2
    assert "--suite FILE.yaml" in refused.err
    found = report("one", "--against", "two", "--suite", suite)
    assert (found["verdict"], found["metrics"][0]["n"], found["metrics"][0]["standard_error"]) == ("PASS", 12, 0.0)
    assert not found["metrics"][0]["worst"]


# Checkpoints


def test_two_checkpoints_of_one_name_are_told_apart(evaluated_models: Path) -> None:
    """`a/checkpoint-500` and `b/checkpoint-500`: two commands from two folders to a verdict."""
    from tests.tiny_model import make_tiny_model

    for run in ("run-a", "run-b"):
        make_tiny_model(evaluated_models / run / "checkpoint-500")
    settings = yaml.safe_load((config_folder() / "suites" / "tiny-mtbench.yaml").read_text())
    Path("small.yaml").write_text(
        yaml.safe_dump(
            settings
            | {"name": "small", "max_questions": 3, "max_new_tokens": 4, "decodings": {"greedy": {"temperature": 0.0}}}
        )
    )
    folders = [str(evaluated_models / run / "checkpoint-500") for run in ("run-a", "run-b")]
    seen = seft_bench("eval", *folders, "--suite", "small.yaml")
    assert seen.status == 0, seen.err
    seen = check(folders[1], "--against", folders[0])
    assert seen.status in (0, 4), seen.err
    assert "run-b/checkpoint-500 against run-a/checkpoint-500" in seen.out
    weights = evaluated_models / "run-b" / "checkpoint-500" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    other = check(folders[1], "--against", folders[0])
    assert other.status == 2
    assert "are of other weights" in other.err


# Looks


def judged_questions(desk: Path, model: str) -> int:
    [path] = desk.glob(f"runs/evaluations/{model}-*/tiny-mtbench/given/judgments-*.jsonl")
    return len({row["question_id"] for row in read_log(path)})


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three files of answers, none evaluated."""
    monkeypatch.chdir(tmp_path)
    for model, spoilt in (("good", 0), ("same", 0), ("bad", 1)):
        write_jsonl(tmp_path / f"{model}.jsonl", answer_rows("tiny-mtbench", model, spoilt))
    return tmp_path


def test_a_clearly_worse_model_is_judged_on_a_part_and_eval_asks_for_the_rest(fresh: Path) -> None:
    seen = check("bad.jsonl", "--against", "good.jsonl", "--sequential", "--suite", "tiny-mtbench")
    assert seen.status == 3, seen.err
    assert "look 1 of 4 at 32 of 80 questions a model" in seen.out
    assert "60% of the judgments were saved" in seen.out
    assert not list(fresh.glob("results/**/result.json"))
    assert judged_questions(fresh, "bad") == judged_questions(fresh, "good") == 32
    before = {path: path.read_text().splitlines() for path in fresh.glob("runs/evaluations/*/*/*/judgments-*.jsonl")}
    assert seft_bench("eval", "bad.jsonl", "good.jsonl", "--suite", "tiny-mtbench").status == 0
    for path, lines in before.items():
        now = path.read_text().splitlines()
        assert now[: len(lines)] == lines
        assert len(now) == len({json.loads(line)["key"] for line in now}) == 160
    assert check("bad", "--against", "good").status == 3


def test_equal_models_pass_early(fresh: Path) -> None:
    found = report("same.jsonl", "--against", "good.jsonl", "--sequential", "--suite", "tiny-mtbench")
    assert found["verdict"] == "PASS"
    assert found["metrics"][0]["n"] == 32
    assert found["metrics"][0]["bound_level"] < 0.05


def test_every_look_sees_all_categories_and_the_same_questions_of_both(fresh: Path) -> None:
    found = report("bad.jsonl", "--against", "good.jsonl", "--sequential", "--suite", "tiny-mtbench", "--seed", "5")
    assert [row["n"] for row in found["metrics"][0]["categories"]] == [4] * 8


def test_an_unknown_decoding_is_refused_before_anything_runs(fresh: Path) -> None:
    seen = check("bad.jsonl", "--against", "good.jsonl", "--sequential", "--decoding", "beam")
    assert seen.status == 2
    assert "unknown decoding of tiny-mtbench 'beam'" in seen.err
    assert not (fresh / "runs").exists()


def test_a_spent_budget_ends_with_6_and_keeps_what_was_paid(fresh: Path, server: ChatServer) -> None:
    judge = judge_of(
        fresh,
        server,
        input_usd_per_million_tokens=1000.0,
        output_usd_per_million_tokens=2000.0,
        max_in_flight=4,
        max_tokens=50,
    )
    suite = str(own_suite(fresh))
    for model in ("one", "two"):
        write_jsonl(
            fresh / f"{model}.jsonl",
            [to_row(Answer("own", row["id"], model, (f"{model}!",))) for row in read_jsonl(fresh / "questions.jsonl")],
        )
    arguments = (
        "one.jsonl",
        "--against",
        "two.jsonl",
        "--sequential",
        "--suite",
        suite,
        "--judge",
        str(judge),
        "--yes",
    )
    seen = check(*arguments, "--budget", "1.5")
    assert seen.status == 6, seen.err
    assert "budget" in seen.err
    assert 0 < len(server.bodies) < 24
    again = check(*arguments, "--budget", "100")
    assert again.status == 0, again.err
    assert again.out.startswith("PASS")
    assert (
        len(server.bodies) <= 24 + 4
    )  # what was paid for is not asked again; the probe and replies in flight at the end may be


def test_ctrl_c_keeps_what_was_judged(fresh: Path) -> None:
    suite = str(own_suite(fresh))
    for model in ("one", "two"):
        write_jsonl(
            fresh / f"{model}.jsonl",
            [to_row(Answer("own", row["id"], model, (f"{model}!",))) for row in read_jsonl(fresh / "questions.jsonl")],
        )
    arguments = [
        "check",
        "one.jsonl",
        "--against",
        "two.jsonl",
        "--sequential",
        "--suite",
        suite,
        "--judge",
        str(fresh / "judge.yaml"),
    ]
    with serving(*[ok] * 9, otherwise=after(120)) as slow:
        judge_of(fresh, slow, max_in_flight=2)
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
        program = subprocess.Popen(
            [sys.executable, "-m", "seft_bench.cli.main", *arguments],
            cwd=fresh,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        while len(slow.bodies) < 11 and program.poll() is None:
            time.sleep(0.02)
        program.send_signal(signal.SIGINT)
        assert "what was finished is kept" in program.communicate(timeout=60)[1]
        assert program.returncode == 130
    kept = sum(len(read_log(path)) for path in fresh.glob("runs/evaluations/*/own*/given/judgments-*.jsonl"))
    assert kept >= 8
    assert not list(fresh.glob("results/**/result.json"))
