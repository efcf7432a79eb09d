"""Every chat template that TRL ships, over tiny tokenizers with its control tokens: trained ids are the template's.

Half of a family's control tokens are known to tokenizer.json only, and its thinking marks are not special, as in the
families' own tokenizers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from seft_bench import chat
from seft_bench.chat import assistant, user
from seft_bench.chat.template import chat_format
from seft_bench.errors import InputError
from tests.chat_tokenizers import byte_level, metaspace
from tests.trl_peers import OPENED_OTHERWISE, TAKES_LISTS, WRITES_NO_STOP, family, templates

pytestmark = pytest.mark.peers

ASK = [user("What is two plus three?")]
TALK = [*ASK, assistant("Five."), user("Name three fish.")]
ANSWERS = ("Carp, tuna, cod.", "think", "i", ">", "  The fox. ", "x\n\ny")


@pytest.mark.parametrize("make", [byte_level, metaspace])
def test_what_is_trained_is_the_template(make: Callable[..., Any]) -> None:
    checked = 0
    for name, source in templates().items():
        tokenizer = family(make, source)
        if name.startswith(TAKES_LISTS):
            with pytest.raises(InputError, match="chat template"):
                chat.stop_ids(tokenizer)
            continue
        for messages in (ASK, TALK):
            for answer in ANSWERS:
                _check(name, tokenizer, messages, answer)
        checked += 1
    assert checked >= 10


def _check(name: str, tokenizer: Any, messages: list[dict[str, str]], answer: str) -> None:
    prompt, learnt = chat.answer_ids(tokenizer, messages, answer)
    as_ids = {"tokenize": True, "return_dict": False}
    assert prompt == tokenizer.apply_chat_template(messages, add_generation_prompt=True, **as_ids), name
    stop, *_ = chat.stop_ids(tokenizer)
    assert learnt[-1] == stop, name
    assert stop not in learnt[:-1], name
    assert chat.answer_text(tokenizer, learnt, [stop]) == answer.strip(), name
    whole = tokenizer.apply_chat_template([*messages, assistant(answer)], **as_ids)
    if name.startswith(OPENED_OTHERWISE):
        assert tokenizer.decode(learnt[:-1]).strip() == answer.strip(), name
    elif name in WRITES_NO_STOP:
        assert [*prompt, *learnt] == [*whole, tokenizer.eos_token_id], name
    else:
        assert [*prompt, *learnt] == whole[: len(prompt) + len(learnt)], name
        assert not tokenizer.decode(whole[len(prompt) + len(learnt) :], skip_special_tokens=True).strip(), name


@pytest.mark.parametrize("make", [byte_level, metaspace])
def test_no_text_writes_a_marker(make: Callable[..., Any]) -> None:
    for name, source in templates().items():
        if name.startswith(TAKES_LISTS):
            continue
        tokenizer = family(make, source)
        markers = chat_format(tokenizer).marker_ids
        tokens = [token.content for token in tokenizer.added_tokens_decoder.values() if len(token.content) > 1]
        hostile = " ".join(tokens)
        # An answer's own `</think>` may end its reasoning, where prompts open it.
        said = " ".join(["So", *(token for token in tokens if "think" not in token)])
        asked = [user(hostile), assistant(said), user(hostile)]
        written, clean = (
            [[token for token in ids if token in markers] for ids in chat.answer_ids(tokenizer, messages, answer)]
            for messages, answer in ((asked, said), (TALK, "Five."))
        )
        assert written == clean, name


def test_all_turns_of_a_conversation_end_where_they_are_said_to() -> None:
    for name, source in templates().items():
        if name.startswith(TAKES_LISTS):
            continue
        tokenizer = family(byte_level, source)
        conversation = [*TALK, assistant("Carp, tuna.")]
        ids, learnt = chat.conversation_spans(tokenizer, conversation)
        whole = tokenizer.apply_chat_template(conversation, tokenize=True, return_dict=False)
        said = [tokenizer.decode(ids[slice(*place)], skip_special_tokens=True) for place in learnt]
        assert [text.strip().endswith(end) for text, end in zip(said, ("Five.", "Carp, tuna."), strict=True)], name
        assert ids[: len(whole)] == whole[: len(ids)], name
        assert ids[-1] in chat.stop_ids(tokenizer), name
