"""Answers through our own vLLM server: one server for many checkpoints, whose weights it loads in turn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seft_bench.chat import load_tokenizer, opens_reasoning, stop_ids
from seft_bench.generators import Decoding, OnAnswer
from seft_bench.generators.openai_compatible import OpenAICompatibleGenerator
from seft_bench.inference.store import ResponseStore
from seft_bench.inference.vllm.client import AnswerClient
from seft_bench.inference.vllm.server import VLLMServer
from seft_bench.records import Question


class VLLMGenerator(OpenAICompatibleGenerator):
    """A checkpoint folder behind a `VLLMServer`.

    Answers end at the same tokens and start from the same prompt as `TransformersGenerator`'s; greedy ones are equal up
    to the engines' rounding, sampled ones come from vLLM's own random streams.

    Args:
        server: shared by the generators of one command; it is started, or given this checkpoint's weights, when answers
            are asked for.
        store_path: keeps each response as it arrives, under the loaded weights' fingerprint; None keeps nothing.
    """

    def __init__(self, folder: Path, model_id: str, server: VLLMServer, *, store_path: Path | None = None) -> None:
        tokenizer = load_tokenizer(folder, server.trust_remote_code)
        store = ResponseStore(store_path) if store_path else None
        super().__init__(model_id, AnswerClient(server, tokenizer, stop_ids(tokenizer), store))
        self.folder, self.server, self._tokenizer = folder, server, tokenizer

    def answer(self, questions: Sequence[Question], decoding: Decoding, on_answer: OnAnswer) -> None:
        """Answer as `OpenAICompatibleGenerator.answer` does, with this checkpoint, whatever was served before.

        Raises:
            InputError: the server does not start on it. ServiceUnavailableError: the server died; what was answered was
                handed over.
        """
        self.server.serve(self.folder)
        self.client.weights_fingerprint = self.server.weights_fingerprint  # known, so it need not be measured
        super().answer(questions, decoding, on_answer)

    def _opens_reasoning(self, decoding: Decoding) -> bool:
        return opens_reasoning(self._tokenizer, decoding.template_args)

    def _note_model(self, returned: str) -> None:
        """Do nothing: the server knows all checkpoints under one name."""
