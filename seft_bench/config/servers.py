"""The keys that every YAML of a server has, a judge's and an evaluated model's; and those of the latter.

A key is never in it: `api_key_env` names the environment variable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Literal

from pydantic import Field, JsonValue, field_validator

from seft_bench.config.loading import Strict

SET_BY_OTHER_KEYS = {
    **dict.fromkeys(("model", "temperature", "max_tokens", "seed", "api_key"), "has a key of its own in the YAML"),
    "max_completion_tokens": "is sent with `max_tokens_parameter: max_completion_tokens`",
    "n": "is `preference_from: samples` with `samples`",
    **dict.fromkeys(
        ("logprobs", "top_logprobs", "structured_outputs", "guided_choice", "response_format"),
        "is what `preference_from` decides",
    ),
    **dict.fromkeys(("messages", "top_p", "stream", "stream_options", "stop"), "is fixed by the protocol"),
}
"""Parameters of a request that `extra_body` must not set, and why."""

VARIABLE_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_KEY_HEADERS = ("authorization", "api-key", "x-api-key", "proxy-authorization", "cookie")


_TEMPLATE = "chat_template_kwargs"
"""Arguments of the chat template (vLLM), which a decoding and a server's settings may both have."""


class ServerSettings(Strict):
    """How an OpenAI-compatible server is asked."""

    base_url: str = Field(
        default="https://api.openai.com/v1", description="a query in it (`?api-version=...`) goes with each request"
    )
    api_key_env: str | None = Field(
        default="OPENAI_API_KEY",
        pattern=VARIABLE_NAME,
        description="NAME of the variable with the key; null for servers without one",
    )
    api_key_header: str | None = Field(
        default=None, description="header with the key; null: `Authorization: Bearer`, or `api-key` at Azure"
    )
    api_version: str | None = Field(default=None, description="Azure's; the same as `?api-version=` in base_url")
    headers: dict[str, str] = Field(default_factory=dict, description="more headers, none of them a secret")
    max_tokens_parameter: Literal["max_tokens", "max_completion_tokens"] = Field(
        default="max_tokens", description="newer OpenAI models take the second only"
    )
    send_temperature: bool = Field(
        default=True, description="false: neither temperature nor top_p is sent, for models that refuse them"
    )
    send_top_p: bool = Field(default=True, description="false: no top_p is sent")
    extra_body: dict[str, JsonValue] = Field(
        default_factory=dict, description="more parameters of each request, e.g. reasoning_effort"
    )
    max_in_flight: int = Field(default=64, gt=0)
    timeout_seconds: float = Field(default=120.0, gt=0)
    max_attempts: int = Field(default=6, gt=0)
    input_usd_per_million_tokens: float | None = Field(default=None, ge=0)
    output_usd_per_million_tokens: float | None = Field(default=None, ge=0)
    price_date: date | None = None

    @field_validator("extra_body")
    @classmethod
    def _leaves_alone_what_others_set(cls, extra_body: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if taken := [f"{key} {SET_BY_OTHER_KEYS[key]}" for key in extra_body if key in SET_BY_OTHER_KEYS]:
            raise ValueError("; ".join(taken))
        return extra_body

    @field_validator("headers")
    @classmethod
    def _holds_no_key(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if name.lower() in _KEY_HEADERS:
                raise ValueError(f"{name} holds a key: name its variable as `api_key_env` (and `api_key_header`)")
            if not _HEADER.fullmatch(name) or not value.isprintable() or not value.isascii():
                raise ValueError(f"{name!r} is no header of HTTP with a value in ASCII")
        return headers

    @property
    def query(self) -> dict[str, str]:
        """Return the parameters that go behind each URL."""
        return {"api-version": self.api_version} if self.api_version else {}


class ServedModelConfig(ServerSettings):
    """A server whose models are evaluated: what `--server FILE.yaml` names."""

    base_url: str
    api_key_env: str | None = Field(
        default=None, pattern=VARIABLE_NAME, description="NAME of the variable with the key; null for servers without"
    )
    send_seed: bool = Field(default=True, description="false: no seed is sent, for servers that refuse it")

    @property
    def identity(self) -> dict[str, JsonValue]:
        """Return what can change an answer, where it is not the default: part of the answers' identity."""
        names = ("headers", "max_tokens_parameter", "send_temperature", "send_top_p", "send_seed", "extra_body")
        row = self.model_dump(mode="json", include=set(names))
        defaults = {name: ServedModelConfig.model_fields[name].get_default(call_default_factory=True) for name in names}
        return {name: row[name] for name in names if row[name] != defaults[name]}

    def adapted(self, sampling: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        """Return the parameters of a request as this server takes them."""
        dropped = {"temperature", "top_p"} if not self.send_temperature else {"top_p"} if not self.send_top_p else set()
        dropped |= set() if self.send_seed else {"seed"}
        kept = {name: value for name, value in sampling.items() if name not in dropped}
        if "max_tokens" in kept:
            kept[self.max_tokens_parameter] = kept.pop("max_tokens")
        told, more = kept.get(_TEMPLATE), self.extra_body.get(_TEMPLATE)
        both: dict[str, JsonValue] = (
            {_TEMPLATE: {**told, **more}} if isinstance(told, dict) and isinstance(more, dict) else {}
        )
        return {**kept, **self.extra_body, **both}
