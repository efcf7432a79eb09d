"""Engines: who draws drafts and revisions and measures likelihoods in the stages between trainings.

A model in this process, or a vLLM server of ours. The server takes most of a GPU, so it is up only between trainings:
started at the first stage that needs it, given other weights where that is safe, and gone before a training starts.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from seft_bench.chat import answer_ids
from seft_bench.checkpoints import base_of, is_adapter
from seft_bench.checkpoints.weights import load_config, positions_of
from seft_bench.checkpoints.whole import WholeModels
from seft_bench.config import EngineName
from seft_bench.console import note
from seft_bench.errors import InputError
from seft_bench.records import Message, Row
from seft_bench.stages import door

if TYPE_CHECKING:
    from seft_bench.generators.conversations import ConversationGenerator
    from seft_bench.generators.vllm_tokens import ServedGenerator
    from seft_bench.inference.vllm.server import VLLMServer
    from seft_bench.stages.door import logprobs, stages

Answered = Sequence[tuple[Sequence[Message], str]]
"""Prompts with a given answer each."""

ANSWERS_AT_ONCE = 1024
"""Answers whose token ids are held while their likelihoods are asked for."""


class Engine(Protocol):
    """Draws texts and measures likelihoods for any number of checkpoints, one after the other.

    Attributes:
        name: as recipes give it; it enters names of stages' folders, as no two engines draw the same samples.
    """

    @property
    def name(self) -> EngineName: ...

    def generator(self, model: Path, batch_size: int) -> ConversationGenerator:
        """Return what continues conversations with this checkpoint, until another one is asked for."""

    def score(self, model: Path, lists: Sequence[Answered]) -> list[list[logprobs.AnswerLogprob]]:
        """Return the log-likelihood of each answer, stop token included, one list for each given one."""

    def facts(self) -> Row:
        """Return what a stage's record says of the engine."""

    def make_room(self) -> None:
        """Let go of memory that others in this process still hold; every process calls it, only one the rest."""

    def release(self) -> None:
        """Give all memory back; the next call would take it again. May be called twice."""


def mean_logprobs(
    engine: Engine, model: Path, prompts: Sequence[Sequence[Message]], *answers: Sequence[str]
) -> list[list[float]]:
    """Mean log-probability per token of each answer, its stop token included.

    Returns:
        One list for each list of answers to the same prompts.
    """
    lists = [list(zip(prompts, texts, strict=True)) for texts in answers]
    return [[score.sum / max(1, score.tokens) for score in scores] for scores in engine.score(model, lists)]


@dataclass(frozen=True)
class OwnEngine:
    """A model in this process, loaded for each stage."""

    name: EngineName = "transformers"

    def generator(self, model: Path, batch_size: int) -> ConversationGenerator:
        from seft_bench.generators.transformers import TransformersGenerator

        return TransformersGenerator(model, model.name, batch_size=batch_size)

    def score(self, model: Path, lists: Sequence[Answered]) -> list[list[logprobs.AnswerLogprob]]:
        return door.logprobs.score_answer_lists(model, None, lists)

    def facts(self) -> Row:
        return {}

    def make_room(self) -> None:
        """Do nothing: what garbage holds, the same allocator gives again."""

    def release(self) -> None:
        """Do nothing: a stage's model goes with the stage."""


@dataclass(frozen=True)
class VLLMServerEngine:
    """One vLLM server for all stages between two trainings; of an adapter it is given the whole model.

    Attributes:
        whole: where those lie until the next training.
    """

    server: VLLMServer
    whole: WholeModels
    name: EngineName = "vllm"

    def generator(self, model: Path, batch_size: int) -> ServedGenerator:
        from seft_bench.generators.vllm_tokens import ServedGenerator

        return ServedGenerator(self.whole.of(model), model.name, self.server, batch_size=batch_size)

    def score(self, model: Path, lists: Sequence[Answered]) -> list[list[logprobs.AnswerLogprob]]:
        served = self.generator(model, batch_size=1)
        return [self._score_list(served, answered) for answered in lists]

    def _score_list(self, served: ServedGenerator, answered: Answered) -> list[logprobs.AnswerLogprob]:
        parts = range(0, len(answered), ANSWERS_AT_ONCE)
        return [scored for start in parts for scored in _score(served, answered[start : start + ANSWERS_AT_ONCE])]

    def facts(self) -> Row:
        arguments = [*self.server.environment.arguments, *self.server.arguments]
        return {"engine": self.server.engine, "engine_arguments": arguments, "engine_gpus": self._gpus()}

    def _gpus(self) -> int:
        words = [*self.server.arguments, "--tensor_parallel_size", "1"]
        return 0 if self.server.environment.on_cpu else int(words[words.index("--tensor_parallel_size") + 1])

    def make_room(self) -> None:
        """Give a GPU's memory back that our trainer's garbage still holds: the server wants most of it."""
        if not self.server.is_running:
            free_our_memory()

    def release(self) -> None:
        self.server.stop()
        self.whole.close()


def _score(served: ServedGenerator, answered: Answered) -> list[logprobs.AnswerLogprob]:
    ids = [answer_ids(served.tokenizer, messages, answer) for messages, answer in answered]
    values = served.logprobs([prompt for prompt, _ in ids], [answer for _, answer in ids])
    return [door.logprobs.AnswerLogprob(sum(tokens), len(tokens)) for tokens in values]


@contextmanager
def open_engine(name: EngineName, log_folder: Path, server_arguments: Sequence[str] = ()) -> Iterator[Engine]:
    """Yield an engine by its name; nothing of it runs afterwards, whatever happens inside.

    Args:
        log_folder: of the server's logs.
        server_arguments: added to its command line.

    Raises:
        InputError: vLLM is not installed where it should be.
    """
    engine: Engine = OwnEngine() if name == "transformers" else _server_engine(log_folder, server_arguments)
    try:
        yield engine
    finally:
        engine.release()


def needed_engine(name: EngineName, plan: Sequence[stages.Stage]) -> EngineName:
    """Return the engine to open for a method: vLLM, which has to be installed, only where a stage draws or scores.

    Raises:
        InputError: a training would have to draw by vLLM.
    """
    drawing = [stage.name for stage in plan if stage.kind == "train" and stage.online]
    if name == "vllm" and drawing:
        raise InputError(
            f"engine: vllm cannot draw for stage {drawing[0]!r}, whose policy changes with every step: give engine: "
            "transformers, or a method that samples by rounds (iterative-dpo, best-of-n)"
        )
    return name if _served(plan) else "transformers"


def check_context(max_model_len: int | None, plan: Sequence[stages.Stage], base: Path) -> None:
    """Refuse a server's context that it would refuse itself, or that holds no prompt, before hours of training.

    Args:
        max_model_len: the server's, None where it takes the model's own.
        base: what the stages' models are made from.

    Raises:
        InputError: more than the model's positions, or no more than a stage draws.
    """
    served = _served(plan)
    if max_model_len is None or not served:
        return
    positions = _positions(base)
    if positions and max_model_len > positions:
        raise InputError(
            f"vllm.max_model_len: {max_model_len}, and {base} has {positions} positions: give at most as many, or "
            "leave it out"
        )
    for stage in served:
        drawn = stage.settings.max_new_tokens if stage.kind != "score" or stage.what == "calibration" else 0
        if drawn >= max_model_len:
            raise InputError(
                f"vllm.max_model_len: {max_model_len} leaves no room for a prompt: stage {stage.name!r} draws up to "
                f"{drawn} tokens (max_new_tokens). Raise the one, or lower the other."
            )


def _served(plan: Sequence[stages.Stage]) -> list[stages.Sample | stages.Score | stages.Revise]:
    """Return the stages that an engine works for."""
    return [
        stage
        for stage in plan
        if stage.kind != "train"
        and stage.kind != "pair"
        and not door.stages.grader_of(stage)
        and "reward_model" not in stage.inputs
    ]


def _positions(base: Path) -> int | None:
    whole = base_of(base) if is_adapter(base) else base
    return positions_of(load_config(whole))


def _server_engine(log_folder: Path, arguments: Sequence[str]) -> VLLMServerEngine:
    from seft_bench.inference.vllm.environment import find_environment
    from seft_bench.inference.vllm.server import VLLMServer

    server = VLLMServer(find_environment(), log_folder, arguments=arguments)
    return VLLMServerEngine(server, WholeModels(log_folder, note))


def free_our_memory() -> None:
    """Give a GPU's memory back that our trainer's garbage still holds: the server wants most of it."""
    gc.collect()
    if torch := sys.modules.get("torch"):
        torch.cuda.empty_cache()
