"""A small suite, ready answers to it, and judges whose price is known and unknown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from seft_bench import config

QUESTIONS = 12


INPUT_USD, OUTPUT_USD = 1000.0, 2000.0


PAID_USD = (100 * INPUT_USD + 10 * OUTPUT_USD) / 1e6
"""A reply of `completion()`: 100 tokens in, 10 out."""


def lay_out(desk: Path, url: str) -> None:
    """Write suite.yaml, answers.jsonl, priced.yaml and unpriced.yaml; the judges want the variable JUDGE_KEY."""
    shipped = yaml.safe_load((config.config_folder() / "suites" / "tiny-mtbench.yaml").read_text())
    small = shipped | {
        "name": "small",
        "max_questions": QUESTIONS,
        "decodings": {"greedy": {"temperature": 0.0}},
        "max_new_tokens": 64,
    }
    write(desk / "suite.yaml", small)
    write_judge(
        desk / "priced.yaml",
        url,
        input_usd_per_million_tokens=INPUT_USD,
        output_usd_per_million_tokens=OUTPUT_USD,
    )
    write_judge(desk / "unpriced.yaml", url)
    write_answers(desk)


def write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(values))


def write_judge(path: Path, url: str, **more: Any) -> None:
    settings = {
        "name": path.stem,
        "kind": "openai",
        "model": "judge",
        "base_url": url,
        "api_key_env": "JUDGE_KEY",
        "templates": "seft-bench",
    }
    write(path, settings | {"max_attempts": 2, "max_in_flight": 4, "max_tokens": 50} | more)


def write_answers(desk: Path) -> None:
    from seft_bench.suites import load_suite

    rows = [
        {
            "question_id": question.id,
            "model_id": "mine",
            "choices": [{"index": 0, "turns": [f"An answer to {turn}" for turn in question.turns]}],
        }
        for question in load_suite(str(desk / "suite.yaml")).questions()
    ]
    (desk / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
