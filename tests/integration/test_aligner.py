"""The Aligner: a reviser over a policy, trained, named by one file or ad hoc, and evaluated as one model."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from seft_bench import pipeline
from seft_bench.checkpoints import fingerprint
from seft_bench.checkpoints.aligners import Revision, read_aligner, write_aligner
from seft_bench.errors import InputError
from seft_bench.files import read_json, read_jsonl, write_jsonl
from seft_bench.stages.engines import OwnEngine
from seft_bench.stages.runs import TrainedRun, forget_run
from seft_bench.stages.sample import greedy
from seft_bench.stages.score import DecidingModels, draft_statistics
from seft_bench.subjects import find_subjects
from tests.integration.cli import good, seft_bench
from tests.small_matrix import run_here, write_matrix, write_yaml
from tests.small_seft import STEP, small_seft, write_data
from tests.tiny_model import make_tiny_model
from training.reviser import revision_prompt
from training.stages import Revising

SUITES = ("tiny-alpacaeval", "tiny-mtbench")


@pytest.fixture
def few(desk: Path) -> list[str]:
    """Both small suites of three questions, sampled and greedy, as arguments of `eval`."""
    from seft_bench.config import load_suite

    arguments: list[str] = []
    for name in SUITES:
        settings = load_suite(name).model_dump(mode="json") | {"max_questions": 3, "max_new_tokens": 12}
        arguments += ["--suite", write_yaml(desk / f"{name}.yaml", **settings)]
    return arguments


def train(base: Path, folder: Path, **settings: Any) -> TrainedRun:
    small = small_seft(base, write_data(folder / "data"))
    trainings = {name: given for name, given in small.settings.items() if name in ("start", "reviser", "preliminary")}
    given = {**trainings, "teacher": STEP, "drafts": {"max_new_tokens": 12, "batch_size": 8}, **settings}
    recipe = small.model_copy(update={"method": "aligner", "settings": given})
    return pipeline.train(recipe, folder / "runs" / "pair", checkpoints=2)


def evaluated(*arguments: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(good(seft_bench("eval", *arguments, "--judge", "rubric", "--json")).out)
    return rows


def answers_of(desk: Path) -> dict[str, bytes]:
    files = desk.glob("runs/evaluations/*/*/*/*.jsonl")
    return {str(path.relative_to(desk)): path.read_bytes() for path in files}


def test_a_trained_aligner_is_evaluated_twice_and_asked_once(tiny_model: Path, desk: Path, few: list[str]) -> None:
    run = train(tiny_model, desk)
    [folder] = run.checkpoints
    described = read_json(folder / "aligner.json")
    assert described == {
        "policy": "policy",
        "reviser": "reviser",
        "instruction": "Please improve that.",
        "decision": "always",
    }
    assert fingerprint(folder / "policy") != fingerprint(folder / "reviser")
    rows = evaluated("runs/pair", *few)
    assert {row["model"] for row in rows} == {f"pair/{folder.name}"}
    assert len(rows) == 4
    before = answers_of(desk)
    [path] = desk.glob("runs/evaluations/*/tiny-mtbench*/greedy/answers.jsonl")
    for row in read_jsonl(path):
        assert len(row["drafts"]) == len(row["turns"]) == 2
        first, second = row["turns"][0], row["messages"][1]
        assert second == {"role": "assistant", "content": first}, "the second turn sees the revised answer"
    assert evaluated("runs/pair", *few) == rows
    assert answers_of(desk) == before
    forget_run(run.folder)
    assert not run.folder.exists(), "all that an aligner's folder holds is known to be ours"


def test_a_pair_named_ad_hoc_answers_as_the_one_that_was_trained(tiny_model: Path, desk: Path, few: list[str]) -> None:
    run = train(tiny_model, desk)
    [start] = desk.glob("runs/pair/stages/start-*")
    [reviser] = desk.glob("runs/pair/stages/reviser-*")
    for policy, over in ((start, reviser), (start, desk / "runs" / "pair")):
        [subject] = find_subjects(f"aligner:{policy.relative_to(desk)}+{over.relative_to(desk)}")
        assert subject.fingerprint == fingerprint(run.checkpoints[0])
        assert subject.model_id == f"{start.name}/step-000001+{over.name}/step-000001"


def test_recorded_answers_of_any_model_are_revised(tiny_model: Path, desk: Path, few: list[str]) -> None:
    make_tiny_model(desk / "reviser-model", seed=5)
    good(seft_bench("eval", str(tiny_model), *few, "--stage", "answer"))
    [recorded] = desk.glob("runs/evaluations/*/tiny-mtbench*/greedy/answers.jsonl")
    rows = read_jsonl(recorded)
    write_jsonl(desk / "theirs.jsonl", [{**row, "model_id": "gpt-x"} for row in rows[:2]])
    seen = seft_bench("eval", "aligner:theirs.jsonl+reviser-model", few[2], few[3], "--judge", "rubric", "--json")
    assert seen.status == 5, "two of three questions are answered, so the score is withheld"
    [row] = json.loads(seen.out)
    assert row["model"] == "gpt-x+reviser-model"
    assert any("recorded answers were revised" in note for note in row["notes"])
    [path] = desk.glob("runs/evaluations/gpt-x*/*/given/answers.jsonl")
    for revised, theirs in zip(read_jsonl(path), rows, strict=False):
        assert revised["drafts"] == theirs["turns"]
        assert revised["messages"][1]["content"] == revised["turns"][0] != theirs["turns"][0]


@pytest.mark.parametrize("decision", ["likelihood", "margin", "token"])
def test_a_decision_keeps_the_drafts_that_a_stage_of_seft_would_keep(
    decision: str, tiny_model: Path, desk: Path
) -> None:
    settings: dict[str, Any] = {"decision": decision, "margin": -0.5}
    settings |= {"reviser_kind": "adaptive", "decider": STEP} if decision == "token" else {}
    [folder] = train(tiny_model, desk, **settings).checkpoints
    aligner = read_aligner(folder)
    assert aligner.revision.threshold == -0.5 or decision != "margin"
    assert (aligner.decider is not None) == (decision == "token")
    prompts = [[{"role": "user", "content": f"Name a {word}."}] for word in ("river", "fox", "dog")]
    drafts, revisions, values = _by_the_stages(folder, prompts)
    least, middle, _ = sorted(values)
    models = {"policy": "policy", "reviser": "reviser", **({"decider": "decider"} if aligner.decider else {})}
    write_aligner(folder, models, dataclasses.replace(aligner.revision, threshold=(least + middle) / 2))
    expected = [
        draft if value > least else revision for draft, revision, value in zip(drafts, revisions, values, strict=True)
    ]
    assert _texts(folder, prompts) == list(zip(expected, drafts, strict=True))
    assert read_aligner(folder).fingerprint != aligner.fingerprint


def _by_the_stages(folder: Path, prompts: list[list[dict[str, str]]]) -> tuple[list[str], list[str], list[float]]:
    """Greedy drafts, their greedy revisions, and the statistics that decide."""
    aligner = read_aligner(folder)
    engine, settings = OwnEngine(), Revising("mode", aligner.revision.instruction, 12, 8)
    drafts, _ = greedy(engine, aligner.policy, prompts, settings)
    asked = [
        revision_prompt(prompt, draft, settings.instruction) for prompt, draft in zip(prompts, drafts, strict=True)
    ]
    revisions, _ = greedy(engine, aligner.reviser, asked, settings)
    deciding = DecidingModels(aligner.reviser, aligner.decider)
    values, _, _ = draft_statistics(engine, asked, drafts, deciding, settings)
    return drafts, revisions, values


def _texts(folder: Path, prompts: list[list[dict[str, str]]]) -> list[tuple[str, str | None]]:
    from seft_bench.generators.conversations import Sampling
    from seft_bench.subjects import open_checkpoint

    samplings = [Sampling(str(number), 0.0) for number in range(len(prompts))]
    done = open_checkpoint(folder, "pair").complete(prompts, samplings, 12, 0)
    return [(one.text, one.draft) for one in done]


# --- what is refused


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"decision": "perhaps"}, "decision: 'perhaps'; allowed are always, likelihood, margin, token"),
        ({"decision": "margin"}, "threshold is missing"),
        ({"instruction": ""}, "instruction: '' is too little"),
        ({"temperature": -1}, "temperature: -1 is too little"),
        ({"max_new_tokens": 1.5}, "max_new_tokens: 1.5 is no whole number"),
        ({"polcy": "x"}, "polcy: unknown key"),
        ({"policy": "./nowhere"}, "policy: no model in"),
    ],
)
def test_a_description_that_cannot_work_is_refused_with_file_key_and_value(
    changes: dict[str, Any], says: str, tiny_model: Path, desk: Path
) -> None:
    row = {"policy": str(tiny_model), "reviser": str(tiny_model), "instruction": "Better!"} | changes
    (desk / "pair").mkdir()
    (desk / "pair" / "aligner.json").write_text(json.dumps(row))
    seen = seft_bench("eval", "pair", "--suite", "tiny-mtbench")
    assert seen.status == 2
    assert "pair/aligner.json: " in seen.err
    assert says in seen.err


def test_an_aligner_is_no_base_no_init_and_nothing_to_merge(tiny_model: Path, desk: Path) -> None:
    (desk / "pair").mkdir()
    write_aligner(desk / "pair", {"policy": str(tiny_model), "reviser": str(tiny_model)}, Revision("Better!"))
    for command in (
        ("train", "base=pair", "name=x"),
        ("train", "method=dpo", "settings.init=./pair", "name=x"),
        ("export", "pair", "--merge", "--out", "merged"),
    ):
        seen = seft_bench(*command)
        assert (seen.status, "is an aligner, a policy and a reviser" in seen.err) == (2, True), seen.err
    with pytest.raises(InputError, match="policy of an aligner pair is an aligner"):
        find_subjects(f"aligner:pair+{tiny_model}")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("aligner:one", "names no two models: write aligner:POLICY+REVISER"),
        ("aligner:./nowhere+./there", "reviser of an aligner './there' is no checkpoint"),
    ],
)
def test_a_pair_of_nothing_is_refused(name: str, says: str, desk: Path) -> None:
    with pytest.raises(InputError, match=says.replace("+", r"\+")):
        find_subjects(name)


def test_an_engine_for_one_model_is_refused(tiny_model: Path, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seft_bench.evaluation.plan.open_engine", lambda *_, **__: object())
    seen = seft_bench("eval", f"aligner:{tiny_model}+{tiny_model}", "--engine", "vllm")
    assert (seen.status, "--engine vllm answers with one model" in seen.err) == (2, True), seen.err


def test_a_matrix_takes_it_as_a_row(desk: Path) -> None:
    few = {"max_steps": 2}
    settings = {"start": few, "reviser": few, "reviser_init": "start", "draft_policy": "base"}
    rows = [{"name": "corrected", "method": "aligner", "settings": settings}]
    seen = run_here(write_matrix(desk, rows=rows, seeds=[0]), desk / "out", "--json")
    assert seen.status == 0, seen.err
    [path] = (desk / "out").glob("results/**/result.json")
    run = read_json(path)["run"]
    assert (run["row"], run["step"], run["steps"], run["final"]) == ("corrected", 2, 4, True)
    [folder] = (desk / "out" / "cells").glob("corrected-seed0/checkpoints/step-*")
    assert read_json(folder / "aligner.json")["policy"].endswith("tinyworld/base"), "a base stays where it is"
