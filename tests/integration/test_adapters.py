"""LoRA from training to figures: runs whose checkpoints are adapters, evaluated, checked, merged by their folders."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from seft_bench import checkpoints, pipeline, subjects
from seft_bench.chat import load_tokenizer
from seft_bench.checkpoints.steps import last_checkpoint
from seft_bench.checkpoints.whole import WholeModels
from seft_bench.config import RecipeConfig
from seft_bench.files import read_json, write_jsonl
from seft_bench.stages import runs
from tests.integration.cli import good, seft_bench

LORA: dict[str, Any] = {"rank": 4, "alpha": 8}


def recipe(method: str, **settings: Any) -> RecipeConfig:
    return RecipeConfig(name="run", method=method, base="tinyworld", seed=0, settings=settings)


@pytest.fixture(scope="module")
def dpo_run(tmp_path_factory: pytest.TempPathFactory) -> runs.TrainedRun:
    """DPO with LoRA, on a start that was made with the same LoRA."""
    settings = recipe("dpo", training={"lora": LORA}, start={"max_steps": 2}, policy={"max_steps": 2})
    return pipeline.train(settings, tmp_path_factory.mktemp("lora") / "run")


def test_a_policy_goes_on_with_the_starts_adapter_over_the_same_base(dpo_run: runs.TrainedRun) -> None:
    for folder in dpo_run.checkpoints:
        assert checkpoints.is_adapter(folder)
        assert checkpoints.base_of(folder).parts[-2:] == ("tinyworld", "base")
    assert not list(dpo_run.folder.rglob("merged-base"))
    assert not list(dpo_run.folder.rglob("model.safetensors"))


def test_seft_runs_on_adapters_from_its_reviser_to_its_last_round(tiny_model: Path, tmp_path: Path) -> None:
    """Drafts, likelihoods and revisions come from adapters; rounds go on with the adapter of the one before."""
    stages = {name: {"max_steps": 2} for name in ("start", "preliminary", "reviser", "policy")}
    settings: dict[str, Any] = {"prompts": 8, "drafts": {"max_new_tokens": 6}, "training": {"lora": LORA}, **stages}
    prompts = [[{"role": "user", "content": f"What is {number}?"}] for number in range(16)]
    rows = [{"prompt": prompt, "chosen": f"It is {n}.", "rejected": "The dog."} for n, prompt in enumerate(prompts)]
    for name in ("preferences", "calibration", "prompts"):
        write_jsonl(tmp_path / "data" / f"{name}.jsonl", rows)
    write_jsonl(tmp_path / "data" / "sft.jsonl", [{"prompt": row["prompt"], "answer": row["chosen"]} for row in rows])
    small = recipe("seft", **settings).model_copy(update={"base": str(tiny_model), "data": str(tmp_path / "data")})
    run = pipeline.train(small, tmp_path / "run", checkpoints=1)
    trained = [path.parent for path in run.folder.glob("stages/*/checkpoints/*/adapter_config.json")]
    assert {folder.parent.parent.name.rpartition("-")[0] for folder in trained} == {
        *("start", "preliminary-reviser", "reviser", "policy-1", "policy-2")
    }
    assert len(trained) == 5
    assert not list(run.folder.rglob("model.safetensors"))


def test_model_arguments_take_adapters_and_runs_of_them(dpo_run: runs.TrainedRun) -> None:
    found = subjects.find_subjects(str(dpo_run.folder))
    assert [subject.model_id for subject in found] == ["run/step-000001", "run/step-000002"]
    assert [subject.run and subject.run.step for subject in found] == [1, 2]
    [alone] = subjects.find_subjects(str(dpo_run.checkpoints[-1]))
    assert alone.fingerprint == found[1].fingerprint != found[0].fingerprint
    assert last_checkpoint(dpo_run.folder) == dpo_run.checkpoints[-1]


def test_an_adapter_is_evaluated_merged_and_evaluated_again_to_the_same_answers(
    dpo_run: runs.TrainedRun, desk: Path
) -> None:
    adapter = dpo_run.checkpoints[-1]
    merged = good(seft_bench("export", str(dpo_run.folder), "--merge", "--out", "whole"))
    assert (merged.out, merged.err) == ("whole\n", "")
    rounded = good(seft_bench("export", str(dpo_run.folder), "--merge", "--out", "rounded", "--dtype", "bfloat16"))
    assert "merged in bfloat16, rounded keeps " in rounded.err
    assert load_tokenizer(desk / "whole").chat_template == load_tokenizer(adapter).chat_template
    for model in (str(adapter), "whole"):
        good(seft_bench("eval", model, "--suite", "tiny-mtbench"))
    answers = [path.read_text() for path in sorted(desk.glob("runs/evaluations/*/tiny-mtbench/greedy/answers.jsonl"))]
    assert len(answers) == 2
    texts = [[line.partition('"turns"')[2].partition("]")[0] for line in text.splitlines()] for text in answers]
    assert sorted(texts[0]) == sorted(texts[1])
    checked = seft_bench("check", "whole", "--against", str(adapter))
    assert checked.status in (0, 4), checked.err  # equal answers: no regression, whether or not 2 % can be excluded


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["whole-model", "--merge", "--out", "x"], "is a whole model already"),
        (["nothing", "--merge", "--out", "x"], "no adapter in 'nothing'"),
        (["--merge", "--out", "x"], "--merge takes one MODEL"),
        (["adapter", "--merge", "--out", "x", "--suite", "mtbench"], "--merge takes one MODEL"),
        (["adapter", "--merge", "--out", "x", "--dtype", "int8"], "unknown number format 'int8'"),
        (["adapter", "--out", "x", "--dtype", "float32"], "--dtype is the number format of a model that --merge"),
        (["adapter", "--out", "x"], "export needs --format and --suite; or --merge"),
        (["adapter", "--merge", "--out", "whole-model"], "holds something else than adapter"),
    ],
)
def test_wrong_merges_say_what_to_do(
    arguments: list[str], message: str, dpo_run: runs.TrainedRun, tiny_model: Path, desk: Path
) -> None:
    shutil.copytree(tiny_model, desk / "whole-model")
    shutil.copytree(dpo_run.checkpoints[-1], desk / "adapter")
    assert message in " ".join(good(seft_bench("export", *arguments), 2).err.split())


def test_engines_that_take_whole_models_are_given_one_for_as_long_as_they_run(
    dpo_run: runs.TrainedRun, tiny_model: Path, tmp_path: Path
) -> None:
    whole = WholeModels(tmp_path / "runs")
    assert whole.of(tiny_model) == tiny_model
    assert not (tmp_path / "runs").exists()
    folder = whole.of(dpo_run.checkpoints[-1])
    assert read_json(folder / "config.json")["architectures"]
    assert whole.of(dpo_run.checkpoints[-1]) == folder
    whole.close()
    assert not list((tmp_path / "runs").iterdir())


def test_a_judge_that_is_an_adapter_is_sent_to_export(dpo_run: runs.TrainedRun, desk: Path) -> None:
    (desk / "judge.yaml").write_text(f"kind: transformers\nname: mine\nmodel: {dpo_run.checkpoints[-1]}\n")
    seen = good(seft_bench("eval", "control:constant", "--suite", "tiny-mtbench", "--judge", "judge.yaml"), 2)
    assert "is an adapter, and a whole model is needed: `seft-bench export" in " ".join(seen.err.split())
