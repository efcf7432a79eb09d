"""Stages between trainings in several processes: the first one runs them, and all of them do the model's work.

The first process alone reads, decides and writes, exactly as a process alone does. Where it has texts drawn or
likelihoods measured, it tells the others what, and each takes whole batches of those that one process would form: so
texts and figures are the same, bit for bit on equal hardware.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seft_bench.chat import prompt_ids
from seft_bench.config import EngineName
from seft_bench.generators.conversations import Completion, ConversationGenerator, Sampling
from seft_bench.records import Message, Row
from seft_bench.stages import door
from seft_bench.stages.engines import Answered, Engine

if TYPE_CHECKING:
    from seft_bench.stages.door import distributed, logprobs


def with_helpers(processes: distributed.Processes, engine: Engine, work: Callable[[Engine], Row]) -> Row:
    """Do a stage's work in the first process, helped by the others; return its outcome in all of them.

    A vLLM server has GPUs of its own choice, so the others only wait for it.
    """
    if processes.size == 1:
        return work(engine)
    outcome: Row = {}
    if processes.is_main:
        outcome = work(HelpedEngine(processes) if engine.name == "transformers" else engine)
        processes.from_main(lambda: None)  # no more orders
    else:
        _help(processes)
    return processes.from_main(lambda: outcome)


def _help(processes: distributed.Processes) -> None:
    """Follow the first process's orders until it has none."""
    generators: dict[str, ConversationGenerator] = {}
    while (order := _next_order(processes)) is not None:
        if order["what"] == "score":
            _score(order, processes)
            continue
        key = str([order["model"], order["batch_size"]])
        if key not in generators:
            generators.clear()  # one model at a time is in memory
            generators[key] = _load(order, processes)
        _complete(generators[key], order, processes)


def _next_order(processes: distributed.Processes) -> Row | None:
    nothing: Row | None = None
    return processes.from_main(lambda: nothing)


class HelpedEngine:
    """In the first process: the same model in every process, each with its part of the work."""

    name: EngineName = "transformers"

    def __init__(self, processes: distributed.Processes) -> None:
        self._processes = processes

    def generator(self, model: Path, batch_size: int) -> ConversationGenerator:
        return _HelpedGenerator(model, batch_size, self._processes)

    def score(self, model: Path, lists: Sequence[Answered]) -> list[list[logprobs.AnswerLogprob]]:
        order = {"what": "score", "model": str(model), "lists": lists}
        return _score(self._processes.from_main(lambda: order), self._processes)

    def facts(self) -> Row:
        return {}

    def make_room(self) -> None:
        """Do nothing: what garbage holds, the same allocator gives again."""

    def release(self) -> None:
        """Do nothing: a stage's models go with the stage."""


class _HelpedGenerator(ConversationGenerator):
    def __init__(self, model: Path, batch_size: int, processes: distributed.Processes) -> None:
        self._order = {"what": "complete", "model": str(model), "batch_size": batch_size}
        self._processes, self._own = processes, _load(self._order, processes)
        self.model_id, self.batch_size = model.name, batch_size
        self.tokenizer, self.stops = self._own.tokenizer, self._own.stops

    def complete(
        self,
        conversations: Sequence[Sequence[Message]],
        samplings: Sequence[Sampling],
        max_new_tokens: int,
        seed: int,
        template_args: Mapping[str, Any] | None = None,
    ) -> list[Completion]:
        order = self._order | {
            "conversations": conversations,
            "samplings": [astuple(sampling) for sampling in samplings],
            "limits": [max_new_tokens, seed, template_args],
        }
        return _complete(self._own, self._processes.from_main(lambda: order), self._processes)


# What every process does of an order


def _load(order: Row, processes: distributed.Processes) -> ConversationGenerator:
    from seft_bench.generators.transformers import TransformersGenerator

    model = Path(order["model"])
    return TransformersGenerator(model, model.name, batch_size=order["batch_size"], device=processes.device("auto"))


def _complete(own: ConversationGenerator, order: Row, processes: distributed.Processes) -> list[Completion]:
    conversations, samplings = order["conversations"], [Sampling(*given) for given in order["samplings"]]
    mine = sorted(_batches_of(own, conversations, processes))
    asked, drawn = [conversations[index] for index in mine], [samplings[index] for index in mine]
    texts = own.complete(asked, drawn, *order["limits"]) if mine else []
    told = [[index, *astuple(text)] for index, text in zip(mine, texts, strict=True)]
    found = {index: Completion(*given) for part in processes.gather(told) for index, *given in part}
    return [found[index] for index in range(len(conversations))]


def _batches_of(
    own: ConversationGenerator, conversations: Sequence[Sequence[Message]], processes: distributed.Processes
) -> list[int]:
    """Choose every so many-th batch, as the generator would cut them: sorted by length."""
    lengths = [len(prompt_ids(own.tokenizer, conversation)) for conversation in conversations]
    order = sorted(range(len(conversations)), key=lambda index: lengths[index])
    batches = [order[start : start + own.batch_size] for start in range(0, len(order), own.batch_size)]
    return [index for batch in batches[processes.rank :: processes.size] for index in batch]


def _score(order: Row, processes: distributed.Processes) -> list[list[logprobs.AnswerLogprob]]:
    lists: Any = order["lists"]
    return door.logprobs.score_answer_lists(Path(order["model"]), None, lists, processes=processes)
