"""A judge request's parameters beside model and messages, and the number of requests that make one verdict. Pure.

Defaults are the official requests': MT-Bench's grades and verdicts (fastchat/llm_judge/common.py) and AlpacaEval 2.0's
preference (alpaca_eval's evaluators_configs/weighted_alpaca_eval_gpt4_turbo).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from seft_bench.judges.prompts import ReplyKind

PreferenceFrom = Literal["logprobs", "choice", "samples", "token"]
"""The source of a preference.

Log-probabilities of the first token; the same under a constraint to "m" or "M" (vLLM 0.11 and later); the share of
several samples; or the one verdict that is written.
"""

PROTOCOL: dict[ReplyKind, dict[str, Any]] = {
    "rating": {"temperature": 0.0, "max_tokens": 2048},
    "verdict": {"temperature": 0.0, "max_tokens": 2048},
    "token": {"temperature": 1.0, "max_tokens": 1, "top_p": 1.0},
}
WITH_LOGPROBS = {"logprobs": True, "top_logprobs": 5}
ONE_OF_TWO = {"structured_outputs": {"choice": ["m", "M"]}}


@dataclass(frozen=True)
class Sampling:
    """The settings of one judge.

    Attributes:
        samples: requests a preference, where it comes from samples.
        temperature, max_tokens: None is the protocol's own.
        seed: of the first sample; later ones count on, or they would all be the same.
        send_temperature: False sends neither temperature nor top_p.
        send_top_p: False sends no top_p.
        extra_body: more parameters, as the server knows them.
    """

    preference_from: PreferenceFrom = "logprobs"
    samples: int = 5
    temperature: float | None = None
    max_tokens: int | None = None
    max_tokens_parameter: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    send_temperature: bool = True
    send_top_p: bool = True
    seed: int | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)

    def requests(self, kind: ReplyKind) -> int:
        """Return the number of requests that make one verdict."""
        return self.samples if kind == "token" and self.preference_from == "samples" else 1

    def reply_tokens(self, kind: ReplyKind) -> int:
        """Return the most tokens of a reply."""
        return self.max_tokens or int(PROTOCOL[kind]["max_tokens"])

    def body(self, kind: ReplyKind, sample_index: int = 0) -> dict[str, Any]:
        """Return the parameters of one request."""
        body = {**PROTOCOL[kind], "max_tokens": self.reply_tokens(kind)}
        if self.temperature is not None:
            body["temperature"] = self.temperature
        if not self.send_temperature:
            body = {name: value for name, value in body.items() if name not in ("temperature", "top_p")}
        if not self.send_top_p:
            body = {name: value for name, value in body.items() if name != "top_p"}
        if kind == "token" and self.preference_from in ("logprobs", "choice"):
            body |= WITH_LOGPROBS
        if kind == "token" and self.preference_from == "choice":
            body |= ONE_OF_TWO
        if self.seed is not None:
            body["seed"] = self.seed + sample_index
        return {**self.adapt(body), **self.extra_body}

    def adapt(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Rename parameters to the names that the server takes."""
        return {self.max_tokens_parameter if name == "max_tokens" else name: value for name, value in body.items()}

    def identity(self) -> dict[str, Any]:
        """Return all that is sent, and the source of preferences: part of a judge's id."""
        return {
            "bodies": {kind: self.body(kind) for kind in PROTOCOL},
            "preference_from": self.preference_from,
            "requests": self.requests("token"),
        }


OFFICIAL = Sampling()
"""The settings of the official requests."""
