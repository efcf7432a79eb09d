"""The checkpoints that a run publishes, and the cost that it states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seft_bench.config import RecipeConfig
from seft_bench.errors import InputError
from seft_bench.files import write_json, write_jsonl
from seft_bench.records import Base, Data, Output, Source
from seft_bench.stages import StageRun
from seft_bench.stages.costs import annotated_rows
from seft_bench.stages.runs import finished_run, policy_chain, run_cost, spread_checkpoints
from training.settings import DraftSettings, TrainSettings
from training.stages import Sample, Shape, Train

UNKNOWN_TO_OLD_RECORDS = (
    *("annotated_pairs", "annotated_labels", "annotated_conversations"),
    *("judge_calls", "judge_usd", "gpu_seconds"),
)

SETTINGS = TrainSettings(learning_rate=1e-3, epochs=1)


def trained(name: str, model: Source, steps: int, *saved: int, **record: Any) -> StageRun:
    facts = {"steps": steps, "checkpoints": [f"step-{step:06d}" for step in saved], "cpu_seconds": 1.25, **record}
    return StageRun(Train(name, model, Data("x"), Shape("answers"), SETTINGS), Path(name), facts)


START = trained("start", Base(), 57, 28, 57, tokens_trained=10)
REVISER = trained("reviser", Base(), 50, 50)
DRAFTS = StageRun(
    Sample("drafts-1", Output("start"), Data("prompts"), DraftSettings()),
    Path("drafts-1"),
    {"unannotated_prompts": 1200, "tokens_generated": 7, "cpu_seconds": 2.0},
)
FIRST = trained("policy-1", Output("start"), 75, 38, 75)
SECOND = trained("policy-2", Output("policy-1"), 75, 38, 75, tokens_trained=5)


def test_the_chain_holds_the_policys_rounds_without_the_start() -> None:
    assert [run.stage.name for run in policy_chain([START, REVISER, DRAFTS, FIRST, SECOND])] == ["policy-1", "policy-2"]
    assert [run.stage.name for run in policy_chain([START])] == ["start"]
    base = trained("base", Base(), 10, 10)  # pre-training: a stage with the name of its own input
    assert policy_chain([base]) == [base]


def test_checkpoints_are_spread_over_all_rounds_and_counted_through() -> None:
    chain = [FIRST, SECOND]
    assert [step for step, _ in spread_checkpoints(chain, 2)] == [75, 150]
    assert spread_checkpoints(chain, 2)[1][1] == Path("policy-2/checkpoints/step-000075")
    assert [step for step, _ in spread_checkpoints(chain, 1)] == [150]
    assert [step for step, _ in spread_checkpoints(chain, 4)] == [38, 75, 113, 150]


def test_the_cost_counts_shared_stages_and_all_rounds() -> None:
    cost = run_cost([START, REVISER, DRAFTS, FIRST, SECOND])
    assert cost == {
        "steps": 57 + 50 + 75 + 75,
        "tokens_trained": 15,
        "tokens_generated": 7,
        "unannotated_prompts": 1200,
        "policy_steps": 150,
        "cpu_seconds": 4 * 1.25 + 2.0,
        **dict.fromkeys(UNKNOWN_TO_OLD_RECORDS),
    }


def test_annotated_rows_of_a_data_set_count_once_and_judge_calls_add_up() -> None:
    pairs, sft, none = {"preferences": {"pairs": 800}}, {"sft": {"conversations": 300}}, {"judge_calls": 0}
    new = {"gpu_seconds": 0.0, "judge_usd": 0, **none}
    stages = [
        trained("start", Base(), 5, 5, annotated=sft, **new),
        trained("reviser", Base(), 5, 5, annotated=pairs, **new),
        trained("policy", Output("start"), 5, 5, annotated=pairs | {"calibration": {"pairs": 40}}, **new),
        trained("last", Output("policy"), 5, 5, annotated={}, **{**new, "judge_calls": 64, "gpu_seconds": 2.5}),
    ]
    cost = run_cost(stages)
    assert [cost[key] for key in UNKNOWN_TO_OLD_RECORDS] == [840, 0, 300, 64, 0, 2.5]
    assert [run_cost([*stages, START])[key] for key in UNKNOWN_TO_OLD_RECORDS] == [None] * 6  # unknown, never 0
    unpriced = trained("last", Output("policy"), 5, 5, annotated={}, **{**new, "judge_usd": None})
    assert run_cost([*stages, unpriced])["judge_usd"] is None
    assert run_cost([*stages, unpriced])["judge_calls"] == 64


def test_annotated_rows_are_counted_by_kind_and_equal_ones_once(tmp_path: Path) -> None:
    pair = {"prompt": "a", "chosen": "b", "rejected": "c"}
    rows = [pair, {**pair, "id": 7}, {**pair, "rejected": "d"}, {"prompt": "a", "answer": "b", "label": True}]
    write_jsonl(tmp_path / "mixed.jsonl", [*rows, {"prompt": "a", "answer": "b"}, {"messages": []}, {"prompt": "a"}])
    assert annotated_rows(tmp_path / "mixed.jsonl") == {"pairs": 2, "labels": 1, "conversations": 2}
    write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": "a"}, {"text": "b"}])
    assert annotated_rows(tmp_path / "prompts.jsonl") == {}


def test_a_run_that_was_watched_otherwise_is_the_same_run(tmp_path: Path) -> None:
    def recipe(**start: Any) -> RecipeConfig:
        settings = {"training": {"report_to": ["wandb"]}, "start": {"max_steps": 5, **start}}
        return RecipeConfig(name="run", method="sft", base="tinyworld", settings=settings)

    write_json(tmp_path / "manifest.json", {"config": recipe().as_row(), "checkpoints": []})
    assert finished_run(recipe(report_to=[], save_state_every_minutes=1), tmp_path, 0) is not None
    with pytest.raises(InputError, match="of another recipe"):
        finished_run(recipe(learning_rate=1.0), tmp_path, 0)
