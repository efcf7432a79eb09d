"""Generators: where answers come from.

A new kind is one file with a class that has `Generator`'s methods, and one line here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from seft_bench.files import sha256_json
from seft_bench.records import Answer, Question

if TYPE_CHECKING:
    from seft_bench.config import DecodingConfig

GENERATORS = {
    "transformers": "seft_bench.generators.transformers:TransformersGenerator",
    "openai": "seft_bench.generators.openai_compatible:OpenAICompatibleGenerator",
    "vllm": "seft_bench.generators.vllm_server:VLLMGenerator",
    "vllm-in-process": "seft_bench.generators.vllm_engine:VLLMEngineGenerator",
    "ready": "seft_bench.generators.recorded:ReadyGenerator",
    "controls": "seft_bench.generators.controls:ControlGenerator",
}


class Generator(Protocol):
    """Anything that answers questions.

    Attributes:
        model_id: name of the model in records and tables.
    """

    model_id: str

    def answer(
        self,
        questions: Sequence[Question],
        decoding: DecodingConfig,
        decoding_name: str,
        max_new_tokens: int,
        seed: int,
        on_answer: Callable[[Answer], None],
    ) -> None:
        """Answer every turn of every question, handing over each answer when its last turn is done.

        Args:
            seed: of the run; each question and turn draws from a stream of its own.

        Raises:
            InputError, JudgeUnavailableError: some questions could not be answered; what was answered was handed over.
        """


def decoding_hash(decoding: DecodingConfig, max_new_tokens: int, seed: int) -> str:
    """What tells answers drawn in one way from those drawn in another: settings, limit and seed."""
    return sha256_json([decoding.model_dump(), max_new_tokens, seed])[:16]
