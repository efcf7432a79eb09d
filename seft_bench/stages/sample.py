"""Sample stages: a policy's draft answers to prompts; and greedy completions, which revising needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seft_bench.errors import InputError
from seft_bench.files import append_rows, read_log, write_jsonl
from seft_bench.records import Data, Message, Row
from seft_bench.stages import door
from seft_bench.stages.common import OUTPUTS, Find, Workshop
from seft_bench.stages.engines import Engine

if TYPE_CHECKING:
    from seft_bench.generators.conversations import ConversationGenerator
    from seft_bench.stages.door import stages

PROMPTS_AT_ONCE = 1024
"""Prompts between two saves: what a killed stage loses at most.

A fixed cut, so that a resumed stage forms the same batches.
"""

Draw = Callable[[Sequence[Row], int], list[Row]]
"""Draws for rows with a prompt, of which the first has the given index."""


def run_sample(stage: stages.Sample, find: Find, folder: Path, shop: Workshop) -> Row:
    """Draft answers to prompts: rows of the prompt with `draft` (the first sample) and `samples`.

    Evidence for a reviser stands beside the drafts that the rows have, and asks no prompt that was not asked before.
    """
    prompts = chosen_prompts(door.rows.read_rows(find(stage.prompts), "prompts", ["prompt"]), stage)
    sampled = _sample_all(stage, prompts, find(stage.model), folder / "sampled.jsonl", shop)
    write_jsonl(
        folder / OUTPUTS["sample"],
        [{**row, **drawn_keys(stage, drawn["texts"])} for row, drawn in zip(prompts, sampled, strict=True)],
    )
    known = stage.beside or stage.prompts == Data("sft")
    return {
        "prompts": len(prompts),
        "unannotated_prompts": 0 if known else sum("chosen" not in row for row in prompts),
        "tokens_generated": sum(drawn["tokens"] for drawn in sampled),
        "cut_off_share": sum(drawn["cut_off"] for drawn in sampled) / sum(len(drawn["texts"]) for drawn in sampled),
    }


def drawn_keys(stage: stages.Sample, texts: list[str]) -> Row:
    """Return what a row gets of the texts that were drawn for it."""
    return {door.reviser.OTHER_DRAFTS: texts} if stage.beside else {"draft": texts[0], "samples": texts}


def chosen_prompts(prompts: list[Row], stage: stages.Sample) -> list[Row]:
    """Choose the first prompts, and of those this round's part."""
    wanted = stage.first.count if stage.first else None
    if wanted is not None and wanted > len(prompts):
        raise InputError(
            f"prompts: {wanted} are asked for, and {stage.prompts} has {len(prompts)}: give at most as many"
        )
    first = prompts[:wanted]
    part, parts = (stage.part.part, stage.part.parts) if stage.part else (0, 1)
    if not first[part::parts]:
        raise InputError(f"round {part + 1} of {parts} has no prompts left: there are {len(prompts)}")
    return first[part::parts]


def _sample_all(stage: stages.Sample, prompts: Sequence[Row], model: Path, log: Path, shop: Workshop) -> list[Row]:
    """Draw for each prompt; go on behind the last save of a killed stage."""
    sampled = read_log(log)
    draw: Draw | None = None
    while len(sampled) < len(prompts):
        draw = draw or _drawer(stage, shop.engine.generator(model, stage.settings.batch_size), shop.seed)
        fresh = draw(prompts[len(sampled) : len(sampled) + PROMPTS_AT_ONCE], len(sampled))
        append_rows(log, fresh)
        sampled += fresh
        shop.progress(stage.name, len(sampled), len(prompts))
    return sampled


def _drawer(stage: stages.Sample, generator: ConversationGenerator, seed: int) -> Draw:
    """Return what draws with one loaded model, any number of times."""
    from seft_bench.generators.conversations import Sampling

    settings = stage.settings

    def draw(rows: Sequence[Row], first: int) -> list[Row]:
        keys = [(index, sample) for index in range(len(rows)) for sample in range(stage.samples)]
        samplings = [
            Sampling(f"{stage.name}/{first + index}/{sample}", settings.temperature, settings.top_p)
            for index, sample in keys
        ]
        conversations: list[list[Message]] = [rows[index]["prompt"] for index, _ in keys]
        completions = generator.complete(conversations, samplings, settings.max_new_tokens, seed)
        drawn: list[Row] = [{"texts": [], "tokens": 0, "cut_off": 0} for _ in rows]
        for (index, _), completion in zip(keys, completions, strict=True):
            drawn[index]["texts"].append(completion.text)
            drawn[index]["tokens"] += completion.completion_tokens
            drawn[index]["cut_off"] += completion.finish_reason == "length"
        return drawn

    return draw


def greedy(
    engine: Engine, model: Path, conversations: Sequence[Sequence[Message]], settings: stages.Revising
) -> tuple[list[str], int]:
    """Complete conversations greedily; return the texts, and how many tokens they took."""
    from seft_bench.generators.conversations import Sampling

    samplings = [Sampling(str(index), 0.0) for index in range(len(conversations))]
    generator = engine.generator(model, settings.batch_size)
    completions = generator.complete(conversations, samplings, settings.max_new_tokens, seed=0)
    tokens = sum(completion.completion_tokens for completion in completions)
    return [completion.text for completion in completions], tokens
