"""Token ids of prompts, answers and whole conversations."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from seft_bench.chat.messages import assistant
from seft_bench.chat.template import (
    ChatFormat,
    Turn,
    chat_format,
    count_markers,
    encode,
    last_turn,
    rendered,
)
from seft_bench.chat.texts import without_markup
from seft_bench.errors import InputError
from seft_bench.reasoning import marks_among
from seft_bench.records import Message


def prompt_ids(
    tokenizer: Any, messages: Sequence[Message], template_args: Mapping[str, Any] | None = None
) -> list[int]:
    """Ids of a conversation up to and with the marker that opens the assistant's answer.

    Args:
        template_args: what the chat template is told beside the messages (`enable_thinking`).

    Raises:
        InputError: the template reads no such argument, or refuses the conversation.
    """
    asked = without_markup(tokenizer, messages)
    return encode(tokenizer, rendered(tokenizer, asked, open_answer=True, template_args=template_args))


def conversation_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Ids of a whole conversation that ends with an answer, as the template writes it: what a reward model reads."""
    return encode(tokenizer, rendered(tokenizer, without_markup(tokenizer, messages)))


def answer_ids(tokenizer: Any, messages: Sequence[Message], answer: str | Message) -> tuple[list[int], list[int]]:
    """Ids of (prompt, answer), see `answers_ids`."""
    prompt, [after] = answers_ids(tokenizer, messages, [answer])
    return prompt, after


def answers_ids(
    tokenizer: Any, messages: Sequence[Message], answers: Sequence[str | Message]
) -> tuple[list[int], list[list[int]]]:
    """Ids of a prompt, and of each of its answers with the template's stop token, which is learnt like any other.

    The prompt is what sampling is given, token by token. Both together are `apply_chat_template` of the whole
    conversation up to the stop token. Where a token of the whole conversation would span the border (a line break of
    the prompt and one of the answer), no cut of it is what sampling sees: then the prompt stays, and the answer is
    tokenised behind it. The same holds where the template opens a turn in one way for sampling and in another way in a
    conversation (DeepSeek-R1's `<think>`).

    Args:
        answers: texts, or the assistant's messages with their reasoning.

    Raises:
        InputError: the template refuses the conversation, or does not write an answer's reasoning.
    """
    form, asked = chat_format(tokenizer), without_markup(tokenizer, messages)
    prompt = rendered(tokenizer, asked, open_answer=True)
    before = encode(tokenizer, prompt)
    afters = []
    for said in without_markup(tokenizer, [assistant(one) if isinstance(one, str) else one for one in answers]):
        turn = last_turn(tokenizer, asked, said, prompt)
        end = End.of(tokenizer, turn, form)
        ids = encode(tokenizer, prompt + turn.answer + end.text)
        whole = ids[: len(before)] == before
        afters.append(end.cut(ids[len(before) :] if whole else ids_behind(tokenizer, turn.answer + end.text)))
    return before, afters


class End(NamedTuple):
    """How an answer ends: with the first of the `markers` control tokens of `text`, or with EOS where it has none."""

    text: str
    markers: int
    form: ChatFormat

    @classmethod
    def of(cls, tokenizer: Any, turn: Turn, form: ChatFormat) -> End:
        usual = turn.closing == form.closing
        markers = form.closing_markers if usual else count_markers(encode(tokenizer, turn.closing), form.marker_ids)
        return cls(turn.closing if markers else "", markers, form)

    def cut(self, ids: list[int]) -> list[int]:
        """Cut what follows the stop token, told from the end: an answer's opening may hold markers too."""
        if not self.markers:
            return [*ids, self.form.stop_id]
        backwards = (place for place in range(len(ids) - 1, -1, -1) if ids[place] in self.form.marker_ids)
        stop = next(itertools.islice(backwards, self.markers - 1, None))
        return ids[: stop + 1]


def ids_behind(tokenizer: Any, text: str) -> list[int]:
    """Ids of a text that stands inside a longer one: SentencePiece marks the first word of a text on its own.

    It is tokenised behind a character that does not melt into it.
    """
    for anchor in ("0", "a", ".", "\n"):
        before = encode(tokenizer, anchor)
        ids = encode(tokenizer, anchor + text)
        if ids[: len(before)] == before:
            return ids[len(before) :]
    return encode(tokenizer, text)


def next_token_id(tokenizer: Any, messages: Sequence[Message], text: str) -> int | None:
    """Return the one token with which an answer that is only `text` goes on after the prompt.

    A leading space of the template's is included.

    None where it takes several tokens, or melts into the prompt's last one: then no single log-probability belongs to
    it.
    """
    asked = without_markup(tokenizer, messages)
    prompt = rendered(tokenizer, asked, open_answer=True)
    turn = last_turn(tokenizer, asked, assistant(text), prompt)
    ids = encode(tokenizer, prompt + turn.answer)
    return ids[-1] if ids[:-1] == encode(tokenizer, prompt) else None


def check_ids(rows: Iterable[Sequence[int]], model: Any) -> None:
    """Refuse token ids for which a model has no embedding: it would crash on a CPU, and stop a GPU for good.

    Args:
        rows: ids that the model is about to be given.

    Raises:
        InputError: naming the first such id.
    """
    known = model.get_input_embeddings().weight.shape[0]
    for ids in rows:
        if ids and (largest := max(ids)) >= known:
            raise InputError(
                f"the tokenizer of {model.name_or_path} gives the id {largest}, but its model has embeddings for "
                f"{known} ids only: they do not belong together, or tokens were added without resize_token_embeddings"
            )


def answer_text(tokenizer: Any, ids: Sequence[int], stops: Sequence[int]) -> str:
    """The text of a sampled answer: without its stop token, and without what the template writes before an answer."""
    form = chat_format(tokenizer)
    said = list(ids[:-1] if ids and ids[-1] in stops else ids)
    if form.opening and said[: len(opening := ids_behind(tokenizer, form.opening))] == opening:
        said = said[len(opening) :]
    return _decoded(tokenizer, said).strip()


def _decoded(tokenizer: Any, ids: list[int]) -> str:
    """Decode without special tokens, but with those that mark reasoning: without them it would pass for the answer."""
    added = tokenizer.added_tokens_decoder
    special = {token: added[token].content for token in ids if token in added and added[token].special}
    marks = marks_among(special.values())
    if not marks:
        return str(tokenizer.decode(ids, skip_special_tokens=True))
    return str(tokenizer.decode([token for token in ids if special.get(token, "") in marks or token not in special]))
