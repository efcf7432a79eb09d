"""The shapes in which people have their data: how each is recognised, and its rows made into ours. Pure.

Rows of ours, by kind:

    pairs       {"prompt": [messages], "chosen": text, "rejected": text}
    answers     {"prompt": [messages], "answer": text}
    messages    {"messages": [messages]}, with "learn": "last" or "all" where the user says which answers
    unpaired    {"prompt": [messages], "answer": text, "label": bool}
    prompts     {"prompt": [messages]}
    text        {"text": text}

Sources: TRL's page "Dataset formats and types" (preference, prompt-completion, unpaired preference, prompt-only,
language modelling); the cards of UltraFeedback-binarized, Nectar, Alpaca and ShareGPT.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any, Literal

from seft_bench.data.conversations import (
    LeftOutError,
    ShapeError,
    answer_messages,
    answer_of,
    checked_prompt,
    has_marked_turns,
    messages_of,
    prompt_of,
    shown,
    text_of,
    turns_of,
    whole_conversation,
)
from seft_bench.records import Message, Row

Kind = Literal["pairs", "answers", "messages", "unpaired", "prompts", "text"]


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may choose about a shape.

    Attributes:
        learn: of whole conversations the "last" answer or "all"; None: as the row or the settings of training say.
        pairs: which of several ranked answers make pairs: "best_worst", "adjacent" or "all".
    """

    learn: str | None = None
    pairs: str = "best_worst"


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape.

    Attributes:
        columns: what a row of it must have; alternatives are separated by "|".
        fits: whether a row that has them is of this shape, by the types of their values.
        read: makes rows of ours; ShapeError: the row is malformed, LeftOutError: it cannot be used.
    """

    columns: tuple[str, ...]
    fits: Callable[[Row], bool]
    read: Callable[[Row, Options], list[Row]]

    def missing(self, row: Row) -> list[str]:
        """List the columns that a row lacks."""
        return [column for column in self.columns if not any(name in row for name in column.split("|"))]

    def recognises(self, row: Row) -> bool:
        return not self.missing(row) and self.fits(row)


# Pairs


def _read_preference(row: Row, options: Options) -> list[Row]:
    """TRL's preference, prompt explicit or not; UltraFeedback-binarized; HH-RLHF's texts with marked turns."""
    chosen, rejected = (_conversation(row[column], column) for column in ("chosen", "rejected"))
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise ShapeError(f"'chosen' is {shown(row['chosen'])} and 'rejected' is {shown(row['rejected'])}: not one form")
    if isinstance(chosen, str) or (len(chosen) == 1 and chosen[0]["role"] == "assistant"):
        if row.get("prompt") is None:
            raise ShapeError("there is no 'prompt', and 'chosen' is only an answer, not a whole conversation")
        return [_pair(prompt_of(row), chosen, rejected)]
    return [_pair_of_conversations(chosen, rejected if isinstance(rejected, list) else [])]


def _conversation(value: Any, column: str) -> str | list[Message]:
    if has_marked_turns(value):
        return turns_of(value)
    return value if isinstance(value, str) else answer_messages(value, column)


def _pair_of_conversations(chosen: list[Message], rejected: list[Message]) -> Row:
    """Take what two conversations begin with as the prompt: TRL's implicit one."""
    common = 0
    while common < min(len(chosen), len(rejected)) and chosen[common] == rejected[common]:
        common += 1
    if common == len(chosen) == len(rejected):
        common -= 1
    if common == 0:
        raise LeftOutError("chosen and rejected that begin with no common message")
    if common >= min(len(chosen), len(rejected)):
        raise LeftOutError("conversation that ends in a pair without an answer")
    return _pair(checked_prompt(chosen[:common]), chosen[common:], rejected[common:])


def _pair(prompt: list[Message], chosen: Any, rejected: Any) -> Row:
    return {"prompt": prompt, "chosen": answer_of(chosen, "chosen"), "rejected": answer_of(rejected, "rejected")}


def _read_nectar(row: Row, options: Options) -> list[Row]:
    """Ranked answers, 1 the best, to pairs."""
    prompt = prompt_of(row)
    ranked = sorted((_ranked(answer) for answer in row["answers"]), key=lambda item: item[0])
    made = []
    for (better, good), (worse, poor) in PAIRINGS[options.pairs](ranked):
        if better < worse and good.strip() and poor.strip() and good.strip() != poor.strip():
            made.append({"prompt": prompt, "chosen": good, "rejected": poor})
    if not made:
        raise LeftOutError("ranked answers that make no pair")
    return made


Ranked = tuple[float, str]

PAIRINGS: dict[str, Callable[[Sequence[Ranked]], list[tuple[Ranked, Ranked]]]] = {
    "best_worst": lambda ranked: [(ranked[0], ranked[-1])] if len(ranked) > 1 else [],
    "adjacent": lambda ranked: list(pairwise(ranked)),
    "all": lambda ranked: list(combinations(ranked, 2)),
}
"""Name -> pairs (better, worse) of answers in the order of their ranks."""


def _ranked(answer: Any) -> Ranked:
    if not isinstance(answer, dict) or not isinstance(answer.get("answer"), str):
        raise ShapeError(f"'answers': an answer has 'answer', a text, and 'rank', this is {shown(answer)}")
    rank = answer.get("rank")
    if isinstance(rank, bool) or not isinstance(rank, int | float):
        raise ShapeError(f"'answers': the rank of an answer must be a number, this is {shown(rank)}")
    return float(rank), answer["answer"]


# Answers


def _read_prompt_completion(row: Row, options: Options) -> list[Row]:
    column = "answer" if "answer" in row else "completion"
    prompt = prompt_of(row)
    return [{"prompt": prompt, "answer": answer_of(row[column], column)}]


def _read_alpaca(row: Row, options: Options) -> list[Row]:
    """Instruction, then its input behind a blank line where there is one."""
    return [{"prompt": prompt_of(_instructed(row)), "answer": answer_of(text_of(row, "output"), "output")}]


def _instructed(row: Row) -> Row:
    instruction, given = text_of(row, "instruction"), row.get("input")
    if given is not None and not isinstance(given, str):
        raise ShapeError(f"'input' must be text, this is {shown(given)}")
    return {**row, "prompt": f"{instruction}\n\n{given}" if given and given.strip() else instruction}


def _read_unpaired(row: Row, options: Options) -> list[Row]:
    answered = _read_prompt_completion(row, options)[0]
    return [{**answered, "label": _label(row["label"])}]


def _label(value: Any) -> bool:
    """Read true or false, also as 1 and 0 or as text, which is all that a table of texts has."""
    known = {"true": True, "1": True, "false": False, "0": False}
    if not isinstance(value, bool | int | str) or str(value).lower() not in known:
        raise ShapeError(f"'label' must be true or false, this is {shown(value)}")
    return known[str(value).lower()]


def _read_messages(row: Row, options: Options) -> list[Row]:
    learn = options.learn or row.get("learn")
    return [_learnt(messages_of(row["messages"], "messages"), learn)]


def _read_sharegpt(row: Row, options: Options) -> list[Row]:
    messages = messages_of(row["conversations"], "conversations")
    system = row.get("system")
    if isinstance(system, str) and system.strip() and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": system}, *messages]
    return [_learnt(messages, options.learn)]


def _learnt(messages: list[Message], learn: str | None) -> Row:
    whole: Row = {"messages": whole_conversation(messages)}
    if learn not in ("last", "all", None):
        raise ShapeError(f"'learn' is 'last' or 'all', this is {learn!r}")
    return whole | ({"learn": learn} if learn else {})


def _read_prompts(row: Row, options: Options) -> list[Row]:
    asked = row if "prompt" in row else _instructed(row)
    kept = {"annotated": row["annotated"]} if isinstance(row.get("annotated"), bool) else {}
    return [{"prompt": prompt_of(asked), **kept}]


def _read_text(row: Row, options: Options) -> list[Row]:
    if not text_of(row, "text").strip():
        raise LeftOutError("empty text")
    return [{"text": row["text"]}]


def _is_list(column: str) -> Callable[[Row], bool]:
    return lambda row: isinstance(row[column], list | tuple)


def _always(row: Row) -> bool:
    return True


SHAPES: dict[str, Shape] = {
    "preference": Shape(("chosen", "rejected"), _always, _read_preference),
    "nectar": Shape(("prompt", "answers"), _is_list("answers"), _read_nectar),
    "messages": Shape(("messages",), _is_list("messages"), _read_messages),
    "sharegpt": Shape(("conversations",), _is_list("conversations"), _read_sharegpt),
    "alpaca": Shape(("instruction", "output"), _always, _read_alpaca),
    "unpaired": Shape(("prompt", "completion|answer", "label"), _always, _read_unpaired),
    "prompt-completion": Shape(("prompt", "completion|answer"), _always, _read_prompt_completion),
    "prompts": Shape(("prompt|instruction",), _always, _read_prompts),
    "text": Shape(("text",), lambda row: isinstance(row["text"], str), _read_text),
}
"""Name -> shape. Richer ones stand first: a row is read as the first one of its role that fits."""


def kind_of(row: Row) -> Kind:
    """Tell the kind of a row of ours."""
    signs: dict[str, Kind] = {"chosen": "pairs", "label": "unpaired", "answer": "answers", "messages": "messages"}
    for key, kind in signs.items():
        if key in row:
            return kind
    return "text" if "text" in row else "prompts"


def read_row(shape: Shape, row: Row, options: Options) -> list[Row]:
    """Make a row's rows of ours.

    Raises:
        ShapeError: it lacks a column, or one has another type.
        LeftOutError: it cannot be used, and says why.
    """
    if missing := shape.missing(row):
        columns = ", ".join(column.replace("|", " or ") for column in missing)
        raise ShapeError(f"column {columns} is missing; this row has {', '.join(map(str, row)) or 'none'}")
    made = shape.read(row, options)
    for text in _texts(made):
        if not text.isascii():
            _check_encodes(text)
    return made


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for below in value.values() if isinstance(value, dict) else value:
            yield from _texts(below)


def _check_encodes(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise ShapeError(f"a text holds half a surrogate pair ({half!r}), which no tokenizer takes") from None
