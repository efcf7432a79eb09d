"""Engines, which answer for checkpoints instead of our own generator, and who may hold the machine's memory when.

A vLLM server takes most of a GPU for itself. So an engine, a model of ours and a judge with a server of its own are
never up at the same time: everything is answered, the engine is closed, then everything is judged.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from seft_bench.checkpoints.whole import WholeModels
from seft_bench.console import note
from seft_bench.errors import InputError, unknown_name
from seft_bench.judges import Judge
from seft_bench.subjects import Subject
from seft_bench.suites import Suite

if TYPE_CHECKING:
    from seft_bench.generators.vllm_engine import VLLMEngine
    from seft_bench.inference.vllm.server import VLLMServer

DEFAULT_ENGINE = "transformers"


class Engine(Protocol):
    """Answers for any number of checkpoints, one after the other."""

    def answers_for(self, subject: Subject) -> Subject:
        """Return the subject with its answers from here; itself where it is no checkpoint (a file of answers)."""

    def close(self) -> None:
        """Give the memory back; the next answer would take it again."""


class ServerEngine:
    """One vLLM server, started at the first answer that is missing.

    Raises:
        InputError: vLLM is not installed where it should be.
    """

    def __init__(self, log_folder: Path, trust_remote_code: bool) -> None:
        from seft_bench.inference.vllm.environment import find_environment
        from seft_bench.inference.vllm.server import VLLMServer

        self.server: VLLMServer = VLLMServer(find_environment(), log_folder, trust_remote_code=trust_remote_code)
        self.whole = WholeModels(log_folder.parent, note)

    def answers_for(self, subject: Subject) -> Subject:
        from seft_bench.generators.vllm_server import VLLMGenerator

        folder = subject.folder
        if folder is None:
            return subject
        return dataclasses.replace(
            subject,
            engine=self.server.engine,
            open_generator=lambda: VLLMGenerator(self.whole.of(folder), subject.model_id, self.server),
        )

    def close(self) -> None:
        self.server.stop()
        self.whole.close()


class InProcessEngine:
    """vLLM in this process, for environments that hold both.

    Raises:
        InputError: this one has no vLLM.
    """

    def __init__(self, log_folder: Path, trust_remote_code: bool) -> None:
        from seft_bench.generators.vllm_engine import VLLMEngine

        self.engine: VLLMEngine = VLLMEngine(trust_remote_code=trust_remote_code)
        self.whole = WholeModels(log_folder.parent, note)

    def answers_for(self, subject: Subject) -> Subject:
        from seft_bench.generators.vllm_engine import VLLMEngineGenerator

        folder = subject.folder
        if folder is None:
            return subject
        name = f"{self.engine.version} in process"  # its random streams are not the server's
        return dataclasses.replace(
            subject,
            engine=name,
            open_generator=lambda: VLLMEngineGenerator(self.whole.of(folder), subject.model_id, self.engine),
        )

    def close(self) -> None:
        self.engine.close()
        self.whole.close()


ENGINES: dict[str, type[ServerEngine] | type[InProcessEngine]] = {
    "vllm": ServerEngine,
    "vllm-in-process": InProcessEngine,
}


def open_engine(name: str, log_folder: Path, trust_remote_code: bool, served_elsewhere: bool = False) -> Engine | None:
    """Return an engine by its name; None is our own generator. Nothing is started.

    Args:
        served_elsewhere: the models are behind a server of the user's.

    Raises:
        InputError: unknown name, an engine for models that a server has already, or vLLM is not installed.
    """
    if name == DEFAULT_ENGINE:
        return None
    if name not in ENGINES:
        raise unknown_name("engine", name, [DEFAULT_ENGINE, *ENGINES])
    if served_elsewhere:
        raise InputError(
            f"--engine {name} answers for checkpoints, but with --server the server does. Leave one of the two out."
        )
    return ENGINES[name](log_folder, trust_remote_code)


class JudgedSuite(NamedTuple):
    """A suite and the judge that judges it."""

    suite: Suite
    judge: Judge


Turn = tuple[Subject, Suite, Judge, Sequence[str]]


def in_turn(
    subjects: Sequence[Subject], suites: Sequence[JudgedSuite], steps: Sequence[str], engine: Engine | None
) -> Iterator[Turn]:
    """Yield (subject, suite, judge, steps) in the order in which memory allows.

    Whatever is no longer needed is closed in between.
    """
    if engine is None and not any(judge.is_managed for _, judge in suites):
        yield from ((subject, suite, judge, steps) for subject in subjects for suite, judge in suites)
        return
    if "answer" in steps:
        yield from ((subject, suite, judge, ["answer"]) for subject in subjects for suite, judge in suites)
        _free(engine)
    if rest := [step for step in steps if step != "answer"]:
        for place, (suite, judge) in enumerate(suites):
            yield from ((subject, suite, judge, rest) for subject in subjects)
            if all(judge is not later for _, later in suites[place + 1 :]):
                judge.close()


@contextlib.contextmanager
def closed_at_the_end(engine: Engine | None, judges: Sequence[Judge]) -> Iterator[None]:
    """Make sure that no server of ours runs afterwards, whatever happens inside."""
    try:
        yield
    finally:
        if engine:
            engine.close()
        for judge in judges:
            judge.close()


def _free(engine: Engine | None) -> None:
    """Free the engine's memory, or that of our own models, which are garbage by now but still held by torch."""
    if engine:
        engine.close()
    elif torch := sys.modules.get("torch"):
        gc.collect()
        torch.cuda.empty_cache()
