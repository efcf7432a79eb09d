"""Validation: sides by question, measurements that leave a run as it was, and early stops that resume bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from seft_bench.config import validate
from seft_bench.errors import InputError
from seft_bench.files import read_jsonl, write_jsonl
from seft_bench.stages.diagnostics import describe
from tests.tiny_model import make_tiny_model
from training.loop import OnStep, TrainJob, TrainSettings, TrainSummary, train
from training.settings import EarlyStop, ValidationSettings
from training.validation import best_row, is_over, place_of, split_rows

QUESTIONS = 40


def pair(number: int) -> dict[str, Any]:
    prompt = [{"role": "user", "content": f"What is {number} plus two{' please' * (number % 5)}?"}]
    return {"prompt": prompt, "chosen": f"It is {number + 2}.", "rejected": "The lazy dog" + " jumps" * (number % 7)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    write_jsonl(path, [pair(number) for number in range(QUESTIONS)])
    return path


def job(loss: str = "dpo", validation: dict[str, Any] | None = None, checkpoints: int = 2, **changes: Any) -> TrainJob:
    given = {"learning_rate": 3e-3, "max_steps": 12, "global_batch_size": 8, "micro_batch_size": 8, "device": "cpu"}
    settings = {**given, "report_to": [], "validation": validation, **changes}
    return TrainJob(validate(settings, TrainSettings, "training settings"), loss, checkpoints=checkpoints, seed=3)


class Killed(BaseException):
    """Stands for a signal."""


def kill_after(step: int) -> OnStep:
    def on_step(done: int, _steps: int, _figures: dict[str, Any]) -> None:
        if done == step:
            raise Killed

    return on_step


# --- who is held out


def messages(*contents: str) -> list[dict[str, str]]:
    roles = ("user", "assistant") * len(contents)
    return [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]


def test_rows_with_one_question_stand_on_one_side() -> None:
    """Two answers to each question, as a conversation, and as a reviser is asked about two drafts of it."""
    rows = [
        row
        for number in range(200)
        for row in (
            {"prompt": messages(f"question {number}"), "answer": "a"},
            {"messages": [{"role": "system", "content": "Be kind."}, *messages(f"question {number}", "b")]},
            {"prompt": messages(f"question {number}", "draft", "Please revise the answer."), "answer": "c"},
            {"prompt": messages(f"question {number}", "other draft", "Please revise the answer."), "answer": "d"},
        )
    ]
    learnt, held_out = split_rows(rows, ValidationSettings(share=0.2))
    assert not {place_of(row) for row in learnt} & {place_of(row) for row in held_out}
    assert len(held_out) % 4 == 0
    assert 0.1 < len(held_out) / len(rows) < 0.3
    assert [row for row in rows if row in held_out] == held_out  # in their order


def test_a_question_stays_on_its_side_when_rows_come_and_go() -> None:
    rows = [pair(number) for number in range(100)]
    _, before = split_rows(rows[:50], ValidationSettings(share=0.2))
    _, after = split_rows(rows, ValidationSettings(share=0.2))
    assert [row for row in after if row in rows[:50]] == before


def test_a_number_of_rows_is_met_or_passed_by_the_last_question() -> None:
    single = [{"text": f"text {number}"} for number in range(30)]
    assert [len(side) for side in split_rows(single, ValidationSettings(rows=7))] == [23, 7]
    doubled = [row for row in single for _ in range(2)]
    assert [len(side) for side in split_rows(doubled, ValidationSettings(rows=7))] == [52, 8]


@pytest.mark.parametrize(("asked", "sizes"), [({"rows": 40}, "40 rows and leaves 0"), ({"share": 0.001}, "0 rows")])
def test_an_empty_side_is_refused(
    asked: dict[str, Any], sizes: str, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=f"holds out {sizes}"):
        train(tiny_model, data, tmp_path / "run", job(validation=asked))


def test_exactly_one_size_is_given() -> None:
    with pytest.raises(InputError, match="exactly one of share and rows"):
        job(validation={"every_steps": 5})


# --- what is measured


def test_what_is_held_out_is_measured_and_never_learnt(tiny_model: Path, data: Path, tmp_path: Path) -> None:
    """A run with a held-out part learns exactly as one over the other rows alone."""
    asked = {"rows": 10, "every_steps": 5}
    summary = train(tiny_model, data, tmp_path / "run", job(validation=asked))
    learnt, held_out = split_rows(read_jsonl(data), ValidationSettings(**asked))
    write_jsonl(tmp_path / "learnt.jsonl", learnt)
    train(tiny_model, tmp_path / "learnt.jsonl", tmp_path / "plain", job())
    for name in ("train.jsonl", "checkpoints/step-000012/model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    measured = read_jsonl(tmp_path / "run" / "validation.jsonl")
    assert [row["step"] for row in measured] == [5, 10, 12]
    assert set(measured[0]) >= {"loss", "reward_accuracy", "reward_margin", "log_ratio"}
    assert summary.validation is not None
    assert summary.validation["examples"] == 10 == len(held_out)
    assert summary.validation["last"] == measured[-1]
    assert (summary.steps, summary.stopped_early_at, summary.data.rows) == (12, None, 30)
    assert measured[-1]["loss"] < measured[0]["loss"] < 0.6931
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["validation"] == summary.validation


def test_the_loss_on_held_out_rows_is_that_of_a_batch_of_them(tiny_model: Path, data: Path, tmp_path: Path) -> None:
    """SFT, measured after a step of almost no size, against the training loss of one batch of the same rows."""
    plan = {"max_steps": 1, "learning_rate": 1e-12, "loss": "sft", "checkpoints": 1}
    sft = tmp_path / "sft.jsonl"
    write_jsonl(sft, [{"prompt": row["prompt"], "answer": row["chosen"]} for row in read_jsonl(data)])
    summary = train(tiny_model, sft, tmp_path / "run", job(validation={"rows": 10}, micro_batch_size=3, **plan))
    write_jsonl(tmp_path / "held.jsonl", split_rows(read_jsonl(sft), ValidationSettings(rows=10))[1])
    whole = train(tiny_model, tmp_path / "held.jsonl", tmp_path / "whole", job(global_batch_size=10, **plan))
    assert summary.validation is not None
    assert summary.validation["last"]["loss"] == pytest.approx(whole.final_loss, rel=1e-5)


# --- early stops


def losses(*values: float) -> list[dict[str, Any]]:
    return [{"step": 10 * number, "loss": value} for number, value in enumerate(values, start=1)]


def test_a_run_is_over_when_no_measurement_was_better_for_long_enough() -> None:
    stop = EarlyStop(patience=2, min_delta=0.1)
    assert not is_over([], stop)
    assert not is_over(losses(1.0, 0.95), stop)  # 0.05 lower is not better
    assert is_over(losses(1.0, 0.95, 0.91), stop)
    assert not is_over(losses(1.0, 0.95, 0.85), stop)
    assert best_row(losses(1.0, 0.95, 0.85, 0.8), 0.1)["step"] == 30
    assert best_row(losses(1.0, 0.95, 0.85, 0.8), 0.0)["step"] == 40


STOPPING = {"rows": 10, "every_steps": 2, "early_stop": {"patience": 2}}


@pytest.fixture(scope="module")
def stopped(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainSummary, Path]:
    """A run that learns far too fast, so that its held-out loss soon rises; its folder, its summary, its model."""
    folder = tmp_path_factory.mktemp("stopped")
    model = make_tiny_model(folder / "model")
    return folder / "run", train(model, data, folder / "run", overshooting(), save_state_every_steps=3), model


def overshooting() -> TrainJob:
    return job("orpo", STOPPING, checkpoints=4, max_steps=40, learning_rate=0.1)


def test_a_run_that_stops_early_ends_with_its_best_checkpoint(stopped: tuple[Path, TrainSummary, Path]) -> None:
    out, summary, _ = stopped
    measured = read_jsonl(out / "validation.jsonl")
    best = min(measured, key=lambda row: row["loss"])
    assert summary.stopped_early_at == summary.steps == measured[-1]["step"] == best["step"] + 4 < 40
    assert [path.name for path in summary.checkpoints][-1] == f"step-{best['step']:06d}"
    # Those asked for (steps 10, 20, 30, 40) are there up to the best one, and nothing else is.
    asked = [step for step in (10, 20, 30, 40) if step < best["step"]]
    assert [path.name for path in summary.checkpoints] == [f"step-{step:06d}" for step in [*asked, best["step"]]]
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == [path.name for path in summary.checkpoints]
    assert not (out / "state").exists()


@pytest.mark.parametrize("where", ["after", pytest.param("before", marks=pytest.mark.slow)])
def test_an_early_stop_comes_at_the_same_step_after_a_kill(
    where: str, stopped: tuple[Path, TrainSummary, Path], data: Path, tmp_path: Path
) -> None:
    """Killed before the best step and between it and the stop: logs and weights are those of the whole run."""
    whole, summary, model = stopped
    killed_after = summary.steps - (1 if where == "after" else 5)
    with pytest.raises(Killed):
        train(model, data, tmp_path / "run", overshooting(), save_state_every_steps=3, on_step=kill_after(killed_after))
    again = train(model, data, tmp_path / "run", overshooting(), save_state_every_steps=3)
    assert again.stopped_early_at == summary.stopped_early_at
    for name in ("train.jsonl", "validation.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes()
    assert [path.name for path in again.checkpoints] == [path.name for path in summary.checkpoints]
    for one, other in zip(again.checkpoints, summary.checkpoints, strict=True):
        assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()


def test_what_was_held_out_in_words() -> None:
    best, last = {"step": 40, "loss": 0.5}, {"step": 80, "loss": 0.625, "reward_accuracy": 0.75}
    said = {"validation": {"examples": 12, "best": best, "last": last}, "stopped_early_at": 80}
    assert describe({"policy": said}) == [
        "policy: held-out loss 0.625 over 12 examples, best 0.5 at step 40, reward accuracy 75 %; stopped early at "
        "step 80"
    ]
