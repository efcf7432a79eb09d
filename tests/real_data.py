"""Real judgments of AlpacaEval and MT-Bench, as the shared material holds them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from seft_bench.data.official import instruction_difficulties
from seft_bench.records import Answer, Row
from seft_bench.stats.length_control import Comparisons
from seft_bench.suites import load_suite
from seft_bench.suites.alpacaeval_length import Judged
from seft_bench.suites.alpacaeval_length import comparisons as rows_of

MODELS = (
    "NullModel",
    "gpt-3.5-turbo-1106_verbose",
    "gpt-3.5-turbo-1106_concise",
    "gemma-2b-it",
    "FuseChat-Gemma-2-9B-Instruct",
    "phi-2",
)


def read_gzip(path: Path) -> list[Row]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def compact(shared_data: Path, kind: str, model: str) -> list[Row]:
    """Return one model's `annotations` or `outputs` of AlpacaEval, as the shared material stores them."""
    return read_gzip(shared_data / "alpaca_eval" / kind / f"{model}.jsonl.gz")


def rebuild(shared_data: Path, model: str, folder: Path) -> tuple[Path, Path]:
    """alpaca_eval's two files of one model from the compact rows, in reversed order: position must not matter."""
    questions = load_suite("alpacaeval").questions()
    outputs = {row["index"]: row["output"] for row in compact(shared_data, "outputs", model)}
    annotations = [
        {
            "instruction": questions[row["index"]].turns[0],
            "output_1": questions[row["index"]].reference[0],
            "output_2": outputs[row["index"]],
            "generator_2": model,
            "preference": row["preference"],
        }
        for row in reversed(compact(shared_data, "annotations", model))
    ]
    answers = [
        {"instruction": questions[index].turns[0], "output": text, "generator": model}
        for index, text in reversed(outputs.items())
    ]
    (folder / "annotations.json").write_text(json.dumps(annotations))
    (folder / "model_outputs.json").write_text(json.dumps(answers))
    return folder / "model_outputs.json", folder / "annotations.json"


def alpaca_judged(shared_data: Path, model: str) -> Judged:
    """One model's real annotations as the suite hands them to the length control."""
    questions = load_suite("alpacaeval").questions()
    outputs = {row["index"]: row["output"] for row in compact(shared_data, "outputs", model)}
    preferences = {questions[row["index"]].id: row["preference"] for row in compact(shared_data, "annotations", model)}
    answers = {
        questions[index].id: Answer("alpacaeval", questions[index].id, model, (text,))
        for index, text in outputs.items()
    }
    difficulty = dict(zip((question.id for question in questions), instruction_difficulties(), strict=True))
    return Judged(
        questions,
        [question for question in questions if question.id in preferences],
        answers,
        preferences,
        difficulty,
        gamed=True,
    )


def comparisons(shared_data: Path, model: str) -> Comparisons:
    """Arrays of one model as the suite makes them, for fits at another C."""
    return rows_of(alpaca_judged(shared_data, model))
