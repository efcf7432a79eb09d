"""Real preference pairs from AlpacaEval's published outputs and annotations, as JSONL data sets of a training run.

Of each instruction the answers with the highest and the lowest preference of GPT-4 make a pair. They train tests and
never a published figure: the instructions are AlpacaEval's own.
"""

from __future__ import annotations

from pathlib import Path

from seft_bench.files import sha256_json, write_jsonl
from seft_bench.records import Row
from seft_bench.suites import load_suite
from tests.real_data import MODELS, compact

LONGEST_ANSWER, LONGEST_QUESTION = 350, 300
"""In characters: what a CPU trains on in minutes."""

PARTS = {"sft": 48, "preferences": 80, "calibration": 12, "held_out": 128, "tuning": 36}
"""Data set -> pairs in it; no instruction is in two. Settings are chosen on `tuning`, and `held_out` says what came."""

PROMPTS = 64
"""Instructions without an annotation: of those whose answers are all too long for a pair."""


def real_pairs(shared_data: Path) -> list[Row]:
    """Rows of prompt, chosen and rejected, in the order of a hash of the instruction, so that any part is a mix."""
    models = [model for model in MODELS if model != "NullModel"]
    outputs = {model: _by_index(shared_data, "outputs", model, "output") for model in models}
    grades = {model: _by_index(shared_data, "annotations", model, "preference") for model in models}
    pairs = []
    for index, instruction in enumerate(_instructions()):  # the compact rows' index
        graded = sorted(
            (float(str(grades[model][index])), str(outputs[model][index]))
            for model in models
            if index in grades[model] and _short(outputs[model].get(index))
        )
        if len(graded) > 1 and graded[0][0] < graded[-1][0] and len(instruction) <= LONGEST_QUESTION:
            pairs.append({"prompt": _prompt(instruction), "chosen": graded[-1][1], "rejected": graded[0][1]})
    return _mixed(pairs)


def real_prompts(pairs: list[Row]) -> list[Row]:
    """Rows of prompts that none of the pairs has, in an order as theirs."""
    paired = {row["prompt"][0]["content"] for row in pairs}
    others = [text for text in _instructions() if text not in paired and len(text) <= LONGEST_QUESTION]
    return _mixed([{"prompt": _prompt(text)} for text in others])


def real_kinds() -> dict[str, str]:
    """Instruction -> its kind: where AlpacaEval took it from."""
    return {question.turns[0]: str(question.metadata["dataset"]) for question in load_suite("alpacaeval").questions()}


def _instructions() -> list[str]:
    return [question.turns[0] for question in load_suite("alpacaeval").questions()]


def _prompt(instruction: str) -> list[Row]:
    return [{"role": "user", "content": instruction}]


def _mixed(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: sha256_json(row["prompt"]))


def _by_index(shared_data: Path, kind: str, model: str, key: str) -> dict[int, object]:
    return {row["index"]: row[key] for row in compact(shared_data, kind, model)}


def _short(answer: object) -> bool:
    return isinstance(answer, str) and 0 < len(answer.strip()) <= LONGEST_ANSWER


def write_real_data(shared_data: Path, folder: Path) -> Path:
    """Write the data sets of `PARTS`, and the prompts, to `folder`, and return it.

    Raises:
        ValueError: there are too few pairs for the parts.
    """
    pairs = real_pairs(shared_data)
    if len(pairs) < sum(PARTS.values()):
        raise ValueError(f"{len(pairs)} real pairs are too few for {sum(PARTS.values())}")
    start = 0
    for name, count in PARTS.items():
        write_jsonl(folder / f"{name}.jsonl", [_row(name, pair) for pair in pairs[start : start + count]])
        start += count
    write_jsonl(folder / "prompts.jsonl", real_prompts(pairs)[:PROMPTS])
    return folder


def _row(name: str, pair: Row) -> Row:
    return {"prompt": pair["prompt"], "answer": pair["chosen"]} if name == "sft" else pair
