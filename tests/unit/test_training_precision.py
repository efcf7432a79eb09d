"""Policy and reference compute the same function: DPO starts at log 2 on every architecture and in every precision."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from seft_bench.config import validate
from seft_bench.errors import InputError
from tests.tiny_architectures import ARCHITECTURES, make_tiny_architecture
from training.loop import TrainJob, TrainSettings, train
from training.precision import prepare_model, silence_dropout

PRECISIONS = ("float32", "mixed", "bfloat16")
MakeModel = Callable[[str], Path]


@pytest.fixture(scope="module")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> MakeModel:
    """Save a tiny random model of an architecture, with the tests' tokenizer and dropout in its config."""
    return lambda architecture: make_tiny_architecture(tmp_path_factory.mktemp(architecture), architecture)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of very different lengths, so that a length-sorted batch and a shuffled one differ in shape."""
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    rows = [
        {
            "prompt": [{"role": "user", "content": f"What is {number}{' please' * (number % 5)}?"}],
            "chosen": f"It is {number}" + " so" * (7 * number % 40),
            "rejected": "The lazy dog" + " jumps" * (5 * number % 30),
        }
        for number in range(10)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def settings(**changes: Any) -> TrainSettings:
    given = {"learning_rate": 1e-3, "max_steps": 1, "global_batch_size": 7, "micro_batch_size": 3, "device": "cpu"}
    return validate({**given, **changes}, TrainSettings, "training settings")


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_dpo_starts_at_log_2_without_a_preference(
    architecture: str, make_model: MakeModel, pairs: Path, tmp_path: Path
) -> None:
    """Dropout in the config, padding of several widths, a last micro-batch that is smaller."""
    model = make_model(architecture)
    for precision in PRECISIONS:
        train(model, pairs, tmp_path / precision, TrainJob(settings(precision=precision), "dpo"))
        (row,) = rows(tmp_path / precision)
        assert row["loss"] == pytest.approx(math.log(2), abs=1e-6), precision
        assert row["reward_margin"] == 0
        assert row["reward_accuracy"] == pytest.approx(0.5)  # no pair is told apart yet


def test_with_dropout_the_policy_is_not_its_reference(make_model: MakeModel, pairs: Path, tmp_path: Path) -> None:
    train(make_model("gpt2"), pairs, tmp_path / "run", TrainJob(settings(dropout=True), "dpo"))
    assert abs(rows(tmp_path / "run")[0]["loss"] - math.log(2)) > 1e-3


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_a_silenced_model_in_training_computes_what_it_computes_in_evaluation(
    architecture: str, make_model: MakeModel
) -> None:
    from training.checkpoint import load_model

    model, ids = load_model(make_model(architecture)), torch.tensor([[5, 6, 7, 8, 9, 10]])
    before = model.config.to_dict()
    expected = model.eval()(input_ids=ids).logits
    silence_dropout(model)
    torch.manual_seed(1)
    torch.testing.assert_close(model.train()(input_ids=ids).logits, expected, rtol=0, atol=0)
    assert model.config.to_dict() == before


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2", "opt"])
def test_gradient_checkpointing_changes_nothing_but_memory(
    architecture: str, make_model: MakeModel, pairs: Path, tmp_path: Path
) -> None:
    model = make_model(architecture)
    for checkpointing in (False, True):
        job = TrainJob(settings(gradient_checkpointing=checkpointing, max_steps=2), "dpo")
        train(model, pairs, tmp_path / str(checkpointing), job)
    plain, checkpointed = (tmp_path / str(value) for value in (False, True))
    assert rows(plain) == rows(checkpointed)
    weights = [folder / "checkpoints" / "step-000002" / "model.safetensors" for folder in (plain, checkpointed)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_gradient_checkpointing_recomputes_the_layers(make_model: MakeModel) -> None:
    from training.checkpoint import load_model

    model = prepare_model(load_model(make_model("llama")), settings(gradient_checkpointing=True)).train()
    calls: list[str] = []
    model.model.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append("computed"))
    logits = model(input_ids=torch.tensor([[5, 6, 7]]), use_cache=False).logits
    assert calls == ["computed"]
    logits.sum().backward()
    assert calls == ["computed", "computed"]


def test_an_attention_that_cannot_be_had_is_refused_with_what_to_do(make_model: MakeModel) -> None:
    from training.checkpoint import load_model

    with pytest.raises(InputError, match="flash_attention_2 cannot be used with LlamaForCausalLM here"):
        prepare_model(load_model(make_model("llama")), settings(attention="flash_attention_2", precision="mixed"))
    with pytest.raises(InputError, match="computes in bfloat16: give precision"):
        settings(attention="flash_attention_2")


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_by_name(attention: str, make_model: MakeModel, pairs: Path, tmp_path: Path) -> None:
    from training.checkpoint import load_model

    model = make_model("llama")
    assert prepare_model(load_model(model), settings(attention=attention)).config._attn_implementation == attention
    for name in ("auto", attention):
        train(model, pairs, tmp_path / name, TrainJob(settings(attention=name), "orpo"))
    auto, named = rows(tmp_path / "auto"), rows(tmp_path / attention)
    assert named[0] == pytest.approx(auto[0], rel=1e-4)
