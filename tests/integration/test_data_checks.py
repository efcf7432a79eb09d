"""Wrong data is said before anything is trained; what is left out is counted wherever one looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seft_bench import pipeline
from seft_bench.config import RecipeConfig
from seft_bench.files import read_json, write_jsonl
from tests.tiny_model import make_tiny_model

ASK = "What is two plus three?"
PAIR = {"prompt": ASK, "chosen": "Five.", "rejected": "The lazy fox."}
GOOD: dict[str, list[dict[str, Any]]] = {
    "sft": [{"prompt": f"{ASK} {number}", "answer": "Five."} for number in range(8)],
    "preferences": [{**PAIR, "prompt": f"{ASK} {number}"} for number in range(8)],
    "calibration": [{**PAIR, "prompt": f"Name fish number {number}."} for number in range(4)],
    "prompts": [{"prompt": f"Name colour number {number}."} for number in range(4)],
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("base") / "tiny")


def recipe(base: Path, folder: Path, method: str, **changed: list[dict[str, Any]]) -> RecipeConfig:
    """A recipe of one step a stage over rows of our own, which `changed` replaces."""
    data = folder / "data"
    for name, rows in (GOOD | changed).items():
        write_jsonl(data / f"{name}.jsonl", rows)
    training = {"max_steps": 1, "max_length": 96, "global_batch_size": 4}
    settings = {"training": training} | ({"drafts": {"max_new_tokens": 4}} if method == "seft" else {})
    return RecipeConfig(name="run", method=method, base=str(base), data=str(data), settings=settings)


def test_dropped_rows_are_counted_on_the_console_in_summary_stage_and_manifest(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*GOOD["preferences"], {**PAIR, "rejected": "Five."}, {**PAIR, "chosen": ""}]
    run = pipeline.train(recipe(base, tmp_path, "sft-chosen", preferences=rows), tmp_path / "run", checkpoints=1)
    shown = capsys.readouterr().err
    assert "chosen: not trained on: 1 of 10 rows (1 empty_answer)" in shown
    assert "WARNING" not in shown
    [stage] = (tmp_path / "run" / "stages").glob("chosen-*")
    for counts in (
        read_json(stage / "summary.json")["data"],
        read_json(stage / "stage.json")["data"],
        run.manifest["training_rows"]["chosen"],
    ):
        assert (counts["rows"], counts["used"], counts["dropped"]) == (10, 9, {"empty_answer": 1})


def test_more_than_the_odd_dropped_row_is_a_warning(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*GOOD["sft"], {"prompt": ASK, "answer": " "}]
    pipeline.train(recipe(base, tmp_path, "sft", sft=rows), tmp_path / "run", checkpoints=1)
    assert "WARNING: start: not trained on: 1 of 9 rows (1 empty_answer)" in capsys.readouterr().err
