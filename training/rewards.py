"""Rewards of conversations, in batches that are trained on, and the token that fills such batches up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from seft_bench.checkpoints.classifiers import HEAD, set_padding
from seft_bench.errors import InputError

from .data import Example, collate
from .projection import plain_model


def example_rewards(model: Any, examples: Sequence[Example], device: torch.device) -> Tensor:
    """Rewards of a micro-batch in one forward: the chosen answers' conversations, then the rejected ones'.

    Each is read where its one token is labelled, the last; transformers reads the same by `set_padding_token`.

    Args:
        model: a reward model (`checkpoint.load_classifier`), in whatever wraps it.

    Returns:
        [2 examples] float32.
    """
    pairs = [example.sequences for example in examples]
    batch = collate([pair[side] for side in (0, 1) for pair in pairs]).to(device)
    found: list[Tensor] = []
    head = getattr(plain_model(model), HEAD)
    handle = head.register_forward_hook(lambda _module, _inputs, output: found.append(output))
    try:
        # No attention mask: padding stands on the right, where causal attention never looks.
        model(input_ids=batch.ids, use_cache=False)
    finally:
        handle.remove()
    rewards: Tensor = found[0].squeeze(-1)[batch.labelled]
    return rewards


def set_padding_token(tokenizer: Any, model: Any, last_ids: Iterable[int]) -> None:
    """Choose the token by which whoever reads a reward model fills batches up, for its tokenizer and configuration.

    transformers, and TRL with it, read a reward at the last token that is not the padding's. Many tokenizers pad by
    the very stop token, and the reward would be read in front of it: such a one gets another token, that ends nothing.

    Args:
        last_ids: of the conversations that were learnt, where rewards are to be read.

    Raises:
        InputError: every special token ends a conversation.
    """
    taken = set(last_ids)
    named = (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id)
    candidates = [*(token for token in named if token is not None), *sorted(tokenizer.all_special_ids)]
    token = next((token for token in candidates if token not in taken), None)
    if token is None:
        raise InputError(
            "every special token of the tokenizer ends conversations, so none can fill a batch of a reward model up: "
            "add a padding token to it"
        )
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(token)
    set_padding(plain_model(model), token)
