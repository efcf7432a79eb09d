"""Bases with another chat template: their own files stay, the template decides, and mistakes are one message."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seft_bench.chat import load_tokenizer, render
from seft_bench.data.bases import read_chat_template, shipped_chat_templates, with_chat_template, with_size
from seft_bench.errors import InputError
from seft_bench.files import sha256_folder
from seft_bench.stages.models import open_models
from seft_bench.stages.recipes import load_recipe
from training.methods import build_stages

TALK = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "?"}]

RENDERED = {
    "zephyr": "<|user|>\nHello<|end|>\n<|assistant|>\nHi<|end|>\n<|user|>\n?<|end|>\n<|assistant|>\n",
    "chatml": "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nHi<|im_end|>\n<|im_start|>user\n?<|im_end|>\n"
    "<|im_start|>assistant\n",
    "llama3": "<|bos|><|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|><|start_header_id|>assistant"
    "<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
}


def test_every_shipped_template_writes_its_format(tiny_model: Path, tmp_path: Path) -> None:
    assert set(RENDERED) == set(shipped_chat_templates())
    for name, text in RENDERED.items():
        assert render(load_tokenizer(with_chat_template(tiny_model, name, tmp_path)), TALK) == text


def test_the_base_keeps_its_files_and_weights_are_not_copied(tiny_model: Path, tmp_path: Path) -> None:
    before = sha256_folder(tiny_model)
    made = with_chat_template(tiny_model, "zephyr", tmp_path)
    assert sha256_folder(tiny_model) == before != sha256_folder(made)
    assert (made / "model.safetensors").resolve() == (tiny_model / "model.safetensors").resolve()
    assert "chat_template" not in json.loads((made / "tokenizer_config.json").read_text())
    assert with_chat_template(tiny_model, "zephyr", tmp_path) == made
    assert with_chat_template(tiny_model, "chatml", tmp_path) != made


def test_a_recipe_holds_the_text_of_a_template_file(tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text("{{ messages[0]['content'] }}")
    recipe = load_recipe("tiny-seft", [f"chat_template={tmp_path / 'own.jinja'}"])
    assert recipe.chat_template == "{{ messages[0]['content'] }}"
    assert load_recipe("tiny-seft", ["chat_template=zephyr"]).chat_template == "zephyr"


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("zephir", "zephir.*zephyr"),
        ("gone.jinja", "gone.jinja cannot be read"),
        ("{% for message in %}", r"the recipe's\), line 1"),
    ],
)
def test_a_template_that_cannot_be_used_is_one_message(template: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_chat_template(template)


def test_a_blank_model_of_another_size_has_the_tokenizer_of_the_first(tiny_model: Path, tmp_path: Path) -> None:
    made = with_size(tiny_model, {"hidden_size": 48, "num_hidden_layers": 1}, tmp_path)
    config, before = (json.loads((folder / "config.json").read_text()) for folder in (made, tiny_model))
    changed = {key for key in config if config[key] != before[key]}
    assert changed == {"hidden_size", "num_hidden_layers", "head_dim"}
    assert (config["head_dim"], config["hidden_size"]) == (12, 48)
    assert not list(made.glob("*.safetensors"))
    assert len(load_tokenizer(made)) == len(load_tokenizer(tiny_model))
    assert with_size(tiny_model, {"hidden_size": 48, "num_hidden_layers": 1}, tmp_path) == made


@pytest.mark.parametrize(
    ("size", "says"),
    [
        ({"hidden_size": 30}, "hidden_size 30 has to be a multiple of num_attention_heads 4"),
        ({"n_embd": 30}, "has no n_embd"),
    ],
)
def test_a_size_that_cannot_be_is_refused(size: dict[str, int], says: str, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        with_size(tiny_model, size, tmp_path)
    assert not list(tmp_path.iterdir())


def test_pretraining_begins_at_the_size_that_is_asked_for(tmp_path: Path) -> None:
    recipe = load_recipe("tiny-base-small", ["settings.train.max_steps=1", "settings.train.epochs=null"])
    plan = build_stages(recipe.method, recipe.settings, 1)
    config = json.loads((open_models(recipe, plan, tmp_path).base / "config.json").read_text())
    assert (config["hidden_size"], config["num_hidden_layers"], config["head_dim"]) == (64, 2, 16)
