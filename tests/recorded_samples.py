"""Recorded answers, with rewards, that stand in for what a policy draws: two prompts with four answers each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seft_bench.chat import load_tokenizer, stop_ids
from training.checkpoint import load_model
from training.data import DataRules, examples_of
from training.distributed import ALONE, Processes
from training.online import Helpers, OnlineRun
from training.settings import Advantages, Online, TrainJob, TrainSettings

LIMIT = 6
PROMPTS = [{"prompt": [{"role": "user", "content": f"What is {number}?"}]} for number in (3, 7)]
LENGTHS = (1, 2, 2, 3, 3, 4, 5, LIMIT)
"""Tokens of the answers, which are in this order by length, too: micro-batches are then those of any trainer."""
REWARDS = (-1.5, 0.25, None, -0.5, 2.0, -1.0, 0.0, 0.75)
"""One answer has none."""


def recorded(tokenizer: Any) -> list[list[int]]:
    """Token ids of the answers: each ends with the stop token, but for the last one, which was cut."""
    [stop] = stop_ids(tokenizer)
    answers = [[40 + 7 * number + position for position in range(length)] for number, length in enumerate(LENGTHS)]
    return [[*answer[:-1], stop] for answer in answers[:-1]] + [answers[-1]]


def online(advantages: Advantages = "group", **given: Any) -> Online:
    return Online(4, given.pop("updates", 1), LIMIT, 8, advantages, **given)


def job_of(loss: str, loss_settings: Mapping[str, float | str], drawing: Online, **given: Any) -> TrainJob:
    """A job of two steps, in micro-batches of 4."""
    settings = {"learning_rate": 0.02, "warmup_ratio": 0, "max_steps": 2, "global_batch_size": 8, "micro_batch_size": 4}
    return TrainJob(TrainSettings(**{**settings, "device": "cpu", **given}), loss, loss_settings, online=drawing)


def helpers_of(tokenizer: Any, rewards: Sequence[float | None] = REWARDS) -> Helpers:
    """Draw and grade by heart, whatever the policy is and whichever prompts a process has."""
    answers = recorded(tokenizer)
    last: list[int] = []

    def draw(_model: Any, _prompts: Sequence[Sequence[int]], keys: Sequence[str]) -> list[list[int]]:
        last[:] = [4 * int(prompt) + int(sample) for _, prompt, sample in (key.split("/") for key in keys)]
        return [answers[number] for number in last]

    return Helpers(draw, lambda sampled: [rewards[number] for number in last])


def run_of(
    model: Path, job: TrainJob, reference: Path | None = None, processes: Processes = ALONE, **given: Any
) -> OnlineRun:
    tokenizer = load_tokenizer(model)
    prompts, _ = examples_of(PROMPTS, model, tokenizer, DataRules(512, "prompts", drawn_tokens=LIMIT))
    frozen = load_model(reference) if reference else None
    helpers = given.get("helpers") or helpers_of(tokenizer)
    return OnlineRun(load_model(model), prompts, tokenizer, helpers, job, frozen, processes)


def update_on(run: OnlineRun) -> tuple[dict[str, float], dict[str, Any]]:
    """(figures, gradients) of the next update, which is not taken."""
    run.step += 1
    measured = run._forward_backward([0, 1])
    gradients = {name: parameter.grad.clone() for name, parameter in run.parameters.items()}
    return {name: value.item() for name, value in measured.items()}, gradients
