"""Chat messages -> token ids: once, in one place, for training, revising, sampling and evaluation.

The template renders BOS and every marker itself, so nothing here adds special tokens again: a double BOS is the
classic silent error (trl issue 1400).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from seft_bench.errors import InputError
from seft_bench.records import Message


def load_tokenizer(folder: str | Path, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a checkpoint, checked for what every stage needs of it.

    Raises:
        InputError: no tokenizer, no chat template, or no end-of-sequence token.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"no tokenizer can be loaded from {folder}: {str(error).splitlines()[0]}. Save the tokenizer beside the weights (tokenizer.save_pretrained)."
        ) from None
    if not tokenizer.chat_template:
        raise InputError(
            f"the tokenizer of {folder} has no chat template, so prompts would be guessed. Add chat_template.jinja (or `chat_template` in tokenizer_config.json) to the checkpoint."
        )
    if tokenizer.eos_token_id is None:
        raise InputError(f"the tokenizer of {folder} has no eos_token, so answers would never end. Set `eos_token` in tokenizer_config.json.")
    return tokenizer


def prompt_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Ids of a conversation up to and with the marker that opens the assistant's answer."""
    encoded = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=True, return_dict=False)
    return cast("list[int]", list(encoded))


def answer_ids(tokenizer: Any, messages: Sequence[Message], answer: str) -> tuple[list[int], list[int]]:
    """Ids of (prompt, answer): the answer ends with the template's stop token, which is learnt like any other.

    The two are cut where the rendered prompt ends, so a token never spans the border.
    """
    prompt_text = render(tokenizer, messages)
    full_text = cast(str, tokenizer.apply_chat_template([*messages, {"role": "assistant", "content": answer}], tokenize=False))
    if not full_text.startswith(prompt_text):
        # Templates that rewrite history (dropped reasoning, trimmed answers): the answer alone, then the stop token.
        answer_text = answer
    else:
        answer_text = full_text[len(prompt_text) :]
    tail = list(tokenizer(answer_text, add_special_tokens=False)["input_ids"])
    return prompt_ids(tokenizer, messages), _end_with_stop(tail, stop_ids(tokenizer))


def _end_with_stop(ids: list[int], stops: Sequence[int]) -> list[int]:
    """Cut what a template writes after its stop token (a line break), or add the stop token where it writes none."""
    for position, token in enumerate(ids):
        if token in stops:
            return ids[: position + 1]
    return [*ids, stops[0]]


def render(tokenizer: Any, messages: Sequence[Message]) -> str:
    """The prompt as text, for people to read."""
    return cast(str, tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False))


def stop_ids(tokenizer: Any) -> list[int]:
    """Tokens that end an answer: the one that the template writes after an assistant's turn, then EOS."""
    probe = cast(str, tokenizer.apply_chat_template([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], tokenize=False))
    after = tokenizer(probe.rpartition("a")[2], add_special_tokens=False)["input_ids"]
    special = set(tokenizer.all_special_ids)
    marker = [token for token in after if token in special][:1]
    return list(dict.fromkeys([*marker, tokenizer.eos_token_id]))


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}
