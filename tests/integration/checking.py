"""`seft-bench check` asked by tests, and the results that it reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from seft_bench.records import Answer, to_row
from seft_bench.suites import load_suite
from tests.integration.cli import Seen, seft_bench

METRIC_KEYS = set(
    "suite decoding judge_id metric title n candidate baseline difference standard_error lower_bound upper_bound "
    "bound_level level how margin p_regressed "
    "p_holm passes regressed minimal_detectable_effect questions_needed categories worst best".split()
)


def answer_rows(suite_name: str, model: str, spoilt: int) -> list[dict[str, Any]]:
    """Answers of which every `spoilt`-th is nonsense (0: none); all else is the question repeated."""
    rows = []
    for number, question in enumerate(load_suite(suite_name).questions()):
        nonsense = bool(spoilt) and number % spoilt == 0
        texts = tuple("um dunno whatever " * 4 if nonsense else f"Sure: {turn}" for turn in question.turns)
        rows.append(to_row(Answer(question.suite, question.id, model, texts)))
    return rows


def check(*arguments: str) -> Seen:
    return seft_bench("check", *arguments)


def report(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(check(*arguments, "--json").out)
    return found


def result_file(desk: Path, suite: str, model: str) -> Path:
    [path] = [
        path for path in desk.glob(f"results/{suite}/*/result.json") if json.loads(path.read_text())["model"] == model
    ]
    return path


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
