"""Small data sets in a folder, and recipes over them: a SEFT of two rounds that takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seft_bench.config import RecipeConfig
from seft_bench.files import write_jsonl
from seft_bench.records import Base, Data, Row
from training.settings import DraftSettings
from training.stages import Sample

WORDS = ("river", "fox", "violet", "sentence", "fish", "rainbow", "five", "dog")
STEP = {"max_steps": 1, "epochs": None, "global_batch_size": 4, "micro_batch_size": 4, "max_length": 256}
DRAFTS = Sample("drafts", Base(), Data("prompts"), DraftSettings(temperature=1.0, max_new_tokens=24, batch_size=8))
"""A stage over the same data that draws one draft of each prompt."""


def write_data(folder: Path, prompts: int = 6) -> Path:
    """Write the data sets that SEFT reads, each on prompts of its own; return the folder."""
    questions = {
        name: [_question(f"{name} {word}") for word in WORDS] for name in ("sft", "preferences", "calibration")
    }
    write_jsonl(folder / "sft.jsonl", [{**row, "answer": f"A {WORDS[0]}."} for row in questions["sft"]])
    for name in ("preferences", "calibration"):
        rows = enumerate(questions[name])
        pairs = [{**row, "chosen": f"The {WORDS[at]}.", "rejected": f"um {WORDS[at]} " * 3} for at, row in rows]
        write_jsonl(folder / f"{name}.jsonl", pairs)
    write_jsonl(
        folder / "prompts.jsonl", [_question(f"{index}. Name a {WORDS[index % 8]}") for index in range(prompts)]
    )
    return folder


def _question(text: str) -> Row:
    return {"prompt": [{"role": "user", "content": f"{text}, please."}]}


def small_seft(
    base: Path,
    data: Path,
    *,
    drafts: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    **keys: Any,
) -> RecipeConfig:
    """Return a recipe of two rounds, the first one internal, the second one external, with one step a training.

    Args:
        drafts: their settings.
        training: settings of all trainings.
        keys: further keys of the recipe.
    """
    trainings = dict.fromkeys(("start", "preliminary", "reviser", "decider", "policy"), STEP)
    settings = {
        **trainings,
        **({"training": training} if training else {}),
        "policy": {**STEP, "max_steps": 2},
        "internal_samples": 2,
        "drafts": {"max_new_tokens": 24, "batch_size": 8, "temperature": 1.0, **(drafts or {})},
    }
    return RecipeConfig(name="small", method="seft", base=str(base), data=str(data), **{"settings": settings, **keys})
