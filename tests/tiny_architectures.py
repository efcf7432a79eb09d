"""Tiny random models of the usual architectures, with dropout wherever their configuration has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.tiny_model import make_tiny_model

VOCABULARY, HIDDEN = 320, 32
SIZES = {"hidden_size": HIDDEN, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED = {**SIZES, "num_key_value_heads": 2}
GPT = {"n_embd": HIDDEN, "n_layer": 2, "n_head": 4, "n_positions": 256}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {**GROUPED, "attention_dropout": 0.2}),
    "mistral": ("MistralConfig", {**GROUPED, "attention_dropout": 0.2, "sliding_window": 16}),
    "qwen2": ("Qwen2Config", {**GROUPED, "attention_dropout": 0.2}),
    "qwen3": ("Qwen3Config", {**GROUPED, "head_dim": 8, "attention_dropout": 0.2}),
    "gemma2": ("Gemma2Config", {**GROUPED, "head_dim": 8, "final_logit_softcapping": 3.0, "attention_dropout": 0.2}),
    "gemma3": ("Gemma3TextConfig", {**GROUPED, "head_dim": 8, "final_logit_softcapping": 5.0}),
    "phi3": ("Phi3Config", {**GROUPED, "pad_token_id": 1, "resid_pdrop": 0.2, "attention_dropout": 0.2}),
    "granite": ("GraniteConfig", {**GROUPED, "logits_scaling": 4.0, "attention_dropout": 0.2}),
    "gpt_neox": ("GPTNeoXConfig", {**SIZES, "hidden_dropout": 0.2, "attention_dropout": 0.2}),
    "falcon": (
        "FalconConfig",
        {"hidden_size": HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_dropout": 0.2},
    ),
    "gpt2": ("GPT2Config", {**GPT}),
    "gptj": ("GPTJConfig", {**GPT, "rotary_dim": 4, "attn_pdrop": 0.2, "resid_pdrop": 0.2, "embd_pdrop": 0.2}),
    "opt": (
        "OPTConfig",
        {
            "hidden_size": HIDDEN,
            "ffn_dim": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "word_embed_proj_dim": HIDDEN,
            "max_position_embeddings": 256,
            "dropout": 0.2,
            "attention_dropout": 0.2,
            "layerdrop": 0.5,
        },
    ),
}


def tiny_config(architecture: str, vocab_size: int = VOCABULARY) -> Any:
    """Make the configuration of a 2-layer model; its logits are far from equal."""
    import transformers

    name, values = ARCHITECTURES[architecture]
    return getattr(transformers, name)(vocab_size=vocab_size, initializer_range=0.2, **values)


def make_tiny_architecture(folder: Path, architecture: str) -> Path:
    """Save a model of random weights to `folder`, with the tests' tokenizer and chat template; return the folder."""
    import torch
    import transformers

    make_tiny_model(folder, with_weights=False)
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(tiny_config(architecture)).save_pretrained(folder)
    return folder
