"""Sample stages: a policy's draft answers to prompts; and greedy completions, which revising needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seft_bench.errors import InputError
from seft_bench.files import Row, read_jsonl, write_jsonl
from seft_bench.records import Stage
from seft_bench.stages.common import OUTPUTS, Workshop


def run_sample(stage: Stage, inputs: Mapping[str, Path], folder: Path, shop: Workshop) -> Row:
    """Draft answers to prompts: rows of the prompt with `draft` (the first sample) and `samples`."""
    settings = stage.settings
    prompts = _part(read_jsonl(inputs["prompts"], "prompts", ["prompt"]), settings)
    from seft_bench.generators.transformers import Sampling

    generator = _generator(inputs["model"], settings)
    keys = [(index, sample) for index in range(len(prompts)) for sample in range(settings["samples"])]
    completions = generator.complete(
        [prompts[index]["prompt"] for index, _ in keys],
        [Sampling(f"{stage.name}/{index}/{sample}", settings["temperature"], settings["top_p"]) for index, sample in keys],
        settings["max_new_tokens"],
        shop.seed,
    )
    samples: list[list[str]] = [[] for _ in prompts]
    for (index, _), completion in zip(keys, completions, strict=True):
        samples[index].append(completion.text)
    write_jsonl(folder / OUTPUTS["sample"], [{**row, "draft": texts[0], "samples": texts} for row, texts in zip(prompts, samples, strict=True)])
    unannotated = sum("chosen" not in row for row in prompts)
    return {
        "prompts": len(prompts),
        "unannotated_prompts": unannotated,
        "tokens_generated": sum(completion.completion_tokens for completion in completions),
        "cut_off_share": sum(completion.finish_reason == "length" for completion in completions) / len(completions),
    }


def _part(prompts: list[Row], settings: Mapping[str, Any]) -> list[Row]:
    """The first `count` prompts, and of those this round's part."""
    wanted = prompts[: settings.get("count") or len(prompts)]
    part, parts = settings.get("part", 0), settings.get("parts", 1)
    chosen = wanted[part::parts]
    if not chosen:
        raise InputError(f"round {part + 1} of {parts} has no prompts left: there are {len(prompts)}")
    return chosen


def _generator(model: Path, settings: Mapping[str, Any]) -> Any:
    from seft_bench.generators.transformers import TransformersGenerator

    return TransformersGenerator(model, model.name, batch_size=settings["batch_size"])


def greedy(model: Path, conversations: Sequence[Any], settings: Mapping[str, Any]) -> tuple[list[str], int]:
    """Greedy completions, and how many tokens they took."""
    from seft_bench.generators.transformers import Sampling

    completions = _generator(model, settings).complete(
        conversations, [Sampling(str(index), 0.0) for index in range(len(conversations))], settings["max_new_tokens"], seed=0
    )
    return [completion.text for completion in completions], sum(completion.completion_tokens for completion in completions)
