"""`train --dry-run`: what each stage would take, against what it then takes, and for models without weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from seft_bench import pipeline
from seft_bench.chat import load_tokenizer
from seft_bench.config import RecipeConfig
from seft_bench.errors import InputError
from seft_bench.files import read_json, write_jsonl
from seft_bench.stages.dry_run import StagePlan
from seft_bench.stages.dry_run_table import plans_row, plans_text
from seft_bench.stages.fitting import GIGABYTE
from seft_bench.stages.stand_ins import text_of_tokens
from training.checkpoint import load_model
from training.memory import Memory
from training.probe import Parameters, count_parameters, shape_of
from training.settings import LoraSettings

MISTRAL_7B = {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": False,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    prompts = [[{"role": "user", "content": f"What is {number}?"}] for number in range(12)]
    write_jsonl(folder / "sft.jsonl", [{"prompt": prompt, "answer": "It is."} for prompt in prompts])
    pairs = [{"prompt": prompt, "chosen": "It is so.", "rejected": "No."} for prompt in prompts]
    write_jsonl(folder / "preferences.jsonl", pairs)
    write_jsonl(folder / "calibration.jsonl", pairs[:4])
    write_jsonl(folder / "prompts.jsonl", [{"prompt": prompt} for prompt in prompts])
    return folder


def recipe(base: Path, data: Path, method: str, **settings: Any) -> RecipeConfig:
    training = {"global_batch_size": 4, "micro_batch_size": 4, "device": "cpu", "report_to": []}
    given = {"training": {**training, **settings.pop("training", {})}, **settings}
    return RecipeConfig(name="run", method=method, base=str(base), data=str(data), settings=given)


def planned(*arguments: Any, **settings: Any) -> dict[str, StagePlan]:
    return {plan.name: plan for plan in pipeline.dry_run(recipe(*arguments, **settings), probe=False)}


# --- against what is then made


def test_what_was_planned_is_what_is_trained(tiny_model: Path, data: Path, tmp_path: Path) -> None:
    """Two epochs of SFT, a third of its questions held out, then DPO by steps."""
    asked = recipe(
        tiny_model,
        data,
        "dpo",
        start={"epochs": 2, "validation": {"rows": 4}},
        policy={"max_steps": 3},
    )
    plans = pipeline.dry_run(asked)
    run = pipeline.train(asked, tmp_path / "run")
    for plan, folder in zip(plans, run.manifest["stages"], strict=True):
        summary = read_json(tmp_path / "run" / "stages" / folder / "summary.json")
        assert (plan.rows, plan.steps, plan.tokens) == (summary["data"]["used"], summary["steps"], summary["tokens"])
        assert plan.parameters is not None
        assert plan.parameters.total == sum(weight.numel() for weight in load_model(tiny_model).parameters())
        assert plan.tokens_per_second is not None
        assert plan.hours == pytest.approx(plan.tokens / plan.tokens_per_second / 3600)
        assert not plan.is_estimate


def test_nothing_is_left_of_it(tiny_model: Path, data: Path, desk: Path) -> None:
    planned(tiny_model, data, "sft")
    assert list(desk.iterdir()) == []


def test_later_stages_count_stand_ins_of_what_earlier_ones_would_make(tiny_model: Path, data: Path) -> None:
    """12 pairs, copies of half of them; of 12 prompts 6 a round: one samples 3 each, one drafts and calibrates."""
    plans = planned(
        tiny_model,
        data,
        "seft",
        copies_share=0.5,
        internal_samples=3,
        drafts={"max_new_tokens": 10},
        policy={"max_steps": 4, "epochs": None},
    )
    assert {name: plan.rows for name, plan in plans.items()} == {
        "start": 12,
        "preliminary-reviser": 12,
        "labels": 12,
        "reviser": 18,
        "drafts-1": 18,
        "revised-1": 6,
        "policy-1": 6,
        "drafts-2": 6,
        "calibration-drafts-2": 4,
        "calibration-2": 4,
        "revised-2": 6,
        "policy-2": 6,
    }
    assert (plans["drafts-1"].tokens, plans["drafts-2"].tokens) == (180, 60)
    assert {name for name, plan in plans.items() if plan.is_estimate} >= {"reviser", "drafts-1", "policy-1", "policy-2"}
    assert not plans["start"].is_estimate
    # Two steps a round over batches of 4 and 2: all 6 rows once, prompts of 10 to 20 tokens and answers of 10.
    assert 6 * 15 < plans["policy-1"].tokens < 6 * 35


def test_a_stand_in_has_as_many_tokens_as_it_stands_for(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    for tokens in (5, 64):
        found = len(tokenizer(text_of_tokens(tokens, tokenizer), add_special_tokens=False)["input_ids"])
        assert abs(found - tokens) <= 2
    assert len(text_of_tokens(7, None).split()) == 7


def test_what_a_training_would_refuse_is_refused(tiny_model: Path, data: Path) -> None:
    with pytest.raises(InputError, match="warmup_steps do not fit into the run's 3 steps"):
        planned(tiny_model, data, "sft", start={"epochs": 1, "warmup_steps": 5})


# --- parameters, and models that are nothing but a shape


def test_a_model_whose_memory_cannot_be_rehearsed_is_a_note(
    tiny_model: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("Tensor.item() cannot be called on meta tensors")

    monkeypatch.setattr("training.memory.estimate_memory", refuse)
    plan = planned(tiny_model, data, "sft")["start"]
    assert (plan.memory, plan.steps) == (None, 9)
    assert plan.notes == (
        "start: memory cannot be estimated for LlamaForCausalLM (Tensor.item() cannot be called on meta tensors)",
    )


def test_parameters_of_mistral_7b_by_its_config_alone(data: Path, tmp_path: Path) -> None:
    """7,241,732,096 as published; LoRA of rank 16 over all linear layers, by hand.

    A layer: q and o 16 (4096 + 4096), k and v 16 (4096 + 1024), gate, up and down 16 (4096 + 14336): 1,310,720.
    """
    (tmp_path / "config.json").write_text(json.dumps(MISTRAL_7B))
    model = shape_of(tmp_path)
    assert count_parameters(model, None) == Parameters(7_241_732_096, 7_241_732_096)
    assert count_parameters(model, LoraSettings(rank=16)).trained == 32 * 1_310_720
    narrow = LoraSettings(rank=8, target_modules=["q_proj"])
    assert count_parameters(model, narrow).trained == 32 * 8 * (4096 + 4096)
    plans = planned(tmp_path, data, "sft", start={"max_steps": 10, "max_length": 2048})
    assert plans["start"].tokens == 10 * 4 * 2048
    text = plans_text(list(plans.values()))
    assert "7.24B" in text
    assert "has no tokenizer, so each sequence counts as max_length tokens" in text
    assert "no time was probed" in text


def test_lora_counts_as_peft_does(tiny_model: Path) -> None:
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(
        load_model(tiny_model), LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    counted = count_parameters(shape_of(tiny_model), LoraSettings(rank=4))
    assert counted.trained == adapted.get_nb_trainable_parameters()[0]


# --- for people and programs


def test_the_table_and_its_json() -> None:
    parameters = Parameters(135_000_000, 5_000_000)
    memory = Memory(2 * GIGABYTE, GIGABYTE, GIGABYTE // 2, GIGABYTE // 4, 5 * GIGABYTE // 4)
    plans = [
        StagePlan("start", "train", 300, 36_000_000, False, 57, parameters, memory, "fits 80 GB", 2_500.0),
        StagePlan("drafts", "sample", 1200, 76_800, True, notes=("a note",)),
        StagePlan("policy", "train", 1200, 90_000, True, 75, parameters, notes=("a note",)),
    ]
    lines = plans_text(plans).splitlines()
    assert lines[0].split() == "stage rows tokens steps parameters trained peak GB tokens/s hours".split()
    assert lines[1].split() == ["start", "300", "36,000,000", "57", "135M", "5M", "3.75", "2,500", "4"]
    assert lines[3].split() == ["policy", "~1,200", "~90,000", "75", "135M", "5M"]
    assert lines[4:6] == ["start: fits 80 GB", "a note"]
    assert lines[-1] == "about 4 hours of training, of the stages probed"
    row = plans_row(plans)
    assert row["hours"] == 4.0
    assert json.loads(json.dumps(row))["stages"][0]["parameters"] == {"total": 135_000_000, "trained": 5_000_000}
    assert [stage["hours"] for stage in row["stages"]] == [4.0, None, None]


def test_drawn_answers_count_as_long_as_they_may_become(tiny_model: Path, data: Path) -> None:
    """Two steps of 8 answers: 4 samples of 2 prompts, each a prompt and 5 tokens more."""
    given = {"init": "base", "samples": 4, "drafts": {"max_new_tokens": 5}, "policy": {"max_steps": 2}}
    found = planned(tiny_model, data, "grpo", training={"global_batch_size": 8}, **given)["grpo"]
    prompts = [json.loads(line)["prompt"] for line in (data / "prompts.jsonl").read_text().splitlines()]
    tokenizer = load_tokenizer(tiny_model)
    lengths = [
        len(tokenizer.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"]) for prompt in prompts
    ]
    assert (found.rows, found.steps) == (12, 2)
    assert found.tokens == pytest.approx(2 * 8 * (sum(lengths) / 12 + 5), abs=1)
    assert "drawn" in found.notes[-1]
