"""A tiny real checkpoint, made on the spot: a 2-layer Llama, a byte-level BPE tokenizer and a chat template.

It is built to fall into the classic traps: the tokenizer adds BOS by itself *and* the template renders BOS, and the
padding token is the stop token, so code that masks by `id == pad` forgets to learn when to stop.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

BOS, STOP = "<|bos|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
UNREADABLE = (48).to_bytes(8, "little") + b'{"x":{"dtype":"?","data_offsets":[0,0]}}'.ljust(48)
"""Weights whose header and size agree, and which no library loads: for tests that nothing does."""
VLLM_HIDDEN_SIZE = 128
"""Heads of 32: vLLM's CPU attention knows no smaller ones."""
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TRAINING_TEXT = (
    "The quick brown fox jumps over the lazy dog.",
    "Write one short sentence about the river, and then name three fish.",
    "What is two plus three? Two plus three is five.",
    "List the colours of the rainbow: red, orange, yellow, green, blue, indigo, violet.",
)


def make_tiny_tokenizer(vocab_size: int = 320) -> Any:
    """Byte-level BPE with at most `vocab_size` ids (at least 261: the bytes and five markers), whatever the text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS, STOP, *ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TRAINING_TEXT, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=STOP,
        pad_token=STOP,
        additional_special_tokens=list(ROLES),
        chat_template=CHAT_TEMPLATE,
    )


def make_tiny_model(
    folder: Path,
    vocab_size: int = 320,
    seed: int = 0,
    *,
    with_weights: bool = True,
    hidden_size: int = 32,
    tied: bool = True,
    context_tokens: int = 512,
) -> Path:
    """Save a 2-layer Llama with its tokenizer and chat template to `folder`, and return the folder.

    Args:
        tied: input and output embeddings are one tensor.
        with_weights: False leaves config.json and tokenizer only, for training from a fresh initialisation.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tiny_tokenizer(vocab_size)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context_tokens,
        tie_word_embeddings=tied,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.2,  # wide enough that answers differ clearly in likelihood before any training
    )
    folder.mkdir(parents=True, exist_ok=True)
    if with_weights:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            LlamaForCausalLM(config).save_pretrained(folder)
    else:
        config.architectures = ["LlamaForCausalLM"]
        config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_tiny_reward_model(
    folder: Path, seed: int = 0, *, outputs: int = 1, pad: bool = True, safe: bool = True
) -> Path:
    """Save a 2-layer Llama with `outputs` outputs a text, random weights, and the tiny tokenizer.

    Args:
        pad: False leaves the configuration without a padding token, as many reward models do.
        safe: False pickles the weights.
    """
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    tokenizer = make_tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id if pad else None,
        num_labels=outputs,
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForSequenceClassification(config)
    folder.mkdir(parents=True, exist_ok=True)
    if safe:
        model.save_pretrained(folder)
    else:
        config.architectures = ["LlamaForSequenceClassification"]
        config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    tokenizer.save_pretrained(folder)
    return folder
