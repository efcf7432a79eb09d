"""The tinyworld's model before pre-training: a tokenizer, and a Llama configuration without weights.

The tokenizer is learnt from the world's text. A vocabulary this small splits most words, which is what lets a model of
0.4M parameters learn to copy words early.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seft_bench.tinyworld.data_sets import END, MARKS, pretraining_rows

VOCABULARY = 360
PAD, UNKNOWN = "<|pad|>", "<|unknown|>"
TOKENIZER_DOCUMENTS = 20_000

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ '"
    + MARKS["assistant"]
    + "' }}{% else %}{{ '"
    + MARKS["user"]
    + "' }}{% endif %}"
    "{{ message['content'] + '" + END + "' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '" + MARKS["assistant"] + "' }}{% endif %}"
)


def write_blank_model(folder: Path) -> Path:
    """Write tokenizer, chat template and configuration; training starts here from a fresh initialisation."""
    from transformers import LlamaConfig

    tokenizer = _tokenizer()
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=0.02,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        architectures=["LlamaForCausalLM"],
    )
    config.save_pretrained(folder)
    return folder


def _tokenizer() -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    marks = [MARKS["user"], MARKS["assistant"], END]
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(token, special=True) for token in (PAD, *marks, UNKNOWN)],
        initial_alphabet=[chr(code) for code in range(33, 127)],  # ASCII: other scripts become unknown tokens
        show_progress=False,
    )
    tokenizer.train_from_iterator((_plain(row["text"]) for row in pretraining_rows(TOKENIZER_DOCUMENTS)), trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, unk_token=UNKNOWN)
    fast.chat_template = CHAT_TEMPLATE
    return fast


def _plain(text: str) -> str:
    for mark in (*MARKS.values(), END):
        text = text.replace(mark, " ")
    return text
