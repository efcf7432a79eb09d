"""Token ids to a server of ours and back: completions of prompts, and log-probabilities of given sequences.

The server sees no text, so the chat template is applied once, by us, and no token is cut in another way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from seft_bench.checkpoints.weights import no_numbers
from seft_bench.errors import ServiceUnavailableError
from seft_bench.inference.client import ChatCall
from seft_bench.inference.replies import Reply
from seft_bench.inference.vllm.client import ServerClient


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A prompt to be continued.

    Attributes:
        max_tokens: new tokens at most.
        seed: of this request's own random stream; a greedy one draws nothing from it.
    """

    prompt: Sequence[int]
    max_tokens: int
    temperature: float
    top_p: float
    seed: int


class TokenClient(ServerClient):
    """Asks a `VLLMServer` for completions of token ids."""

    path = "/completions"

    def complete(self, requests: Sequence[TokenRequest], stops: Sequence[int]) -> list[list[int]]:
        """Continue every prompt; return the new ids, up to and with a stop token.

        Args:
            stops: the only tokens that end an answer, whatever the checkpoint says of its own.

        Raises:
            ServiceUnavailableError: the server died, or refused a prompt.
        """
        found: dict[int, list[int]] = {}

        def take(index: int, reply: Reply) -> None:
            found[index] = list(reply.body["choices"][0]["token_ids"])

        self._ask_all([_completion_body(request, stops) for request in requests], take)
        return [found[index] for index in range(len(requests))]

    def logprobs(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return the log-probability of every token of each sequence but its first, given those before it.

        Raises:
            ServiceUnavailableError: the server died, or refused a sequence: it takes those that leave room for one
                token more. InputError: one is no finite number.
        """
        found: dict[int, list[float]] = {}

        def take(index: int, reply: Reply) -> None:
            ids, listed = sequences[index], reply.body["choices"][0]["prompt_logprobs"]
            values = [listed[place][str(ids[place])]["logprob"] for place in range(1, len(ids))]
            if not all(math.isfinite(value) for value in values):
                raise no_numbers(f"the model behind the vLLM server ({self.server.folder})")
            found[index] = values

        self._ask_all([_scoring_body(ids) for ids in sequences], take)
        return [found[index] for index in range(len(sequences))]

    def _ask_all(self, bodies: Sequence[Mapping[str, Any]], take: Callable[[int, Reply], None]) -> None:
        def checked(index: int, reply: Reply) -> None:
            if reply.status != "ok":
                raise ServiceUnavailableError(f"the vLLM server does not answer: {reply.text}")
            take(index, reply)

        self.run([ChatCall((), body) for body in bodies], checked)

    def _body(self, call: ChatCall) -> dict[str, Any]:
        return {"model": self.model, **call.sampling}

    def _completion(self, body: Mapping[str, Any], latency_seconds: float | None) -> Reply:
        if not isinstance(body["choices"][0]["token_ids"], list):
            raise ValueError("the completion has no token ids")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return Reply("ok", latency_seconds=latency_seconds, received_at=now, body=body)


def _completion_body(request: TokenRequest, stops: Sequence[int]) -> dict[str, Any]:
    return {
        "prompt": list(request.prompt),
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed,
        "stop_token_ids": list(stops),
        "ignore_eos": True,
        "return_token_ids": True,
    }


def _scoring_body(ids: Sequence[int]) -> dict[str, Any]:
    """Ask for the log-probability of the prompt's own tokens, and for the one new token that vLLM insists on."""
    return {"prompt": list(ids), "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0, "return_token_ids": True}
