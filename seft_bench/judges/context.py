"""Check that a prompt fits into the judge's context, with the judge's own tokenizer or an estimate by characters.

A prompt that does not fit is `over_length`: a server might cut it silently, and the judge would then grade half a
conversation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from seft_bench.errors import InputError
from seft_bench.inference.replies import Reply
from seft_bench.records import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TokenCounter = Callable[[Sequence[Message]], int]
"""Messages -> tokens of the prompt that a server makes of them."""

CHARACTERS_PER_TOKEN = 4
"""Of English text, on average: good enough to refuse a prompt that an API would refuse or cut anyway."""


def estimated_tokens(messages: Sequence[Message]) -> int:
    """Estimate tokens from characters, for judges whose tokenizer is not public."""
    return round(sum(len(message["content"]) for message in messages) / CHARACTERS_PER_TOKEN)


def token_counter(tokenizer: str | None, context_tokens: int | None) -> TokenCounter:
    """Return a counter: exact with the tokenizer of this folder or hub id, loaded at the first count, or estimated.

    Raises:
        InputError: a tokenizer, and nothing to count against.
    """
    if tokenizer is None:
        return estimated_tokens
    if context_tokens is None:
        raise InputError(
            f"the judge's tokenizer {tokenizer} counts prompts against context_tokens, which is not set in its YAML"
        )
    return lambda messages: exact_tokens(tokenizer, messages)


def exact_tokens(tokenizer: str, messages: Sequence[Message]) -> int:
    """Count the messages' tokens as vLLM does: in the tokenizer's chat template, with the reply's opening marker.

    Markers inside a text are tokens of their own there, so they are here.

    Raises:
        InputError: no tokenizer, no chat template, or one that takes no such messages (a system message, say).
    """
    loaded, as_ids = _load(tokenizer), {"add_generation_prompt": True, "tokenize": True, "return_dict": False}
    try:
        return len(loaded.apply_chat_template(list(messages), **as_ids))
    except Exception as error:  # jinja2's, whose templates raise what they like
        raise InputError(
            f"the chat template of the judge's tokenizer {tokenizer} refuses the judge's messages: {error}"
        ) from None


@cache
def _load(tokenizer: str) -> PreTrainedTokenizerBase:
    from seft_bench.chat import load_tokenizer

    return load_tokenizer(tokenizer)


def outgrown(
    messages: Sequence[Message], max_tokens: int, context_tokens: int | None, count_tokens: TokenCounter
) -> str:
    """Say why the prompt and a reply of `max_tokens` do not fit; "" if they do, or if the context is not known."""
    if context_tokens is None:
        return ""
    needed = count_tokens(messages) + max_tokens
    about = "about " if count_tokens is estimated_tokens else ""
    if needed <= context_tokens:
        return ""
    return f"not sent: {about}{needed} tokens with the reply, the judge's context has {context_tokens}"


def unread_details(reply: Reply, max_tokens: int) -> dict[str, Any]:
    """Return why a reply holds no verdict, as far as the server says."""
    if reply.finish_reason == "length":
        return {"finish_reason": "length", "why": f"the reply was cut at max_tokens ({max_tokens}) before a verdict"}
    if reply.status != "empty":
        return {}
    apart = f"; {len(reply.reasoning):,} characters came apart, as reasoning" if reply.reasoning else ""
    return {"finish_reason": reply.finish_reason, "why": f"the reply is empty{apart}"}
