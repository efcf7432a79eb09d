"""Who grades a training's samples: servers within a budget and with the store of responses, and likelihoods."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from seft_bench.bench.executors import ray
from seft_bench.files import read_json, read_jsonl
from seft_bench.inference.store import ResponseStore
from tests import small_matrix
from tests.faults.chat_server import ChatServer, completion, status
from tests.integration import priced
from tests.integration.cli import Seen, good, seft_bench
from tests.integration.grades import by_text
from tests.small_seft import STEP, write_data
from tests.tiny_model import make_tiny_model
from training.logprobs import score_answer_lists

PROMPTS, SAMPLES = 6, 3
KEY = "sk-not-a-real-key-12345"


@pytest.fixture
def graded(desk: Path, tiny_model: Path, server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe that trains on graded samples in a second, and a judge with a price."""
    monkeypatch.setenv("JUDGE_KEY", KEY)
    server.otherwise = by_text
    price = {"input_usd_per_million_tokens": priced.INPUT_USD, "output_usd_per_million_tokens": priced.OUTPUT_USD}
    priced.write_judge(desk / "priced.yaml", server.url, **price)
    recipe = {
        "name": "graded",
        "method": "best-of-n",
        "base": str(tiny_model),
        "data": str(write_data(desk / "data", PROMPTS)),
        "settings": settings(grader="priced.yaml"),
    }
    (desk / "graded.yaml").write_text(yaml.safe_dump(recipe))
    return desk


def settings(**more: Any) -> dict[str, Any]:
    few = {"start": STEP, "policy": {**STEP, "max_steps": 2}, "rounds": 2, "samples": SAMPLES}
    return {**few, "drafts": {"max_new_tokens": 8, "temperature": 1.0}, **more}


def train(*more: str) -> Seen:
    return seft_bench("train", "graded.yaml", *more)


def grades(out: Path) -> dict[str, list[list[float | None]]]:
    found = sorted(out.glob("stages/grades-*/scores.jsonl"))
    return {path.parent.name.rpartition("-")[0]: [row["grades"] for row in read_jsonl(path)] for path in found}


def trained(out: Path) -> list[Path]:
    return sorted(out.glob("stages/*/train.jsonl"))


def test_a_server_grades_and_a_repeated_training_asks_nothing_twice(graded: Path, server: ChatServer) -> None:
    good(train("--yes"))
    asked = len(server.bodies)
    assert PROMPTS < asked <= 1 + PROMPTS * SAMPLES, "one probe, and each distinct sample once"
    assert all(body["messages"] for body in server.bodies)
    assert not any("graded" in json.dumps(body) or "policy" in json.dumps(body) for body in server.bodies)
    kept = ResponseStore(graded / "runs" / "store.sqlite").stats()["responses"]
    assert kept == asked - 1
    first = grades(graded / "runs" / "graded")
    assert {len(row) for rows in first.values() for row in rows} == {SAMPLES}
    good(train("--yes", "--fresh"))
    assert grades(graded / "runs" / "graded") == first
    assert len(server.bodies) == asked + 1, "the probe alone"
    written = "".join(path.read_text(errors="replace") for path in (graded / "runs").rglob("*.json*"))
    assert KEY not in written
    manifest = read_json(graded / "runs" / "graded" / "manifest.json")
    assert "grader/priced.yaml" in manifest["parents"]


def test_the_price_is_said_and_asked_about_before_anything_is_trained(
    graded: Path, server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEFT_BENCH_ASK_ABOVE_USD", "0.5")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    refused = good(train(), status=2)
    assert "grading samples: total" in refused.err
    assert "no terminal to ask on" in refused.err
    assert not server.bodies
    assert not trained(graded / "runs" / "graded")


def test_a_spent_budget_keeps_what_arrived_and_the_same_command_goes_on(graded: Path, server: ChatServer) -> None:
    out = graded / "runs" / "graded"
    stopped = good(train("--budget", "1.6"), status=6)
    assert "the budget of 1.6 USD is spent" in stopped.err
    assert "Left: " in stopped.err
    assert len(server.bodies) * priced.PAID_USD <= 1.6
    assert [path.parent.name.rpartition("-")[0] for path in trained(out)] == ["start"]
    [log] = out.glob("stages/grades-1-*/judgments.jsonl")
    arrived = len(read_jsonl(log))
    assert arrived == len(server.bodies) - 1 > 0
    good(train("--budget", "50"))
    assert len(server.bodies) <= 2 + PROMPTS * SAMPLES, "what was paid for is not asked again"


def test_a_budget_over_an_unknown_price_is_refused(graded: Path, server: ChatServer) -> None:
    priced.write_judge(graded / "priced.yaml", server.url)
    refused = good(train("--budget", "5"), status=2)
    assert "--budget cannot be kept" in refused.err
    assert not server.bodies


def test_too_few_grades_stop_the_stage_and_lose_nothing(graded: Path, server: ChatServer) -> None:
    out = graded / "runs" / "graded"
    server.script = [by_text, by_text, *[_no_grade] * (3 * PROMPTS * SAMPLES)]
    stopped = good(train("--yes"), status=2)
    assert "stage 'grades-1': 1 of 9 samples have a grade" in stopped.err
    assert "8 parse_error" in stopped.err
    assert "min_graded_share is 0.9" in stopped.err
    assert [path.parent.name.rpartition("-")[0] for path in trained(out)] == ["start"]
    server.script = []
    good(train("--yes"))
    assert all(grade is not None for rows in grades(out).values() for row in rows for grade in row)
    record = read_json(next(out.glob("stages/grades-1-*/stage.json")))
    assert (record["samples_graded"], record["ungraded"], record["ungraded_by_status"]) == (9, 0, {})


async def _no_grade(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    return web.json_response(completion("I would rather not say."))


def test_samples_without_a_grade_are_left_out_and_counted(graded: Path, server: ChatServer) -> None:
    out = graded / "runs" / "graded"
    server.script = [by_text, _no_grade]
    good(train("--yes", "settings.min_graded_share=0.5"))
    record = read_json(next(out.glob("stages/grades-1-*/stage.json")))
    assert (record["ungraded"], record["ungraded_by_status"]) == (1, {"parse_error": 1})
    assert sum(grade is None for row in grades(out)["grades-1"] for grade in row) == 1


def test_a_judge_that_fails_is_no_fault_of_the_recipe(graded: Path, server: ChatServer) -> None:
    server.script, server.otherwise = [by_text, by_text], status(500)
    stopped = good(train("--yes"), status=6)
    assert "same command" in stopped.err


@pytest.mark.parametrize(
    ("judge", "says"),
    [
        ({"kind": "replay", "path": "old.jsonl"}, "repeats recorded verdicts"),
        ({"kind": "reward-model", "model": "somewhere"}, "can only compare"),
        (None, "unknown judge 'nobody'"),
    ],
)
def test_what_cannot_grade_is_refused_with_the_list_of_what_can(
    graded: Path, judge: dict[str, Any] | None, says: str
) -> None:
    name = "other.yaml" if judge else "nobody"
    if judge:
        (graded / "other.yaml").write_text(yaml.safe_dump({"name": "other", **judge}))
    refused = good(train(f"settings.grader={name}"), status=2)
    assert says in refused.err
    assert "likelihood:MODEL" in refused.err
    assert not trained(graded / "runs" / "graded")


def test_the_rubric_knows_its_own_world_only(graded: Path) -> None:
    refused = good(train("settings.grader=rubric"), status=2)
    assert "judge rubric grades the tinyworld only" in refused.err
    assert not trained(graded / "runs" / "graded")


def test_a_missing_key_is_said_before_anything_is_trained(
    graded: Path, server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JUDGE_KEY")
    refused = good(train("--yes"), status=2)
    assert "JUDGE_KEY" in refused.err
    assert not server.bodies
    assert not trained(graded / "runs" / "graded")


@pytest.mark.parametrize("grader", ["start-likelihood", "policy-likelihood", "likelihood:other"])
def test_likelihoods_are_those_of_the_model_that_is_named(graded: Path, grader: str) -> None:
    make_tiny_model(graded / "other", vocab_size=300, seed=5)
    name = f"likelihood:{graded / 'other'}" if grader == "likelihood:other" else grader
    good(train(f"settings.grader={name}"))
    stages = {path.name.rpartition("-")[0]: path for path in (graded / "runs" / "graded" / "stages").glob("*-*")}
    models = {
        "start-likelihood": stages["start"] / "checkpoints" / "step-000001",
        "policy-likelihood": stages["policy-1"] / "checkpoints" / "step-000001",
        "likelihood:other": graded / "other",
    }
    rows = read_jsonl(stages["grades-2"] / "scores.jsonl")
    pairs = [(row["prompt"], text) for row in rows for text in row["samples"]]
    [scores] = score_answer_lists(models[grader], None, [pairs])
    expected = [
        score.sum / score.tokens if text.strip() else None for score, (_, text) in zip(scores, pairs, strict=True)
    ]
    assert [grade for row in rows for grade in row["grades"]] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("grader", ["likelihood:", "starts-likelihood"])
def test_a_likelihood_of_nothing_is_refused(graded: Path, grader: str) -> None:
    refused = good(train(f"settings.grader='{grader}'"), status=2)
    assert (
        "a likelihood is one of base-likelihood, start-likelihood, policy-likelihood, likelihood:MODEL" in refused.err
    )


# Matrices: the driver asks for consent, workers of this machine ask the server, those of a cluster may not.


@pytest.fixture
def matrix(graded: Path) -> str:
    row = {"name": "best", "method": "best-of-n", "settings": settings(grader=str(graded / "priced.yaml"), rounds=1)}
    data = yaml.safe_load((graded / "graded.yaml").read_text())
    keys = {"base": data["base"], "data": data["data"], "judge": "rubric"}
    return small_matrix.write_matrix(graded, seeds=[0], workers=1, rows=[row], **keys)


def test_a_matrix_says_what_grading_costs_and_its_workers_use_its_store(
    matrix: str, server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    plan = json.loads(good(seft_bench("bench", matrix, "--out", str(out), "--dry-run", "--json")).out)
    assert plan["grading"]["to_ask"] == PROMPTS * SAMPLES
    assert 0 < plan["grading"]["usd"][0] <= plan["grading"]["usd"][1]
    assert (
        "grading samples while rows train: 18 to ask"
        in good(seft_bench("bench", matrix, "--out", str(out), "--dry-run")).out
    )
    monkeypatch.setenv("SEFT_BENCH_ASK_ABOVE_USD", "0.5")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert "no terminal to ask on" in good(small_matrix.run_here(matrix, out), status=2).err
    assert (
        "--budget cannot be kept where workers pay"
        in good(small_matrix.run_here(matrix, out, "--budget", "100"), status=2).err
    )
    assert not server.bodies
    good(small_matrix.run_here(matrix, out, "--yes"))
    assert ResponseStore(out / "store.sqlite").stats()["responses"] == len(server.bodies) - 1 > 0
    plan = json.loads(good(seft_bench("bench", matrix, "--out", str(out), "--dry-run", "--json")).out)
    assert plan["grading"]["to_ask"] == 0


def test_a_cluster_gets_no_key(
    matrix: str, server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "import_ray", lambda: None)
    refused = good(seft_bench("bench", matrix, "--out", str(tmp_path / "out"), "--executor", "ray", "--yes"), status=2)
    assert "asks a server from the workers" in refused.err
    assert not server.bodies
