"""`init`: a policy that starts at the base or at a ready model, without a start of its own, its data or its base."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from seft_bench import checkpoints, pipeline
from seft_bench.chat import load_tokenizer
from seft_bench.config import RecipeConfig
from seft_bench.errors import InputError
from seft_bench.files import read_json, read_jsonl, write_jsonl
from seft_bench.stages.runs import TrainedRun
from tests.integration.cli import good, seft_bench
from tests.tiny_model import make_tiny_model

ONE_STEP = {"max_steps": 1, "device": "cpu"}
UNREACHABLE = "nobody/such-a-base"


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A data folder that holds preference pairs, and nothing else."""
    prompts = [[{"role": "user", "content": f"What is {number}?"}] for number in range(16)]
    rows = [{"prompt": prompt, "chosen": f"It is {n}.", "rejected": "The dog."} for n, prompt in enumerate(prompts)]
    write_jsonl(tmp_path / "pairs" / "preferences.jsonl", rows)
    return tmp_path / "pairs"


def dpo(pairs: Path, out: Path, init: str, base: str = UNREACHABLE, **settings: Any) -> TrainedRun:
    recipe = RecipeConfig(
        name="run", method="dpo", base=base, data=str(pairs), settings={"policy": ONE_STEP, "init": init, **settings}
    )
    return pipeline.train(recipe, out, checkpoints=1)


def test_dpo_on_a_ready_model_trains_no_start_and_asks_for_neither_its_data_nor_the_base(
    pairs: Path, tiny_model: Path, tmp_path: Path
) -> None:
    run = dpo(pairs, tmp_path / "run", str(tiny_model))
    assert [name.rpartition("-")[0] for name in run.manifest["stages"]] == ["dpo"]
    [row] = read_jsonl(run.folder / "train.jsonl")
    assert row["loss"] == pytest.approx(0.693147, abs=1e-6)  # the reference is that very model
    started = checkpoints.fingerprint(tiny_model)
    assert run.manifest["parents"]["base"] == run.manifest["parents"][f"model/{tiny_model}"] == started


def test_dpo_from_the_base_is_dpo_on_that_model(pairs: Path, tiny_model: Path, tmp_path: Path) -> None:
    """The stage is one and the same, by its name."""
    first = dpo(pairs, tmp_path / "first", str(tiny_model))
    second = dpo(pairs, tmp_path / "second", "base", base=str(tiny_model))
    assert second.manifest["stages"] == first.manifest["stages"]


def test_dpo_goes_on_with_a_ready_adapter(pairs: Path, tiny_model: Path, tmp_path: Path) -> None:
    lora = {"training": {"lora": {"rank": 2, "alpha": 4}}}
    adapter = dpo(pairs, tmp_path / "first", str(tiny_model), **lora).checkpoints[-1]
    run = dpo(pairs, tmp_path / "second", str(adapter), **lora)
    assert checkpoints.base_of(run.checkpoints[-1]) == tiny_model.resolve()
    [row] = read_jsonl(run.folder / "train.jsonl")
    assert row["loss"] == pytest.approx(0.693147, abs=1e-6)


def test_other_weights_under_the_same_path_are_another_run(pairs: Path, tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    run = dpo(pairs, tmp_path / "run", str(model))
    assert dpo(pairs, tmp_path / "run", str(model)).manifest["started_at"] == run.manifest["started_at"]
    shutil.rmtree(model)
    make_tiny_model(model, seed=4)
    with pytest.raises(InputError, match=r"holds a run whose model/.* held something else"):
        dpo(pairs, tmp_path / "run", str(model))


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("bse", "unknown init 'bse': known are base, start. A ready model is named by its folder or its hub id."),
        ("./nothing", "init './nothing' is no checkpoint"),
        (UNREACHABLE, "init 'nobody/such-a-base' is no folder here, and it cannot be fetched"),
    ],
)
def test_an_init_that_is_not_there_is_said_before_anything_is_trained(init: str, message: str, desk: Path) -> None:
    seen = good(seft_bench("train", "method=seft", f"settings.init={init}"), 2)
    assert message in " ".join(seen.err.split())
    assert not list(desk.rglob("stage.json"))


def test_a_matrix_says_so_too(desk: Path) -> None:
    (desk / "m.yaml").write_text(
        "name: m\nbase: tinyworld\nseeds: [0]\nsuites: [tiny-mtbench]\nrows:\n"
        "  - {name: dpo, method: dpo, settings: {init: ./nothing}}\n"
    )
    assert "row 'dpo': init './nothing' is no checkpoint" in " ".join(
        good(seft_bench("bench", "m.yaml", "--dry-run"), 2).err.split()
    )


def test_seft_on_a_ready_model_keeps_its_reviser_on_the_base(pairs: Path, tiny_model: Path, tmp_path: Path) -> None:
    for name in ("calibration", "prompts"):
        shutil.copy(pairs / "preferences.jsonl", pairs / f"{name}.jsonl")
    ready = make_tiny_model(tmp_path / "ready", seed=4)
    settings: dict[str, Any] = dict.fromkeys(("preliminary", "reviser", "policy"), ONE_STEP)
    settings |= {"init": str(ready), "prompts": 4, "rounds": 1, "evolution": "external"}
    settings |= {"drafts": {"max_new_tokens": 4}}
    recipe = RecipeConfig(name="run", method="seft", base=str(tiny_model), data=str(pairs), settings=settings)
    run = pipeline.train(recipe, tmp_path / "run", checkpoints=1)
    assert [name.rpartition("-")[0] for name in run.manifest["stages"]] == [
        *("preliminary-reviser", "labels", "reviser", "drafts-1", "calibration-drafts-1", "calibration-1"),
        *("revised-1", "policy-1"),
    ]
    for stage, model in (("policy-1", ready), ("reviser", tiny_model)):
        [record] = run.folder.glob(f"stages/{stage}-*/stage.json")
        assert read_json(record)["identity"]["inputs"]["model"] == checkpoints.fingerprint(model)


# Runs, and chat templates


def test_a_run_named_by_its_folder_is_its_last_checkpoint(
    pairs: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = dpo(pairs, tmp_path / "first", str(tiny_model), policy={"max_steps": 2, "device": "cpu"})
    capsys.readouterr()
    by_run = dpo(pairs, tmp_path / "by-run", str(first.folder))
    said = f"init {first.folder} is a run: the policy starts at its last checkpoint, step-000002"
    assert said in capsys.readouterr().err
    by_checkpoint = dpo(pairs, tmp_path / "by-checkpoint", str(first.folder / "checkpoints" / "step-000002"))
    assert by_run.manifest["stages"] == by_checkpoint.manifest["stages"]
    assert dpo(pairs, tmp_path / "by-run", str(first.folder)).manifest == by_run.manifest
    shutil.rmtree(first.folder)
    dpo(pairs, first.folder, str(tiny_model), policy={"max_steps": 1, "device": "cpu"})
    with pytest.raises(InputError, match=r"holds a run whose model/.* held something else"):
        dpo(pairs, tmp_path / "by-run", str(first.folder))


def test_a_folder_of_several_models_or_of_none_is_refused(pairs: Path, tiny_model: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(tiny_model, tmp_path / "several" / name)
    with pytest.raises(InputError, match=r"init '.*several' holds several models: a, b. Name one of them"):
        dpo(pairs, tmp_path / "run", str(tmp_path / "several"))
    (tmp_path / "none" / "checkpoints").mkdir(parents=True)
    with pytest.raises(InputError, match=r"init '.*none' is no checkpoint: .* a checkpoint folder, a run, or a hub id"):
        dpo(pairs, tmp_path / "run", str(tmp_path / "none"))


TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}<|assistant|>"


@pytest.mark.parametrize("kind", ["a whole model", "an adapter without a tokenizer"])
def test_a_recipes_chat_template_is_of_ready_models_too(
    kind: str, pairs: Path, tiny_model: Path, tmp_path: Path
) -> None:
    ready, lora = tiny_model, {"lora": {"rank": 2}} if kind != "a whole model" else {}
    if lora:
        ready = dpo(pairs, tmp_path / "first", str(tiny_model), training=lora).checkpoints[-1]
        for file in [*ready.glob("tokenizer*"), *ready.glob("*.jinja")]:
            file.unlink()
    recipe = RecipeConfig(
        name="run",
        method="dpo",
        base=UNREACHABLE,
        data=str(pairs),
        chat_template=TEMPLATE,
        settings={"init": str(ready), "policy": ONE_STEP, "training": lora},
    )
    [plan] = pipeline.dry_run(recipe, checkpoints=1, probe=False)
    run = pipeline.train(recipe, tmp_path / "run", checkpoints=1)
    assert load_tokenizer(run.checkpoints[-1]).chat_template == TEMPLATE
    [row] = read_jsonl(run.folder / "train.jsonl")
    assert row["loss"] == pytest.approx(0.693147, abs=1e-6)
    plain = dpo(pairs, tmp_path / "plain", str(ready), training=lora)
    assert run.manifest["stages"] != plain.manifest["stages"]
    assert plan.tokens == run.manifest["cost"]["tokens_trained"] != plain.manifest["cost"]["tokens_trained"]
