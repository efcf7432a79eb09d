"""vLLM in process against our own generator; runs in the environment that has vLLM (`make test-vllm`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from seft_bench.generators.vllm_engine import VLLMEngine, VLLMEngineGenerator
from seft_bench.records import Answer
from tests.vllm.conftest import QUESTIONS, AnswersOf

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    opened = VLLMEngine()
    yield opened
    opened.close()


def test_greedy_answers_equal_transformers_on_each_checkpoint(
    engine: VLLMEngine,
    checkpoints: tuple[Path, Path],
    answers_of: AnswersOf,
    by_transformers: Callable[[Path], dict[str, Answer]],
) -> None:
    engines = set()
    for folder in (*checkpoints, checkpoints[0]):
        assert answers_of(VLLMEngineGenerator(folder, "m", engine)) == by_transformers(folder)
        engines.add(id(engine._llm))
    assert len(engines) == 1  # weights were exchanged in it


def test_an_answer_depends_on_its_own_seed_alone(
    engine: VLLMEngine, checkpoints: tuple[Path, Path], answers_of: AnswersOf
) -> None:
    generator = VLLMEngineGenerator(checkpoints[0], "m", engine)
    together = answers_of(generator, temperature=1.0, seed=1)
    alone = answers_of(generator, QUESTIONS[3:4], temperature=1.0, seed=1)
    assert alone["3"] == together["3"]
    assert answers_of(generator, temperature=1.0, seed=2) != together


def test_a_prompt_beyond_the_context_is_over_length(
    engine: VLLMEngine, checkpoints: tuple[Path, Path], answers_of: AnswersOf
) -> None:
    questions = [dataclasses.replace(QUESTIONS[0], turns=("a river " * 400,)), QUESTIONS[1]]
    found = answers_of(VLLMEngineGenerator(checkpoints[0], "m", engine), questions)
    assert found["0"].finish_reasons == ("over_length",)
    assert found["1"].finish_reasons[0] in ("stop", "length")


def test_tied_embeddings_are_answered_rightly_too(
    engine: VLLMEngine,
    tied: tuple[Path, Path],
    answers_of: AnswersOf,
    by_transformers: Callable[[Path], dict[str, Answer]],
) -> None:
    for folder in tied:
        assert answers_of(VLLMEngineGenerator(folder, "m", engine)) == by_transformers(folder)
