"""Every weight of a model comes from its files: nothing is drawn at random or left out without a word."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from seft_bench.chat import load_tokenizer, user
from seft_bench.checkpoints.merging import merged_model
from seft_bench.checkpoints.weights import check_folder, load_config, positions_of
from seft_bench.errors import InputError
from seft_bench.files import read_json, write_json
from seft_bench.generators.conversations import Sampling
from seft_bench.generators.transformers import TransformersGenerator, load_causal_lm
from tests.tiny_model import make_tiny_model
from training.checkpoint import load_model, load_or_initialise
from training.logprobs import score_answers
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


def _infinite(weights: Weights) -> None:
    weights[NORM][0] = -torch.inf


def _not_a_number(weights: Weights) -> None:
    weights[MATRIX][3, 3] = torch.nan


FAULTS: dict[str, tuple[Callable[[Weights], None], str]] = {
    "missing": (_without, rf"2 \({MATRIX}, {NORM}\) missing, which would be drawn at random"),
    "unknown": (_with_more, r"1 \(model\.layers\.2\.mlp\.up_proj\.weight\) unknown to the model"),
    "shape": (_of_another_shape, r"1 \(model\.norm\.weight \[7\] for \[32\]\) of another shape"),
    "infinite": (_infinite, rf"1 \({NORM}\) with NaN or infinite values"),
    "nan": (_not_a_number, rf"1 \({MATRIX}\) with NaN or infinite values"),
}


def _merge(base: Path) -> object:
    """Write the whole model of an adapter that changes nothing."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    adapter = base.parent / "adapter"
    whole = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base))
    whole.name_or_path = str(base)
    get_peft_model(whole, LoraConfig(r=2, task_type="CAUSAL_LM")).save_pretrained(adapter)
    write_json(adapter / "adapter_config.json", read_json(adapter / "adapter_config.json") | _named(base))
    return merged_model(adapter, base.parent / "merged")


def _named(base: Path) -> dict[str, str]:
    return {"base_model_name_or_path": str(base)}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("load", [load_model, load_causal_lm, _merge, check_folder])
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


@pytest.mark.parametrize("load", [load_model, load_causal_lm, _merge, check_folder])
def test_a_configuration_with_a_layer_more_and_a_shard_that_is_not_there_are_refused(
    load: Callable[[Path], Any], tmp_path: Path
) -> None:
    folder = make_tiny_model(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    write_json(folder / "config.json", read_json(folder / "config.json") | {"num_hidden_layers": 3})
    with pytest.raises(InputError, match=r"9 \(model\.layers\.2\..* missing, which would be drawn at random"):
        load(folder)
    write_json(folder / "config.json", read_json(folder / "config.json") | {"num_hidden_layers": 2})
    half = dict(list(weights.items())[:9])
    save_file(half, folder / "model-00001-of-00002.safetensors", metadata={"format": "pt"})
    index = {name: f"model-0000{1 if name in half else 2}-of-00002.safetensors" for name in weights}
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": index})
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"lacks 1 of the 2 files .* \(model-00002-of-00002\.safetensors\)"):
        load(folder)


@pytest.mark.parametrize("settings", [{"hidden_size": "many"}, {"num_attention_heads": 0}, {"model_type": 5}, [], 3])
def test_a_configuration_that_makes_no_model_is_a_message(settings: Any, tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    known = read_json(folder / "config.json")
    write_json(folder / "config.json", {**known, **settings} if isinstance(settings, dict) else settings)
    for load in (load_model, load_causal_lm, check_folder):
        with pytest.raises(InputError, match=str(folder)):
            load(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": 5, "added_tokens": 3}'])
def test_a_tokenizer_that_is_none_is_a_message(text: str, tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(InputError, match="no tokenizer can be loaded"):
        load_tokenizer(folder)


def test_a_model_that_computes_no_numbers_gives_no_answers_and_no_likelihoods(tmp_path: Path) -> None:
    """Weights that are numbers, and a product of them that is none: in a narrow format real models overflow so."""
    folder = make_tiny_model(tmp_path / "model", tied=False)
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"].fill_(3e38)
    weights[NORM].fill_(1e30)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    generator = TransformersGenerator(folder, "m", device="cpu")
    for temperature in (0.0, 0.7):
        with pytest.raises(InputError, match="computes no finite numbers"):
            generator.complete([[user("What?")]], [Sampling("0", temperature=temperature)], 4, 0)
    with pytest.raises(InputError, match="computes no finite numbers"):
        score_answers(folder, None, [([user("What?")], "That.")], device="cpu")


def test_a_token_that_the_model_has_no_embedding_for_is_a_message(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    tokenizer = load_tokenizer(folder)
    tokenizer.add_tokens(["quokka"])
    tokenizer.save_pretrained(folder)
    known = load_config(folder).vocab_size
    generator = TransformersGenerator(folder, "m", device="cpu")
    assert generator.complete([[user("What?")]], [Sampling("0", temperature=0.0)], 1, 0)
    with pytest.raises(InputError, match=f"has embeddings for {known} ids only"):
        generator.complete([[user("A quokka?")]], [Sampling("0", temperature=0.0)], 1, 0)
    with pytest.raises(InputError, match=f"has embeddings for {known} ids only"):
        score_answers(folder, None, [([user("What?")], "A quokka.")], device="cpu")


@pytest.mark.parametrize("tied", [True, False])
def test_a_whole_model_is_loaded_as_it_is(tied: bool, tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model", tied=tied)
    model, saved = load_model(folder), load_file(folder / "model.safetensors")
    assert ("lm_head.weight" in saved) is not tied
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in saved.items())
    check_folder(folder)


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
