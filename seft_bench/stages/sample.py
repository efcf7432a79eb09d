"""Sample stages: a policy's draft answers to prompts; and greedy completions, which revising needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from seft_bench.errors import InputError
from seft_bench.files import append_rows, read_jsonl, read_log, write_jsonl
from seft_bench.records import Row, Stage
from seft_bench.stages.common import OUTPUTS, Workshop

PROMPTS_AT_ONCE = 1024
"""Prompts between two saves: what a killed stage loses at most.

A fixed cut, so that a resumed stage forms the same batches.
"""


def run_sample(stage: Stage, inputs: Mapping[str, Path], folder: Path, shop: Workshop) -> Row:
    """Draft answers to prompts: rows of the prompt with `draft` (the first sample) and `samples`."""
    prompts = _part(read_jsonl(inputs["prompts"], "prompts", ["prompt"]), stage.settings)
    sampled = _sample_all(stage, prompts, inputs["model"], folder / "sampled.jsonl", shop)
    write_jsonl(
        folder / OUTPUTS["sample"],
        [
            {**row, "draft": drawn["texts"][0], "samples": drawn["texts"]}
            for row, drawn in zip(prompts, sampled, strict=True)
        ],
    )
    return {
        "prompts": len(prompts),
        "unannotated_prompts": sum("chosen" not in row for row in prompts),
        "tokens_generated": sum(drawn["tokens"] for drawn in sampled),
        "cut_off_share": sum(drawn["cut_off"] for drawn in sampled) / sum(len(drawn["texts"]) for drawn in sampled),
    }


def _part(prompts: list[Row], settings: Mapping[str, Any]) -> list[Row]:
    """The first `count` prompts, and of those this round's part."""
    wanted = prompts[: settings.get("count") or len(prompts)]
    part, parts = settings.get("part", 0), settings.get("parts", 1)
    chosen = wanted[part::parts]
    if not chosen:
        raise InputError(f"round {part + 1} of {parts} has no prompts left: there are {len(prompts)}")
    return chosen


def _sample_all(stage: Stage, prompts: Sequence[Row], model: Path, log: Path, shop: Workshop) -> list[Row]:
    """What was drawn for each prompt; goes on behind the last save of a killed stage."""
    sampled = read_log(log)
    draw: Callable[[Sequence[Row], int], list[Row]] | None = None
    while len(sampled) < len(prompts):
        draw = draw or _drawer(stage, model, shop.seed)
        fresh = draw(prompts[len(sampled) : len(sampled) + PROMPTS_AT_ONCE], len(sampled))
        append_rows(log, fresh)
        sampled += fresh
        shop.progress(stage.name, len(sampled), len(prompts))
    return sampled


def _drawer(stage: Stage, model: Path, seed: int) -> Callable[[Sequence[Row], int], list[Row]]:
    """Draws for some prompts, of which the first has the given index; the model is loaded once."""
    from seft_bench.generators.conversations import Sampling

    settings, generator = stage.settings, _generator(model, stage.settings)

    def draw(rows: Sequence[Row], first: int) -> list[Row]:
        keys = [(index, sample) for index in range(len(rows)) for sample in range(settings["samples"])]
        samplings = [
            Sampling(f"{stage.name}/{first + index}/{sample}", settings["temperature"], settings["top_p"])
            for index, sample in keys
        ]
        completions = generator.complete(
            [rows[index]["prompt"] for index, _ in keys], samplings, settings["max_new_tokens"], seed
        )
        drawn: list[Row] = [{"texts": [], "tokens": 0, "cut_off": 0} for _ in rows]
        for (index, _), completion in zip(keys, completions, strict=True):
            drawn[index]["texts"].append(completion.text)
            drawn[index]["tokens"] += completion.completion_tokens
            drawn[index]["cut_off"] += completion.finish_reason == "length"
        return drawn

    return draw


def _generator(model: Path, settings: Mapping[str, Any]) -> Any:
    from seft_bench.generators.transformers import TransformersGenerator

    return TransformersGenerator(model, model.name, batch_size=settings["batch_size"])


def greedy(model: Path, conversations: Sequence[Any], settings: Mapping[str, Any]) -> tuple[list[str], int]:
    """Greedy completions, and how many tokens they took."""
    from seft_bench.generators.conversations import Sampling

    samplings = [Sampling(str(index), 0.0) for index in range(len(conversations))]
    completions = _generator(model, settings).complete(conversations, samplings, settings["max_new_tokens"], seed=0)
    return [completion.text for completion in completions], sum(
        completion.completion_tokens for completion in completions
    )
