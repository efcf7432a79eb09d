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
            f"no tokenizer can be loaded from {folder}: {str(error).splitlines()[0]}. Save the tokenizer beside the "
            "weights (tokenizer.save_pretrained)."
        ) from None
    if not tokenizer.chat_template:
        raise InputError(
            f"the tokenizer of {folder} has no chat template, so prompts would be guessed. Add chat_template.jinja (or "
            "`chat_template` in tokenizer_config.json) to the checkpoint."
        )
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"the tokenizer of {folder} has no eos_token, so answers would never end. Set `eos_token` in "
            "tokenizer_config.json."
        )
    return tokenizer


def prompt_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Ids of a conversation up to and with the marker that opens the assistant's answer."""
    encoded = tokenizer.apply_chat_template(
        without_markup(tokenizer, messages), add_generation_prompt=True, tokenize=True, return_dict=False
    )
    return cast("list[int]", list(encoded))


def without_markup(tokenizer: Any, messages: Sequence[Message]) -> list[Message]:
    """Return the messages with the tokenizer's special tokens in their texts broken up by a space.

    A text never opens or ends a turn.
    """
    return [
        {**message, "content": _broken_up(message["content"], tokenizer.all_special_tokens)} for message in messages
    ]


def _broken_up(text: str, specials: Sequence[str]) -> str:
    for token in specials:
        if len(token) > 1 and token in text:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def conversation_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Ids of a whole conversation that ends with an answer, as the template writes it: what a reward model reads."""
    return list(tokenizer.apply_chat_template(without_markup(tokenizer, messages), tokenize=True, return_dict=False))


def next_token_id(tokenizer: Any, messages: Sequence[Message], text: str) -> int | None:
    """Return the one token with which an answer that is only `text` goes on after the prompt.

    A leading space of the template's is included.

    None where it takes several tokens, or melts into the prompt's last one: then no single log-probability belongs to
    it.
    """
    before = prompt_ids(tokenizer, messages)
    full = render(tokenizer, messages) + _as_rendered(tokenizer, messages, text)
    ids = list(tokenizer(full, add_special_tokens=False)["input_ids"])
    return ids[-1] if ids[:-1] == before else None


def answer_ids(tokenizer: Any, messages: Sequence[Message], answer: str) -> tuple[list[int], list[int]]:
    """Ids of (prompt, answer): the answer ends with the template's stop token, which is learnt like any other.

    The two are cut where the rendered prompt ends, so a token never spans the border. Markup inside an answer
    ("<|im_end|>" typed by a model) is text: it becomes ordinary tokens and never ends the answer.
    """
    text = _as_rendered(tokenizer, messages, answer)
    ids = list(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])
    return prompt_ids(tokenizer, messages), [*ids, stop_ids(tokenizer)[0]]


def _as_rendered(tokenizer: Any, messages: Sequence[Message], answer: str) -> str:
    """The answer as the template writes it after the prompt (with its leading space, say), without the stop marker."""
    prompt = render(tokenizer, messages)
    conversation = [*without_markup(tokenizer, messages), {"role": "assistant", "content": answer}]
    full = cast(str, tokenizer.apply_chat_template(conversation, tokenize=False))
    tail = full[len(prompt) :] if full.startswith(prompt) else ""
    start = tail.find(answer.strip())
    # A template that rewrites history (dropped reasoning, say) does not show the answer there: then the answer alone.
    return tail[: start + len(answer.strip())] if start >= 0 and answer.strip() else answer


def render(tokenizer: Any, messages: Sequence[Message]) -> str:
    """The prompt as text, for people to read."""
    return cast(
        str,
        tokenizer.apply_chat_template(without_markup(tokenizer, messages), add_generation_prompt=True, tokenize=False),
    )


def stop_ids(tokenizer: Any) -> list[int]:
    """Tokens that end an answer: the one that the template writes after an assistant's turn, then EOS."""
    probe = cast(
        str,
        tokenizer.apply_chat_template(
            [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], tokenize=False
        ),
    )
    after = tokenizer(probe.rpartition("a")[2], add_special_tokens=False)["input_ids"]
    special = set(tokenizer.all_special_ids)
    marker = [token for token in after if token in special][:1]
    return list(dict.fromkeys([*marker, tokenizer.eos_token_id]))


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}
