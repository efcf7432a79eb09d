"""`data preview`: the learnt tokens are the ones that training learns, and hostile texts stay texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from seft_bench import pipeline
from seft_bench.stages import door
from seft_bench.stages.preview import Preview, preview_data
from seft_bench.stages.recipes import load_recipe, needed_data
from tests.integration.cli import seft_bench
from tests.tiny_model import make_tiny_model

PAIRS = [
    {"question": "Name a river.", "good": "The Danube.", "bad": "um, a fish"},
    {"question": "Name a \x1b[31mfish\x07.", "good": "[bold]A carp.[/bold]", "bad": ""},
    {"question": "Name a bird.", "good": "A wren.", "bad": "A stone."},
]
COLUMNS = {"prompt": "question", "chosen": "good", "rejected": "bad"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    make_tiny_model(tmp_path / "model")
    (tmp_path / "pairs.json").write_text(json.dumps(PAIRS))
    talk = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]
    talks = [{"conversations": [*talk, {"from": "human", "value": "Bye"}, {"from": "gpt", "value": "So long."}]}]
    (tmp_path / "talks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in talks))
    return tmp_path


def recipe(folder: Path, method: str, **data: Any) -> str:
    given = {"preferences": {"source": "pairs.json", "columns": COLUMNS}, **data}
    values = {"name": "r", "method": method, "base": "./model", "data": given}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    return "recipe.yaml"


def previews(name: str, rows: int = 3) -> dict[str, Preview]:
    chosen = load_recipe(name)
    plan, needed = door.methods.build_stages(chosen.method, chosen.settings, 1), needed_data(chosen)
    models, data = pipeline.open_material(chosen, plan, Path("data"), needed)
    return {shown.data_set: shown for shown in preview_data(plan, models.base, data, 0, needed, rows)}


def learnt(shown: Preview, sample: int, text: int = 0) -> list[str]:
    return [piece.text for piece in shown.samples[sample][text].pieces if piece.learnt]


def test_pairs_are_shown_with_what_is_learnt_and_counted(folder: Path) -> None:
    shown = previews(recipe(folder, "orpo"))["preferences"]
    assert shown.reader == "stage orpo (pairs)"
    assert (shown.counts["rows"], shown.counts["used"], shown.counts["dropped"]) == (3, 2, {"empty_answer": 1})
    assert [rendered.name for rendered in shown.samples[0]] == ["chosen", "rejected"]
    ((good,), (poor,)) = (learnt(shown, 0, text) for text in (0, 1))
    assert good.startswith("The Danube.")
    assert poor.startswith("um, a fish")
    whole = "".join(piece.text for piece in shown.samples[0][0].pieces)
    assert "Name a river." in whole
    assert whole.endswith(good)
    assert len(previews("recipe.yaml", rows=1)["preferences"].samples) == 1


def test_the_counts_are_trainings_own(folder: Path) -> None:
    name = recipe(folder, "orpo")
    counts = previews(name)["preferences"].counts
    seen = seft_bench("train", name, "settings.policy.max_steps=1")
    assert seen.status == 0, seen.err
    (path,) = (folder / "runs" / "r" / "stages").glob("orpo-*/summary.json")
    trained = json.loads(path.read_text())["data"]
    assert (counts["tokens"], counts["learnt_tokens"]) == (trained["tokens"], trained["labelled_tokens"])
    assert counts["dropped"] == trained["dropped"]


def test_all_answers_of_a_conversation_are_shown_as_learnt(folder: Path) -> None:
    talks = {"source": "talks.jsonl", "learn": "all"}
    every = previews(recipe(folder, "dpo", sft=talks))["sft"]
    assert [text.split(".")[0].strip() for text in learnt(every, 0)] == ["Hello", "So long"]
    last = previews(recipe(folder, "dpo", sft="talks.jsonl"))["sft"]
    assert [text.split(".")[0].strip() for text in learnt(last, 0)] == ["So long"]


def test_what_only_a_model_answers_is_shown_as_a_prompt(folder: Path) -> None:
    others = {"prompts": {"from": "preferences"}, "calibration": {"from": "preferences"}}
    shown = previews(recipe(folder, "seft", sft="talks.jsonl", **others))
    assert shown["prompts"].reader == "prompts that a model answers"
    assert shown["prompts"].counts["rows"] == 3
    assert shown["prompts"].counts["learnt_tokens"] == 0
    assert learnt(shown["prompts"], 0) == []
    assert "revisions" in shown["preferences"].reader


def test_the_command_prints_brackets_into_a_pipe_and_no_control_character(folder: Path) -> None:
    pairs = json.loads((folder / "pairs.json").read_text())
    pairs[1]["bad"] = "\x1b]0;title\x07um"
    (folder / "pairs.json").write_text(json.dumps(pairs))
    seen = seft_bench("data", "preview", recipe(folder, "orpo"), "--role", "preferences", "--rows", "2")
    assert seen.status == 0, seen.err
    assert "preferences, stage orpo (pairs): 3 of 3 rows" in seen.out
    assert "⟦The Danube." in seen.out
    assert "[bold]A carp.[/bold]" in seen.out
    assert "\x1b" not in seen.out
    assert "\x07" not in seen.out
    assert "A wren" not in seen.out
    wrong = seft_bench("data", "preview", "recipe.yaml", "--role", "sft")
    assert wrong.status == 2
    assert "preferences" in wrong.err
