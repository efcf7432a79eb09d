"""Every weight of a model comes from its files: nothing is drawn at random or left out without a word."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from seft_bench.checkpoints.weights import positions_of
from seft_bench.errors import InputError
from seft_bench.generators.transformers import load_causal_lm
from tests.tiny_model import make_tiny_model
from training.checkpoint import load_model, load_or_initialise
from training.loop import train
from training.settings import TrainJob, TrainSettings

NORM, MATRIX = "model.norm.weight", "model.layers.1.mlp.up_proj.weight"
Weights = dict[str, torch.Tensor]


def _without(weights: Weights) -> None:
    del weights[NORM], weights[MATRIX]


def _with_more(weights: Weights) -> None:
    weights["model.layers.2.mlp.up_proj.weight"] = weights[MATRIX].clone()


def _of_another_shape(weights: Weights) -> None:
    weights[NORM] = torch.ones(7)


def _not_a_number(weights: Weights) -> None:
    weights[MATRIX][3, 3] = torch.nan


FAULTS: dict[str, tuple[Callable[[Weights], None], str]] = {
    "missing": (_without, rf"2 \({MATRIX}, {NORM}\) missing, which would be drawn at random"),
    "unknown": (_with_more, r"1 \(model\.layers\.2\.mlp\.up_proj\.weight\) unknown to the model"),
    "shape": (_of_another_shape, r"1 \(model\.norm\.weight \[7\] for \[32\]\) of another shape"),
    "nan": (_not_a_number, rf"1 \({MATRIX}\) with NaN or infinite values"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("load", [load_model, load_causal_lm])
def test_weights_that_are_not_the_models_are_refused(
    fault: str, load: Callable[[Path], Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    change, message = FAULTS[fault]
    folder = make_tiny_model(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=message):
        load(folder)
    assert "LOAD REPORT" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("tied", [True, False])
def test_a_whole_model_is_loaded_as_it_is(tied: bool, tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model", tied=tied)
    model, saved = load_model(folder), load_file(folder / "model.safetensors")
    assert ("lm_head.weight" in saved) is not tied
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in saved.items())


@pytest.mark.parametrize("other", ["", "pytorch_model.bin", "model.pt"])
def test_only_pre_training_starts_from_nothing(other: str, tmp_path: Path) -> None:
    """A base without safetensors was once initialised at random and trained, whatever the method."""
    bare = make_tiny_model(tmp_path / "bare", with_weights=False)
    if other:
        (bare / other).write_bytes(b"\x80\x04.")
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "What?", "answer": "That."}) + "\n")
    job = TrainJob(TrainSettings(learning_rate=1e-3, max_steps=1))
    message = f"only {other}" if other else "Only the method `pretrain` starts from nothing"
    with pytest.raises(InputError, match=message):
        train(bare, tmp_path / "rows.jsonl", tmp_path / "run", job)
    if other:
        with pytest.raises(InputError, match=message):
            load_or_initialise(bare, 0, fresh=True)
    else:
        assert load_or_initialise(bare, 0, fresh=True).config.vocab_size == 320


def test_positions_of_a_language_model_within_another() -> None:
    from transformers import Gemma3Config, GPT2Config, LlamaConfig

    assert positions_of(LlamaConfig(max_position_embeddings=77)) == 77
    assert positions_of(GPT2Config(n_positions=55)) == 55
    assert positions_of(Gemma3Config(text_config={"max_position_embeddings": 33})) == 33
