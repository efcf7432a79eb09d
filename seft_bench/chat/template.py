"""What a chat template writes around an answer, found out by rendering one, and conversations as it renders them.

Nothing is looked for by an answer's own text: Qwen3's template writes `<think>` itself, so an answer `think` would be
found inside it. The text that is looked for is one that no template writes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from seft_bench.chat.markup import marker_texts, pattern_of, written_marks
from seft_bench.chat.messages import REASONING_KEYS, assistant, reasoning_of, user
from seft_bench.checkpoints import base_of, is_adapter
from seft_bench.errors import InputError
from seft_bench.files import read_object
from seft_bench.reasoning import opens
from seft_bench.records import Message

SENTINEL = "Zq7Xanswer9Kv"
"""A text that no template writes, and that trimming leaves as it is."""


@dataclass(frozen=True)
class Turn:
    """The end of a rendered conversation.

    Attributes:
        answer: the answer as the template writes it, and what it writes before it ("<think>\\n\\n</think>\\n\\n").
        closing: what follows the answer, the stop token first of all.
    """

    answer: str
    closing: str


@dataclass(frozen=True)
class ChatFormat:
    """What a tokenizer's template writes around texts.

    Attributes:
        markers: finds control tokens in a text, and what the template writes as plain text to the same end.
        marker_ids: their ids.
        opening: what stands between the prompt and an answer; None where the template opens an answer in one way for
            sampling and in another way in a conversation (DeepSeek-R1's `<think>`).
        closing: what follows an answer at a conversation's end.
        closing_markers: how many control tokens that is.
        stop_id: the first marker of `closing`, EOS where it has none: what training teaches and sampling waits for.
        stops: all tokens that end an answer.
        reasoning_key: the key of a message whose reasoning the template writes, "" where it writes none.
        opens_thinking: prompts end with `<think>`, so that a sampled answer begins with reasoning.
    """

    markers: re.Pattern[str] | None
    marker_ids: frozenset[int]
    opening: str | None
    closing: str
    closing_markers: int
    stop_id: int
    stops: tuple[int, ...]
    reasoning_key: str
    opens_thinking: bool


_known: WeakKeyDictionary[Any, tuple[Any, ChatFormat]] = WeakKeyDictionary()


def chat_format(tokenizer: Any) -> ChatFormat:
    """Find out a tokenizer's format; once, unless its template or its vocabulary changed.

    Raises:
        InputError: the template refuses a question with an answer, or shows no answer.
    """
    state = (str(tokenizer.chat_template), len(tokenizer), tokenizer.eos_token_id, tokenizer.name_or_path)
    known = _known.get(tokenizer)
    if known is None or known[0] != state:
        known = _known[tokenizer] = (state, _find_out(tokenizer))
    return known[1]


def _find_out(tokenizer: Any) -> ChatFormat:
    asked = [user("What is it?")]
    prompt = rendered(tokenizer, asked, open_answer=True)
    whole = rendered(tokenizer, [*asked, assistant(SENTINEL)])
    head, closing = around_sentinel(whole)
    texts = marker_texts(tokenizer, f"{tokenizer.get_chat_template()}\n{prompt}\n{whole}")
    marks = written_marks(f"{prompt}\n{whole}\n{_with_system(tokenizer, asked)}")
    ids = frozenset(tokenizer.convert_tokens_to_ids(list(texts))) | frozenset(tokenizer.all_special_ids)
    after = encode(tokenizer, closing)
    marker = [token for token in after if token in ids][:1]
    stops = [*marker, *_generation_stops(tokenizer.name_or_path), tokenizer.eos_token_id]
    return ChatFormat(
        markers=pattern_of({*texts, *marks}),
        marker_ids=ids,
        opening=head[len(prompt) :] if head.startswith(prompt) else None,
        closing=closing,
        closing_markers=count_markers(after, ids),
        stop_id=marker[0] if marker else tokenizer.eos_token_id,
        stops=tuple(dict.fromkeys(stops)),
        reasoning_key=_reasoning_key(tokenizer, asked),
        opens_thinking=opens(prompt),
    )


def _with_system(tokenizer: Any, asked: list[Message]) -> str:
    """Render a conversation with a system message; "" where the template refuses it."""
    try:
        return rendered(tokenizer, [{"role": "system", "content": "Be brief."}, *asked])
    except InputError:
        return ""


def count_markers(ids: Sequence[int], marker_ids: frozenset[int]) -> int:
    return sum(token in marker_ids for token in ids)


def around_sentinel(whole: str) -> tuple[str, str]:
    """Return what a rendered conversation has before and after the sentinel, which is its last answer."""
    head, found, closing = whole.rpartition(SENTINEL)
    if not found:
        raise InputError("the chat template does not write the assistant's answer at the end of a conversation")
    return head, closing


def _reasoning_key(tokenizer: Any, asked: list[Message]) -> str:
    for key in REASONING_KEYS:
        if SENTINEL in rendered(tokenizer, [*asked, {**assistant("It is this."), key: SENTINEL}]):
            return key
    return ""


def _generation_stops(checkpoint: str) -> list[int]:
    """Read eos_token_id of the checkpoint folder's generation_config.json: one id, several, or none."""
    folder = Path(checkpoint)
    path = (base_of(folder) if is_adapter(folder) else folder) / "generation_config.json"
    if not checkpoint or not path.is_file():
        return []
    found = read_object(path, "generation settings of a model").get("eos_token_id")
    return [token for token in (found if isinstance(found, list) else [found]) if isinstance(token, int)]


def stop_ids(tokenizer: Any) -> list[int]:
    """Tokens that end an answer.

    The one that the template writes after it, those of generation_config.json in the checkpoint's folder, and EOS.
    """
    return list(chat_format(tokenizer).stops)


def rendered(
    tokenizer: Any,
    messages: Sequence[Message],
    *,
    open_answer: bool = False,
    template_args: Mapping[str, Any] | None = None,
) -> str:
    """Render messages as they are.

    Raises:
        InputError: the template refuses them, reads no such argument, or a text is no Unicode.
    """
    told = dict(template_args or {})
    _check_read(tokenizer, told)
    try:
        text = str(
            tokenizer.apply_chat_template(list(messages), add_generation_prompt=open_answer, tokenize=False, **told)
        )
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"a text holds half a surrogate pair ({error.object[error.start]!r}), which no tokenizer takes"
        ) from None
    except Exception as error:  # jinja2's, whose templates raise what they like
        roles = ", ".join(message["role"] for message in messages)
        raise InputError(
            f"the model's chat template refuses these messages ({roles}): {(str(error).splitlines() or ['?'])[0]}"
        ) from None
    return text


def _check_read(tokenizer: Any, told: Mapping[str, Any]) -> None:
    """Refuse an argument that the template does not read: it would be ignored without a word."""
    source = tokenizer.get_chat_template() if told else ""
    unread = [name for name in told if not re.search(rf"\b{re.escape(name)}\b", source)]
    if unread:
        raise InputError(
            f"the chat template of {tokenizer.name_or_path or 'the model'} does not read {', '.join(unread)} "
            "(template_args of the decoding, or --template-args)"
        )


def opens_reasoning(tokenizer: Any, template_args: Mapping[str, Any] | None = None) -> bool:
    """Return whether prompts end with the mark that opens reasoning, so that a sampled answer begins inside it."""
    return opens(rendered(tokenizer, [user("What is it?")], open_answer=True, template_args=template_args))


def encode(tokenizer: Any, text: str) -> list[int]:
    """Ids of a rendered text, as `apply_chat_template` makes them."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


# The last turn


def last_turn(tokenizer: Any, asked: Sequence[Message], said: Message, prompt: str) -> Turn:
    """Return the answer as the template writes it behind the prompt, and what follows it.

    Args:
        asked, said: conversation and answer, both without markup.
        prompt: `asked`, rendered for sampling.

    Raises:
        InputError: the template refuses the conversation, or does not write the answer's reasoning.
    """
    form = chat_format(tokenizer)
    whole = rendered(tokenizer, [*asked, said])
    if form.opening is not None and not reasoning_of(said):
        middle = between(whole, prompt + form.opening, form.closing)
        if middle is not None and middle.strip() == said["content"].strip():
            return Turn(form.opening + middle, form.closing)
    return _turn_by_sentinel(tokenizer, asked, said, prompt, whole)


def _turn_by_sentinel(tokenizer: Any, asked: Sequence[Message], said: Message, prompt: str, whole: str) -> Turn:
    """Find the answer by rendering another one in its place.

    Where the template opens an answer for sampling in another way than in a conversation, the answer stands right
    behind the prompt, which is what sampling sees. Where it rewrites the answer, the answer is taken as it is.
    """
    head, closing = around_sentinel(rendered(tokenizer, [*asked, {**said, "content": SENTINEL}]))
    opening = head[len(prompt) :] if head.startswith(prompt) else ""
    check_reasoning(said, opening)
    middle = between(whole, head, closing)
    if middle is None or middle.strip() != said["content"].strip():
        middle = said["content"].strip()
    return Turn(opening + middle, closing)


def check_reasoning(said: Message, before: str) -> None:
    """Refuse reasoning that is not in what the template writes before an answer.

    Raises:
        InputError: it would be lost.
    """
    if reasoning_of(said).strip() not in before:
        raise InputError(
            "the answer has reasoning, which the model's chat template does not write before it: it would be lost. "
            "Remove reasoning_content, or use a template that writes it"
        )


def between(whole: str, head: str, closing: str) -> str | None:
    """The text between the two, None where it does not stand between them."""
    if not whole.startswith(head) or not whole.endswith(closing) or len(whole) < len(head) + len(closing):
        return None
    return whole[len(head) : len(whole) - len(closing)]
