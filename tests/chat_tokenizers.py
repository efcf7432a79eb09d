"""Tiny tokenizers in the manner of the usual chat families: their control tokens, and what they do to spaces."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

TEXT = (
    "What is two plus three? Two plus three is five. The quick brown fox jumps over the lazy dog.",
    "Name three fish, and then the colours of the rainbow: red, orange, yellow, green.",
    "think about it, I think: user assistant system model final analysis </s> [INST] <|",
)


def byte_level(
    template: str,
    eos: str,
    *,
    special: Sequence[str] = (),
    plain: Sequence[str] = (),
    hidden: Sequence[str] = (),
    **more: Any,
) -> Any:
    """Byte-level BPE, as Llama 3, Qwen, GPT and Phi 4 have it.

    Args:
        special, plain: added tokens that are special, and that are not.
        hidden: special tokens that no list of the tokenizer names: only tokenizer.json knows them.
        more: further named tokens (bos_token, ...) of the tokenizer.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    return _fast(tokenizer, template, eos, special, plain, hidden, more)


def metaspace(
    template: str,
    eos: str,
    *,
    legacy: bool = False,
    special: Sequence[str] = (),
    plain: Sequence[str] = (),
    hidden: Sequence[str] = (),
    rstrip: bool = False,
    **more: Any,
) -> Any:
    """SentencePiece's way, as Llama 2, Mistral, Phi 3 and Gemma have it: words begin with U+2581, bytes as fallback.

    Args:
        legacy: every piece of text between control tokens begins with U+2581; else only the first one does.
        special, plain, hidden, more: as of `byte_level`.
        rstrip: control tokens swallow the white space behind them (Phi 3).
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    if legacy:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    byte_tokens = [f"<0x{value:02X}>" for value in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=["<unk>", *byte_tokens], show_progress=False)
    words = [f"▁{word}" for text in TEXT for word in text.split()] + list("abcdefghijklmnopqrstuvwxyz.,?!▁")
    tokenizer.train_from_iterator(words, trainer)
    model = json.loads(tokenizer.to_str())
    model["added_tokens"] = [token for token in model["added_tokens"] if token["content"] == "<unk>"]
    tokenizer = Tokenizer.from_str(json.dumps(model))
    return _fast(tokenizer, template, eos, special, plain, hidden, more, rstrip)


def _fast(
    tokenizer: Any,
    template: str,
    eos: str,
    special: Sequence[str],
    plain: Sequence[str],
    hidden: Sequence[str],
    more: dict[str, Any],
    rstrip: bool = False,
) -> Any:
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

    named = [eos, *more.values()]
    tokenizer.add_special_tokens(
        [AddedToken(text, normalized=False, rstrip=rstrip) for text in dict.fromkeys([*named, *special, *hidden])]
    )
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in plain])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=eos, additional_special_tokens=list(special), **more
    )
    fast.chat_template = template
    return fast
