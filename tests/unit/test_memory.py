"""The estimate of a training's memory by hand and against what is kept, and whether 7B fits a GPU of 80 GB."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from seft_bench.stages import fitting
from seft_bench.stages.fitting import GIGABYTE, Batch, fits, verdict
from training.checkpoint import load_model
from training.memory import LOGIT_BYTES, estimate_memory
from training.probe import count_parameters, shape_of
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


def test_weights_gradients_and_optimizer_by_hand(mistral: Any) -> None:
    """float32: 4 + 4 + 8 bytes a parameter; mixed: 2 more for the copy of autocast; LoRA: float32 adapters only."""
    whole = estimate_memory(mistral, BILLIONS, settings(), 1, 64)
    assert (whole.weights, whole.gradients, whole.optimizer) == (4 * BILLIONS, 4 * BILLIONS, 8 * BILLIONS)
    assert estimate_memory(mistral, BILLIONS, settings(precision="mixed"), 1, 64).weights == 6 * BILLIONS
    adapters = estimate_memory(mistral, 1000, settings(lora=LoraSettings()), 1, 64)
    assert (adapters.weights, adapters.gradients, adapters.optimizer) == (4 * BILLIONS + 4000, 4000, 8000)


def test_bfloat16_takes_ten_bytes_a_parameter(mistral: Any) -> None:
    found = estimate_memory(mistral, BILLIONS, settings(precision="bfloat16"), 1, 64)
    assert found.weights + found.gradients + found.optimizer == 10 * BILLIONS


def test_activations_are_what_a_real_forward_keeps(tiny_model: Path) -> None:
    """Bytes that the real model's forward saves for its gradient, eager attention's squares left out."""
    model, sequences, tokens = load_model(tiny_model), 3, 40
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
        model.get_decoder()(input_ids=torch.zeros(sequences, tokens, dtype=torch.int64), use_cache=False)
    parameters = list(model.parameters())
    found = estimate_memory(shape_of(tiny_model), 1, settings(), sequences, tokens)
    logits = LOGIT_BYTES * sequences * tokens * model.config.vocab_size
    largest = 4 * max(parameter.numel() for parameter in parameters)
    assert found.activations - logits - largest == pytest.approx(sum(seen.values()), rel=0.15)


def test_checkpointing_keeps_the_inputs_of_layers_and_one_layer(mistral: Any) -> None:
    """32 layers x 2,048 tokens x 4,096 x 4 bytes of inputs, and a thirty-second of what all layers keep."""
    whole = estimate_memory(mistral, BILLIONS, settings(), 1, 2048)
    checkpointed = estimate_memory(mistral, BILLIONS, settings(gradient_checkpointing=True), 1, 2048)
    rest = LOGIT_BYTES * 2048 * 32000 + 4 * 32000 * 4096
    layers = whole.activations - rest
    assert checkpointed.activations - rest == 32 * 2048 * 4096 * 4 + layers // 32
    assert layers > 8 * (checkpointed.activations - rest)


def test_7b_in_80_gb(mistral: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full bfloat16 fits with gradient checkpointing: 10 bytes a parameter are 67.4 GB."""
    monkeypatch.setattr(fitting, "offered_precisions", lambda: ("float32", "mixed", "bfloat16"))
    gpu, batch = 80 * GIGABYTE, Batch(1, 2048)
    right = settings(precision="bfloat16", gradient_checkpointing=True, micro_batch_size=1)
    assert verdict(mistral, right, batch, gpu) == "fits 80 GB"
    assert 68 < estimate_memory(mistral, BILLIONS, right, 1, 2048).peak / GIGABYTE < 73
    mixed = settings(precision="mixed")
    said = verdict(mistral, mixed, Batch(8, 2048), gpu)
    assert said.startswith("needs ")
    assert "more than 80 GB; fits with precision: bfloat16, gradient_checkpointing: true, micro_batch_size: 1 (" in said
    assert ", or with sharding: fsdp over 2 GPUs, gradient_checkpointing: true (" in said
    assert "lora: {rank: 16}" in verdict(mistral, mixed, Batch(8, 2048), 24 * GIGABYTE)
    assert "sharding: fsdp over 8 GPUs" in verdict(mistral, mixed, Batch(1, 64), 24 * GIGABYTE)
    assert verdict(mistral, mixed, Batch(8, 2048), 2 * GIGABYTE).endswith("whatever the settings")


def test_only_precisions_that_settings_offer_are_named(mistral: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(fitting.offered_precisions()) >= {"float32", "mixed"}
    monkeypatch.setattr(fitting, "offered_precisions", lambda: ("float32", "mixed"))
    said = verdict(mistral, settings(precision="mixed"), Batch(8, 2048), 80 * GIGABYTE)
    assert (
        "; fits with precision: float32, gradient_checkpointing: true, micro_batch_size: 1, lora: {rank: 16} (" in said
    )


def test_some_memory_is_left_free(mistral: Any) -> None:
    found = estimate_memory(mistral, BILLIONS, settings(precision="bfloat16", gradient_checkpointing=True), 1, 2048)
    assert not fits(found, found.peak + GIGABYTE)
    assert fits(found, round(1.05 * found.peak) + GIGABYTE + 1)
    assert count_parameters(mistral, None).total == BILLIONS
