"""Judges behind any OpenAI-compatible server: OpenAI itself, vLLM, llama.cpp, any base URL.

Grades follow MT-Bench's protocol (temperature 0, at most 2,048 tokens), preferences AlpacaEval 2.0's (one token,
temperature 1, the five likeliest tokens), pairs of conversations FastChat's pairwise one. A judge whose server gives
no log-probabilities says so in its YAML (`logprobs: false`): its verdict is then the one token that it writes, and its
id differs, so that two kinds of estimate never stand under one name.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from seft_bench.config import OpenAIJudgeConfig
from seft_bench.errors import InputError, JudgeUnavailableError
from seft_bench.files import sha256_folder, sha256_json
from seft_bench.judges import parse
from seft_bench.judges.base import OnJudgment, judgment_of
from seft_bench.judges.client import ChatCall, ChatClient
from seft_bench.judges.prompts import Prompt, ReplyKind, TemplateSet, render, template_versions
from seft_bench.judges.replies import Reply
from seft_bench.records import JudgeRequest, Question
from seft_bench.store import ResponseStore

# Official requests: fastchat/llm_judge/common.py and alpaca_eval's evaluators_configs/weighted_alpaca_eval_gpt4_turbo.
SAMPLING: dict[ReplyKind, dict[str, Any]] = {
    "rating": {"temperature": 0.0, "max_tokens": 2048},
    "verdict": {"temperature": 0.0, "max_tokens": 2048},
    "token": {"temperature": 1.0, "max_tokens": 1, "top_p": 1.0},
}
TOP_LOGPROBS = 5
CHARACTERS_PER_TOKEN = 4.0
"""Of English text, on average: good enough to refuse a prompt that a server would silently cut."""

_PROBE = Question(suite="probe", id="probe", category="", turns=("What colour is the clear sky by day?",))
Verdict = dict[str, Any]


class OpenAIJudge:
    """Asks a chat-completions server; see `config.OpenAIJudgeConfig` for what the arguments mean.

    Attributes:
        notes: facts about the run, each once ("the server returned another model").
    """

    def __init__(
        self,
        name: str,
        client: ChatClient,
        *,
        templates: TemplateSet = "official",
        temperature: float | None = None,
        max_tokens: int | None = None,
        logprobs: bool = True,
        context_tokens: int | None = None,
        usd_per_million_tokens: tuple[float | None, float | None] = (None, None),
    ) -> None:
        self.client, self.templates, self.logprobs, self.context_tokens = client, templates, logprobs, context_tokens
        self.usd_per_million_tokens = usd_per_million_tokens
        self._overrides = {key: value for key, value in (("temperature", temperature), ("max_tokens", max_tokens)) if value is not None}
        self._name = name
        self.notes: list[str] = []

    @functools.cached_property
    def id(self) -> str:
        """Name and hash of what can change a verdict: server, model, wording, sampling, how a preference is read."""
        settings = {
            "server": self.client.base_url,
            "model": self.client.model,
            "templates": [self.templates, template_versions(self.templates)],
            "sampling": self._overrides,
            "preference_from": self._preference_source(),
        }
        return f"{self._name}-{sha256_json(settings)[:8]}"

    @classmethod
    def from_config(cls, config: OpenAIJudgeConfig, store_path: Path | None = None) -> OpenAIJudge:
        from seft_bench.judges import missing_key

        client = ChatClient(
            config.base_url,
            config.model,
            config.api_key_env,
            ResponseStore(store_path) if store_path else None,
            max_in_flight=config.max_in_flight,
            timeout_seconds=config.timeout_seconds,
            max_attempts=config.max_attempts,
            on_missing_key=functools.partial(missing_key, config.name),
        )
        return cls(
            config.name,
            client,
            templates=config.templates,
            temperature=config.temperature,
            max_tokens=config.max_tokens,
            logprobs=config.logprobs,
            context_tokens=config.context_tokens,
            usd_per_million_tokens=(config.input_usd_per_million_tokens, config.output_usd_per_million_tokens),
        )

    def check(self, kinds: Collection[str]) -> None:
        """One small real request of each kind: the key is good, the model is there, the reply can be used."""
        for kind in sorted(kinds):
            request = _probe_request(kind)
            prompt = render(request, self.templates)
            sampling = {**self._sampling(prompt.template.reply), "max_tokens": 1}
            reply = self.client.probe(ChatCall(prompt.messages, sampling))
            if reply.status != "ok":
                raise JudgeUnavailableError(f"judge {self._name}: the probe of {self.client.base_url} failed ({reply.text})")
            if "logprobs" in sampling and reply.top_logprobs is None:
                raise InputError(
                    f"judge {self._name}: {self.client.base_url} returns no log-probabilities for {self.client.model}, which preferences are computed from. "
                    "Use a server that gives them, or set `logprobs: false` in the judge's YAML: the verdict is then its one token, under an id of its own."
                )
            self._note_model(reply.model)

    def judge(self, requests: Sequence[JudgeRequest], model_id: str, on_judgment: OnJudgment) -> None:
        fingerprint_local_weights(self.client)
        asked: list[tuple[JudgeRequest, Prompt]] = []
        for request in requests:
            prompt = render(request, self.templates)
            if (unasked := self._without_asking(request, prompt)) is not None:
                on_judgment(judgment_of(request, model_id, self.id, self.client.model, prompt_hash=prompt.hash, **unasked))
            else:
                asked.append((request, prompt))
        calls = [self._call(request, prompt) for request, prompt in asked]

        def on_reply(index: int, reply: Reply) -> None:
            request, prompt = asked[index]
            self._note_model(reply.model)
            on_judgment(judgment_of(request, model_id, self.id, self.client.model, prompt_hash=prompt.hash, **self._verdict(request, prompt, reply)))

        self.client.run(calls, on_reply)

    def _call(self, request: JudgeRequest, prompt: Prompt) -> ChatCall:
        reply_kind = prompt.template.reply
        return ChatCall(
            prompt.messages,
            self._sampling(reply_kind),
            prompt.template.version,
            is_good=lambda reply: bool(self._read(reply_kind, request.candidate_first, reply)),
            repeat=request.repeat,
        )

    def _sampling(self, reply_kind: ReplyKind) -> dict[str, Any]:
        sampling = {**SAMPLING[reply_kind], **self._overrides}
        if reply_kind == "token" and self.logprobs:
            sampling |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        return sampling

    def _without_asking(self, request: JudgeRequest, prompt: Prompt) -> Verdict | None:
        """Verdicts that need no server: two equal answers, and a prompt that cannot fit."""
        if request.kind == "preference" and request.candidate == request.baseline:
            return {"status": "ok", "preference": 1.5, "details": {"preference_from": "equal answers"}, "price_usd": 0.0}
        needed = sum(len(message["content"]) for message in prompt.messages) / CHARACTERS_PER_TOKEN + self._sampling(prompt.template.reply)["max_tokens"]
        if self.context_tokens is not None and needed > self.context_tokens:
            raw = f"not sent: about {needed:.0f} tokens with the reply, the judge's context has {self.context_tokens}"
            return {"status": "over_length", "raw": raw, "price_usd": 0.0}
        return None

    def _verdict(self, request: JudgeRequest, prompt: Prompt, reply: Reply) -> Verdict:
        """The judgment's fields that a reply gives."""
        fields: Verdict = {
            "status": reply.status,
            "raw": reply.text,
            "returned_model": reply.model,
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "latency_seconds": reply.latency_seconds,
            "price_usd": self._price_usd(reply),
            "judged_at": reply.received_at,
        }
        details: dict[str, Any] = {"template": prompt.template.name, "from_store": reply.stored}
        if reply.status == "ok":
            read = self._read(prompt.template.reply, request.candidate_first, reply)
            details |= self._reading_details(prompt.template.reply, reply)
            fields |= read or {"status": "parse_error"}
        return {**fields, "details": details}

    def _read(self, reply_kind: ReplyKind, candidate_first: bool, reply: Reply) -> Verdict | None:
        """{"score": x} or {"preference": x}, or None where the judge could not say."""
        if reply_kind == "rating":
            score = parse.parse_rating(reply.text, strict=self.templates == "seft-bench")
            return None if score is None else {"score": score}
        if reply_kind == "verdict":
            verdict = parse.parse_verdict(reply.text)
            return None if verdict is None else {"preference": parse.preference_from_verdict(verdict, candidate_first)}
        if self.logprobs:
            preference = parse.preference_from_logprobs(reply.top_logprobs or {}, candidate_first)
        else:
            preference = parse.preference_from_token(reply.text, candidate_first)
        return None if preference is None else {"preference": preference}

    def _preference_source(self) -> str:
        return "logprobs" if self.logprobs else "token"

    def _reading_details(self, reply_kind: ReplyKind, reply: Reply) -> dict[str, Any]:
        if reply_kind != "token":
            return {}
        return {"preference_from": self._preference_source(), "top_logprobs": dict(reply.top_logprobs or {})}

    def _price_usd(self, reply: Reply) -> float | None:
        """What this reply cost now; None where prices or token counts are unknown."""
        if reply.stored:
            return 0.0
        input_price, output_price = self.usd_per_million_tokens
        if input_price is None or output_price is None or reply.prompt_tokens is None or reply.completion_tokens is None:
            return None
        return (reply.prompt_tokens * input_price + reply.completion_tokens * output_price) / 1e6

    def _note_model(self, returned: str) -> None:
        if returned and returned != self.client.model:
            note = f"asked for model {self.client.model}, the server returned {returned}"
            if note not in self.notes:
                self.notes.append(note)


def fingerprint_local_weights(client: ChatClient) -> None:
    """Tell checkpoints apart that one keyless (local) server serves under one name, one after the other."""
    if client.api_key_env is None and not client.weights_fingerprint:
        entry = next((entry for entry in client.models() if entry.get("id") == client.model), {})
        client.weights_fingerprint = weights_fingerprint(entry)


def weights_fingerprint(entry: Mapping[str, Any]) -> str:
    """Hash of a `GET /models` entry, and of the checkpoint folder that it names in `root` where that is here.

    `created` and `permission` change with every listing of vLLM, so they are left out; "" for an empty entry.
    """
    stable = {key: value for key, value in entry.items() if key not in ("created", "permission")}
    if not stable:
        return ""
    root = Path(str(stable.get("root") or ""))
    weights = sha256_folder(root) if stable.get("root") and root.is_absolute() and root.is_dir() else ""
    return sha256_json([stable, weights])[:16]


def _probe_request(kind: str) -> JudgeRequest:
    if kind == "grade":
        return JudgeRequest("grade", _PROBE, 1, ("Blue.",))
    question = _PROBE if kind == "preference" else dataclasses.replace(_PROBE, turns=(*_PROBE.turns, "And at dusk?"))
    return JudgeRequest("preference", question, 1, ("Blue.",), ("Green.",))
