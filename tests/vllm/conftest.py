"""Fixtures of the tests against real vLLM: tiny models that its CPU kernels take, and one server for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from seft_bench.config import DecodingConfig
from seft_bench.generators import Decoding
from seft_bench.records import Answer, Question
from tests.tiny_model import VLLM_HIDDEN_SIZE, make_tiny_model

QUESTIONS = [
    Question(
        suite="s",
        id=str(index),
        category="",
        turns=(f"{index}. Name {index} fish, please." + " And why?" * index, "And <|end|> two more?"),
    )
    for index in range(8)
]

AnswersOf = Callable[..., dict[str, Answer]]


@pytest.fixture(scope="session")
def tied(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two whose input and output embeddings are one tensor, which vLLM does not reload."""
    folder = tmp_path_factory.mktemp("tied")
    return make_tiny_model(folder / "c", seed=2, hidden_size=VLLM_HIDDEN_SIZE), make_tiny_model(
        folder / "d", seed=3, hidden_size=VLLM_HIDDEN_SIZE
    )


@pytest.fixture(scope="session")
def judge_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose context holds a judge's prompt."""
    return make_tiny_model(
        tmp_path_factory.mktemp("judge") / "judge",
        seed=4,
        hidden_size=VLLM_HIDDEN_SIZE,
        tied=False,
        context_tokens=4096,
    )


@pytest.fixture(scope="session")
def answers_of() -> AnswersOf:
    def answer(
        generator: Any, questions: list[Question] = QUESTIONS, temperature: float = 0.0, tokens: int = 32, seed: int = 0
    ) -> dict[str, Answer]:
        found: dict[str, Answer] = {}
        decoding = Decoding("d", DecodingConfig(temperature=temperature), tokens, seed)
        generator.answer(questions, decoding, lambda answer: found.update({answer.question_id: answer}))
        return found

    return answer


@pytest.fixture(scope="session")
def by_transformers(answers_of: AnswersOf) -> Callable[[Path], dict[str, Answer]]:
    """The same questions answered greedily by our own generator."""

    def answer(folder: Path) -> dict[str, Answer]:
        from seft_bench.generators.transformers import TransformersGenerator

        return answers_of(TransformersGenerator(folder, "m"))

    return answer


@pytest.fixture(scope="session")
def new_server(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    from seft_bench.inference.vllm.environment import find_environment
    from seft_bench.inference.vllm.server import VLLMServer

    return lambda **settings: VLLMServer(
        find_environment(), tmp_path_factory.mktemp("logs"), start_seconds=300, **settings
    )


@pytest.fixture(scope="session")
def vllm_server(new_server: Callable[..., Any]) -> Iterator[Any]:
    with new_server() as running:
        yield running
