"""The estimate of a training's memory by hand and against what is kept, and whether 7B fits a GPU of 80 GB."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from seft_bench.stages import fitting
from seft_bench.stages.fitting import GIGABYTE, Batch, fits, verdict
from tests.benchmark_scripts import load_script
from training.checkpoint import load_model
from training.memory import estimate_memory
from training.optimizers import build_optimizer
from training.precision import weights_dtype
from training.probe import count_parameters, shape_of
from training.rehearsal import rehearse
from training.settings import LoraSettings, TrainSettings

BILLIONS = 7_241_732_096


@pytest.fixture(scope="module")
def mistral(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("mistral")
    shape = {
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    }
    (folder / "config.json").write_text(json.dumps(shape))
    return shape_of(folder)


def settings(**given: Any) -> TrainSettings:
    return TrainSettings(learning_rate=1e-5, epochs=1, micro_batch_size=8).model_copy(update=given)


def test_weights_gradients_and_optimizer_by_hand(tiny_model: Path) -> None:
    """float32: 4 + 4 + 8 bytes a parameter; bfloat16: 2 + 2 + 6; LoRA: a frozen base, and float32 adapters."""
    shape = shape_of(tiny_model)
    total = count_parameters(shape, None).total
    whole, split = (estimate_memory(shape, settings(precision=name), 1, 64) for name in ("float32", "bfloat16"))
    assert (whole.weights, whole.gradients, whole.optimizer) == (4 * total, 4 * total, 8 * total)
    assert (split.weights, split.gradients, split.optimizer) == (2 * total, 2 * total, 6 * total)
    lora = LoraSettings()
    adapter = count_parameters(shape, lora).trained
    adapted = estimate_memory(shape, settings(precision="bfloat16", lora=lora), 1, 64)
    assert (adapted.weights, adapted.gradients) == (2 * total + 4 * adapter, 4 * adapter)
    assert adapted.optimizer == 8 * adapter


@pytest.mark.parametrize("precision", ["float32", "mixed", "bfloat16"])
def test_the_optimizer_holds_what_is_counted(precision: str, tiny_model: Path) -> None:
    given = settings(precision=precision)
    model = load_model(tiny_model, weights_dtype(given))
    optimizer = build_optimizer(dict(model.named_parameters()), given)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    held = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor)]
    found = sum(tensor.nbytes for tensor in held if tensor.dim())
    assert found == estimate_memory(shape_of(tiny_model), given, 1, 64).optimizer


def test_activations_are_what_a_real_forward_keeps(tiny_model: Path) -> None:
    """Bytes that the real model's forward saves for its gradient, and those of logits and their gradient."""
    model, sequences, tokens = load_model(tiny_model), 3, 41
    seen: dict[int, int] = {}
    own = {parameter.data_ptr() for parameter in model.parameters()}
    alive = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own and tensor.is_floating_point():
            alive.append(storage)
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.get_decoder()(input_ids=torch.zeros(sequences, tokens - 1, dtype=torch.int64), use_cache=False)
    found = estimate_memory(shape_of(tiny_model), settings(), sequences, tokens)
    logits = sequences * (tokens - 1) * model.config.vocab_size
    assert found.activations - 4 * 3 * logits == pytest.approx(sum(seen.values()), rel=0.15)


def test_gradients_are_all_there_where_a_step_has_several_micro_batches(tiny_model: Path) -> None:
    shape = shape_of(tiny_model)
    one, several = (estimate_memory(shape, settings(global_batch_size=size), 8, 64) for size in (8, 16))
    assert several.together == several.gradients + several.activations
    assert one.activations <= one.together < several.together


def test_only_labelled_tokens_and_only_a_chunk_of_them_have_logits(tiny_model: Path) -> None:
    """12 bytes a logit: its log-softmax, and the gradients of both, in float32."""
    shape = shape_of(tiny_model)
    few, all_of_them = (estimate_memory(shape, settings(), 8, 401, labelled) for labelled in (200, None))
    per_token = 4 * 3 * 320 + 4 * 32  # the chosen hidden states are a copy
    assert all_of_them.activations - few.activations == pytest.approx(8 * 200 * per_token, rel=0.05)
    found = [
        rehearse(shape.config, settings(), (8, 401), 3200, most_logits).activations for most_logits in (1 << 20, 32_000)
    ]
    assert found[0] - found[1] == pytest.approx(4 * 3 * (3200 - 100) * 320, rel=0.1)  # 100 rows of 320 at a time


def test_packed_rows_have_a_mask_but_for_kernels_that_need_none(mistral: Any) -> None:
    """8 sequences of 512 in one row: of each of 32 layers a mask of 4,088 x 4,088 in bfloat16, and one of bytes."""
    given = {"precision": "bfloat16", "padding_free": True}
    flash, masked = (estimate_memory(mistral, settings(attention=name, **given), 8, 512, 1) for name in FLASH_OR_NOT)
    padded = estimate_memory(mistral, settings(precision="bfloat16"), 8, 512, 1)
    assert flash.activations == pytest.approx(padded.activations, rel=0.01)
    assert masked.activations - flash.activations == pytest.approx(4088**2 * (2 * 32 + 1), rel=0.01)


FLASH_OR_NOT = ("flash_attention_2", "auto")


def test_7b_by_hand(mistral: Any) -> None:
    """One sequence of 2,048 tokens in bfloat16 with checkpointing: 10 bytes a parameter are 67.4 GB, and 1.3 GB beside.

    The most is alive where logits get their gradients: the inputs of 32 layers in bfloat16; of the last norm its input,
    a float32 copy and its output; and three float32 tensors of all logits, for 65 million are made at once.
    """
    right = settings(precision="bfloat16", gradient_checkpointing=True, micro_batch_size=1, device="cuda")
    found = estimate_memory(mistral, right, 1, 2048)
    assert found.weights + found.gradients + found.optimizer == 10 * BILLIONS
    rows = 2047
    by_hand = rows * 4096 * (32 * 2 + 2 + 4 + 2) + rows * 32000 * 3 * 4
    assert found.activations == pytest.approx(by_hand, rel=0.01)
    assert found.peak == pytest.approx(10 * BILLIONS + by_hand, rel=0.001)
    assert 68.5 * GIGABYTE < found.peak < 69 * GIGABYTE


@pytest.mark.slow
def test_7b_in_80_gb(mistral: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full bfloat16 fits with gradient checkpointing: 10 bytes a parameter are 67.4 GB.

    Over several GPUs, what autocast copies of the weights counts whole on each, which is the most that it can be.
    """
    monkeypatch.setattr(fitting, "offered_precisions", lambda: ("float32", "mixed", "bfloat16"))
    gpu, batch = 80 * GIGABYTE, Batch(1, 2048)
    right = settings(precision="bfloat16", gradient_checkpointing=True, micro_batch_size=1)
    assert verdict(mistral, right, batch, gpu) == "fits 80 GB"
    mixed = settings(precision="mixed")
    said = verdict(mistral, mixed, Batch(8, 2048), gpu)
    assert said.startswith("needs ")
    assert "more than 80 GB; fits with precision: bfloat16, gradient_checkpointing: true, micro_batch_size: 1 (" in said
    assert ", or with sharding: fsdp over 4 GPUs, gradient_checkpointing: true (" in said
    assert "lora: {rank: 16}" in verdict(mistral, mixed, Batch(8, 2048), 24 * GIGABYTE)
    assert "sharding: fsdp over 16 GPUs" in verdict(mistral, mixed, Batch(1, 64), 24 * GIGABYTE)
    assert verdict(mistral, mixed, Batch(8, 2048), 2 * GIGABYTE).endswith("whatever the settings")


@pytest.mark.slow
def test_only_precisions_that_settings_offer_are_named(mistral: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(fitting.offered_precisions()) >= {"float32", "mixed"}
    monkeypatch.setattr(fitting, "offered_precisions", lambda: ("float32", "mixed"))
    said = verdict(mistral, settings(precision="mixed"), Batch(8, 2048), 80 * GIGABYTE)
    assert (
        "; fits with precision: float32, gradient_checkpointing: true, micro_batch_size: 1, lora: {rank: 16} (" in said
    )


def test_some_memory_is_left_free(mistral: Any) -> None:
    found = estimate_memory(mistral, settings(precision="bfloat16", gradient_checkpointing=True), 1, 2048)
    assert not fits(found, found.peak + GIGABYTE)
    assert fits(found, round(1.05 * found.peak) + GIGABYTE + 1)
    assert count_parameters(mistral, None).total == BILLIONS


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", ["float32, accumulation", "small LoRA bfloat16, checkpointing", "DPO, bfloat16", "padding-free"]
)
def test_the_estimate_is_what_trainings_take(case: str) -> None:
    """Within 5 % of what torch allocates, and within 15 % of what the process grows, or 64 MB that libraries take."""
    found = load_script("memory_estimate").compare(case)
    assert found["estimate"] == pytest.approx(found["allocated"], rel=0.05)
    assert found["estimate"] == pytest.approx(found["process"], rel=0.15, abs=64)
