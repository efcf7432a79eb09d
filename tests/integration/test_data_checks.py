"""Wrong data is said before anything is trained; what is left out is counted wherever one looks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from seft_bench import pipeline, stages
from seft_bench.config import RecipeConfig
from seft_bench.errors import InputError
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
    """A recipe of two steps a stage over rows of our own, which `changed` replaces."""
    data = folder / "data"
    for name, rows in (GOOD | changed).items():
        write_jsonl(data / f"{name}.jsonl", rows)
    training = {"max_steps": 2, "max_length": 96, "global_batch_size": 4}
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


# Before anything is trained

GEMMA = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SYSTEM = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ASK}]
HALF = {"prompt": ASK + " \ud83d", "answer": "Five."}


@pytest.mark.parametrize(
    ("method", "name", "row", "message"),
    [
        (
            "sft",
            "sft",
            {"prompt": [{"role": "user"}], "answer": "Five."},
            r"sft\.jsonl, line 9: 'prompt': the content of a message must be text",
        ),
        ("sft", "sft", HALF, r"sft\.jsonl, line 9: a text holds half a surrogate pair"),
        ("dpo", "preferences", {**PAIR, "prompt": 7}, r"preferences\.jsonl, line 9: 'prompt' must be a list"),
        ("dpo", "preferences", {**PAIR, "rejected": 7}, r"preferences\.jsonl, line 9: 'rejected' must be text"),
        ("dpo", "preferences", {"prompt": ASK}, r"preferences\.jsonl, line 9: column chosen, rejected is missing"),
        ("seft", "prompts", {"prompt": 7}, r"prompts\.jsonl, line 5: 'prompt' must be a list of messages"),
        ("seft", "prompts", {"prompt": SYSTEM}, r"prompts\.jsonl, line 5: .*System role not supported"),
        ("self-label", "prompts", {"prompt": ASK + "\udc00"}, r"prompts\.jsonl, line 5: a text holds half a surrogate"),
        ("seft", "calibration", {**PAIR, "chosen": 7}, r"calibration\.jsonl, line 5: 'chosen' must be text"),
        ("seft", "calibration", {**PAIR, "prompt": SYSTEM}, r"calibration\.jsonl, line 5: .*System role not supported"),
    ],
)
def test_a_wrong_row_of_any_data_set_stops_a_method_before_it_trains(
    base: Path, tmp_path: Path, method: str, name: str, row: dict[str, Any], message: str
) -> None:
    """A `prompts.jsonl` with a wrong row was found out after three trainings, by a TypeError."""
    wrong = recipe(base, tmp_path, method)
    with (tmp_path / "data" / f"{name}.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    with pytest.raises(InputError, match=message):
        pipeline.train(wrong.model_copy(update={"chat_template": GEMMA}), tmp_path / "run", checkpoints=1)
    assert not list((tmp_path / "run").rglob("stage.json")) + list((tmp_path / "run").rglob("train.jsonl"))


def test_too_many_dropped_rows_of_a_later_stage_stop_a_method_before_it_trains(base: Path, tmp_path: Path) -> None:
    long = {**PAIR, "prompt": f"{ASK} " * 40}
    wrong = recipe(base, tmp_path, "dpo", preferences=[PAIR, *[long] * 31])
    with pytest.raises(InputError, match=r"preferences\.jsonl: 31 of 32 rows \(31 prompt_too_long\) teach nothing"):
        pipeline.train(wrong, tmp_path / "run", checkpoints=1)
    assert not list((tmp_path / "run").rglob("stage.json"))


def test_sequences_beyond_the_models_positions_stop_a_method_before_it_trains(tmp_path: Path) -> None:
    short = make_tiny_model(tmp_path / "short", context_tokens=12)
    with pytest.raises(InputError, match=r"sft\.jsonl: the longest sequence has \d+ tokens, .* positions for 12 only"):
        pipeline.train(recipe(short, tmp_path, "sft"), tmp_path / "run", checkpoints=1)


def test_a_base_without_weights_stops_every_method_but_pretrain(tmp_path: Path) -> None:
    bare = make_tiny_model(tmp_path / "bare", with_weights=False)
    (tmp_path / "bare" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    for method in ("sft", "dpo", "orpo", "seft"):
        with pytest.raises(InputError, match=r"holds no \*\.safetensors, only pytorch_model\.bin"):
            pipeline.train(recipe(bare, tmp_path, method), tmp_path / "run", checkpoints=1)
    (tmp_path / "bare" / "pytorch_model.bin").unlink()
    texts = [{"text": f"The fox jumps {number} times."} for number in range(8)]
    settings = {"train": {"max_steps": 1, "global_batch_size": 4, "micro_batch_size": 4}}
    fresh = recipe(bare, tmp_path, "pretrain", pretrain=texts).model_copy(update={"settings": settings})
    assert pipeline.train(fresh, tmp_path / "fresh", checkpoints=1).checkpoints


def test_prompts_as_text_go_through_a_whole_method(base: Path, tmp_path: Path) -> None:
    run = pipeline.train(recipe(base, tmp_path, "seft"), tmp_path / "run", checkpoints=1)
    assert run.checkpoints


def test_finished_stages_are_not_checked_again(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second method over the same stages reads only what its own stages read."""
    seen: list[str] = []
    check = stages.check._check_training

    def recorded(stage: Any, *others: Any) -> None:
        seen.append(stage.name)
        check(stage, *others)

    monkeypatch.setattr(stages.check, "_check_training", recorded)
    for method in ("sft", "dpo"):
        pipeline.train(
            recipe(base, tmp_path, method), tmp_path / method, stages_folder=tmp_path / "stages", checkpoints=1
        )
    assert seen == ["start", "dpo"]
