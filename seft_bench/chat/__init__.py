"""Chat messages -> token ids: once, in one place, for training, revising, sampling and judging.

The template renders BOS and every marker itself, so nothing here adds special tokens again: a double BOS is the
classic silent error (trl issue 1400). `template` finds out by rendering what a chat template writes around an
answer, `texts` keeps texts from writing markers (`markup`), `ids` and `spans` make tokens of both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seft_bench.chat.ids import (
    answer_ids,
    answer_text,
    answers_ids,
    check_ids,
    conversation_ids,
    next_token_id,
    prompt_ids,
)
from seft_bench.chat.messages import as_messages, assistant, user
from seft_bench.chat.spans import conversation_spans
from seft_bench.chat.template import opens_reasoning, stop_ids
from seft_bench.chat.texts import render, without_markup
from seft_bench.checkpoints import is_adapter, tokenizer_folder
from seft_bench.checkpoints.weights import first_line
from seft_bench.errors import InputError

__all__ = [
    "answer_ids",
    "answer_text",
    "answers_ids",
    "as_messages",
    "assistant",
    "check_ids",
    "conversation_ids",
    "conversation_spans",
    "load_tokenizer",
    "next_token_id",
    "opens_reasoning",
    "prompt_ids",
    "render",
    "stop_ids",
    "user",
    "without_markup",
]


def load_tokenizer(folder: str | Path, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a checkpoint, checked for what every stage needs of it; an adapter without one has its base's.

    Raises:
        InputError: no tokenizer, no chat template, or no end-of-sequence token.
    """
    from transformers import AutoTokenizer

    try:
        place = tokenizer_folder(Path(folder)) if is_adapter(Path(folder)) else folder
        tokenizer = AutoTokenizer.from_pretrained(str(place), trust_remote_code=trust_remote_code)
    except InputError:
        raise
    except Exception as error:  # whatever transformers and tokenizers make of files that are not ours
        raise InputError(
            f"no tokenizer can be loaded from {folder}: {first_line(error)}. Save the tokenizer beside the "
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
